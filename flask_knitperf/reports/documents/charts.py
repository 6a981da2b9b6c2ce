"""Charts over time: ``/perf/charts``, and parts of them in other documents."""

from typing import Annotated, Literal, TypedDict

from .fields import Count, Field, Milliseconds, Moment, Number, Seconds, Window


class DeployRow(TypedDict):
    """The start of a run."""

    at: Moment
    release: str | None


class Heat(TypedDict):
    """Number of requests by point and band of response times."""

    upper_ms: Annotated[list[Milliseconds], Field("upper bound of each band, fastest first")]
    counts: Annotated[list[list[Count]], Field("of each point, a number for each band")]


class LoadPoint(TypedDict):
    """Requests of all endpoints in one slot of time."""

    at: Annotated[Moment, Field("start of the slot")]
    seconds: Annotated[Seconds, Field("part of the slot that is written: the last one may go on")]
    count: Annotated[Count, Field("finished requests, cold starts included")]
    failed: Annotated[Count, Field("of those, responses with a status of 500 or more")]
    p50_ms: Annotated[Milliseconds | None, Field("null with cold starts only")]
    p95_ms: Milliseconds | None
    p99_ms: Milliseconds | None


SaturationName = Literal["busy_share", "gil_pressure", "queue_p95_ms", "rss_mb"]


class SaturationRow(TypedDict):
    """Use of one resource at the points of the chart."""

    name: SaturationName
    values: Annotated[
        list[Number | None],
        Field("largest of all workers, null where it was not measured; shares as 0 to 1"),
    ]


class EndpointTrend(TypedDict):
    """The p95 of one endpoint in a few slots of time."""

    endpoint: str
    method: str
    p95_ms: Annotated[list[Milliseconds | None], Field("null in slots without requests")]


class Charts(TypedDict):
    """Response of /perf/charts: the application over time, from the history."""

    schema: Literal["flask-knitperf/charts/1"]
    generated_at: Moment
    window: Window
    slot_s: Annotated[Count, Field("length of a slot in seconds")]
    points: Annotated[list[LoadPoint], Field("slots with requests, oldest first")]
    deploys: Annotated[list[DeployRow], Field("oldest first")]
    heat: Annotated[Heat, Field("of the points, cold starts left out")]
    saturation: list[SaturationRow]
    trend_slot_s: Annotated[Count, Field("length of a slot of the endpoints, in seconds")]
    endpoints: Annotated[list[EndpointTrend], Field("those that were requested, in order")]
