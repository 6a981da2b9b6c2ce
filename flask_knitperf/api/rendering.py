"""From a window that was read to the dicts behind the pages: what analysis needs besides the numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..analysis import memory as memory_of
from ..analysis import report as report_of
from ..analysis import summary
from ..analysis.leaks import growths, leaks
from ..analysis.pools import pools
from ..analysis.queries import queries
from ..core.settings import Settings
from ..core.stacks import Tries
from ..core.state import Snapshot
from ..core.totals import Totals
from ..core.windows import Window
from ..memory.process import MB
from ..queries.asked import METERS as QUERY_METERS

COLLECTING = 10
"""Endpoints whose collections are listed."""
Route = tuple[str, str, tuple[str, ...]]
"""An endpoint, its rule and the methods of that rule."""


def render(
    found: Window,
    settings: Settings,
    routes: list[Route],
    now: float,
    failures: dict[str, int] | None = None,
    tries: Tries | None = None,
) -> dict[str, Any]:
    """Return the report of a window that was read."""
    snapshot = found.snapshot
    degraded = list(snapshot.degraded)
    degraded += [f"{part} failed {count} times" for part, count in (failures or {}).items()]
    known = {endpoint for endpoint, _, _ in routes}
    degraded += [
        f"thresholds are given for {name!r}, an endpoint that does not exist"
        for name in settings.endpoints if name not in known
    ]  # fmt: skip
    dropped = _dropped(snapshot)
    if snapshot.totals.torn:
        dropped["torn"] = snapshot.totals.torn
    return report_of.report(
        snapshot.totals, settings, routes=routes, workers=_workers(snapshot),
        window=_window(found),
        now=now, tries=tries,
        self_={"us_per_request": cost(snapshot.totals), "dropped": dropped, "degraded": degraded},
    )  # fmt: skip


def render_queries(
    found: Window, settings: Settings, routes: list[Route], now: float
) -> dict[str, Any]:
    """Return what databases were asked in a window that was read.

    ``told_apart`` says how many statements, and how many of them by endpoint and line, each worker tells
    apart; ``dropped`` how many observations went to one row for all others because there were more.
    """
    snapshot = found.snapshot
    rows = summary.endpoints(snapshot.totals, settings, routes)
    dropped = _dropped(snapshot)
    return {
        "schema": "flask-knitperf/queries/1",
        "generated_at": _moment(now),
        "window": _window(found),
        "slow_ms": settings.slow_query_ms,
        "queries": queries(snapshot.totals, rows),
        "pools": pools(
            snapshot.totals, found.ends - found.begins,
            sum(bool(worker.get("alive")) for worker in snapshot.workers), os.cpu_count() or 1,
        ),
        "told_apart": {meter.name: meter.limit for meter in QUERY_METERS},
        "dropped": {m.name: dropped[m.name] for m in QUERY_METERS if m.name in dropped},
        "watched": settings.queries,
        "degraded": list(snapshot.degraded),
    }  # fmt: skip


def _dropped(snapshot: Snapshot) -> dict[str, int]:
    """Return how many observations had no room of their own, by meter."""
    dropped: dict[str, int] = {}
    for worker in snapshot.workers:
        for what, count in worker.get("dropped", {}).items():
            dropped[what] = dropped.get(what, 0) + count
    return dropped


def cost(totals: Totals) -> float | None:
    """Return what recording costs each request, in microseconds, ``None`` before it was timed."""
    mean = totals.tally(totals.rows("cost")).mean
    return None if mean is None else round(mean / 1000, 1)


def _window(found: Window) -> dict[str, Any]:
    """Return how a window is told."""
    return {"name": found.name, "from": _moment(found.begins), "to": _moment(found.ends),
            "run": found.run, "release": found.release}  # fmt: skip


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _workers(snapshot: Snapshot) -> list[dict[str, Any]]:
    rows = []
    for worker in snapshot.workers:
        busy = gauge(snapshot, "busy_share", worker["worker"])
        pressure = gauge(snapshot, "gil_pressure", worker["worker"])
        rows.append({
            "host": worker.get("host"), "pid": worker.get("pid"),
            "started": _moment(worker["started"]) if worker.get("started") else None,
            "alive": bool(worker.get("alive")),
            "busy_share": None if busy is None else round(busy, 3),
            "gil_pressure": None if pressure is None else round(pressure, 3),
        })  # fmt: skip
    return rows


def gauge(snapshot: Snapshot, meter: str, worker: str) -> float | None:
    """Return one worker's last value of a gauge without labels."""
    return snapshot.totals.gauges(snapshot.totals.rows(meter)).get(worker)


