"""Pauses of the garbage collector, measured without allocating inside a collection.

The callback adds up differences of two clock readings; a request reads the total at its start and its
end. A pause stops every thread, so it is charged to every request in flight.
"""

from __future__ import annotations

import gc
import time
from collections import deque

from ..core.locks import create_lock
from .fastpath import PauseTotalBase

MAX_KEPT_PAUSES = 200


class GCWatch(PauseTotalBase):
    """Measures collections while it has at least one user. One per process."""

    def __init__(self) -> None:
        self.now = time.perf_counter_ns
        self.pauses = [[0, 0], [0, 0], [0, 0]]
        self.latest = deque(maxlen=MAX_KEPT_PAUSES)
        self._users = 0
        self._lock = create_lock()

    def own(self, thread: int, since: int) -> int:
        """Return the nanoseconds of pauses, those not short, that one thread triggered.

        Args:
            thread: identifier of the thread.
            since: earliest start that counts, in nanoseconds.
        """
        return sum(
            end - begin for begin, end, ident in list(self.latest)
            if ident == thread and begin >= since
        )  # fmt: skip

    def hold(self) -> None:
        """Add a user; the first one installs the callback."""
        with self._lock:
            self._users += 1
            if self not in gc.callbacks:
                gc.callbacks.append(self)

    def let_go(self) -> None:
        """Remove a user; the last one removes the callback."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if not self._users and self in gc.callbacks:
                gc.callbacks.remove(self)


WATCH = GCWatch()
