"""Hit rates that the cache would have with less or more room, by simulating its own policy.

The keys are followed through copies of the store, one for each of :data:`FACTORS`: an entry in them has
the size, load time and expiry of the real one, and no value (Waldspurger et al., "Cache Modeling and
Optimization using Miniature Simulations", USENIX ATC 2017). A hit must cost nothing for that, so only
loads are noted when they happen. The hits of an entry since the previous tick are what its counter has
grown by; they are put at random moments between the two.

Where the keys become many, only those of a quarter of all hashes are followed on, and the copies have
the part of the room that these have of the real store. Such a part may be used more often than another
one, so it is the difference to the simulated cache of the real size that counts: :func:`predicted`.
"""

from __future__ import annotations

import math
import random
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypedDict

from ..core.units import MB, number, percent
from .invalidation import Invalidation
from .region import Entry, Region
from .store import Store

FACTORS = (0.5, 1.0, 2.0, 4.0)
"""Sizes of the simulated caches, in parts of the real one."""
MAX_FOLLOWED = 600
"""Number of entries of the real cache that are followed."""
MAX_NOTED = 10_000
"""Number of loads that are noted between two ticks."""
_MAX_MOMENTS = 4
"""Number of moments to which the hits of one entry between two ticks are distributed."""
_MAX_MASK = (1 << 20) - 1


