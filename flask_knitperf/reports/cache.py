"""The document of the cache: ``/perf/cache``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..analysis.cache_server import ServerUse, server_use
from ..analysis.caches import CacheUse, cache_uses, refusals, total_use
from ..analysis.observed_caches import (
    KeyMismatch,
    PatternUse,
    by_cache,
    mismatches,
    pattern_uses,
)
from ..analysis.stale_values import StaleValues, stale_values
from ..analysis.unkeyed_reads import UnkeyedReads, unkeyed_reads
from ..caching.load_reads import expression
from ..core.intervals import wilson_interval
from ..core.settings import Settings
from ..core.units import MB
from ..metrics.catalogue import MAX_NAMESPACES, CacheEvent, ServerEvent
from ..storage.state_dir import Snapshot
from ..storage.windows import Window
from .cache_advice import what_if_rows
from .values import in_mb, moment, rounded, window_document

if TYPE_CHECKING:
    from .documents import cache as types


def build_cache_report(window: Window, settings: Settings, now: float) -> types.CacheReport:
    """Return the use of the cache in a window.

    Args:
        window: the totals of all workers.
        settings: switches.
        now: seconds since the epoch.
    """
    snapshot, readings = window.snapshot, window.snapshot.readings
    uses, observed = cache_uses(readings), pattern_uses(readings)
    return {
        "schema": "flask-knitperf/cache/1",
        "generated_at": moment(now),
        "window": window_document(window),
        "reuse_reads": settings.reuse_reads,
        "total": _figures(total_use(uses)),
        "namespaces": [
            {
                "namespace": use.name,
                **_figures(use),
                "fault": use.fault or None,
                "costs_more": use.costs_more or None,
            }
            for use in uses
        ],
        "max_namespaces": MAX_NAMESPACES,
        "refusals": [
            {"namespace": row.namespace, "reason": row.reason, "count": row.count}
            for row in refusals(readings)
        ],
        "per_user": [_unkeyed_reads(row) for row in unkeyed_reads(readings)],
        "stale_values": [_stale_values(row) for row in stale_values(readings, settings)],
        "observed": _observed(observed),
        "mismatches": [_mismatch(row) for row in mismatches(readings, observed)],
        "server": _server(server_use(readings)),
        "what_if": what_if_rows(window, settings),
        "workers": _workers(snapshot),
        "degraded": list(snapshot.degraded),
    }


def _figures(use: CacheUse) -> types.CacheFigures:
    missed, events = use.missed, use.events
    return {
        "hits": use.hits,
        "misses": use.misses,
        "hit_rate": rounded(use.hit_rate, 4),
        "attainable_rate": rounded(use.attainable_rate, 4),
        "saved_s": rounded(use.saved_s, 6),
        "load_s": rounded(use.load_s, 6),
        "saved_share": rounded(use.saved_share, 4),
        "missed": {
            "cold": missed[CacheEvent.COLD],
            "capacity": missed[CacheEvent.CAPACITY],
            "expired": missed[CacheEvent.EXPIRED],
            "invalidated": missed[CacheEvent.INVALIDATED],
            "early": missed[CacheEvent.EARLY],
        },
        "bypassed": events[CacheEvent.BYPASSED],
        "refused": events[CacheEvent.REFUSED],
        "unkeyed": events[CacheEvent.UNKEYED],
        "shared_loads": events[CacheEvent.SHARED_LOADS],
        "fetched": events[CacheEvent.FETCHED],
        "stale": events[CacheEvent.STALE],
        "evicted": events[CacheEvent.EVICTED],
        "warmed": events[CacheEvent.WARMED],
        "saved_s_per_mb": rounded(use.saved_s_per_mb, 3),
        "verified": use.verified,
        "differed": use.differed,
        "stale_share": _stale_share(use),
        "verify_s": rounded(use.verify_s, 6),
        "overhead_s": rounded(use.overhead_s, 6),
        "sizes": [
            {"factor": factor, "hit_rate": rounded(rate, 4)}
            for factor, rate in use.rates_by_size.items()
        ],
        "entries": use.entries,
        "mb": _mb(use.bytes),
        "shared_mb": _mb(use.mapped),
    }


def _stale_share(use: CacheUse) -> types.StaleShare | None:
    if not use.verified:
        return None
    share = use.differed / use.verified
    low, high = wilson_interval(share, use.verified)
    return {
        "share": rounded(share, 4),
        "low": rounded(low, 4),
        "high": rounded(high, 4),
    }


def _stale_values(row: StaleValues) -> types.StaleValuesRow:
    return {
        "endpoint": row.endpoint or None,
        "method": row.method or None,
        "namespace": row.namespace,
        "function": row.function,
        "kind": row.kind,
        "source": row.source or None,
        "count": row.count,
        "verified": row.use.verified,
        "text": f"{row.text}.",
        "recommendation": f"{row.repair}.",
    }


def _mb(size: int | None) -> float | None:
    return None if size is None else rounded(size / MB, 3)


def _unkeyed_reads(row: UnkeyedReads) -> types.UnkeyedReadsRow:
    return {
        "endpoint": row.endpoint or None,
        "method": row.method or None,
        "namespace": row.namespace,
        "function": row.function,
        "reads": [
            {"read": expression(*read), "where": where or None} for read, where in row.reads.items()
        ],
        "count": row.count,
        "load_s": rounded(max(0.0, row.seconds), 6),
        "text": f"{row.text}.",
        "recommendation": f"{row.repair}.",
    }


def _observed(uses: Sequence[PatternUse]) -> list[types.ObservedCacheRow]:
    return [
        {
            "cache": name,
            "hits": use.hits,
            "misses": use.misses,
            "hit_rate": rounded(use.hit_rate, 4),
            "attainable_rate": rounded(use.attainable_rate, 4),
            "writes": use.writes,
            "load_s": rounded(use.load_s, 6),
            "saved_s": rounded(use.saved_s, 6),
            "fault": use.fault or None,
            "patterns": [_pattern(row) for row in uses if row.cache == name],
        }
        for name, use in by_cache(uses).items()
    ]


def _server(use: ServerUse | None) -> types.CacheServer | None:
    if use is None:
        return None
    counts = use.counts
    return {
        "hits": counts[ServerEvent.HIT],
        "misses": counts[ServerEvent.MISS],
        "rejected": counts[ServerEvent.REJECTED],
        "stored": counts[ServerEvent.STORED],
        "refused": counts[ServerEvent.REFUSED],
        "failures": counts[ServerEvent.FAILURE],
        "invalidations": counts[ServerEvent.INVALIDATION],
        "waited_s": rounded(max(0.0, use.waited_s), 6),
    }


def _pattern(use: PatternUse) -> types.PatternRow:
    return {
        "pattern": use.pattern,
        "hits": use.hits,
        "misses": use.misses,
        "repeated": use.repeated,
        "gone": use.gone,
        "writes": use.writes,
    }


def _mismatch(row: KeyMismatch) -> types.KeyMismatchRow:
    return {
        "endpoint": row.endpoint,
        "method": row.method,
        "cache": row.cache,
        "read": row.read,
        "written": row.written,
        "where": row.where or None,
        "count": row.count,
        "load_s": rounded(row.seconds, 6),
        "text": f"{row.text[:1].upper()}{row.text[1:]}.",
        "recommendation": f"{row.repair}.",
    }


def _workers(snapshot: Snapshot) -> list[types.CacheWorkerRow]:
    """Return the live workers with a cache, the fullest first."""
    readings, used = snapshot.readings, dict[str, float]()
    for namespace in readings.namespaces:
        for name, size in namespace.bytes.items():
            used[name] = used.get(name, 0.0) + size
    rows: list[types.CacheWorkerRow] = []
    for worker in snapshot.workers:
        bound, size = readings.cache_bounds.get(worker["worker"]), used.get(worker["worker"], 0.0)
        if bound is not None:
            rows.append({
                "host": worker.get("host"), "pid": worker.get("pid"),
                "mb": rounded(size / MB, 3), "max_mb": in_mb(bound),
                "share": rounded(min(1.0, size / bound), 4) if bound else None,
            })  # fmt: skip
    return sorted(rows, key=lambda row: -row["mb"])
