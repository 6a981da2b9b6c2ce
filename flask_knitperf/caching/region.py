"""Entries of a cache and their counts: one region per cached function, one per namespace of ``put``."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

if TYPE_CHECKING:
    from .dependencies import Sources

from ..core.locks import create_reentrant_lock
from ..metrics.catalogue import CacheEvent, DifferenceKind
from .frame_copies import is_shallow
from .refusals import Refusals
from .warm_calls import IS_WARMING, Call

OVERHEAD_BYTES = 600
"""Bytes of an entry without its key and value."""
_MIN_COST_S = 1e-6
_CLAIMS = create_reentrant_lock()
"""Guards the claims of early refreshes, which are rare."""


class Entry:
    """One cached value.

    Attributes:
        region: where it is stored by its key.
        key: within its region.
        value: the value, or the exception, in the form in which it is cached.
        copy: returns a copy for one caller, ``None`` where the value is immutable.
        raises: whether the value is an exception.
        size: bytes, those of the entry itself included and mapped ones left out.
        mapped: bytes in a file that all processes map.
        is_shared: whether other processes find its value.
        cost: seconds that its load took.
        hit_cost: seconds that a copy for one caller takes, 0 where that is next to nothing.
        seconds_per_byte: ``cost`` by ``size``.
        served: number of hits until they were folded.
        until: monotonic time in seconds from which a hit has to be checked.
        expires: monotonic time in seconds at which the value expires.
        refresh: monotonic time in seconds from which one call loads it again, infinite once one does.
        epoch: the epoch at which its versions were last compared.
        slots: indices of the versions that it depends on.
        versions: their values before the load.
        sources: files and tables that it depends on, ``None`` if there are none.
        check_at: monotonic time in seconds from which its files have to be checked.
        uses: number of hits since they were folded into ``rate``.
        rate: decayed number of uses at ``folded_at``.
        folded_at: monotonic time in seconds of the latest fold.
        uncounted: 1.0 if the miss that loaded it is to be added to ``rate`` when it is evicted.
        used_at: monotonic time in seconds at which uses were last folded.
        born: monotonic time in seconds at which it was stored.
        call: that can load it again, ``None`` where that is not remembered.
        place: index in the store's list, -1 while it is not stored.
        verify_at: number of uses from which a hit is verified, infinite for none.
    """

    __slots__ = (
        "__weakref__",
        "born",
        "call",
        "check_at",
        "copy",
        "cost",
        "epoch",
        "expires",
        "folded_at",
        "hit_cost",
        "is_shared",
        "key",
        "mapped",
        "place",
        "raises",
        "rate",
        "refresh",
        "region",
        "seconds_per_byte",
        "served",
        "size",
        "slots",
        "sources",
        "uncounted",
        "until",
        "used_at",
        "uses",
        "value",
        "verify_at",
        "versions",
    )  # fmt: skip

    def __init__(
        self, region: Region, key: Hashable, value: Any, *, size: int = 0, cost: float = 0.0,
        copy: Callable[[Any], Any] | None = None, raises: bool = False, expires: float = math.inf,
        refresh: float = math.inf, epoch: int = 0, slots: tuple[int, ...] = (),
        versions: tuple[int, ...] = (), sources: Sources | None = None, check_at: float = math.inf,
        call: Call | None = None,
    ) -> None:  # fmt: skip
        self.region, self.key, self.call = region, key, call
        self.raises, self.cost, self.sources = raises, max(cost, _MIN_COST_S), sources
        self.set_value(value, copy, size)
        self.expires, self.refresh = expires, refresh
        self.check_again(math.inf if sources is None else check_at)
        self.epoch, self.slots, self.versions = epoch, slots, versions
        self.uses, self.served, self.rate, self.uncounted = 0, 0, 1.0, 0.0
        self.folded_at = self.used_at = self.born = 0.0
        self.place, self.verify_at, self.hit_cost = -1, math.inf, 0.0

    def set_value(
        self, value: Any, copy: Callable[[Any], Any] | None, size: int, mapped: int = 0
    ) -> None:  # fmt: skip
        """Set the value of an entry that is not stored yet.

        Args:
            value: in the form in which it is cached.
            copy: returns a copy for one caller, ``None`` where the value is immutable.
            size: bytes of the value.
            mapped: those of them that lie in a file.
        """
        self.value, self.copy, self.mapped, self.is_shared = value, copy, mapped, False
        self.size = max(size - mapped, 0) + OVERHEAD_BYTES
        if self.sources is not None:
            self.size += self.sources.size
        if self.call is not None:
            self.size += self.call.size
        self.seconds_per_byte = self.cost / self.size

    @property
    def hits(self) -> int:
        """Number of hits since it was stored."""
        return self.served + self.uses

    def of_loader(self, value: Any) -> Any:
        """Return the value for the caller that has loaded it, mapped if it is shared."""
        if not self.mapped or not is_shallow(self.copy):
            return value
        assert self.copy is not None
        return self.copy(self.value)

    def check_again(self, at: float) -> None:
        """Set the monotonic time in seconds from which the files have to be checked."""
        self.check_at = at
        self._set_until()

    def _set_until(self) -> None:
        # a wrapper serves values, and no exceptions
        self.until = -math.inf if self.raises else min(self.expires, self.refresh, self.check_at)

    def serve(self) -> Any:
        """Count a hit; return the value for one caller. Wrappers of functions do the same in line."""
        self.uses += not IS_WARMING.get()
        return self.value if self.copy is None else self.copy(self.value)

    def claim_refresh(self, now: float) -> bool:
        """Return whether the caller is to load the value early; one caller is, others are served it.

        Args:
            now: monotonic time in seconds.
        """
        if not self.refresh <= now < self.expires:
            return False
        with _CLAIMS:
            is_first = self.refresh < math.inf
            self.refresh = math.inf
            self._set_until()
            return is_first


class Overhead:
    """Time that a cache itself takes for keys and for copies of loaded values.

    Attributes:
        seconds: total.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


