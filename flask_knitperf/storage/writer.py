"""One process's writer: its logs, its table, its lock.

A worker appends to one log. When the log is full the thread that finds out puts the next one in its
place (the housekeeper has it ready) and goes on; the housekeeper folds closed logs later. The old log
is filled up to its end before it counts as closed, so that a thread that still holds it cannot write
behind the fold.

Where a file cannot be made (no directory, full disk) the log is plain memory: nothing is lost while
the worker lives, the page of another worker does not see it, and ``degraded`` says so.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.clock import Clock
from ..core.locks import Lock
from ..metrics.instruments import OTHER, Key, Meter
from ..metrics.log_format import DEFINE, NOTE, pack_json, parse
from ..metrics.table import Table, as_columns, copy, define, encode, fold
from .atomic_files import Disk, try_lock
from .commands import size
from .state_dir import Snapshot

_IDENTITY_BYTES = 4096
_WORTH_FOLDING = 1 << 16


@dataclass(slots=True, eq=False)
class Log:
    """A log that this process writes: its number, its memory, its file (if it has one)."""

    number: int
    map: mmap.mmap
    path: Path | None


@dataclass(slots=True)
class Counted:
    """How many observations of each series there are up to a place in the logs.

    Attributes:
        log: number of the log that was read last.
        offset: how far it was read.
        sums: by the series' ids.
    """

    log: int = 0
    offset: int = 0
    sums: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))


class Worker:
    """Writes for one process. See the module.

    Args:
        run: the run's directory, ``None`` to keep everything in memory.
        identity: what to say about this process (host, pid, started, …).
        clock: time and process.
        disk: changes to files.
        log_bytes: size of a log; a multiple of 16.
    """

    def __init__(
        self,
        run: Path | None,
        identity: dict[str, Any],
        *,
        clock: Clock,
        disk: Disk,
        log_bytes: int = 1 << 20,
    ) -> None:
        self.name = f"w-{identity.get('pid', 0)}-{uuid.uuid4().hex[:12]}"
        self.run = run
        self.pid = clock.pid()
        self.identity = {**identity, "worker": self.name}
        self.degraded: dict[str, str] = {}
        self.table = Table(self.name)
        self._disk = disk
        self._log_bytes = log_bytes
        self._turn = Lock()
        self._folding = Lock()
        self._defining = Lock()
        self._ids: dict[tuple[str, ...], int] = {}
        self._used: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self._closed: list[Log] = []
        self._folded: list[Log] = []
        self._counted = Counted()
        self._saved: tuple[int, int] = (0, 0)
        self.commands_from = 0 if run is None else size(run)  # before anybody counts on this worker
        self._lock_descriptor = self._take_lock() if run is not None else None
        self._log = self._new_log(0)
        self._spare: Log | None = None

    # -- writing ---------------------------------------------------------------------------------

    def write(self, group: bytes) -> None:
        """Append one group; never waits for a lock unless the log is full."""
        while True:
            log = self._log
            try:
                log.map.write(group)
            except ValueError:
                if len(group) > self._log_bytes:
                    raise
                self._next(log)
            else:
                return

    def quick(self) -> Callable[[bytes], int]:
        """Return the append of the current log; it raises ``ValueError`` once that is full."""
        return self._log.map.write

    def series(self, meter: Meter, labels: tuple[str, ...]) -> int:
        """Return the id of a series, defining it in the log at its first use."""
        found = self._ids.get((meter.name, *labels))
        return self._define(meter, labels) if found is None else found

    def note(self, document: dict[str, Any]) -> None:
        """Append evidence."""
        self.write(pack_json(NOTE, 1, document))

    def _define(self, meter: Meter, labels: tuple[str, ...]) -> int:
        labels = tuple(label[: meter.longest] for label in labels)
        other = (OTHER,) * len(meter.labels)
        with self._defining:
            known = self._ids.get((meter.name, *labels))
            if known is not None:
                return known
            used = self._used.get(meter.name, 0)
            if used >= meter.limit and labels != other:
                self.dropped[meter.name] = self.dropped.get(meter.name, 0) + 1
                labels = other
                known = self._ids.get((meter.name, *other))
                if known is not None:
                    return known
            number = len(self._ids) + 1
            document = define(Key(meter.name, labels), meter)
            self.write(pack_json(DEFINE, number, document))
            self._used[meter.name] = used + 1
            self._ids[meter.name, *labels] = number
            return number

    def _next(self, full: Log) -> None:
        with self._turn:
            if self._log is not full:
                return
            spare, self._spare = self._spare, None
            self._log = spare or self._new_log(full.number + 1)
            self._close(full)

    def _close(self, log: Log) -> None:
        """Count a log that was replaced as closed; nobody can write behind its end."""
        log.map.seek(0, os.SEEK_END)
        self._closed.append(log)

    def _new_log(self, number: int) -> Log:
        if self.run is not None:
            path = self.run / f"{self.name}.{number}.log"
            try:
                made = Log(number, self._disk.create_log(path, self._log_bytes), path)
            except OSError as error:
                self.degraded["log"] = f"observations are kept in memory only: {error.strerror}"
            else:
                self.degraded.pop("log", None)
                return made
        return Log(number, mmap.mmap(-1, self._log_bytes), None)

    # -- the housekeeper's side --------------------------------------------------------------------

    def prepare_spare(self) -> None:
        """Have the next log ready when the current one is half full, or is kept in memory only."""
        with self._turn:
            log = self._log
            detached = log.path is None and self.run is not None
            if self._spare is None and (detached or log.map.tell() * 2 > self._log_bytes):
                self._spare = self._new_log(log.number + 1)
            if detached and self._spare is not None:
                spare, self._spare = self._spare, None
                if spare.path is not None:  # there is room again
                    self._log = spare
                    self._close(log)

    def due(self) -> bool:
        """Return whether enough was written since the last fold to be worth a write to disk.

        What is not folded is read from the log, so this bounds a reader's work, nothing else; but of
        a log in memory others see only what is folded.
        """
        worth = _WORTH_FOLDING if self._log.path is not None else 0
        return bool(self._closed) or self._log.map.tell() - self.table.offset > worth

    def lost(self) -> bool:
        """Return whether this worker's files were removed."""
        return self.run is not None and not (self.run / f"{self.name}.lock").exists()

    def fold(self) -> None:
        """Fold what was written since the last fold, save the table, then remove folded logs."""
        with self._folding:
            with self._turn:
                closed, current = list(self._closed), self._log
            for log in closed:
                self._take_in(log, closed=True)
                self._closed.remove(log)  # not before: what failed here is taken in next time
                self._folded.append(log)
            self._take_in(current, closed=False)
            self._save()

    def counts(self, meter: str) -> dict[tuple[str, str], int]:
        """Return how many observations of a meter there were so far, by the first two labels.

        Only what was written since the last time is read for that, and nothing is folded.
        """
        with self._folding:
            self._count_on()
            sums = self._counted.sums
        found: dict[tuple[str, str], int] = {}
        for labels, number in list(self._ids.items()):
            if labels[0] == meter and number < len(sums) and sums[number]:
                name = (labels[1], labels[2])
                found[name] = found.get(name, 0) + int(sums[number])
        return found

    def _count_on(self) -> None:
        with self._turn:
            logs = [*self._folded, *self._closed, self._log]
        known = self._counted
        if all(log.number != known.log for log in logs):  # folded and gone: the table holds it
            known.log, known.offset = self.table.logs, self.table.offset
            known.sums = np.array([0, *(self._count_of(head.key) for head in self.table.heads)])
        for log in logs:
            if log.number < known.log:
                continue
            begin = known.offset if log.number == known.log else 0
            parsed = parse(log.map[begin : log.map.tell()])
            many = np.bincount(parsed.series, parsed.weight, len(known.sums)).astype(np.int64)
            many[: len(known.sums)] += known.sums
            known.log, known.offset, known.sums = log.number, begin + parsed.end, many

    def _count_of(self, key: Key) -> int:
        series = self.table.series.get(key)
        return 0 if series is None else series.data.count

    def _take_in(self, log: Log, *, closed: bool) -> None:
        self.table.logs = log.number
        fold(self.table, log.map, closed=closed, end=log.map.tell())

    def _save(self) -> None:
        mark = (self.table.logs, self.table.offset)
        if self.run is not None and (mark != self._saved or "table" in self.degraded):
            try:
                self._disk.save(self.run / f"{self.name}.table", encode(self.table))
            except OSError as error:
                self.degraded["table"] = f"totals cannot be saved: {error.strerror}"
                if len(self._folded) > 64:
                    self.degraded["table"] += " (more than 64 logs wait)"
                return
            self.degraded.pop("table", None)
            self._saved = mark
        for log in self._folded:
            if log.path is not None:
                self._disk.unlink(log.path)
            log.map.close()
        self._folded.clear()

    def detached(self) -> bool:
        """Return whether something of this worker is in its memory only."""
        logs = (self._log, *self._closed, *self._folded)
        return "table" in self.degraded or any(log.path is None for log in logs)

    def totals(self) -> Table:
        """Return this worker's own totals up to now (used where there is no directory)."""
        self.fold()
        with self._folding:
            return copy(self.table)

    def alone(self, workers: list[dict[str, Any]]) -> Snapshot:
        """Return this worker's totals as a snapshot."""
        table = self.totals()
        about = replace(table, series={}, heads=())
        return Snapshot(as_columns(table), about, workers, list(self.degraded.values()))

    # -- identity ------------------------------------------------------------------------------------

    def _take_lock(self) -> int | None:
        """Create the lock file already locked, so that nobody ever sees it free."""
        assert self.run is not None
        hidden = self.run / f".{self.name}.lock"
        try:
            descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, self._identity_text())
            try_lock(descriptor)
            self._disk.replace(hidden, self.run / f"{self.name}.lock")
        except OSError as error:
            self.degraded["lock"] = f"this worker is invisible to others: {error.strerror}"
            self.run = None
            return None
        return descriptor

    def _identity_text(self) -> bytes:
        reasons = list(self.degraded.values())  # in one step, for others may say more meanwhile
        said = {**self.identity, "degraded": [f"{self.name}: {reason}" for reason in reasons]}
        said["dropped"] = self.dropped
        text = json.dumps(said).encode()
        if len(text) > _IDENTITY_BYTES:
            said["degraded"] = ["too much to list"]
            text = json.dumps(said).encode()[:_IDENTITY_BYTES]
        return text.ljust(_IDENTITY_BYTES)

    def publish(self) -> None:
        """Write down what is degraded; the file has its final size, so a full disk cannot stop it."""
        if self._lock_descriptor is not None:
            os.lseek(self._lock_descriptor, 0, os.SEEK_SET)
            os.write(self._lock_descriptor, self._identity_text())

    def close(self) -> None:
        """Fold, save, and let go of the lock. A later worker's housekeeper retires the files.

        A thread that still writes afterwards writes into memory that nobody reads.
        """
        with self._turn:
            full = self._log
            self._log = Log(full.number + 1, mmap.mmap(-1, self._log_bytes), None)
            self._close(full)
            spare, self._spare = self._spare, None
        if spare is not None and spare.path is not None:
            self._disk.unlink(spare.path)
        self.fold()
        self.release()

    def release(self) -> None:
        """Let go of lock and logs, without another word (also a forked child, of its parent's)."""
        descriptor, self._lock_descriptor = self._lock_descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        for log in (self._log, self._spare, *self._closed, *self._folded):
            if log is not None and log.path is not None:
                log.map.close()
