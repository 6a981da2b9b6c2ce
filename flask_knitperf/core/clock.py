"""Time, process and randomness as values, so that tests can hand in their own.

Durations come from ``monotonic_ns`` (never goes backwards), moments that people read from ``wall``
(may jump), and a thread's own work from ``thread_ns``. Nothing in the core calls :mod:`time` itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The sources of time and identity that a recorder uses.

    Attributes:
        monotonic_ns: nanoseconds on a clock that never runs backwards.
        wall: seconds since the epoch; may jump when the system clock is set.
        thread_ns: CPU nanoseconds of the calling thread.
        run_queue_ns: nanoseconds that the calling thread was ready to run and waited for a core; 0 where
            the system does not tell.
        process_ns: CPU nanoseconds of all threads of this process.
        pid: the process id now (differs after a fork).
    """

    monotonic_ns: Callable[[], int] = time.perf_counter_ns
    wall: Callable[[], float] = time.time
    thread_ns: Callable[[], int] = time.thread_time_ns
    run_queue_ns: Callable[[], int] = lambda: 0
    process_ns: Callable[[], int] = time.process_time_ns
    pid: Callable[[], int] = os.getpid

    def runnable_ns(self) -> int:
        """Return for how long the calling thread wanted a core so far, whether it had one or not."""
        return self.thread_ns() + self.run_queue_ns()


class _Schedule(threading.local):
    """Each thread's own ``schedstat`` file of Linux: time on a core, time ready for one, slices."""

    def __init__(self) -> None:
        try:
            self.descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self.descriptor = -1
        self.owner = _Descriptor(self.descriptor)


class _Descriptor:
    """Closes a file when the thread that opened it is gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class _Schedules:
    """This process's schedules; a forked child begins with none, for a file belongs to its thread."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget the files of the parent's threads."""
        self.local = _Schedule()

    def run_queue_ns(self) -> int:
        """Return how long this thread was ready and waited for a core, 0 where nobody tells."""
        descriptor = self.local.descriptor
        if descriptor < 0 or sys.platform == "win32":
            return 0
        return int(os.pread(descriptor, 64, 0).split()[1])


_SCHEDULES = _Schedules()
if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_SCHEDULES.renew)
SYSTEM = Clock(run_queue_ns=_SCHEDULES.run_queue_ns)
