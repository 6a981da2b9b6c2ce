"""The cache by namespace: look-ups, the time that hits saved, and why others missed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..caching.size_simulation import Outcome, rates_by_size
from ..core.clock import NS_PER_S
from ..core.units import MB, duration
from ..metrics.catalogue import CACHE_MISSES, CACHE_REFUSAL, CacheEvent
from ..metrics.readings import Readings
from ..metrics.readings.rows import NamespaceReading

MIN_LOOKUPS = 20
"""Number of look-ups below which a cache is not judged."""
NEW_KEYS = "its look-ups are of a new key nearly each time"
"""Fault of a cache that no size would mend."""
_FAULTS = {
    CacheEvent.COLD: NEW_KEYS,
    CacheEvent.CAPACITY: "its values are evicted before they are looked up again",
    CacheEvent.EXPIRED: "its values expire before they are looked up again",
    CacheEvent.INVALIDATED: "its values are invalidated before they are looked up again",
}


@dataclass(slots=True)
class CacheUse:
    """Use of one namespace of the cache, or of several.

    Attributes:
        name: of the namespace, empty for several.
        hits: look-ups that were answered from the cache.
        saved_s: seconds that loading would have taken in their place; ``None`` where no load was
            measured, as those of values that the application puts into the cache.
        load_s: seconds of all loads.
        verify_s: seconds of all loads that verified hits.
        overhead_s: seconds of keys and copies, estimated for hits.
        events: number of all other events.
        entries: number of values now, ``None`` without a live worker.
        bytes: their estimated bytes, ``None`` without a live worker.
        mapped: bytes of values in files that all workers map, which are not among ``bytes``; each
            file counts once. ``None`` without a live worker.
        sizes: simulated caches, by their size in parts of the real one.
    """

    name: str
    hits: int
    saved_s: float | None
    load_s: float
    verify_s: float = 0.0
    overhead_s: float = 0.0
    events: dict[CacheEvent, int] = field(default_factory=dict)
    entries: int | None = None
    bytes: int | None = None
    mapped: int | None = None
    sizes: dict[float, Outcome] = field(default_factory=dict)

    @property
    def missed(self) -> dict[CacheEvent, int]:
        """Number of look-ups that missed, by reason."""
        return {reason: self.events.get(reason, 0) for reason in CACHE_MISSES}

    @property
    def misses(self) -> int:
        """Number of look-ups that missed."""
        return sum(self.missed.values())

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
        """Share of look-ups that would hit if there were room for all values, ``None`` without any."""
        could_hit = self.hits + self.missed[CacheEvent.CAPACITY]
        return could_hit / self.lookups if self.lookups else None

    @property
    def verified(self) -> int:
        """Number of hits whose value was loaded again and compared."""
        return self.events.get(CacheEvent.VERIFIED, 0)

    @property
    def differed(self) -> int:
        """Number of verified hits that were out of date."""
        return self.events.get(CacheEvent.DIFFERED, 0)

    @property
    def saved_s_per_mb(self) -> float | None:
        """Saved seconds by MB of values, ``None`` where one of them is unknown."""
        size = (self.bytes or 0) + (self.mapped or 0)
        return self.saved_s / (size / MB) if self.saved_s is not None and size else None

    @property
    def rates_by_size(self) -> dict[float, float]:
        """Expected hit rate with other sizes, in parts of the present one; empty where unknown."""
        return rates_by_size(self.sizes, self.hit_rate)

    @property
    def costs_more(self) -> str:
        """That keys and copies take more time than hits save, without a full stop; else empty."""
        if not self.hits or self.lookups < MIN_LOOKUPS or self.saved_s is None:
            return ""
        if self.overhead_s <= self.saved_s:
            return ""
        return (
            f"its keys and copies took {duration(self.overhead_s * 1000)}, and its hits saved "
            f"{duration(self.saved_s * 1000)}"
        )

    @property
    def fault(self) -> str:
        """The reason for which it never hits, a sentence without a full stop; empty where it does.

        Results that are refused have their reasons in :func:`refusals`.
        """
        refused = self.events.get(CacheEvent.REFUSED, 0)
        if self.hits or self.misses < MIN_LOOKUPS or refused > self.misses / 2:
            return ""
        missed = self.missed
        return _FAULTS.get(max(missed, key=missed.__getitem__), "")

    @property
    def saved_share(self) -> float | None:
        """Saved time as a share of the time that loading would take without the cache."""
        without = (self.saved_s or 0.0) + self.load_s
        return None if self.saved_s is None or not without else self.saved_s / without

    @property
    def is_used(self) -> bool:
        """Whether anything happened in the window, or there are values now."""
        return bool(self.hits or self.load_s or self.entries or any(self.events.values()))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Results of one namespace that were not cached for one reason."""

    namespace: str
    reason: str
    count: int


def cache_uses(readings: Readings) -> list[CacheUse]:
    """Return the use of each namespace, by the time that it saved, then by look-ups."""
    uses = [use for reading in readings.namespaces if (use := _use(reading)).is_used]
    return sorted(uses, key=lambda use: (-(use.saved_s or 0.0), -use.lookups, use.name))


def _use(reading: NamespaceReading) -> CacheUse:
    hit_count, saved_s = reading.hits.count, reading.hits.total / NS_PER_S
    load_s = reading.loads.total / NS_PER_S
    return CacheUse(
        reading.namespace, hit_count, saved_s if saved_s or load_s or not hit_count else None, load_s,
        reading.verifying.total / NS_PER_S, reading.overhead.total / NS_PER_S,
        {event: reading.events.get(event, 0) for event in CacheEvent},
        _whole(reading.entries.values()), _whole(reading.bytes.values()),
        round(max(reading.mapped.values())) if reading.mapped else None,
        {factor: Outcome(hits.count, misses.count, hits.total / NS_PER_S, misses.total / NS_PER_S)
         for factor, (hits, misses) in reading.sized.items()},
    )  # fmt: skip


def _whole(values: Iterable[float]) -> int | None:
    """Return the sum of gauges, ``None`` without any."""
    numbers = [round(value) for value in values]
    return sum(numbers) if numbers else None


def total_use(uses: Iterable[CacheUse]) -> CacheUse:
    """Return the use of all namespaces; the saved time is that of those where it is known."""
    uses = list(uses)
    saved = [use.saved_s for use in uses if use.saved_s is not None]
    sizes: dict[float, Outcome] = {}
    for use in uses:
        for factor, size in use.sizes.items():
            sizes[factor] = sizes.get(factor, Outcome()).plus(size)
    return CacheUse(
        "", sum(use.hits for use in uses), sum(saved) if saved else None,
        sum(use.load_s for use in uses), sum(use.verify_s for use in uses),
        sum(use.overhead_s for use in uses),
        {event: sum(use.events.get(event, 0) for use in uses) for event in CacheEvent},
        _whole(use.entries for use in uses if use.entries is not None),
        _whole(use.bytes for use in uses if use.bytes is not None),
        _whole(use.mapped for use in uses if use.mapped is not None), sizes,
    )  # fmt: skip


def refusals(readings: Readings) -> list[Refusal]:
    """Return results that were not cached by namespace and reason, the most frequent first.

    Those whose load read request data are in :mod:`.unkeyed_reads`.
    """
    rows = [
        Refusal(note.key.namespace, note.key.reason, note.count)
        for note in readings.notes(CACHE_REFUSAL)
    ]
    return sorted(rows, key=lambda row: (-row.count, row.namespace, row.reason))
