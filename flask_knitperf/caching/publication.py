"""Publication of the counts of a cache: from the regions of one process to the totals of all workers.

A hit only counts in its entry, so nothing is recorded when it happens. The housekeeper compares the
counts of each region with those that it has published, and records the differences.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..core.clock import NS_PER_S
from ..core.locks import create_reentrant_lock
from ..metrics.catalogue import (
    CACHE_BYTES,
    CACHE_DIFFERENCE,
    CACHE_ENTRIES,
    CACHE_EVENT,
    CACHE_HIT,
    CACHE_LOAD,
    CACHE_MAPPED_BYTES,
    CACHE_MAX_BYTES,
    CACHE_MISMATCH,
    CACHE_OVERHEAD,
    CACHE_REFUSAL,
    CACHE_SERVER,
    CACHE_SIZED_HIT,
    CACHE_SIZED_MISS,
    CACHE_VERIFY,
    MAX_NAMESPACES,
    OBSERVED_CACHE,
    OBSERVED_LOAD,
    UNKEYED_READ,
    CacheEvent,
    DifferenceKey,
    NoDetail,
    RefusalKey,
    UnkeyedReadKey,
)
from ..metrics.instruments import OTHER
from ..metrics.log_format import Observation, with_total
from ..recording.pacer import Pacer
from ..recording.recorder import Recorder
from .observed import ObservedCache, PolledCache
from .refusals import Refusals
from .region import Difference, Entry, Region
from .size_simulation import SizeSimulation
from .store import Store

if TYPE_CHECKING:
    from .server.level import ServerLevel

MAX_SOURCE = 300
"""Number of characters of the name of a file that are published."""

_SIZE_METERS = (CACHE_ENTRIES, CACHE_BYTES, CACHE_MAPPED_BYTES)  # in the order of _Size


class _Size(NamedTuple):
    """Values of one namespace: their number, their bytes, and those in files that all workers map."""

    entries: int = 0
    bytes: int = 0
    mapped: int = 0

    def plus(self, entries: list[Entry]) -> _Size:
        """Return the size with some more values."""
        return _Size(
            self.entries + len(entries), self.bytes + sum(entry.size for entry in entries),
            self.mapped + sum(entry.mapped for entry in entries),
        )  # fmt: skip


class CachePublisher:
    """Publishes the counts of one cache through a recorder.

    Args:
        recorder: of the application whose report shows the cache.
        regions: returns the regions of the cache.
        store: keeps their entries.
        observed: returns the observed caches of the application itself.
        sizes: simulates smaller and larger caches.
        server: that hosts share, ``None`` without one.
    """

    def __init__(
        self, recorder: Recorder, regions: Callable[[], Iterable[Region]], store: Store,
        observed: Callable[[], Iterable[ObservedCache | PolledCache]] = tuple,
        sizes: SizeSimulation | None = None, server: ServerLevel | None = None,
    ) -> None:  # fmt: skip
        self._server = server
        self._recorder, self._regions, self._store = recorder, regions, store
        self._observed, self._sizes_simulation = observed, sizes
        self._publication = Pacer(recorder)  # a cache with many entries publishes less often
        self._simulation = Pacer(recorder)  # rests alone: counts are to be published soon
        # reentrant: a finalizer of the host, or a signal handler, may close the session meanwhile
        self._lock = create_reentrant_lock()
        self._pid = recorder.clock.pid()
        self._worker = ""  # the writer to which sizes were published
        self._sizes: dict[str, _Size] = {}
        self._names: set[str] = set()  # of namespaces, as far as they are distinguished
        recorder.on_change.append(self._drop_inherited)

    def tick(self) -> None:
        """Publish, unless the latest publication took so long that it has to rest."""
        self._publication.run(self.publish)

    def publish(self) -> None:
        """Record all counts since the previous call; without a writer they wait for the next one."""
        if not self._recorder.has_worker:
            return
        with self._lock:
            increases: dict[str, Counter[str]] = defaultdict(Counter)
            sizes: dict[str, _Size] = defaultdict(_Size)
            for region in self._regions():
                name = self._name(region.namespace)
                entries = list(region.entries.values())
                increases[name].update(region.unpublished(entries))
                sizes[name] = sizes[name].plus(entries)
                self._note(name, region.take_refusals())
                self._note_differences(name, region.take_differences())
            observations = [
                observation
                for name, increase in increases.items()
                for observation in self._counted(name, increase)
            ]
            self._recorder.emit([
                *observations, *self._sized(sizes), *self._observed_counts(),
                *self._simulated(), *self._server_counts(),
            ])  # fmt: skip
            if self._server is not None:
                self._degrade(self._server.lost)

    def _degrade(self, reason: str) -> None:
        """Have the report state why the server is not used."""
        degraded = self._recorder.worker.degraded
        if reason:
            degraded["cache server"] = reason
        else:
            degraded.pop("cache server", None)

    def _server_counts(self) -> Iterator[Observation]:
        """Yield the observations of the round trips to the server."""
        series = self._recorder.series
        for event, (count, ns) in ({} if self._server is None else self._server.take()).items():
            if count:
                yield from with_total(series(CACHE_SERVER, event), count, ns)

    def _name(self, namespace: str) -> str:
        """Return the name under which a namespace is counted."""
        name = namespace[: CACHE_HIT.longest]
        if name not in self._names:
            if len(self._names) >= MAX_NAMESPACES:
                return OTHER
            self._names.add(name)
        return name

    def _counted(self, name: str, increase: Mapping[str, float]) -> list[Observation]:
        """Return the observations of the counts of one namespace."""
        series = self._recorder.series
        observations: list[Observation] = []
        hits, saved_ns = int(increase["hits"]), round(increase["saved_seconds"] * 1e9)
        if hits:
            observations += with_total(series(CACHE_HIT, name), hits, saved_ns)
        for meter, count in (
            (CACHE_LOAD, "load_seconds"),
            (CACHE_VERIFY, "verify_seconds"),
            (CACHE_OVERHEAD, "overhead_seconds"),
        ):
            if increase[count]:
                observations.append((series(meter, name), 1, float(round(increase[count] * 1e9))))
        observations += [
            (series(CACHE_EVENT, name, event), int(increase[event]), 1.0)
            for event in CacheEvent if increase[event]
        ]  # fmt: skip
        return observations

    def _sized(self, sizes: dict[str, _Size]) -> list[Observation]:
        """Return the sizes that have changed, and the bound."""
        recorder = self._recorder
        worker, series = recorder.worker.name, recorder.series
        before = self._sizes if worker == self._worker else {}
        self._worker, self._sizes = worker, dict(sizes)
        observations: list[Observation] = [(series(CACHE_MAX_BYTES), 1, float(self._store.maxsize))]
        for name in {**before, **sizes}:
            size = sizes.get(name, _Size())
            if before.get(name) != size:
                observations += [
                    (series(meter, name), 1, float(figure))
                    for meter, figure in zip(_SIZE_METERS, size, strict=True)
                ]
        return observations

    def _observed_counts(self) -> Iterator[Observation]:
        """Yield the observations of the observed caches, and note their mismatches."""
        series = self._recorder.series
        for cache in self._observed():
            for use in cache.uses():
                for event, count in use.take().items():
                    yield series(OBSERVED_CACHE, cache.name, use.pattern, event), count, 1.0
            for pattern, count, ns in cache.take_loads():
                yield from with_total(series(OBSERVED_LOAD, cache.name, pattern), count, ns)
            for key, count, ns in cache.take_mismatches():
                self._recorder.note(CACHE_MISMATCH, key, ns / NS_PER_S, NoDetail(), count)

    def _simulated(self) -> Iterator[Observation]:
        """Yield the observations of the simulated caches."""
        if self._sizes_simulation is None:
            return
        self._simulation.run(self._sizes_simulation.tick)
        for (namespace, factor), one in self._sizes_simulation.take().items():
            labels = self._name(namespace), f"{factor:g}"
            for meter, count, seconds in (
                (CACHE_SIZED_HIT, one.hits, one.saved_s), (CACHE_SIZED_MISS, one.misses, one.load_s),
            ):  # fmt: skip
                if count:
                    series = self._recorder.series(meter, *labels)
                    yield from with_total(series, count, round(seconds * NS_PER_S))

    def _note(self, name: str, refusals: Refusals) -> None:
        for reason, count in refusals.reasons.items():
            self._recorder.note(CACHE_REFUSAL, RefusalKey(name, reason), count, NoDetail(), count)
        for read, (count, seconds) in refusals.unkeyed.items():
            key = UnkeyedReadKey(
                read.endpoint, read.method, name, read.function, read.source, read.name, read.where
            )
            self._recorder.note(UNKEYED_READ, key, seconds, NoDetail(), count)

    def _note_differences(self, name: str, differences: Mapping[Difference, int]) -> None:
        for one, count in differences.items():
            key = DifferenceKey(
                one.endpoint, one.method, name, one.function, one.kind, one.source[:MAX_SOURCE]
            )
            self._recorder.note(CACHE_DIFFERENCE, key, count, NoDetail(), count)

    def _drop_inherited(self) -> None:
        """In a forked child, drop what the parent has counted: it publishes that itself."""
        pid = self._recorder.clock.pid()
        if pid == self._pid:
            return
        self._pid = pid
        self._publication.reset()
        self._simulation.reset()
        for region in self._regions():
            region.unpublished(list(region.entries.values()))
            region.take_refusals()
            region.take_differences()
        for cache in self._observed():
            for use in cache.uses():
                use.take()
            cache.take_loads()
            cache.take_mismatches()
        if self._sizes_simulation is not None:
            self._sizes_simulation.drop()
