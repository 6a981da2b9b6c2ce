"""Statements and connection pools: ``/perf/queries``."""

from typing import Annotated, Literal, TypedDict

from ...metrics.catalogue import RepeatKind
from .fields import Count, Field, Milliseconds, Moment, Number, Positive, Seconds, Window
from .report import Fingerprint, RowsMean, Where


class SenderRow(TypedDict):
    """Executions of a statement by one endpoint and line."""

    endpoint: str
    method: str
    where: Where
    count: Annotated[Positive, Field("executions")]
    mean_ms: Milliseconds
    time_spent_s: Seconds
    rows_mean: RowsMean


class RepeatRow(TypedDict):
    """Repetition of a statement within requests of one endpoint."""

    endpoint: str
    method: str
    kind: Annotated[
        RepeatKind, Field("n_plus_one: once per row; duplicates: again with equal parameters")
    ]
    where: Where
    per_request: Annotated[
        Number, Field("repeated statements per request; of duplicates, all but the first")
    ]
    requests: Annotated[Count, Field("requests that repeat it")]
    time_spent_s: Annotated[Seconds, Field("total of the repeated statements")]
    avoidable_s: Annotated[
        Seconds, Field("what one query per request instead would have saved, with the ORM's work")
    ]


class MissingIndexRow(TypedDict):
    """An index that would avoid a full scan of a table."""

    table: str
    columns: list[str]
    index: Annotated[str, Field("the statement that creates it")]
    seen: Annotated[str, Field("what the plan scans, and for how many rows")]


class Plan(TypedDict):
    """Execution plan of a statement."""

    steps: Annotated[list[str], Field("without parameter values")]
    missing: list[MissingIndexRow]


class QueryRow(TypedDict):
    """Statements with one fingerprint, over all endpoints."""

    shape: Fingerprint
    text: Annotated[str, Field("with ? for values; contains no literal and no parameter")]
    count: Annotated[Positive, Field("executions")]
    errors: Annotated[Count, Field("executions that failed")]
    time_spent_s: Annotated[Seconds, Field("total, fetching included")]
    mean_ms: Milliseconds | None
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p99_ms: Annotated[Milliseconds | None, Field("null below a hundred executions")]
    max_ms: Milliseconds | None
    rows_mean: RowsMean
    failed: Annotated[dict[str, Positive], Field("errors by class of exception")]
    asked_by: Annotated[list[SenderRow], Field("by total time")]
    repeated: Annotated[list[RepeatRow], Field("by total time")]
    plan: Annotated[Plan | None, Field("null where KNITPERF_EXPLAIN did not request it")]


class PoolTimes(TypedDict):
    """Distribution of a duration at a connection pool."""

    count: Count
    total_ms: Milliseconds
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    p99_ms: Milliseconds | None
    max_ms: Milliseconds | None


class PoolLeakRow(TypedDict):
    """Connections that were never returned, by the line that checked them out."""

    where: str | None
    count: Count
    stack: Annotated[list[str], Field("lines of the application that led there, innermost first")]


class PoolSize(TypedDict):
    """Pool size that Little's law recommends, with the figures it follows from."""

    size: Annotated[Count, Field("recommended size of each worker's pool")]
    need: Annotated[Count, Field("connections that Little's law requires")]
    most: Annotated[
        Count | None,
        Field("connections the database can use, where it runs on this machine"),
    ]
    seen: Annotated[
        Count | None,
        Field("most connections that a worker had checked out at once, where its pool had room for "
              "more"),
    ]  # fmt: skip
    checkouts_per_s: Annotated[Number, Field("per worker")]
    held_ms: Annotated[Milliseconds, Field("mean")]
    in_use: Annotated[Number, Field("mean")]
    workers: Count
    text: str


class PoolAdviceRow(PoolSize):
    """Recommended size of one pool, as ``perf.queries.pool_advice()`` returns it."""

    pool: Annotated[str, Field("kind, host and database")]


class PoolRow(TypedDict):
    """Connection pool of one SQLAlchemy engine."""

    pool: Annotated[str, Field("kind, host and database")]
    checkouts: Annotated[Count, Field("by requests")]
    wait: Annotated[PoolTimes, Field("for a connection that was open already")]
    waited_share: Annotated[Number | None, Field("of those, at least a millisecond")]
    hold: Annotated[PoolTimes, Field("from checkout to checkin")]
    in_use_p99: Annotated[Count | None, Field("connections checked out at a checkout, per worker")]
    in_use_max: Annotated[Count | None, Field("connections checked out at a checkout, per worker")]
    size: Count | None
    limit: Annotated[Count | None, Field("size plus overflow")]
    opened: Annotated[Count, Field("connections that had to be opened")]
    opened_ms: Annotated[Milliseconds | None, Field("time to open one, mean")]
    timeouts: Annotated[Count, Field("requests that got no connection in time")]
    invalidated: Annotated[
        dict[str, Positive], Field("invalidated connections by class of exception")
    ]
    leaks: list[PoolLeakRow]
    advice: PoolSize | None


class QueriesReport(TypedDict):
    """Response of /perf/queries. Units as in the report."""

    schema: Literal["flask-knitperf/queries/1"]
    generated_at: Moment
    window: Window
    slow_ms: Annotated[Milliseconds, Field("an execution above this is slow")]
    queries: Annotated[list[QueryRow], Field("by total time")]
    pools: Annotated[list[PoolRow], Field("by total time waited for a connection")]
    told_apart: Annotated[
        dict[str, int], Field("limit of series per worker, by meter; the rest share one series")
    ]
    dropped: Annotated[dict[str, int], Field("observations without a series, by meter")]
    watched: Annotated[bool, Field("whether KNITPERF_QUERIES is on")]
    degraded: Annotated[list[str], Field("what could not be measured, in sentences")]
