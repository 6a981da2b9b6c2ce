"""Catalogue: every meter and every kind of evidence that flask_knitperf records.

Collectors record through these declarations, and :mod:`.readings` reads through them, so that a name or
a label that changes here changes on both sides, or fails to import.

Names carry the room of what they measure (``sql.query``), so that none reads like the key of a document.
Meters of one endpoint begin with the labels ``endpoint`` and ``method``: :class:`.totals.Totals` groups
them by those two. Counters of time count what happened and sum its nanoseconds.
"""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple, TypedDict

from .instruments import Evidence, Kind, Merge, Meter

# -- values of labels ----------------------------------------------------------------------------------


class StatusClass(StrEnum):
    """Class of an HTTP status."""

    SUCCESS = "2xx"
    REDIRECT = "3xx"
    CLIENT_ERROR = "4xx"
    SERVER_ERROR = "5xx"


FAILURE_STATUSES = frozenset(str(int(status)) for status in HTTPStatus if status >= 500)
"""Statuses of failures that the label ``status`` has exactly; others are ``5xx``."""


class Queueing(StrEnum):
    """Whether a duration includes the time on the run queue."""

    INCLUDED = "included"
    EXCLUDED = "excluded"


class ConversationKind(StrEnum):
    """Kind of a request whose duration is not a response time."""

    WEBSOCKET = "websocket"
    LONG_POLL = "long_poll"  # or a stream of events


class ConversationEnd(StrEnum):
    """End of a conversation."""

    REGULAR = "regular"
    FAILED = "failed"  # its handler raised, or its worker ended


class When(StrEnum):
    """Concurrency of a request within its worker."""

    FIRST = "first"  # the worker's first request of its endpoint, a cold start
    SOLO = "solo"  # no other request was in flight meanwhile
    CONCURRENT = "concurrent"  # others were


class PartKind(StrEnum):
    """Kind of a part of a request: the label ``part`` is it alone, or with ``:name`` behind it."""

    SECTION = "section"
    HOOK = "hook"  # a before_request function
    AFTER = "after"  # an after_request function
    ERROR = "error"  # an error handler
    TEARDOWN = "teardown"  # a teardown function
    RENDER = "render"
    SQL = "sql"
    EXPLAIN = "explain"
    POOL = "pool"
    FILE_READ = "file_read"
    CACHE = "cache"
    CACHE_HIT = "cache_hit"  # counted, without time
    CACHE_LOAD = "cache_load"  # counted; its time is that of the function
    HTTP = "http"  # calls of another service, by its host
    CONNECT = "connect"  # opening connections, by host
    DNS = "dns"  # resolution of the name of a host
    SUBPROCESS = "subprocess"  # waiting for a program, by its name
    SLEEP = "sleep"  # in own code, or in a library by its name
    THREADS = "threads"  # waiting for the work of a thread pool
    LOCK = "lock"  # waiting for another thread, by kind of object, or in a library by its name


HOOKS = (PartKind.HOOK, PartKind.AFTER, PartKind.ERROR, PartKind.TEARDOWN)
"""Kinds of parts that are functions which Flask calls around a view."""
WAITS = frozenset({
    PartKind.HTTP, PartKind.CONNECT, PartKind.DNS, PartKind.SUBPROCESS, PartKind.SLEEP, PartKind.THREADS,
    PartKind.LOCK, PartKind.POOL,
})  # fmt: skip
"""Kinds of parts in which a request waits for something that has a name."""


class WaitThread(StrEnum):
    """Thread that waits: decides whether the waits of one request can run side by side."""

    REQUEST = "request"  # that of the request: one wait after another
    POOL = "pool"  # one of a pool, for the request
    TASK = "task"  # that of an event loop, in which another wait of its kind ran at the same time


class FileState(StrEnum):
    """State of a file beside the worker's previous read of it."""

    FIRST = "first"  # there was none, or the content has no version
    CHANGED = "changed"
    UNCHANGED = "unchanged"  # this read was avoidable
    REUSABLE = "reusable"  # unchanged too, and KNITPERF_REUSE_READS would have avoided this read
    REUSED = "reused"  # it was not read: the cache of KNITPERF_REUSE_READS had its content


class RepeatKind(StrEnum):
    """Kind of repeated statements within one request."""

    N_PLUS_ONE = "n_plus_one"
    DUPLICATES = "duplicates"


