"""One row per endpoint and method: its readings as people read them, with thresholds and URL rule.

A row exists as soon as anything was recorded of an endpoint, so an endpoint that only fails, only hangs
or was only ever killed stays in the table.

Two histograms matter most: ``every`` (all requests) is what users saw, ``warm`` (without each worker's
first request) is what verdicts judge, so that cold starts are visible and distort nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..core.clock import NS_PER_MS, NS_PER_S
from ..metrics.catalogue import PartKind, StatusClass
from ..metrics.histogram import Histogram
from ..metrics.readings import Readings
from ..metrics.readings.rows import EndpointReading
from ..metrics.stack_trie import Trie
from ..metrics.totals import Pair, Tally
from .callee_advice import Use
from .file_reads import FileRead, file_reads
from .hot_lines import Line
from .leaks import Leak, leaks
from .observed_caches import KeyMismatch, mismatches, pattern_uses
from .parts import Part, locate, parts
from .scaling import ScalingLaw, scaling_law
from .stale_values import StaleValues, stale_values
from .statements import Repeat, Statement, repeats, statements
from .unkeyed_reads import UnkeyedReads, unkeyed_reads
from .waits import Wait, locate_waits, waits

if TYPE_CHECKING:
    from ..core.settings import Settings

MAX_BARS = 24
"""Bars of a distribution."""
MAX_SCALING_LAWS = 40
"""Endpoints whose scaling law is computed: those with the largest total time."""

Route = tuple[str, str, Iterable[str]]
"""An endpoint, its URL rule and the methods of that rule."""


class Distribution(NamedTuple):
    """Histogram in buckets of equal ratio, fastest first.

    Attributes:
        upper_ms: upper bound of each bucket.
        requests: number in each bucket.
    """

    upper_ms: list[float]
    requests: list[int]


_NO_REQUESTS = Distribution([], [])
_NO_STATUS = {status.value: 0 for status in StatusClass}

OfEndpoint = TypeVar("OfEndpoint", KeyMismatch, StaleValues, UnkeyedReads)


@dataclass(slots=True)
class Endpoint:
    """One endpoint and method. Times are milliseconds, shares 0 to 1.

    Attributes:
        reading: everything that was recorded of it, in nanoseconds and bytes.
        endpoint: its name.
        method: HTTP method.
        every: histogram of all requests, in nanoseconds.
        solo: histogram of warm requests that ran alone in their worker, in nanoseconds.
        concurrent: histogram of warm requests that ran beside others, in nanoseconds.
        warm: histogram of all requests but each worker's first, in nanoseconds.
        status: number of requests by class of status, with every class.
        killed: number of requests that ended with their worker.
        slow_ms: threshold of SLOW_RESPONSE.
        moderate_ms: threshold of MODERATE_RESPONSE.
        excess_s: time that users spent above ``moderate_ms``.
        cpu_share: CPU time as a share of wall time, ``None`` if not measured (async views).
        run_queue_share: run-queue time as a share of wall time.
        contention_share: time in which other threads held the GIL as a share of wall time, ``None`` if
            not measured.
        parts: exclusive times, largest first.
        file_reads: files that it reads, most expensive first.
        statements: SQL statements that it sends, most expensive first.
        repeats: statements that its requests repeat, most expensive first.
        rule: its URL rules, ``None`` where unknown.
        leak: memory that it is suspected to retain.
        scaling_law: growth of its time with the rows that it works on.
        distribution: of all requests.
        sampled: its sampled stacks, ``None`` without any.
        lines: lines of own code in them, most expensive first.
        uses: expensive callees in them with advice, one per line, most expensive first.
        reuses_reads: whether ``KNITPERF_REUSE_READS`` is on.
        waits: waits for services, programs and the like, longest first.
        stale_values: cached functions whose hits were out of date, the most frequent first.
        mismatches: caches that are read and written under different keys, longest loads first.
        unkeyed_reads: request data that cached functions read beyond their keys, longest loads first.
    """

    reading: EndpointReading
    endpoint: str = field(init=False)
    method: str = field(init=False)
    every: Histogram = field(init=False)
    solo: Histogram = field(init=False)
    concurrent: Histogram = field(init=False)
    warm: Histogram = field(init=False)
    status: dict[str, int] = field(init=False)
    killed: int = field(init=False)
    slow_ms: float
    moderate_ms: float
    excess_s: float
    cpu_share: float | None
    run_queue_share: float
    contention_share: float | None
    parts: list[Part]
    file_reads: list[FileRead]
    statements: list[Statement]
    repeats: list[Repeat]
    rule: str | None = None
    leak: Leak | None = None
    scaling_law: ScalingLaw | None = None
    distribution: Distribution = _NO_REQUESTS
    sampled: Trie | None = None
    lines: Sequence[Line] = ()
    uses: Sequence[Use] = ()
    reuses_reads: bool = False
    waits: Sequence[Wait] = ()
    stale_values: Sequence[StaleValues] = ()
    mismatches: Sequence[KeyMismatch] = ()
    unkeyed_reads: Sequence[UnkeyedReads] = ()

    def __post_init__(self) -> None:
        self.endpoint, self.method = self.reading.endpoint, self.reading.method
        self.every, _, self.solo, self.concurrent, self.warm = self.reading.requests
        self.status = {**_NO_STATUS, **self.reading.status}
        self.killed = self.reading.killed.count

    # -- requests ------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Number of finished requests."""
        return self.every.count

    @property
    def finished(self) -> int:
        """Number of finished requests, websockets and long polls."""
        return self.count + sum(kind.lengths.count for kind in self.reading.conversations)

    @property
    def trials(self) -> int:
        """Number of everything that ended or was killed, and so succeeded or failed."""
        return self.finished + self.killed

    @property
    def in_flight(self) -> int:
        """Number of requests in flight now."""
        return round(self.reading.in_flight)

    @property
    def disconnected(self) -> int:
        """Number of requests whose client disconnected."""
        return self.reading.disconnected.count

    @property
    def failed_requests(self) -> int:
        """Number of responses with a status of 500 and above, and of killed requests."""
        return self.status[StatusClass.SERVER_ERROR] + self.killed

    @property
    def failures(self) -> int:
        """Number of failed requests, websockets and long polls."""
        return self.failed_requests + sum(kind.failed for kind in self.reading.conversations)

    @property
    def success_rate(self) -> float | None:
        """Share of requests with a status below 500 (a killed one has none)."""
        trials = self.count + self.killed
        return 1 - self.failed_requests / trials if trials else None

    @property
    def time_spent_s(self) -> float:
        """Total seconds of all requests, killed ones with their age."""
        return (self.every.total + self.reading.killed.total) / NS_PER_S

    def share(self, seconds: float) -> float:
        """Return a time as a share of :attr:`time_spent_s`, 0 to 1."""
        return min(1.0, seconds / self.time_spent_s) if self.time_spent_s else 0.0

    # -- time of a request ---------------------------------------------------------------------------

    @property
    def mean_ms(self) -> float | None:
        """Mean wall time of a request."""
        return None if self.every.mean is None else self.every.mean / NS_PER_MS

    @property
    def cpu_ms(self) -> float | None:
        """Mean CPU time of a request, ``None`` if not measured."""
        return None if self.cpu_share is None else self.cpu_share * (self.mean_ms or 0.0)

    @property
    def wait_ms(self) -> float | None:
        """Mean time of a request off the CPU, ``None`` if not measured."""
        return None if self.cpu_share is None else (1 - self.cpu_share) * (self.mean_ms or 0.0)

    @property
    def gc_ms(self) -> float:
        """Mean time of a request in garbage collection pauses."""
        return self.reading.gc.total / self.count / NS_PER_MS if self.count else 0.0

    @property
    def gc_own_ms(self) -> float:
        """Mean time of a request in pauses that its own objects triggered."""
        return self.reading.gc_own.total / self.count / NS_PER_MS if self.count else 0.0

    # -- responses -----------------------------------------------------------------------------------

    @property
    def unstreamed(self) -> Tally:
        """Number and bytes of responses that are sent in one piece."""
        sent, streamed = self.reading.bytes_out, self.reading.streamed
        return Tally(sent.count - streamed.count, sent.total - streamed.total)


