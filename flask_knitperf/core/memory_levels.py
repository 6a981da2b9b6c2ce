"""How near memory is to its end, as an ordered level: the shares of a limit at which it presses.

Workers act on it and reports tell it, so both read this table.
"""

from __future__ import annotations

from typing import NamedTuple

LEVELS = ("fine", "warning", "critical")
"""Ordered: a later one is worse."""
FINE, WARNING, CRITICAL = range(3)


class Shares(NamedTuple):
    """Shares of a limit above which memory presses."""

    warning: float
    critical: float

    def level(self, used: float, whole: float) -> int:
        """Return the place in :data:`LEVELS` of so much of a limit; without one it is fine."""
        if whole <= 0:
            return FINE
        share = used / whole
        return (share > self.warning) + (share > self.critical)


WORKER = Shares(1.0, 2.0)
"""Of what one worker should use."""
MACHINE = Shares(0.85, 0.95)
"""Of the machine's memory."""
CGROUP = Shares(0.80, 0.95)
"""Of the container's limit, beyond which processes are killed."""
