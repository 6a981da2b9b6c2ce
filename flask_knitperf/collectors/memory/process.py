"""Memory of this process and of this machine, garbage collection on demand, and trimming.

A reading costs 0.1 to 1 ms, so only the housekeeper takes one, never a request. A collection of a large
heap stops all threads; it runs when RSS is above the threshold, preferably while no request is in
flight, at a bounded rate, and with exponential back-off while it frees nothing. It finalizes objects of
the host, so it runs in the thread of a request (:mod:`...recording.after_response`).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ...core.host_exceptions import raise_if_of_host
from ...core.units import MB
from ...metrics.catalogue import (
    GC_PAUSE,
    PEAK_RSS,
    PSS,
    RELIEF,
    RSS,
    ReliefDetail,
    ReliefKey,
    ReliefStep,
)
from ...metrics.log_format import with_total
from ...recording.after_response import AfterResponse
from ...recording.gc_pauses import WATCH
from ...recording.housekeeper import in_housekeeper
from ...recording.recorder import Recorder

_TREND_MINUTES = 60
_CGROUP_LIMIT = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_CGROUP_USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
_NO_CGROUP_LIMIT = 1 << 60
"""Cgroup v1 writes a number above this where no limit is set; v2 writes ``max``."""
_PATIENCE_S = 5.0
"""Seconds to wait for a moment without a request in flight."""
_IDLE_TICKS = 5
"""Number of ticks without a response after which an idle worker only trims."""
_MAX_BACKOFF_DOUBLINGS = 7


def cgroup(paths: tuple[str, ...]) -> int | None:
    """Return a figure of this control group in bytes, ``None`` where none is set.

    Args:
        paths: of the file that holds it, for cgroup v2 and v1.
    """
    for path in paths:
        try:
            text = Path(path).read_text().strip()
        except OSError as error:
            raise_if_of_host(error)
            continue
        if text.isdigit() and int(text) < _NO_CGROUP_LIMIT:
            return int(text)
    return None


class MachineMemory(NamedTuple):
    """Memory of the machine and of the process's control group.

    Attributes:
        total: bytes of the machine.
        available: bytes of the machine that are not in use.
        percent: of the machine's memory in use.
        cgroup_limit: bytes that the control group may use, ``None`` outside a limited one.
        cgroup_used: bytes that the control group uses, ``None`` outside a limited one.
    """

    total: int
    available: int
    percent: float
    cgroup_limit: int | None
    cgroup_used: int | None


def machine() -> MachineMemory:
    """Return the memory of the machine and of the process's control group."""
    memory = psutil.virtual_memory()
    limit = cgroup(_CGROUP_LIMIT)
    used = None if limit is None else cgroup(_CGROUP_USED)
    return MachineMemory(memory.total, memory.available, memory.percent, limit, used)


def rss() -> int:
    """Return the resident set size (RSS) of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


def virtual_size() -> int:
    """Return the virtual memory of this process in bytes."""
    return int(psutil.Process().memory_info().vms)


def pss() -> int | None:
    """Return the proportional set size (PSS) in bytes, ``None`` where the system has none."""
    try:
        size = getattr(psutil.Process().memory_full_info(), "pss", None)
    except psutil.Error:
        return None
    return None if size is None else int(size)


def peak() -> int | None:
    """Return the highest RSS so far in bytes, ``None`` where the system has none."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def trim() -> None:
    """Return free memory to the system: the C allocator's, and that of Arrow's pool if loaded."""
    pyarrow: Any = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)


class CollectionResult(NamedTuple):
    """Effect of one garbage collection.

    Attributes:
        before: RSS before it, in bytes.
        collected: RSS after collecting.
        trimmed: RSS after trimming.
        objects: number of unreachable objects.
        pause_ns: duration of the collection, without trimming.
    """

    before: int
    collected: int
    trimmed: int
    objects: int
    pause_ns: int

    @property
    def effective(self) -> bool:
        """Whether RSS fell by at least 1 %."""
        return self.before - self.trimmed >= self.before // 100


def collect(clock_ns: Callable[[], int]) -> CollectionResult:
    """Collect all generations, then return free memory to the system."""
    before = rss()
    started = clock_ns()
    objects = gc.collect()
    pause = clock_ns() - started
    collected = rss()
    trim()
    return CollectionResult(before, collected, rss(), objects, pause)


