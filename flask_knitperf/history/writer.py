"""Writes the history of one host: every ten seconds, what was added to the totals of its runs.

One process of the host does it, the holder of a lease; the others look every ten seconds whether that is
free. Rows of a slot and the totals that they lead to, the *baseline*, are committed in one transaction.
The next writer, in this process or another one, takes the difference to the baseline that it finds. So a
writer that is killed, or moves, neither loses nor doubles an observation: what workers have recorded is
on disk (:mod:`..storage`), and the baseline is the part of it that the rows have.

Every resolution has a separate baseline, and its rows are differences to that: nothing is read back to
compute coarser rows. What was observed between two writes belongs to the moment of the first, or after a
gap to ten seconds before the second. A coarser slot is written once something belongs to another one, so
that it has exactly what the finer slots in it have; until then it *waits*, and readers take the finer
ones. Where the clock was set back, rows are added to slots that exist.

Values of gauges are not differences. They are read at each write, and added up in memory for the coarser
slots: a writer that is killed loses those of the last hour's slot, which then has fewer readings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core.clock import Clock
from ..core.errors import StateError
from ..metrics import columns
from ..metrics.catalogue import HEARTBEAT, JOB_LAST
from ..metrics.columns import Columns, Descriptor
from ..metrics.instruments import Kind, Merge
from ..metrics.table import NoteDocument, Table
from ..storage.runs import check_format, describe, has_server, runs
from ..storage.snapshots import difference, packed, unpacked
from ..storage.state_dir import Part, Snapshot, read
from . import rows
from .databases import Connection, Database
from .lease import LEASE_OF_HISTORY, Lease, LeaseLostError, drop, take, was_dropped
from .resolutions import COARSER, FINEST, RESOLUTIONS, Resolution
from .retention import Retention
from .rows import GaugeRow, NoteRow
from .schema import prepare
from .store import (
    NOTHING_WAITS,
    AgainError,
    Baseline,
    Mark,
    SeriesKey,
    Store,
    key_of,
    key_of_note,
)
from .totals import total_rows

LEASE_S = 45.0
"""Time after which another process takes over; an idle process writes every 30 seconds."""
FRESH_S = 600.0
"""Age up to which a run without a baseline is written from its start.

