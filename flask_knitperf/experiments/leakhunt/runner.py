"""Runner of a leak hunt: two processes replay the request, and report in JSON lines.

Each phase repeats the command line of this process, so that it finds the application in the same way,
with a variable in its environment. In such a process KnitPerf is disabled. The standard output carries
the messages, and nothing else.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, TypedDict

from ...core.code_locations import is_own_file
from ...core.errors import KnitPerfError
from ...core.settings import HUNT
from ..in_process import Application, Request, send
from ..replay import OnProgress
from . import native_phase, python_phase
from .growth import Growth
from .native_phase import PythonGrowth
from .retainers import Retainer
from .verdict import AllocationRecord, Hunt, NativePhase, PythonPhase, verdict

SAFE_METHODS = ("GET", "HEAD")
PYTHON, NATIVE = "python", "native"
"""Names of the phases."""
MIN_PROGRESS_INTERVAL_S = 0.2
MAX_ERROR_BYTES = 2000
"""Bytes at the end of a failed process's output that the error message quotes."""


class PhaseProgress(TypedDict):
    """Progress of a phase.

    Attributes:
        done: requests so far.
        of: requests to measure, 0 before that is known.
        takes: seconds that the phase takes at least, 0 before that is known.
    """

    done: int
    of: int
    takes: float


Progress = Callable[[str, PhaseProgress], None]
"""Callback: name of the phase, and its progress."""


# -- in the process of a phase ---------------------------------------------------------------------


def phase() -> str | None:
    """Return the phase that this process runs, with its arguments; ``None`` in any other process."""
    return os.environ.get(HUNT)


def serve_phase(
    load: Callable[[], Application], request: Request, requests: int | None, channel: TextIO
) -> None:
    """Run the phase of this process, send the result, and exit.

    Args:
        load: loads the application.
        request: the request to replay.
        requests: number of requests to measure, ``None`` for as many as fit.
        channel: the standard output of this process, to which the application does not write.
    """
    application = load()
    result = run_phase(phase() or "", application, request, requests, _progress_sender(channel))
    _send(channel, {"result": dataclasses.asdict(result)})
    sys.stderr.flush()
    os._exit(0)  # without waiting for threads of the application


def run_phase(
    name: str, application: Application, request: Request, requests: int | None,
    on_progress: OnProgress,
) -> PythonPhase | NativePhase:  # fmt: skip
    """Replay a request as one phase does.

    Args:
        name: ``python``; or ``native`` with the fields of :class:`.PythonGrowth`:
            ``native 120.5 380.0``.
        application: the WSGI application.
        request: the request to replay.
        requests: number of requests to measure, ``None`` for as many as fit.
        on_progress: called after each request.
    """

    def serve() -> int:
        return send(application, request)

    if name == PYTHON:
        return python_phase.run(serve, is_own_file, on_progress, requests)
    growth = PythonGrowth(*map(float, name.split()[1:]))
    return native_phase.run(serve, is_own_file, on_progress, requests, growth)


def _progress_sender(channel: TextIO) -> OnProgress:
    sent_at = time.monotonic()

    def send_progress(done: int, of: int, takes: float) -> None:
        nonlocal sent_at
        now = time.monotonic()
        if now - sent_at >= MIN_PROGRESS_INTERVAL_S:
            sent_at = now
            _send(channel, {"done": done, "of": of, "takes": takes})

    return send_progress


def _send(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


# -- in the process of the command -----------------------------------------------------------------


def hunt(command: Sequence[str], progress: Progress) -> Hunt:
    """Replay a request in two processes, and return the verdict.

    Args:
        command: the command line to run in each.
        progress: called with the phase and its progress.

    Raises:
        KnitPerfError: a process failed.
    """
    python = _python_phase(_run(command, PYTHON, progress))
    growth = PythonGrowth()
    if python.growth.steady:
        growth = PythonGrowth(python.malloc_bytes, python.growth.per_request)
    name = f"{NATIVE} {growth.malloc:.3f} {growth.total:.3f}"
    return verdict(python, _native_phase(_run(command, name, progress)))


def command_line() -> list[str]:
    """Return the command line of this process.

    Raises:
        KnitPerfError: this process is not the ``leakhunt`` command.
    """
    if "leakhunt" not in sys.orig_argv:
        raise KnitPerfError("leakhunt runs from a command line only: flask knitperf leakhunt URL")
    return [sys.executable, *sys.orig_argv[1:]]


def _run(command: Sequence[str], name: str, progress: Progress) -> dict[str, Any]:
    """Run one phase in a separate process, and return its result as JSON values."""
    result: dict[str, Any] | None = None
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            list(command), env={**os.environ, HUNT: name}, stdin=subprocess.DEVNULL, stderr=errors,
            stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                message = json.loads(line)
                result = message.get("result")
                if result is None:
                    progress(name.partition(" ")[0], message)
        if process.returncode or result is None:
            errors.seek(0)
            tail = errors.read()[-MAX_ERROR_BYTES:].decode("utf-8", "replace").strip()
            raise KnitPerfError(
                f"the process that replays the request ended with {process.returncode}:\n{tail}"
            )
    return result


def _python_phase(result: dict[str, Any]) -> PythonPhase:
    lines = {name: tuple(map(_record, result[name])) for name in ("lines", "garbage_lines")}
    retainers = tuple(Retainer(**retainer) for retainer in result["retainers"])
    return PythonPhase(**{
        **result, **lines, "retainers": retainers, "growth": Growth(**result["growth"]),
        "statuses": _statuses(result),
    })  # fmt: skip


def _native_phase(result: dict[str, Any]) -> NativePhase:
    names = ("growth", "block_growth", "malloc_growth")
    growths = {name: Growth(**result[name]) for name in names}
    lines = tuple(map(_record, result["lines"]))
    return NativePhase(**{**result, **growths, "lines": lines, "statuses": _statuses(result)})


def _record(values: dict[str, Any]) -> AllocationRecord:
    return AllocationRecord(**{**values, "stack": tuple(values["stack"])})


def _statuses(result: dict[str, Any]) -> dict[int, int]:
    return {int(status): count for status, count in result["statuses"].items()}


def function_at(file: str, line: int) -> str:
    """Return the name of the function that contains a line.

    It is empty at the top level of a module, and where the file cannot be read or parsed.
    """
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    name = ""
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
            node.lineno <= line <= (node.end_lineno or node.lineno)
        ):
            name = node.name
    return name
