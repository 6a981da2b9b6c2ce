"""What a worker does when memory presses: caches shrink first, then the collector runs, then it trims.

Cached values can be made again, so they go first: half of them at *warning*, all at *critical*. Only if
that was not enough the next turn collects, which stops all threads, and gives free memory back to the
system. Each step is reported with what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...core.memory_levels import CGROUP, CRITICAL, FINE, LEVELS, MACHINE, WORKER
from ...recording.recorder import Recorder
from .process import Collector, Freed, machine, rss

_KEPT = {"warning": 0.5, "critical": 0.0}
"""Share of a cache's entries that stays."""
_MACHINE_S = 5.0
"""The machine's memory is read so often; that costs more than reading one's own."""
_AGAIN_S = 300.0
"""Caches that fill up under pressure are not shrunk more often than this."""


class Pressure:
    """Relieves one worker. Its method is the housekeeper's job.

    Args:
        recorder: where steps are reported.
        collector: collects and trims.
        shrink: shrinks the registered caches to a share of their entries; returns how many went.
        threshold: bytes that a worker should use.
    """

    def __init__(
        self, recorder: Recorder, collector: Collector, shrink: Callable[[float], int],
        threshold: int,
    ) -> None:  # fmt: skip
        self._recorder, self._collector = recorder, collector
        self._shrink, self._threshold = shrink, threshold
        self._machine: tuple[float, Mapping[str, Any]] = (-_MACHINE_S, {})
        self._shrunk: tuple[float, int] = (-_AGAIN_S, FINE)

    def turn(self) -> Freed | None:
        """Take the next step, if memory presses; return what a collection freed, if there was one."""
        now = self._recorder.clock.monotonic_ns() / 1e9
        level = self.level(now)
        if level == FINE:
            return None
        last, then = self._shrunk
        if now - last >= _AGAIN_S or level > then:
            self._shrunk = now, level
            if self._relieve(LEVELS[level]):
                return None  # whether that was enough shows at the next turn
        return self._collector.tend(pressed=level == CRITICAL)

    def level(self, now: float) -> int:
        """Return the worst of three levels: of this worker, of the machine, of its container.

        Args:
            now: seconds on a clock that never goes back.
        """
        if now - self._machine[0] >= _MACHINE_S:
            self._machine = now, machine()
        had = self._machine[1]
        return max(
            WORKER.level(rss(), self._threshold),
            MACHINE.level(had["total"] - had["available"], had["total"]),
            CGROUP.level(had["cgroup_used"] or 0, had["cgroup_limit"] or 0),
        )

    def _relieve(self, level: str) -> bool:
        """Shrink the caches; return whether anything went."""
        before = rss()
        dropped = self._shrink(_KEPT[level])
        if not dropped:
            return False
        recorder = self._recorder
        recorder.note(
            "collection", f"{recorder.worker.name} {recorder.clock.wall():.0f} caches",
            recorder.clock.wall(),
            {"step": "caches", "dropped": dropped, "before": before, "after": rss(), "objects": 0,
             "collected": 0, "trimmed": 0, "pause_ns": 0, "next_in_seconds": 1.0,
             "why": f"memory presses ({level}): caches first"},
        )  # fmt: skip
        return True
