"""Builds tables as collectors would leave them, without a collector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flask_knitperf.metrics.catalogue import (
    ERROR,
    METERS,
    NEIGHBOUR,
    ErrorDetail,
    ErrorKey,
    NeighbourKey,
    NoDetail,
)
from flask_knitperf.metrics.columns import Series
from flask_knitperf.metrics.instruments import D, Evidence, K, Key
from flask_knitperf.metrics.readings import Readings
from flask_knitperf.metrics.table import Table, keep_evidence
from flask_knitperf.metrics.totals import Totals

MS = 1_000_000
_METERS = {meter.short_name: meter for meter in METERS.values()}


class Budget(NamedTuple):
    """Thresholds of one endpoint."""

    slow_ms: float = 500
    moderate_ms: float = 200
    min_success_rate: float = 0.95
    variance_ratio: float = 2
    queries: float | None = None


@dataclass(frozen=True)
class Limits:
    """Stands in for Settings: the defaults, and budgets of single endpoints."""

    target_p95_ms: float = 200
    target_memory_mb: float = 500
    gc_threshold_mb: float = 500
    large_response_kb: float = 64
    slow_query_ms: float = 100
    sampler: bool = True
    reuse_reads: bool = False
    cache_stale_budget: float = 0.05
    endpoints: dict[str, dict[str, float]] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)

    def budget(self, endpoint: str) -> Budget:
        """Return an endpoint's thresholds."""
        return self.budgets.get(endpoint, Budget())


LIMITS: Any = Limits()


class Mill:
    """A table under construction; times are milliseconds."""

    def __init__(self) -> None:
        self.table = Table()

    @property
    def totals(self) -> Totals:
        """Totals of the table, as reports read them."""
        return Totals.of(self.table)

    @property
    def readings(self) -> Readings:
        """The table, read as a report reads it."""
        return Readings(self.totals)

    def series(self, name: str, *labels: str) -> Series:
        """Return a series of the catalogue's meter with a short name, created at its first use."""
        meter = _METERS[name]
        assert len(labels) == len(meter.labels), f"{name} has the labels {meter.labels}"
        new = Series(meter.kind, meter.unit, meter.merge)
        return self.table.series.setdefault(Key(meter.name, labels), new)

    def requests(
        self,
        endpoint: str,
        times: Iterable[float],
        *,
        status: str = "2xx",
        when: str = "solo",
        method: str = "GET",
    ) -> Mill:
        """Add finished requests."""
        series = self.series("request", endpoint, method, status, when)
        for time in times:
            series.data.add(time * MS)
        return self

    def sized(self, endpoint: str, rows: float, times: Iterable[float]) -> Mill:
        """Add finished requests that work on a number of rows."""
        values = list(times)
        self.requests(endpoint, values)
        class_ = str(round(2 * math.log2(rows)))
        series = self.series("by_rows", endpoint, "GET", class_)
        counted = self.series("rows", endpoint, "GET", class_)
        for time in values:
            series.data.add(time * MS)
            counted.data.count += 1
            counted.data.total += round(rows)
        return self

    def counter(self, meter: str, *labels: str, ms: float, count: int = 1) -> Mill:
        """Add ``count`` observations that sum to ``ms``."""
        series = self.series(meter, *labels)
        series.data.count += count
        series.data.total += round(ms * MS)
        return self

    def queueing(
        self, endpoint: str, *, cpu: float, run_queue: float, waiting: float = 0, count: int = 20
    ) -> Mill:
        """Add sampled requests that compute, queue for a core and wait, with their wall time."""
        wall = cpu + run_queue + waiting
        self.requests(endpoint, [wall] * count)
        for meter, ms in (("sampled_wall", wall), ("cpu", cpu), ("run_queue", run_queue)):
            self.counter(meter, endpoint, "GET", ms=ms * count, count=count)
        for label, ms in (("included", wall), ("excluded", wall - run_queue)):
            series = self.series("queueing", endpoint, "GET", label)
            for _ in range(count):
                series.data.add(ms * MS)
        return self

    def sampled(self, endpoint: str, *, wall: float, cpu: float, contention: float = 0) -> Mill:
        """Add one sampled request."""
        self.counter("sampled_wall", endpoint, "GET", ms=wall)
        self.counter("cpu", endpoint, "GET", ms=cpu)
        if contention:
            self.counter("contention", endpoint, "GET", ms=contention)
        return self

    def function(self, name: str, where: str, times: Iterable[float]) -> Mill:
        """Add runs of a profiled function."""
        series = self.series("function", name, where)
        for time in times:
            series.data.add(time * MS)
        return self

    def gauge(self, meter: str, *labels: str, **by_worker: float) -> Mill:
        """Set a gauge."""
        series = self.series(meter, *labels)
        series.gauge = {**series.gauge, **by_worker}
        return self

    def neighbour(self, victim: str, culprit: str, weight: float = 1e9, count: int = 1) -> Mill:
        """Note that a culprit ran beside slow requests."""
        key = NeighbourKey(victim, culprit)
        return self.note(NEIGHBOUR, key, count, weight, NoDetail())

    def error(self, endpoint: str, name: str, where: str, count: int = 1) -> Mill:
        """Note an exception."""
        key = ErrorKey(endpoint, name)
        return self.note(ERROR, key, count, count, ErrorDetail(where=where))

    def note(self, kind: Evidence[K, D], key: K, count: int, weight: float, detail: D) -> Mill:
        """Add a piece of evidence."""
        keep_evidence(self.table.evidence, {
            "kind": kind.name, "key": list(key), "count": count, "weight": weight, "detail": detail,
        })  # fmt: skip
        return self
