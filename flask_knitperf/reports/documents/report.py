"""The report of a window: ``/perf/report``."""

from typing import Annotated, Literal, TypedDict

from ...analysis.judged import Severity, VerdictType
from ...metrics.catalogue import RepeatKind
from .cache import WhatIfRow
from .cards import CardRow, CauseRow, Saving
from .fields import Count, Field, Milliseconds, Moment, Number, Positive, Seconds, Share, Window

Fingerprint = Annotated[str, Field("identifies statements that differ only in parameter values")]
Where = Annotated[str | None, Field("file and line of the application's code")]
RowsMean = Annotated[Number | None, Field("rows returned or changed per execution, mean")]
Status = Annotated[
    dict[str, Count],
    Field(keys=("2xx", "3xx", "4xx", "5xx"), key_pattern="^([0-9]xx|websocket|long_poll)$"),
]


class WorkerRow(TypedDict):
    """One worker process of the run."""

    host: str | None
    pid: int | None
    started: Moment | None
    alive: bool
    busy_share: Share | None
    gil_pressure: Annotated[
        Share | None,
        Field("share of its requests' time in the last minute spent waiting while other threads "
              "computed"),
    ]  # fmt: skip


class Coverage(TypedDict):
    """Number of the application's endpoints that were called, and the names of the others."""

    endpoints_total: Count
    seen: Count
    unseen: list[str]
    judged: Annotated[
        Count, Field("with enough requests for a verdict on latency; cold starts are left out")
    ]


class PartRow(TypedDict):
    """Exclusive time of one kind of part within the requests of an endpoint."""

    name: str
    ms: Annotated[Milliseconds, Field("per request, mean")]
    share: Annotated[Share, Field("of the endpoint's wall time")]
    count: Annotated[Count, Field("runs of the part")]


class LineRow(TypedDict):
    """One line of the application's code in which sampled time is spent."""

    where: Annotated[str, Field("file:line, or a function of a library")]
    function: str
    share: Annotated[Share, Field("of all samples of the endpoint")]
    running_share: Annotated[Share, Field("of the line's time, on a core or ready for one")]
    seconds: Seconds
    samples: Count
    calls: Annotated[str | None, Field("library function in which most of that time is spent")]


class PatternRow(TypedDict):
    """An expensive call with advice, as sampled."""

    name: str
    where: str
    share: Annotated[Share, Field("of all samples of the endpoint")]
    seconds: Seconds
    samples: Count
    rewrite: Annotated[str, Field("the recommended change")]


class FileReadRow(TypedDict):
    """One file that an endpoint reads at one line."""

    path: str
    where: Where
    count: Annotated[Positive, Field("reads")]
    unchanged: Annotated[Count, Field("reads that returned what the same worker had read before")]
    reused: Annotated[Count, Field("reads that the cache answered (KNITPERF_REUSE_READS)")]
    mean_ms: Milliseconds
    time_spent_s: Annotated[Seconds, Field("total of all reads")]
    avoidable_s: Annotated[Seconds, Field("total of the unchanged reads")]
    bytes_mean: Count | None
    rows_mean: Number | None


class Thresholds(TypedDict):
    """Latency thresholds that apply to an endpoint."""

    slow_ms: Milliseconds
    moderate_ms: Milliseconds


class Distribution(TypedDict):
    """Latency histogram in buckets of equal ratio, fastest first."""

    upper_ms: Annotated[list[Milliseconds], Field("upper bound of each bucket")]
    count: Annotated[list[Count], Field("requests in each bucket")]


class SizeLaw(TypedDict):
    """Law by which an endpoint's time grows with the rows it works on: time = a + b * rows^k."""

    k: Annotated[Number, Field("exponent")]
    low: Annotated[Number, Field("lower bound of the exponent's interval")]
    high: Annotated[Number, Field("upper bound of the exponent's interval")]
    a_ms: Annotated[Milliseconds, Field("time that does not depend on the rows")]
    rows_least: Number
    rows_most: Number
    ms_most: Annotated[Milliseconds, Field("time at rows_most")]
    requests: Count
    passes_ms: Annotated[
        Milliseconds | None, Field("the next threshold that will be exceeded, or 30 s")
    ]
    passes_rows: Annotated[
        Count | None,
        Field("rows at which passes_ms is exceeded, null above a hundred times rows_most"),
    ]


class EndpointQueryRow(TypedDict):
    """Statements with one fingerprint that an endpoint sends from one line."""

    shape: Fingerprint
    text: str
    where: Where
    count: Annotated[Positive, Field("executions")]
    mean_ms: Milliseconds
    time_spent_s: Seconds
    rows_mean: RowsMean