class RepeatSource(StrEnum):
    """Code that sends repeated statements: decides what repairs them."""

    PLAIN = "plain"  # a call
    LAZY = "lazy"  # a lazy attribute of an ORM's object that leads to one object
    LAZY_MANY = "lazy_many"  # one that leads to several


class GrowthFigure(StrEnum):
    """Figures of one worker's memory trend."""

    GROWN_BYTES = "grown_bytes"  # over the judged stretch; 0 where growth is not significant
    REQUESTS = "requests"  # served in that stretch
    SECONDS = "seconds"  # length of that stretch
    P_VALUE = "p_value"


class LeakFigure(StrEnum):
    """Figures of one endpoint that a worker suspects of a leak."""

    BYTES_PER_REQUEST = "bytes_per_request"
    GROWN_BYTES = "grown_bytes"  # over all requests of the worker's life; 0 once it is cleared
    PAIRS = "pairs"  # requests whose retained bytes were measured; 0: inferred by regression


class ObservedEvent(StrEnum):
    """Events of a cache that the application has itself."""

    HIT = "hit"
    MISS = "miss"
    REPEATED = "repeated"  # of the misses, those of a key that had been looked up before
    GONE = "gone"  # of the misses, those of a key that had been written before
    WRITE = "write"
    OTHER = "other"  # a use that is neither, such as pop(), or one of all keys


class CacheEvent(StrEnum):
    """Events of a cache other than hits; each is an attribute of a region."""

    COLD = "cold"  # a miss: the key was never cached
    CAPACITY = "capacity"  # a miss: its value was evicted for want of room
    EXPIRED = "expired"  # a miss
    INVALIDATED = "invalidated"  # a miss
    EARLY = "early"  # a miss: one call loads the value again shortly before it expires
    BYPASSED = "bypassed"  # a call within ``bypass()``, which is not a miss
    REFUSED = "refused"  # a result that was not cached
    UNKEYED = "unkeyed"  # one of those: its load read request data that is not in its key
    SHARED_LOADS = "shared_loads"  # a call that waited for the load of another one
    FETCHED = "fetched"  # a hit whose value another process had loaded
    STALE = "stale"  # a hit that returned an expired value
    EVICTED = "evicted"  # a value that was removed for want of room
    WARMED = "warmed"  # a value that was loaded before a call needed it, which is not a miss
    VERIFIED = "verified"  # a hit whose value was loaded again and compared
    DIFFERED = "differed"  # one of those: the new load had another result


class WhatIfCalls(StrEnum):
    """Calls of a function that is not cached, by what simulated caches do with them."""

    JUDGED = "judged"
    BEYOND = "beyond"  # of more keys than are judged
    UNKEYED = "unkeyed"  # without a key; their time is not known


class WhatIfObstacle(StrEnum):
    """Reasons not to cache a function."""

    UNKEYED = "unkeyed"  # arguments have no key
    REFUSED = "refused"  # its results cannot be cached
    NOTHING = "nothing"  # it returns None
    UNCOMPARED = "uncompared"  # its results cannot be compared, so that their age is not bounded
    READS = "reads"  # it reads request data that its key lacks
    CHANGES = "changes"  # it changes something, which a call from the cache would not


class ServerEvent(StrEnum):
    """Round trips to the server that hosts share, by their outcome."""

    HIT = "hit"  # a value was taken from it
    MISS = "miss"  # a look-up without a value
    REJECTED = "rejected"  # a value that is unsigned, damaged, or in another format
    STORED = "stored"
    REFUSED = "refused"  # a write that it refused, as a full server does
    FAILURE = "failure"  # no answer in time
    INVALIDATION = "invalidation"


CACHE_MISSES = (
    CacheEvent.COLD, CacheEvent.CAPACITY, CacheEvent.EXPIRED, CacheEvent.INVALIDATED, CacheEvent.EARLY,
)  # fmt: skip
"""Events that are misses, by reason."""


# -- requests ------------------------------------------------------------------------------------------

_ENDPOINT = ("endpoint", "method")

