"""Steps of a worker under memory pressure: shrink caches, then collect garbage, then trim.

Cached values can be recomputed, so they go first: half of the entries at *warning*, all at *critical*.
Only if that was not enough, the next tick runs the garbage collector, which stops all threads, and
returns free memory to the system. Each step is recorded as evidence with its effect.
"""

from __future__ import annotations

from collections.abc import Callable

from ...core.memory_levels import CGROUP, CRITICAL, FINE, LEVELS, MACHINE, WORKER
from ...metrics.catalogue import RELIEF, ReliefDetail, ReliefKey, ReliefStep
from ...recording.recorder import Recorder
from .process import CollectionResult, GCScheduler, MachineMemory, machine, rss

_KEPT_SHARE = {"warning": 0.5, "critical": 0.0}
"""Share of a cache's entries that survives, by level."""
_MACHINE_INTERVAL_S = 5.0
"""Seconds between readings of the machine's memory, which cost more than one's own RSS."""
_SHRINK_INTERVAL_S = 300.0
"""Minimum seconds between two shrinks at one level: caches refill under constant pressure."""


class Pressure:
    """Memory pressure of one worker, and its relief. :meth:`tick` is a job of the housekeeper.

    Args:
        recorder: receives each step as evidence.
        collector: collects and trims.
        shrink: shrinks the registered caches to a share of their entries; returns the number removed.
        threshold: RSS in bytes that a worker should stay below.
    """

    def __init__(
        self, recorder: Recorder, collector: GCScheduler, shrink: Callable[[float], int],
        threshold: int,
    ) -> None:  # fmt: skip
        self._recorder, self._collector = recorder, collector
        self._shrink, self._threshold = shrink, threshold
        self._machine_at = -_MACHINE_INTERVAL_S
        self._machine: MachineMemory | None = None
        self._shrunk_at, self._shrunk_level = -_SHRINK_INTERVAL_S, FINE

    def tick(self) -> CollectionResult | None:
        """Take the next step if memory is under pressure.

        Returns:
            What a garbage collection freed, ``None`` if there was none.
        """
        now = self._recorder.clock.monotonic_ns() / 1e9
        level = self.level(now)
        if level == FINE:
            return None
        if now - self._shrunk_at >= _SHRINK_INTERVAL_S or level > self._shrunk_level:
            self._shrunk_at, self._shrunk_level = now, level
            if self._shrink_caches(LEVELS[level]):
                return None  # the next tick measures whether that was enough
        return self._collector.tick(critical=level == CRITICAL)

    def level(self, now: float) -> int:
        """Return the worst of three levels: of this worker, of the machine, of its container.

        Args:
            now: monotonic time in seconds.
        """
        memory = self._machine
        if memory is None or now - self._machine_at >= _MACHINE_INTERVAL_S:
            memory = machine()
            self._machine_at, self._machine = now, memory
        return max(
            WORKER.level(rss(), self._threshold),
            MACHINE.level(memory.total - memory.available, memory.total),
            CGROUP.level(memory.cgroup_used or 0, memory.cgroup_limit or 0),
        )

    def _shrink_caches(self, level: str) -> bool:
        """Shrink the caches; return whether any entry was removed."""
        before = rss()
        removed = self._shrink(_KEPT_SHARE[level])
        if not removed:
            return False
        recorder = self._recorder
        at = recorder.clock.wall()
        detail = ReliefDetail(
            dropped=removed,
            before=before,
            after=rss(),
            collected=0,
            trimmed=0,
            objects=0,
            pause_ns=0,
            next_in_seconds=1.0,
            why=f"memory pressure ({level}): caches first",
        )
        key = ReliefKey(recorder.worker.name, round(at), ReliefStep.CACHES)
        recorder.note(RELIEF, key, at, detail)
        return True
