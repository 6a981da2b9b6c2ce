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
_OPEN = 128
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
        self._files: dict[tuple[int, str], int] = {}

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

    def ready(self, ident: int) -> bool:
        """Return whether a thread is on a core or waits for one, as far as the system tells."""
        native = self._natives.get(ident)
        said = self._said(native, "stat") if native else b""
        return said[said.rfind(b")") + 2 :][:1] == b"R"  # what is before may hold anything

    def _waited(self, native: int) -> Glance:
        """Return for how long a thread was ready and had no core, and how often it was given one."""
        said = self._said(native, "schedstat").split()
        return (int(said[1]), int(said[2])) if len(said) == 3 else (0, 0)

    def _said(self, native: int, name: str) -> bytes:
        """Return what the system says of a thread in one of its files, nothing if it is gone."""
        if sys.platform != "linux":
            return b""
        file = self._files.get((native, name))
        try:
            if file is None:
                if len(self._files) >= _OPEN:
                    self.close()
                path = f"/proc/self/task/{native}/{name}"
                file = self._files[native, name] = os.open(path, os.O_RDONLY)
            return os.pread(file, 512, 0)
        except OSError:
            if file is not None:
                del self._files[native, name]
                os.close(file)
            return b""

    def close(self) -> None:
        """Close what was opened."""
        opened, self._files = self._files, {}
        for file in opened.values():
            os.close(file)

    def __del__(self) -> None:
        self.close()
