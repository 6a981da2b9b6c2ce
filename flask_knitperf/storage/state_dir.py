"""The state directory: files of all workers, and how they are read as one snapshot.

::

    STATE_DIR/<run>/app.json            the application's routes and thresholds, for offline readers
                   <worker>.lock        identity; locked (flock) exactly as long as the worker lives
                   <worker>.<n>.log     its observations, in order
                   <worker>.table       its folded logs
                   retired.table        tables of dead workers, folded
                   points/<ms>.point    snapshots of the recent past, for windows
                   origin-<ms>-<id>.point   the snapshot at the last reset of the totals
                   commands.log         commands to all workers

A reader reads parts first and the whole last, takes no lock and maps nothing. The whole names its parts
(:mod:`..metrics.table`), so a reader never misses and never double-counts, whatever happens meanwhile.
One special case: the retired table cannot list all workers that ever lived. It drops only names whose
files are removed, and records the generation of the last removal (``pruned``); a reader that started
before that generation starts over.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import StateError
from ..core.host_exceptions import raise_if_of_host
from ..metrics import columns
from ..metrics.catalogue import HEARTBEAT, KILLED
from ..metrics.columns import Columns, Series
from ..metrics.instruments import Key, Kind, Merge
from ..metrics.log_format import CELL, parse
from ..metrics.table import Table, add_notes, as_columns, decode, encode, take_in
from ..metrics.totals import Totals
from .atomic_files import Disk, is_locked, try_lock

if TYPE_CHECKING:
    from ..metrics.readings import Readings

RETIRED = "retired.table"
RETIRE_INTERVAL_S = 0.9  # within which one worker of a run looks for dead ones
_RETIRING = "retire.lock"
MAX_NAMES = 200  # of retired workers whose files are removed
DAMAGED = "the totals of ended workers were damaged on disk and are not counted"
_READ_BYTES = 1 << 16
_EMPTY = bytes(CELL)
_LOG = re.compile(r"^(?P<worker>[\w-]+)\.(?P<number>\d+)\.log$")


@dataclass(eq=False, repr=False)
class Snapshot:
    """Totals of all workers of one run, at one time or between two.

    Attributes:
        columns: the sum of their series.
        about: evidence and number of incomplete logs, in a table without series.
        workers: identity of each worker that has files, with ``alive``.
        degraded: sentences on files that could not be read.
    """

    columns: Columns
    about: Table
    workers: list[dict[str, Any]] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)

    @property
    def servers(self) -> list[dict[str, Any]]:
        """The workers that serve requests; the others run jobs (:func:`.runs.attach`)."""
        return [worker for worker in self.workers if worker.get("serving", True)]

    @cached_property
    def totals(self) -> Totals:
        """Totals of all workers, by series."""
        return Totals(self.columns, self.about.evidence, self.about.incomplete)

    @cached_property
    def readings(self) -> Readings:
        """Totals of all workers by their meaning, for reports."""
        from ..metrics.readings import Readings

        return Readings(self.totals)


def workers(run: Path) -> list[str]:
    """Return the workers that have files in a run, in a stable order."""
    names = {name.split(".", 1)[0] for name in os.listdir(run) if name.startswith("w-")}
    return sorted(names)


def logs(run: Path, worker: str) -> list[tuple[int, Path]]:
    """Return number and path of a worker's logs, in order of writing."""
    numbered = []
    for name in os.listdir(run):
        match = _LOG.match(name)
        if match and match["worker"] == worker:
            numbered.append((int(match["number"]), run / name))
    return sorted(numbered)


