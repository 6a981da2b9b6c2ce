"""Rows of readings: what was recorded, by its meaning; times in nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ..histogram import Histogram
from ..totals import Tally

_EMPTY: Mapping[Any, Any] = MappingProxyType({})
_NO_VALUES = Histogram()  # shared, like every reading not to be changed


class PartReading(NamedTuple):
    """Exclusive time of one part of an endpoint's requests.

    Attributes:
        name: kind, alone or with ``:name``; see :class:`..catalogue.PartKind`.
        wall: of all requests.
        sampled_wall: of requests whose CPU time was sampled.
        sampled_cpu: CPU plus run-queue time of those.
    """

    name: str
    wall: Tally
    sampled_wall: Tally
    sampled_cpu: Tally


class FileReading(NamedTuple):
    """Reads of one file by one line of own code.

    Attributes:
        path: as it is displayed.
        where: ``file:line``, empty where no own code is on the stack.
        state: see :class:`..catalogue.FileState`.
        time: nanoseconds of the reads.
    """

    path: str
    where: str
    state: str
    time: Tally


class WaitReading(NamedTuple):
    """Waits for one thing at one line of own code.

    Attributes:
        part: kind and name; see :data:`..catalogue.WAITS`.
        where: ``file:line``, empty where no own code is on the stack.
        thread: see :class:`..catalogue.WaitThread`.
        time: exclusive nanoseconds.
    """

    part: str
    where: str
    thread: str
    time: Tally


class StatementReading(NamedTuple):
    """Executions of one statement by one line of own code; time includes fetching."""

    fingerprint: str
    where: str
    time: Tally


class RepeatReading(NamedTuple):
    """Repeated statements from one line; see :class:`..catalogue.RepeatKind` and ``RepeatSource``."""

    kind: str
    fingerprint: str
    where: str
    source: str
    time: Tally


class SizeReading(NamedTuple):
    """Warm requests of one class of rows.

    Attributes:
        name: of the class.
        rows: mean number of rows.
        requests: wall time.
    """

    name: str
    rows: float
    requests: Histogram


class LeakReading(NamedTuple):
    """Memory that one worker suspects an endpoint to retain; see :class:`..catalogue.LeakFigure`."""

    bytes_per_request: float
    grown_bytes: float
    pairs: float


class GrowthReading(NamedTuple):
    """Memory trend of one worker; see :class:`..catalogue.GrowthFigure`."""

    grown_bytes: float
    requests: float
    seconds: float
    p_value: float


class GCReading(NamedTuple):
    """Garbage collection pauses of one endpoint's requests, in nanoseconds.

    Attributes:
        endpoint: its name.
        method: HTTP method.
        requests: wall time.
        pauses: within them.
        own: pauses that they triggered themselves.
    """

    endpoint: str
    method: str
    requests: Tally
    pauses: Tally
    own: Tally


class FunctionReading(NamedTuple):
    """Calls of one profiled function; ``where`` is empty for builtins."""

    name: str
    where: str
    calls: Histogram


class JobReading(NamedTuple):
    """One job, times in nanoseconds.

    Attributes:
        name: its name.
        runs: wall time of finished runs.
        failures: runs that failed, by class of the exception.
        last: end of its latest run, seconds since the epoch; ``None`` where unknown.
        cpu: CPU time of the runs in which it was measured.
        parts: exclusive wall time by part.
    """

    name: str
    runs: Histogram
    failures: dict[str, Tally]
    last: float | None
    cpu: Tally
    parts: dict[str, Tally]


class PoolReading(NamedTuple):
    """One connection pool, times in nanoseconds.

    Attributes:
        name: kind, host and database.
        wait: waiting for a connection that the pool had.
        hold: time for which requests held one.
        in_use: connections in use at each checkout.
        opened: checkouts that opened a connection.
        timeouts: checkouts that timed out.
        invalidated: invalidated connections by class of the error.
        size: configured size, ``None`` where unknown.
        limit: configured size plus overflow, ``None`` where unknown.
    """

    name: str
    wait: Histogram
    hold: Histogram
    in_use: Histogram
    opened: Tally
    timeouts: Tally
    invalidated: Mapping[str, int]
    size: float | None
    limit: float | None


class NamespaceReading(NamedTuple):
    """One namespace of the cache.

    Attributes:
        namespace: its name.
        hits: with the nanoseconds that loading would have taken in their place.
        loads: nanoseconds of all loads.
        verifying: nanoseconds of all loads that verify hits.
        overhead: nanoseconds of keys and copies.
        events: number of all other events; see :class:`..catalogue.CacheEvent`.
        entries: number of values by live worker.
        bytes: estimated bytes of the values by live worker.
        mapped: bytes of further values in files that all workers map, by live worker.
        sized: hits and misses in simulated caches, by their sizes in parts of the real one, with the
            nanoseconds of loading.
    """

    namespace: str
    hits: Tally
    loads: Tally
    verifying: Tally
    overhead: Tally
    events: Mapping[str, int]
    entries: Mapping[str, float]
    bytes: Mapping[str, float]
    mapped: Mapping[str, float]
    sized: Mapping[float, tuple[Tally, Tally]]


class TtlReading(NamedTuple):
    """A simulated cache of one function.

    Attributes:
        hits: calls that would have hit, with the time that they took.
        compared: hits whose answer was compared, with the sum of their weights.
        stale: those of them whose answer was another one.
    """

    hits: Tally
    compared: Tally
    stale: int


class WhatIfReading(NamedTuple):
    """A function that is watched as if it were cached, times in nanoseconds.

    Attributes:
        name: of the function.
        where: its ``file:line``, empty for builtins.
        judged: calls that simulated caches looked up.
        beyond: calls of more keys than are judged.
        unkeyed: number of calls without a key.
        by_ttl: simulated caches by TTL in seconds.
        hindered: number of calls by :class:`..catalogue.WhatIfObstacle`.
    """

    name: str
    where: str
    judged: Tally
    beyond: Tally
    unkeyed: int
    by_ttl: Mapping[float, TtlReading]
    hindered: Mapping[str, int]


class GaugeReadings(NamedTuple):
    """Latest values of each worker, by its name; memory in bytes, shares 0 to 1."""

    rss: Mapping[str, float]
    pss: Mapping[str, float]
    peak_rss: Mapping[str, float]
    busy_share: Mapping[str, float]
    gil_pressure: Mapping[str, float]


class RequestHistograms(NamedTuple):
    """Wall time of an endpoint's requests.

    Attributes:
        every: all requests.
        first: the first request of each worker, a cold start.
        solo: warm requests that ran alone in their worker.
        concurrent: warm requests that ran beside others.
        warm: all warm requests.
    """

    every: Histogram
    first: Histogram
    solo: Histogram
    concurrent: Histogram
    warm: Histogram


class ConversationReading(NamedTuple):
    """Websockets or long polls of one endpoint.

    Attributes:
        kind: see :class:`..catalogue.ConversationKind`.
        lengths: their duration.
        failed: number of those that failed.
    """

    kind: str
    lengths: Histogram
    failed: int


class QueueingReading(NamedTuple):
    """Sampled requests above 20 ms, in nanoseconds.

    Attributes:
        included: their wall time.
        excluded: their wall time without that on the run queue.
    """

    included: Histogram
    excluded: Histogram


@dataclass(slots=True)
class EndpointReading:
    """Everything that was recorded of one endpoint and method, in nanoseconds and bytes.

    Attributes:
        endpoint: its name.
        method: HTTP method.
        requests: wall time.
        status: number of requests by class of status.
        failed: number of requests with a status of 500 and above by status, ``5xx`` where it is unknown.
        in_flight: requests in flight now.
        killed: requests that never ended, with their age.
        disconnected: requests whose client left.
        cpu: CPU time of sampled requests.
        sampled_wall: wall time of those.
        run_queue: run-queue time of those.
        contention: time of those in which other threads held the GIL.
        gc: garbage collection pauses.
        gc_own: those that the endpoint's requests triggered.
        bytes_out: bodies of all responses.
        streamed: bodies of streamed ones.
        parts: exclusive times.
        file_reads: reads of files.
        file_bytes: bytes of those by path.
        file_rows: rows of those by path.
        waits: waits for something that has a name, by line.
        queries: statements per request.
        statements: executions by statement and line.
        statement_rows: rows of those by fingerprint.
        repeats: repeated statements.
        repeating: requests with repeats by kind, fingerprint and line, with the time that one statement
            in place of the repeats saves.
        repeating_bound: the same with an upper bound of that time.
        sizes: requests by class of rows.
        leaks: suspicions by worker.
        conversations: websockets and long polls, which ``requests`` excludes.
        queueing: sampled slow requests with and without their time on the run queue, if any.
    """

    endpoint: str
    method: str
    requests: RequestHistograms
    status: dict[str, int]
    failed: dict[str, int]
    in_flight: float
    killed: Tally
    disconnected: Tally
    cpu: Tally
    sampled_wall: Tally
    run_queue: Tally
    contention: Tally
    gc: Tally
    gc_own: Tally
    bytes_out: Tally
    streamed: Tally
    parts: list[PartReading]
    file_reads: Sequence[FileReading] = ()
    file_bytes: Mapping[str, Tally] = field(default_factory=lambda: _EMPTY)
    file_rows: Mapping[str, Tally] = field(default_factory=lambda: _EMPTY)
    waits: Sequence[WaitReading] = ()
    queries: Histogram = field(default_factory=lambda: _NO_VALUES)
    statements: Sequence[StatementReading] = ()
    statement_rows: Mapping[str, Tally] = field(default_factory=lambda: _EMPTY)
    repeats: Sequence[RepeatReading] = ()
    repeating: Mapping[tuple[str, str, str], Tally] = field(default_factory=lambda: _EMPTY)
    repeating_bound: Mapping[tuple[str, str, str], Tally] = field(default_factory=lambda: _EMPTY)
    sizes: Sequence[SizeReading] = ()
    leaks: Mapping[str, LeakReading] = field(default_factory=lambda: _EMPTY)
    conversations: Sequence[ConversationReading] = ()
    queueing: QueueingReading | None = None
