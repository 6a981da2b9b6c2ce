"""Bounded store of cached values that evicts the least *worth*: decayed uses × load seconds ÷ bytes.

The worth of an entry is the load time that it saves per second and byte, so a small expensive value
outlives a large cheap one. A hit only counts (:attr:`Entry.uses`): it takes no lock, and no list has an
order to be kept. When room is needed, :data:`SAMPLE` entries are drawn at random, their uses are folded
into their rates, and the one with the least worth goes. That is the sampling of Redis ("Redis as an LRU
cache") with the value of Greedy-Dual-Size-Frequency (Cherkasova, HPL-98-69) in place of recency.

A rate halves within :data:`HALF_LIFE` times the mean age of evicted entries, so it is a matter of the
store's pace and not of the clock: a store that turns over in a minute forgets in minutes. The rates of
evicted keys are remembered for a while (*ghosts*), so that a key which returns does not start from zero.
The miss that loads it again is counted when it is evicted: if it counted at once, keys that are read in
a loop would evict one another, each just before its next use. An entry that has gone without the uses
which its rate promised has a lower rate than it had, since popularity moves.
"""

from __future__ import annotations

import math
import os
import random
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from ..core.errors import KnitPerfError
from ..core.locks import create_reentrant_lock
from ..metrics.catalogue import CacheEvent
from .region import Entry, Region
from .shrinkable import Shrinkable

T = TypeVar("T")
SAMPLE = 24
"""Number of entries among which the one with the least worth is evicted."""
HALF_LIFE = 12.0
"""Time in which a rate halves, in mean ages of evicted entries."""
UNUSED = 1.5
"""Uses that an entry should have had since its latest one, at most; then its rate is taken for lower."""
GHOSTS = 3
"""Number of evicted keys whose rates are remembered, per entry."""