# wall time of finished requests; the status of failures is exact, that of others a class
REQUEST = Meter("http.request", Kind.HISTOGRAM, "ns", (*_ENDPOINT, "status", "when"))
# duration of finished websockets and long polls, which REQUEST does not count
CONVERSATION = Meter("http.conversation", Kind.HISTOGRAM, "ns", (*_ENDPOINT, "end", "kind"))
# requests that ended because their worker died or their server timed them out, with their age
KILLED = Meter("http.killed", Kind.COUNTER, "ns", _ENDPOINT)
# requests in flight for over a second, by their start on the worker's monotonic clock; becomes KILLED
# when the worker dies before their end
STARTED = Meter("http.started", Kind.OPEN, "1", _ENDPOINT)
# requests whose client closed the connection before the whole body was sent
DISCONNECTED = Meter("http.disconnected", Kind.COUNTER, "1", _ENDPOINT)
# requests in flight now
IN_FLIGHT = Meter("http.in_flight", Kind.GAUGE, "1", _ENDPOINT)
# CPU time of the sampled requests; the next three divide the same requests' wall time
CPU = Meter("http.cpu", Kind.COUNTER, "ns", _ENDPOINT)
# wall time of the requests whose CPU time was sampled
SAMPLED_WALL = Meter("http.sampled_wall", Kind.COUNTER, "ns", _ENDPOINT)
# time of sampled requests on the run queue: runnable, without a core
RUN_QUEUE = Meter("http.run_queue", Kind.COUNTER, "ns", _ENDPOINT)
MIN_QUEUEING_NS = 20_000_000  # wall time above which QUEUEING has a sampled request
# wall time of sampled requests above that, once with and once without their time on the run queue
QUEUEING = Meter("http.queueing", Kind.HISTOGRAM, "ns", (*_ENDPOINT, "queueing"))
# time of sampled requests in which other threads of the process held the GIL
CONTENTION = Meter("http.contention", Kind.COUNTER, "ns", _ENDPOINT)
# garbage collection pauses within requests, whichever thread triggered them
GC = Meter("http.gc", Kind.COUNTER, "ns", _ENDPOINT)
# those that the request itself triggered
GC_OWN = Meter("http.gc_own", Kind.COUNTER, "ns", _ENDPOINT)
# exclusive wall time of parts
PART = Meter("http.part", Kind.COUNTER, "ns", (*_ENDPOINT, "part"))
# CPU plus run-queue time of parts, in sampled requests
PART_CPU = Meter("http.part_cpu", Kind.COUNTER, "ns", (*_ENDPOINT, "part"))
# exclusive wall time of parts, in sampled requests
PART_WALL = Meter("http.part_wall", Kind.COUNTER, "ns", (*_ENDPOINT, "part"))
# size of response bodies
BYTES_OUT = Meter("http.bytes_out", Kind.COUNTER, "bytes", _ENDPOINT)
# size of those that were streamed
STREAMED = Meter("http.streamed", Kind.COUNTER, "bytes", _ENDPOINT)
# wall time of successful warm requests by class of rows; a class is half a power of two wide
BY_ROWS = Meter("http.by_rows", Kind.HISTOGRAM, "ns", (*_ENDPOINT, "class"), 600)
# rows that those requests worked on
ROWS = Meter("http.rows", Kind.COUNTER, "1", (*_ENDPOINT, "class"), 600)

# -- jobs ----------------------------------------------------------------------------------------------

# in the place of the method in series of endpoints, for parts, statements and file reads of jobs
JOB_METHOD = "<job>"
# wall time of finished runs
JOB = Meter("jobs.job", Kind.HISTOGRAM, "ns", ("job",), 100)
# runs that failed, by class of the exception; JOB counts them too
JOB_FAILED = Meter("jobs.job_failed", Kind.COUNTER, "ns", ("job", "exception"), 300)
# wall clock at the end of the latest run, seconds since the epoch
JOB_LAST = Meter("jobs.job_last", Kind.GAUGE, "1", ("job",), 101, Merge.LATEST)

# -- file reads ----------------------------------------------------------------------------------------

# time of file reads, by the line of own code that caused them and the state of the file
FILE_READ = Meter(
    "files.file_read", Kind.COUNTER, "ns", (*_ENDPOINT, "path", "where", "state"), 1000
)  # fmt: skip
# bytes of those files
FILE_READ_BYTES = Meter("files.file_read_bytes", Kind.COUNTER, "bytes", (*_ENDPOINT, "path"), 1000)
# rows that were read from them
FILE_READ_ROWS = Meter("files.file_read_rows", Kind.COUNTER, "1", (*_ENDPOINT, "path"), 1000)