def _share(part: Tally, whole: Tally) -> float | None:
    """Return a total as a share of a whole, 0 to 1; ``None`` where either is unknown."""
    if not part.count or whole.total <= 0:
        return None
    return min(1.0, max(0.0, part.total / whole.total))


def _by_endpoint(rows: Iterable[OfEndpoint]) -> dict[Pair, list[OfEndpoint]]:
    """Return rows by endpoint and method."""
    pairs: dict[Pair, list[OfEndpoint]] = {}
    for row in rows:
        pairs.setdefault((row.endpoint, row.method), []).append(row)
    return pairs


def endpoints(
    readings: Readings, settings: Settings, routes: Iterable[Route] = ()
) -> list[Endpoint]:
    """Return a row for every endpoint and method with any recorded request.

    Args:
        readings: of a run or of a window of one.
        settings: for the thresholds above which time counts as excess.
        routes: of the application's URL map.

    Returns:
        The rows by ``excess_s``, then total time, largest first.
    """
    distributions = _precompute(readings, settings)
    suspected, rules = leaks(readings), _rules(routes)
    unkeyed = _by_endpoint(unkeyed_reads(readings))
    stale = _by_endpoint(stale_values(readings, settings))
    mismatched = _by_endpoint(mismatches(readings, pattern_uses(readings)))
    rows = []
    for reading, distribution in zip(readings.endpoints, distributions, strict=True):
        row = _endpoint(readings, reading, settings)
        row.rule = _rule(rules.get(row.endpoint, []), row.method)
        row.leak = suspected.get((row.endpoint, row.method))
        row.stale_values = stale.get((row.endpoint, row.method), ())
        row.mismatches = mismatched.get((row.endpoint, row.method), ())
        row.unkeyed_reads = unkeyed.get((row.endpoint, row.method), ())
        row.distribution = distribution
        rows.append(row)
    sized = [row for row in rows if row.reading.sizes]
    for row in sorted(sized, key=lambda row: -row.time_spent_s)[:MAX_SCALING_LAWS]:
        row.scaling_law = scaling_law(row.reading.sizes)
    active = [
        row for row in rows if row.finished or row.killed or row.disconnected or row.in_flight
    ]
    return sorted(
        active, key=lambda row: (-row.excess_s, -row.time_spent_s, row.endpoint, row.method)
    )


