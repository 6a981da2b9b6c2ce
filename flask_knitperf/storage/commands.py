"""Commands: what a person asks all workers to do, and who has done it.

``commands.log`` in the run's directory is a file of JSON lines that anyone with access to it appends
to. Every worker's housekeeper reads on from where it was, does what is asked and appends that it did
(or why not), so whoever asked can say "3 of 4 workers". A worker that starts later begins at the end:
what was asked before its time does not concern it.

Lines are short and written by one ``write`` in append mode, so they do not mix. What cannot be read
is skipped.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import KnitPerfError, StateError

NAMES = ("collect", "clear", "sample", "frames")
_FULL = 1 << 20


@dataclass(frozen=True, slots=True)
class Command:
    """Something asked: its id, its name, when (seconds since the epoch)."""

    id: str
    name: str
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who has done a command (by worker), and what went wrong where."""

    done: tuple[str, ...]
    failed: Mapping[str, str]


def _path(run: Path) -> Path:
    return run / "commands.log"


def _append(run: Path, document: dict[str, Any]) -> None:
    line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    try:
        descriptor = os.open(_path(run), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StateError(f"the command cannot be written down: {error.strerror}") from error


def check(name: str, now: float) -> Command:
    """Return a new command.

    Raises:
        KnitPerfError: there is none of that name.
    """
    if name not in NAMES:
        raise KnitPerfError(f"there is no command {name!r}; there are {', '.join(NAMES)}")
    return Command(uuid.uuid4().hex[:12], name, now)


def ask(run: Path, name: str, now: float) -> Command:
    """Ask all workers of a run to do something.

    Raises:
        KnitPerfError: there is no such command.
        StateError: it cannot be written down.
    """
    command = check(name, now)
    if size(run) > _FULL:
        raise StateError("too many commands were given in this run; restart the server")
    _append(run, {"do": name, "id": command.id, "at": now})
    return command


def size(run: Path) -> int:
    """Return the length of the file, in bytes; where a worker that begins now starts to read."""
    try:
        return _path(run).stat().st_size
    except FileNotFoundError:
        return 0


def _lines(run: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    try:
        with open(_path(run), "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    documents = []
    for line in whole.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue  # somebody else wrote here: nothing that anyone asked us to do
        if isinstance(document, dict):
            documents.append(document)
    return documents, offset + len(whole)


def outcome(run: Path, command: Command) -> Outcome:
    """Return who has done a command so far."""
    done, failed = [], {}
    for line in _lines(run, 0)[0]:
        if line.get("did") == command.id:
            if line.get("error"):
                failed[str(line["worker"])] = str(line["error"])
            else:
                done.append(str(line.get("worker")))
    return Outcome(tuple(done), failed)


class Inbox:
    """One worker's place in the file.

    Args:
        run: the run's directory.
        worker: this worker's name.
        do: what each command means here; raises to say that it failed.
        offset: where to begin to read: the :func:`size` before others could see this worker.
    """

    def __init__(
        self, run: Path, worker: str, do: Mapping[str, Callable[[Command], None]], offset: int
    ) -> None:
        self.worker = worker
        self._run, self._do = run, do
        self._offset = offset

    def turn(self) -> int:
        """Do what was asked since the last turn; return how much that was."""
        lines, self._offset = _lines(self._run, self._offset)
        asked = [line for line in lines if str(line.get("do")) in self._do]
        for line in asked:
            said: dict[str, Any] = {"did": line.get("id"), "worker": self.worker}
            try:
                self._do[line["do"]](Command(str(line.get("id")), line["do"], line.get("at", 0.0)))
            except Exception as error:
                said["error"] = str(error) or type(error).__name__
            _append(self._run, said)
        return len(asked)
