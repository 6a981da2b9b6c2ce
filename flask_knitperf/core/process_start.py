"""Time at which the process started that imported this package.

Workers that a server forks after the import inherit it, so all code that they run was loaded later.
"""

from __future__ import annotations

import os
import time

from .host_exceptions import raise_if_of_host


def _started() -> float:
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        ticks = int(fields[19])  # since the system started, its suspensions included
        since = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError) as error:  # another system than Linux
        raise_if_of_host(error)
        import psutil  # 20 ms, and needed nowhere else so early

        created: float = psutil.Process().create_time()
        return created
    return time.time() - since


STARTED_AT = _started()
"""Seconds since the epoch."""