def _precompute(readings: Readings, settings: Settings) -> list[Distribution]:
    """Compute the statistics that a report needs, for all endpoints in one pass.

    Returns:
        The distribution of each endpoint's requests; its quantiles, deviations, and numbers above the
        thresholds are stored in its histograms.
    """
    every, warm = readings.every_batch(), readings.warm_batch()
    every.quantiles((0.5, 0.95, 0.99))
    every.deviations()
    warm.quantiles((0.95,))
    warm.deviations()
    budgets = [
        settings.budget(reading.endpoint)
        for reading in readings.endpoints
        if len(reading.requests.warm.cells[0])
    ]
    moderate = [budget.moderate_ms * NS_PER_MS for budget in budgets]
    warm.above([budget.slow_ms * NS_PER_MS for budget in budgets])
    warm.above(moderate)
    warm.excess(moderate)
    bars = iter(every.bars(MAX_BARS, NS_PER_MS))
    return [
        Distribution(*next(bars)) if len(reading.requests.every.cells[0]) else _NO_REQUESTS
        for reading in readings.endpoints
    ]


def _endpoint(readings: Readings, reading: EndpointReading, settings: Settings) -> Endpoint:
    budget = settings.budget(reading.endpoint)
    moderate_ns = budget.moderate_ms * NS_PER_MS
    killed_ns = reading.killed.total - reading.killed.count * moderate_ns
    row = Endpoint(
        reading,
        slow_ms=budget.slow_ms,
        moderate_ms=budget.moderate_ms,
        excess_s=(reading.requests.warm.excess(moderate_ns) + max(0.0, killed_ns)) / NS_PER_S,
        cpu_share=_share(reading.cpu, reading.sampled_wall),
        run_queue_share=_share(reading.run_queue, reading.sampled_wall) or 0.0,
        contention_share=_share(reading.contention, reading.sampled_wall),
        parts=parts(reading, readings.function_places),
        file_reads=file_reads(reading),
        statements=statements(readings, reading),
        repeats=repeats(readings, reading),
        reuses_reads=settings.reuse_reads,
        waits=waits(reading),
    )
    locate_waits(row.parts, row.waits)
    if row.file_reads:
        locate(row.parts, PartKind.FILE_READ, row.file_reads[0].where)
    if row.statements:
        locate(row.parts, PartKind.SQL, row.statements[0].where)
    return row


def _rules(routes: Iterable[Route]) -> dict[str, list[tuple[str, Iterable[str]]]]:
    """Return URL rules and their methods by endpoint."""
    rules: dict[str, list[tuple[str, Iterable[str]]]] = {}
    for endpoint, rule, methods in routes:
        rules.setdefault(endpoint, []).append((rule, methods))
    return rules


def _rule(known: list[tuple[str, Iterable[str]]], method: str) -> str | None:
    """Return the rules of an endpoint that allow a method, all of them if none does."""
    fitting = [rule for rule, methods in known if method in methods] or [rule for rule, _ in known]
    return ", ".join(dict.fromkeys(fitting)) or None


class Coverage(NamedTuple):
    """Number of the application's endpoints, and the names of those without requests."""

    total: int
    unseen: list[str]

    @property
    def seen(self) -> int:
        """Number of endpoints with requests."""
        return self.total - len(self.unseen)


def coverage(rows: Iterable[Endpoint], routes: Iterable[Route]) -> Coverage:
    """Return the application's endpoints with and without requests."""
    known = {endpoint for endpoint, _, _ in routes}
    seen = {row.endpoint for row in rows if row.finished or row.killed}
    return Coverage(len(known), sorted(known - seen))
