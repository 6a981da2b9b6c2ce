"""One request: ``/perf/request``, and its row in ``/perf/why``."""

from typing import Annotated, Literal, TypedDict

from .fields import Count, Field, Milliseconds, Moment, Share, extensible


class RequestSummary(TypedDict):
    """Fields that the row and the page of a request share."""

    id: str
    at: Annotated[Moment, Field("when it ended")]
    ms: Milliseconds
    status: Annotated[
        str, Field("three digits, empty where the view raised before a response started")
    ]
    slow: Annotated[bool, Field("above its endpoint's moderate threshold or p99")]
    first: Annotated[bool, Field("its worker's first request to its endpoint")]
    disconnected: bool
    most: Annotated[str | None, Field("its largest part")]
    most_ms: Milliseconds | None
    sampled: Annotated[bool, Field("whether it has stack samples")]


class RequestRow(RequestSummary):
    """One request of an endpoint, as a row of a table."""

    beside: Annotated[str | None, Field("the endpoint that ran alongside it for longest")]


class ConcurrentRow(TypedDict):
    """A request that ran alongside in the same worker."""

    endpoint: str
    method: str
    ms: Annotated[Milliseconds, Field("overlap")]


class RequestPartRow(TypedDict):
    """Total of one kind of part of a request."""

    name: str
    count: Count
    ms: Annotated[Milliseconds, Field("exclusive time")]
    share: Share


@extensible
class EventDetail(TypedDict, total=False):
    """Details that a collector recorded about a part; collectors may add keys."""

    path: Annotated[str | None, Field("of a file read")]
    state: Annotated[
        str | None, Field("of a file read: first, changed, unchanged, reusable or reused")
    ]
    bytes: Annotated[Count | None, Field("of a file read")]
    shape: Annotated[str | None, Field("of a statement: its text, values replaced")]
    error: Annotated[str | None, Field("of a statement: class of the exception")]
    where: Annotated[str | None, Field("file and line of the application's code")]
    rows: Count | None
    calls: Annotated[Count, Field("of equal statements in one part, from the first to the last")]
    total_ms: Annotated[Milliseconds, Field("of equal statements: their total time")]


class EventRow(TypedDict):
    """One part of a request with its start."""

    name: str
    begin_ms: Annotated[Milliseconds, Field("after the start of the request")]
    ms: Annotated[Milliseconds, Field("inclusive time")]
    depth: Annotated[Count, Field("number of parts that it ran inside of")]
    detail: EventDetail | None


class RequestReport(RequestSummary):
    """Response of /perf/request. Units as in the report."""

    schema: Literal["flask-knitperf/request/1"]
    pid: Count
    endpoint: str
    method: str
    rule: str | None
    bytes_out: Count | None
    rows: Annotated[Count | None, Field("rows that it works on, as far as known")]
    cpu_ms: Annotated[Milliseconds | None, Field("null where its CPU time was not sampled")]
    ready_ms: Annotated[Milliseconds | None, Field("runnable, waiting for a core")]
    wait_ms: Annotated[
        Milliseconds | None, Field("other waiting; cpu_ms, ready_ms and wait_ms add up to ms")
    ]
    gc_ms: Milliseconds
    parts: list[RequestPartRow]
    timeline: Annotated[list[EventRow], Field("in order of their start")]
    parts_left_out: Annotated[Count, Field("parts that are in totals only")]
    beside: Annotated[list[ConcurrentRow], Field("longest overlap first")]
