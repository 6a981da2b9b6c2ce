"""The state directory: where workers leave what they observed, and how it is read as one.

::

    STATE_DIR/<run>/app.json            the application's routes and thresholds, for offline readers
                   <worker>.lock        identity; held (flock) exactly as long as the worker lives
                   <worker>.<n>.log     what it observed, in order
                   <worker>.table       its logs, folded
                   retired.table        tables of dead workers, folded
                   points/<ms>.point    snapshots of the recent past, for windows
                   origin-<ms>-<id>.point   the snapshot at which somebody cleared the totals
                   commands.log         what people asked of all workers

A reader reads parts first and the whole last, takes no lock and maps nothing. The whole names its parts
(see :mod:`..metrics.table`), so a reader never misses and never doubles, whatever happens meanwhile.
One thing needs care: the retired table cannot keep the names of all workers that ever lived. It drops
names only of workers whose files are gone, and says at which generation it last did (``pruned``); a
reader that began before that generation starts over.
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
from typing import Any

from ..core.errors import StateError
from ..metrics import columns
from ..metrics.catalogue import HEARTBEAT, KILLED
from ..metrics.columns import Columns, Series
from ..metrics.instruments import Key, Kind
from ..metrics.log_format import CELL, parse
from ..metrics.table import Table, add_notes, as_columns, decode, encode, take_in
from ..metrics.totals import Totals
from .atomic_files import Disk, is_locked, try_lock

RETIRED = "retired.table"
NAMES_KEPT = 200
DAMAGED = "the totals of workers that ended earlier were damaged on disk and are not counted"
_PIECE = 1 << 16
_EMPTY = bytes(CELL)
_LOG = re.compile(r"^(?P<worker>[\w-]+)\.(?P<number>\d+)\.log$")


@dataclass
class Snapshot:
    """All workers of one run, at one moment, or what was observed between two.

    Attributes:
        columns: the sum of their series.
        about: evidence and torn logs, in a table without series.
        workers: identity of each worker that has files, with ``alive``.
        degraded: sentences on what could not be read.
    """

    columns: Columns
    about: Table
    workers: list[dict[str, Any]] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)

    @cached_property
    def totals(self) -> Totals:
        """The sum of all workers, for reports."""
        return Totals(self.columns, self.about.evidence, self.about.torn)


def workers(run: Path) -> list[str]:
    """Return the workers that have files in a run, in a stable order."""
    names = {name.split(".", 1)[0] for name in os.listdir(run) if name.startswith("w-")}
    return sorted(names)


def logs(run: Path, worker: str) -> list[tuple[int, Path]]:
    """Return number and path of a worker's logs, in the order in which they were written."""
    found = []
    for name in os.listdir(run):
        match = _LOG.match(name)
        if match and match["worker"] == worker:
            found.append((int(match["number"]), run / name))
    return sorted(found)


