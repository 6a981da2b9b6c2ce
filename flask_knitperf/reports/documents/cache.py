"""The cache: ``/perf/cache``."""

from typing import Annotated, Literal, TypedDict

from .fields import Count, Field, Megabytes, Moment, Positive, Seconds, Share, Window


class MissedLookups(TypedDict):
    """Look-ups that missed, by reason."""

    cold: Annotated[Count, Field("the key was never cached")]
    capacity: Annotated[Count, Field("the value was evicted for want of room")]
    expired: Annotated[Count, Field("older than its ttl")]
    invalidated: Count
    early: Annotated[Count, Field("loaded again shortly before they expired")]


class StaleShare(TypedDict):
    """Share of the verified hits that were out of date."""

    share: Share
    low: Annotated[Share, Field("lower bound of its 95 % confidence interval")]
    high: Annotated[Share, Field("upper bound")]


class SizeRow(TypedDict):
    """Another size of the cache."""

    factor: Annotated[float, Field("in parts of the present size")]
    hit_rate: Annotated[Share, Field("expected, by simulation")]


class CacheFigures(TypedDict):
    """Use of the cache in the window, by all workers."""

    hits: Annotated[Count, Field("look-ups that were answered from the cache")]
    misses: Annotated[Count, Field("look-ups that were not")]
    hit_rate: Annotated[Share | None, Field("null without a look-up")]
    attainable_rate: Annotated[
        Share | None, Field("the same if there were room for all values; null without a look-up")
    ]
    saved_s: Annotated[
        Seconds | None,
        Field("time that loading would have taken in place of the hits; null where no load was "
              "measured, as of values that the application puts into the cache"),
    ]  # fmt: skip
    load_s: Annotated[Seconds, Field("time of all loads")]
    saved_share: Annotated[
        Share | None, Field("of the time that all loading would have taken without the cache")
    ]
    missed: MissedLookups
    bypassed: Annotated[Count, Field("calls within bypass(), which are not look-ups")]
    refused: Annotated[Count, Field("results that were not cached")]
    unkeyed: Annotated[
        Count, Field("of those, because the load read request data that is not in the key")
    ]
    shared_loads: Annotated[Count, Field("calls that waited for the load of another call")]
    fetched: Annotated[Count, Field("hits whose value another process had loaded")]
    stale: Annotated[Count, Field("hits that returned an expired value")]
    evicted: Annotated[Count, Field("values that were removed for want of room")]
    warmed: Annotated[
        Count, Field("values that were loaded before a call needed them, which are not misses")
    ]
    saved_s_per_mb: Annotated[
        float | None, Field("saved_s by MB of the values now; null where one of them is unknown")
    ]
    verified: Annotated[Count, Field("hits whose value was loaded again and compared")]
    differed: Annotated[Count, Field("of those, the ones that were out of date")]
    stale_share: Annotated[StaleShare | None, Field("null where none was verified")]
    verify_s: Annotated[Seconds, Field("time of the loads that verified them")]
    overhead_s: Annotated[Seconds, Field("time of keys and copies, estimated for hits")]
    sizes: Annotated[
        list[SizeRow], Field("by size; empty while the cache is not half full in any worker")
    ]
    entries: Annotated[Count | None, Field("values now; null without a live worker")]
    mb: Annotated[
        Megabytes | None, Field("estimated size of the values now; null without a live worker")
    ]
    shared_mb: Annotated[
        Megabytes | None,
        Field("size of further values in files that all workers map, each counted once"),
    ]


class NamespaceRow(CacheFigures):
    """Use of one namespace."""

    namespace: Annotated[str, Field("by default module and name of the cached function")]
    fault: Annotated[str | None, Field("why it never hits; null where it does, or may yet")]
    costs_more: Annotated[
        str | None, Field("that keys and copies took more time than hits saved; null where not")
    ]


class RefusalRow(TypedDict):
    """Results of a namespace that were not cached, by reason."""

    namespace: str
    reason: str
    count: Positive


class UnkeyedReadRow(TypedDict):
    """Read of request data."""

    read: Annotated[str, Field("as it is written in code")]
    where: Annotated[str | None, Field("file:line")]


class UnkeyedReadsRow(TypedDict):
    """A cached function that reads request data which is not in its key."""

    endpoint: Annotated[str | None, Field("null outside of a request that is recorded")]
    method: str | None
    namespace: str
    function: Annotated[str, Field("its module and name")]
    reads: Annotated[list[UnkeyedReadRow], Field("those of the longest loads first")]
    count: Annotated[Positive, Field("results that were not cached")]
    load_s: Annotated[Seconds, Field("time of their loads")]
    text: str
    recommendation: str


class StaleValuesRow(TypedDict):
    """A cached function whose verified hits were out of date."""

    endpoint: str | None
    method: str | None
    namespace: str
    function: Annotated[str, Field("its module and name")]
    kind: Annotated[
        str,
        Field("undeclared: it reads a file or table that depends lacks; unrepeatable: each load "
              "differs; aged: more often than KNITPERF_CACHE_STALE_BUDGET within its ttl; unexplained"),
    ]  # fmt: skip
    source: Annotated[str | None, Field("the file or table that only the new load has read")]
    count: Positive
    verified: Annotated[Positive, Field("verified hits of the namespace")]
    text: str
    recommendation: str


