"""Two windows side by side: the page of comparisons, and the rows that ``report --against`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..analysis.endpoints import Endpoint, endpoints
from ..analysis.regression import MIN_REQUESTS, Change, Comparison, compare
from ..core.settings import Settings
from ..metrics.catalogue import BY_ROWS, REQUEST, ROWS
from .build import Route
from .references import Pair
from .values import in_ms, moment, rounded, window_document

if TYPE_CHECKING:
    from .documents.comparison import ComparisonReport, ComparisonRow
    from .documents.endpoint import FigureChange, FigureName, FigureVerdict, ReleaseChange


def compare_windows(
    pair: Pair, settings: Settings, routes: Iterable[Route], releases: Iterable[str] = (),
    at: float = 0.0,
) -> ComparisonReport:  # fmt: skip
    """Return the comparison of two windows.

    Args:
        pair: the windows.
        settings: thresholds.
        routes: the application's ``(endpoint, rule, methods)``.
        releases: names of releases to compare with, the latest first.
        at: the present, in seconds since the epoch.
    """
    known = list(routes)
    rows = [endpoints(one.snapshot.readings, settings, known) for one in (pair.now, pair.before)]
    return {
        "schema": "flask-knitperf/compare/1", "generated_at": moment(at),
        "window": window_document(pair.now), "against": window_document(pair.before),
        "hours": pair.hours, "releases": list(releases),
        "rows": [comparison_row(one) for one in compare(*rows)],
    }  # fmt: skip


METERS = frozenset((REQUEST.name, BY_ROWS.name, ROWS.name))
"""Names of the meters that a comparison needs."""
_CHANGED = 1.1
"""Ratio of two means, or its inverse, from which one has changed."""
_OF_P95: dict[Change, FigureVerdict] = {
    "slower": "more", "more rows": "more", "faster": "less", "same": "same",
}  # fmt: skip


def release_change(
    releases: Pair, settings: Settings, routes: Iterable[Route], pair: tuple[str, str]
) -> ReleaseChange | None:
    """Return the figures of an endpoint in two releases, ``None`` where one has no requests of it.

    Args:
        releases: windows of the present release and of the one before.
        settings: thresholds.
        routes: the application's ``(endpoint, rule, methods)``.
        pair: the endpoint and its method.
    """
    now, before, hours = releases
    known = list(routes)
    rows = [
        [row for row in endpoints(one.snapshot.readings, settings, known)
         if (row.endpoint, row.method) == pair and row.count]
        for one in (now, before)
    ]  # fmt: skip
    if not all(rows) or now.release is None or before.release is None:
        return None
    [comparison] = compare(*rows)
    [[after], [earlier]] = rows
    few = min(after.count, earlier.count) < MIN_REQUESTS
    p95: FigureChange = {
        "name": "p95", "before": _quantile_ms(earlier, 0.95), "now": _quantile_ms(after, 0.95),
        "change": _OF_P95.get(comparison.change, "too few"),
    }  # fmt: skip
    means: list[FigureChange] = [
        {"name": name, "before": rounded(figure(earlier)), "now": rounded(figure(after)),
         "change": "too few" if few else _verdict(figure(after), figure(earlier))}
        for name, figure in _FIGURES.items()
    ]  # fmt: skip
    return {
        "release": now.release, "before": before.release, "since": moment(now.begins),
        "count": after.count, "count_before": earlier.count,
        "hours": hours, "figures": [p95, *means],
    }  # fmt: skip


def _verdict(now: float | None, before: float | None) -> FigureVerdict:
    if now is None or before is None:
        return "too few"
    if now == before or max(now, before) < _CHANGED * min(now, before):
        return "same"
    return "more" if now > before else "less"


def _queries(row: Endpoint) -> float:
    return sum(statement.count for statement in row.statements) / row.count


def _database_ms(row: Endpoint) -> float:
    return 1000 * sum(statement.seconds for statement in row.statements) / row.count


def _bytes_out(row: Endpoint) -> float | None:
    return row.reading.bytes_out.mean


def _files_read(row: Endpoint) -> float:
    return sum(read.count - read.reused for read in row.file_reads) / row.count


def _rows(row: Endpoint) -> float | None:
    sizes = row.reading.sizes
    requests = sum(size.requests.count for size in sizes)
    return sum(size.rows * size.requests.count for size in sizes) / requests if requests else None


_FIGURES: dict[FigureName, Callable[[Endpoint], float | None]] = {
    "queries": _queries, "database": _database_ms, "cpu": lambda row: row.cpu_ms,
    "bytes_out": _bytes_out, "files_read": _files_read, "rows": _rows,
}  # fmt: skip
"""Means per request."""


def comparison_row(comparison: Comparison) -> ComparisonRow:
    """Return the row of one endpoint and method in two windows."""
    now, before = comparison.now, comparison.before
    return {
        "endpoint": comparison.endpoint,
        "method": comparison.method,
        "change": comparison.change,
        "count": now.warm.count if now else 0,
        "count_before": before.warm.count if before else 0,
        "needed": MIN_REQUESTS,
        "p50_ms": _quantile_ms(now, 0.5),
        "p50_before_ms": _quantile_ms(before, 0.5),
        "p95_ms": _quantile_ms(now, 0.95),
        "p95_before_ms": _quantile_ms(before, 0.95),
        "ratio": rounded(comparison.ratio),
        "ratio_low": rounded(comparison.interval[0]),
        "ratio_high": rounded(comparison.interval[1]),
    }


def _quantile_ms(row: Endpoint | None, q: float) -> float | None:
    return None if row is None else in_ms(row.warm.quantile(q))