# -- waits ---------------------------------------------------------------------------------------------

# exclusive time of parts in which requests wait, by the line of own code that waits
WAIT = Meter("waits.wait", Kind.COUNTER, "ns", (*_ENDPOINT, "part", "where", "thread"), 1000)

# -- caches --------------------------------------------------------------------------------------------

# namespaces of a process that are counted by name, the others as OTHER
MAX_NAMESPACES = 200
_NAMESPACE = ("namespace",)

# hits, with the time that loading would have taken in their place; 0 where it was never measured
CACHE_HIT = Meter("cache.cache_hit", Kind.COUNTER, "ns", _NAMESPACE, MAX_NAMESPACES + 1)
# time of loads; an observation is the sum of those since the previous one
CACHE_LOAD = Meter("cache.cache_load", Kind.COUNTER, "ns", _NAMESPACE, MAX_NAMESPACES + 1)
# all other events
CACHE_EVENT = Meter("cache.cache_event", Kind.COUNTER, "1", (*_NAMESPACE, "event"), 2000)
# time of loads that verify hits; an observation is the sum of those since the previous one
CACHE_VERIFY = Meter("cache.cache_verify", Kind.COUNTER, "ns", _NAMESPACE, MAX_NAMESPACES + 1)
# time of keys and copies of values, the same way; that of hits is estimated
CACHE_OVERHEAD = Meter("cache.cache_overhead", Kind.COUNTER, "ns", _NAMESPACE, MAX_NAMESPACES + 1)
# values in the cache now, and their estimated bytes
CACHE_ENTRIES = Meter("cache.cache_entries", Kind.GAUGE, "1", _NAMESPACE, MAX_NAMESPACES + 1)
CACHE_BYTES = Meter("cache.cache_bytes", Kind.GAUGE, "bytes", _NAMESPACE, MAX_NAMESPACES + 1)
# bytes of values in files that all workers map, which are not among them
CACHE_MAPPED_BYTES = Meter(
    "cache.cache_mapped_bytes", Kind.GAUGE, "bytes", _NAMESPACE, MAX_NAMESPACES + 1, Merge.MAX
)  # fmt: skip
# bytes that all values of a worker may take
CACHE_MAX_BYTES = Meter("cache.cache_max_bytes", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)

# round trips to the server that hosts share
CACHE_SERVER = Meter("cache.server", Kind.COUNTER, "ns", ("event",), 10)
_SIMULATED = (*_NAMESPACE, "factor")
# look-ups in simulated caches of other sizes, in parts of the real one: hits, with the time that loading
# would have taken in their place, and misses, with the time of loading
CACHE_SIZED_HIT = Meter("cache.sized_hit", Kind.COUNTER, "ns", _SIMULATED, 1000)
CACHE_SIZED_MISS = Meter("cache.sized_miss", Kind.COUNTER, "ns", _SIMULATED, 1000)

ALL_KEYS = ""  # pattern of events that concern all keys of a cache
# events of caches that the application has itself, by the pattern of their keys
OBSERVED_CACHE = Meter("cache.observed", Kind.COUNTER, "1", ("cache", "pattern", "event"), 2000)
# time between a missed look-up and the write of its value
OBSERVED_LOAD = Meter("cache.observed_load", Kind.COUNTER, "ns", ("cache", "pattern"), 1000)

_WATCHED = ("name", "where")
MAX_WATCHED = 200  # functions of a process that are watched as if they were cached

# calls of functions that are watched as if they were cached, by WhatIfCalls
WHAT_IF_CALLS = Meter("cache.what_if_calls", Kind.COUNTER, "ns", (*_WATCHED, "calls"), 700)
# those of them that would have hit a cache with a TTL in seconds, with the time that they took
WHAT_IF_HIT = Meter("cache.what_if_hit", Kind.COUNTER, "ns", (*_WATCHED, "ttl"), 1500)
# those of the hits whose answer was compared; the value is their weight (caching.what_if)
WHAT_IF_COMPARED = Meter("cache.what_if_compared", Kind.COUNTER, "1", (*_WATCHED, "ttl"), 1500)
# those of them whose answer was another one
WHAT_IF_STALE = Meter("cache.what_if_stale", Kind.COUNTER, "1", (*_WATCHED, "ttl"), 1500)
# calls of functions that should not be cached, by WhatIfObstacle
WHAT_IF_HINDERED = Meter("cache.what_if_hindered", Kind.COUNTER, "1", (*_WATCHED, "obstacle"), 1300)

