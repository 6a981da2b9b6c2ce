"""Rate limits of failed sign-ins and of the pages."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from ..core.locks import create_lock


class TokenBucket:
    """A token bucket, for all threads of this process.

    Args:
        burst: requests that may come at once.
        per_second: requests per second in the long run.
        clock: seconds; it may go back.
    """

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float]) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._tokens, self._filled_at = float(burst), clock()
        self._lock = create_lock()

    def take(self) -> bool:
        """Take one token; return whether one was left."""
        with self._lock:
            now = self._clock()
            gained = max(0.0, now - self._filled_at) * self._per_second
            self._tokens, self._filled_at = min(self._burst, self._tokens + gained), now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


MAX_PEERS = 1024
"""Number of peers that have a bucket; the one that was used longest ago makes room."""


class PeerBuckets:
    """One token bucket for each peer; an IPv6 network of 64 bits is one peer.

    Args:
        burst: requests of one peer that may come at once.
        per_second: requests per second of one peer in the long run.
        clock: seconds; it may go back.
    """

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float]) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._lock = create_lock()

    def take(self, address: str) -> bool:
        """Take one token of a peer's bucket; return whether one was left."""
        peer = _peer(address)
        with self._lock:
            bucket = self._buckets.pop(peer, None)
            if bucket is None:
                bucket = TokenBucket(self._burst, self._per_second, self._clock)
            self._buckets[peer] = bucket
            if len(self._buckets) > MAX_PEERS:
                self._buckets.popitem(last=False)
        return bucket.take()


def _peer(address: str) -> str:
    """Return the name of an address's peer; everything that is not an address is one peer."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)
