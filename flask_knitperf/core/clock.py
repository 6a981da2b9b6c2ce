"""Injectable sources of time and process identity.

Durations come from ``monotonic_ns`` (never runs backwards), timestamps that people read from ``wall``
(may jump), and CPU time of a thread from ``thread_ns``. The engine calls :mod:`time` nowhere else, so
tests pass their own clock.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

NS_PER_MS = 1e6
NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Clock:
    """Sources of time and identity of one recorder.

    Attributes:
        monotonic_ns: nanoseconds on a clock that never runs backwards.
        wall: seconds since the epoch; may jump when the system clock is set.
        thread_ns: CPU nanoseconds of the calling thread.
        run_queue_ns: nanoseconds that the calling thread spent in the run queue, ready but without a
            core; 0 on systems without ``schedstat``.
        process_ns: CPU nanoseconds of all threads of this process.
        pid: id of the current process; differs after a fork.
    """

    monotonic_ns: Callable[[], int] = time.perf_counter_ns
    wall: Callable[[], float] = time.time
    thread_ns: Callable[[], int] = time.thread_time_ns
    run_queue_ns: Callable[[], int] = lambda: 0
    process_ns: Callable[[], int] = time.process_time_ns
    pid: Callable[[], int] = os.getpid

    def runnable_ns(self) -> int:
        """CPU time plus run-queue wait of the calling thread, in nanoseconds."""
        return self.thread_ns() + self.run_queue_ns()


class _Schedule(threading.local):
    """Per-thread descriptor of Linux' ``schedstat``: CPU time, run-queue wait, number of slices."""

    def __init__(self) -> None:
        try:
            self.descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self.descriptor = -1
        self.owner = _Descriptor(self.descriptor)


class _Descriptor:
    """Closes a descriptor when its thread ends (with the thread-local that owns it)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class _Schedules:
    """``schedstat`` files of this process. A forked child starts without: a file belongs to a thread."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Drop the descriptors of the parent's threads; called in a forked child."""
        self.local = _Schedule()

    def run_queue_ns(self) -> int:
        """Return the run-queue wait of the calling thread in nanoseconds, 0 where it is unknown."""
        descriptor = self.local.descriptor
        if descriptor < 0 or sys.platform == "win32":
            return 0
        return int(os.pread(descriptor, 64, 0).split()[1])


_SCHEDULES = _Schedules()
if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_SCHEDULES.renew)
SYSTEM = Clock(run_queue_ns=_SCHEDULES.run_queue_ns)
