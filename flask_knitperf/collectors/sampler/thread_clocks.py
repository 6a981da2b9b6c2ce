"""CPU clocks and scheduler states of other threads (Linux only).

A thread's clock is read by its system id: a thread that has ended yields an error, whereas the clock of
a C library's thread handle could crash.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from ...core.host_exceptions import raise_if_of_host
from ...core.owned_descriptor import OwnedDescriptor

HAS_THREAD_CLOCKS = sys.platform == "linux"
"""Whether the CPU time of another thread can be read; elsewhere every sample counts as running."""
LONG_WINDOW_NS = 1_000_000
"""Length above which a window is long: another thread computed throughout it."""
_RUNNING_SHARE = 0.7
"""Share of a window above which a stack counts as running throughout."""
_WAITING_SHARE = 0.1
"""Share of a window below which a stack counts as waiting throughout."""
_LONG_WINDOW_RUNNING_SHARE = 0.4
"""Share of a long window from which a stack counts as running throughout."""
_MAX_OPEN_FILES = 128
_CORES = os.cpu_count() or 1
_LOADAVG_CALLS = 8
"""One call in this many reads /proc/loadavg, which is expensive."""


def running_share(before: int | None, after: int | None, window: int) -> float:
    """Return the share of a window in which a stack ran that was sampled at its start, 0 to 1.

    A thread that computes may need a part of the window to get back the GIL. Where the window became
    long, because another thread computed throughout, the first thing a thread did counts for all of it.

    Args:
        before: CPU time of the thread in nanoseconds at the start, ``None`` where unknown.
        after: its CPU time at the end.
        window: length in nanoseconds.
    """
    if before is None or after is None or window <= 0:
        return 1.0
    share = (after - before) / window
    if _WAITING_SHARE < share < _RUNNING_SHARE and window <= LONG_WINDOW_NS:
        return share
    return float(share >= _LONG_WINDOW_RUNNING_SHARE)


class ThreadClocks:
    """Reader of the CPU clocks and scheduler states of this process's threads."""

    def __init__(self) -> None:
        self._native_ids: dict[int, int] = {}
        self._files: dict[str, OwnedDescriptor] = {}
        self._oversubscribed = False
        self._calls = 0

    def cpu_ns(self, ident: int) -> int | None:
        """Return the CPU time of a thread in nanoseconds, ``None`` where unknown.

        Args:
            ident: identity of the thread, as of :func:`threading.get_ident`.
        """
        if sys.platform != "linux":
            return None
        native_id = self._native_ids.get(ident) or self._native_id(ident)
        if not native_id:
            return None
        try:
            # CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED of a system id (linux/posix-timers.h)
            return time.clock_gettime_ns(~native_id << 3 | 6)
        except OSError as error:  # it has ended, or another thread has its identity now
            raise_if_of_host(error)
            self._native_ids.pop(ident, None)
            return None

    def oversubscribed(self) -> bool:
        """Return whether this machine has more runnable threads than cores."""
        if self._calls % _LOADAVG_CALLS == 0:
            runnable = self._read("/proc/loadavg").split()[3:4]
            self._oversubscribed = bool(runnable) and int(runnable[0].partition(b"/")[0]) > _CORES
        self._calls += 1
        return self._oversubscribed

    def runnable(self, ident: int) -> bool:
        """Return whether a thread is on a core or in the run queue, as far as the system shows."""
        native_id = self._native_ids.get(ident)
        stat = self._read(f"/proc/self/task/{native_id}/stat") if native_id else b""
        return stat[stat.rfind(b")") + 2 :][:1] == b"R"  # after the name, which may hold anything

    def _native_id(self, ident: int) -> int:
        """Return the system id of a thread, 0 for a thread that Python did not start."""
        self._native_ids = {
            thread.ident: thread.native_id for thread in threading.enumerate()
            if thread.ident and thread.native_id
        }  # fmt: skip
        # In a forked process the native_id of the main thread is still that of the parent
        main = threading.main_thread().ident
        if main is not None:
            self._native_ids[main] = os.getpid()
        return self._native_ids.get(ident, 0)

    def _read(self, path: str) -> bytes:
        """Return the content of a file in /proc, empty where it does not exist (any more)."""
        if sys.platform != "linux":
            return b""
        file = self._files.get(path)
        try:
            if file is None:
                if len(self._files) >= _MAX_OPEN_FILES:
                    self.close()
                file = self._files[path] = OwnedDescriptor(os.open(path, os.O_RDONLY))
            return os.pread(file.number(), 512, 0)
        except OSError as error:
            raise_if_of_host(error)
            if file is not None:
                del self._files[path]
                file.close()
            return b""

    def close(self) -> None:
        """Close the open files."""
        files, self._files = self._files, {}
        for file in files.values():
            file.close()

    def __del__(self) -> None:
        self.close()
