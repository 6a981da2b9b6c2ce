"""What other threads did lately: Linux tells by their system id for how long they wanted a core.

A thread that is gone gives an error and no crash, which a clock of the C library would not promise.
"""

from __future__ import annotations

import os
import sys
import threading
import time

TELLS_RUNNING = sys.platform == "linux"
"""Whether one thread can read what another used; elsewhere all samples count as running."""
_OPEN = 64
RUNS, TURNS = 0.4, 3
"""In a moment that short a thread changes once at most, unless it was given a core three times."""

Glance = tuple[int, int]
"""Nanoseconds that a thread was on a core or waited for one; how often it was given one."""


def running_share(before: Glance | None, after: Glance | None, window: int) -> float:
    """Return for which share of a short moment a stack runs that was seen at its beginning.

    A thread that changes its mind within the moment is counted for what it did first; one that
    does so all the time, for what it did on the whole.

    Args:
        before: at the beginning, ``None`` where nobody can tell.
        after: at the end, likewise.
        window: nanoseconds in between.
    """
    if before is None or after is None or window <= 0:
        return 1.0
    share = min(1.0, max(0.0, (after[0] - before[0]) / window))
    return share if after[1] - before[1] >= TURNS else float(share >= RUNS)


class Clocks:
    """Reads what threads of this process used."""

    def __init__(self) -> None:
        self._natives: dict[int, int] = {}
        self._ready: dict[int, int] = {}  # files by system id, -1 where there is none

    def glance(self, ident: int) -> Glance | None:
        """Return what a thread has done so far, ``None`` where nobody can tell.

        Args:
            ident: the thread's identity, as :func:`threading.get_ident` gives it.
        """
        if sys.platform != "linux":
            return None
        native = self._natives.get(ident) or self._native(ident)
        if not native:
            return None
        try:
            used = time.clock_gettime_ns(~native << 3 | 6)  # a thread's clock, by its system id
        except OSError:  # gone, or another thread has its identity now
            self._natives.pop(ident, None)
            return None
        waited, turns = self._waited(native)
        return used + waited, turns

    def _native(self, ident: int) -> int:
        """Return the system's id of a thread, 0 where Python does not know it."""
        self._natives = {
            thread.ident: thread.native_id for thread in threading.enumerate()
            if thread.ident and thread.native_id
        }  # fmt: skip
        main = threading.main_thread().ident  # whose native_id is its parent's, in a forked process
        if main is not None:
            self._natives[main] = os.getpid()
        return self._natives.get(ident, 0)

    def _waited(self, native: int) -> Glance:
        """Return for how long a thread was ready and had no core, and how often it was given one."""
        if sys.platform != "linux":
            return 0, 0
        file = self._ready.get(native)
        if file is None:
            if len(self._ready) >= _OPEN:
                self.close()
            try:
                file = os.open(f"/proc/self/task/{native}/schedstat", os.O_RDONLY)
            except OSError:
                file = -1
            self._ready[native] = file
        if file < 0:
            return 0, 0
        try:
            _, waited, turns = os.pread(file, 100, 0).split()
            return int(waited), int(turns)
        except (OSError, ValueError):
            self._ready.pop(native, None)
            os.close(file)
            return 0, 0

    def close(self) -> None:
        """Close what was opened."""
        opened, self._ready = self._ready, {}
        for file in opened.values():
            if file >= 0:
                os.close(file)

    def __del__(self) -> None:
        self.close()
