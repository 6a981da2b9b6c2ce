"""Hunting a leak: a request is replayed in processes of its own, which speak JSON lines.

Each phase runs the command line that was typed once more, so that it finds the application in the same
way, with a mark in its environment. In such a process KnitPerf is off. What the application prints goes
where errors go; the first standard output is the channel.
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
from typing import IO, Any

from ...core.code_locations import is_own_file
from ...core.errors import KnitPerfError
from ...core.settings import HUNT
from ..in_process import Application, Request, send
from ..replay import Tell
from . import native_phase, python_phase
from .growth import Growth
from .retainers import Holder
from .verdict import Hunt, Traced, Untraced, Where, verdict

SAFE = ("GET", "HEAD")
_TELL_SECONDS = 0.2
_SAID = 2000

Progress = Callable[[str, dict[str, Any]], None]


# -- in the process of a phase ---------------------------------------------------------------------


def phase() -> str | None:
    """Return which phase this process is for, ``None`` in any other process."""
    return os.environ.get(HUNT)


def serve_phase(load: Callable[[], Application], request: Request, requests: int | None) -> None:
    """Do what this process is for and end it.

    Args:
        load: loads the application.
        request: what to replay.
        requests: how many to measure, ``None`` for as many as fit.
    """
    sys.stdout.flush()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the application prints is no message of ours
    application = load()
    found = replayed(phase() or "", application, request, requests, _teller(channel))
    _tell(channel, {"found": dataclasses.asdict(found)})
    channel.close()
    sys.stderr.flush()
    os._exit(0)  # threads of the application need not end


def replayed(
    name: str, application: Application, request: Request, requests: int | None, tell: Tell
) -> Traced | Untraced:
    """Replay a request as one phase does.

    Args:
        name: ``traced``, or ``untraced`` with what Python is known to keep of a request, in ``malloc``'s
            memory and in all: ``untraced 120.5 380.0``.
        application: the WSGI application.
        request: what to replay.
        requests: how many to measure, ``None`` for as many as fit.
        tell: told how far it is.
    """

    def serve() -> int:
        return send(application, request)

    if name == "traced":
        return python_phase.traced(serve, is_own_file, tell, requests)
    malloced, python = map(float, name.split()[1:])
    return native_phase.untraced(serve, is_own_file, tell, requests, (malloced, python))


def _teller(channel: IO[str]) -> Tell:
    told = time.monotonic()

    def tell(done: int, of: int, takes: float) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _TELL_SECONDS:
            told = now
            _tell(channel, {"done": done, "of": of, "takes": takes})

    return tell


def _tell(channel: IO[str], message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


# -- in the process that was asked -----------------------------------------------------------------


def hunt(words: Sequence[str], progress: Progress) -> Hunt:
    """Replay a request in two processes; return what that proves.

    Args:
        words: the command line to run in each.
        progress: told the phase, and what it says.

    Raises:
        KnitPerfError: a process failed.
    """
    traced = _traced(_run(words, "traced", progress))
    known = (traced.malloced, traced.growth.per_request) if traced.growth.steady else (0.0, 0.0)
    name = f"untraced {known[0]:.3f} {known[1]:.3f}"
    return verdict(traced, _untraced(_run(words, name, progress)))


def command_line() -> list[str]:
    """Return the command line that this process was started with.

    Raises:
        KnitPerfError: this is called by another program.
    """
    if "leakhunt" not in sys.orig_argv:
        raise KnitPerfError("a leak is hunted from a command line: flask knitperf leakhunt URL")
    return [sys.executable, *sys.orig_argv[1:]]


def _run(words: Sequence[str], name: str, progress: Progress) -> dict[str, Any]:
    """Run one phase in a process of its own; return what it found."""
    found: dict[str, Any] | None = None
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603
            list(words), env={**os.environ, HUNT: name}, stdin=subprocess.DEVNULL, stderr=said,
            stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                message = json.loads(line)
                found = message.get("found")
                if found is None:
                    progress(name.partition(" ")[0], message)
        if process.returncode or found is None:
            said.seek(0)
            tail = said.read()[-_SAID:].decode("utf-8", "replace").strip()
            raise KnitPerfError(
                f"the process that replays the request ended with {process.returncode}:\n{tail}"
            )
    return found


def _traced(found: dict[str, Any]) -> Traced:
    lines = {name: tuple(map(_line, found[name])) for name in ("lines", "waiting_lines")}
    holders = tuple(Holder(**each) for each in found["holders"])
    return Traced(**{
        **found, **lines, "holders": holders, "growth": Growth(**found["growth"]),
        "statuses": _statuses(found),
    })  # fmt: skip


def _untraced(found: dict[str, Any]) -> Untraced:
    growths = {name: Growth(**found[name]) for name in ("growth", "blocks", "malloc")}
    lines = tuple(map(_line, found["lines"]))
    return Untraced(**{**found, **growths, "lines": lines, "statuses": _statuses(found)})


def _line(found: dict[str, Any]) -> Where:
    return Where(**{**found, "stack": tuple(found["stack"])})


def _statuses(found: dict[str, Any]) -> dict[int, int]:
    return {int(status): count for status, count in found["statuses"].items()}


def function_at(file: str, line: int) -> str:
    """Return the function that a line is in, empty at the top of a module or where it cannot be read."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    found = ""
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
            node.lineno <= line <= (node.end_lineno or node.lineno)
        ):
            found = node.name
    return found
