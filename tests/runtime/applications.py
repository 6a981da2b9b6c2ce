"""Short ways to what an application recorded, and applications without a housekeeper thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)

ROOT = Path(__file__).parents[2]
HOUSEKEEPER = ["flask_knitperf"]
SAMPLER = ["flask_knitperf sampler"] if sys.version_info >= (3, 12) else []
THREADS = [*HOUSEKEEPER, *SAMPLER]


def counts(mill: Any, window: str = "run") -> dict[str, int]:
    """Return the number of requests in a window, by endpoint."""
    return {row["endpoint"]: row["count"] for row in mill.report(window)["endpoints"]}


def our_threads() -> list[str]:
    """Return the names of this package's threads."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("flask_knitperf"))


def run_of(mill: Any) -> Path:
    """Return the directory of an application's run."""
    run: Path = mill.session.recorder.worker.run
    return run


def without_thread(mill: Any, clock: Any = None) -> Any:
    """Return an application on disk whose housekeeping is done by the test only."""
    mill.session.recorder._threaded = lambda: False
    if clock is not None:
        mill.session.recorder.clock = clock
    return mill


def run_python(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program (``arguments[0]``) in a new interpreter."""
    environ = {**os.environ, "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        [sys.executable, "-c", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def in_child(work: Callable[[], Any]) -> Any:
    """Fork, call a function in the child, and return its result, which must be JSON."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(out)
            try:
                reply = {"value": work()}
            except BaseException as error:
                reply = {"error": repr(error)}
            os.write(into, json.dumps(reply).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as file:
        reply = json.loads(file.read() or b'{"error": "the child sent no reply"}')
    os.waitpid(child, 0)
    assert "error" not in reply, reply
    return reply["value"]
