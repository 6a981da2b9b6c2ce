"""Two windows side by side: the rows that ``report --against`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..analysis.endpoints import Endpoint
from ..analysis.regression import MIN_REQUESTS, Comparison
from .values import in_ms, rounded

if TYPE_CHECKING:
    from .documents.comparison import ComparisonRow


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
    }


def _quantile_ms(row: Endpoint | None, q: float) -> float | None:
    return None if row is None else in_ms(row.warm.quantile(q))