class GCScheduler:
    """Runs garbage collections when memory is short. One per recorder; its methods are jobs.

    Args:
        recorder: receives gauges and evidence.
        threshold: RSS in bytes above which it collects.
        min_interval: minimum seconds between two collections.
        after_response: runs the collections that :meth:`tick` decides on, ``None`` to run them in the
            calling thread, where there are no requests.
    """

    def __init__(
        self, recorder: Recorder, threshold: int, min_interval: float,
        after_response: AfterResponse | None = None,
    ) -> None:  # fmt: skip
        self.recorder = recorder
        self._threshold = threshold
        self._min_interval = min_interval
        self._next_at = 0.0
        self._after_response = after_response
        self._why = ""  # of the collection that waits for a response
        self._waiting_ticks = 0
        self._ineffective_runs = 0
        self._reported = [[0, 0], [0, 0], [0, 0]]  # [count, ns] of pauses, by generation
        self._trend: deque[list[float]] = deque(maxlen=_TREND_MINUTES)

    def record_gauges(self) -> None:
        """Record RSS, PSS and peak, and the GC pauses since the previous call."""
        recorder = self.recorder
        gauges = [(RSS, rss()), (PSS, pss()), (PEAK_RSS, peak())]
        group = [(recorder.series(m), 1, float(v)) for m, v in gauges if v is not None]
        for generation, (count, total_ns) in enumerate(WATCH.pauses):
            old_count, old_ns = self._reported[generation]
            if count > old_count:
                series = recorder.series(GC_PAUSE, str(generation))
                group += with_total(series, count - old_count, total_ns - old_ns)
                self._reported[generation] = [count, total_ns]
        recorder.emit(group)
        self._extend_trend(group[0][2])

    def _extend_trend(self, used: float) -> None:
        """Keep the lowest RSS of each minute of the last hour.

        Args:
            used: RSS in bytes.
        """
        minute = self.recorder.clock.wall() // 60 * 60
        size = round(used / MB, 2)
        while self._trend and self._trend[-1][0] > minute:  # the clock was set back
            self._trend.pop()
        if self._trend and self._trend[-1][0] == minute:
            self._trend[-1][1] = min(size, self._trend[-1][1])
        else:
            self._trend.append([minute, size])
        self.recorder.worker.identity["trend"] = list(self._trend)

    def tick(self, *, critical: bool = False) -> CollectionResult | None:
        """Have garbage collected if RSS is above the threshold, but not too often.

        Args:
            critical: the machine or the container is almost out of memory: ignore the threshold.

        Returns:
            The effect of a collection in this thread, or of trimming; ``None`` if nothing was done yet.
        """
        now = self.recorder.clock.monotonic_ns() / 1e9
        above = rss() > self._threshold
        if now < self._next_at or not (above or critical):
            self._withdraw()
            return None
        why = "above the threshold" if above else "the machine runs out of memory"
        if self._after_response is None:
            return self.collect(why)
        self._why = why
        self._after_response.add(self._collect_after_response, _PATIENCE_S)
        self._waiting_ticks += 1
        if self._waiting_ticks == _IDLE_TICKS and not self.recorder.spans:
            return self._trim()
        return None

    def request(self) -> None:
        """Collect now, or after the next response if the housekeeper calls."""
        if self._after_response is None or not in_housekeeper():
            self.collect("requested")
        else:
            self._after_response.add(self._collect_as_requested, _PATIENCE_S)

    def _collect_as_requested(self) -> None:
        self.collect("requested")

    def _collect_after_response(self) -> None:
        self.collect(self._why)

    def _withdraw(self) -> None:
        """Cancel the collection that waits for a response."""
        self._waiting_ticks = 0
        if self._after_response is not None:
            self._after_response.discard(self._collect_after_response)

    def _trim(self) -> CollectionResult:
        """Return free memory to the system; unlike a collection it finalizes nothing."""
        before = rss()
        trim()
        result = CollectionResult(before, before, rss(), 0, 0)
        why = "idle: garbage is collected after the next response, free memory was returned"
        self._record(result, 0.0, f"{self._why}; {why}")
        return result

    def collect(self, why: str) -> CollectionResult:
        """Collect now, and record the effect as evidence.

        Args:
            why: the reason, for the report.
        """
        now = self.recorder.clock.monotonic_ns() / 1e9
        self._next_at = now + self._min_interval  # until the effect is known
        self._withdraw()
        result = collect(self.recorder.clock.monotonic_ns)
        self._ineffective_runs = 0 if result.effective else self._ineffective_runs + 1
        wait = self._min_interval * 2 ** min(self._ineffective_runs, _MAX_BACKOFF_DOUBLINGS)
        self._next_at = now + wait
        if not result.effective:
            why += "; it freed nothing (everything in use is reachable), so it waits longer"
        self._record(result, wait, why)
        return result

    def _record(self, result: CollectionResult, wait: float, why: str) -> None:
        at = self.recorder.clock.wall()
        detail = ReliefDetail(
            dropped=0,
            before=result.before,
            after=result.trimmed,
            collected=result.before - result.collected,
            trimmed=result.collected - result.trimmed,
            objects=result.objects,
            pause_ns=result.pause_ns,
            next_in_seconds=wait,
            why=why,
        )
        key = ReliefKey(self.recorder.worker.name, round(at), ReliefStep.COLLECT)
        self.recorder.note(RELIEF, key, at, detail)
