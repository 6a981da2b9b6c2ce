"""What other threads did lately: Linux tells by their system id for how long they were on a core.

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
_CORES = os.cpu_count() or 1
_SELDOM = 8
SHORT_NS = 1_000_000
RUNS, IDLES, MOSTLY = 0.7, 0.1, 0.4


def running_share(before: int | None, after: int | None, window: int) -> float:
    """Return for which share of a short moment a stack runs that was seen at its beginning.

    A thread that computes may need a part of the moment to get back the GIL. Where the moment became
    long, because somebody computed all through it, what a thread did first counts for all of it.

    Args:
        before: nanoseconds that the thread was on a core, at the beginning; ``None`` where nobody can
            tell.
        after: at the end, likewise.
        window: nanoseconds in between.
    """
    if before is None or after is None or window <= 0:
        return 1.0
    share = (after - before) / window
    if IDLES < share < RUNS and window <= SHORT_NS:
        return share
    return float(share >= MOSTLY)


class Clocks:
    """Reads what threads of this process used, and whether they lack a core."""

    def __init__(self) -> None:
        self._natives: dict[int, int] = {}
        self._files: dict[str, int] = {}
        self._crowded = False
        self._asked = 0

    def used_ns(self, ident: int) -> int | None:
        """Return for how long a thread was on a core so far, ``None`` where nobody can tell.

        Args:
            ident: the thread's identity, as :func:`threading.get_ident` gives it.
        """
        if sys.platform != "linux":
            return None
        native = self._natives.get(ident) or self._native(ident)
        if not native:
            return None
        try:
            return time.clock_gettime_ns(~native << 3 | 6)  # a thread's clock, by its system id
        except OSError:  # gone, or another thread has its identity now
            self._natives.pop(ident, None)
            return None

    def crowded(self) -> bool:
        """Return whether more threads of this machine want a core than there are cores.

        It is looked up in one of eight calls, for it is dear.
        """
        if self._asked % _SELDOM == 0:
            running = self._said("/proc/loadavg").split()[3:4]
            self._crowded = bool(running) and int(running[0].partition(b"/")[0]) > _CORES
        self._asked += 1
        return self._crowded

    def ready(self, ident: int) -> bool:
        """Return whether a thread is on a core or waits for one, as far as the system tells."""
        native = self._natives.get(ident)
        said = self._said(f"/proc/self/task/{native}/stat") if native else b""
        return said[said.rfind(b")") + 2 :][:1] == b"R"  # what is before may hold anything

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

    def _said(self, path: str) -> bytes:
        """Return what the system says in one of its files, nothing where there is none (any more)."""
        if sys.platform != "linux":
            return b""
        file = self._files.get(path)
        try:
            if file is None:
                if len(self._files) >= _OPEN:
                    self.close()
                file = self._files[path] = os.open(path, os.O_RDONLY)
            return os.pread(file, 512, 0)
        except OSError:
            if file is not None:
                del self._files[path]
                os.close(file)
            return b""

    def close(self) -> None:
        """Close what was opened."""
        opened, self._files = self._files, {}
        for file in opened.values():
            os.close(file)

    def __del__(self) -> None:
        self.close()
