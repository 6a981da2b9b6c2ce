"""Housekeeping of memory: watches growth, relieves pressure, and reads the memory report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..caching.registry import Caches
from ..collectors.memory import live_frames
from ..collectors.memory.gc_freeze import Freezer
from ..collectors.memory.heap_growth import MIN_INTERVAL_S
from ..collectors.memory.leak_detector import LeakDetector
from ..collectors.memory.pressure_relief import Pressure
from ..collectors.memory.process import GCScheduler, machine
from ..collectors.memory.retained_bytes import RetainedBytesMeter
from ..collectors.requests.endpoint_series import endpoint_of
from ..collectors.requests.requests import RequestProfile
from ..core.settings import Settings
from ..core.units import MB
from ..metrics.catalogue import REQUEST
from ..recording.recorder import Recorder
from ..storage.windows import Window

if TYPE_CHECKING:
    from ..collectors.memory.live_frames import FrameList
    from ..reports.documents import MemoryReport

Schedule = list[tuple[float, Callable[[], object]]]
"""Jobs of the housekeeper with their intervals in seconds."""


class MemoryJobs:
    """Watches and relieves the memory of each process that records for an application.

    Attributes:
        collector: collects garbage and returns free memory to the system.
        pressure: decides on the next step when memory is short.
        growth: detects growth with the number of requests, ``None`` where that is switched off.

    Args:
        recorder: the recorder of the application.
        profile: the requests whose retained bytes are measured.
        caches: registered caches.
        settings: limits and switches.
    """

    def __init__(
        self, recorder: Recorder, profile: RequestProfile, caches: Caches, settings: Settings
    ) -> None:
        self._recorder, self._profile = recorder, profile
        self._caches, self._settings = caches, settings
        threshold = round(settings.gc_threshold_mb * MB)
        self.collector = GCScheduler(
            recorder, threshold, settings.gc_min_interval_s, recorder.after_response
        )
        self.pressure = Pressure(recorder, self.collector, caches.shrink, threshold)
        self.growth: LeakDetector | None = None
        if settings.leak_watch:
            meter = RetainedBytesMeter(endpoint_of, profile.prepare_next, self._idle_since)
            profile.retained_bytes_meter = meter
            recorder.wrap_job = meter.wrap_job
            self.growth = LeakDetector(recorder, meter, self._requests_begun, self._counts)
        self._frames: FrameList | None = None

    def schedule(self) -> Schedule:
        """Return the jobs of the housekeeper with their intervals in seconds."""
        jobs: Schedule = [
            (1.0, self.pressure.tick), (5.0, self.collector.record_gauges),
            (self._settings.cleanup_interval_s, self._caches.expire),
        ]  # fmt: skip
        if self.growth is not None:
            jobs.append((MIN_INTERVAL_S, self.growth.tick))
        if self._settings.gc_freeze:
            jobs.append((1.0, Freezer(self._recorder, self._requests_begun).tick))
        return jobs

    def set_cleanup_interval(self, seconds: float) -> None:
        """Change the interval at which registered caches are expired."""
        self._recorder.reschedule(seconds, self._caches.expire)

    def _requests_begun(self) -> int:
        return self._profile.requests_started

    def _idle_since(self) -> int | None:
        return None if self._recorder.spans else self._profile.requests_started

    def _counts(self) -> dict[tuple[str, str], int]:
        return self._recorder.worker.counts(REQUEST.name)

    def list_frames(self) -> None:
        """List the DataFrames of this process, for the next report."""
        recorder, worker = self._recorder, self._recorder.worker
        self._frames = live_frames.list_frames(recorder.clock.wall())
        if worker.run is not None:
            live_frames.write(worker.run, worker.name, self._frames, recorder.disk)

    def report(self, read: Window) -> MemoryReport:
        """Return the document behind ``/perf/memory``.

        Args:
            read: the window, of the whole run.
        """
        from ..reports.memory import ThisWorker, build_memory_report

        recorder, worker = self._recorder, self._recorder.worker
        if worker.run is not None:
            frames = live_frames.read(worker.run, read.snapshot.workers, recorder.disk)
        else:
            frames = []
            if self._frames is not None:
                pid = recorder.clock.pid()
                frames.append({"worker": worker.name, "pid": pid, **self._frames})
        this_worker = ThisWorker(self._caches.statistics(), live_frames.decorator_savings())
        now = recorder.clock.wall()
        return build_memory_report(read, self._settings, now, machine(), frames, this_worker)
