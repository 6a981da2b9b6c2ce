"""What this process and this machine have, and giving memory back.

Reading costs 0.1 to 1 ms, so it is the housekeeper's work and never a request's. A collection of a big
heap stops all threads; it runs when memory is above the threshold, rather when no request is in
flight, at a bounded rate, and ever more rarely while it does not help.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ...core.units import MB
from ...metrics.instruments import Kind, Merge, Meter
from ...recording.gc_pauses import WATCH
from ...recording.recorder import Recorder

RSS = Meter("rss_bytes", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)
PSS = Meter("pss_bytes", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)
PEAK = Meter("peak_bytes", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)
GC_PAUSES = Meter("gc_pause", Kind.COUNTER, "ns", ("generation",), 3)
_TREND = 60
_LIMIT = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def cgroup(paths: tuple[str, ...]) -> int | None:
    """Return a figure of this control group in bytes, ``None`` where there is none."""
    for path in paths:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < 1 << 60:
            return int(text)
    return None


def machine() -> dict[str, float | int | None]:
    """Return total, available, percent used, and the control group's limit and use; bytes."""
    memory = psutil.virtual_memory()
    limit = cgroup(_LIMIT)
    return {
        "total": memory.total,
        "available": memory.available,
        "percent": memory.percent,
        "cgroup_limit": limit,
        "cgroup_used": None if limit is None else cgroup(_USED),
    }


def rss() -> int:
    """Return this process's resident memory in bytes."""
    return int(psutil.Process().memory_info().rss)


def pss() -> int | None:
    """Return this process's proportional share of resident memory, ``None`` where unknown."""
    try:
        found = getattr(psutil.Process().memory_full_info(), "pss", None)
    except psutil.Error:
        return None
    return None if found is None else int(found)


def peak() -> int | None:
    """Return the highest resident memory so far in bytes, ``None`` where unknown."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def trim() -> None:
    """Give free memory back to the system: the C allocator's, and Arrow's pool if it is in use."""
    pyarrow: Any = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)


@dataclass(frozen=True, slots=True)
class Freed:
    """What one collection did: RSS in bytes before, after collecting, after trimming."""

    before: int
    collected: int
    trimmed: int
    objects: int
    pause_ns: int

    @property
    def helped(self) -> bool:
        """Whether it gave back at least 1 % of what was in use."""
        return self.before - self.trimmed >= self.before // 100


def collect(clock_ns: Callable[[], int]) -> Freed:
    """Collect all generations, then give free memory back."""
    before = rss()
    began = clock_ns()
    objects = gc.collect()
    pause = clock_ns() - began
    collected = rss()
    trim()
    return Freed(before, collected, rss(), objects, pause)


class Collector:
    """Decides when to collect. One per recorder, run by its housekeeper.

    Args:
        recorder: where gauges and evidence go.
        threshold: RSS in bytes above which it collects.
        pause: least seconds between two collections.
    """

    def __init__(self, recorder: Recorder, threshold: int, pause: float) -> None:
        self.recorder = recorder
        self._threshold = threshold
        self._pause = pause
        self._next = 0.0
        self._waited = 0
        self._in_vain = 0
        self._reported = [[0, 0], [0, 0], [0, 0]]
        self._trend: deque[list[float]] = deque(maxlen=_TREND)

    def gauges(self) -> None:
        """Record this process's memory and its collections since the last time."""
        recorder = self.recorder
        rows = [(RSS, rss()), (PSS, pss()), (PEAK, peak())]
        found = [(recorder.series(m), 1, float(v)) for m, v in rows if v is not None]
        for generation, (count, took) in enumerate(WATCH.pauses):
            old = self._reported[generation]
            if count > old[0]:
                series = recorder.series(GC_PAUSES, str(generation))
                found.append((series, 1, float(took - old[1])))
                if count - old[0] > 1:
                    found.append((series, count - old[0] - 1, 0.0))
                self._reported[generation] = [count, took]
        recorder.emit(found)
        self._remember(found[0][2])

    def _remember(self, used: float) -> None:
        """Keep the lowest resident size of each minute of the last hour, for the trend."""
        minute = self.recorder.clock.wall() // 60 * 60
        size = round(used / MB, 2)
        if self._trend and self._trend[-1][0] == minute:
            self._trend[-1][1] = min(size, self._trend[-1][1])
        else:
            self._trend.append([minute, size])
        self.recorder.worker.identity["trend"] = list(self._trend)

    def tend(self, *, pressed: bool = False) -> Freed | None:
        """Collect if memory is above the threshold and the time is right.

        Args:
            pressed: the machine or the container is near its end, so the threshold does not matter.
        """
        now = self.recorder.clock.monotonic_ns() / 1e9
        used = rss()
        above = used > self._threshold
        if not (above or pressed) or now < self._next:
            return None
        if self.recorder.spans and self._waited < 5:  # rather between requests
            self._waited += 1
            return None
        return self.collect("above the threshold" if above else "the machine runs out of memory")

    def collect(self, why: str) -> Freed:
        """Collect now, and report what it freed.

        Args:
            why: what it was done for.
        """
        now = self.recorder.clock.monotonic_ns() / 1e9
        self._waited = 0
        freed = collect(self.recorder.clock.monotonic_ns)
        self._in_vain = 0 if freed.helped else self._in_vain + 1
        self._next = now + self._pause * 2 ** min(self._in_vain, 7)
        self.recorder.note(
            "collection",
            f"{self.recorder.worker.name} {round(self.recorder.clock.wall())}",
            self.recorder.clock.wall(),
            {
                "step": "collect", "dropped": 0, "trimmed": freed.collected - freed.trimmed,
                "before": freed.before, "after": freed.trimmed, "objects": freed.objects,
                "collected": freed.before - freed.collected, "pause_ns": freed.pause_ns,
                "next_in_seconds": self._pause * 2 ** min(self._in_vain, 7),
                "why": why if freed.helped else
                f"{why}; it gave nothing back (what is in use is reachable), so it waits longer",
            },
        )  # fmt: skip
        return freed