def bytes_of(path: Path) -> bytes | None:
    """Return the content of a file, ``None`` if it is missing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _log_bytes(path: Path) -> bytes | None:
    """Return a log without its unused rest: no used cell is all zeros."""
    pieces = []
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_READ_BYTES):
                pieces.append(piece)
                if piece.endswith(_EMPTY):
                    break
    except FileNotFoundError:
        return None
    return b"".join(pieces)


Part = tuple[Table, Columns]
"""A table without its series, and its series as columns."""


def load(path: Path, worker: str = "") -> Part:
    """Return the table in a file, an empty one if the file is missing.

    Raises:
        StateError: the file is damaged.
    """
    data = bytes_of(path)
    return (Table(worker), columns.of((), {})) if data is None else decode(data)


def gather(run: Path, worker: str) -> tuple[Table, list[Columns]]:
    """Return all observations of a worker: its logs (read first) and its table (read last).

    Returns:
        The table without series, and columns whose sum is its series.

    Raises:
        StateError: its table is damaged.
    """
    log_contents = [(number, _log_bytes(path)) for number, path in logs(run, worker)]
    table, folded = load(run / f"{worker}.table", worker)
    for row, open_ in folded.in_progress.items():  # continues in the logs, so it moves over
        descriptor = folded.descriptors[row]
        table.series[descriptor.key] = Series(
            descriptor.kind, descriptor.unit, descriptor.merge, open=open_
        )
    folded.in_progress = {}
    tails: list[Columns] = []
    for number, data in log_contents:
        if data is None or number < table.logs:
            continue
        if number > table.logs:  # its predecessor was in memory only
            table.logs, table.offset = number, 0
        tails.append(take_in(table, parse(data, table.offset), closed=False))
    parts = [columns.of(columns.descriptors_of(table.series), table.series)] if table.series else []
    parts += [columns.widened(part, table.descriptors) for part in (folded, *tails)]
    table.series = {}
    return table, parts


def read(run: Path, own: Table | None = None) -> Snapshot:
    """Return the current snapshot of one run. Takes no lock, changes nothing.

    Args:
        run: the run's directory.
        own: totals of a worker to use in place of its files (its disk may be full).

    Raises:
        StateError: the directory changed too often while it was read (never seen).
    """
    for _ in range(8):
        degraded: list[str] = []
        begun = _retired(run, degraded)[0].generation
        gathered: dict[str, tuple[Table, list[Columns]]] = {}
        identities: dict[str, dict[str, Any]] = {}
        for worker in workers(run):
            identity = identify(run, worker)
            try:
                gathered[worker] = gather(run, worker) if own is None or worker != own.worker else (
                    own, [as_columns(own)]
                )  # fmt: skip
            except StateError as error:
                degraded.append(f"worker {worker}: {error}")
                continue
            if identity is not None:
                identities[worker] = identity
        retired, old = _retired(run, degraded)
        if retired.pruned > begun:
            continue
        live = {name: part for name, part in gathered.items() if name not in retired.holds}
        listed = [identities[name] for name in live if name in identities]
        alive = {identity["worker"] for identity in listed if identity["alive"]}
        for name, (_, parts) in live.items():
            if name not in alive:
                _drop_gauges(parts)
        if (run / "damaged.table").exists():
            degraded.append(DAMAGED)
        for identity in listed:
            degraded += identity.get("degraded", [])
        about = Table()
        about.incomplete, about.evidence = add_notes(
            [retired, *(table for table, _ in live.values())]
        )
        total = columns.add([old, *(part for _, parts in live.values() for part in parts)])
        return Snapshot(total, about, listed, list(dict.fromkeys(degraded)))
    raise StateError(f"the state directory {run} changed too often while it was read")


def _retired(run: Path, degraded: list[str]) -> Part:
    try:
        return load(run / RETIRED)
    except StateError as error:
        degraded.append(f"totals of ended workers: {error}")
        return Table(), columns.of((), {})


def identify(run: Path, worker: str) -> dict[str, Any] | None:
    """Return the published identity of a worker, with ``alive``; ``None`` if it is removed."""
    path = run / f"{worker}.lock"
    data = bytes_of(path)
    if data is None:
        return None
    try:
        identity: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise_if_of_host(error)
        identity = {"worker": worker}
    identity["worker"] = worker
    identity["alive"] = is_locked(path)
    return identity


def is_live_server(identity: dict[str, Any]) -> bool:
    """Return whether a worker (:func:`identify`) is alive and serves requests."""
    return bool(identity.get("alive")) and bool(identity.get("serving", True))


def _drop_gauges(parts: list[Columns]) -> None:
    """Drop the gauges of workers that ended, but those of events that stay the latest."""
    for part in parts:
        part.gauges = {
            row: values for row, values in part.gauges.items()
            if part.descriptors[row].merge is Merge.LATEST
        }  # fmt: skip


def killed(table: Table) -> None:
    """Count requests that a dead worker left open as killed, with their age at its last heartbeat."""
    beat = table.series.get(Key(HEARTBEAT.name, ()))
    last = max(beat.gauge.values(), default=0.0) if beat else 0.0
    for key, series in list(table.series.items()):
        if series.kind is not Kind.OPEN or not series.open:
            continue
        total = table.series.setdefault(
            Key(KILLED.name, key.labels), Series(KILLED.kind, KILLED.unit, KILLED.merge)
        )
        for began in series.open.values():
            total.data.count += 1
            total.data.total += max(0, round((last - began) * 1e9))
        series.open = {}


@contextmanager
def exclusively(path: Path) -> Iterator[bool]:
    """Hold the lock of a file if it is free; yield whether it is held.

    Raises:
        OSError: the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def is_due(run: Path, now: float) -> bool:
    """Return whether no worker has looked for dead ones recently; from then on this one has.

    One worker in a second is enough: to look takes a lock of each worker. Two at the same time harm
    nothing.

    Args:
        run: the run's directory.
        now: seconds since the epoch.
    """
    path = run / _RETIRING
    try:
        if 0 <= now - path.stat().st_mtime < RETIRE_INTERVAL_S:
            return False
    except FileNotFoundError:
        path.touch(0o600)
    os.utime(path, (now, now))
    return True