class EndpointRepeatRow(TypedDict):
    """Statements that requests of an endpoint repeat from one line."""

    kind: Annotated[
        RepeatKind, Field("n_plus_one: once per row; duplicates: again with equal parameters")
    ]
    shape: Fingerprint
    text: str
    where: Where
    per_request: Annotated[
        Number, Field("repeated statements per request; of duplicates, all but the first")
    ]
    requests: Annotated[Count, Field("requests that repeat it")]
    time_spent_s: Annotated[Seconds, Field("total of the repeated statements")]
    avoidable_s: Annotated[
        Seconds, Field("what one query per request instead would have saved, with the ORM's work")
    ]


class EndpointQueries(TypedDict):
    """Statements that an endpoint sends to databases."""

    per_request: Annotated[Number, Field("statements per request, mean")]
    max_per_request: Annotated[Count | None, Field("upper bound of the last bucket, within 1.1 %")]
    ms: Annotated[Milliseconds, Field("time in statements per request, mean")]
    asked: Annotated[list[EndpointQueryRow], Field("most expensive first, at most ten")]
    repeated: Annotated[list[EndpointRepeatRow], Field("most expensive first, at most ten")]


class LeakRow(TypedDict):
    """Memory that requests of an endpoint are suspected to retain."""

    kb_per_request: Annotated[Number, Field("units of 1024 bytes")]
    grown_mb: Annotated[Number, Field("total over all requests served, if each retains as much")]
    workers: Annotated[Positive, Field("workers that suspect the endpoint")]
    weighed: Annotated[
        Count, Field("requests whose retained bytes were measured, 0 where it was inferred")
    ]


class ConversationRow(TypedDict):
    """Websockets or long polls of an endpoint, whose duration is not judged."""

    kind: Annotated[str, Field("websocket or long_poll")]
    count: Positive
    failed: Annotated[Count, Field("ended by an exception of their handler, or with their worker")]
    mean_ms: Milliseconds | None
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    max_ms: Milliseconds | None


class EndpointRow(TypedDict):
    """One endpoint and method."""

    endpoint: str
    rule: str | None
    method: str
    count: Annotated[Count, Field("finished requests, websockets and long polls")]
    judged: Annotated[bool, Field("with enough requests for a verdict on latency")]
    in_flight: Count
    killed: Annotated[Count, Field("requests that ended with their worker")]
    disconnected: Annotated[Count, Field("requests whose client closed the connection")]
    status: Status
    conversations: Annotated[
        list[ConversationRow], Field("websockets and long polls, which no other figure includes")
    ]
    success_rate: Annotated[Share | None, Field("share of responses with a status below 500")]
    mean_ms: Milliseconds | None
    min_ms: Milliseconds | None
    max_ms: Milliseconds | None
    stddev_ms: Milliseconds | None
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p99_ms: Annotated[Milliseconds | None, Field("null below a hundred requests")]
    first_ms: Annotated[Milliseconds | None, Field("each worker's first request, mean")]
    cpu_ms: Annotated[Milliseconds | None, Field("own CPU time per request, mean")]
    wait_ms: Annotated[Milliseconds | None, Field("time off the CPU per request, mean")]
    ready_ms: Annotated[Milliseconds | None, Field("of wait_ms: runnable, waiting for a core")]
    gc_ms: Annotated[Milliseconds, Field("garbage collection pauses per request, mean")]
    gc_own_ms: Annotated[
        Milliseconds,
        Field("of gc_ms: collections that started in the request's thread, those above 1 ms"),
    ]
    parts: list[PartRow]
    bytes_out_mean: Number | None
    lines: Annotated[list[LineRow], Field("most expensive first, at most ten")]
    patterns: Annotated[list[PatternRow], Field("most expensive first")]
    file_reads: Annotated[list[FileReadRow], Field("by total time")]
    queries: EndpointQueries | None
    leak: LeakRow | None
    size_law: Annotated[SizeLaw | None, Field("null where the requests follow no law")]
    time_spent_s: Annotated[Seconds, Field("total of all requests")]
    excess_s: Annotated[Seconds, Field("total time above the moderate threshold")]
    thresholds: Thresholds
    distribution: Distribution


class FunctionRow(TypedDict):
    """One profiled function."""

    name: str
    where: str | None
    count: Annotated[Count, Field("calls")]
    mean_ms: Milliseconds | None
    max_ms: Milliseconds | None
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    time_spent_s: Annotated[Seconds, Field("total of all calls")]


