"""Result of ``perf.profiler.generate_performance_report()``: the report with a summary."""

from typing import Annotated, Literal, TypedDict

from .fields import Count, Field, Milliseconds, Share
from .report import Report

Rating = Literal["GOOD", "ACCEPTABLE", "NEEDS_IMPROVEMENT"]


class Summary(TypedDict):
    """Figures over all endpoints of a report."""

    mean_ms: Annotated[Milliseconds | None, Field("of all requests, null without requests")]
    p95_ms: Annotated[Milliseconds | None, Field("highest p95 of an endpoint")]
    success_rate: Annotated[Share | None, Field("share of responses with a status below 500")]
    slowest_endpoint: Annotated[str | None, Field("the one with the highest mean")]
    fastest_endpoint: Annotated[str | None, Field("the one with the lowest mean")]
    total_bottlenecks: Annotated[Count, Field("number of findings")]
    critical_bottlenecks: Annotated[Count, Field("number of critical findings")]
    rating: Annotated[
        Rating, Field("by the most severe finding: none or a note, a warning, a critical one")
    ]


class PerformanceReport(Report):
    """The report, with a summary."""

    endpoints_profiled: Annotated[Count, Field("endpoints with requests")]
    summary: Summary
