"""A machine whose cores are taken by other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CORES = os.cpu_count() or 1

_PROGRAM = """
import os
import sys

while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Have processes compute until the block ends, or until this process does.

    Each runs in a separate session, so that the scheduler treats it as another program.
    """
    command = [sys.executable, "-c", _PROGRAM, str(os.getpid())]
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