class Store(Shrinkable):
    """All entries of a cache, of every namespace, within a bound in bytes.

    Thread-safe: each method acquires :attr:`lock` itself, which the caller may hold already.

    Args:
        maxsize: bytes; larger values are refused.
        clock: returns monotonic time in seconds.
        seed: of the random numbers that draw entries.

    Attributes:
        lock: guards it.
        currsize: bytes of all entries.
        evicted: number of entries that were evicted for want of room.
        on_add: called with each entry that is stored, and the one that it replaces.
        on_remove: called with each entry that is removed.
        orphans: regions that no code can reach any more, whose entries are to be removed.

    Raises:
        KnitPerfError: ``maxsize`` is negative.
    """

    def __init__(
        self, maxsize: int, clock: Callable[[], float] = time.monotonic, seed: int | None = None
    ) -> None:
        self.lock = create_reentrant_lock()
        self.currsize: int = 0
        self.evicted = 0
        self.orphans: deque[Region] = deque()  # filled by callbacks, which take no lock
        self.on_add: Callable[[Entry, Entry | None], None] | None = None
        self.on_remove: Callable[[Entry], None] | None = None
        self._clock = clock
        self._random = random.Random(seed).random  # noqa: S311 (no secret)
        self._entries: list[Entry] = []
        self._changing = False
        _ALL.add(self)
        # rates of evicted keys and their times, the latest last
        self._ghosts: OrderedDict[int, tuple[float, float]] = OrderedDict()
        self._mean_age: float | None = None
        self._decay = 0.0  # per second
        self.maxsize = maxsize

    @property
    def maxsize(self) -> int:
        """Upper bound of :attr:`currsize`. A smaller one than before evicts at once."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, maxsize: int) -> None:
        if maxsize < 0:
            raise KnitPerfError(f"maxsize must be 0 bytes or more, not {maxsize}")
        self._maxsize = maxsize
        self._alone(lambda: self._evict_until(maxsize), 0)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, Entry) and entry.place >= 0 and self._entries[entry.place] is entry

    def entries(self) -> list[Entry]:
        """Return all entries, in no order."""
        with self.lock:
            return list(self._entries)

    def add(self, entry: Entry) -> bool:
        """Store an entry in place of the one with its key; return whether there was room for it."""
        return self._alone(lambda: self._add(entry), False)

    def _add(self, entry: Entry) -> bool:
        self._remove_orphans()
        now = self._clock()
        before = entry.region.entries.get(entry.key)
        if before is not None:
            entry.rate = self._fold(before, now)
            self._remove(before)
        if entry.size > self._maxsize:
            return False
        self._evict_until(self._maxsize - entry.size)
        ghost = self._ghosts.pop(_ghost(entry), None)
        if ghost is not None:
            rate, since = ghost
            entry.rate = rate * math.exp(self._decay * (since - now))
            entry.uncounted = 1.0
        entry.born = entry.folded_at = entry.used_at = now
        entry.place = len(self._entries)
        self._entries.append(entry)
        self.currsize += entry.size
        entry.region.entries[entry.key] = entry
        if self.on_add is not None:
            self.on_add(entry, before)
        return True

    def remove(self, entry: Entry) -> bool:
        """Remove an entry; return whether it was stored."""
        return self._alone(lambda: self._remove(entry), False)

    def popitem(self) -> tuple[Hashable, Any]:
        """Evict the entry that is worth least; return its key and value.

        Raises:
            KeyError: the store is empty.
        """
        entry = self._alone(lambda: self._evict() if self._entries else None, None)
        if entry is None:
            raise KeyError("the store is empty")
        return entry.key, entry.value

    def expire(self) -> int:
        """Remove expired entries; return their number."""
        return self._alone(self._expire, 0)

    def shrink(self, kept: float) -> int:
        """Evict until a share of the bytes remains, 0 to 1; return the number of entries evicted."""
        return self._alone(lambda: self._evict_until(self.currsize * kept), 0)

    def clear(self) -> None:
        """Remove all entries, and forget the rates of evicted ones."""
        self._alone(lambda: self._evict_until(0.0), 0)
        self._ghosts.clear()

    def worth(self, entry: Entry) -> float:
        """Return the seconds of loading that an entry saves per byte, in units of its rate."""
        return self._fold(entry, self._clock()) * entry.seconds_per_byte

    def _remove_orphans(self) -> None:
        while self.orphans:
            for entry in list(self.orphans.popleft().entries.values()):
                self._remove(entry)

    def _alone(self, change: Callable[[], T], otherwise: T) -> T:
        """Return the result of a change, ``otherwise`` in the middle of another one.

        A signal handler, or a method that runs when an object is freed, may call the cache in the middle
        of a change by the same thread.
        """
        with self.lock:
            if self._changing:
                return otherwise
            self._changing = True
            try:
                return change()
            finally:
                self._changing = False

    def _remove(self, entry: Entry) -> bool:
        place = entry.place
        if place < 0:
            return False
        last = self._entries.pop()
        if last is not entry:
            self._entries[place] = last
            last.place = place
        entry.place = -1
        if self.on_remove is not None:
            self.on_remove(entry)
        self.currsize -= entry.size
        entry.region.fold(entry)
        entries = entry.region.entries
        if entries.get(entry.key) is entry:
            del entries[entry.key]
        return True

    def _expire(self) -> int:
        self._remove_orphans()
        now = self._clock()
        expired = [entry for entry in self._entries if entry.expires <= now]
        for entry in expired:
            entry.region.remember_removed(entry.key, CacheEvent.EXPIRED)
        return sum(map(self._remove, expired))

    # -- eviction ------------------------------------------------------------------------------------

    def _evict_until(self, size: float) -> int:
        """Evict until the entries take at most ``size`` bytes; return the number of entries evicted."""
        before = len(self._entries)
        while self._entries and self.currsize > size:
            self._evict()
        return before - len(self._entries)

    def _evict(self) -> Entry:
        entries, draw, now = self._entries, self._random, self._clock()
        number, least, evicted = len(entries), math.inf, entries[0]
        drawn = entries if number <= SAMPLE else [
            entries[int(draw() * number)] for _ in range(SAMPLE)
        ]  # fmt: skip
        exp, decay = math.exp, self._decay
        for entry in drawn:
            rate = entry.rate * exp(decay * (entry.folded_at - now))
            if entry.uses:  # those that were not used need no new rate
                rate = self._fold(entry, now)
            elif (idle := decay * (now - entry.used_at)) * rate > UNUSED:
                rate = UNUSED / idle
            worth = rate * entry.seconds_per_byte
            if worth < least:
                least, evicted = worth, entry
        self._learn_pace(now - evicted.born)
        self._remove(evicted)
        self.evicted += 1
        evicted.region.evicted += 1
        evicted.region.remember_removed(evicted.key, CacheEvent.CAPACITY)
        self._fold(evicted, now)
        self._remember(evicted, now)
        return evicted

    def _fold(self, entry: Entry, now: float) -> float:
        """Add the uses of an entry to its rate, decayed to this moment; return the rate."""
        decayed = entry.rate * math.exp(self._decay * (entry.folded_at - now))
        uses = entry.region.fold(entry)
        rate = decayed + uses
        entry.rate, entry.folded_at = rate, now
        if uses:
            entry.used_at = now
        return rate

    def _learn_pace(self, age: float) -> None:
        mean = self._mean_age
        weight = 1 / max(16, len(self._entries))
        self._mean_age = mean = age if mean is None else mean + (age - mean) * weight
        self._decay = math.log(2) / (HALF_LIFE * mean) if mean > 0 else 0.0

    def _remember(self, entry: Entry, now: float) -> None:
        """Keep the rate of an evicted entry for the case that its key returns."""
        ghosts = self._ghosts
        missed = entry.uncounted * math.exp(self._decay * (entry.born - now))
        ghosts[_ghost(entry)] = entry.rate + missed, now
        if len(ghosts) > GHOSTS * max(16, len(self._entries)):
            ghosts.popitem(last=False)


_ALL: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork() -> None:
    """Empty the stores that another thread was changing: the child has a half of its change."""
    for store in list(_ALL):
        if store._changing:
            for entry in store._entries:
                entry.place = -1
                entry.region.entries.pop(entry.key, None)
            store._entries.clear()
            store.currsize = 0
            store._changing = False


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_after_fork)


def _ghost(entry: Entry) -> int:
    """Return the identity of an evicted entry's key; two that share one share a rate."""
    return hash((id(entry.region), entry.key))
