"""Verdicts on the latency of endpoints, by an exact test.

"p95 above the threshold" fires in a quarter of all cases for an endpoint that is exactly at its
limit (n = 20). So a rule is a test: if only the tolerated share of requests exceeded the threshold, how
likely would this many be? Below 1 % it is a verdict.

A slow endpoint slows its neighbours, since they share a worker and its GIL. Hence requests are recorded
as solo or concurrent, and an endpoint that exceeds its threshold only in concurrent requests is a
victim: it gets ``SLOWED_BY`` with the culprit, and no other verdict on its latency.

On an overloaded machine every endpoint is slow. There time on the run queue does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..core.clock import NS_PER_MS
from ..metrics.histogram import Histogram, binomial_tail
from .endpoints import Endpoint
from .judged import (
    ALPHA,
    MAJORITY,
    MIN_REQUESTS,
    TOLERATED,
    UNMATCHED,
    Judged,
    Severity,
    Verdict,
    VerdictType,
)
from .noisy_neighbours import culprit
from .overload import above_without_queueing

if TYPE_CHECKING:
    from ..core.settings import Budget

MIN_CONTENTION = 0.25  # share of the time that confirms the evidence of few solo requests
MAX_SOLO_P = 0.05  # p-value below which solo requests differ from concurrent ones


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
LATENCY_TYPES = frozenset(rule.type for rule in LATENCY)
IMPLIED_BY = {"MODERATE_RESPONSE": "SLOW_RESPONSE"}  # verdicts that add nothing to another one


def has_enough_requests(row: Endpoint) -> bool:
    """Return whether an endpoint's latency is judged, and it has the requests for a verdict on it."""
    return judged_for_latency(row) and row.warm.count >= MIN_REQUESTS


def judged_for_latency(row: Endpoint) -> bool:
    """Return whether latency is the endpoint's own: not for unmatched paths and redirects."""
    return row.endpoint != UNMATCHED and not (row.count and row.status["3xx"] == row.count)


class LatencyJudge:
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
