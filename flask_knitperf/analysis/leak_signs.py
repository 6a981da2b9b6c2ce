"""Signs of a memory leak: suspected endpoints of a report, and growth over tracked operations.

Sources: the Mann-Kendall test and the Theil-Sen slope of :mod:`..core.trends`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from ..core.trends import rises, theil_sen

LEAK = "LEAK_SUSPECTED"
MIN_OPERATIONS = 10  # fewer show no trend
ALPHA = 0.01  # significance level of the Mann-Kendall test


class LeakSign(TypedDict):
    """One sign of a leak; endpoint and method where a report names them."""

    type: str
    severity: str
    description: str
    recommendation: str
    endpoint: NotRequired[str]
    method: NotRequired[str]


def of_report(bottlenecks: Iterable[Mapping[str, Any]]) -> list[LeakSign]:
    """Return a sign for each endpoint that a report suspects of a leak.

    Args:
        bottlenecks: of a report.
    """
    return [
        {"type": row["type"], "severity": row["severity"], "description": row["text"],
         "recommendation": row["recommendation"], "endpoint": row["endpoint"],
         "method": row["method"]}
        for row in bottlenecks if row["type"] == LEAK
    ]  # fmt: skip


def of_operations(sizes_mb: Sequence[float]) -> list[LeakSign]:
    """Return a sign where memory grows from one operation to the next, beyond chance.

    Args:
        sizes_mb: resident memory after each operation, oldest first.
    """
    count = len(sizes_mb)
    if count < MIN_OPERATIONS or rises(sizes_mb) >= ALPHA:
        return []
    slope = theil_sen(range(count), sizes_mb)
    if slope is None or slope.low <= 0:
        return []
    return [{
        "type": LEAK, "severity": "WARNING",
        "description": f"Memory grew by {slope.middle * (count - 1):,.1f} MB over the last {count} "
                       f"operations, {slope.middle:,.2f} MB per operation.",
        "recommendation": "Run `flask knitperf leakhunt URL` for the endpoint that runs them; it names "
                          "the line whose objects are retained.",
    }]  # fmt: skip