def bytes_of(path: Path) -> bytes | None:
    """Return a file's content, ``None`` where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _log_bytes(path: Path) -> bytes | None:
    """Return a log without the empty rest: no cell in use is all zeros."""
    pieces = []
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                pieces.append(piece)
                if piece.endswith(_EMPTY):
                    break
    except FileNotFoundError:
        return None
    return b"".join(pieces)


Part = tuple[Table, Columns]
"""A table without its series, and those as columns."""


def load(path: Path, worker: str = "") -> Part:
    """Return the table in a file, an empty one where there is none.

    Raises:
        StateError: the file is damaged.
    """
    data = bytes_of(path)
    return (Table(worker), columns.of((), {})) if data is None else decode(data)


def gather(run: Path, worker: str) -> tuple[Table, list[Columns]]:
    """Return all that a worker observed: its logs (read first) and its table (read last).

    Returns:
        The table without series, and what adds up to its series.

    Raises:
        StateError: its table is damaged.
    """
    logged = [(number, _log_bytes(path)) for number, path in logs(run, worker)]
    table, found = load(run / f"{worker}.table", worker)
    for row, open_ in found.under_way.items():  # goes on in the logs, so it moves over
        head = found.heads[row]
        table.series[head.key] = Series(head.kind, head.unit, head.merge, open=open_)
    found.under_way = {}
    tails: list[Columns] = []
    for number, data in logged:
        if data is None or number < table.logs:
            continue
        if number > table.logs:  # its predecessor was never on disk
            table.logs, table.offset = number, 0
        tails.append(take_in(table, parse(data, table.offset), closed=False))
    parts = [columns.of(columns.heads_of(table.series), table.series)] if table.series else []
    parts += [columns.widened(part, table.heads) for part in (found, *tails)]
    table.series = {}
    return table, parts


def read(run: Path, own: Table | None = None) -> Snapshot:
    """Return one run as it is now. Takes no lock, changes nothing.

    Args:
        run: the run's directory.
        own: totals of a worker that stand for what its files say (its disk may be full).

    Raises:
        StateError: the directory changed too often while it was read (never seen).
    """
    for _ in range(8):
        degraded: list[str] = []
        begun = _retired(run, degraded)[0].generation
        found: dict[str, tuple[Table, list[Columns]]] = {}
        identities: dict[str, dict[str, Any]] = {}
        for worker in workers(run):
            identity = identify(run, worker)
            try:
                found[worker] = gather(run, worker) if own is None or worker != own.worker else (
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
        live = {name: part for name, part in found.items() if name not in retired.holds}
        shown = [identities[name] for name in live if name in identities]
        alive = {identity["worker"] for identity in shown if identity["alive"]}
        for name, (_, parts) in live.items():
            if name not in alive:
                _silence(parts)
        if (run / "damaged.table").exists():
            degraded.append(DAMAGED)
        for identity in shown:
            degraded += identity.get("degraded", [])
        about = Table()
        about.torn, about.evidence = add_notes([retired, *(table for table, _ in live.values())])
        total = columns.add([old, *(part for _, parts in live.values() for part in parts)])
        return Snapshot(total, about, shown, list(dict.fromkeys(degraded)))
    raise StateError(f"the state directory {run} changed too often while it was read")


def _retired(run: Path, degraded: list[str]) -> Part:
    try:
        return load(run / RETIRED)
    except StateError as error:
        degraded.append(f"totals of ended workers: {error}")
        return Table(), columns.of((), {})


def identify(run: Path, worker: str) -> dict[str, Any] | None:
    """Return what a worker wrote about itself, with ``alive``; ``None`` when it is gone."""
    path = run / f"{worker}.lock"
    data = bytes_of(path)
    if data is None:
        return None
    try:
        identity: dict[str, Any] = json.loads(data)
    except ValueError:
        identity = {"worker": worker}
    identity["worker"] = worker
    identity["alive"] = is_locked(path)
    return identity


def _silence(parts: list[Columns]) -> None:
    """Forget the gauges of a worker that no longer lives."""
    for part in parts:
        part.gauges = {}


def killed(table: Table) -> None:
    """Count what a dead worker left open as killed, with its age when the worker was last heard."""
    beat = table.series.get(Key(HEARTBEAT.name, ()))
    last = max(beat.gauge.values(), default=0.0) if beat else 0.0
    for key, series in list(table.series.items()):
        if series.kind is not Kind.OPEN or not series.open:
            continue
        counted = table.series.setdefault(
            Key(KILLED.name, key.labels), Series(KILLED.kind, KILLED.unit, KILLED.merge)
        )
        for began in series.open.values():
            counted.data.count += 1
            counted.data.total += max(0, round((last - began) * 1e9))
        series.open = {}


@contextmanager
def exclusively(path: Path) -> Iterator[bool]:
    """Hold the lock of a file if it is free; give whether it was."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def retire(run: Path, disk: Disk, alive: Callable[[Path], bool] = is_locked) -> int:
    """Fold the tables of dead workers into the retired one; return how many.

    Safe at any instant: names go into the table before files go, and files that a named worker left
    behind are removed by whoever comes next.
    """
    with exclusively(run / "retire.lock") as mine:
        if not mine:
            return 0
        _sweep(run)
        present = workers(run)
        dead = [worker for worker in present if not alive(run / f"{worker}.lock")]
        if not dead:
            return 0
        retired, old = _sound(run, disk)
        fresh = [worker for worker in dead if worker not in retired.holds]
        if fresh:
            disk.save(run / RETIRED, _swallow(run, retired, old, fresh, present))
        for worker in dead:
            _remove(run, worker, disk)
        return len(fresh)


def _sound(run: Path, disk: Disk) -> Part:
    """Return the retired table; a damaged one is put aside, so that retiring goes on."""
    try:
        return load(run / RETIRED)
    except StateError:
        disk.replace(run / RETIRED, run / "damaged.table")
        return Table(torn=1), columns.of((), {})


def _swallow(
    run: Path, retired: Table, old: Columns, fresh: list[str], present: list[str]
) -> bytes:
    """Return the retired table with dead workers added, as it stands on disk."""
    tables, parts, torn = [retired], [old], 0
    for worker in fresh:
        try:
            table, found = gather(run, worker)
        except StateError:
            torn += 1
            continue
        table.series = columns.series(columns.add(found))
        killed(table)
        parts.append(columns.of(columns.heads_of(table.series), table.series))
        tables.append(table)
    _silence(parts)
    total = Table(generation=retired.generation + 1, pruned=retired.pruned)
    total.torn, total.evidence = add_notes(tables)
    total.torn += torn
    total.holds = {**retired.holds, **dict.fromkeys(fresh, total.generation)}
    gone = [name for name in total.holds if name not in present]
    if len(gone) > NAMES_KEPT:
        total.pruned = total.generation
        for name in gone:
            del total.holds[name]
    return encode(total, columns.add(parts))


def _remove(run: Path, worker: str, disk: Disk) -> None:
    """Remove a retired worker's files, its lock last (while it stands, someone will try again)."""
    for name in sorted(os.listdir(run)):
        if name.startswith(worker + ".") and not name.endswith(".lock"):
            disk.unlink(run / name)
    disk.unlink(run / f"{worker}.lock")


def _sweep(run: Path) -> None:
    """Remove what a retirement that was killed left half written (we hold its lock)."""
    for path in run.glob(f"{RETIRED}.*.tmp"):
        path.unlink(missing_ok=True)