class Difference(NamedTuple):
    """Cause for which verified hits differed from a new load.

    Attributes:
        endpoint: of the request.
        method: of the request.
        function: module and name of the function.
        kind: the cause.
        source: the file or table that the new load read besides, empty where there is none.
    """

    endpoint: str
    method: str
    function: str
    kind: DifferenceKind
    source: str


class CacheCounts(TypedDict):
    """Statistics of one namespace.

    Attributes:
        entries: number of values.
        bytes: estimated bytes of the values.
        mapped_bytes: bytes of values in files that all workers map, which are not among them.
        hits: calls that were answered from the cache.
        fetched: those of them whose value another process had loaded.
        misses: calls that were not.
        hit_rate: ``hits / (hits + misses)``, ``None`` before the first call.
        attainable_rate: the same if there were room for all values.
        cold: misses of keys that were not cached.
        capacity: misses of values that were evicted for want of room.
        expired: misses of values older than their TTL.
        invalidated: misses of values that something invalidated.
        early: misses of values that were loaded again shortly before they expired.
        bypassed: calls within ``bypass()``, and of views for other methods than ``GET`` and ``HEAD``,
            which are not misses.
        refused: results that could not be cached.
        unkeyed: those of them whose load read request data that is not in the key.
        shared_loads: calls that waited for the load of another call instead of loading.
        stale: hits that returned an expired value, while another call loaded or because it failed.
        load_seconds: total time of all loads.
        saved_seconds: time that loading would have taken in place of the hits; 0 for values of ``put``,
            whose time is unknown.
        evicted: values that were removed for want of room.
        verified: hits whose value was loaded again and compared.
        differed: those of them whose value had changed.
        verify_seconds: total time that this took.
        overhead_seconds: time of keys and copies, estimated for hits.
    """

    entries: int
    bytes: int
    mapped_bytes: int
    hits: int
    fetched: int
    misses: int
    hit_rate: float | None
    attainable_rate: float | None
    cold: int
    capacity: int
    expired: int
    invalidated: int
    early: int
    bypassed: int
    refused: int
    unkeyed: int
    shared_loads: int
    stale: int
    load_seconds: float
    saved_seconds: float
    evicted: int
    warmed: int
    verified: int
    differed: int
    verify_seconds: float
    overhead_seconds: float


MAX_DIFFERENCES = 50
"""Number of causes of differences of a region that are distinguished between two publications."""
MAX_REMOVED = 20_000
"""Number of removed keys of a region of which it is known why they were removed."""
_COUNTERS = (*(event.value for event in CacheEvent), "load_seconds", "verify_seconds")


