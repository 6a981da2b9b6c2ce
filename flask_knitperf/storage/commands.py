"""Commands to all workers of a run, and their acknowledgements.

``commands.log`` in the run's directory holds JSON lines. Any process with access appends commands; the
housekeeper of each worker reads on from its offset, executes them and appends an acknowledgement or
the error, so that the sender can show "3 of 4 workers". A worker that starts later reads from the end
of the file: earlier commands do not apply to it.

Lines are short and appended by a single ``write``, so they do not interleave. Unreadable lines are
skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..core.errors import KnitPerfError, StateError
from ..core.host_exceptions import raise_if_of_host

NAMES = ("collect", "clear", "sample", "frames", "warm")
_MAX_BYTES = 1 << 20


class Command(NamedTuple):
    """A command.

    Attributes:
        id: unique.
        name: one of :data:`NAMES`.
        at: time of sending, in seconds since the epoch.
        arguments: JSON values by name.
    """

    id: str
    name: str
    at: float
    arguments: Mapping[str, Any] = MappingProxyType({})


class Outcome(NamedTuple):
    """Acknowledgements of a command: workers that executed it, and errors by worker."""

    done: tuple[str, ...]
    failed: Mapping[str, str]


def _path(run: Path) -> Path:
    return run / "commands.log"


def _append(run: Path, document: dict[str, Any]) -> None:
    line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    try:
        _create(run)
        descriptor = os.open(_path(run), os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StateError(f"the command cannot be written: {error.strerror}") from error


def _create(run: Path) -> None:
    """Create the file if it is missing, as one of the run's owner: root may send commands too."""
    path = _path(run)
    if path.exists():
        return
    temporary = path.with_name(f".commands-{uuid.uuid4().hex}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if sys.platform != "win32" and os.geteuid() == 0:
            owner = run.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def _take_over(run: Path) -> None:
    """Remove a file of another user that the workers of this run cannot read.

    Raises:
        StateError: it cannot be removed.
    """
    try:
        _path(run).unlink(missing_ok=True)
    except OSError as error:
        raise StateError(
            f"commands cannot be read, as {_path(run)} belongs to another user; remove it"
        ) from error


def check(name: str, now: float, arguments: Mapping[str, Any] | None = None) -> Command:
    """Return a new command.

    Raises:
        KnitPerfError: the name is unknown.
    """
    if name not in NAMES:
        raise KnitPerfError(f"there is no command {name!r}; there are {', '.join(NAMES)}")
    return Command(uuid.uuid4().hex[:12], name, now, arguments or MappingProxyType({}))


def send(
    run: Path, name: str, now: float, arguments: Mapping[str, Any] | None = None
) -> Command:  # fmt: skip
    """Send a command to all workers of a run.

    Args:
        run: the run's directory.
        name: of the command.
        now: seconds since the epoch.
        arguments: JSON values by name.

    Raises:
        KnitPerfError: the name is unknown.
        StateError: the command cannot be written.
    """
    command = check(name, now, arguments)
    if size(run) > _MAX_BYTES:
        raise StateError("too many commands in this run; restart the server")
    passed = {"with": dict(arguments)} if arguments else {}
    _append(run, {"do": name, "id": command.id, "at": now, **passed})
    return command


def size(run: Path) -> int:
    """Return the length of the file in bytes: the offset from which a new worker reads."""
    try:
        return _path(run).stat().st_size
    except FileNotFoundError:
        return 0


def _lines(run: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    if size(run) == offset:  # nearly always, and cheaper to find out than to open the file
        return [], offset
    try:
        with open(_path(run), "rb") as file:
            if (
                offset > os.fstat(file.fileno()).st_size
            ):  # another file has replaced the one that was read
                offset = 0
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    documents = []
    for line in whole.splitlines():
        try:
            document = json.loads(line)
        except ValueError as error:
            raise_if_of_host(error)
            continue  # not written by this package
        if isinstance(document, dict):
            documents.append(document)
    return documents, offset + len(whole)


def outcome(run: Path, command: Command) -> Outcome:
    """Return the acknowledgements of a command so far."""
    done, failed = [], {}
    for line in _lines(run, 0)[0]:
        if line.get("did") == command.id:
            if line.get("error"):
                failed[str(line["worker"])] = str(line["error"])
            else:
                done.append(str(line.get("worker")))
    return Outcome(tuple(done), failed)


class Inbox:
    """Reader of the commands for one worker.

    Args:
        run: the run's directory.
        worker: this worker's name.
        handlers: function for each command; an exception is reported as its failure.
        offset: start of reading: the :func:`size` before other processes could see this worker.
    """

    def __init__(
        self, run: Path, worker: str, handlers: Mapping[str, Callable[[Command], None]], offset: int
    ) -> None:
        self.worker = worker
        self._run, self._handlers = run, handlers
        self._offset = offset

    def turn(self) -> int:
        """Execute the commands since the last call; return their number."""
        try:
            lines, self._offset = _lines(self._run, self._offset)
        except PermissionError:
            _take_over(self._run)
            lines, self._offset = [], 0
        pending = [line for line in lines if str(line.get("do")) in self._handlers]
        for line in pending:
            reply: dict[str, Any] = {"did": line.get("id"), "worker": self.worker}
            try:
                arguments = line.get("with")
                command = Command(
                    str(line.get("id")), line["do"], line.get("at", 0.0),
                    arguments if isinstance(arguments, dict) else {},
                )  # fmt: skip
                self._handlers[command.name](command)
            except Exception as error:
                raise_if_of_host(error)
                reply["error"] = str(error) or type(error).__name__
            _append(self._run, reply)
        return len(pending)
