"""A process that has imported everything, and forks one that runs a script for each line that it reads.

A new interpreter takes over a second to import pandas and Flask; a test needs several of them. The
script itself is run from its start in each process.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any


class Process:
    """A forked process.

    Attributes:
        pid: its number.
        returncode: its exit status, the negative number of a signal that ended it; ``None`` before.
    """

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self._output = pid, output
        self.returncode: int | None = None

    def communicate(self, timeout: float = 60.0) -> str:
        """Wait for its end; return its output.

        Raises:
            TimeoutError: it takes longer.
        """
        status, until = self._output.with_suffix(".status"), time.monotonic() + timeout
        while not status.exists():
            if time.monotonic() > until:
                raise TimeoutError(f"process {self.pid} is still running")
            time.sleep(0.005)
        self.returncode = int(status.read_text())
        return self._output.read_text().strip()

    def kill(self) -> None:
        """Kill it."""
        os.kill(self.pid, 9)
        self.communicate()


class ForkServer:
    """Starts processes that run a script.

    Args:
        script: its path.
    """

    def __init__(self, script: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self._count = 0

    def start(
        self, arguments: tuple[str, ...], environment: dict[str, str], folder: Path
    ) -> Process:
        """Start a process, whose output goes to a file in ``folder``."""
        self._count += 1
        output = folder / f"{self._count}.output"
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        order = {"arguments": arguments, "environment": environment, "output": str(output)}
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return Process(int(self._server.stdout.readline()), output)

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


def _run(script: str, order: dict[str, Any]) -> None:
    """Run the script in a child, and end it."""
    descriptor = os.open(order["output"], os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(order["environment"])
    sys.argv = [script, *order["arguments"]]
    status = 1
    try:
        runpy.run_path(script, run_name="__main__")
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _reap(pid: int, output: str) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    temporary = Path(output).with_suffix(".tmp")
    temporary.write_text(str(code))
    temporary.rename(Path(output).with_suffix(".status"))


def _serve(script: str) -> None:
    import pandas as pd

    import flask_knitperf
    import flask_knitperf.api.caches
    import flask_knitperf.extension

    assert pd is not None
    assert flask_knitperf is not None
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(script, order)
        print(pid, flush=True)
        threading.Thread(target=_reap, args=(pid, order["output"])).start()


if __name__ == "__main__":
    _serve(sys.argv[1])