class Outcome(NamedTuple):
    """Look-ups of one namespace in a simulated cache.

    Attributes:
        hits: number of those that hit.
        misses: number of all others.
        saved_s: seconds of loading that the hits saved.
        load_s: seconds of loading that the misses took.
    """

    hits: int = 0
    misses: int = 0
    saved_s: float = 0.0
    load_s: float = 0.0

    def plus(self, other: Outcome) -> Outcome:
        """Return the sum with another one."""
        return Outcome(
            self.hits + other.hits, self.misses + other.misses, self.saved_s + other.saved_s,
            self.load_s + other.load_s,
        )  # fmt: skip

    @property
    def hit_rate(self) -> float | None:
        """Share of the look-ups that hit, ``None`` without any."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None


class SizeAdvice(TypedDict):
    """Hit rate that one process would have with another size of its cache.

    Attributes:
        factor: the size in parts of the present one.
        max_mb: the size in MB of 1024² bytes.
        hit_rate: expected share of look-ups that hit.
        text: as a sentence.
    """

    factor: float
    max_mb: float
    hit_rate: float
    text: str


class _Real:
    """An entry of the real cache without its value, which it must not keep alive.

    Attributes:
        born: monotonic time in seconds of its load.
        is_replacing: whether the cache had a value of the key, which could not be served.
        seen: number of its hits until the previous tick.
        has_ended: whether it was removed.
    """

    __slots__ = (
        "_entry", "_hits", "born", "cost", "expires", "has_ended", "is_replacing", "key", "region",
        "seconds_per_byte", "seen", "size", "slots", "versions",
    )  # fmt: skip

    def __init__(self, entry: Entry, born: float, *, is_replacing: bool = False) -> None:
        self._entry, self._hits = weakref.ref(entry), entry.hits
        self.region, self.key, self.size, self.cost = (
            entry.region, entry.key, entry.size, entry.cost,
        )  # fmt: skip
        self.expires, self.slots, self.versions = entry.expires, entry.slots, entry.versions
        self.seconds_per_byte, self.born, self.is_replacing = (
            entry.seconds_per_byte, born, is_replacing,
        )  # fmt: skip
        self.seen, self.has_ended = 0, False

    @property
    def hits(self) -> int:
        """Number of hits of the entry since its load."""
        entry = None if self.has_ended else self._entry()
        if entry is not None:
            self._hits = entry.hits
        return self._hits

    def end(self, hits: int) -> None:
        """Note that the entry was removed, after a number of hits."""
        self._hits, self.has_ended = hits, True


class _Copy:
    """One simulated cache.

    Args:
        factor: its size, in parts of the real one.
        clock: returns the monotonic time in seconds of the event that is simulated.
        invalidation: versions of the real cache.
    """

    def __init__(
        self, factor: float, clock: Callable[[], float], invalidation: Invalidation
    ) -> None:
        self.factor, self._clock, self._invalidation = factor, clock, invalidation
        self.store = Store(0, clock=clock, seed=1)
        # by the real one, which lives as long as any of its entries here
        self._regions: weakref.WeakKeyDictionary[Region, Region] = weakref.WeakKeyDictionary()
        self.outcomes: defaultdict[str, Outcome] = defaultdict(Outcome)  # since they were taken
        self.totals: defaultdict[str, Outcome] = defaultdict(Outcome)  # of those that were taken

    def look_up(self, real: _Real, count: int, *, is_replaced: bool) -> None:
        """Simulate look-ups of the key of an entry.

        Args:
            real: the entry of the real cache.
            count: number of look-ups at about the same time.
            is_replaced: whether the first one has found that the value cannot be served any longer.
        """
        entry = self._region(real).entries.get(real.key)
        is_hit = entry is not None and not is_replaced and self._is_valid(entry)
        if not is_hit:
            if entry is not None:
                self.store.remove(entry)
            entry = self.add(real)
        assert entry is not None
        hits = count if is_hit else count - 1
        if entry.place < 0:  # there is no room for it
            hits = 0
        entry.uses += hits
        name = real.region.namespace
        self.outcomes[name] = self.outcomes[name].plus(Outcome(
            hits, count - hits, hits * real.cost, (count - hits) * real.cost
        ))  # fmt: skip

    def _region(self, real: _Real) -> Region:
        region = self._regions.get(real.region)
        if region is None:
            region = self._regions[real.region] = Region(real.region.namespace)
        return region

    def add(self, real: _Real) -> Entry:
        """Store an entry like one of the real cache; return it."""
        entry = Entry(
            self._region(real), real.key, None, cost=real.cost, expires=real.expires,
            slots=real.slots, versions=real.versions,
        )  # fmt: skip
        entry.size, entry.seconds_per_byte = real.size, real.seconds_per_byte
        self.store.add(entry)
        return entry

    def _is_valid(self, entry: Entry) -> bool:
        return self._clock() < entry.expires and self._invalidation.is_valid(entry)

    def keep(self, mask: int) -> None:
        """Remove the entries of keys that are not followed any longer."""
        for entry in self.store.entries():
            if not _is_followed(entry.key, mask):
                self.store.remove(entry)


class SizeSimulation:
    """Simulates smaller and larger caches beside one.

    Args:
        store: of the cache.
        invalidation: its versions.
        clock: returns monotonic time in seconds.
        seed: of the random moments.
    """

    def __init__(
        self, store: Store, invalidation: Invalidation, clock: Callable[[], float], seed: int = 1
    ) -> None:
        self._store, self._clock = store, clock
        self._random = random.Random(seed).random  # noqa: S311 (no secret)
        self._at = clock()
        self._began = self._at  # of the interval since the previous tick
        self._is_active = False
        self._mask = 0  # a key is followed where these bits of its hash are zero
        self._loads: deque[_Real] = deque(maxlen=MAX_NOTED)
        self._followed: dict[int, _Real] = {}  # those that are stored, by id of their entry
        self._ended: deque[_Real] = deque(maxlen=MAX_NOTED)  # since the previous tick
        self._copies = [_Copy(factor, lambda: self._at, invalidation) for factor in FACTORS]
        store.on_add, store.on_remove = self._note_added, self._note_removed

    def _note_added(self, entry: Entry, before: Entry | None) -> None:
        """Note that a value was loaded. Called with each one, under the lock of the store.

        Args:
            entry: the value.
            before: the one that it replaces.
        """
        if self._is_active and _is_followed(entry.key, self._mask):
            real = _Real(entry, self._clock(), is_replacing=before is not None)
            self._followed[id(entry)] = real
            self._loads.append(real)

    def _note_removed(self, entry: Entry) -> None:
        """Note that a value was removed, under the lock of the store."""
        real = self._followed.pop(id(entry), None)
        if real is not None:
            real.end(entry.hits)
            self._ended.append(real)

    def tick(self) -> None:
        """Simulate the look-ups since the previous call, once the cache is half full."""
        if not self._is_active:
            if self._store.currsize * 2 < self._store.maxsize or not self._store.maxsize:
                return
            self._begin()
        now = self._clock()
        events = self._events(now)
        self._resize()
        for at, real, count, is_replaced in events:
            self._at = max(self._at, at)
            for copy in self._copies:
                copy.look_up(real, count, is_replaced=is_replaced)
        self._at = self._began = now
        self._follow_fewer()

    def _begin(self) -> None:
        """Fill the copies with the present values."""
        with self._store.lock:
            self._is_active = True
            for entry in self._store.entries():
                real = self._followed[id(entry)] = _Real(entry, entry.born)
                real.seen = real.hits
        self._at = self._began = self._clock()
        while len(self._followed) > MAX_FOLLOWED and self._mask < _MAX_MASK:
            self._follow_fewer()
        self._resize()
        for real in list(self._followed.values()):
            for copy in self._copies:
                copy.add(real)

    def _events(self, now: float) -> list[tuple[float, _Real, int, bool]]:
        """Return the look-ups since the previous tick in their order: time, entry, number, replaced."""
        events: list[tuple[float, _Real, int, bool]] = []
        with self._store.lock:
            loads, ended = list(self._loads), list(self._ended)
            self._loads.clear()
            self._ended.clear()
            followed = list(self._followed.values())
        events += [(real.born, real, 1, real.is_replacing) for real in loads]
        for real in (*ended, *followed):
            hits = real.hits
            first, left = max(self._began, real.born), hits - real.seen
            for moments in range(min(left, _MAX_MOMENTS), 0, -1):
                at = first + self._random() * max(now - first, 0.0)
                events.append((at, real, left // moments, False))
                left -= left // moments
            real.seen = hits
        return sorted(events, key=lambda event: event[0])

    def _resize(self) -> None:
        """Give the copies the part of the room that the followed keys have of the real cache."""
        followed = sum(real.size for real in list(self._followed.values()))
        used = self._store.currsize
        share = 1 / (self._mask + 1)
        if len(self._followed) >= 30 and used:  # sizes differ: the part of the bytes is another one
            share = followed / used
        for copy in self._copies:
            copy.store.maxsize = round(self._store.maxsize * copy.factor * share)

    def _follow_fewer(self) -> None:
        if len(self._followed) <= MAX_FOLLOWED or self._mask >= _MAX_MASK:
            return
        self._mask = 4 * self._mask + 3
        with self._store.lock:
            self._followed = {
                place: real
                for place, real in self._followed.items()
                if _is_followed(real.key, self._mask)
            }
        for copy in self._copies:
            copy.keep(self._mask)

    @property
    def totals(self) -> dict[tuple[str, float], Outcome]:
        """Outcomes since the beginning, by namespace and factor."""
        return {
            (name, copy.factor): copy.totals[name].plus(copy.outcomes[name])
            for copy in self._copies
            for name in {**copy.totals, **copy.outcomes}
        }

    def drop(self) -> None:
        """Forget what was counted, in a forked child: the parent has it too."""
        self._loads.clear()
        self._ended.clear()
        for real in list(self._followed.values()):
            real.seen = real.hits
        self.take()

    def take(self) -> dict[tuple[str, float], Outcome]:
        """Return the outcomes since the previous call, by namespace and factor."""
        outcomes = {}
        for copy in self._copies:
            for name, outcome in copy.outcomes.items():
                outcomes[name, copy.factor] = outcome
                copy.totals[name] = copy.totals[name].plus(outcome)
            copy.outcomes = defaultdict(Outcome)
        return outcomes


def size_advice(
    totals: Mapping[tuple[str, float], Outcome], hit_rate: float | None, maxsize: int
) -> list[SizeAdvice]:
    """Return the hit rates with other sizes, the smallest first.

    Args:
        totals: of the simulated caches, by namespace and factor.
        hit_rate: of the real cache, ``None`` without look-ups.
        maxsize: of the real cache, in bytes.
    """
    sums: defaultdict[float, Outcome] = defaultdict(Outcome)
    for (_, factor), outcome in totals.items():
        sums[factor] = sums[factor].plus(outcome)
    return [
        {
            "factor": factor, "max_mb": maxsize * factor / MB, "hit_rate": expected,
            "text": f"At {factor:g} × the room ({number(round(maxsize * factor / MB))} MB): "
                    f"{percent(hit_rate)} → {percent(expected)} of look-ups hit.",
        }
        for factor, expected in rates_by_size(sums, hit_rate).items()
    ]  # fmt: skip


def rates_by_size(sizes: Mapping[float, Outcome], real: float | None) -> dict[float, float]:
    """Return the hit rates that the cache would have with other sizes, the smallest first.

    Args:
        sizes: outcomes of simulated caches, by their size in parts of the real one.
        real: hit rate of the real cache, ``None`` without look-ups.
    """
    same = sizes.get(1.0, Outcome()).hit_rate
    if same is None or real is None:
        return {}
    return {
        factor: predicted(real, outcome.hit_rate, same)
        for factor, outcome in sorted(sizes.items())
        if factor != 1 and outcome.hit_rate is not None
    }


def predicted(real: float, simulated: float, same_size: float) -> float:
    """Return the hit rate that the cache would have with another size.

    Args:
        real: its present hit rate.
        simulated: that of the simulated cache with the other size.
        same_size: that of the simulated cache with the present size.
    """
    return min(1.0, max(0.0, real + simulated - same_size))


def _is_followed(key: Hashable, mask: int) -> bool:
    """Return whether a key is followed: by a hash in which all bits depend on the whole key."""
    return not hash((key, math.pi)) & mask