# -- SQL -----------------------------------------------------------------------------------------------

MAX_FINGERPRINT_TEXT = 1000  # characters of a statement's text that its label keeps

# executions of statements, with fetching, by fingerprint
QUERY = Meter(
    "sql.query", Kind.HISTOGRAM, "ns", ("fingerprint", "text"), 500, longest=MAX_FINGERPRINT_TEXT
)  # fmt: skip
# the same by endpoint and line of own code
QUERY_AT = Meter("sql.query_at", Kind.COUNTER, "ns", (*_ENDPOINT, "fingerprint", "where"), 2000)
# rows that statements returned or changed
QUERY_ROWS = Meter("sql.query_rows", Kind.COUNTER, "1", (*_ENDPOINT, "fingerprint"), 2000)
# statements that failed, by class of the error; QUERY and QUERY_AT count them too
QUERY_FAILED = Meter(
    "sql.query_failed", Kind.COUNTER, "ns", (*_ENDPOINT, "fingerprint", "error"), 500
)
# statements per request, of requests that sent any
QUERIES = Meter("sql.queries", Kind.HISTOGRAM, "1", _ENDPOINT)
# repeated statements (N+1, duplicates)
REPEATED = Meter(
    "sql.repeated", Kind.COUNTER, "ns", (*_ENDPOINT, "kind", "fingerprint", "where", "source"), 500
)  # fmt: skip
# requests with such repeats, with the time that one statement in place of them saves
REPEATING = Meter(
    "sql.repeating", Kind.COUNTER, "ns", (*_ENDPOINT, "kind", "fingerprint", "where"), 500
)  # fmt: skip
# an upper bound of that time
REPEATING_BOUND = Meter(
    "sql.repeating_bound", Kind.COUNTER, "ns", (*_ENDPOINT, "kind", "fingerprint", "where"), 500
)  # fmt: skip
QUERY_METERS = (
    QUERY, QUERY_AT, QUERY_ROWS, QUERY_FAILED, REPEATED, REPEATING, REPEATING_BOUND,
)  # fmt: skip

# waiting for a connection that the pool had
POOL_WAIT = Meter("pool.pool_wait", Kind.HISTOGRAM, "ns", ("pool",), 50)
# time for which a request holds a connection
POOL_HOLD = Meter("pool.pool_hold", Kind.HISTOGRAM, "ns", ("pool",), 50)
# connections in use, at each checkout
POOL_IN_USE = Meter("pool.pool_in_use", Kind.HISTOGRAM, "1", ("pool",), 50)
# checkouts that opened a new connection
POOL_OPENED = Meter("pool.pool_opened", Kind.COUNTER, "ns", ("pool",), 50)
# checkouts that timed out
POOL_TIMEOUTS = Meter("pool.pool_timeouts", Kind.COUNTER, "ns", ("pool",), 50)
# connections that were invalidated, by class of the error
POOL_INVALIDATED = Meter("pool.pool_invalidated", Kind.COUNTER, "1", ("pool", "why"), 100)
# configured size
POOL_SIZE = Meter("pool.pool_size", Kind.GAUGE, "1", ("pool",), 50, Merge.MAX)
# configured size plus overflow
POOL_LIMIT = Meter("pool.pool_limit", Kind.GAUGE, "1", ("pool",), 50, Merge.MAX)

# -- the process ---------------------------------------------------------------------------------------

