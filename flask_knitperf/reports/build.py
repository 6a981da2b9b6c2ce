"""The report of a window: reads totals, has them judged, and builds the document of the results.

It is a pure function of a window; the clock, the routes and failures of the running application are
arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..analysis import endpoints as reading
from ..analysis import findings as findings_of
from ..analysis.callee_advice import uses
from ..analysis.cards import cards
from ..analysis.endpoints import Coverage, Endpoint
from ..analysis.findings import Finding, Recommendation
from ..analysis.hot_lines import top_lines, whole
from ..analysis.latency import has_enough_requests
from ..analysis.noisy_neighbours import Neighbour, neighbours
from ..analysis.overload import overload
from ..analysis.scorecard import Measured, scorecard
from ..core import units
from ..core.settings import Settings
from ..core.source_lines import SourceLines
from ..metrics.catalogue import METERS, NEIGHBOUR, StatusClass
from ..metrics.histogram import Histogram, total
from ..metrics.readings import Readings
from ..metrics.readings.rows import FunctionReading
from ..metrics.stack_trie import Tries
from ..storage.state_dir import Snapshot
from ..storage.windows import Window
from .cache_advice import advice_rows
from .cards import card_rows, cause_row, saving_row
from .endpoint_rows import endpoint_row
from .jobs import job_rows
from .values import MIN_FOR_P99, in_ms, in_s, moment, rounded, window_document

if TYPE_CHECKING:
    from .documents import report as types

Route = tuple[str, str, tuple[str, ...]]
"""An endpoint, its rule and the methods of that rule."""


def build_report(
    window: Window,
    settings: Settings,
    routes: Sequence[Route],
    now: float,
    failures: Mapping[str, int] | None = None,
    tries: Tries | None = None,
) -> types.Report:
    """Return the report of a window.

    Args:
        window: the totals of all workers.
        settings: thresholds and targets.
        routes: of the application.
        now: seconds since the epoch.
        failures: number of failures of each part of this package.
        tries: sampled stacks, ``None`` where the sampler is off.
    """
    readings = window.snapshot.readings
    rows = _rows(readings, settings, routes, tries)
    findings = findings_of.findings(readings, rows, settings)
    coverage = reading.coverage(rows, routes)
    return {
        "schema": "flask-knitperf/report/1",
        "generated_at": moment(now),
        "window": window_document(window),
        "workers": _workers(window.snapshot),
        "coverage": _coverage(coverage, rows),
        "load": _load(rows),
        "endpoints": [endpoint_row(row) for row in rows],
        "functions": [_function(function) for function in _called(readings)],
        "jobs": job_rows(readings.jobs),
        "queue": _queue(readings.queue),
        "neighbours": [_neighbour(pair) for pair in neighbours(rows, readings.notes(NEIGHBOUR))],
        "bottlenecks": [_finding(finding) for finding in findings],
        "cards": card_rows(
            cards(findings, rows, overload(rows)), findings, _source_text(window.snapshot)
        ),
        "recommendations": [
            _recommendation(advice) for advice in findings_of.recommendations(findings)
        ],
        "cache_advice": advice_rows(window, settings),
        "scorecard": [
            _criterion(name, measured)
            for name, measured in scorecard(readings, rows, coverage, settings).items()
        ],
        "self": _overhead(window.snapshot, settings, routes, failures or {}),
    }


def _rows(
    readings: Readings, settings: Settings, routes: Sequence[Route], tries: Tries | None
) -> list[Endpoint]:
    """Return the endpoints of a window, with their sampled lines."""
    rows = reading.endpoints(readings, settings, routes)
    for row in rows:
        kinds = (tries or {}).get((row.endpoint, row.method))
        if kinds:
            row.sampled = whole(kinds)
            row.lines = top_lines(row.sampled)
            row.uses = uses(row.sampled, watched=bool(row.statements))
    return rows


def _source_text(snapshot: Snapshot) -> Callable[[str], str | None]:
    """Return a function that reads source lines as they were when the first of the workers started."""
    started = [worker["started"] for worker in snapshot.servers if worker.get("started")]
    return SourceLines(min(started, default=0.0)).text


def _workers(snapshot: Snapshot) -> list[types.WorkerRow]:
    gauges = snapshot.readings.gauges
    return [
        {
            "host": worker.get("host"),
            "pid": worker.get("pid"),
            "started": moment(worker["started"]) if worker.get("started") else None,
            "alive": bool(worker.get("alive")),
            "busy_share": rounded(gauges.busy_share.get(worker["worker"])),
            "gil_pressure": rounded(gauges.gil_pressure.get(worker["worker"])),
        }
        for worker in snapshot.servers
    ]


def _coverage(coverage: Coverage, rows: list[Endpoint]) -> types.Coverage:
    return {
        "endpoints_total": coverage.total, "seen": coverage.seen, "unseen": coverage.unseen,
        "judged": len({row.endpoint for row in rows if has_enough_requests(row)}),
    }  # fmt: skip


def _load(rows: Sequence[Endpoint]) -> types.Load:
    every = total([row.every for row in rows])
    p50, p95, p99 = every.quantiles((0.5, 0.95, 0.99))
    return {
        "count": every.count,
        "failed": sum(row.status[StatusClass.SERVER_ERROR] for row in rows),
        "p50_ms": in_ms(p50), "p95_ms": in_ms(p95),
        "p99_ms": in_ms(p99) if every.count >= MIN_FOR_P99 else None,
        "excess_s": rounded(sum(row.excess_s for row in rows), 6),
        "in_flight": sum(row.in_flight for row in rows),
    }  # fmt: skip


def _called(readings: Readings) -> list[FunctionReading]:
    """Return the profiled functions that were called, largest total time first."""
    called = [function for function in readings.functions if function.calls.count]
    return sorted(called, key=lambda function: (-function.calls.total, function.name))


def _function(function: FunctionReading) -> types.FunctionRow:
    times = function.calls
    p50, p95 = times.quantiles((0.5, 0.95))
    return {
        "name": function.name,
        "where": function.where or None,
        "count": times.count,
        "mean_ms": in_ms(times.mean),
        "max_ms": in_ms(times.high),
        "p50_ms": in_ms(p50),
        "p95_ms": in_ms(p95),
        "time_spent_s": in_s(times.total),
    }


def _queue(times: Histogram) -> types.Queue | None:
    if not times.count:
        return None
    p50, p95 = times.quantiles((0.5, 0.95))
    return {
        "count": times.count,
        "mean_ms": in_ms(times.mean),
        "p50_ms": in_ms(p50),
        "p95_ms": in_ms(p95),
        "max_ms": in_ms(times.high),
    }


def _neighbour(pair: Neighbour) -> types.NeighbourRow:
    return {
        "victim": pair.victim,
        "culprit": pair.culprit,
        "computed_s": rounded(pair.computed_s),
        "share": rounded(pair.share, 4),
    }


def _finding(finding: Finding) -> types.FindingRow:
    return {
        "endpoint": finding.endpoint,
        "method": finding.method,
        "type": finding.type,
        "severity": finding.severity,
        "text": finding.text,
        "observed": rounded(finding.observed),
        "threshold": rounded(finding.threshold),
        "samples": finding.samples,
        "confidence": finding.confidence,
        "why": [cause_row(cause) for cause in finding.why],
        "recommendation": finding.recommendation,
        "time_spent_s": rounded(finding.time_spent_s),
        "saving": saving_row(finding.saving),
    }


def _recommendation(advice: Recommendation) -> types.RecommendationRow:
    return {
        "text": advice.text,
        "severity": advice.severity,
        "endpoints": advice.endpoints,
        "types": advice.types,
    }


def _criterion(name: str, measured: Measured) -> types.CriterionRow:
    return {
        "criterion": name,
        "target": measured.target,
        "actual": measured.actual,
        "ok": measured.ok,
    }


def _overhead(
    snapshot: Snapshot, settings: Settings, routes: Sequence[Route], failures: Mapping[str, int]
) -> types.Overhead:
    endpoints = {endpoint for endpoint, _, _ in routes}
    degraded = list(snapshot.degraded)
    degraded += [
        f"{part} failed {units.plain(units.count(number, 'time'))}"
        for part, number in failures.items()
    ]
    degraded += [
        f"thresholds are given for {name!r}, an endpoint that does not exist"
        for name in settings.endpoints if name not in endpoints
    ]  # fmt: skip
    dropped_ = dropped(snapshot)
    if snapshot.readings.incomplete:
        dropped_["torn"] = snapshot.readings.incomplete
    return {
        "us_per_request": _us_per_request(snapshot.readings),
        "dropped": dropped_,
        "degraded": degraded,
        "sampled": settings.sampler,
    }


def dropped(snapshot: Snapshot) -> dict[str, int]:
    """Return the number of observations that no series had room for, by meter."""
    counts: dict[str, int] = {}
    for worker in snapshot.workers:
        for name, count in worker.get("dropped", {}).items():
            meter = METERS.get(name)
            key = name if meter is None else meter.short_name
            counts[key] = counts.get(key, 0) + count
    return counts


def _us_per_request(readings: Readings) -> float | None:
    """Return the microseconds that recording adds to a request, ``None`` before it was measured."""
    mean = readings.cost.mean
    return None if mean is None else rounded(mean / 1000, 1)
