"""Which run this process belongs to, and who it is.

Totals belong to a run: a release if one is named, else the server that started the workers (its pid
and start time), so recycled workers stay in their run and a new server begins the next.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import stat
from pathlib import Path
from typing import Any

import psutil

from ..core.clock import Clock
from ..core.errors import StateError
from .atomic_files import Disk, is_locked
from .state_dir import bytes_of, workers

log = logging.getLogger("flask_knitperf")


def server() -> tuple[int, str]:
    """Return pid and start of the process that this run belongs to.

    That is the furthest ancestor in a row that runs the same program (a gunicorn master, the
    reloader), else this process itself.
    """
    found = psutil.Process()
    try:
        program = _program(found)
        while (parent := found.parent()) is not None and _program(parent) == program:
            found = parent
    except psutil.Error as error:  # gone, or not ours to see: then it is not our server
        log.debug("the parent of %s is not looked at: %s", found.pid, error)
    return found.pid, start_of(found)


def start_of(process: psutil.Process) -> str:
    """Return what tells a process from others of the same pid, the same whenever it is asked.

    On Linux that is its start in ticks since the boot, and the boot. The start as a time of day would
    move when the clock is set, and tear one server's workers apart.
    """
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return repr(process.create_time())
    return f"{boot} {stat.rpartition(')')[2].split()[19]}"


def _program(process: psutil.Process) -> tuple[str, ...]:
    line = process.cmdline()
    title = re.match(r"gunicorn: (master|worker)", line[0]) if line else None
    return ("gunicorn",) if title else tuple(line)


def run_name(release: str | None, pid: int, started: str) -> str:
    """Return the folder name of a run.

    Args:
        release: the release that the configuration names.
        pid: of the server; only unique on one host.
        started: of :func:`start_of`.
    """
    if release is None:
        return f"server-{pid}-{_digest(f'{socket.gethostname()} {started}')}"
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", release)[:60]
    return f"release-{safe}-{_digest(release)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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


def prepare(path: Path) -> None:
    """Create a private directory, or check that an existing one is ours.

    Raises:
        StateError: it belongs to somebody else, others may write to it, or it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
    except OSError as error:
        raise StateError(f"the state directory {path} cannot be used: {error.strerror}") from error
    if not stat.S_ISDIR(info.st_mode):
        raise StateError(f"the state directory {path} is not a directory")
    if hasattr(os, "getuid"):
        if info.st_uid != os.getuid():
            raise StateError(f"the state directory {path} belongs to another user")
        if info.st_mode & 0o022:
            raise StateError(f"others may write to the state directory {path}; chmod 700 it")
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateError(f"the state directory {path} is not writable")


def runs(state: Path) -> list[Path]:
    """Return the runs of a state directory, oldest first."""
    found = []
    for path in state.iterdir() if state.is_dir() else []:
        info = _document(path / "app.json")
        if info is not None:
            found.append((info.get("began", 0.0), path.name, path))
    return [path for _, _, path in sorted(found)]


def _document(path: Path) -> dict[str, Any] | None:
    data = bytes_of(path) if path.parent.is_dir() else None
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def describe(run: Path) -> dict[str, Any]:
    """Return what the application wrote about itself: routes, thresholds, release, ``began``."""
    return _document(run / "app.json") or {}


def forget(state: Path, keep: int, disk: Disk) -> None:
    """Remove all but the last runs; a run in which a worker lives is never removed."""
    for run in runs(state)[:-keep]:
        if any(is_locked(run / f"{worker}.lock") for worker in workers(run)):
            continue
        for path in sorted(run.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
            elif path.name != "app.json":
                disk.unlink(path)
        disk.unlink(run / "app.json")
        run.rmdir()