# time from the proxy's X-Request-Start to the start of the request
QUEUE = Meter("process.queue", Kind.HISTOGRAM, "ns", ())
# calls of profiled functions
FUNCTION = Meter("process.function", Kind.HISTOGRAM, "ns", ("name", "where"), 1000)
# the worker's latest sign of life, seconds on its monotonic clock
HEARTBEAT = Meter("process.heartbeat", Kind.GAUGE, "1", (), 1, Merge.MAX)
# share of the last minute in which the worker had a request in flight
BUSY_SHARE = Meter("process.busy_share", Kind.GAUGE, "1", (), 1, Merge.PER_WORKER)
# share of sampled requests' wall time that was CONTENTION, in the last minute
GIL_PRESSURE = Meter("process.gil_pressure", Kind.GAUGE, "1", (), 1, Merge.PER_WORKER)
# time that flask_knitperf itself adds to a request, measured on one in 64
COST = Meter("process.cost", Kind.COUNTER, "ns", ())
# resident memory
RSS = Meter("memory.rss_bytes", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)
# resident memory, shared pages divided among the processes that share them
PSS = Meter("memory.pss_bytes", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)
# highest resident memory in the worker's life
PEAK_RSS = Meter("memory.peak_bytes", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)
# garbage collections, by generation
GC_PAUSE = Meter("memory.gc_pause", Kind.COUNTER, "ns", ("generation",), 3)
# trend of the worker's allocated memory
GROWTH = Meter("memory.growth", Kind.GAUGE, "1", ("figure",), 12, Merge.PER_WORKER)
# endpoints whose requests probably retain memory
LEAK = Meter("memory.leak", Kind.GAUGE, "bytes", (*_ENDPOINT, "figure"), 60, Merge.PER_WORKER)

# -- evidence ------------------------------------------------------------------------------------------


class NoDetail(TypedDict):
    """Detail of evidence that is complete with its key."""


class ErrorKey(NamedTuple):
    """Key of ERROR.

    Attributes:
        endpoint: whose view raised.
        exception: name of its class.
    """

    endpoint: str
    exception: str


class ErrorDetail(TypedDict):
    """Detail of ERROR: ``file:line`` of the innermost frame of the application."""

    where: str | None


class NeighbourKey(NamedTuple):
    """Key of NEIGHBOUR: endpoint of the slow request, and of one that ran concurrently."""

    victim: str
    culprit: str


class PlanKey(NamedTuple):
    """Key of PLAN."""

    fingerprint: str


class ScanDetail(TypedDict):
    """Full table scan under a condition.

    Attributes:
        table: its name.
        columns: of the condition, those compared for equality first.
        rows: read in one pass, ``None`` where unknown.
        exact: whether those were counted, not estimated.
        matching: rows of those that fulfil the condition; ``None`` where unknown.
        passes: number of scans in one execution, ``None`` where unknown.
    """

    table: str
    columns: list[str]
    rows: int | None
    exact: bool
    matching: int | None
    passes: int | None


class PlanDetail(TypedDict):
    """Detail of PLAN: steps as the database prints them, without values, and full table scans."""

    steps: list[str]
    scans: list[ScanDetail]


class PoolLeakKey(NamedTuple):
    """Key of POOL_LEAK: the pool, and ``file:line`` of the checkout, empty where unknown."""

    pool: str
    where: str


class PoolLeakDetail(TypedDict):
    """Detail of POOL_LEAK: lines of own code that checked the connection out, innermost first."""

    stack: list[str]


class FreezeKey(NamedTuple):
    """Key of FREEZE: name of the worker."""

    worker: str


class FreezeDetail(TypedDict):
    """Detail of FREEZE: frozen objects, and the time of a full collection before and after."""

    objects: int
    before_ns: int
    after_ns: int


class ReliefKey(NamedTuple):
    """Key of RELIEF: name of the worker, seconds since the epoch, and the step."""

    worker: str
    at: int
    step: str


class ReliefDetail(TypedDict):
    """Detail of RELIEF.

    Attributes:
        dropped: entries of caches that were removed.
        before: RSS in bytes.
        after: RSS in bytes at the end of the step.
        collected: bytes by which RSS fell during the collection.
        trimmed: bytes by which RSS fell when free memory was returned to the system.
        objects: unreachable objects that were found.
        pause_ns: time for which all threads stood still.
        next_in_seconds: earliest next step.
        why: the reason, for the report.
    """

    dropped: int
    before: int
    after: int
    collected: int
    trimmed: int
    objects: int
    pause_ns: int
    next_in_seconds: float
    why: str


class ReliefStep(StrEnum):
    """Steps that relieve a worker's memory."""

    CACHES = "caches"
    COLLECT = "collect"


class RefusalKey(NamedTuple):
    """Key of CACHE_REFUSAL: the namespace, and why results were not cached."""

    namespace: str
    reason: str