class Region:
    """Entries by key, and their counts.

    A hit is counted by its entry; :meth:`fold` adds the hits of an entry here.

    Attributes:
        namespace: name under which it is reported and invalidated.
        entries: by key.
        routing: names of the routing data that is part of its keys.
        unkeyed_reads: call sites of the request data that the latest load read and its key lacks.
        is_measured: whether the cost of its entries is the measured time of a load.
        refusals: results that were not cached, since they were last published.
        differences: number of values that differed from a new load, since they were last published.
        overhead: time of keys and of copies of loaded values.
    """

    __slots__ = (
        "__weakref__",
        "_copied_s",
        "_hits",
        "_published",
        "_removed",
        "_saved_s",
        "differences",
        "entries",
        "is_measured",
        "namespace",
        "overhead",
        "refusals",
        "routing",
        "unkeyed_reads",
        *_COUNTERS,
    )

    def __init__(self, namespace: str, *, is_measured: bool = True) -> None:
        self.namespace, self.is_measured = namespace, is_measured
        self.refusals, self.overhead = Refusals(), Overhead()
        self._published: dict[str, float] = {}
        self.entries: dict[Hashable, Entry] = {}
        self._removed: dict[int, CacheEvent] = {}  # why, by hash of the key
        self._hits = self.cold = self.capacity = self.expired = self.invalidated = self.early = 0
        self.bypassed = self.refused = self.unkeyed = self.shared_loads = self.stale = 0
        self.fetched = self.evicted = self.warmed = self.verified = self.differed = 0
        self._saved_s = self._copied_s = self.load_seconds = self.verify_seconds = 0.0
        self.differences: dict[Difference, int] = {}
        self.routing: tuple[str, ...] = ()
        self.unkeyed_reads: dict[tuple[str, str], str] = {}

    def remember_removed(self, key: Hashable, reason: CacheEvent) -> None:
        """Remember why an entry was removed, for the next look-up of its key."""
        if len(self._removed) < MAX_REMOVED:
            self._removed[hash(key)] = reason

    def take_removed(self, *keys: Hashable) -> CacheEvent:
        """Return the reason for which a call has no entry, once.

        Args:
            keys: of the call, with and without its routing data.
        """
        known = [self._removed.pop(hash(key), None) for key in keys]
        return next((one for one in known if one is not None), CacheEvent.COLD)

    def count_missing(self, *keys: Hashable) -> CacheEvent:
        """Count a look-up without an entry; return the reason.

        Args:
            keys: as of :meth:`take_removed`.
        """
        reason = self.take_removed(*keys)
        self.count(reason)
        return reason

    def count(self, event: CacheEvent) -> None:
        """Count an event."""
        setattr(self, event, getattr(self, event) + 1)

    def count_difference(self, difference: Difference) -> None:
        """Count a value that differed from a new load."""
        self.differed += 1
        known = self.differences
        if difference in known or len(known) < MAX_DIFFERENCES:
            known[difference] = known.get(difference, 0) + 1

    def take_differences(self) -> dict[Difference, int]:
        """Return the values that differed since the previous call."""
        differences, self.differences = self.differences, {}
        return differences

    def fold(self, entry: Entry) -> int:
        """Add the hits of an entry since its latest fold; return their number."""
        uses = entry.uses
        entry.uses -= uses  # a hit in between stays counted
        entry.verify_at -= uses
        entry.served += uses
        self._hits += uses
        self._copied_s += uses * entry.hit_cost
        if self.is_measured:
            self._saved_s += uses * entry.cost
        return uses

    def overhead_seconds(self, entries: Iterable[Entry]) -> float:
        """Return the seconds that keys and copies have taken; those of hits are estimated.

        Args:
            entries: those of the region.
        """
        return (
            self.overhead.seconds
            + self._copied_s
            + sum(entry.uses * entry.hit_cost for entry in entries)
        )

    def hits(self, entries: Iterable[Entry]) -> tuple[int, float]:
        """Return the number of hits, and the seconds of loading that they have saved.

        Args:
            entries: those of the region.
        """
        hits, saved = (
            self._hits,
            self._saved_s,
        )  # first: what is folded meanwhile counts later, not twice
        for entry in entries:
            if uses := entry.uses:
                hits += uses
                saved += uses * entry.cost if self.is_measured else 0.0
        return hits, saved

    def unpublished(self, entries: Sequence[Entry]) -> dict[str, float]:
        """Return the increase of every count since the previous call.

        Args:
            entries: those of the region.
        """
        hits, saved = self.hits(entries)
        current: dict[str, float] = {name: getattr(self, name) for name in _COUNTERS}
        current |= {
            "hits": hits, "saved_seconds": saved, "overhead_seconds": self.overhead_seconds(entries),
        }  # fmt: skip
        before = self._published
        # a count that another thread is folding is lower for a moment
        self._published = {name: max(count, before.get(name, 0)) for name, count in current.items()}
        return {name: count - before.get(name, 0) for name, count in self._published.items()}

    def take_refusals(self) -> Refusals:
        """Return the results that were not cached since the previous call."""
        refusals, self.refusals = self.refusals, Refusals()
        return refusals


def counts(regions: Iterable[Region]) -> CacheCounts:
    """Return the sum of the counts of some regions."""
    regions = list(regions)
    entries = [(region, list(region.entries.values())) for region in regions]
    folded = [region.hits(own) for region, own in entries]
    row: dict[str, Any] = {
        name: sum(getattr(region, name) for region in regions) for name in _COUNTERS
    }
    hits = sum(uses for uses, _ in folded)
    misses = row["cold"] + row["capacity"] + row["expired"] + row["invalidated"] + row["early"]
    return {
        "entries": sum(len(own) for _, own in entries),
        "bytes": sum(entry.size for _, own in entries for entry in own),
        "mapped_bytes": sum(entry.mapped for _, own in entries for entry in own), "hits": hits,
        "fetched": row["fetched"], "misses": misses,
        "hit_rate": hits / (hits + misses) if hits + misses else None,
        "saved_seconds": sum(saved for _, saved in folded),
        "attainable_rate": (hits + row["capacity"]) / (hits + misses) if hits + misses else None,
        "cold": row["cold"], "capacity": row["capacity"], "expired": row["expired"],
        "invalidated": row["invalidated"], "early": row["early"], "bypassed": row["bypassed"],
        "refused": row["refused"], "unkeyed": row["unkeyed"], "shared_loads": row["shared_loads"],
        "stale": row["stale"], "load_seconds": row["load_seconds"], "evicted": row["evicted"],
        "warmed": row["warmed"],
        "verified": row["verified"], "differed": row["differed"],
        "verify_seconds": row["verify_seconds"],
        "overhead_seconds": sum(region.overhead_seconds(own) for region, own in entries),
    }  # fmt: skip
