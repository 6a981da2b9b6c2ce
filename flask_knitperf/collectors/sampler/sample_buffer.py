"""Buffer of the stacks sampled in the current slice: tries of normal and of slow requests, by endpoint.

A request is slow if it took longer than its endpoint's threshold, or than the p99 of the endpoint's
latest requests, provided that is far from their median. Where most requests of an endpoint exceed the
threshold, which then separates nothing, the slowest tenth of the latest ones is slow.

Short requests are rarely sampled: one that takes a hundredth of the time between two samples is sampled
once in a hundred times. So each counts by the inverse of that probability (Horvitz and Thompson, "A
Generalization of Sampling Without Replacement From a Finite Universe", J. Am. Stat. Assoc. 47, 1952).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ...core.locks import create_lock
from ...metrics.stack_trie import MAX_TRIE_NODES, NORMAL, SLOW, Sampled, Trie, Tries, pack
from ..requests.endpoint_series import EndpointKey

MAX_ENDPOINTS = 200
MAX_NODES = 8000
"""Number of nodes in all tries of a worker in one slice: about 2 MB."""
_MAX_WALLS = 400
"""Number of wall times kept per endpoint, the latest."""
_MIN_WALLS = 20
"""Number of wall times below which the threshold applies."""
_MIN_WALLS_FOR_P99 = 100
_LIMIT_REQUESTS = 20
"""Number of requests for which a computed limit is reused."""
_ROUNDING = 1e-9
"""Part of one value by which a rank may differ from a whole number."""
_MIN_P99_RATIO = 2.0
"""Multiple of the median that the p99 must reach: below it the tail is not a different behaviour."""


class _SlowLimit:
    """Wall time above which a request of one endpoint is slow, from its latest requests."""

    __slots__ = ("_limit", "_requests_left", "_walls")

    def __init__(self) -> None:
        self._walls: deque[tuple[int, float]] = deque(maxlen=_MAX_WALLS)
        self._limit: float | None = None
        self._requests_left = 0

    def update(self, wall: int, requests: float, threshold: float) -> float:
        """Add a wall time, and return the limit; all times are nanoseconds.

        Args:
            wall: of the latest request.
            requests: number of requests that it stands for.
            threshold: of the endpoint.
        """
        self._walls.append((wall, requests))
        self._requests_left -= 1
        if self._requests_left <= 0:
            enough = len(self._walls) >= _MIN_WALLS_FOR_P99
            self._requests_left = _LIMIT_REQUESTS if enough else 1
            self._limit = self._compute(threshold)
        return threshold if self._limit is None else self._limit

    def _compute(self, threshold: float) -> float | None:
        """Return the limit, ``None`` where the threshold applies."""
        size = len(self._walls)
        if size < _MIN_WALLS:
            return None
        ordered = sorted(self._walls)
        median = _quantile(ordered, 0.5)
        if median > threshold:
            return _quantile(ordered, 0.9)
        if size < _MIN_WALLS_FOR_P99:
            return None
        return min(threshold, max(_quantile(ordered, 0.99), _MIN_P99_RATIO * median))


def _quantile(ordered: Sequence[tuple[int, float]], share: float) -> int:
    """Return the nearest-rank quantile of values, each with the number that it stands for."""
    rank = share * sum(number for _, number in ordered)
    below = 0.0
    for value, number in ordered:
        below += number
        if below >= rank - _ROUNDING * number:
            return value
    return ordered[-1][0]


class SampleBuffer:
    """Accumulates the sampled stacks of finished requests.

    Args:
        threshold_ns: returns the threshold of an endpoint in nanoseconds.

    Attributes:
        dropped: number of requests left out because there were too many endpoints.
        dirty: whether there are samples that :meth:`document` has not returned.
    """

    def __init__(self, threshold_ns: Callable[[str], float]) -> None:
        self._threshold_ns = threshold_ns
        self._lock = create_lock()
        self._tries: Tries = {}
        self._limits: dict[EndpointKey, _SlowLimit] = {}
        self.dropped = 0
        self.dirty = False

    def add(self, key: EndpointKey, wall: int, request: Sampled) -> None:
        """Add the samples of one request.

        Args:
            key: endpoint and method.
            wall: nanoseconds that it took.
            request: its samples.
        """
        with self._lock:
            kind = SLOW if self._is_slow(key, wall, _requests(request, wall)) else NORMAL
            if key not in self._tries and len(self._tries) >= MAX_ENDPOINTS:
                self.dropped += 1
                return
            trie = self._tries.setdefault(key, {}).setdefault(kind, Trie())
            others = (
                sum(t.size for kinds in self._tries.values() for t in kinds.values()) - trie.size
            )
            trie.add_request(request, wall, min(MAX_TRIE_NODES, max(0, MAX_NODES - others)))
            self.dirty = True

    def _is_slow(self, key: EndpointKey, wall: int, requests: float) -> bool:
        limit = self._limits.get(key)
        if limit is None:
            if len(self._limits) >= MAX_ENDPOINTS:
                self._limits.clear()
            limit = self._limits[key] = _SlowLimit()
        return wall > limit.update(wall, requests, self._threshold_ns(key[0]))

    def document(self) -> dict[str, Any]:
        """Return all samples as JSON values."""
        with self._lock:
            self.dirty = False
            return {**pack(self._tries), "dropped": self.dropped}

    def clear(self) -> None:
        """Drop all samples: a new slice begins."""
        with self._lock:
            self._tries, self.dropped, self.dirty = {}, 0, False


def _requests(request: Sampled, wall: int) -> float:
    """Return the number of requests that a sampled one stands for.

    Args:
        request: its samples, each of which stands for the time since the previous one.
        wall: nanoseconds that it took.
    """
    samples = sum(count for _, _, count, _ in request.stacks.values())
    sampled = sum(running + waiting for running, waiting, _, _ in request.stacks.values())
    return max(1.0, sampled / samples / wall) if samples and wall > 0 else 1.0
