"""The row of one endpoint and method, as the report and the page of an endpoint show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..analysis.callee_advice import Use
from ..analysis.endpoints import Endpoint
from ..analysis.file_reads import FileRead
from ..analysis.hot_lines import Line
from ..analysis.latency import has_enough_requests
from ..analysis.leaks import Leak
from ..analysis.scaling import ScalingLaw
from ..analysis.statements import Repeat, Statement
from ..core.units import MB
from .values import KB, MAX_ROWS, MIN_FOR_P99, as_int, in_ms, in_s, rounded

if TYPE_CHECKING:
    from .documents import report as types


def endpoint_row(row: Endpoint) -> types.EndpointRow:
    """Return the row of one endpoint and method."""
    every = row.every
    p50, p95, p99 = every.quantiles((0.5, 0.95, 0.99))
    ready_ms = None if row.cpu_share is None else row.run_queue_share * (row.mean_ms or 0.0)
    return {
        "endpoint": row.endpoint,
        "rule": row.rule,
        "method": row.method,
        "count": row.finished,
        "judged": has_enough_requests(row),
        "in_flight": row.in_flight,
        "killed": row.killed,
        "disconnected": row.disconnected,
        "status": {**row.status, **_conversation_counts(row)},
        "conversations": _conversations(row),
        "success_rate": rounded(row.success_rate, 4),
        "mean_ms": rounded(row.mean_ms),
        "min_ms": in_ms(every.low),
        "max_ms": in_ms(every.high),
        "stddev_ms": in_ms(every.deviation),
        "p50_ms": in_ms(p50),
        "p95_ms": in_ms(p95),
        "p99_ms": in_ms(p99) if every.count >= MIN_FOR_P99 else None,
        "first_ms": in_ms(row.reading.requests.first.mean),
        "cpu_ms": rounded(row.cpu_ms),
        "wait_ms": rounded(row.wait_ms),
        "ready_ms": rounded(ready_ms),
        "gc_ms": rounded(row.gc_ms),
        "gc_own_ms": rounded(row.gc_own_ms),
        "parts": _parts(row),
        "bytes_out_mean": rounded(row.reading.bytes_out.mean, 1),
        "lines": _lines(row.lines),
        "patterns": _patterns(row),
        "file_reads": [_file_read(read) for read in row.file_reads],
        "queries": _queries(row),
        "leak": None if row.leak is None else leak_row(row.leak),
        "size_law": None
        if row.scaling_law is None
        else _size_law(row.scaling_law, row.moderate_ms),
        "time_spent_s": rounded(row.time_spent_s),
        "excess_s": rounded(row.excess_s),
        "thresholds": {"slow_ms": row.slow_ms, "moderate_ms": row.moderate_ms},
        "distribution": {
            "upper_ms": row.distribution.upper_ms,
            "count": row.distribution.requests,
        },
    }


def _conversation_counts(row: Endpoint) -> dict[str, int]:
    return {kind.kind: kind.lengths.count for kind in row.reading.conversations}


def _conversations(row: Endpoint) -> list[types.ConversationRow]:
    rows: list[types.ConversationRow] = []
    for kind, lengths, failed in row.reading.conversations:
        p50, p95 = lengths.quantiles((0.5, 0.95))
        rows.append({
            "kind": kind, "count": lengths.count, "failed": failed, "mean_ms": in_ms(lengths.mean),
            "p50_ms": in_ms(p50), "p95_ms": in_ms(p95), "max_ms": in_ms(lengths.high),
        })  # fmt: skip
    return rows


def _parts(row: Endpoint) -> list[types.PartRow]:
    return [
        {"name": part.name, "ms": rounded(part.ms), "share": rounded(part.share, 4),
         "count": part.count}
        for part in row.parts
    ]  # fmt: skip


def _lines(lines: Sequence[Line]) -> list[types.LineRow]:
    total = sum(line.total for line in lines)
    return [
        {
            "where": line.where,
            "function": line.function,
            "share": rounded(line.total / total, 4) if total else 0.0,
            "running_share": rounded(line.running / line.total, 4) if line.total else 0.0,
            "seconds": in_s(line.total),
            "samples": line.samples,
            "calls": line.calls,
        }
        for line in lines[:MAX_ROWS]
    ]


def _patterns(row: Endpoint) -> list[types.PatternRow]:
    return [] if row.sampled is None else [pattern_row(use, row.sampled.total) for use in row.uses]


def pattern_row(use: Use, total: int) -> types.PatternRow:
    """Return the row of one expensive callee.

    Args:
        use: the callee at its line.
        total: nanoseconds of all samples of its endpoint.
    """
    return {
        "name": use.callee.name,
        "where": use.where,
        "share": rounded(use.total / total, 4),
        "seconds": in_s(use.total),
        "samples": use.samples,
        "rewrite": use.callee.advice,
    }


def _file_read(read: FileRead) -> types.FileReadRow:
    return {
        "path": read.path,
        "where": read.where or None,
        "count": read.count,
        "unchanged": read.unchanged,
        "reused": read.reused,
        "mean_ms": rounded(read.seconds / read.count * 1000),
        "time_spent_s": rounded(read.seconds, 6),
        "avoidable_s": rounded(read.avoidable_s),
        "bytes_mean": as_int(read.size),
        "rows_mean": rounded(read.rows, 1),
    }


def _queries(row: Endpoint) -> types.EndpointQueries | None:
    if not row.statements or not row.count:
        return None
    return {
        "per_request": rounded(row.reading.queries.total / row.count, 2),
        "max_per_request": as_int(row.reading.queries.high),
        "ms": rounded(sum(statement.seconds for statement in row.statements) * 1000 / row.count),
        "asked": [_query(statement) for statement in row.statements[:MAX_ROWS]],
        "repeated": [_repeat(repeat) for repeat in row.repeats[:MAX_ROWS]],
    }


def _query(statement: Statement) -> types.EndpointQueryRow:
    return {
        "shape": statement.fingerprint.id,
        "text": statement.fingerprint.text,
        "where": statement.where or None,
        "count": statement.count,
        "mean_ms": rounded(statement.mean_ms),
        "time_spent_s": rounded(statement.seconds, 6),
        "rows_mean": rounded(statement.rows, 1),
    }


def _repeat(repeat: Repeat) -> types.EndpointRepeatRow:
    return {
        "kind": repeat.kind,
        "shape": repeat.fingerprint.id,
        "text": repeat.fingerprint.text,
        "where": repeat.where or None,
        "per_request": rounded(repeat.per_request, 1),
        "requests": repeat.requests,
        "time_spent_s": rounded(repeat.seconds, 6),
        "avoidable_s": rounded(repeat.avoidable_s, 6),
    }


def leak_row(leak: Leak) -> types.LeakRow:
    """Return the row of the memory that an endpoint is suspected to retain."""
    return {
        "kb_per_request": rounded(leak.bytes_per_request / KB, 2),
        "grown_mb": rounded(leak.grown_bytes / MB, 2),
        "workers": leak.workers,
        "weighed": leak.pairs,
    }


def _size_law(law: ScalingLaw, limit_ms: float) -> types.SizeLaw:
    crossing = law.next_crossing(limit_ms)
    return {
        "k": rounded(law.k, 2),
        "low": rounded(law.low, 2),
        "high": rounded(law.high, 2),
        "a_ms": rounded(law.a_ms),
        "rows_least": as_int(law.min_rows),
        "rows_most": as_int(law.max_rows),
        "ms_most": rounded(law.ms(law.max_rows)),
        "requests": law.count,
        "passes_ms": None if crossing is None else crossing.ms,
        "passes_rows": None if crossing is None else as_int(crossing.rows),
    }
