"""Figures of the last seconds, for pages that are open: ``/perf/live.json``."""

from typing import Annotated, Literal, TypedDict

from .fields import Count, Field, Milliseconds, Moment, Seconds


class LivePoint(TypedDict):
    """Requests that ended within a few seconds."""

    at: Annotated[Moment, Field("end of the slot")]
    sequence: Annotated[Count, Field("of the write that added it")]
    seconds: Annotated[Seconds, Field("length of the slot")]
    count: Count
    failed: Annotated[Count, Field("of those, responses with a status of 500 or more")]


class LiveMinute(TypedDict):
    """Requests that ended within the last minute, or since the page was opened."""

    seconds: Annotated[Seconds, Field("length of that time, a minute at most")]
    count: Count
    failed: Count
    p50_ms: Annotated[Milliseconds | None, Field("null without requests")]
    p95_ms: Milliseconds | None


class Live(TypedDict):
    """Response of /perf/live.json."""

    schema: Literal["flask-knitperf/live/1"]
    sequence: Annotated[Count, Field("larger at each write, 0 before the first one")]
    at: Annotated[Moment, Field("time of the write")]
    interval_s: Annotated[Seconds, Field("time after which the next write is due")]
    writer: Annotated[str, Field("name of the worker that wrote it")]
    run: str
    release: str | None
    workers: Annotated[Count, Field("workers that run")]
    in_flight: Annotated[Count, Field("requests in flight")]
    requests: Annotated[Count, Field("finished requests of the run")]
    pages: Annotated[Count, Field("pages that have polled in the last seconds")]
    firing: Annotated[Count | None, Field("alerts that fire, null where that is unknown")]
    minute: LiveMinute
    points: Annotated[list[LivePoint], Field("oldest first; those after the requested sequence")]
