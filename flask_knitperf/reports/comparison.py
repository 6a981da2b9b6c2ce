"""Two windows side by side: the page of comparisons, and the rows that ``report --against`` prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..analysis.endpoints import Endpoint, endpoints
from ..analysis.regression import MIN_REQUESTS, Comparison, compare
from ..core.settings import Settings
from ..metrics.catalogue import BY_ROWS, REQUEST, ROWS
from ..storage.windows import Window
from .build import Route
from .values import in_ms, moment, rounded, window_document

if TYPE_CHECKING:
    from .documents.comparison import ComparisonReport, ComparisonRow


def compare_windows(
    now: Window, before: Window, settings: Settings, routes: Iterable[Route],
    releases: Iterable[str] = (), at: float = 0.0,
) -> ComparisonReport:  # fmt: skip
    """Return the comparison of two windows.

    Args:
        now: the window.
        before: the one that it is compared with.
        settings: thresholds.
        routes: the application's ``(endpoint, rule, methods)``.
        releases: names of releases to compare with, the latest first.
        at: the present, in seconds since the epoch.
    """
    known = list(routes)
    rows = [endpoints(one.snapshot.readings, settings, known) for one in (now, before)]
    return {
        "schema": "flask-knitperf/compare/1", "generated_at": moment(at),
        "window": window_document(now), "against": window_document(before),
        "releases": list(releases), "rows": [comparison_row(one) for one in compare(*rows)],
    }  # fmt: skip


METERS = frozenset((REQUEST.name, BY_ROWS.name, ROWS.name))
"""Names of the meters that a comparison needs."""


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
