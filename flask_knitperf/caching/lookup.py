"""Look-ups of the entries of a cached function, off the path of a hit."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from .dependencies import CHECK_S
from .invalidation import Invalidation
from .load_reads import CURRENT_READS, ReadObserver
from .region import Entry, Region


class Lookup:
    """Entries of a region by the key of a call.

    Args:
        region: the entries.
        invalidation: versions that they depend on.
        observer: returns the routing data of the current request.
        clock: returns monotonic time in seconds.
    """

    def __init__(
        self, region: Region, invalidation: Invalidation, observer: ReadObserver,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._region, self._invalidation = region, invalidation
        self._observer, self._clock = observer, clock

    def routed(self, key: Hashable) -> Hashable:
        """Return the key of an entry: with the routing data that loads of the function have read."""
        names = self._region.routing
        if not names:
            return key
        reads = CURRENT_READS.get()
        if reads is not None:  # a load around this call depends on its routing too
            for name in names:
                reads.add_routing(name)
        return key, self._observer.routing(names)

    def is_valid(self, entry: Entry) -> bool:
        """Return whether nothing has changed that an entry depends on; check its files if due."""
        if not self._invalidation.is_valid(entry):
            return False
        if entry.sources is None:
            return True
        now = self._clock()
        if now >= entry.check_at:
            if entry.sources.changed_file():
                return False
            entry.check_again(now + CHECK_S)
        return True

    def servable(self, key: Hashable, stale: float) -> Entry | None:
        """Return the entry of a key, ``None`` if it is missing, invalidated or too old.

        Args:
            key: of the call.
            stale: seconds after its expiry in which a value is still returned.
        """
        entry = self._region.entries.get(key)
        if entry is None or not self.is_valid(entry):
            return None
        age = self._clock() - entry.expires
        if age >= 0:
            if age >= stale:
                return None
            self._region.stale += 1
        return entry
