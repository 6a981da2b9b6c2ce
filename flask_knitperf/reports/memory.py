"""The memory document: ``/perf/memory``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..analysis.leaks import leaks
from ..analysis.memory_pressure import MemoryPressure, Sizes, memory_pressure, slope
from ..core.settings import Settings
from ..core.units import MB
from ..metrics.catalogue import (
    FREEZE,
    RELIEF,
    FreezeDetail,
    FreezeKey,
    ReliefDetail,
    ReliefKey,
    ReliefStep,
)
from ..metrics.instruments import Note
from ..metrics.readings import Readings
from ..metrics.readings.rows import GrowthReading
from ..storage.state_dir import Snapshot
from ..storage.windows import Window
from .endpoint_rows import leak_row
from .values import MAX_ROWS, in_mb, in_ms, moment, rounded, window_document

if TYPE_CHECKING:
    from ..caching.cache_state import CacheState
    from ..collectors.memory.live_frames import DecoratorSaving, WorkerFrames
    from ..collectors.memory.process import MachineMemory
    from .documents import memory as types
    from .documents.process import PressureReport

_STEPS = {step.value: step for step in ReliefStep}
"""Steps by name; another version may have recorded others, which are left out."""
WorkerIdentity = Mapping[str, Any]
"""Identity that a worker stored, with ``alive`` (:class:`..storage.state_dir.Snapshot`)."""
Workers = Mapping[str, WorkerIdentity]
"""Identities of live workers, by name."""


class ThisWorker(NamedTuple):
    """Figures of the worker that responds; other workers do not publish them.

    Attributes:
        caches: registered caches.
        decorated: functions decorated with ``memory_efficient``.
    """

    caches: Iterable[CacheState] = ()
    decorated: Iterable[DecoratorSaving] = ()


def build_memory_report(
    window: Window,
    settings: Settings,
    now: float,
    machine: MachineMemory,
    frames: Iterable[WorkerFrames],
    this_worker: ThisWorker | None = None,
) -> types.MemoryReport:
    """Return the memory of all workers.

    Args:
        window: of the whole run.
        settings: for the threshold.
        now: seconds since the epoch.
        machine: memory of the machine and of the container.
        frames: of :func:`..collectors.memory.live_frames.read`.
        this_worker: figures of the worker that responds, ``None`` in other processes.
    """
    caches, decorated = this_worker or ThisWorker()
    snapshot = window.snapshot
    readings = snapshot.readings
    alive = {worker["worker"]: worker for worker in snapshot.servers if worker.get("alive")}
    pressure = _pressure(snapshot, alive, settings, machine)
    return {
        "schema": "flask-knitperf/memory/1",
        "generated_at": moment(now),
        "window": window_document(window),
        **_pressure_document(pressure, machine, settings.gc_threshold_mb),
        "workers": [
            _worker(snapshot, name, alive[name], pressure) for name in pressure.workers
        ],
        "gc": _generations(readings),
        "collecting": _collecting(readings),
        "frozen": [
            _frozen(note) for note in readings.notes(FREEZE) if note.key.worker in alive
        ],
        "housekeeper": _relief(readings),
        "growth": [
            _growth(name, alive[name], growth)
            for name, growth in sorted(readings.growth.items()) if name in alive
        ],
        "suspects": _suspects(readings),
        "live_frames": [{**row, "at": moment(row["at"])} for row in frames],
        "caches": [_cache(cache) for cache in caches],
        "decorated": [_decorated(saving) for saving in decorated],
        "degraded": list(snapshot.degraded),
    }  # fmt: skip


def build_pressure_report(
    pressure: MemoryPressure, machine: MachineMemory, threshold_mb: float, this_worker: ThisWorker
) -> PressureReport:
    """Return the pressure on the memory of a process without an application.

    Args:
        pressure: on this process.
        machine: memory of the machine and of the container.
        threshold_mb: what one process should stay below.
        this_worker: caches and decorated functions of this process.
    """
    caches, decorated = this_worker
    return {
        **_pressure_document(pressure, machine, threshold_mb),
        "workers": [_sizes(name, sizes) for name, sizes in pressure.workers.items()],
        "caches": [_cache(cache) for cache in caches],
        "decorated": [_decorated(saving) for saving in decorated],
    }


def _pressure_document(
    pressure: MemoryPressure, machine: MachineMemory, threshold_mb: float
) -> types.PressureDocument:
    return {
        "threshold_mb": threshold_mb,
        "level": pressure.level,
        "reasons": [
            {"limit": reason.limit, "level": reason.level, "share": rounded(reason.share, 4),
             "text": reason.text}
            for reason in pressure.reasons
        ],
        "total_rss_mb": in_mb(pressure.rss),
        "total_pss_mb": in_mb(pressure.pss),
        "available_mb": in_mb(machine.available),
        "cgroup_limit_mb": in_mb(machine.cgroup_limit),
        "recommendations": pressure.advice,
        "percent": machine.percent,
    }  # fmt: skip


def _pressure(
    snapshot: Snapshot, alive: Workers, settings: Settings, machine: MachineMemory
) -> MemoryPressure:
    def sizes(gauges: Mapping[str, float]) -> dict[str, float]:
        return {name: gauges[name] for name in alive if name in gauges}

    gauges = snapshot.readings.gauges
    return memory_pressure(
        sizes(gauges.rss), threshold_mb=settings.gc_threshold_mb, pss_bytes=sizes(gauges.pss),
        total_bytes=machine.total, available_bytes=machine.available,
        cgroup_limit_bytes=machine.cgroup_limit, cgroup_used_bytes=machine.cgroup_used,
    )  # fmt: skip


def _worker(
    snapshot: Snapshot, name: str, identity: WorkerIdentity, pressure: MemoryPressure
) -> types.MemoryWorkerRow:
    trend = identity.get("trend", [])
    return {
        **_sizes(name, pressure.workers[name]),
        "pid": identity.get("pid"),
        "host": identity.get("host"),
        "peak_mb": in_mb(snapshot.readings.gauges.peak_rss.get(name)),
        "trend": trend,
        "slope_mb_per_hour": rounded(slope(trend), 2),
    }


def _sizes(name: str, sizes: Sizes) -> types.SizesRow:
    return {
        "worker": name,
        "rss_mb": in_mb(sizes.rss),
        "pss_mb": in_mb(sizes.pss),
        "level": sizes.level,
    }


def _generations(readings: Readings) -> list[types.GenerationRow]:
    return [
        {"generation": generation, "collections": pauses.count, "pause_ms": in_ms(pauses.total)}
        for generation, pauses in readings.gc_pauses.items()
        if pauses.count
    ]


def _collecting(readings: Readings) -> list[types.CollectingRow]:
    """Return the endpoints whose own garbage causes most pauses."""
    rows = [row for row in readings.gc if row.requests.count and row.pauses.total]
    rows.sort(key=lambda row: (-row.own.total, -row.pauses.total, row.endpoint, row.method))
    return [
        {
            "endpoint": row.endpoint,
            "method": row.method,
            "count": row.requests.count,
            "own_ms": in_ms(row.own.total / row.requests.count),
            "ms": in_ms(row.pauses.total / row.requests.count),
            "share": rounded(row.pauses.total / max(1, row.requests.total), 4),
        }
        for row in rows[:MAX_ROWS]
    ]


def _frozen(note: Note[FreezeKey, FreezeDetail]) -> types.FrozenRow:
    return {
        "worker": note.key.worker,
        "objects": note.detail["objects"],
        "before_ms": in_ms(note.detail["before_ns"]),
        "after_ms": in_ms(note.detail["after_ns"]),
    }


def _relief(readings: Readings) -> list[types.ReliefRow]:
    """Return the steps that relieved workers, newest first."""
    notes = sorted(readings.notes(RELIEF), key=lambda note: -note.weight)
    return [_relief_row(note, _STEPS[note.key.step]) for note in notes if note.key.step in _STEPS]


def _relief_row(note: Note[ReliefKey, ReliefDetail], step: ReliefStep) -> types.ReliefRow:
    detail = note.detail
    return {
        "at": moment(note.weight),
        "worker": note.key.worker,
        "before_mb": in_mb(detail["before"]),
        "after_mb": in_mb(detail["after"]),
        "freed_mb": in_mb(max(0, detail["before"] - detail["after"])),
        "step": step,
        "dropped": detail["dropped"],
        "trimmed_mb": in_mb(detail["trimmed"]),
        "objects": detail["objects"],
        "pause_ms": in_ms(detail["pause_ns"]),
        "next_in_seconds": detail["next_in_seconds"],
        "why": detail["why"],
    }


def _growth(name: str, identity: WorkerIdentity, growth: GrowthReading) -> types.GrowthRow:
    return {
        "worker": name,
        "pid": identity.get("pid"),
        "grown_mb": rounded(growth.grown_bytes / MB, 2),
        "bytes_per_request": rounded(growth.grown_bytes / max(1, round(growth.requests)), 1),
        "requests": round(growth.requests),
        "minutes": rounded(growth.seconds / 60, 1),
        "chance": float(f"{growth.p_value:.2g}"),
    }


def _suspects(readings: Readings) -> list[types.SuspectRow]:
    suspected = sorted(leaks(readings).items(), key=lambda item: -item[1].grown_bytes)
    return [
        {"endpoint": endpoint, "method": method, **leak_row(leak)}
        for (endpoint, method), leak in suspected
    ]


def _cache(cache: CacheState) -> types.CacheRow:
    return {
        "name": cache.name,
        "type": cache.type,
        "entries": cache.entries,
        "size": cache.size,
        "max_size": cache.max_size,
        "hit_rate": rounded(cache.hit_rate, 4),
    }


def _decorated(saving: DecoratorSaving) -> types.DecoratedRow:
    return {
        "function": saving.function,
        "frames": saving.frames,
        "before_mb": rounded(saving.before / MB),
        "after_mb": rounded(saving.after / MB),
    }
