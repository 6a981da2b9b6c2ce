"""Values under keys that the caller chooses: ``get`` and ``put``, in namespaces."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from ..core.errors import KnitPerfError
from .cacheability import NotCacheable
from .dependencies import RUNNING, pass_on
from .invalidation import ALL, Invalidation, key_slot, namespace_slot, tag_slot
from .keys import PLAIN, Encoding
from .refusals import TOO_LARGE
from .region import Entry, Region
from .store import Store
from .values import isolate

ASSUMED_COST_S = 0.01
"""Seconds that it is taken to cost to compute a value again; ``put`` does not know."""


class KeyValueCache:
    """Values by namespace and key.

    Args:
        store: keeps the entries.
        invalidation: versions of namespaces and tags.
        clock: returns monotonic time in seconds.

    Attributes:
        regions: by namespace.
    """

    def __init__(
        self, store: Store, invalidation: Invalidation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.regions: dict[str, Region] = {}
        self._store, self._invalidation, self._clock = store, invalidation, clock

    def get(self, key: Any, default: Any, namespace: str) -> Any:
        """Return a value, ``default`` if it is missing, expired or invalidated.

        Raises:
            CacheKeyError: the key has no content.
        """
        region, encoded = self._region(namespace), _encoded(key)
        entry = region.entries.get(encoded)
        if RUNNING:
            self._add_to_loads(namespace, encoded, entry)
        if entry is None:
            region.count_missing(encoded)
        elif entry.expires <= self._clock():
            region.expired += 1
        elif not self._invalidation.is_valid(entry):
            region.invalidated += 1
        else:
            return entry.serve()
        return default

    def _add_to_loads(self, namespace: str, encoded: Hashable, entry: Entry | None) -> None:
        """Have the values that are loaded by this look-up depend on the invalidation of its key."""
        slots = ALL, namespace_slot(namespace), key_slot(namespace, encoded)
        if entry is None:
            pass_on(slots, None, self._invalidation.words, math.inf)
        else:
            pass_on(entry.slots, None, self._invalidation.words, entry.expires)

    def put(self, key: Any, value: Any, ttl: float, namespace: str, tags: Iterable[str]) -> None:
        """Store a value.

        Raises:
            CacheKeyError: the key has no content.
            KnitPerfError: the value belongs to one caller, such as a generator or an open file.
        """
        region, encoded = self._region(namespace), _encoded(key)
        slots = (
            ALL, namespace_slot(namespace), key_slot(namespace, encoded), *map(tag_slot, tags),
        )  # fmt: skip
        now = self._clock()
        expires = min(now + ttl, self._invalidation.known_until(now))
        epoch, versions = self._invalidation.take(slots)
        try:
            kept, copy, size = isolate(value)
        except NotCacheable as reason:
            region.refused += 1
            region.refusals.add(str(reason))
            raise KnitPerfError(f"the value of {key!r} cannot be cached: {reason}") from None
        entry = Entry(
            region, encoded, kept, size=size, copy=copy, epoch=epoch, slots=slots, versions=versions,
            expires=expires, cost=ASSUMED_COST_S,
        )  # fmt: skip
        if not self._store.add(entry):
            region.refused += 1
            region.refusals.add(TOO_LARGE)

    def invalidate(self, key: Any, namespace: str) -> None:
        """Invalidate the value of a key in all processes.

        Raises:
            CacheKeyError: the key has no content.
        """
        self._invalidation.key(namespace, _encoded(key))

    def _region(self, namespace: str) -> Region:
        region = self.regions.get(namespace)
        if region is None:
            region = self.regions.setdefault(namespace, Region(namespace, is_measured=False))
        return region


def _encoded(key: Any) -> Hashable:
    """Return the key of a region: the caller's own where its type is plain, else a digest."""
    if type(key) in PLAIN:
        return (key,)
    encoding = Encoding()
    encoding.add(key)
    return encoding.digest(), ...