def render_memory(
    found: Window,
    settings: Settings,
    now: float,
    caches: list[dict[str, Any]],
    had: Mapping[str, Any],
    frames: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the memory report of a window that was read.

    Args:
        found: the window.
        settings: for the threshold.
        now: seconds since the epoch.
        caches: statistics of this worker's registered caches.
        had: of :func:`.memory.process.machine`.
        frames: of :func:`.live_frames.read`.
    """
    snapshot = found.snapshot
    alive = {worker["worker"]: worker for worker in snapshot.workers if worker.get("alive")}
    sizes = {
        meter: {
            name: value for name in alive if (value := gauge(snapshot, meter, name)) is not None
        }
        for meter in ("rss_bytes", "pss_bytes", "peak_bytes")
    }
    document = memory_of.memory(
        sizes["rss_bytes"],
        threshold_mb=settings.gc_threshold_mb,
        pss_bytes=sizes["pss_bytes"],
        total_bytes=had["total"],
        available_bytes=had["available"],
        cgroup_limit_bytes=had["cgroup_limit"],
        cgroup_used_bytes=had["cgroup_used"],
    )
    for row in document["workers"]:
        size = sizes["peak_bytes"].get(row["worker"])
        who = alive[row["worker"]]
        row |= {
            "pid": who.get("pid"), "host": who.get("host"),
            "peak_mb": None if size is None else round(size / MB, 1),
            "trend": who.get("trend", []), "slope_mb_per_hour": memory_of.slope(who.get("trend", [])),
        }  # fmt: skip
    notes = [n for n in snapshot.totals.evidence.values() if n["kind"] == "collection"]
    return {
        "schema": "flask-knitperf/memory/1",
        "generated_at": _moment(now),
        "window": _window(found),
        "threshold_mb": settings.gc_threshold_mb,
        **document,
        "percent": had["percent"],
        "gc": [
            {"generation": int(row[0][0]), "collections": pauses.count,
             "pause_ms": round(pauses.total / 1e6, 3)}
            for row in sorted(snapshot.totals.rows("gc_pause"))
            if (pauses := snapshot.totals.tally((row,))).count
        ],
        "collecting": [
            {"endpoint": row.endpoint, "method": row.method, "count": row.count,
             "own_ms": round(row.gc_own_ms, 3), "ms": round(row.gc_ms, 3),
             "share": round(row.gc_ms / (row.mean_ms or 1.0), 4)}
            for row in sorted(
                summary.endpoints(snapshot.totals, settings), key=lambda row: -row.gc_own_ms * row.count
            )[:COLLECTING] if row.gc_ms
        ],
        "frozen": [
            {"worker": detail["worker"], "objects": detail["objects"],
             "before_ms": round(detail["before_ns"] / 1e6, 3),
             "after_ms": round(detail["after_ns"] / 1e6, 3)}
            for note in snapshot.totals.evidence.values()
            if note["kind"] == "freeze" and (detail := note["detail"])["worker"] in alive
        ],
        "housekeeper": [
            _collection(n)
            for n in sorted(notes, key=lambda n: -n["weight"]) if isinstance(n["detail"], dict)
        ],
        "growth": [
            {"worker": name, "pid": alive[name].get("pid"), **grew.as_dict()}
            for name, grew in sorted(growths(snapshot.totals).items()) if name in alive
        ],
        "suspects": [
            {"endpoint": endpoint, "method": method, **leak.as_dict()}
            for (endpoint, method), leak in sorted(
                leaks(snapshot.totals).items(), key=lambda each: -each[1].grown_bytes
            )
        ],
        "live_frames": [{**each, "at": _moment(each["at"])} for each in frames],
        "caches": caches,
        "degraded": list(snapshot.degraded),
    }  # fmt: skip


def _collection(note: dict[str, Any]) -> dict[str, Any]:
    detail = note["detail"]
    return {
        "at": _moment(note["weight"]),
        "worker": note["key"].split(" ")[0],
        "before_mb": round(detail["before"] / MB, 1),
        "after_mb": round(detail["after"] / MB, 1),
        "freed_mb": round((detail["before"] - detail["after"]) / MB, 1),
        "step": detail["step"],
        "dropped": detail["dropped"],
        "trimmed_mb": round(detail["trimmed"] / MB, 1),
        "objects": detail["objects"],
        "pause_ms": round(detail["pause_ns"] / 1e6, 3),
        "next_in_seconds": detail["next_in_seconds"],
        "why": detail["why"],
    }
