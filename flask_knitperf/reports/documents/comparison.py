"""Two windows of an application side by side: ``/perf/compare``, ``flask knitperf report --against``."""

from typing import Annotated, Literal, TypedDict

from ...analysis.regression import Change
from .fields import Count, Field, Milliseconds, Moment, Number, Window

Hours = Literal["all", "common", "different"]


class ComparisonRow(TypedDict):
    """One endpoint and method in two windows, without each worker's first requests."""

    endpoint: str
    method: str
    change: Change
    count: Count
    count_before: Count
    needed: Annotated[
        Count, Field("requests in each of the two windows, fewer of which are too few")
    ]
    p50_ms: Milliseconds | None
    p50_before_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p95_before_ms: Milliseconds | None
    ratio: Annotated[Number | None, Field("p95_ms divided by p95_before_ms")]
    ratio_low: Annotated[Number | None, Field("lower end of its 95 % interval; null: unknown")]
    ratio_high: Annotated[Number | None, Field("upper end of its 95 % interval; null: unknown")]


class ComparisonReport(TypedDict):
    """Response of /perf/compare."""

    schema: Literal["flask-knitperf/compare/1"]
    generated_at: Moment
    window: Window
    against: Window
    hours: Annotated[
        Hours,
        Field(
            "all: nothing had to be left out; common: of both windows, the hours of the day (UTC) "
            "that both have a part of; different: those are less than half of the shorter one, or "
            "a window of one run, which has no hours, would have to be cut"
        ),
    ]
    releases: Annotated[list[str], Field("that the history has, the latest first")]
    rows: Annotated[list[ComparisonRow], Field("the slower ones first")]
