"""Readings: the totals of a run or a window as typed rows, one per endpoint, pool, function and worker.

The only package that looks series up by meter and takes their labels apart: reports and verdicts read
attributes. Each kind of rows is built once, at its first use, with the buckets of all its histograms
gathered in one pass (:meth:`..totals.Totals.sums`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from .. import catalogue
from ..catalogue import GrowthFigure, PlanDetail, WhatIfCalls
from ..histogram import Histogram
from ..histogram_batch import Batch
from ..instruments import OTHER, D, Evidence, K, Meter, Note
from ..totals import NOTHING, Pair, Row, Tally, Totals
from .endpoints import EndpointReadings, gc, leaks
from .rows import (
    EndpointReading,
    FunctionReading,
    GaugeReadings,
    GCReading,
    GrowthReading,
    JobReading,
    LeakReading,
    NamespaceReading,
    PoolReading,
    TtlReading,
    WhatIfReading,
)

_ALL: dict[str, frozenset[str] | None] = {"all": None}


class Readings:
    """Totals by their meaning. Immutable; every property is computed once.

    Args:
        totals: of a run or of a window of one.
    """

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    @property
    def incomplete(self) -> int:
        """Number of logs with an incomplete end."""
        return self._totals.incomplete

    def _rows(self, meter: Meter) -> Sequence[Row]:
        return self._totals.rows(meter.name)

    def notes(self, kind: Evidence[K, D]) -> list[Note[K, D]]:
        """Return the evidence of one kind."""
        return self._totals.notes(kind)

    # -- endpoints -----------------------------------------------------------------------------------

    @cached_property
    def _endpoints(self) -> EndpointReadings:
        return EndpointReadings(self._totals)

    @property
    def endpoints(self) -> list[EndpointReading]:
        """Every endpoint and method with any request, finished or not."""
        return self._endpoints.rows

    def every_batch(self) -> Batch:
        """Return the histograms ``every`` of all endpoints, for statistics in one pass."""
        return self._endpoints.every_batch()

    def warm_batch(self) -> Batch:
        """Return the histograms ``warm`` of all endpoints, for statistics in one pass."""
        return self._endpoints.warm_batch()

    @cached_property
    def gc(self) -> list[GCReading]:
        """Garbage collection pauses by endpoint and method."""
        return gc(self._totals)

    @cached_property
    def leaks(self) -> dict[Pair, dict[str, LeakReading]]:
        """Suspicions by endpoint and method, then by worker."""
        return leaks(self._totals)

    # -- statements ----------------------------------------------------------------------------------

    @cached_property
    def _query_rows(self) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {}
        for labels, row in self._rows(catalogue.QUERY):
            rows.setdefault(labels[0], []).append((labels, row))
        return rows

    @cached_property
    def statement_texts(self) -> dict[str, str]:
        """Text of every statement by fingerprint, with ``?`` for values."""
        return {name: rows[-1][0][1] for name, rows in self._query_rows.items()}

    @cached_property
    def statement_times(self) -> dict[str, Histogram]:
        """Time of every statement's executions by fingerprint, over all endpoints."""
        sums = self._totals.sums(list(self._query_rows.values()), _ALL)["all"].histograms
        return dict(zip(self._query_rows, sums, strict=True))

    @cached_property
    def statement_failures(self) -> dict[str, dict[str, int]]:
        """Number of failed executions by fingerprint and class of error."""
        failures: dict[str, dict[str, int]] = {}
        for row in self._rows(catalogue.QUERY_FAILED):
            _, _, fingerprint, error = row[0]
            errors = failures.setdefault(fingerprint, {})
            errors[error] = errors.get(error, 0) + self._totals.tally((row,)).count
        return failures

    @cached_property
    def plans(self) -> dict[str, PlanDetail]:
        """Execution plans by fingerprint."""
        return {note.key.fingerprint: note.detail for note in self.notes(catalogue.PLAN)}

    @cached_property
    def pools(self) -> list[PoolReading]:
        """Every connection pool."""
        counted = (
            catalogue.POOL_HOLD, catalogue.POOL_WAIT, catalogue.POOL_OPENED, catalogue.POOL_TIMEOUTS,
        )  # fmt: skip
        names = dict.fromkeys(labels[0] for meter in counted for labels, _ in self._rows(meter))
        return [self._pool(name) for name in names]

    def _pool(self, name: str) -> PoolReading:
        def rows(meter: Meter) -> list[Row]:
            return [row for row in self._rows(meter) if row[0][0] == name]

        def gauge(meter: Meter) -> float | None:
            return max(self._totals.gauges(rows(meter)).values(), default=None)

        histograms = (catalogue.POOL_WAIT, catalogue.POOL_HOLD, catalogue.POOL_IN_USE)
        groups = [rows(meter) for meter in histograms]
        wait, hold, in_use = self._totals.sums(groups, _ALL)["all"].histograms
        return PoolReading(
            name,
            wait,
            hold,
            in_use,
            opened=self._totals.tally(rows(catalogue.POOL_OPENED)),
            timeouts=self._totals.tally(rows(catalogue.POOL_TIMEOUTS)),
            invalidated={
                row[0][1]: self._totals.tally((row,)).count
                for row in rows(catalogue.POOL_INVALIDATED)
            },
            size=gauge(catalogue.POOL_SIZE),
            limit=gauge(catalogue.POOL_LIMIT),
        )

    # -- caches --------------------------------------------------------------------------------------

    @cached_property
    def namespaces(self) -> list[NamespaceReading]:
        """Every namespace of the cache."""
        events: dict[str, dict[str, int]] = {}
        for (name, event), counted in self._totals.tallied(self._rows(catalogue.CACHE_EVENT)):
            events.setdefault(name, {})[event] = counted.count
        hits, loads, verifying, overhead = (
            self._totals.tallies(self._rows(meter))
            for meter in (
                catalogue.CACHE_HIT, catalogue.CACHE_LOAD, catalogue.CACHE_VERIFY,
                catalogue.CACHE_OVERHEAD,
            )
        )  # fmt: skip
        entries, sizes, mapped = (
            {labels[0]: self._totals.gauges([(labels, row)]) for labels, row in self._rows(meter)}
            for meter in (
                catalogue.CACHE_ENTRIES,
                catalogue.CACHE_BYTES,
                catalogue.CACHE_MAPPED_BYTES,
            )
        )
        sized = self._sized_caches()
        return [
            NamespaceReading(
                name, hits.get(name, NOTHING), loads.get(name, NOTHING),
                verifying.get(name, NOTHING), overhead.get(name, NOTHING), events.get(name, {}),
                entries.get(name, {}), sizes.get(name, {}), mapped.get(name, {}),
                sized.get(name, {}),
            )
            for name in {**hits, **loads, **events, **entries}
        ]  # fmt: skip

    def _sized_caches(self) -> dict[str, dict[float, tuple[Tally, Tally]]]:
        """Return hits and misses in simulated caches, by namespace and size."""
        hits, misses = (
            dict(self._totals.tallied(self._rows(meter)))
            for meter in (catalogue.CACHE_SIZED_HIT, catalogue.CACHE_SIZED_MISS)
        )
        sized: dict[str, dict[float, tuple[Tally, Tally]]] = {}
        for labels in {**hits, **misses}:
            name, factor = labels
            if factor != OTHER:
                sized.setdefault(name, {})[float(factor)] = (
                    hits.get(labels, NOTHING), misses.get(labels, NOTHING)
                )  # fmt: skip
        return sized

    @property
    def observed_events(self) -> list[tuple[tuple[str, ...], Tally]]:
        """Events of observed caches, by cache, pattern of the keys, and event."""
        return self._totals.tallied(self._rows(catalogue.OBSERVED_CACHE))

    @property
    def observed_loads(self) -> list[tuple[tuple[str, ...], Tally]]:
        """Nanoseconds of the loads of observed caches, by cache and pattern of the keys."""
        return self._totals.tallied(self._rows(catalogue.OBSERVED_LOAD))

    @cached_property
    def watched_functions(self) -> list[WhatIfReading]:
        """Every function that is watched as if it were cached."""
        calls, hits, compared, stale, hindered = (
            {labels: tally for labels, tally in self._totals.tallied(self._rows(meter)) if tally.count}
            for meter in (
                catalogue.WHAT_IF_CALLS, catalogue.WHAT_IF_HIT, catalogue.WHAT_IF_COMPARED,
                catalogue.WHAT_IF_STALE, catalogue.WHAT_IF_HINDERED,
            )
        )  # fmt: skip
        by_ttl: dict[tuple[str, ...], dict[float, TtlReading]] = {}
        for labels, tally in hits.items():
            by_ttl.setdefault(labels[:2], {})[_ttl(labels[2])] = TtlReading(
                tally, compared.get(labels, NOTHING), stale.get(labels, NOTHING).count
            )
        obstacles: dict[tuple[str, ...], dict[str, int]] = {}
        for labels, tally in hindered.items():
            obstacles.setdefault(labels[:2], {})[labels[2]] = tally.count
        return [
            WhatIfReading(
                name, where, calls.get((name, where, WhatIfCalls.JUDGED), NOTHING),
                calls.get((name, where, WhatIfCalls.BEYOND), NOTHING),
                calls.get((name, where, WhatIfCalls.UNKEYED), NOTHING).count,
                by_ttl.get((name, where), {}), obstacles.get((name, where), {}),
            )
            for name, where in dict.fromkeys(labels[:2] for labels in calls)
        ]  # fmt: skip

    @cached_property
    def cache_bounds(self) -> dict[str, float]:
        """Bytes that all values may take, by live worker with a cache."""
        return self._totals.gauges(self._rows(catalogue.CACHE_MAX_BYTES))

    @cached_property
    def cache_server(self) -> dict[str, Tally]:
        """Round trips to the server that hosts share, by outcome, in nanoseconds."""
        rows = self._totals.tallied(self._rows(catalogue.CACHE_SERVER))
        return {labels[0]: tally for labels, tally in rows}

    # -- the process ---------------------------------------------------------------------------------

    @cached_property
    def functions(self) -> list[FunctionReading]:
        """Every profiled function."""
        rows = self._rows(catalogue.FUNCTION)
        calls = self._totals.sums([(row,) for row in rows], _ALL)["all"].histograms
        return [
            FunctionReading(name, where, histogram)
            for ((name, where), _), histogram in zip(rows, calls, strict=True)
        ]

    @cached_property
    def jobs(self) -> list[JobReading]:
        """Every job with a finished run."""
        rows = self._rows(catalogue.JOB)
        runs = self._totals.sums([(row,) for row in rows], _ALL)["all"].histograms
        failures: dict[str, dict[str, Tally]] = {}
        for (name, exception), failed in self._totals.tallied(self._rows(catalogue.JOB_FAILED)):
            if failed.count:
                failures.setdefault(name, {})[exception] = failed
        last = {labels[0]: (labels, row) for labels, row in self._rows(catalogue.JOB_LAST)}
        jobs = []
        for ((name,), _), histogram in zip(rows, runs, strict=True):
            by = self._totals.pairs.get((name, catalogue.JOB_METHOD), {})
            ends = self._totals.gauges([last[name]]).values() if name in last else ()
            jobs.append(JobReading(
                name, histogram, failures.get(name, {}), max(ends, default=None),
                cpu=self._totals.tally(by.get(catalogue.CPU.name, ())),
                parts=self._totals.tallies(by.get(catalogue.PART.name, ())),
            ))  # fmt: skip
        return [job for job in jobs if job.runs.count]

    @cached_property
    def function_places(self) -> dict[str, str]:
        """``file:line`` of profiled functions by name, where known."""
        return {name: where for (name, where), _ in self._rows(catalogue.FUNCTION) if where}

    @cached_property
    def queue(self) -> Histogram:
        """Time that requests waited for a worker, in nanoseconds; empty without a proxy's header."""
        return self._totals.histogram(self._rows(catalogue.QUEUE))

    @cached_property
    def cost(self) -> Tally:
        """Time that flask_knitperf adds to requests, in nanoseconds."""
        return self._totals.tally(self._rows(catalogue.COST))

    @cached_property
    def gauges(self) -> GaugeReadings:
        """Memory and load of each worker."""
        return GaugeReadings(*(
            self._totals.gauges(self._rows(meter))
            for meter in (catalogue.RSS, catalogue.PSS, catalogue.PEAK_RSS, catalogue.BUSY_SHARE,
                          catalogue.GIL_PRESSURE)
        ))  # fmt: skip

    @cached_property
    def gc_pauses(self) -> dict[int, Tally]:
        """Garbage collection pauses in nanoseconds by generation, in ascending order."""
        rows = sorted(self._rows(catalogue.GC_PAUSE))
        return {int(row[0][0]): self._totals.tally((row,)) for row in rows}

    @cached_property
    def growth(self) -> dict[str, GrowthReading]:
        """Memory trends by worker; without workers whose trend is not judged yet."""
        figures: dict[str, dict[str, float]] = {}
        for (figure,), row in self._rows(catalogue.GROWTH):
            for worker, value in self._totals.gauges((((), row),)).items():
                figures.setdefault(worker, {})[figure] = value
        return {
            worker: GrowthReading(*(values[figure] for figure in GrowthFigure))
            for worker, values in figures.items()
            if values.keys() >= set(GrowthFigure)
        }


def _ttl(label: str) -> float:
    """Return the TTL in a label in seconds; that of a series for which there was no room is NaN."""
    return float(label) if label != OTHER else math.nan
