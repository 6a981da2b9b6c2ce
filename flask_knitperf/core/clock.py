"""Time, process and randomness as values, so that tests can hand in their own.

Durations come from ``monotonic_ns`` (never goes backwards), moments that people read from ``wall``
(may jump), and a thread's own work from ``thread_ns``. Nothing in the core calls :mod:`time` itself.
"""

from __future__ import annotations

import os
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
        process_ns: CPU nanoseconds of all threads of this process.
        pid: the process id now (differs after a fork).
    """

    monotonic_ns: Callable[[], int] = time.perf_counter_ns
    wall: Callable[[], float] = time.time
    thread_ns: Callable[[], int] = time.thread_time_ns
    process_ns: Callable[[], int] = time.process_time_ns
    pid: Callable[[], int] = os.getpid


SYSTEM = Clock()