class PatternRow(TypedDict):
    """Use of the keys of an observed cache that have one pattern."""

    pattern: Annotated[
        str, Field("digits are #, words that do not stand in the source are *; empty where unknown")
    ]
    hits: Count
    misses: Count
    repeated: Annotated[
        Count, Field("of the misses, those of a key that had been looked up before")
    ]
    gone: Annotated[Count, Field("of the misses, those of a key that had been written before")]
    writes: Count


class ObservedCacheRow(TypedDict):
    """Use of a cache that the application has itself, by all workers."""

    cache: Annotated[str, Field("its name")]
    hits: Count
    misses: Count
    hit_rate: Annotated[Share | None, Field("null without a look-up")]
    attainable_rate: Annotated[
        Share | None,
        Field("share of look-ups that would hit if nothing were removed; null without a look-up"),
    ]
    writes: Count
    load_s: Annotated[Seconds, Field("time between a missed look-up and the write of its value")]
    saved_s: Annotated[
        Seconds | None, Field("hits times the mean of that time; null where none was seen")
    ]
    fault: Annotated[str | None, Field("why it never hits; null where it does, or may yet")]
    patterns: Annotated[list[PatternRow], Field("the most look-ups first")]


class KeyMismatchRow(TypedDict):
    """A cache that is read under one key and written under another."""

    endpoint: str
    method: str
    cache: str
    read: Annotated[str, Field("pattern of the keys that are read")]
    written: Annotated[str, Field("pattern of the keys that are written")]
    where: Annotated[str | None, Field("file:line of the write")]
    count: Annotated[Positive, Field("missed look-ups that were followed by such a write")]
    load_s: Annotated[Seconds, Field("time between the two")]
    text: str
    recommendation: str


class CacheServer(TypedDict):
    """Use of the server by which hosts share values (KNITPERF_CACHE_URL), by all workers."""

    hits: Annotated[Count, Field("values that were taken from it")]
    misses: Annotated[Count, Field("look-ups without a valid value")]
    rejected: Annotated[
        Count, Field("values that were not signed by this application, or damaged; not decoded")
    ]
    stored: Annotated[Count, Field("values that were written")]
    refused: Annotated[Count, Field("writes that it refused, as a full server does")]
    failures: Annotated[Count, Field("round trips without an answer in time")]
    invalidations: Annotated[Count, Field("that were written")]
    waited_s: Annotated[Seconds, Field("time of all round trips")]


class CacheOptionRow(TypedDict):
    """A function in a cache with one TTL, as each worker has one for itself."""

    ttl_s: Annotated[Seconds | None, Field("null without a TTL")]
    hits: Annotated[Count, Field("calls that would have hit")]
    saved_s: Annotated[Seconds, Field("time that they took")]
    compared: Annotated[Count, Field("of the hits, those whose answer was compared")]
    stale: Annotated[Count, Field("of those, answers that were other ones")]
    stale_share: Annotated[Share | None, Field("null where none was compared")]
    stale_low: Annotated[Share | None, Field("lower end of its interval at 95 %")]
    stale_high: Annotated[Share | None, Field("upper end of its interval at 95 %")]


class WhatIfRow(TypedDict):
    """A function as if it were cached."""

    function: str
    where: Annotated[str | None, Field("file:line")]
    calls: Count
    judged: Annotated[Count, Field("calls that were looked up in simulated caches")]
    time_s: Annotated[Seconds, Field("time of all calls, without those that had no key")]
    options: Annotated[list[CacheOptionRow], Field("by TTL, the shortest first")]
    ttl_s: Annotated[
        Seconds | None, Field("TTL of the recommended option; null without one, or without a TTL")
    ]
    saved_s: Annotated[Seconds | None, Field("by the recommended option; null without one")]
    decorator: Annotated[str | None, Field("to paste above the function; null without an option")]
    text: Annotated[str, Field("the recommendation, or why there is none")]
    recommendation: Annotated[str | None, Field("what would allow to cache it; null where unknown")]


class CacheWorkerRow(TypedDict):
    """Size of the cache of one live worker, against its bound."""

    host: str | None
    pid: int | None
    mb: Annotated[Megabytes, Field("estimated size of its values")]
    max_mb: Annotated[Megabytes, Field("KNITPERF_CACHE_MAX_MB")]
    share: Annotated[Share | None, Field("of the bound; null where that is 0")]


class CacheReport(TypedDict):
    """Response of /perf/cache. Units as in the report."""

    schema: Literal["flask-knitperf/cache/1"]
    generated_at: Moment
    window: Window
    reuse_reads: Annotated[bool, Field("whether KNITPERF_REUSE_READS is on")]
    total: CacheFigures
    namespaces: Annotated[list[NamespaceRow], Field("by saved time")]
    max_namespaces: Annotated[
        Count, Field("namespaces of a worker with a row each; the others share the row <other>")
    ]
    refusals: Annotated[list[RefusalRow], Field("by number; without those in per_user")]
    per_user: Annotated[list[UnkeyedReadsRow], Field("by time of the loads")]
    stale_values: Annotated[list[StaleValuesRow], Field("the most frequent first")]
    observed: Annotated[
        list[ObservedCacheRow], Field("caches of the application itself, the most look-ups first")
    ]
    mismatches: Annotated[list[KeyMismatchRow], Field("by time of the loads")]
    server: Annotated[CacheServer | None, Field("null if it was not used")]
    what_if: Annotated[
        list[WhatIfRow],
        Field(
            "profiled functions that are not cached: recommended ones by saved time, then others"
        ),
    ]
    workers: Annotated[list[CacheWorkerRow], Field("live ones that use the cache")]
    degraded: Annotated[list[str], Field("what could not be measured, in sentences")]
