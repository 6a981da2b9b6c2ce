"""A report in a few figures, for callers that want one line instead of all endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..analysis.judged import Severity
    from .documents import Report
    from .documents.report import EndpointRow
    from .documents.summary import Rating, Summary


def measured(report: Report) -> list[EndpointRow]:
    """Return the endpoints of a report that finished a request, fastest first."""
    rows = [row for row in report["endpoints"] if row["mean_ms"] is not None]
    return sorted(rows, key=_mean_ms)


def _mean_ms(row: EndpointRow) -> float:
    return row["mean_ms"] or 0.0


def summarise(report: Report) -> Summary:
    """Return the summary of a report."""
    rows = measured(report)
    count = sum(row["count"] for row in rows)
    trials = count + sum(row["killed"] for row in report["endpoints"])
    failed = sum(row["status"]["5xx"] + row["killed"] for row in report["endpoints"])
    total_ms = sum(_mean_ms(row) * row["count"] for row in rows)
    severities = [finding["severity"] for finding in report["bottlenecks"]]
    return {
        "mean_ms": round(total_ms / count, 3) if count else None,
        "p95_ms": max((row["p95_ms"] for row in rows if row["p95_ms"] is not None), default=None),
        "success_rate": round(1 - failed / trials, 4) if trials else None,
        "slowest_endpoint": rows[-1]["endpoint"] if rows else None,
        "fastest_endpoint": rows[0]["endpoint"] if rows else None,
        "total_bottlenecks": len(severities),
        "critical_bottlenecks": severities.count("CRITICAL"),
        "rating": _rating(set(severities)),
    }


def _rating(severities: set[Severity]) -> Rating:
    if "CRITICAL" in severities:
        return "NEEDS_IMPROVEMENT"
    return "ACCEPTABLE" if "WARNING" in severities else "GOOD"
