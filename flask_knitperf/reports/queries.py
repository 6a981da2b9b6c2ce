"""The document of statements and connection pools: ``/perf/queries``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..analysis.endpoints import endpoints
from ..analysis.pools import Pool, PoolAdvice, pools
from ..analysis.queries import Query, Repeater, Sender, queries
from ..core.settings import Settings
from ..metrics.catalogue import QUERY_METERS
from ..metrics.histogram import Histogram
from ..storage.windows import Window
from .build import Route, dropped
from .values import MIN_FOR_P99, as_int, in_ms, in_s, moment, rounded, window_document

if TYPE_CHECKING:
    from .documents import queries as types


def build_queries_report(
    window: Window, settings: Settings, routes: Sequence[Route], now: float
) -> types.QueriesReport:
    """Return the statements and connection pools of a window.

    Args:
        window: the totals of all workers.
        settings: thresholds and switches.
        routes: of the application.
        now: seconds since the epoch.
    """
    snapshot, readings = window.snapshot, window.snapshot.readings
    rows = endpoints(readings, settings, routes)
    workers = sum(bool(worker.get("alive")) for worker in snapshot.servers)
    seconds, cores = window.ends - window.begins, os.cpu_count() or 1
    dropped_ = dropped(snapshot)
    return {
        "schema": "flask-knitperf/queries/1",
        "generated_at": moment(now),
        "window": window_document(window),
        "slow_ms": settings.slow_query_ms,
        "queries": [_query(query) for query in queries(readings, rows)],
        "pools": [_pool(pool) for pool in pools(readings, seconds, workers, cores)],
        "told_apart": {meter.short_name: meter.limit for meter in QUERY_METERS},
        "dropped": {
            meter.short_name: dropped_[meter.short_name]
            for meter in QUERY_METERS
            if meter.short_name in dropped_
        },
        "watched": settings.queries,
        "degraded": list(snapshot.degraded),
    }


def _query(query: Query) -> types.QueryRow:
    times, rows_mean = query.fingerprint.times, query.rows_mean
    p50, p95, p99 = times.quantiles((0.5, 0.95, 0.99))
    return {
        "shape": query.fingerprint.id,
        "text": query.fingerprint.text,
        "count": times.count,
        "errors": sum(query.failed.values()),
        "time_spent_s": in_s(times.total),
        "mean_ms": in_ms(times.mean),
        "p50_ms": in_ms(p50),
        "p95_ms": in_ms(p95),
        "p99_ms": in_ms(p99) if times.count >= MIN_FOR_P99 else None,
        "max_ms": in_ms(times.high),
        "rows_mean": rounded(rows_mean, 1),
        "failed": query.failed,
        "asked_by": [_sender(sender) for sender in query.senders],
        "repeated": [_repeater(repeater) for repeater in query.repeaters],
        "plan": _plan(query, rows_mean),
    }


def _sender(sender: Sender) -> types.SenderRow:
    endpoint, statement = sender
    return {
        "endpoint": endpoint.endpoint,
        "method": endpoint.method,
        "where": statement.where or None,
        "count": statement.count,
        "mean_ms": rounded(statement.mean_ms),
        "time_spent_s": rounded(statement.seconds, 6),
        "rows_mean": rounded(statement.rows, 1),
    }


def _repeater(repeater: Repeater) -> types.RepeatRow:
    endpoint, repeat = repeater
    return {
        "endpoint": endpoint.endpoint,
        "method": endpoint.method,
        "kind": repeat.kind,
        "where": repeat.where or None,
        "per_request": rounded(repeat.per_request, 1),
        "requests": repeat.requests,
        "time_spent_s": rounded(repeat.seconds, 6),
        "avoidable_s": rounded(repeat.avoidable_s, 6),
    }


def _plan(query: Query, rows_mean: float | None) -> types.Plan | None:
    plan = query.fingerprint.plan
    if plan is None:
        return None
    missing: list[types.MissingIndexRow] = [
        {"table": index.table, "columns": list(index.columns), "index": index.statement,
         "seen": index.seen}
        for index in query.fingerprint.missing_indexes(rows_mean)
    ]  # fmt: skip
    return {"steps": list(plan["steps"]), "missing": missing}


def _pool(pool: Pool) -> types.PoolRow:
    opened, in_use = pool.opened, pool.in_use
    return {
        "pool": pool.name,
        "checkouts": pool.checkouts,
        "wait": _times(pool.wait),
        "waited_share": rounded(pool.waited_share, 4),
        "hold": _times(pool.hold),
        "in_use_p99": as_int(in_use.quantile(0.99) or 0.0) if in_use.count else None,
        "in_use_max": as_int(in_use.high),
        "size": pool.size,
        "limit": pool.limit,
        "opened": opened.count,
        "opened_ms": in_ms(opened.total / opened.count) if opened.count else None,
        "timeouts": pool.timeouts,
        "invalidated": pool.invalidated,
        "leaks": [
            {"where": leak.where or None, "count": leak.count, "stack": leak.stack}
            for leak in pool.leaks
        ],
        "advice": None if pool.advice is None else _size(pool.advice),
    }


def _times(times: Histogram) -> types.PoolTimes:
    p50, p95, p99 = times.quantiles((0.5, 0.95, 0.99))
    return {
        "count": times.count,
        "total_ms": in_ms(times.total),
        "p50_ms": in_ms(p50),
        "p95_ms": in_ms(p95),
        "p99_ms": in_ms(p99),
        "max_ms": in_ms(times.high),
    }


def _size(advice: PoolAdvice) -> types.PoolSize:
    return {
        "size": advice.size,
        "need": advice.need,
        "most": advice.most,
        "seen": advice.seen,
        "checkouts_per_s": rounded(advice.checkouts_per_s),
        "held_ms": rounded(advice.held_s * 1000),
        "in_use": rounded(advice.in_use),
        "workers": advice.workers,
        "text": advice.text,
    }
