"""Caches that the application has itself: their hits, the most that they could hit, and their faults.

A cache that is read under one key and written under another never hits. That is a verdict only where
every look-up of the one pattern missed, nothing was ever written under it, and the other one was never
looked up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..core.clock import NS_PER_S
from ..core.units import count
from ..metrics.catalogue import ALL_KEYS, CACHE_MISMATCH, ObservedEvent
from ..metrics.readings import Readings
from .caches import MIN_LOOKUPS, NEW_KEYS

MIN_WRITES = 10
"""Number of writes below which a cache is not judged."""
MAX_NEW_SHARE = 0.9
"""Share of look-ups that ask for a new key, above which no cache of any size would hit."""


@dataclass(slots=True)
class PatternUse:
    """Use of the keys with one pattern; several patterns add up to their cache.

    Attributes:
        cache: name of the cache.
        pattern: of the keys, empty for all of a cache.
        events: number of events.
        loads: number of writes that followed the missed look-up of their key.
        load_s: seconds between the two.
    """

    cache: str
    pattern: str
    events: dict[str, int] = field(default_factory=dict)
    loads: int = 0
    load_s: float = 0.0

    @property
    def hits(self) -> int:
        """Number of look-ups that hit."""
        return self.events.get(ObservedEvent.HIT, 0)

    @property
    def misses(self) -> int:
        """Number of look-ups that missed."""
        return self.events.get(ObservedEvent.MISS, 0)

    @property
    def repeated(self) -> int:
        """Number of missed look-ups whose key had been looked up before, in the same worker."""
        return self.events.get(ObservedEvent.REPEATED, 0)

    @property
    def gone(self) -> int:
        """Number of missed look-ups whose key had been written before, in the same worker."""
        return self.events.get(ObservedEvent.GONE, 0)

    @property
    def writes(self) -> int:
        """Number of writes."""
        return self.events.get(ObservedEvent.WRITE, 0)

    @property
    def others(self) -> int:
        """Number of uses that are neither: of keys that are tested, removed, or read together."""
        return self.events.get(ObservedEvent.OTHER, 0)

    @property
    def lookups(self) -> int:
        """Number of look-ups."""
        return self.hits + self.misses

    @property
    def hit_rate(self) -> float | None:
        """Share of look-ups that hit, ``None`` without any."""
        return self.hits / self.lookups if self.lookups else None

    @property
    def attainable_rate(self) -> float | None:
        """Share of look-ups that would hit if nothing were ever removed, ``None`` without any."""
        return (self.hits + self.repeated) / self.lookups if self.lookups else None

    @property
    def saved_s(self) -> float | None:
        """Seconds that the hits saved by the mean time of a load, ``None`` where none was seen."""
        return self.hits * self.load_s / self.loads if self.loads else None

    @property
    def fault(self) -> str:
        """The reason for which it never hits, a sentence without a full stop; empty where it does."""
        if self.hits or self.others or self.lookups < MIN_LOOKUPS or self.writes < MIN_WRITES:
            return ""
        if self.repeated < (1 - MAX_NEW_SHARE) * self.lookups:
            return NEW_KEYS
        if self.gone > self.repeated / 2:
            return "its values expire or are evicted before they are looked up again"
        return "its values are written under keys that are never looked up"

    def add(self, other: PatternUse) -> None:
        """Add the use of another pattern."""
        for event, n in other.events.items():
            self.events[event] = self.events.get(event, 0) + n
        self.loads += other.loads
        self.load_s += other.load_s


@dataclass(frozen=True, slots=True)
class KeyMismatch:
    """A cache that requests of one endpoint read under one key and write under another.

    Attributes:
        endpoint: of the requests.
        method: of the requests.
        cache: its name.
        read: pattern of the keys that are read.
        written: pattern of the keys that are written.
        where: ``file:line`` of the write, empty where unknown.
        count: number of missed look-ups that were followed by such a write.
        seconds: time between the two, all together.
        repeated: share of the look-ups that would have hit with one key.
    """

    endpoint: str
    method: str
    cache: str
    read: str
    written: str
    where: str
    count: int
    seconds: float
    repeated: float

    @property
    def text(self) -> str:
        """The fault, a sentence without a full stop."""
        return (
            f"the cache {self.cache} never hits: it is read as {self.read} and written as "
            f"{self.written}, {count(self.count, 'time')}"
        )

    @property
    def repair(self) -> str:
        """The repair, a sentence without a full stop."""
        where = f" ({self.where})" if self.where else ""
        return f"Use one key for both{where}"


def pattern_uses(readings: Readings) -> list[PatternUse]:
    """Return the use of every pattern of every observed cache."""
    uses: dict[tuple[str, str], PatternUse] = {}
    for (cache, pattern, event), tally in readings.observed_events:
        use = uses.setdefault((cache, pattern), PatternUse(cache, pattern))
        use.events[event] = use.events.get(event, 0) + tally.count
    for (cache, pattern), tally in readings.observed_loads:
        use = uses.setdefault((cache, pattern), PatternUse(cache, pattern))
        use.loads, use.load_s = tally.count, tally.total / NS_PER_S
    return sorted(uses.values(), key=lambda use: (use.cache, -use.lookups, use.pattern))


def by_cache(uses: Iterable[PatternUse]) -> dict[str, PatternUse]:
    """Return the use of all patterns of each cache, the most look-ups first."""
    caches: dict[str, PatternUse] = {}
    for use in uses:
        caches.setdefault(use.cache, PatternUse(use.cache, ALL_KEYS)).add(use)
    return dict(sorted(caches.items(), key=lambda row: (-row[1].lookups, row[0])))


def mismatches(readings: Readings, uses: Iterable[PatternUse]) -> list[KeyMismatch]:
    """Return the caches that are read and written under different keys, the longest loads first."""
    known = {(use.cache, use.pattern): use for use in uses}
    rows = []
    for note in readings.notes(CACHE_MISMATCH):
        key = note.key
        read, written = known.get((key.cache, key.read)), known.get((key.cache, key.written))
        everything = known.get((key.cache, ALL_KEYS))
        if read is None or written is None or not _never_meet(read, written):
            continue
        if everything is not None and everything.others:  # values were read or written together
            continue
        rows.append(KeyMismatch(
            key.endpoint, key.method, key.cache, key.read, key.written, key.where, note.count,
            note.weight, read.repeated / read.lookups,
        ))  # fmt: skip
    return sorted(rows, key=lambda row: (-row.seconds, row.cache, row.endpoint))


def _never_meet(read: PatternUse, written: PatternUse) -> bool:
    """Return whether all look-ups of one pattern missed, and the other was never looked up."""
    enough = read.lookups >= MIN_LOOKUPS and written.writes >= MIN_WRITES
    if read.others or written.others:
        return False
    if read is written:  # the keys differ, and look alike
        return enough and not (read.hits or read.gone)
    return enough and not (read.hits or read.writes or written.lookups)
