"""Writer of one process: its logs, its table, its lock.

A worker appends to one log. The thread that finds the log full switches to the next one, which the
housekeeper has prepared, and continues; the housekeeper folds closed logs later. The position of the
old log is moved to its end before it counts as closed, so that a thread with a reference to it cannot
write behind the fold.

If a file cannot be created (no directory, full disk) the log is anonymous memory: nothing is lost while
the worker lives, but other workers do not see it, and ``degraded`` records that.
"""

from __future__ import annotations

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
from ..core.host_exceptions import SuppressOwn, raise_if_of_host
from ..core.locks import create_lock
from ..core.owned_descriptor import OwnedDescriptor
from ..metrics.instruments import OTHER, Key, Meter
from ..metrics.log_format import DEFINE, pack_json, parse
from ..metrics.table import Table, as_columns, copy, define, encode, fold
from .atomic_files import Disk, try_lock
from .commands import size
from .state_dir import Snapshot

_IDENTITY_BYTES = 4096
_MIN_FOLD_BYTES = 1 << 16  # written since the last fold
_UNCLOSED: list[mmap.mmap] = []
"""Maps whose descriptors others have closed: each holds a number that may be another file's by now."""


@dataclass(slots=True, eq=False)
class Log:
    """A log of this process: its number, its mapping, its file (``None`` in memory)."""

    number: int
    map: mmap.mmap
    path: Path | None


@dataclass(slots=True, eq=False, repr=False)
class Counts:
    """Number of observations per series up to a position in the logs.

    Attributes:
        log: number of the log that was read last.
        offset: bytes of it that were read.
        sums: counts by series id.
    """

    log: int = 0
    offset: int = 0
    sums: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))


