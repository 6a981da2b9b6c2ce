"""Signs of a memory leak: growth over tracked operations, and the type of all signs.

Sources: the Mann-Kendall test and the Theil-Sen slope of :mod:`..core.trends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

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
