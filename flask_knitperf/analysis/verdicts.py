"""Verdicts on endpoints, decided by a table of rules and an exact test.

"p95 above the threshold" fires in a quarter of all cases for an endpoint that is exactly at its
limit (n = 20). So a rule is a test: if only the tolerated share of requests exceeded the threshold, how
likely would this many be? Below 1 % it is a verdict.

A slow endpoint slows its neighbours, since they share a worker and its GIL. Hence requests are recorded
as solo or concurrent, and an endpoint that exceeds its threshold only in concurrent requests is a
victim: it gets ``SLOWED_BY`` with the culprit, and no other verdict on its latency.

On an overloaded machine every endpoint is slow. There time on the run queue does not count. It never
does for work that is compared with a fixed time: collections, reads of files, statements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..core.clock import NS_PER_MS
from ..metrics.catalogue import PartKind, RepeatKind
from ..metrics.histogram import Histogram, binomial_tail
from .endpoints import Endpoint
from .noisy_neighbours import NeighbourNote, culprit, weights
from .overload import above_without_queueing, overload, queued_share, unqueued_share
from .statements import Statement

if TYPE_CHECKING:
    from ..core.settings import Budget, Settings

ALPHA = 0.01  # significance level of a verdict
MIN_REQUESTS = 3  # below which nothing is judged
TOLERATED = 0.05  # share of requests that may exceed a latency threshold: the p95
UNMATCHED = "<unmatched>"
UNAVAILABLE = ("501", "503")  # statuses by which an application states that it does not serve this
MAJORITY = 0.5  # share of the time
MIN_CONTENTION = 0.25  # share of the time that confirms the evidence of few solo requests
MAX_SOLO_P = 0.05  # p-value below which solo requests differ from concurrent ones
MIN_AVOIDABLE_MS = 10.0  # per request, below which repeated work is not reported
MIN_AVOIDABLE_SHARE = 0.1  # of the time, below which repeated work is not reported
MIN_GC_SHARE = 0.2  # of a request's time, below which GC pauses are not reported

Severity = Literal["CRITICAL", "WARNING", "INFO"]
VerdictType = Literal[
    "SLOW_RESPONSE", "MODERATE_RESPONSE", "LOW_SUCCESS_RATE", "REQUEST_KILLED", "HIGH_VARIANCE",
    "SLOWED_BY", "REPEATED_FILE_READ", "LARGE_RESPONSE", "N_PLUS_ONE", "SLOW_QUERY",
    "DUPLICATE_QUERIES", "TOO_MANY_QUERIES", "LEAK_SUSPECTED", "GC_PAUSES", "CACHE_PER_USER",
]  # fmt: skip
SEVERITIES: dict[str, int] = {"CRITICAL": 0, "WARNING": 1, "INFO": 2}


class Judged(NamedTuple):
    """Result of a rule on some requests.

    Attributes:
        bad: number of requests that exceed the threshold, of ``n``.
        n: number of judged requests.
        p: p-value.
        observed: the figure compared with ``threshold``: ms, KB, a number, a rate or a ratio.
        threshold: the configured limit.
    """

    bad: int
    n: int
    p: float
    observed: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule that holds for an endpoint.

    Attributes:
        type: e.g. ``SLOW_RESPONSE``.
        severity: CRITICAL, WARNING or INFO.
        row: the endpoint.
        judged: the result of the test.
        culprit: for ``SLOWED_BY`` the endpoint that causes it, if known.
        culprit_share: its share of the computing beside the slow requests.
    """

    type: VerdictType
    severity: Severity
    row: Endpoint
    judged: Judged
    culprit: str | None = None
    culprit_share: float | None = None


class Requests(NamedTuple):
    """Requests whose latency is judged.

    Attributes:
        times: their wall times.
        row: their endpoint, where its run-queue time is not counted, else ``None``.
    """

    times: Histogram
    row: Endpoint | None = None

    def above(self, limit_ns: float) -> int:
        """Return the number of requests above a limit."""
        if self.row is None:
            return self.times.above(limit_ns)
        return above_without_queueing(self.row, self.times, limit_ns)