class DifferenceKind(StrEnum):
    """Causes of a difference between a cached value and a new load."""

    UNDECLARED = "undeclared"  # it reads a file or table that its option ``depends`` lacks
    UNREPEATABLE = "unrepeatable"  # two loads one after the other differ
    AGED = "aged"  # it has a TTL, and its source changed before that
    UNEXPLAINED = "unexplained"  # it never expires, and reads nothing that could be detected


class DifferenceKey(NamedTuple):
    """Key of CACHE_DIFFERENCE.

    Attributes:
        endpoint: of the request.
        method: of the request.
        namespace: of the cached function.
        function: module and name of the function.
        kind: the cause.
        source: the file or table that the new load read besides, empty where there is none.
    """

    endpoint: str
    method: str
    namespace: str
    function: str
    kind: str
    source: str


class CacheMismatchKey(NamedTuple):
    """Key of CACHE_MISMATCH.

    Attributes:
        endpoint: of the request.
        method: of the request.
        cache: name of the observed cache.
        read: pattern of the key that was looked up.
        written: pattern of the key that was written.
        where: ``file:line`` of the write, empty where unknown.
    """

    endpoint: str
    method: str
    cache: str
    read: str
    written: str
    where: str


class UnkeyedReadKey(NamedTuple):
    """Key of UNKEYED_READ.

    Attributes:
        endpoint: of the request, empty outside of one.
        method: of the request, empty outside of one.
        namespace: of the cached function.
        function: module and name of the function.
        source: of the read: ``session``, ``request``, ``g`` or ``current_user``.
        name: that was read from it, empty for all of it.
        where: ``file:line`` of the read, empty where unknown.
    """

    endpoint: str
    method: str
    namespace: str
    function: str
    source: str
    name: str
    where: str


class WhatIfKey(NamedTuple):
    """Key of WHAT_IF_OBSTACLE.

    Attributes:
        name: of the function.
        where: its ``file:line``.
        kind: see :class:`WhatIfObstacle`.
        reason: a clause about the function.
        remedy: a sentence without a full stop, empty where there is none.
    """

    name: str
    where: str
    kind: str
    reason: str
    remedy: str


# unhandled exceptions of views; weight: their number
ERROR = Evidence("evidence.error", ErrorKey, ErrorDetail)
# requests in flight beside a slow one at its end; weight: nanoseconds of overlap
NEIGHBOUR = Evidence("evidence.neighbour", NeighbourKey, NoDetail)
# execution plans of slow statements; weight: seconds that the explained execution took
PLAN = Evidence("evidence.plan", PlanKey, PlanDetail)
# connections that outlived their request; weight: nanoseconds since their checkout
POOL_LEAK = Evidence("evidence.pool_leak", PoolLeakKey, PoolLeakDetail)
# gc.freeze() in a warm worker; weight: seconds since the epoch
FREEZE = Evidence("evidence.freeze", FreezeKey, FreezeDetail)
# steps that relieved a worker's memory; weight: seconds since the epoch
RELIEF = Evidence("evidence.relief", ReliefKey, ReliefDetail)
# results that were not cached for another reason than UNKEYED_READ; weight: their number
CACHE_REFUSAL = Evidence("evidence.cache_refusal", RefusalKey, NoDetail)
# hits that were verified and differed from a new load; weight: their number
CACHE_DIFFERENCE = Evidence("evidence.cache_difference", DifferenceKey, NoDetail)
# writes that follow a missed look-up of another key; weight: seconds between the two
CACHE_MISMATCH = Evidence("evidence.cache_mismatch", CacheMismatchKey, NoDetail)
# reads of request data that the key of a cached function lacks; weight: seconds of the loads
UNKEYED_READ = Evidence("evidence.unkeyed_read", UnkeyedReadKey, NoDetail)
# reasons not to cache a function that is watched as if it were; weight: seconds of the calls
WHAT_IF_OBSTACLE = Evidence("evidence.what_if_obstacle", WhatIfKey, NoDetail)

METERS = {meter.name: meter for meter in list(globals().values()) if isinstance(meter, Meter)}
"""All meters by name."""
EVIDENCE = {kind.name: kind for kind in list(globals().values()) if isinstance(kind, Evidence)}
"""All kinds of evidence by name."""
