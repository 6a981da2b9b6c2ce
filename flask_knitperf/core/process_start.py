"""Time at which the process started that imported this package.

Workers that a server forks after the import inherit it, so all code that they run was loaded later.
"""

from __future__ import annotations

import os
import time
from typing import Any

from .host_exceptions import raise_if_of_host

_posix: Any = os  # names that Windows lacks, for the type checker
_linux: Any = time


def _start_since_boot() -> float | None:
    """Return the start of this process in seconds since the system started, its suspensions included."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[19]) / float(_posix.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError, IndexError) as error:  # another system than Linux
        raise_if_of_host(error)
        return None


_SINCE_BOOT = _start_since_boot()


def _by_the_present_clock() -> float:
    if _SINCE_BOOT is not None:
        return time.time() - float(_linux.clock_gettime(_linux.CLOCK_BOOTTIME)) + _SINCE_BOOT
    import psutil  # 20 ms, and needed nowhere else so early

    created: float = psutil.Process().create_time()
    return created


_AT_IMPORT = _by_the_present_clock()


def started_at() -> float:
    """Return the start of the process in seconds since the epoch.

    If the clock was set meanwhile, it is the earlier of the two times that result: what has a later time
    may be younger than the process.
    """
    return _AT_IMPORT if _SINCE_BOOT is None else min(_AT_IMPORT, _by_the_present_clock())
