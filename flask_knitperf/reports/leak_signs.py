"""Signs of a memory leak in a report: the endpoints that it suspects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..analysis.leak_signs import LEAK, LeakSign

if TYPE_CHECKING:
    from .documents.report import FindingRow


def of_report(bottlenecks: Iterable[FindingRow]) -> list[LeakSign]:
    """Return a sign for each endpoint that a report suspects of a leak.

    Args:
        bottlenecks: the findings of a report.
    """
    return [
        {"type": row["type"], "severity": row["severity"], "description": row["text"],
         "recommendation": row["recommendation"], "endpoint": row["endpoint"],
         "method": row["method"]}
        for row in bottlenecks if row["type"] == LEAK
    ]  # fmt: skip