class JobPartRow(TypedDict):
    """Exclusive time of one kind of part within the runs of a job."""

    name: str
    ms: Annotated[Milliseconds, Field("per run, mean")]
    share: Annotated[Share, Field("of the job's wall time")]
    count: Annotated[Count, Field("executions of the part")]


class JobRow(TypedDict):
    """One job: a command, a task or a thread's work outside of requests."""

    name: str
    runs: Annotated[Positive, Field("finished runs")]
    failed: Annotated[Count, Field("of those, runs that ended with an exception")]
    failures: Annotated[dict[str, Count], Field("by class of the exception, most frequent first")]
    mean_ms: Milliseconds | None
    max_ms: Milliseconds | None
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    cpu_ms: Annotated[Milliseconds | None, Field("CPU time per run, mean")]
    last: Annotated[Moment | None, Field("end of the latest run")]
    parts: Annotated[list[JobPartRow], Field("by time")]
    time_spent_s: Annotated[Seconds, Field("total of all runs")]


class Queue(TypedDict):
    """Time that requests waited before a worker accepted them."""

    count: Count
    mean_ms: Milliseconds | None
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    max_ms: Milliseconds | None


class NeighbourRow(TypedDict):
    """An endpoint that computed in a worker while another one's slow requests ran there."""

    victim: str
    culprit: str
    computed_s: Annotated[
        Seconds, Field("time the culprit computed during slow requests of the victim")
    ]
    share: Annotated[Share, Field("of all that computed during them")]


class FindingRow(TypedDict):
    """One verdict about an endpoint, with its causes and what to do."""

    endpoint: str
    method: str
    type: VerdictType
    severity: Severity
    text: Annotated[str, Field("the finding in sentences")]
    observed: float | None
    threshold: float | None
    samples: Count
    confidence: str
    why: Annotated[list[CauseRow], Field("largest share first")]
    recommendation: str
    time_spent_s: Annotated[Seconds, Field("total time of the endpoint in the window")]
    saving: Saving | None


class RecommendationRow(TypedDict):
    """One recommendation, with all endpoints that it is for."""

    text: str
    severity: Severity
    endpoints: list[str]
    types: list[str]


class CriterionRow(TypedDict):
    """One target of the scorecard."""

    criterion: str
    target: str
    actual: Annotated[str | None, Field("null where nothing was measured")]
    ok: Annotated[bool | None, Field("null where nothing was measured")]


class Overhead(TypedDict):
    """Cost and limits of the measurement itself."""

    us_per_request: Annotated[Number | None, Field("microseconds, null before it was measured")]
    dropped: Annotated[dict[str, Count], Field("observations without a series, by meter")]
    degraded: Annotated[list[str], Field("what could not be measured, in sentences")]
    sampled: Annotated[bool, Field("whether stacks are sampled: they show the slow lines")]


class Load(TypedDict):
    """Requests of all endpoints together."""

    count: Annotated[Count, Field("finished requests, websockets and long polls left out")]
    failed: Annotated[Count, Field("of those, responses with a status of 500 or more")]
    p50_ms: Annotated[
        Milliseconds | None, Field("cold starts included, as in those of an endpoint")
    ]
    p95_ms: Milliseconds | None
    p99_ms: Annotated[Milliseconds | None, Field("null below a hundred requests")]
    excess_s: Annotated[Seconds, Field("total time above the moderate thresholds")]
    in_flight: Count


class Report(TypedDict):
    """Response of /perf/report.

    Names carry units: _ms milliseconds, _s seconds, _us microseconds; shares and rates are 0 to 1.
    """

    schema: Literal["flask-knitperf/report/1"]
    generated_at: Moment
    window: Window
    workers: list[WorkerRow]
    coverage: Coverage
    load: Load
    endpoints: Annotated[list[EndpointRow], Field("by excess_s, then time_spent_s")]
    functions: Annotated[list[FunctionRow], Field("by total time")]
    jobs: Annotated[list[JobRow], Field("by total time, at most a hundred")]
    queue: Annotated[Queue | None, Field("null where no proxy reports it")]
    neighbours: Annotated[list[NeighbourRow], Field("largest computed_s first")]
    bottlenecks: Annotated[list[FindingRow], Field("most severe first")]
    cards: Annotated[
        list[CardRow], Field("what to fix first: an overloaded machine, then as in bottlenecks")
    ]
    recommendations: list[RecommendationRow]
    cache_advice: Annotated[
        list[WhatIfRow], Field("functions that save most time if they are cached, at most three")
    ]
    scorecard: list[CriterionRow]
    self: Overhead
