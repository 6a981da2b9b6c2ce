"""From a window that was read to the dicts behind the pages: what analysis needs besides the numbers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from ..analysis import endpoints
from ..analysis import report as report_of
from ..analysis.pools import pools
from ..analysis.queries import queries
from ..core.settings import Settings
from ..metrics.catalogue import QUERY_METERS
from ..metrics.stack_trie import Tries
from ..metrics.totals import Totals
from ..storage.state_dir import Snapshot
from ..storage.windows import Window

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
    if snapshot.totals.incomplete:
        dropped["torn"] = snapshot.totals.incomplete
    return report_of.report(
        snapshot.totals, settings, routes=routes, workers=_workers(snapshot),
        window=told_window(found),
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
    rows = endpoints.endpoints(snapshot.totals, settings, routes)
    dropped = _dropped(snapshot)
    return {
        "schema": "flask-knitperf/queries/1",
        "generated_at": moment(now),
        "window": told_window(found),
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


def told_window(found: Window) -> dict[str, Any]:
    """Return how a window is told."""
    return {"name": found.name, "from": moment(found.begins), "to": moment(found.ends),
            "run": found.run, "release": found.release}  # fmt: skip


def moment(seconds: float) -> str:
    """Return a moment (seconds since the epoch) in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _workers(snapshot: Snapshot) -> list[dict[str, Any]]:
    rows = []
    for worker in snapshot.workers:
        busy = gauge(snapshot, "busy_share", worker["worker"])
        pressure = gauge(snapshot, "gil_pressure", worker["worker"])
        rows.append({
            "host": worker.get("host"), "pid": worker.get("pid"),
            "started": moment(worker["started"]) if worker.get("started") else None,
            "alive": bool(worker.get("alive")),
            "busy_share": None if busy is None else round(busy, 3),
            "gil_pressure": None if pressure is None else round(pressure, 3),
        })  # fmt: skip
    return rows


def gauge(snapshot: Snapshot, meter: str, worker: str) -> float | None:
    """Return one worker's last value of a gauge without labels."""
    return snapshot.totals.gauges(snapshot.totals.rows(meter)).get(worker)
