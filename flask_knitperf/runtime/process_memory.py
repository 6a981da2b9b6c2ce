"""The memory of a process without an application, watched by the same parts as that of a worker."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, cast

from ..caching.registry import Caches
from ..collectors.memory import live_frames
from ..collectors.memory.pressure_relief import Pressure
from ..collectors.memory.process import (
    CollectionResult,
    GCScheduler,
    machine,
    peak,
    pss,
    rss,
    virtual_size,
)
from ..core.locks import create_lock
from ..core.settings import read
from ..core.units import MB
from ..recording.recorder import Recorder

if TYPE_CHECKING:
    from ..reports.documents.process import (
        GenerationStatistics,
        MemoryStatistics,
        MemoryWarning,
        PressureReport,
        ProcessFigures,
    )

_LOG_BYTES = 1 << 16  # steps of relief are all that is recorded


class ProcessMemory:
    """Watches and relieves the memory of this process.

    After :meth:`start` a housekeeper runs in a daemon thread. A forked child has none until
    :meth:`resume`: a thread must not start within ``fork``.

    Attributes:
        caches: registered caches; under pressure they shrink before garbage is collected.

    Args:
        caches: the registry.
    """

    def __init__(self, caches: Caches) -> None:
        settings = read({})
        self.caches = caches
        self._threshold_mb = settings.gc_threshold_mb
        self._initial = os.getpid(), rss()
        self._started = False
        self._recorder = Recorder(
            lambda: (None, {"pid": os.getpid()}), log_bytes=_LOG_BYTES, threaded=lambda: self._started
        )  # fmt: skip
        threshold = round(self._threshold_mb * MB)
        self._collector = GCScheduler(self._recorder, threshold, settings.gc_min_interval_s)
        self._pressure = Pressure(self._recorder, self._collector, caches.shrink, threshold)
        self._relieving = create_lock()
        for job in (self.caches.expire, self.relieve):
            self._recorder.every(settings.cleanup_interval_s, job)

    def start(self, interval_s: float) -> None:
        """Start a housekeeper that expires caches and relieves pressure at an interval in seconds."""
        self.stop()
        for job in (self.caches.expire, self.relieve):
            self._recorder.reschedule(interval_s, job)
        self._started = True
        self.resume()

    def resume(self) -> None:
        """Start the housekeeper in a forked child of the process that called :meth:`start`."""
        if self._started:
            _ = self._recorder.worker  # its first use in a process starts the thread

    def stop(self) -> None:
        """Stop the housekeeper. Without one, nothing happens."""
        self._started = False
        self._recorder.close()

    def relieve(self) -> None:
        """Take the next step against memory pressure, if there is any."""
        with self._relieving:
            self._pressure.tick()

    def collect(self) -> CollectionResult:
        """Collect garbage now, and return free memory to the system."""
        with self._relieving:
            return self._collector.collect("requested")

    def figures(self) -> ProcessFigures:
        """Return the resident memory of this process, and its growth since it was first read.

        The initial memory of a forked child is that at the first call there.
        """
        pid, used = os.getpid(), rss()
        if self._initial[0] != pid:
            self._initial = pid, used
        return {
            "rss_mb": round(used / MB, 2), "initial_memory_mb": round(self._initial[1] / MB, 2),
            "memory_growth_mb": round((used - self._initial[1]) / MB, 2),
        }  # fmt: skip

    def statistics(self) -> MemoryStatistics:
        """Return the memory of this process, of its garbage collector and of its caches."""
        memory = machine()
        return {
            "rss_mb": _mb(rss()), "vms_mb": _mb(virtual_size()), "pss_mb": _mb(pss()),
            "peak_mb": _mb(peak()), "available_mb": _mb(memory.available),
            "percent": memory.percent, "tracked_objects": len(gc.get_objects()),
            "gc_stats": cast("list[GenerationStatistics]", gc.get_stats()), "gc_count": gc.get_count(),
            "cache_size": self.caches.entry_count(),
        }  # fmt: skip

    def warning(self) -> MemoryWarning | None:
        """Return the pressure on memory as a warning, ``None`` while memory is fine."""
        pressure = self.report()
        if pressure["level"] is None or pressure["level"] == "fine":
            return None
        used = rss()
        return {
            "level": "WARNING" if pressure["level"] == "warning" else "CRITICAL",
            "memory_mb": round(used / MB, 2),
            "memory_percent": round(100 * used / (machine().total or used), 2),
            "message": pressure["reasons"][0]["text"],
            "recommendations": pressure["recommendations"],
        }  # fmt: skip

    def report(self) -> PressureReport:
        """Return the pressure on memory as :mod:`..analysis.memory_pressure` does for workers."""
        from ..analysis.memory_pressure import memory_pressure
        from ..reports.memory import ThisWorker, build_pressure_report

        memory, worker, proportional = machine(), str(os.getpid()), pss()
        pressure = memory_pressure(
            {worker: rss()}, threshold_mb=self._threshold_mb,
            pss_bytes=None if proportional is None else {worker: proportional},
            total_bytes=memory.total, available_bytes=memory.available,
            cgroup_limit_bytes=memory.cgroup_limit, cgroup_used_bytes=memory.cgroup_used,
        )  # fmt: skip
        this_worker = ThisWorker(self.caches.statistics(), live_frames.decorator_savings())
        return build_pressure_report(pressure, memory, self._threshold_mb, this_worker)


def _mb(size: float | None) -> float | None:
    return None if size is None else round(size / MB, 2)
