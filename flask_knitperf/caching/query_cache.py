"""Results of queries, cached under the versions of the tables that they depend on.

The order of a load keeps results right: the versions are taken, the query runs, and its result is stored
under the versions that were taken, unless one of them has moved or is being moved. A result that is
served has the versions of the moment, so no commit has begun since the query ran that it depends on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock
from ..metrics.catalogue import PartKind
from ..recording.span import CURRENT
from ..storage.versions import EPOCH, is_being_written
from .cacheability import NotCacheable
from .call_keys import count
from .dependencies import RUNNING, pass_on
from .function_cache import MAX_WAIT_S
from .invalidation import ALL, Invalidation, namespace_slot
from .load_reads import CURRENT_READS, NO_OBSERVER, ReadObserver
from .refusals import TOO_LARGE
from .region import Entry, Region
from .single_flight import SingleFlight
from .store import Store
from .values import isolate

NAMESPACE = "queries"
"""Namespace that invalidates the results of all queries, and under which the rest is counted."""
MAX_REGIONS = 60
"""Number of statements that are counted apart."""
BEING_WRITTEN = "a table is being written"
WRITTEN_MEANWHILE = "a table was written while the query ran"
READS_REQUEST = "a type of a column, or a listener, reads the current request"
NOT_PUBLISHED = "other workers do not publish their writes yet"
_MAX_FOLLOWED = 3
_SLOT_BYTES = 60
"""Bytes of an entry for each version that it depends on."""
_SLOTS = (ALL, namespace_slot(NAMESPACE))


class QueryCall(NamedTuple):
    """One call of a cached query.

    Attributes:
        name: under which its statement is counted.
        key: of the result.
        slots: versions of the tables that it depends on.
        ttl: seconds until its result expires.
    """

    name: str
    key: bytes
    slots: tuple[int, ...]
    ttl: float


class _Loaded(NamedTuple):
    """Outcome of a load: the result and its entry, or the error of the call that has loaded."""

    value: Any
    entry: Entry | None
    error: Exception | None = None


class QueryCache:
    """Results of queries of this process.

    Args:
        store: keeps the entries.
        invalidation: versions of tables.
        is_bypassed: returns whether the current code bypasses the cache.
        publishes: returns whether all writes of tables move versions from now on.
        clock: returns monotonic time in seconds.
        observer: records what types of columns read of the current request.

    Attributes:
        regions: entries and counts, by name.
    """

    def __init__(
        self, store: Store, invalidation: Invalidation, is_bypassed: Callable[[], bool],
        publishes: Callable[[], bool], clock: Callable[[], float] = time.monotonic,
        observer: ReadObserver = NO_OBSERVER,
    ) -> None:  # fmt: skip
        self.regions: dict[str, Region] = {}
        self._store, self._invalidation, self._clock = store, invalidation, clock
        self._observer = observer
        self.is_bypassed, self.publishes = is_bypassed, publishes
        self._flights = SingleFlight(MAX_WAIT_S)
        self._lock = create_lock()  # guards the set of regions

    def region(self, name: str) -> Region:
        """Return the region of a statement; those of too many statements are one."""
        region = self.regions.get(name)
        if region is None:
            with self._lock:
                if len(self.regions) >= MAX_REGIONS:
                    name = NAMESPACE
                region = self.regions.setdefault(name, Region(name))
        return region

    def take(self, slots: tuple[int, ...]) -> tuple[int, ...]:
        """Return the versions of some slots."""
        return self._invalidation.take(slots)[1]

    def bypass(self, name: str, reason: str) -> None:
        """Count a call that ran its query because of the state of its connection."""
        region = self.region(name)
        region.bypassed += 1
        region.refusals.add(reason)

    def refuse(self, name: str, reason: str) -> None:
        """Count a call whose result cannot be cached."""
        region = self.region(name)
        region.refused += 1
        region.refusals.add(reason)

    def is_cached(self, call: QueryCall) -> bool:
        """Return whether a call would be answered from the cache now."""
        return self._servable(self.region(call.name), call.key) is not None

    def answer(self, call: QueryCall, load: Callable[[], Any], check: Callable[[], str]) -> Any:
        """Return the result of a query, from the cache where it is valid.

        Args:
            call: the call.
            load: runs the query; returns a new result.
            check: returns why the result of the load is not cached, empty if it may be.

        Raises:
            Exception: that of the query.
        """
        region = self.region(call.name)
        entry = self._servable(region, call.key)
        if entry is not None:
            return self._serve(entry)
        for _ in range(_MAX_FOLLOWED):
            loaded, is_own = self._flights.run(
                (call.name, call.key), lambda: self._load(region, call, load, check)
            )
            if is_own:
                if loaded.error is not None:
                    raise loaded.error
                return loaded.value
            region.shared_loads += 1
            entry = self._servable(region, call.key)
            if entry is not None:
                return self._serve(entry)
            if loaded.entry is None:  # waiting for a result that is not cached is in vain
                break
        loaded = self._load(region, call, load, check)
        if loaded.error is not None:
            raise loaded.error
        return loaded.value

    def _servable(self, region: Region, key: Hashable) -> Entry | None:
        entry = region.entries.get(key)
        if entry is None or entry.expires <= self._clock():
            return None
        is_current = (
            entry.epoch == self._invalidation.words[EPOCH]
        )  # nothing at all was invalidated
        return entry if is_current or self._invalidation.is_valid(entry) else None

    def _serve(self, entry: Entry) -> Any:
        if RUNNING:
            pass_on(entry.slots, None, self._invalidation.words, entry.expires)
        span = CURRENT.get()
        if span is not None:
            count(span, PartKind.CACHE_HIT.value)
        return entry.serve()

    def _load(
        self, region: Region, call: QueryCall, load: Callable[[], Any], check: Callable[[], str]
    ) -> _Loaded:  # fmt: skip
        self._count_miss(region, call.key)
        slots = (*_SLOTS, *call.slots)
        epoch, versions = self._invalidation.take(slots)
        if RUNNING:
            pass_on(slots, None, self._invalidation.words, self._clock() + call.ttl)
        began = self._clock()
        expires = min(began + call.ttl, self._invalidation.known_until(began))
        token = self._observer.begin()
        reads = None if token is None else CURRENT_READS.get()
        try:
            value = load()
        except Exception as error:  # those that wait run the query themselves
            raise_if_of_host(error)
            return _Loaded(None, None, error)
        finally:
            if token is not None:
                self._observer.end(token)
        if reads is not None and (reads.call_sites or reads.routing):
            self.refuse(call.name, READS_REQUEST)  # such as the time zone of a user, by a type
            return _Loaded(value, None)
        seconds = self._clock() - began
        region.load_seconds += seconds
        reason = check() or self._moved(slots, versions)
        if reason:
            region.refusals.add(reason)
            return _Loaded(value, None)
        entry = Entry(
            region, call.key, None, cost=seconds, expires=expires, epoch=epoch, slots=slots,
            versions=versions,
        )  # fmt: skip
        try:
            kept, copy, size = isolate(value)
        except NotCacheable as refused:
            self.refuse(call.name, str(refused))
            return _Loaded(value, None)
        entry.set_value(kept, copy, size + len(slots) * _SLOT_BYTES)
        if not self._store.add(entry):
            self.refuse(call.name, TOO_LARGE)
            return _Loaded(value, None)
        return _Loaded(value, entry)

    def _moved(self, slots: tuple[int, ...], versions: tuple[int, ...]) -> str:
        """Return why a result is out of date for other calls, empty if it is not."""
        writing = [
            index
            for index, version in zip(slots, versions, strict=True)
            if is_being_written(version)
        ]
        if writing:
            self._invalidation.versions.settle_abandoned(writing)
            return BEING_WRITTEN
        if self.take(slots) != versions:
            return WRITTEN_MEANWHILE
        return ""

    def _count_miss(self, region: Region, key: Hashable) -> None:
        entry = region.entries.get(key)
        if entry is None:
            region.count_missing(key)
        elif entry.expires <= self._clock():
            region.expired += 1
        else:
            region.invalidated += 1
        span = CURRENT.get()
        if span is not None:
            count(span, PartKind.CACHE_LOAD.value)
