"""Habits of endpoints: behaviour that is judged independently of latency, by a table of rules.

Work that is compared with a fixed time (collections, reads of files, statements) counts without its time
on the run queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..core.clock import NS_PER_MS
from ..metrics.catalogue import PartKind, RepeatKind
from ..metrics.histogram import binomial_tail
from .endpoints import Endpoint
from .judged import ALPHA, MIN_REQUESTS, TOLERATED, Judged, Severity, VerdictType
from .latency import Requests, exceeds
from .overload import queued_share, unqueued_share
from .statements import Statement

if TYPE_CHECKING:
    from ..core.settings import Budget, Settings

UNAVAILABLE = ("501", "503")  # statuses by which an application states that it does not serve this
MIN_AVOIDABLE_MS = 10.0  # per request, below which repeated work is not reported
MIN_AVOIDABLE_SHARE = 0.1  # of the time, below which repeated work is not reported
MIN_GC_SHARE = 0.2  # of a request's time, below which GC pauses are not reported


class Habit(NamedTuple):
    """One row of the table of habits: behaviour that is judged independently of latency."""

    type: VerdictType
    severity: Severity
    test: Callable[[Endpoint, Budget, Settings], Judged | None]


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


def _mismatched(row: Endpoint, _: Budget, __: Settings) -> Judged | None:
    """Judge caches that never hit because they are read and written under different keys."""
    if not row.mismatches:
        return None
    count = max(mismatch.count for mismatch in row.mismatches)
    return Judged(count, count, 0.0, float(count), 0.0)


def _is_outdated(row: Endpoint, _: Budget, settings: Settings) -> Judged | None:
    """Judge cached functions whose hits were out of date."""
    if not row.stale_values:
        return None
    first = row.stale_values[0]
    share = first.count / first.use.verified
    return Judged(first.count, first.use.verified, 0.0, share, settings.cache_stale_budget)


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
    Habit("CACHE_STALE", "WARNING", _is_outdated),
    Habit("CACHE_KEY_MISMATCH", "WARNING", _mismatched),
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
