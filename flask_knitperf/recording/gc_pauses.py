"""How long garbage collections stop this process, without doing anything inside them.

The callback adds up two clock readings; a request reads the sum when it begins and when it ends. A
pause stops every thread, so it is charged to every request in flight.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from threading import get_ident
from typing import Any

from ..core.locks import Lock
from .fastpath import PauseTotalBase

PAUSES_KEPT = 200
WORTH_KEEPING_NS = 1_000_000
"""Shorter pauses are only added up."""


class GCWatch(PauseTotalBase):
    """Times collections while at least one user holds it. One per process.

    Attributes:
        total: nanoseconds spent in collections so far.
        pauses: ``[count, nanoseconds]`` by generation.
        latest: begin and end of the latest pauses that one could notice, in nanoseconds, and the
            thread in which each began.
    """

    def __init__(self) -> None:
        self.total = 0
        self.pauses = [[0, 0], [0, 0], [0, 0]]
        self.latest: deque[tuple[int, int, int]] = deque(maxlen=PAUSES_KEPT)
        self._began = 0
        self._users = 0
        self._turn = Lock()

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """Take note of a collection's begin or end (called by the collector)."""
        if phase == "start":
            self._began = time.perf_counter_ns()
        elif self._began:
            began, self._began = self._began, 0
            took = time.perf_counter_ns() - began
            if took > WORTH_KEEPING_NS:
                self.latest.append((began, began + took, get_ident()))
            self.total += took
            row = self.pauses[info["generation"]]
            row[0] += 1
            row[1] += took

    def own(self, thread: int, since: int) -> int:
        """Return the nanoseconds of noticeable pauses that one thread's objects brought about.

        Args:
            thread: its identifier.
            since: the earliest begin that counts, nanoseconds.
        """
        return sum(
            end - begin for begin, end, ident in list(self.latest)
            if ident == thread and begin >= since
        )  # fmt: skip

    def hold(self) -> None:
        """Begin to watch, or count one more user."""
        with self._turn:
            self._users += 1
            if self not in gc.callbacks:
                gc.callbacks.append(self)

    def let_go(self) -> None:
        """Stop watching when the last user lets go."""
        with self._turn:
            self._users = max(0, self._users - 1)
            if not self._users and self in gc.callbacks:
                gc.callbacks.remove(self)


WATCH = GCWatch()
