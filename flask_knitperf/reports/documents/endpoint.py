"""One endpoint in detail: ``/perf/why``."""

from typing import Annotated, Literal, TypedDict

from .charts import DeployRow, Heat
from .comparison import Hours
from .fields import Count, Field, Milliseconds, Moment, Number, Share, Window
from .report import EndpointRow, FindingRow
from .request import RequestRow

Change = Annotated[float, Field(minimum=-1, maximum=1)]


class DifferenceRow(TypedDict):
    """A line that takes another share of slow requests than of normal ones."""

    where: str
    function: str
    slow_share: Share
    normal_share: Share
    change: Annotated[Change, Field("slow_share minus normal_share")]


class ChangedLineRow(TypedDict):
    """Time that a request spends in a line, in two windows."""

    where: str
    function: str
    ms: Annotated[Milliseconds, Field("the line's share of samples times the mean")]
    before_ms: Milliseconds
    change_ms: float


class RequestTables(TypedDict):
    """Single requests that were kept."""

    latest: Annotated[list[RequestRow], Field("newest first")]
    slowest: Annotated[list[RequestRow], Field("slowest first")]


class Against(TypedDict):
    """The endpoint in another window."""

    window: Window
    row: Annotated[EndpointRow | None, Field("null where the endpoint has no data")]
    lines: Annotated[list[ChangedLineRow], Field("largest growth first")]


class PartTimes(TypedDict):
    """Mean time of a request by where it goes; the sum is the mean response time."""

    database: Milliseconds
    files: Milliseconds
    rendering: Milliseconds
    waiting: Annotated[Milliseconds, Field("for other services, programs, threads, locks, sleeps")]
    own: Annotated[Milliseconds, Field("all that is in none of the others")]


class TimelineRow(TypedDict):
    """Requests of one slot of time."""

    at: Annotated[Moment, Field("start of the slot")]
    count: Annotated[Count, Field("cold starts included")]
    p50_ms: Annotated[Milliseconds | None, Field("without cold starts; null where all were")]
    p95_ms: Milliseconds | None
    p99_ms: Milliseconds | None
    usual_low_ms: Annotated[
        Milliseconds | None,
        Field("lower bound of the usual p95 of this hour of the week; null before a week was seen"),
    ]
    usual_high_ms: Annotated[Milliseconds | None, Field("its upper bound")]
    failed: Annotated[Count, Field("requests with a status of 500 or more, cold starts included")]
    parts: Annotated[PartTimes, Field("of all requests, cold starts included")]


class StepRow(TypedDict):
    """A day since which the daily p95 is at another level."""

    at: Moment
    before_ms: Annotated[Milliseconds, Field("median of twenty days before")]
    after_ms: Annotated[Milliseconds, Field("median of six days since")]


class DriftRow(TypedDict):
    """A slow change of the daily p95, on days of about the same load."""

    days: Annotated[Count, Field("days that were compared")]
    per_week: Annotated[float, Field("change in a week, as a share of the level at the start")]
    change: Annotated[float, Field("change over all days, as a share of that level")]


class Timeline(TypedDict):
    """The endpoint over time, from the history."""

    slot_s: Annotated[Count, Field("length of a slot in seconds")]
    points: Annotated[list[TimelineRow], Field("slots with requests, oldest first")]
    deploys: Annotated[list[DeployRow], Field("oldest first")]
    steps: Annotated[list[StepRow], Field("oldest first; windows longer than a day")]
    drift: Annotated[DriftRow | None, Field("null without one, and where there is a step")]
    heat: Annotated[Heat, Field("of the points")]


FigureName = Literal["p95", "queries", "database", "cpu", "bytes_out", "files_read", "rows"]


FigureVerdict = Literal["more", "less", "same", "too few"]


class FigureChange(TypedDict):
    """One figure of a request, in two releases."""

    name: Annotated[
        FigureName,
        Field("p95, database and cpu in milliseconds, bytes_out in bytes, the others are numbers"),
    ]
    before: Annotated[Number | None, Field("mean per request, except p95; null where unknown")]
    now: Number | None
    change: Annotated[
        FigureVerdict, Field("of means a tenth or more; of the p95 as in /perf/compare")
    ]


class ReleaseChange(TypedDict):
    """The endpoint since the present release began, and in the release before."""

    release: str
    before: str
    since: Moment
    count: Annotated[Count, Field("requests since then, of the last week at most")]
    count_before: Count
    hours: Annotated[Hours, Field("as in /perf/compare")]
    figures: list[FigureChange]


class EndpointReport(TypedDict):
    """Response of /perf/why. Units as in the report."""

    schema: Literal["flask-knitperf/why/1"]
    window: Window
    endpoint: str
    method: str
    findings: list[FindingRow]
    row: EndpointRow
    difference: Annotated[list[DifferenceRow], Field("largest growth first")]
    sampled: Annotated[bool, Field("whether stacks are sampled")]
    requests: RequestTables
    keeps_requests: Annotated[bool, Field("whether single requests are kept")]
    against: Annotated[Against | None, Field("null where no other window was requested")]
    release_change: Annotated[
        ReleaseChange | None, Field("null without a history, or an earlier release")
    ]
    timeline: Annotated[Timeline | None, Field("null without a history")]
