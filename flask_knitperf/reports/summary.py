"""A report in a few figures, for callers that want one line instead of all endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Rating = Literal["GOOD", "ACCEPTABLE", "NEEDS_IMPROVEMENT"]


class Summary(TypedDict):
    """Figures over all endpoints of a report.

    Attributes:
        mean_ms: mean latency of all requests, ``None`` without requests.
        p95_ms: highest p95 of an endpoint.
        success_rate: share of requests with a status below 500.
        slowest_endpoint: the one with the highest mean.
        fastest_endpoint: the one with the lowest mean.
        total_bottlenecks: number of findings.
        critical_bottlenecks: number of critical ones among them.
        rating: by the most severe finding: none or a note, a warning, a critical one.
    """

    mean_ms: float | None
    p95_ms: float | None
    success_rate: float | None
    slowest_endpoint: str | None
    fastest_endpoint: str | None
    total_bottlenecks: int
    critical_bottlenecks: int
    rating: Rating


def measured(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the endpoints of a report that finished a request, fastest first."""
    rows = [row for row in report["endpoints"] if row["mean_ms"] is not None]
    return sorted(rows, key=lambda row: float(row["mean_ms"]))


def summarise(report: Mapping[str, Any]) -> Summary:
    """Return the summary of a report."""
    rows = measured(report)
    count = sum(row["count"] for row in rows)
    trials = count + sum(row["killed"] for row in report["endpoints"])
    failed = sum(row["status"]["5xx"] + row["killed"] for row in report["endpoints"])
    severities = [finding["severity"] for finding in report["bottlenecks"]]
    return {
        "mean_ms": round(sum(row["mean_ms"] * row["count"] for row in rows) / count, 3)
        if count
        else None,
        "p95_ms": max((row["p95_ms"] for row in rows), default=None),
        "success_rate": round(1 - failed / trials, 4) if trials else None,
        "slowest_endpoint": rows[-1]["endpoint"] if rows else None,
        "fastest_endpoint": rows[0]["endpoint"] if rows else None,
        "total_bottlenecks": len(severities),
        "critical_bottlenecks": severities.count("CRITICAL"),
        "rating": _rating(set(severities)),
    }


def _rating(severities: set[str]) -> Rating:
    if "CRITICAL" in severities:
        return "NEEDS_IMPROVEMENT"
    return "ACCEPTABLE" if "WARNING" in severities else "GOOD"
