"""Single requests of one endpoint: the latest and the slowest in a table, and one of them opened up.

A request is slow when it took longer than its endpoint's threshold or than its endpoint's own p99.
Its timeline is drawn from parts with a beginning and an end; which runs inside which follows from that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..metrics.stack_trie import Trie, as_places, decode
from ..storage.exemplars import LATEST, SLOWEST, Exemplar

SCHEMA = "flask-knitperf/request/1"
MS = 1e6
STREAMING = "streaming"
GC = "gc"


def requests(found: Iterable[Exemplar], row: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the single requests that were kept of an endpoint.

    Args:
        found: of the window, of any endpoint.
        row: the endpoint's, of the report.

    Returns:
        ``latest`` (the newest first) and ``slowest`` (the slowest first), each of ``{id, at, ms, status,
        slow, first, disconnected, most, most_ms, beside, sampled}``: ``most`` is its largest part, and
        ``beside`` the endpoint that ran longest beside it, both ``None`` where there was none.
    """
    own = [
        (each, document) for each in found
        if (each.endpoint, each.method) == (row["endpoint"], row["method"])
        and (document := each.document()) is not None
    ]  # fmt: skip
    latest = sorted(own, key=lambda pair: (-pair[0].at, pair[0].name))[:LATEST]
    slowest = sorted(own, key=lambda pair: (-pair[0].wall, pair[0].name))[:SLOWEST]
    return {
        "latest": [_summary(*pair, row) for pair in latest],
        "slowest": [_summary(*pair, row) for pair in slowest],
    }


def _summary(each: Exemplar, known: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    parts = sorted(known["parts"], key=lambda part: -part[2])
    return {
        "id": each.name,
        "at": moment(each.at),
        "ms": round(each.wall / MS, 3),
        "status": known["status"],
        "slow": is_slow(each, row),
        "first": known["first"],
        "disconnected": known["disconnected"],
        "most": parts[0][0] if parts else None,
        "most_ms": parts[0][2] / 1000 if parts else None,
        "beside": known["beside"][0][0] if known["beside"] else None,
        "sampled": known["stacks"] is not None,
    }


def is_slow(each: Exemplar, row: Mapping[str, Any]) -> bool:
    """Return whether a request took longer than its endpoint's threshold or own p99."""
    p99, took = row["p99_ms"], each.wall / MS
    return bool(took > row["thresholds"]["moderate_ms"] or (p99 is not None and took > p99))


def request(each: Exemplar, row: Mapping[str, Any]) -> tuple[dict[str, Any], Trie | None]:
    """Return all that is known of one request, and its own samples.

    Args:
        each: the request.
        row: its endpoint's, of the report.

    Returns:
        ``{schema, id, at, pid, endpoint, method, rule, ms, status, slow, first, disconnected,
        bytes_out, rows, cpu_ms, ready_ms, wait_ms, gc_ms, parts[], timeline[], parts_left_out,
        beside[]}``; the stacks are ``None`` where it was over before it was looked at.

    Raises:
        ValueError: what was kept of it is damaged.
    """
    known = each.document()
    if known is None:
        raise ValueError(f"what was kept of request {each.name} is damaged")
    wall = each.wall / MS
    cpu = None if known["cpu"] is None else min(wall, known["cpu"] / 1000)
    ready = 0.0 if cpu is None else min(wall - cpu, known["ready"] / 1000)
    return {
        "schema": SCHEMA,
        **_summary(each, known, row),
        "pid": known["pid"],
        "endpoint": each.endpoint,
        "method": each.method,
        "rule": row["rule"],
        "bytes_out": known["bytes"],
        "rows": known.get("rows"),
        "cpu_ms": None if cpu is None else round(cpu, 3),
        "ready_ms": None if cpu is None else round(ready, 3),
        "wait_ms": None if cpu is None else round(wall - cpu - ready, 3),
        "gc_ms": known["gc"] / 1000,
        "parts": [
            {"name": name, "count": count, "ms": took / 1000,
             "share": round(min(1.0, took / 1000 / wall), 4) if wall else 0.0}
            for name, count, took in sorted(known["parts"], key=lambda part: -part[2])
        ],
        "timeline": timeline(known, each.wall),
        "parts_left_out": known["more"],
        "beside": [
            {"endpoint": endpoint, "method": method, "ms": overlap / 1000}
            for endpoint, method, overlap in known["beside"]
        ],
    }, _trie(known["stacks"])  # fmt: skip


def timeline(known: Mapping[str, Any], wall: int) -> list[dict[str, Any]]:
    """Return what happened in a request, in order.

    Args:
        known: of :meth:`..storage.exemplars.Exemplar.document`.
        wall: nanoseconds that it took.

    Returns:
        ``{name, begin_ms, ms, depth, detail}`` of each: ``depth`` counts what it ran inside of,
        ``detail`` is what its collector knows of it, or ``None``.
    """
    rows = [(begin, took, name, detail) for name, begin, took, detail in known["events"]]
    rows += [(begin, took, GC, None) for begin, took in known["pauses"]]
    if known["streaming"] is not None:
        rows.append((known["streaming"], wall // 1000 - known["streaming"], STREAMING, None))
    rows.sort(key=lambda each: (each[0], -each[1], each[2]))
    made: list[dict[str, Any]] = []
    around: list[int] = []  # ends of what is under way
    for begin, took, name, detail in rows:
        while around and begin + took > around[-1]:
            around.pop()
        made.append({
            "name": name, "begin_ms": begin / 1000, "ms": took / 1000, "depth": len(around),
            "detail": detail,
        })  # fmt: skip
        around.append(begin + took)
    return made


def _trie(stacks: Mapping[str, Any] | None) -> Trie | None:
    if stacks is None:
        return None
    return decode(stacks["rows"], as_places(stacks["places"]))


def moment(seconds: float) -> str:
    """Return a moment as ISO text with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