class Rule(NamedTuple):
    """One row of the verdict table; ``test`` returns ``None`` where the rule does not hold."""

    type: VerdictType
    severity: Severity
    test: Callable[[Requests, Budget], Judged | None]


class Habit(NamedTuple):
    """One row of the table of habits: behaviour that is judged independently of latency."""

    type: VerdictType
    severity: Severity
    test: Callable[[Endpoint, Budget, Settings], Judged | None]


def exceeds(requests: Requests, limit_ms: float) -> Judged | None:
    """Judge whether more than the tolerated share of requests exceeds a limit in milliseconds."""
    n = requests.times.count
    if n < MIN_REQUESTS:
        return None
    bad = requests.above(limit_ms * NS_PER_MS)
    if bad <= math.floor(n * TOLERATED):  # within the expected number under the tolerated rate
        return None
    p = binomial_tail(bad, n, TOLERATED)
    if p >= ALPHA:
        return None
    return Judged(bad, n, p, (requests.times.quantile(1 - TOLERATED) or 0.0) / NS_PER_MS, limit_ms)


def _slow(requests: Requests, budget: Budget) -> Judged | None:
    return exceeds(requests, budget.slow_ms)


def _moderate(requests: Requests, budget: Budget) -> Judged | None:
    return exceeds(requests, budget.moderate_ms)


def _varies(requests: Requests, budget: Budget) -> Judged | None:
    """Judge the deviation by the mean, with p99 above the threshold; one outlier is not enough."""
    n, mean = requests.times.count, requests.times.mean
    bad = requests.above(budget.moderate_ms * NS_PER_MS)
    if n < MIN_REQUESTS or not mean or bad < 2 or bad <= n - math.ceil(0.99 * n):
        return None
    deviation = requests.times.deviation or 0.0
    if deviation <= budget.variance_ratio * mean:
        return None
    return Judged(bad, n, binomial_tail(bad, n, 0.01), deviation / mean, budget.variance_ratio)


LATENCY: tuple[Rule, ...] = (
    Rule("SLOW_RESPONSE", "CRITICAL", _slow),
    Rule("MODERATE_RESPONSE", "WARNING", _moderate),
    Rule("HIGH_VARIANCE", "WARNING", _varies),
)
IMPLIED_BY = {"MODERATE_RESPONSE": "SLOW_RESPONSE"}  # verdicts that add nothing to another one


def verdicts(
    rows: Iterable[Endpoint], settings: Settings, notes: Iterable[NeighbourNote]
) -> list[Verdict]:
    """Return every verdict, the most severe first, then by time spent above the threshold.

    Args:
        rows: of :func:`.endpoints.endpoints`.
        settings: global thresholds and those of endpoints.
        notes: neighbours of slow requests.
    """
    known, judgements = list(rows), []
    judge = _Judge(weights(known, notes), overloaded=overload(known) is not None)
    for row in known:
        budget = settings.budget(row.endpoint)
        judgements += [
            Verdict(habit.type, habit.severity, row, judged)
            for habit in HABITS if (judged := habit.test(row, budget, settings))
        ]  # fmt: skip
        if judged_for_latency(row):
            judgements += judge.verdicts(row, budget)
    return sorted(
        judgements, key=lambda v: (SEVERITIES[v.severity], -v.row.excess_s, -v.row.time_spent_s)
    )


def has_enough_requests(row: Endpoint) -> bool:
    """Return whether an endpoint's latency is judged, and it has the requests for a verdict on it."""
    return judged_for_latency(row) and row.warm.count >= MIN_REQUESTS


def judged_for_latency(row: Endpoint) -> bool:
    """Return whether latency is the endpoint's own: not for unmatched paths and redirects."""
    return row.endpoint != UNMATCHED and not (row.count and row.status["3xx"] == row.count)


