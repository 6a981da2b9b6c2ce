"""Which run this process belongs to, and who it is.

Totals belong to a run: a release if one is named, else the server that started the workers (its pid
and start time), so recycled workers stay in their run and a new server begins the next.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
from pathlib import Path
from typing import Any

import psutil

from .clock import Clock
from .disk import Disk
from .state import describe, prepare


def server() -> tuple[int, float]:
    """Return pid and start time of the process that this run belongs to.

    That is the parent when it runs the same program (a gunicorn master, the reloader), else this
    process itself.
    """
    own = psutil.Process()
    try:
        parent = own.parent()
        if parent is not None and _program(parent) == _program(own):
            return parent.pid, parent.create_time()
    except psutil.Error:
        pass  # the parent is gone or not ours to see: then it is not our server
    return own.pid, own.create_time()


def _program(process: psutil.Process) -> tuple[str, ...]:
    line = process.cmdline()
    title = re.match(r"gunicorn: (master|worker)", line[0]) if line else None
    return ("gunicorn",) if title else tuple(line)


def run_name(release: str | None, pid: int, started: float) -> str:
    """Return the folder name of a run."""
    if release is None:
        return f"server-{pid}-{round(started * 100)}"
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", release)[:60]
    return f"release-{safe}-{hashlib.sha256(release.encode()).hexdigest()[:8]}"


def join(
    state: Path, release: str | None, about: dict[str, Any], clock: Clock, disk: Disk
) -> tuple[Path, dict[str, Any]]:
    """Enter the run of this process, beginning it if need be.

    Args:
        state: the state directory; made if missing.
        release: the release that the configuration names.
        about: what offline readers need to know of the application.
        clock: time and process.
        disk: changes to files.

    Returns:
        The run's directory, and this process's identity.

    Raises:
        StateError: the directory is not ours or cannot be used.
        OSError: no room.
    """
    prepare(state)
    pid, started = server()
    run = state / run_name(release, pid, started)
    run.mkdir(mode=0o700, exist_ok=True)
    old = describe(run)
    document = {**about, "release": release, "began": old.get("began", clock.wall())}
    if document != old:
        disk.save(run / "app.json", json.dumps(document).encode())
    identity = {
        "host": socket.gethostname(),
        "pid": clock.pid(),
        "started": psutil.Process().create_time(),
        "server": pid,
    }
    return run, identity
