"""The memory report of a run that was read: what presses, what grows, what is alive, what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..analysis import memory_pressure as memory_of
from ..analysis.leaks import growths, leaks
from ..core.settings import Settings
from ..core.units import MB
from ..metrics.catalogue import FREEZE, RELIEF, ReliefDetail, ReliefKey
from ..metrics.instruments import Note
from ..metrics.totals import Totals
from ..storage.state_dir import Snapshot
from ..storage.windows import Window
from .build import gauge, moment, told_window

COLLECTING = 10
"""Endpoints whose collections are listed."""
Rows = list[dict[str, Any]]
_SIZES = ("rss_bytes", "pss_bytes", "peak_bytes")


def render_memory(
    found: Window, settings: Settings, now: float, had: Mapping[str, Any], frames: Rows,
    here: Mapping[str, Rows],
) -> dict[str, Any]:  # fmt: skip
    """Return the memory report of a window that was read.

    Args:
        found: the window.
        settings: for the threshold.
        now: seconds since the epoch.
        had: of :func:`..api.memory.process.machine`.
        frames: of :func:`..collectors.memory.live_frames.read`.
        here: of this worker alone: its registered ``caches``, and what ``decorated`` functions saved.
    """
    snapshot = found.snapshot
    alive = {worker["worker"]: worker for worker in snapshot.workers if worker.get("alive")}
    return {
        "schema": "flask-knitperf/memory/1",
        "generated_at": moment(now),
        "window": told_window(found),
        "threshold_mb": settings.gc_threshold_mb,
        **_pressure(snapshot, alive, settings, had),
        "percent": had["percent"],
        **_collections(snapshot.totals, alive),
        **_kept(snapshot.totals, alive),
        "live_frames": [{**each, "at": moment(each["at"])} for each in frames],
        "caches": here["caches"],
        "decorated": here["decorated"],
        "degraded": list(snapshot.degraded),
    }


def _pressure(
    snapshot: Snapshot, alive: Mapping[str, Any], settings: Settings, had: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the level, why, and each worker's sizes."""
    sizes = {
        meter: {
            name: value for name in alive if (value := gauge(snapshot, meter, name)) is not None
        }
        for meter in _SIZES
    }
    document = memory_of.memory(
        sizes["rss_bytes"], threshold_mb=settings.gc_threshold_mb, pss_bytes=sizes["pss_bytes"],
        total_bytes=had["total"], available_bytes=had["available"],
        cgroup_limit_bytes=had["cgroup_limit"], cgroup_used_bytes=had["cgroup_used"],
    )  # fmt: skip
    for row in document["workers"]:
        size = sizes["peak_bytes"].get(row["worker"])
        who = alive[row["worker"]]
        trend = who.get("trend", [])
        row |= {
            "pid": who.get("pid"), "host": who.get("host"),
            "peak_mb": None if size is None else round(size / MB, 1),
            "trend": trend, "slope_mb_per_hour": memory_of.slope(trend),
        }  # fmt: skip
    return document


def _collections(totals: Totals, alive: Mapping[str, Any]) -> dict[str, Rows]:
    """Return what collections cost, and what was done about memory."""
    steps = sorted(totals.notes(RELIEF), key=lambda note: -note.weight)
    return {
        "gc": [
            {"generation": int(row[0][0]), "collections": pauses.count,
             "pause_ms": _ms(pauses.total)}
            for row in sorted(totals.rows("gc_pause"))
            if (pauses := totals.tally((row,))).count
        ],
        "collecting": _collecting(totals),
        "frozen": [
            {"worker": note.key.worker, "objects": note.detail["objects"],
             "before_ms": _ms(note.detail["before_ns"]), "after_ms": _ms(note.detail["after_ns"])}
            for note in totals.notes(FREEZE) if note.key.worker in alive
        ],
        "housekeeper": [_step(note) for note in steps],
    }  # fmt: skip


def _collecting(totals: Totals) -> Rows:
    """Return the endpoints that collections stopped, first those whose own objects cost most."""
    stopped = []
    for (endpoint, method), by in totals.pairs.items():
        requests, own, pauses = (
            totals.tally(by.get(meter, ())) for meter in ("request", "gc_own", "gc")
        )
        if requests.count and pauses.total:
            stopped.append((own.total, pauses.total, requests, endpoint, method))
    return [
        {"endpoint": endpoint, "method": method, "count": requests.count,
         "own_ms": _ms(own / requests.count), "ms": _ms(all_ / requests.count),
         "share": round(all_ / max(1, requests.total), 4)}
        for own, all_, requests, endpoint, method in
        sorted(stopped, key=lambda each: (-each[0], -each[1], *each[3:]))[:COLLECTING]
    ]  # fmt: skip


def _ms(ns: float) -> float:
    return round(ns / 1e6, 3)


def _step(note: Note[ReliefKey, ReliefDetail]) -> dict[str, Any]:
    """Return one step that was taken to relieve a worker."""
    detail = note.detail
    return {
        "at": moment(note.weight),
        "worker": note.key.worker,
        "before_mb": round(detail["before"] / MB, 1),
        "after_mb": round(detail["after"] / MB, 1),
        "freed_mb": round(max(0, detail["before"] - detail["after"]) / MB, 1),
        "step": note.key.step,
        "dropped": detail["dropped"],
        "trimmed_mb": round(detail["trimmed"] / MB, 1),
        "objects": detail["objects"],
        "pause_ms": _ms(detail["pause_ns"]),
        "next_in_seconds": detail["next_in_seconds"],
        "why": detail["why"],
    }


def _kept(totals: Totals, alive: Mapping[str, Any]) -> dict[str, Rows]:
    """Return how memory grew, and who is suspected."""
    suspected = sorted(leaks(totals).items(), key=lambda each: -each[1].grown_bytes)
    return {
        "growth": [
            {"worker": name, "pid": alive[name].get("pid"), **grew.as_dict()}
            for name, grew in sorted(growths(totals).items()) if name in alive
        ],
        "suspects": [
            {"endpoint": endpoint, "method": method, **leak.as_dict()}
            for (endpoint, method), leak in suspected
        ],
    }  # fmt: skip