def _fails(row: Endpoint, budget: Budget, settings: Settings) -> Judged | None:
    """Judge failures that are not those of an endpoint that is unavailable on purpose."""
    return None if is_unavailable(row) else _judge_failures(row, budget, settings)


def _is_unavailable(row: Endpoint, budget: Budget, settings: Settings) -> Judged | None:
    """Judge an endpoint that is unavailable on purpose."""
    return _judge_failures(row, budget, settings) if is_unavailable(row) else None


def is_unavailable(row: Endpoint) -> bool:
    """Return whether every request was answered with 501 or 503: the application's own decision."""
    return bool(row.trials) and row.trials == sum(
        row.reading.failed.get(status, 0) for status in UNAVAILABLE
    )


def _judge_failures(row: Endpoint, budget: Budget, _: Settings) -> Judged | None:
    """Judge failures, first requests and conversations included: they may fail too."""
    trials = row.trials
    if trials < MIN_REQUESTS:
        return None
    tolerated = 1 - budget.min_success_rate
    if row.failures <= math.floor(trials * tolerated):
        return None
    p = binomial_tail(row.failures, trials, tolerated)
    if p >= ALPHA:
        return None
    return Judged(row.failures, trials, p, 1 - row.failures / trials, budget.min_success_rate)


def _killed(row: Endpoint, budget: Budget, settings: Settings) -> Judged | None:
    """Judge requests whose worker was killed before their response, after a time that is slow.

    One is enough: no request is too few for its user. A killed worker takes short requests with it too;
    those do not count. Where most requests fail, they are among the failures.
    """
    age_ms = (row.reading.killed.mean or 0.0) / NS_PER_MS
    if (
        not row.killed
        or age_ms < budget.slow_ms
        or _judge_failures(row, budget, settings) is not None
    ):
        return None
    return Judged(row.killed, row.count + row.killed, 0.0, age_ms, budget.slow_ms)


