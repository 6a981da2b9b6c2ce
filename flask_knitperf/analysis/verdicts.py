"""Verdicts on endpoints, decided by a table of rules and an exact test.

"p95 above the threshold" fires in a quarter of all cases for an endpoint that is exactly at its
limit (n = 20). So a rule tests instead: had only the tolerated share of requests exceeded the
threshold, how likely would this many be? Below 1 % it is a verdict.

A slow endpoint makes its neighbours slow, for they share a worker and its GIL. Hence a request
records whether it ran alone or beside others, and an endpoint that exceeds its threshold only
beside others is a victim: it gets ``SLOWED_BY``, naming the culprit, and no other verdict on its
latency.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..core.clock import NS_PER_MS
from ..metrics.catalogue import RepeatKind
from ..metrics.histogram import Histogram, binomial_tail
from .endpoints import Endpoint
from .noisy_neighbours import NeighbourNote, culprit, weights
from .statements import Statement

if TYPE_CHECKING:
    from ..core.settings import Budget, Settings

ALPHA = 0.01
"""A verdict needs odds below this that it is an accident."""
MIN_REQUESTS = 3
"""Fewer requests than this are not judged."""
TOLERATED = 0.05
"""Share of requests that may exceed a latency threshold: one in twenty, the p95."""
UNMATCHED = "<unmatched>"
HALF = 0.5
NOTABLE_CONTENTION = 0.25
"""Contention above this share of the time confirms what few requests that ran alone suggest."""
UNLIKELY_ALONE = 0.05
WORTH_AVOIDING_MS = 10.0
"""Repeated reads are reported where it costs a request more than this,"""
WORTH_AVOIDING = 0.1
"""and this share of its time."""
NOTABLE_COLLECTING = 0.2
"""Collections are reported where they take this share of a request's time."""

Severity = Literal["CRITICAL", "WARNING", "INFO"]
VerdictType = Literal[
    "SLOW_RESPONSE", "MODERATE_RESPONSE", "LOW_SUCCESS_RATE", "HIGH_VARIANCE", "SLOWED_BY",
    "REPEATED_FILE_READ", "LARGE_RESPONSE", "N_PLUS_ONE", "SLOW_QUERY", "DUPLICATE_QUERIES",
    "TOO_MANY_QUERIES", "LEAK_SUSPECTED", "GC_PAUSES",
]  # fmt: skip
SEVERITIES: dict[str, int] = {"CRITICAL": 0, "WARNING": 1, "INFO": 2}


class Judged(NamedTuple):
    """Result of a rule on some requests.

    Attributes:
        bad: requests that exceed the threshold, of ``n``.
        n: requests judged.
        p: how likely that many would be by accident.
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
        judged: the figures it rests on.
        culprit: for ``SLOWED_BY`` the endpoint to blame, if known.
        culprit_share: its share of all that computed beside the slow requests.
    """

    type: VerdictType
    severity: Severity
    row: Endpoint
    judged: Judged
    culprit: str | None = None
    culprit_share: float | None = None


class Rule(NamedTuple):
    """One row of the verdict table; ``test`` returns ``None`` where the rule does not hold."""

    type: VerdictType
    severity: Severity
    test: Callable[[Histogram, Budget], Judged | None]


class Habit(NamedTuple):
    """One row of the other table: what an endpoint does, however fast it is."""

    type: VerdictType
    severity: Severity
    test: Callable[[Endpoint, Budget, Settings], Judged | None]


def _exceeds(requests: Histogram, limit_ms: float) -> Judged | None:
    n = requests.count
    if n < MIN_REQUESTS:
        return None
    bad = requests.above(limit_ms * NS_PER_MS)
    if bad <= math.floor(n * TOLERATED):  # no more than the median of chance
        return None
    p = binomial_tail(bad, n, TOLERATED)
    if p >= ALPHA:
        return None
    return Judged(bad, n, p, (requests.quantile(1 - TOLERATED) or 0.0) / NS_PER_MS, limit_ms)


def _slow(requests: Histogram, budget: Budget) -> Judged | None:
    return _exceeds(requests, budget.slow_ms)


def _moderate(requests: Histogram, budget: Budget) -> Judged | None:
    return _exceeds(requests, budget.moderate_ms)