So is an older one that began while the history was being written, or within this time after."""
DEPLOY = "deploy"
"""Kind of the mark at the start of a run."""
_TIMES = frozenset((HEARTBEAT.name, JOB_LAST.name))  # gauges that are moments, of no use in a row

Entry = tuple[SeriesKey, Mapping[str, Any], bytes]
"""Identity and description of a series, and its row."""


_Gauge = tuple[Mapping[str, Any], GaugeRow]
"""Description of a gauge, and its values."""


Gauges = dict[int, dict[SeriesKey, _Gauge]]
"""Values of gauges that are not written yet, by the seconds of a resolution."""


class Known(NamedTuple):
    """A baseline in memory, with its totals."""

    baseline: Baseline
    totals: Part

    @property
    def snapshot(self) -> Snapshot:
        """Its totals as a snapshot."""
        about, whole = self.totals
        return Snapshot(whole, about)


class HistoryWriter:
    """Writes the history of one state directory.

    Args:
        database: that holds the history.
        state: the state directory.
        source: name of the state directory, different for each host.
        holder: identity of this process.
        own: returns the run of this process and its totals, ``None`` while it has no run.
        clock: time.
        max_bytes: size that the history is kept below.

    Attributes:
        leads: whether this process wrote the latest slot.
        written_at: time of its latest write, 0 before the first.
    """

    def __init__(
        self, database: Database, state: Path, source: str, holder: str,
        own: Callable[[], tuple[Path, Snapshot] | None], clock: Clock, max_bytes: int,
    ) -> None:  # fmt: skip
        self._database, self._state, self._source = database, state, source
        self._holder, self._own, self._clock = holder, own, clock
        self._retention = Retention(max_bytes)
        self._store: Store | None = None
        self._lease: Lease | None = None
        self._known: dict[str, Mapping[int, Known]] = {}  # by run and seconds of a resolution
        self._finished: set[str] = set()  # runs that had ended when they were written
        self._runs: set[str] = set()  # whose baselines are kept
        self._gauges: Gauges = {}
        self._slot: int | None = None
        self.leads, self.written_at = False, 0.0

    def tick(self) -> None:
        """Write the slots that have ended since the last time, if this process holds the lease.

        Raises:
            HistoryError: the database cannot be used.
        """
        now = self._clock.wall()
        if FINEST.slot(now) == self._slot:
            return
        store = self._opened()
        lease = take(store.connection, _lease_name(self._source), self._holder, LEASE_S)
        if lease is None or lease != self._lease:
            self._forget()
        self._lease, self.leads = lease, lease is not None
        if lease is not None:
            try:
                self._write(store, lease, now)
            except LeaseLostError:  # this process was suspended meanwhile
                self._lease, self.leads = None, False
        self._slot = FINEST.slot(now)

    def _opened(self) -> Store:
        connection = self._database.connection()
        if self._store is None or self._store.connection is not connection:
            self._forget()
            prepare(connection)
            self._store = Store(connection)
        return self._store

    def _forget(self) -> None:
        """Forget what another process may have changed."""
        self._known.clear()
        self._finished.clear()
        self._runs.clear()
        self._gauges.clear()

    def close(self) -> None:
        """Give the lease back, and close the connection."""
        lease, store = self._lease, self._store
        self._lease, self._store, self.leads = None, None, False
        try:
            if lease is not None and store is not None:
                drop(store.connection, lease)
        finally:
            self._database.close()

    @property
    def connection(self) -> Connection | None:
        """The connection that the latest write used, ``None`` where it was closed."""
        return None if self._store is None else self._store.connection

    def disconnect(self) -> None:
        """Close the connection; the next write opens another one."""
        self._store = None
        self._database.close()

    # -- runs ----------------------------------------------------------------------------------------

    def _write(self, store: Store, lease: Lease, now: float) -> None:
        if not self.written_at:
            self._retention.started(store.complete().get(FINEST.seconds, now), now)
        own = self._own()
        if own is not None:
            run, snapshot = own
            self._write_run(store, lease, now, run, snapshot, is_live=True, gauges=self._gauges)
        self._write_others(store, lease, now, None if own is None else own[0])
        self._finish_abandoned(store, now)
        self._retention.run(store.connection, now)
        self.written_at = now

    def _write_others(self, store: Store, lease: Lease, now: float, own: Path | None) -> None:
        """Write what other runs have recorded: those of other servers, and those that have ended."""
        present = runs(self._state)
        for run in present:
            is_live = run == own or has_server(run)
            if is_live:
                self._finished.discard(run.name)
            if run == own or run.name in self._finished:
                continue
            try:
                snapshot = read(check_format(run))
            except StateError:
                continue  # another version has written it, and writes its history
            self._write_run(store, lease, now, run, snapshot, is_live=is_live)
            if not is_live:
                self._finished.add(run.name)
        names = {run.name for run in present}
        if names != self._runs:
            with store.connection.transaction():
                lease.check(store.connection)
                store.drop_baselines(store.source(self._source), names)
            self._runs = names

    def _finish_abandoned(self, store: Store, now: float) -> None:
        """Write the slots that wait for a host, or a state directory, which is gone.

        Its lease is taken for it: were it only suspended, it would begin from its baselines again.
        """
        for waiting in store.abandoned(now):
            name = _lease_name(waiting.name)
            has_ended = was_dropped(store.connection, name)
            lease = take(store.connection, name, self._holder, LEASE_S)
            if lease is None:
                continue
            with store.connection.transaction():
                lease.check(store.connection)
                store.finish(waiting)
            drop(store.connection, lease, has_ended=has_ended)  # it may still be silent

    def _write_run(
        self, store: Store, lease: Lease, now: float, run: Path, snapshot: Snapshot, *, is_live: bool,
        gauges: Gauges | None = None,
    ) -> None:  # fmt: skip
        """Write what a run has added; of one that has ended, all that is left of it."""
        read = {} if gauges is None else dict(_gauges(snapshot.columns))
        latest = AgainError("a write of the history was not tried")
        for merge in (False, True, True):
            try:
                with store.connection.transaction():
                    lease.check(store.connection)
                    source = store.source(self._source)
                    known = self._baselines(store, source, run, snapshot, now)
                    if is_live:
                        self._mark_return(store, source, run, known, now)
                    sums = {**(gauges or {}), FINEST.seconds: read}
                    step = _Step(store, source, run.name, sums, merge=merge)
                    fresh = step.write(known, snapshot, now, is_live=is_live)
            except AgainError as error:  # the clock was set back, runs overlap, or a series is gone
                store.forget()
                self._known.pop(run.name, None)
                latest = error
            except BaseException:
                store.forget()
                self._known.pop(run.name, None)
                raise
            else:
                self._known[run.name] = fresh
                if gauges is not None:
                    _add_gauges(gauges, read, step.written)
                return
        raise latest

    def _baselines(
        self, store: Store, source: int, run: Path, snapshot: Snapshot, now: float
    ) -> Mapping[int, Known]:
        """Return the baselines of a run: those in memory, else of the database, else new ones."""
        if run.name in self._known:
            return self._known[run.name]
        known: dict[int, Known] = {}
        stored = store.baselines(source, run.name)
        for seconds, one in stored.items():
            totals = unpacked(one.data)
            if totals is not None:
                known[seconds] = Known(one, totals)
        if len(known) == len(RESOLUTIONS):
            return known
        about = describe(run)
        began = min(now, float(about.get("began", now)))
        at, first = now, snapshot
        if not stored:
            store.add_mark(source, Mark(began, DEPLOY, _release(run)))
            if now - began <= FRESH_S or store.was_written(source, began - FRESH_S):
                at, first = began, Snapshot(columns.empty(()), Table())
        baseline = Known(Baseline(at, NOTHING_WAITS, packed(first)), (first.about, first.columns))
        return {resolution.seconds: baseline for resolution in RESOLUTIONS}

    def _mark_return(
        self, store: Store, source: int, run: Path, known: Mapping[int, Known], now: float
    ) -> None:
        """Mark the deploy of a release that had ended, and serves again after another one."""
        if all(known[one.seconds].baseline.slot == NOTHING_WAITS for one in COARSER):
            latest = store.latest_mark(source, DEPLOY)
            if latest is not None and latest.about.get("run") != run.name:
                at = now - FINEST.seconds  # where its observations are written
                store.add_mark(source, Mark(at, DEPLOY, _release(run)))


def _release(run: Path) -> dict[str, Any]:
    """Return the JSON values of the mark of a run."""
    return {"run": run.name, "release": describe(run).get("release")}


class _Step:
    """One transaction that writes one run.

    Args:
        store: the tables.
        source: number of the source.
        run: name of the run.
        gauges: values of gauges, by the seconds of a resolution.
        merge: whether slots may have rows already.

    Attributes:
        written: resolutions of which a slot was written.
    """

    def __init__(
        self, store: Store, source: int, run: str, gauges: Gauges, *, merge: bool
    ) -> None:  # fmt: skip
        self._store, self._source, self._run, self._merge = store, source, run, merge
        self._gauges = gauges
        self.written: list[Resolution] = []

    def write(
        self, known: Mapping[int, Known], snapshot: Snapshot, now: float, *, is_live: bool
    ) -> Mapping[int, Known]:
        """Write what was added since the baselines; return the new ones.

        Coarser slots are written once something belongs to the next one, from the totals before that.
        """
        latest = known[FINEST.seconds]
        moment = max(min(latest.baseline.at, now), now - FINEST.seconds)
        fresh = dict(known)
        for resolution in COARSER:
            before = fresh[resolution.seconds]
            slot = resolution.slot(moment)
            if before.baseline.slot == slot:
                continue
            if before.baseline.slot != NOTHING_WAITS:
                self._add(resolution, before.baseline.slot, before.totals, latest.snapshot)
            fresh[resolution.seconds] = self._keep(resolution, latest, latest.baseline.at, slot)
        whole = Known(Baseline(now, 0, packed(snapshot)), (snapshot.about, snapshot.columns))
        self._add(FINEST, FINEST.slot(moment), latest.totals, snapshot)
        fresh[FINEST.seconds] = self._keep(FINEST, whole, now, FINEST.slot(now))
        for resolution in () if is_live else COARSER:
            waiting = fresh[resolution.seconds]
            self._add(resolution, waiting.baseline.slot, waiting.totals, snapshot)
            fresh[resolution.seconds] = self._keep(resolution, whole, now, NOTHING_WAITS)
        return fresh

    def _add(self, resolution: Resolution, slot: int, before: Part, until: Snapshot) -> None:
        """Add the rows of one slot: what was observed between two totals."""
        delta = difference(until, before)
        entries = [*_series(delta.columns), *_notes(delta.about.evidence.values())]
        entries += total_rows(delta.columns)
        entries += _gauge_entries(self._gauges.get(resolution.seconds, {}))
        numbers = self._store.numbers([(key, about) for key, about, _ in entries])
        rows_by_number = {
            number: row for number, (_, _, row) in zip(numbers, entries, strict=True)
            if number is not None
        }  # fmt: skip
        self._store.add(resolution, slot, self._source, rows_by_number, merge=self._merge)
        self.written.append(resolution)

    def _keep(self, resolution: Resolution, known: Known, at: float, slot: int) -> Known:
        """Store totals as a baseline, and return it."""
        baseline = Baseline(at, slot, known.baseline.data)
        self._store.set_baseline(self._source, self._run, resolution, baseline)
        return Known(baseline, known.totals)


def _lease_name(source: str) -> str:
    return f"{LEASE_OF_HISTORY}{source}"


def _series(delta: Columns) -> Iterator[Entry]:
    """Yield the series that have observations."""
    active, blobs = rows.rows_of(delta)
    for row, data in zip(active.tolist(), blobs, strict=True):
        descriptor = delta.descriptors[row]
        yield key_of(descriptor), _about(descriptor), data


def _about(descriptor: Descriptor) -> dict[str, Any]:
    return {"unit": descriptor.unit, "merge": descriptor.merge.value}


def _notes(notes: Iterable[NoteDocument]) -> Iterator[Entry]:
    """Yield pieces of evidence."""
    chosen = list(notes)
    blobs = rows.note_rows([NoteRow(note["count"], note["weight"]) for note in chosen])
    for note, data in zip(chosen, blobs, strict=True):
        yield key_of_note(note), {"detail": note["detail"]}, data


def _gauges(totals: Columns) -> Iterator[tuple[SeriesKey, _Gauge]]:
    """Yield the values of gauges: of some each worker has one, others have one for all."""
    for row, by_worker in totals.gauges.items():
        descriptor, values = totals.descriptors[row], list(by_worker.values())
        if descriptor.kind is not Kind.GAUGE or descriptor.key.meter in _TIMES or not values:
            continue
        if descriptor.merge is Merge.SUM:
            values = [sum(values)]
        elif descriptor.merge is not Merge.PER_WORKER:
            values = [max(values)]
        gauge = GaugeRow(1, len(values), sum(values), min(values), max(values))
        yield key_of(descriptor), (_about(descriptor), gauge)


def _add_gauges(
    known: Gauges, read: Mapping[SeriesKey, _Gauge], written: Iterable[Resolution]
) -> None:
    """Add values of gauges to those of the slots that have not been written."""
    for resolution in written:
        known.pop(resolution.seconds, None)
    for resolution in COARSER:
        values = known.setdefault(resolution.seconds, {})
        for key, (about, row) in read.items():
            values[key] = about, values[key][1].plus(row) if key in values else row


def _gauge_entries(gauges: Mapping[SeriesKey, _Gauge]) -> Iterator[Entry]:
    blobs = rows.gauge_rows([row for _, row in gauges.values()])
    for (key, (about, _)), data in zip(gauges.items(), blobs, strict=True):
        yield key, about, data
