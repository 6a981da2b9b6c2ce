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
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from .host_exceptions import raise_if_of_host
from .owned_descriptor import OwnedDescriptor

NS_PER_MS = 1e6
NS_PER_S = 1e9


@dataclass(slots=True, eq=False, repr=False)
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


_SCHEDSTAT = "/proc/thread-self/schedstat"  # of Linux: CPU time, run-queue wait, number of slices
_DESCRIPTORS_PER_KEPT = 16  # of those that a process may open, one in this many is kept for threads


class _Schedule(threading.local):
    """The open ``schedstat`` of a thread; ``None`` where it is not kept open."""

    def __init__(self) -> None:
        self.file: OwnedDescriptor | None = None


class _Schedules:
    """``schedstat`` files of this process. A forked child starts without: a file belongs to a thread.

    A few threads keep theirs open. Those beyond open it for each reading, so that a process with many
    threads keeps its descriptors.
    """

    def __init__(self) -> None:
        self.is_known = os.path.exists(_SCHEDSTAT)
        self._most = _descriptor_limit() // _DESCRIPTORS_PER_KEPT
        self.renew()

    def renew(self) -> None:
        """Drop the descriptors of the parent's threads; called in a forked child."""
        self.local = _Schedule()
        self._open: weakref.WeakSet[OwnedDescriptor] = weakref.WeakSet()
        self._opening = threading.Lock()

    def run_queue_ns(self) -> int:
        """Return the run-queue wait of the calling thread in nanoseconds, 0 where it is unknown."""
        if not self.is_known or sys.platform == "win32":
            return 0
        file = self.local.file
        number = -1 if file is None else file.number()
        try:
            if number < 0:
                file = OwnedDescriptor(os.open(_SCHEDSTAT, os.O_RDONLY))
                number = file.number()
                with self._opening:
                    if len(self._open) < self._most:
                        self._open.add(file)
                        self.local.file = file
            return int(os.pread(number, 64, 0).split()[1])
        except (OSError, IndexError, ValueError) as error:
            raise_if_of_host(error)
            return 0  # no descriptor is left, or the host put another file in between


def _descriptor_limit() -> int:
    """Return the number of descriptors that this process may open."""
    if sys.platform == "win32":  # pragma: no cover
        return 0
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


_SCHEDULES = _Schedules()
if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_SCHEDULES.renew)
SYSTEM = Clock(run_queue_ns=_SCHEDULES.run_queue_ns)