def _varies(requests: Histogram, budget: Budget) -> Judged | None:
    """Judge the deviation by the mean, with p99 above the threshold; one outlier is not enough."""
    n, mean, bad = requests.count, requests.mean, requests.above(budget.moderate_ms * NS_PER_MS)
    if n < MIN_REQUESTS or not mean or bad < 2 or bad <= n - math.ceil(0.99 * n):
        return None
    deviation = requests.deviation or 0.0
    if deviation <= budget.variance_ratio * mean:
        return None
    return Judged(bad, n, binomial_tail(bad, n, 0.01), deviation / mean, budget.variance_ratio)


LATENCY: tuple[Rule, ...] = (
    Rule("SLOW_RESPONSE", "CRITICAL", _slow),
    Rule("MODERATE_RESPONSE", "WARNING", _moderate),
    Rule("HIGH_VARIANCE", "WARNING", _varies),
)
SAME_MATTER = {"MODERATE_RESPONSE": "SLOW_RESPONSE"}
"""A verdict that adds nothing to another, which stands before it."""


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
    beside = weights(known, notes)
    for row in known:
        budget = settings.budget(row.endpoint)
        judgements += [
            Verdict(habit.type, habit.severity, row, judged)
            for habit in HABITS if (judged := habit.test(row, budget, settings))
        ]  # fmt: skip
        if judged_for_latency(row):
            judgements += _latency(row, budget, beside)
    return sorted(
        judgements, key=lambda v: (SEVERITIES[v.severity], -v.row.excess_s, -v.row.time_spent_s)
    )


def judged_for_latency(row: Endpoint) -> bool:
    """Return whether latency is the endpoint's own: not for unmatched paths and redirects."""
    return row.endpoint != UNMATCHED and not (row.count and row.status["3xx"] == row.count)


def _fails(row: Endpoint, budget: Budget, _: Settings) -> Judged | None:
    """Judge failures; a first request that fails has failed, so none is left out."""
    trials = row.count + row.killed
    if trials < MIN_REQUESTS:
        return None
    tolerated = 1 - budget.min_success_rate
    if row.failures <= math.floor(trials * tolerated):
        return None
    p = binomial_tail(row.failures, trials, tolerated)
    if p >= ALPHA:
        return None
    return Judged(row.failures, trials, p, 1 - row.failures / trials, budget.min_success_rate)