def retire(run: Path, disk: Disk, alive: Callable[[Path], bool] = is_locked) -> int:
    """Fold the tables of dead workers into the retired table; return their number.

    Safe at any instant: names are added to the table before files are removed, and the next caller
    removes files that a listed worker left behind.
    """
    with exclusively(run / _RETIRING) as locked:
        if not locked:
            return 0
        _remove_temporaries(run)
        present = workers(run)
        dead = [worker for worker in present if not alive(run / f"{worker}.lock")]
        if not dead:
            return 0
        retired, old = _load_retired(run, disk)
        fresh = [worker for worker in dead if worker not in retired.holds]
        if fresh:
            disk.save(run / RETIRED, _add_workers(run, retired, old, fresh, present))
        for worker in dead:
            _remove(run, worker, disk)
        return len(fresh)


def _load_retired(run: Path, disk: Disk) -> Part:
    """Return the retired table; a damaged one is renamed, so that retiring continues."""
    try:
        return load(run / RETIRED)
    except StateError:
        disk.replace(run / RETIRED, run / "damaged.table")
        return Table(incomplete=1), columns.of((), {})


def _add_workers(
    run: Path, retired: Table, old: Columns, fresh: list[str], present: list[str]
) -> bytes:
    """Return the encoded retired table with dead workers added."""
    tables, parts, incomplete = [retired], [old], 0
    for worker in fresh:
        try:
            table, columns_ = gather(run, worker)
        except StateError:
            incomplete += 1
            continue
        table.series = columns.series(columns.add(columns_))
        killed(table)
        parts.append(columns.of(columns.descriptors_of(table.series), table.series))
        tables.append(table)
    _drop_gauges(parts)
    total = Table(generation=retired.generation + 1, pruned=retired.pruned)
    total.incomplete, total.evidence = add_notes(tables)
    total.incomplete += incomplete
    total.holds = {**retired.holds, **dict.fromkeys(fresh, total.generation)}
    removed = [name for name in total.holds if name not in present]
    if len(removed) > MAX_NAMES:
        total.pruned = total.generation
        for name in removed:
            del total.holds[name]
    sums = columns.add(parts)
    sums.gauges = {row: {RETIRED: max(values.values())} for row, values in sums.gauges.items()}
    return encode(total, sums)


def _remove(run: Path, worker: str, disk: Disk) -> None:
    """Remove the files of a retired worker, its lock last: while it exists, removal is retried."""
    for name in sorted(os.listdir(run)):
        if name.startswith(worker + ".") and not name.endswith(".lock"):
            disk.unlink(run / name)
    disk.unlink(run / f"{worker}.lock")


def _remove_temporaries(run: Path) -> None:
    """Remove temporary files of a killed retirement; the caller holds the lock."""
    for path in run.glob(f"{RETIRED}.*.tmp"):
        path.unlink(missing_ok=True)