def _repeats(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    """Judge reads of unchanged files that cost each request a notable time."""
    if not row.file_reads:
        return None
    count = sum(read.count for read in row.file_reads)
    unchanged = sum(read.unchanged for read in row.file_reads)
    if unchanged < MIN_REQUESTS or not row.count:
        return None
    avoidable = sum(read.avoidable_s for read in row.file_reads)
    per_request_ms = avoidable / row.count * 1000
    unqueued_ms = per_request_ms * unqueued_share(row, PartKind.FILE_READ)
    if unqueued_ms < MIN_AVOIDABLE_MS or avoidable < MIN_AVOIDABLE_SHARE * row.time_spent_s:
        return None
    return Judged(unchanged, count, 0.0, per_request_ms, MIN_AVOIDABLE_MS)


def _depends_on_user(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    """Judge cached functions that read request data beyond their key; one odd load is not a habit."""
    count = max((read.count for read in row.unkeyed_reads), default=0)
    if count < MIN_REQUESTS:
        return None
    return Judged(count, count, 0.0, float(count), 0.0)


def _large(row: Endpoint, _: Budget, settings: Settings) -> Judged | None:
    """Judge the size of responses that are not streamed."""
    size = (row.unstreamed.mean or 0.0) / 1024
    if row.unstreamed.count < MIN_REQUESTS or size <= settings.large_response_kb:
        return None
    return Judged(row.unstreamed.count, row.unstreamed.count, 0.0, size, settings.large_response_kb)


def _repeated_statements(row: Endpoint, kind: str, *, expensive: bool) -> Judged | None:
    """Judge repeated statements that are (``expensive``) or are not a notable share of the time."""
    repeats = [one for one in row.repeats if one.kind == kind and one.requests >= MIN_REQUESTS]
    if not repeats or not row.count:
        return None
    seconds, requests = (
        sum(one.avoidable_s for one in repeats),
        max(one.requests for one in repeats),
    )
    if expensive != (seconds >= MIN_AVOIDABLE_SHARE * row.time_spent_s):
        return None
    return Judged(
        min(requests, row.count), row.count, 0.0, max(one.per_request for one in repeats), 1.0
    )


def _n_plus_one(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    return _repeated_statements(row, RepeatKind.N_PLUS_ONE, expensive=True)


def _cheap_n_plus_one(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    return _repeated_statements(row, RepeatKind.N_PLUS_ONE, expensive=False)


def _duplicates(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    return _repeated_statements(row, RepeatKind.DUPLICATES, expensive=True)


def _cheap_duplicates(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    return _repeated_statements(row, RepeatKind.DUPLICATES, expensive=False)


def _too_many(row: Endpoint, budget: Budget, _: Settings) -> Judged | None:
    """Judge the number of statements per request against its limit."""
    if budget.queries is None or row.reading.queries.count < MIN_REQUESTS:
        return None
    bad = row.reading.queries.above(budget.queries)
    if bad <= math.floor(row.count * TOLERATED):
        return None
    p = binomial_tail(bad, row.count, TOLERATED)
    observed = row.reading.queries.quantile(1 - TOLERATED) or 0.0
    return None if p >= ALPHA else Judged(bad, row.count, p, round(observed), budget.queries)


def _leaks(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    """Judge the suspected retained bytes of requests."""
    leak = row.leak
    if leak is None:
        return None
    n = leak.pairs or row.count
    return Judged(n, n, leak.p_value, leak.bytes_per_request / 1024, 0.0)


def _collects(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    """Judge garbage collections that an endpoint's own objects cause and that cost it a notable time.

    A collection stops every thread, but starts in the one that creates objects.
    """
    computed_ms = row.gc_own_ms * (1 - queued_share(row))
    if row.reading.gc_own.count < MIN_REQUESTS or computed_ms < MIN_AVOIDABLE_MS:
        return None
    if row.gc_own_ms < MIN_GC_SHARE * (row.mean_ms or 0.0):
        return None
    bad = min(row.reading.gc_own.count, row.count)
    return Judged(bad, row.count, 0.0, row.gc_own_ms, MIN_AVOIDABLE_MS)


def slow_query(row: Endpoint, limit_ms: float) -> Statement | None:
    """Return the slow statement of an endpoint that takes most of its time, ``None`` without one.

    Its executions are judged over all endpoints, as requests are; here its mean must be slow.
    """
    for statement in row.statements:
        if _judge_statement(row, statement, limit_ms) is not None:
            return statement
    return None


def _judge_statement(row: Endpoint, statement: Statement, limit_ms: float) -> Judged | None:
    """Judge a statement by its time without the run queue, where an embedded database computes."""
    unqueued = unqueued_share(row, PartKind.SQL)
    if unqueued <= 0 or statement.mean_ms * unqueued <= limit_ms:
        return None
    judged = exceeds(Requests(statement.fingerprint.times), limit_ms / unqueued)
    return judged and judged._replace(threshold=limit_ms)


def _slow_query(row: Endpoint, _: Budget, settings: Settings) -> Judged | None:
    statement = slow_query(row, settings.slow_query_ms)
    return None if statement is None else _judge_statement(row, statement, settings.slow_query_ms)


HABITS: tuple[Habit, ...] = (
    Habit("LOW_SUCCESS_RATE", "CRITICAL", _fails),
    Habit("LOW_SUCCESS_RATE", "INFO", _is_unavailable),
    Habit("REQUEST_KILLED", "CRITICAL", _killed),
    Habit("CACHE_PER_USER", "WARNING", _depends_on_user),
    Habit("REPEATED_FILE_READ", "WARNING", _repeats),
    Habit("N_PLUS_ONE", "WARNING", _n_plus_one),
    Habit("N_PLUS_ONE", "INFO", _cheap_n_plus_one),
    Habit("SLOW_QUERY", "WARNING", _slow_query),
    Habit("DUPLICATE_QUERIES", "WARNING", _duplicates),
    Habit("DUPLICATE_QUERIES", "INFO", _cheap_duplicates),
    Habit("TOO_MANY_QUERIES", "WARNING", _too_many),
    Habit("LEAK_SUSPECTED", "WARNING", _leaks),
    Habit("GC_PAUSES", "WARNING", _collects),
    Habit("LARGE_RESPONSE", "INFO", _large),
)


class _Judge:
    """Judges the latency of endpoints.

    Args:
        beside: computing beside slow requests, see :func:`.noisy_neighbours.weights`.
        overloaded: whether run-queue time is not counted.
    """

    def __init__(self, beside: dict[str, dict[str, float]], *, overloaded: bool) -> None:
        self._beside = beside
        self._overloaded = overloaded

    def verdicts(self, row: Endpoint, budget: Budget) -> list[Verdict]:
        """Return the verdicts on the latency of one endpoint."""
        results = self._results(row, row.warm, budget)
        if not results:
            return []
        if not all(self._is_victim(row, budget, rule) for rule in LATENCY if rule.type in results):
            return _verdicts(row, results)
        if own := self._results(row, row.solo, budget):  # slow in solo requests too, only less so
            return _verdicts(row, own)
        name, share = culprit(row.endpoint, self._beside.get(row.endpoint, {}))
        return [Verdict("SLOWED_BY", "INFO", row, _concurrently(row, budget), name, share)]

    def _requests(self, row: Endpoint, times: Histogram) -> Requests:
        return Requests(times, row if self._overloaded else None)

    def _results(self, row: Endpoint, times: Histogram, budget: Budget) -> dict[str, Judged]:
        """Return the results of the latency rules on some requests, by type."""
        results: dict[str, Judged] = {}
        for rule in LATENCY:
            if IMPLIED_BY.get(rule.type) not in results:
                judged = rule.test(self._requests(row, times), budget)
                if judged is not None:
                    results[rule.type] = judged
        return results

    def _is_victim(self, row: Endpoint, budget: Budget, rule: Rule) -> bool:
        """Return whether neighbours explain the result of a rule."""
        if not row.concurrent.count:
            return False
        if row.solo.count >= MIN_REQUESTS:
            solo = rule.test(self._requests(row, row.solo), budget)
            return solo is None and _solo_differs(row, budget, rule)
        if row.solo.count and row.solo.above(budget.moderate_ms * NS_PER_MS) == row.solo.count:
            return False  # too few for a verdict, and none of them speaks for it
        contention = row.contention_share or 0.0
        deflated_ms = (1 - contention) * (row.warm.mean or 0.0) / NS_PER_MS
        return contention >= MAJORITY and deflated_ms < budget.moderate_ms


def _verdicts(row: Endpoint, results: dict[str, Judged]) -> list[Verdict]:
    return [Verdict(r.type, r.severity, row, results[r.type]) for r in LATENCY if r.type in results]


def _concurrently(row: Endpoint, budget: Budget) -> Judged:
    requests = row.concurrent if row.concurrent.count else row.warm
    bad, n = requests.above(budget.moderate_ms * NS_PER_MS), requests.count
    p = binomial_tail(bad, n, TOLERATED)
    return Judged(bad, n, p, (requests.quantile(0.95) or 0.0) / NS_PER_MS, budget.moderate_ms)


def _solo_differs(row: Endpoint, budget: Budget, rule: Rule) -> bool:
    """Return whether solo requests were truly faster, not merely few.

    Either measured contention shows it, or this few slow ones among them would be unlikely if they
    behaved like the concurrent ones. (Three fast solo requests prove nothing for an endpoint of which
    one in twenty is slow.)
    """
    if (row.contention_share or 0.0) >= MIN_CONTENTION:
        return True
    limit = (budget.slow_ms if rule.type == "SLOW_RESPONSE" else budget.moderate_ms) * NS_PER_MS
    rate = row.concurrent.above(limit) / row.concurrent.count
    bad, n = row.solo.above(limit), row.solo.count
    return 1 - binomial_tail(bad + 1, n, rate) < MAX_SOLO_P