def _repeats(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    """Judge reads of files that had not changed, where they cost each request a notable time."""
    if not row.file_reads:
        return None
    count = sum(read.count for read in row.file_reads)
    unchanged = sum(read.unchanged for read in row.file_reads)
    if unchanged < MIN_REQUESTS or not row.count:
        return None
    avoidable = sum(read.avoidable_s for read in row.file_reads)
    each_ms = avoidable / row.count * 1000
    if each_ms < WORTH_AVOIDING_MS or avoidable < WORTH_AVOIDING * row.time_spent_s:
        return None
    return Judged(unchanged, count, 0.0, each_ms, WORTH_AVOIDING_MS)


def _large(row: Endpoint, _: Budget, settings: Settings) -> Judged | None:
    """Judge the size of answers that are sent in one piece."""
    size = (row.unstreamed.mean or 0.0) / 1024
    if row.unstreamed.count < MIN_REQUESTS or size <= settings.large_response_kb:
        return None
    return Judged(row.unstreamed.count, row.unstreamed.count, 0.0, size, settings.large_response_kb)


def _repeated_statements(row: Endpoint, kind: str, *, expensive: bool) -> Judged | None:
    """Judge repeated statements; ``expensive``: where they are a notable share of the time."""
    again = [one for one in row.repeats if one.kind == kind and one.requests >= MIN_REQUESTS]
    if not again or not row.count:
        return None
    seconds, requests = sum(one.seconds for one in again), max(one.requests for one in again)
    if expensive != (seconds >= WORTH_AVOIDING * row.time_spent_s):
        return None
    return Judged(
        min(requests, row.count), row.count, 0.0, max(one.per_request for one in again), 1.0
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
    """Judge how many statements requests send, where that is limited."""
    if budget.queries is None or row.reading.queries.count < MIN_REQUESTS:
        return None
    bad = row.reading.queries.above(budget.queries)
    if bad <= math.floor(row.count * TOLERATED):
        return None
    p = binomial_tail(bad, row.count, TOLERATED)
    observed = row.reading.queries.quantile(1 - TOLERATED) or 0.0
    return None if p >= ALPHA else Judged(bad, row.count, p, round(observed), budget.queries)


def _leaks(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    """Judge what requests are suspected to keep for good."""
    leak = row.leak
    if leak is None:
        return None
    n = leak.pairs or row.count
    return Judged(n, n, leak.p_value, leak.bytes_per_request / 1024, 0.0)


def _collects(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    """Judge collections that an endpoint's own objects cause, where they cost it a notable time.

    A collection stops every thread, but it is the one that makes objects in which it begins.
    """
    if row.reading.gc_own.count < MIN_REQUESTS or row.gc_own_ms < WORTH_AVOIDING_MS:
        return None
    if row.gc_own_ms < NOTABLE_COLLECTING * (row.mean_ms or 0.0):
        return None
    bad = min(row.reading.gc_own.count, row.count)
    return Judged(bad, row.count, 0.0, row.gc_own_ms, WORTH_AVOIDING_MS)


def slow_query(row: Endpoint, limit_ms: float) -> Statement | None:
    """Return the statement of an endpoint that is too slow and takes most of its time in that.

    Its executions are judged over all endpoints, as requests are; here it must be slow on the average.
    """
    for statement in row.statements:
        if (
            statement.mean_ms > limit_ms
            and _exceeds(statement.fingerprint.times, limit_ms) is not None
        ):
            return statement
    return None


def _slow_query(row: Endpoint, _: Budget, settings: Settings) -> Judged | None:
    statement = slow_query(row, settings.slow_query_ms)
    return (
        None if statement is None else _exceeds(statement.fingerprint.times, settings.slow_query_ms)
    )


HABITS: tuple[Habit, ...] = (
    Habit("LOW_SUCCESS_RATE", "CRITICAL", _fails),
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


def _latency(row: Endpoint, budget: Budget, beside: dict[str, dict[str, float]]) -> list[Verdict]:
    results = _results(row.warm, budget)
    if not results:
        return []
    if all(_is_victim(row, budget, rule) for rule in LATENCY if rule.type in results):
        if own := _results(row.solo, budget):  # slow by itself too, only less so
            return _verdicts(row, own)
        name, share = culprit(row.endpoint, beside.get(row.endpoint, {}))
        return [Verdict("SLOWED_BY", "INFO", row, _beside(row, budget), name, share)]
    return _verdicts(row, results)


def _results(requests: Histogram, budget: Budget) -> dict[str, Judged]:
    """Return the results of the latency rules on some requests, by type."""
    results: dict[str, Judged] = {}
    for rule in LATENCY:
        if SAME_MATTER.get(rule.type) not in results:
            judged = rule.test(requests, budget)
            if judged is not None:
                results[rule.type] = judged
    return results


def _verdicts(row: Endpoint, results: dict[str, Judged]) -> list[Verdict]:
    return [Verdict(r.type, r.severity, row, results[r.type]) for r in LATENCY if r.type in results]


def _beside(row: Endpoint, budget: Budget) -> Judged:
    requests = row.concurrent if row.concurrent.count else row.warm
    bad, n = requests.above(budget.moderate_ms * NS_PER_MS), requests.count
    p = binomial_tail(bad, n, TOLERATED)
    return Judged(bad, n, p, (requests.quantile(0.95) or 0.0) / NS_PER_MS, budget.moderate_ms)


def _is_victim(row: Endpoint, budget: Budget, rule: Rule) -> bool:
    """Return whether neighbours explain what a rule found."""
    if not row.concurrent.count:
        return False
    if row.solo.count >= MIN_REQUESTS:
        return rule.test(row.solo, budget) is None and _alone_differs(row, budget, rule)
    contention = row.contention_share or 0.0
    deflated_ms = (1 - contention) * (row.warm.mean or 0.0) / NS_PER_MS
    return contention >= HALF and deflated_ms < budget.moderate_ms


def _alone_differs(row: Endpoint, budget: Budget, rule: Rule) -> bool:
    """Return whether requests that ran alone were truly faster, not merely few.

    Either measured contention shows it, or so few slow ones among them would be unlikely if they
    behaved like those beside others. (Three fast requests alone prove nothing for an endpoint of
    which one in twenty is slow.)
    """
    if (row.contention_share or 0.0) >= NOTABLE_CONTENTION:
        return True
    limit = (budget.slow_ms if rule.type == "SLOW_RESPONSE" else budget.moderate_ms) * NS_PER_MS
    rate = row.concurrent.above(limit) / row.concurrent.count
    bad, n = row.solo.above(limit), row.solo.count
    return 1 - binomial_tail(bad + 1, n, rate) < UNLIKELY_ALONE