class Worker:
    """Writer of one process; see the module.

    Args:
        run: the run's directory, ``None`` to keep everything in memory.
        identity: published description of this process (host, pid, started, …).
        clock: time and process.
        disk: file operations.
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
        self._switching = create_lock()
        self._folding = create_lock()
        self._defining = create_lock()
        self._ids: dict[tuple[str, ...], int] = {}
        self._used: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self._closed: list[Log] = []
        self._folded: list[Log] = []
        self._counts = Counts()
        self._saved: tuple[int, int] = (0, 0)
        self.commands_from = (
            0 if run is None else size(run)
        )  # before other processes see this worker
        self._lock = self._take_lock() if run is not None else None
        try:
            self._log = self._new_log(0)
        except OSError:  # no memory for a mapping; the caller tries again later
            self._drop_lock()
            raise
        self._spare: Log | None = None

    # -- writing ---------------------------------------------------------------------------------

    def write(self, group: bytes) -> None:
        """Append one group; acquires a lock only when the log is full."""
        while True:
            log = self._log
            try:
                log.map.write(group)
            except ValueError as error:
                raise_if_of_host(error)
                if len(group) > self._log_bytes:
                    raise
                self._next(log)
            else:
                return

    def quick(self) -> Callable[[bytes], int]:
        """Return the ``write`` of the current log, which raises ``ValueError`` once that is full."""
        return self._log.map.write

    def series(self, meter: Meter, labels: tuple[str, ...]) -> int:
        """Return the id of a series; its first use defines it in the log."""
        number = self._ids.get((meter.name, *labels))
        return self._define(meter, labels) if number is None else number

    def _define(self, meter: Meter, labels: tuple[str, ...]) -> int:
        labels = tuple(label[: meter.longest] for label in labels)
        other = (OTHER,) * len(meter.labels)
        with self._defining:
            number = self._ids.get((meter.name, *labels))
            if number is not None:
                return number
            used = self._used.get(meter.name, 0)
            if used >= meter.limit and labels != other:
                self.dropped[meter.name] = self.dropped.get(meter.name, 0) + 1
                labels = other
                number = self._ids.get((meter.name, *other))
                if number is not None:
                    return number
            number = len(self._ids) + 1
            document = define(Key(meter.name, labels), meter)
            self.write(pack_json(DEFINE, number, document))
            self._used[meter.name] = used + 1
            self._ids[meter.name, *labels] = number
            return number

    def _next(self, full: Log) -> None:
        with self._switching:
            if self._log is not full:
                return
            spare, self._spare = self._spare, None
            self._log = spare or self._new_log(full.number + 1)
            self._close(full)

    def _close(self, log: Log) -> None:
        """Mark a replaced log as closed; nothing can be written behind its end."""
        log.map.seek(0, os.SEEK_END)
        self._closed.append(log)

    def _new_log(self, number: int) -> Log:
        if self.run is not None:
            path = self.run / f"{self.name}.{number}.log"
            try:
                log = Log(number, self._disk.create_log(path, self._log_bytes), path)
            except OSError as error:
                raise_if_of_host(error)
                self.degraded["log"] = f"observations are kept in memory only: {error.strerror}"
            else:
                self.degraded.pop("log", None)
                return log
        return Log(number, mmap.mmap(-1, self._log_bytes), None)

    # -- called by the housekeeper --------------------------------------------------------------------

    def prepare_spare(self) -> None:
        """Prepare the next log when the current one is half full or in memory only."""
        with self._switching:
            log = self._log
            detached = log.path is None and self.run is not None
            if self._spare is None and (detached or log.map.tell() * 2 > self._log_bytes):
                self._spare = self._new_log(log.number + 1)
            if detached and self._spare is not None:
                spare, self._spare = self._spare, None
                if spare.path is not None:  # the disk has room again
                    self._log = spare
                    self._close(log)

    def due(self) -> bool:
        """Return whether enough was written since the last fold to justify a write to disk.

        Readers read the unfolded rest from the log, so this only bounds their work; of a log in
        memory they see only the folded part.
        """
        minimum = _MIN_FOLD_BYTES if self._log.path is not None else 0
        return bool(self._closed) or self._log.map.tell() - self.table.offset > minimum

    def lost(self) -> bool:
        """Return whether the files of this worker were removed, or its lock was closed by others."""
        if self.run is None:
            return False
        return self._lock_was_closed() or not (self.run / f"{self.name}.lock").exists()

    def _lock_was_closed(self) -> bool:
        """Return whether others have closed the lock, and so all descriptors of this process."""
        return self._lock is not None and self._lock.number() < 0

    def fold(self) -> None:
        """Fold the logs since the last fold, save the table, then remove folded logs."""
        with self._folding:
            with self._switching:
                closed, current = list(self._closed), self._log
            for log in closed:
                self._take_in(log, closed=True)
                self._closed.remove(log)  # only now: after an error the next fold retries it
                self._folded.append(log)
            self._take_in(current, closed=False)
            self._save()

    def counts(self, meter: str) -> dict[tuple[str, str], int]:
        """Return the number of observations of a meter so far, by the first two labels.

        Reads only the part of the logs since the last call, and folds nothing.
        """
        with self._folding:
            self._update_counts()
            sums = self._counts.sums
        counts: dict[tuple[str, str], int] = {}
        # copied whole first: each pair is a new object, for which a collection may run finalizers,
        # which let other threads add series meanwhile
        for labels, number in self._ids.copy().items():
            if labels[0] == meter and number < len(sums) and sums[number]:
                pair = (labels[1], labels[2])
                counts[pair] = counts.get(pair, 0) + int(sums[number])
        return counts

    def _update_counts(self) -> None:
        with self._switching:
            logs = [*self._folded, *self._closed, self._log]
        counts = self._counts
        if all(log.number != counts.log for log in logs):  # folded and removed: it is in the table
            counts.log, counts.offset = self.table.logs, self.table.offset
            counts.sums = np.array(
                [0, *(self._count_of(descriptor.key) for descriptor in self.table.descriptors)]
            )
        for log in logs:
            if log.number < counts.log:
                continue
            begin = counts.offset if log.number == counts.log else 0
            parsed = parse(log.map[begin : log.map.tell()])
            known = parsed.series <= len(self._ids)  # an id that others wrote into the file is huge
            sums = np.bincount(parsed.series[known], parsed.weight[known], len(counts.sums)).astype(
                np.int64
            )
            sums[: len(counts.sums)] += counts.sums
            counts.log, counts.offset, counts.sums = log.number, begin + parsed.end, sums

    def _count_of(self, key: Key) -> int:
        series = self.table.series.get(key)
        return 0 if series is None else series.data.count

    def _take_in(self, log: Log, *, closed: bool) -> None:
        self.table.logs = log.number
        fold(self.table, log.map, closed=closed, end=log.map.tell())

    def _save(self) -> None:
        position = (self.table.logs, self.table.offset)
        if self.run is not None and (position != self._saved or "table" in self.degraded):
            try:
                self._disk.save(self.run / f"{self.name}.table", encode(self.table))
            except OSError as error:
                raise_if_of_host(error)
                self.degraded["table"] = f"totals cannot be saved: {error.strerror}"
                if len(self._folded) > 64:
                    self.degraded["table"] += " (more than 64 logs are waiting)"
                return
            self.degraded.pop("table", None)
            self._saved = position
        for log in self._folded:
            if log.path is not None:
                self._disk.unlink(log.path)
            self._close_map(log)
        self._folded.clear()

    def detached(self) -> bool:
        """Return whether part of this worker's data is in memory only."""
        logs = (self._log, *self._closed, *self._folded)
        return "table" in self.degraded or any(log.path is None for log in logs)

    def totals(self) -> Table:
        """Return the totals of this worker up to now (used without a directory)."""
        self.fold()
        with self._folding:
            return copy(self.table)

    def snapshot(self, workers: list[dict[str, Any]]) -> Snapshot:
        """Return the totals of this worker as a snapshot."""
        table = self.totals()
        about = replace(table, series={}, descriptors=())
        return Snapshot(as_columns(table), about, workers, list(self.degraded.values()))

    # -- identity ------------------------------------------------------------------------------------

    def join(self, run: Path, identity: dict[str, Any]) -> None:
        """Move from memory to a run: all observations so far count there.

        Args:
            run: the run's directory.
            identity: published description of this process, as it is from now on.
        """
        self.identity = {**identity, "worker": self.name}
        self.commands_from = size(run)
        self.run = run
        self._lock = self._take_lock()
        self.prepare_spare()
        self.fold()

    def _take_lock(self) -> OwnedDescriptor | None:
        """Create the lock file already locked, so that no process ever sees it free."""
        assert self.run is not None
        hidden = self.run / f".{self.name}.lock"
        descriptor = -1
        try:
            descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, self._identity_text())
            try_lock(descriptor)
            self._disk.replace(hidden, self.run / f"{self.name}.lock")
        except OSError as error:
            raise_if_of_host(error)
            self.degraded["lock"] = (
                "measurements of this worker are kept in its memory only, and other workers do not see "
                f"it: a file in {self.run} cannot be locked: {error.strerror}"
            )
            self.run = None
            if descriptor >= 0:
                os.close(descriptor)
                with SuppressOwn(OSError):
                    hidden.unlink()
            return None
        self.degraded.pop("lock", None)
        return OwnedDescriptor(descriptor)

    def _drop_lock(self) -> None:
        """Remove the lock file of a worker that records nothing."""
        lock, self._lock = self._lock, None
        if lock is not None and self.run is not None:
            with SuppressOwn(OSError):
                self._disk.unlink(self.run / f"{self.name}.lock")
            lock.close()

    def _identity_text(self) -> bytes:
        reasons = list(self.degraded.values())  # one step: other threads may add reasons
        document = {**self.identity, "degraded": [f"{self.name}: {reason}" for reason in reasons]}
        document["dropped"] = self.dropped
        text = json.dumps(document).encode()
        if len(text) > _IDENTITY_BYTES:
            document["degraded"] = ["too many reasons to list"]
            text = json.dumps(document).encode()[:_IDENTITY_BYTES]
        return text.ljust(_IDENTITY_BYTES)

    def publish(self) -> None:
        """Write the current degradations; the file has its final size already."""
        number = -1 if self._lock is None else self._lock.number()
        if number >= 0:
            os.lseek(number, 0, os.SEEK_SET)
            os.write(number, self._identity_text())

    def close(self) -> None:
        """Fold, save, and release the lock. The housekeeper of another worker retires the files.

        A thread that still writes afterwards writes into memory without readers.
        """
        with self._switching:
            full = self._log
            self._log = Log(full.number + 1, mmap.mmap(-1, self._log_bytes), None)
            self._close(full)
            spare, self._spare = self._spare, None
        if spare is not None and spare.path is not None:
            self._disk.unlink(spare.path)
        self.fold()
        self.release()

    def release(self) -> None:
        """Release lock and logs without saving (a forked child releases those of its parent)."""
        for log in (self._log, self._spare, *self._closed, *self._folded):
            if log is not None and log.path is not None:
                self._close_map(log)
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _close_map(self, log: Log) -> None:
        """Close the map of a log, unless others have closed the descriptors of this process."""
        if self._lock_was_closed():
            _UNCLOSED.append(log.map)
        else:
            log.map.close()
