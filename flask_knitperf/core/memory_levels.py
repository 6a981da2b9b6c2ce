"""Memory pressure as an ordered level: the shares of a limit at which it becomes warning or critical.

Workers act on these levels and reports show them, so both read this table.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["fine", "warning", "critical"]
LEVELS: tuple[Level, ...] = ("fine", "warning", "critical")
"""In order of severity."""
FINE = 0
WARNING = 1
CRITICAL = 2


class Shares(NamedTuple):
    """Shares of a limit above which the level is warning or critical."""

    warning: float
    critical: float

    def level(self, used: float, whole: float) -> int:
        """Return the index into :data:`LEVELS` of ``used`` out of ``whole`` bytes; 0 without a limit."""
        if whole <= 0:
            return FINE
        share = used / whole
        return (share > self.warning) + (share > self.critical)


WORKER = Shares(1.0, 2.0)  # of the target for one worker
MACHINE = Shares(0.85, 0.95)  # of the machine's memory
CGROUP = Shares(0.80, 0.95)  # of the container's limit, above which processes are killed
