"""Runs: the unit to which totals belong, and the identity of this process within one.

A run is a release if the configuration names one, else a start of the server (its pid and start time):
recycled workers stay in their run, and a new server starts the next. Runs have numbers, and that is
their order: the clock may have been ahead when one of them began.

Only a process that serves requests starts a run (:func:`join`). A process that serves none (a command, a
task queue) records in the newest run with a live server (:func:`attach`), or in no run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ..core.clock import Clock
from ..core.errors import StateError
from ..core.host_exceptions import raise_if_of_host
from ..metrics.codec import FORMAT
from .atomic_files import Disk, is_locked
from .state_dir import bytes_of, identify, is_live_server, workers

log = logging.getLogger("flask_knitperf")

# names that servers give their processes
_TITLE = re.compile(r"(gunicorn: |uWSGI )(?:master|worker)")
_PF_FORKNOEXEC = 0x40  # flag of a Linux process that has executed nothing since its fork
# command lines of multiprocessing's children, and the name that mod_wsgi gives its processes
_STARTED_BY_SERVER = (
    "from multiprocessing.spawn import", "from multiprocessing.forkserver import", "(wsgi:"
)  # fmt: skip


def server() -> tuple[int, str]:
    """Return pid and start of the server process.

    That is the furthest ancestor in an unbroken line of processes that belong together (a gunicorn
    master, the reloader), else this process itself. Workers may be renamed (uWSGI's ``auto-procname``,
    mod_wsgi's ``display-name``) or started by ``multiprocessing`` (uvicorn, hypercorn).
    """
    process = psutil.Process()
    try:
        while (parent := process.parent()) is not None and _belongs_to(process, parent):
            process = parent
    except psutil.Error as error:  # ended, or not visible to this user: then not the server
        log.debug("parent of process %s is not accessible: %s", process.pid, error)
    return process.pid, start_of(process)


def start_of(process: psutil.Process) -> str:
    """Return a stable identifier of a process start; distinguishes processes that reuse a pid.

    On Linux it is the boot id and the start in ticks since boot. The start as a time of day would
    change when the clock is set and split the workers of one server into two runs.
    """
    try:
        start = _stat(process.pid).start
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise_if_of_host(error)
        return repr(process.create_time())
    return f"{boot} {start}"


def _belongs_to(process: psutil.Process, parent: psutil.Process) -> bool:
    """Return whether a process and its parent are of one server."""
    if str(parent.pid) == os.environ.get("GUNICORN_PID"):  # the master that USR2 replaces
        return False
    if any(text.startswith(_STARTED_BY_SERVER) for text in process.cmdline()):
        return True
    return _program(process) == _program(parent) or _is_fork(process.pid, parent.pid)


def _program(process: psutil.Process) -> tuple[str, ...]:
    line = process.cmdline()
    title = _TITLE.search(" ".join(line))  # psutil splits a title at its spaces
    return (title[1],) if title else tuple(line)


class _Stat(NamedTuple):
    """Fields of ``/proc/PID/stat``, which every user may read."""

    name: str
    session: str
    flags: int
    start: str


def _stat(pid: int) -> _Stat:
    head, _, tail = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    fields = tail.split()
    return _Stat(head.partition("(")[2], fields[3], int(fields[6]), fields[19])


def _is_fork(pid: int, parent: int) -> bool:
    """Return whether both run one program image, on Linux: a new one has other random addresses.

    A process that gave up its rights may not read its parent's. Then it counts if it has executed
    nothing since its fork and has the parent's name and session, which a process lacks whose parent is
    only the one that adopted it.
    """
    try:
        return _auxv(pid) == _auxv(parent)
    except PermissionError:
        return _looks_forked(pid, parent)
    except OSError as error:
        raise_if_of_host(error)
        return False


def _auxv(pid: int) -> bytes:
    return Path(f"/proc/{pid}/auxv").read_bytes()


def _looks_forked(pid: int, parent: int) -> bool:
    try:
        own, other = _stat(pid), _stat(parent)
    except OSError as error:  # ended
        raise_if_of_host(error)
        return False
    same = (own.name, own.session) == (other.name, other.session)
    return same and bool(own.flags & _PF_FORKNOEXEC)


def run_name(release: str | None, pid: int, started: str) -> str:
    """Return the folder name of a run.

    It contains a hash of the format, so that workers of two versions never write to one run.

    Args:
        release: the release that the configuration names.
        pid: pid of the server; unique on one host only.
        started: result of :func:`start_of`.
    """
    if release is None:
        return f"server-{pid}-{_digest(f'{FORMAT} {socket.gethostname()} {started}')}"
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", release)[:60]
    return f"release-{safe}-{_digest(f'{FORMAT} {release}')}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def join(
    state: Path, release: str | None, about: dict[str, Any], clock: Clock, disk: Disk
) -> tuple[Path, dict[str, Any]]:
    """Join the run of this process, creating it if necessary.

    Args:
        state: the state directory; created if missing.
        release: the release that the configuration names.
        about: description of the application for offline readers.
        clock: time and process.
        disk: file operations.

    Returns:
        The run's directory, and this process's identity.

    Raises:
        StateError: the directory has another owner or cannot be used.
        OSError: disk full.
    """
    prepare(state)
    pid, started = server()
    run = state / run_name(release, pid, started)
    run.mkdir(mode=0o700, exist_ok=True)
    old, now = describe(run), clock.wall()
    document = {
        **about, "release": release, "format": FORMAT, "number": _number(old) or _next_number(run),
        "began": min(old.get("began", now), now),  # a later time is of a clock that was ahead
    }  # fmt: skip
    if document != old:
        disk.save(run / "app.json", json.dumps(document).encode())
    return run, {**_identity(clock), "server": pid, "serving": True}


def attach(state: Path, clock: Clock) -> tuple[Path | None, dict[str, Any]]:
    """Return the newest run with a live server, for a process that serves no request.

    Args:
        state: the state directory.
        clock: the process.

    Returns:
        The run's directory, ``None`` without one; and this process's identity.

    Raises:
        StateError: the directory has another owner or cannot be used.
    """
    live = live_runs(state)
    if live:
        prepare(state)
    return live[-1] if live else None, {**_identity(clock), "serving": False}


def _identity(clock: Clock) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": clock.pid(),
        "started": psutil.Process().create_time(),
    }


def live_runs(state: Path) -> list[Path]:
    """Return the runs of this version with a live server, oldest first."""
    return [run for run in runs(state) if describe(run).get("format") == FORMAT and has_server(run)]


def has_server(run: Path) -> bool:
    """Return whether a live worker of a run serves requests."""
    identities = (identify(run, worker) for worker in workers(run))
    return any(is_live_server(identity) for identity in identities if identity is not None)


def prepare(path: Path) -> None:
    """Create a private directory, or check owner and permissions of an existing one.

    Raises:
        StateError: it has another owner, others may write to it, or it cannot be created.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info, link = path.stat(), path.lstat()
    except OSError as error:
        raise StateError(f"the state directory {path} cannot be used: {error.strerror}") from error
    if hasattr(os, "getuid"):
        if {info.st_uid, link.st_uid} != {os.getuid()}:  # who owns a link can redirect it
            raise StateError(f"the state directory {path} belongs to another user")
        if info.st_mode & 0o022:
            raise StateError(
                f"other users may write to the state directory {path}; run chmod 700 on it"
            )
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateError(f"the state directory {path} is not writable")


def runs(state: Path) -> list[Path]:
    """Return the runs of a state directory, oldest first."""
    ordered = []
    for path in state.iterdir() if state.is_dir() else []:
        info = _document(path / "app.json")
        if info is not None:  # those of earlier versions have no number
            ordered.append((_number(info), info.get("began", 0.0), path.name, path))
    return [path for *_, path in sorted(ordered)]


def _number(info: dict[str, Any]) -> int:
    """Return the number of a run in the order of runs, 0 where it has none."""
    number = info.get("number")
    return number if isinstance(number, int) else 0


def _next_number(run: Path) -> int:
    others = (path for path in runs(run.parent) if path != run)
    return 1 + max((_number(describe(other)) for other in others), default=0)


def _document(path: Path) -> dict[str, Any] | None:
    data = bytes_of(path) if path.parent.is_dir() else None
    if data is None:
        return None
    try:
        document = json.loads(data)
    except ValueError as error:
        raise_if_of_host(error)
        return None
    return document if isinstance(document, dict) else None


def describe(run: Path) -> dict[str, Any]:
    """Return the application's description of the run: routes, thresholds, release, ``began``."""
    return _document(run / "app.json") or {}


def check_format(run: Path) -> Path:
    """Return a run of this version's format.

    Raises:
        StateError: it was written by another version of flask_knitperf.
    """
    version = describe(run).get("format", "unknown")
    if version != FORMAT:
        raise StateError(
            f"the run {run} was written by another version of flask_knitperf (format {version}, this "
            f"version reads {FORMAT}); read it with that version, or remove it"
        )
    return run


def remove_old(state: Path, keep: int, disk: Disk) -> list[str]:
    """Remove all but the last runs; a run with a live worker is never removed.

    Returns:
        A sentence on each run that cannot be removed.
    """
    failures = []
    for run in runs(state)[:-keep]:
        try:
            if not any(is_locked(run / f"{worker}.lock") for worker in workers(run)):
                _remove(run, disk)
        except FileNotFoundError:  # another worker removes it at the same time
            continue
        except OSError as error:
            raise_if_of_host(error)
            failures.append(f"the old run {run} cannot be removed: {error.strerror}")
    return failures


def _remove(run: Path, disk: Disk) -> None:
    for path in sorted(run.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path.name != "app.json":
            disk.unlink(path)
    disk.unlink(run / "app.json")
    run.rmdir()
