"""Content of the database: rows by series and slot, baselines, marks.

Series get a number in the database, since their labels are longer than their rows. A reader and a writer
keep those numbers, which never change.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import HistoryError
from ..metrics.columns import Descriptor
from ..metrics.instruments import Key, Kind, Merge
from ..metrics.table import NoteDocument
from . import rows
from .databases import Connection, Database
from .resolutions import FINEST, RESOLUTIONS, Resolution, Stretch
from .schema import prepare

MAX_SERIES = 50_000
"""Number of series that are kept; rows of further ones are left out, and counted."""
NOTHING_WAITS = -1
"""In place of the slot of a baseline, where no observations wait for more of their slot."""
ABANDONED_S = 900.0
"""Time without a write after which the slots of a run are read as they are."""
_CHUNK = 500  # series of one query
_COMPACT = json.JSONEncoder(separators=(",", ":"))


class AgainError(HistoryError):
    """A transaction has to be tried again, after :meth:`Store.forget`."""


class RowKind(StrEnum):
    """Meaning of a row."""

    HISTOGRAM = "histogram"
    COUNTER = "counter"
    GAUGE = "gauge"
    NOTE = "note"
    TOTAL = "total"  # sums of histograms (:mod:`.totals`)


class SeriesKey(NamedTuple):
    """Identity of a series.

    Attributes:
        kind: of its rows.
        name: of the meter or the evidence.
        labels: values of its labels, or the key of the note, as JSON.
    """

    kind: str
    name: str
    labels: str

    @property
    def identity(self) -> str:
        """A hash of it: an index has no room for long labels."""
        return hashlib.sha256("\n".join(self).encode()).hexdigest()


class Baseline(NamedTuple):
    """Totals of a run that rows were written up to, at one resolution.

    Attributes:
        at: time of the totals, in seconds since the epoch.
        slot: the slot that waits for more, :data:`NOTHING_WAITS` without one.
        data: the totals, see :func:`..storage.snapshots.packed`.
    """

    at: float
    slot: int
    data: bytes


class Waiting(NamedTuple):
    """A slot that waits for more observations.

    Attributes:
        source: number of its source.
        name: of the source.
        seconds: length of the slot.
        slot: its start, in seconds since the epoch.
    """

    source: int
    name: str
    seconds: int
    slot: int


class Mark(NamedTuple):
    """A moment with a name.

    Attributes:
        at: the moment, in seconds since the epoch.
        kind: of the mark.
        about: JSON values.
    """

    at: float
    kind: str
    about: dict[str, Any]


class StoredRows(NamedTuple):
    """Rows of a reader: numbers of their series, starts of their slots, bytes, numbers of sources."""

    series: list[int]
    slots: list[int]
    data: list[bytes]
    sources: list[int]

    def of(self, numbers: Container[int]) -> StoredRows:
        """Return the rows of some series, by their numbers."""
        places = [place for place, number in enumerate(self.series) if number in numbers]
        return StoredRows(
            [self.series[place] for place in places], [self.slots[place] for place in places],
            [self.data[place] for place in places], [self.sources[place] for place in places],
        )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def key_of(descriptor: Descriptor) -> SeriesKey:
    """Return the identity of a series of a meter."""
    return SeriesKey(descriptor.kind.value, descriptor.key.meter, json_text(descriptor.key.labels))


def key_of_note(note: NoteDocument) -> SeriesKey:
    """Return the identity of a piece of evidence."""
    return SeriesKey(RowKind.NOTE, note["kind"], json_text(note["key"]))


def descriptor_of(key: SeriesKey, about: Mapping[str, Any]) -> Descriptor:
    """Return the descriptor of a series of a meter."""
    labels = tuple(json.loads(key.labels))
    return Descriptor(Key(key.name, labels), Kind(key.kind), about["unit"], Merge(about["merge"]))


def json_text(value: Any) -> str:
    """Return JSON in ASCII: a database may refuse what a client has sent (NUL, half a surrogate)."""
    return _COMPACT.encode(value)


class Store:
    """The tables, through one connection.

    Args:
        connection: to a prepared database (:func:`.schema.prepare`).

    Attributes:
        left_out: number of series for which there was no room.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.left_out = 0
        self._numbers: dict[SeriesKey, int] = {}
        self._about: dict[int, tuple[SeriesKey, str]] = {}

    # -- series --------------------------------------------------------------------------------------

    def load_series(self, newest: int | None = None) -> None:
        """Read the series that were added since the last time, or after one with a number."""
        newest = max(self._about, default=0) if newest is None else newest
        results = self.connection.execute(
            "SELECT id, kind, name, labels, about FROM knitperf_series WHERE id > ?", (newest,)
        )
        for number, kind, name, labels, about in results:
            key = SeriesKey(kind, name, labels)
            self._numbers[key], self._about[number] = number, (key, about)

    def series(self) -> Mapping[int, tuple[SeriesKey, str]]:
        """Return the identity and the description of each series that is known, by its number."""
        return self._about

    def numbers(self, wanted: Sequence[tuple[SeriesKey, Mapping[str, Any]]]) -> list[int | None]:
        """Return the numbers of series, adding those that are new; ``None`` where there is no room.

        To be called within a transaction, and again from :meth:`forget` on where that failed.

        Args:
            wanted: identity and description of each.
        """
        if any(key not in self._numbers for key, _ in wanted):
            self.load_series()
            if len(self._about) + len(wanted) > MAX_SERIES:  # some may have been removed
                self.forget()
                self.load_series()
            missing = {key: about for key, about in wanted if key not in self._numbers}
            room = max(0, MAX_SERIES - len(self._about))
            self.left_out += max(0, len(missing) - room)
            new = list(missing.items())[:room]
            self.connection.change_many(
                "INSERT INTO knitperf_series (identity, kind, name, labels, about)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (identity) DO NOTHING",
                [(key.identity, *key, json_text(about)) for key, about in new],
            )
            self.load_series()
            if any(key not in self._numbers for key, _ in new):
                self.load_series(0)  # another host has committed a lower number later
        numbers = [self._numbers.get(key) for key, _ in wanted]
        self._check([number for number in numbers if number is not None])
        return numbers

    def _check(self, numbers: list[int]) -> None:
        """Check that none of some series was removed meanwhile (:mod:`.retention`).

        Raises:
            AgainError: one was.
        """
        for chunk in _chunks(numbers):
            [[present]] = self.connection.execute(
                f"SELECT count(*) FROM knitperf_series WHERE id IN ({_marks(chunk)})",  # noqa: S608
                chunk,
            )
            if present != len(chunk):
                raise AgainError("a series of the history was removed meanwhile")

    def forget(self) -> None:
        """Forget the numbers of series: they were not committed."""
        self._numbers.clear()
        self._about.clear()

    def known_source(self, name: str) -> int | None:
        """Return the number of a source, ``None`` before it has written."""
        results = self.connection.execute("SELECT id FROM knitperf_sources WHERE name = ?", (name,))
        return int(results[0][0]) if results else None

    def source(self, name: str) -> int:
        """Return the number of a source, adding it if it is new."""
        number = self.known_source(name)
        if number is None:
            self.connection.execute(
                "INSERT INTO knitperf_sources (name) VALUES (?) ON CONFLICT (name) DO NOTHING",
                (name,),
            )
            number = self.known_source(name)
        assert number is not None
        return number

    # -- rows ----------------------------------------------------------------------------------------

    def add(
        self, resolution: Resolution, slot: int, source: int, data: Mapping[int, bytes],
        *, merge: bool,
    ) -> None:  # fmt: skip
        """Add rows to one slot.

        Args:
            resolution: of the slot.
            slot: its start.
            source: number of the source.
            data: rows by the number of their series.
            merge: whether to add them to rows that the slot has already, which takes longer.

        Raises:
            AgainError: it has some, and they are not to be merged.
        """
        if merge:
            data = self._with_present(resolution, slot, source, data)
        added = self._insert(resolution.seconds, slot, source, data, replaces=merge)
        if added != len(data):
            raise AgainError("a slot of the history has rows already")

    def _insert(
        self, seconds: int, slot: int, source: int, data: Mapping[int, bytes], *, replaces: bool
    ) -> int:
        """Insert rows; return the number of those that were not there, or were replaced."""
        conflict = "UPDATE SET data = excluded.data" if replaces else "NOTHING"
        return self.connection.change_many(
            "INSERT INTO knitperf_rows (resolution, series, slot, source, data)"  # noqa: S608
            f" VALUES (?, ?, ?, ?, ?) ON CONFLICT (resolution, series, slot, source) DO {conflict}",
            [(seconds, series, slot, source, row) for series, row in data.items()],
        )

    def _with_present(
        self, resolution: Resolution, slot: int, source: int, data: Mapping[int, bytes]
    ) -> dict[int, bytes]:
        """Return rows with those that their slot has already added to them."""
        present: dict[int, bytes] = {}
        for chunk in _chunks(list(data)):
            present.update(self.connection.execute(
                "SELECT series, data FROM knitperf_rows WHERE resolution = ? AND slot = ?"  # noqa: S608
                f" AND source = ? AND series IN ({_marks(chunk)})",
                (resolution.seconds, slot, source, *chunk),
            ))  # fmt: skip
        both = [(number, data[number]) for number in present]
        return {**data, **add_rows(self._about, [*both, *present.items()])}

    def rows(
        self, stretches: Iterable[Stretch], numbers: Sequence[int] | None = None,
        source: int | None = None,
    ) -> StoredRows:  # fmt: skip
        """Return the rows in some stretches.

        Args:
            stretches: slots of one resolution each.
            numbers: series whose rows are returned, ``None`` for all.
            source: number of the source that wrote them, ``None`` for all.
        """
        query = (
            "SELECT series, slot, data, source FROM knitperf_rows WHERE resolution = ?"
            " AND slot >= ? AND slot < ?"
        )
        if source is not None:
            query += " AND source = ?"
        query += " AND series IN "
        of_source = [] if source is None else [source]
        every = query + "(SELECT id FROM knitperf_series)"  # noqa: S608
        queries: list[tuple[str, list[int]]] = [(every, [])]
        if numbers is not None:  # a statement has a limited number of values
            queries = [(f"{query}({_marks(chunk)})", chunk) for chunk in _chunks(list(numbers))]
        rows = [
            row for resolution, begins, ends in stretches for text, chunk in queries
            for row in self.connection.execute(
                text, (resolution.seconds, begins, ends, *of_source, *chunk)
            )
        ]  # fmt: skip
        return StoredRows(
            [series for series, _, _, _ in rows], [slot for _, slot, _, _ in rows],
            [bytes(data) for _, _, data, _ in rows], [source for _, _, _, source in rows],
        )  # fmt: skip

    # -- baselines and marks -------------------------------------------------------------------------

    def baselines(self, source: int, run: str) -> dict[int, Baseline]:
        """Return the baselines of a run, by the seconds of their resolution."""
        results = self.connection.execute(
            "SELECT resolution, at, slot, data FROM knitperf_baselines WHERE source = ? AND run = ?",
            (source, run),
        )
        return {seconds: Baseline(at, slot, bytes(data)) for seconds, at, slot, data in results}

    def was_written(self, source: int, since: float) -> bool:
        """Return whether a source was written at a time or later."""
        return bool(self.connection.execute(
            "SELECT 1 FROM knitperf_baselines WHERE source = ? AND at >= ? LIMIT 1", (source, since)
        ))  # fmt: skip

    def set_baseline(
        self, source: int, run: str, resolution: Resolution, baseline: Baseline
    ) -> None:
        """Replace a baseline."""
        self.connection.execute(
            "INSERT INTO knitperf_baselines (source, run, resolution, at, slot, data)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (source, run, resolution)"
            " DO UPDATE SET at = excluded.at, slot = excluded.slot, data = excluded.data",
            (source, run, resolution.seconds, *baseline),
        )

    def abandoned(self, now: float) -> list[Waiting]:
        """Return the slots that wait for a source which has not written for long, the finest first.

        Args:
            now: the present, in seconds since the epoch.
        """
        results = self.connection.execute(
            "SELECT DISTINCT source, name, resolution, slot FROM knitperf_baselines"
            " JOIN knitperf_sources ON id = source WHERE slot <> ? AND resolution <> ?"
            " AND source NOT IN (SELECT source FROM knitperf_baselines WHERE at >= ?)"
            " ORDER BY resolution",
            (NOTHING_WAITS, FINEST.seconds, now - ABANDONED_S),
        )
        return [Waiting(*row) for row in results]

    def finish(self, waiting: Waiting) -> None:
        """Write a slot from the finer rows in it, which are all that its source has written."""
        finer = max(one.seconds for one in RESOLUTIONS if one.seconds < waiting.seconds)
        pairs = self.connection.execute(
            "SELECT series, data FROM knitperf_rows WHERE resolution = ? AND slot >= ? AND slot < ?"
            " AND source = ?",
            (finer, waiting.slot, waiting.slot + waiting.seconds, waiting.source),
        )
        if not self._about.keys() >= {number for number, _ in pairs}:
            self.load_series(0)
        sums = add_rows(self._about, [(number, bytes(data)) for number, data in pairs])
        self._insert(waiting.seconds, waiting.slot, waiting.source, sums, replaces=True)
        self.connection.execute(
            "UPDATE knitperf_baselines SET slot = ? WHERE source = ? AND resolution = ? AND slot = ?",
            (NOTHING_WAITS, waiting.source, waiting.seconds, waiting.slot),
        )

    def drop_baselines(self, source: int, runs: Iterable[str]) -> None:
        """Drop the baselines of all runs of a source but some, whose files were removed."""
        kept = list(runs)
        self.connection.execute(
            f"DELETE FROM knitperf_baselines WHERE source = ? AND run NOT IN ({_marks(kept)})",  # noqa: S608
            (source, *kept),
        )

    def complete(self) -> dict[int, float]:
        """Return the time up to which slots are complete, by the seconds of their resolution.

        Of the finest one that is the latest write. A coarser slot may wait for more; that of a run which
        was not written for a while is not waited for.
        """
        [[latest]] = self.connection.execute("SELECT max(at) FROM knitperf_baselines")
        if latest is None:
            return {}
        complete = {resolution.seconds: float(latest) for resolution in RESOLUTIONS}
        complete.update(self.connection.execute(
            "SELECT waiting.resolution, min(waiting.slot) FROM knitperf_baselines waiting"
            " JOIN knitperf_baselines written ON written.source = waiting.source"
            " AND written.run = waiting.run AND written.resolution = ?"
            " WHERE waiting.resolution <> ? AND waiting.slot <> ? AND written.at > ?"
            " GROUP BY waiting.resolution",
            (FINEST.seconds, FINEST.seconds, NOTHING_WAITS, latest - ABANDONED_S),
        ))  # fmt: skip
        return complete

    def add_mark(self, source: int, mark: Mark) -> None:
        """Add a mark, unless it is there."""
        self.connection.execute(
            "INSERT INTO knitperf_marks (source, at, kind, about) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (source, at, kind) DO NOTHING",
            (source, mark.at, mark.kind, json_text(mark.about)),
        )

    def latest_mark(self, source: int, kind: str) -> Mark | None:
        """Return the latest mark of a kind of one source, ``None`` without any."""
        results = self.connection.execute(
            "SELECT at, kind, about FROM knitperf_marks WHERE source = ? AND kind = ?"
            " ORDER BY at DESC LIMIT 1", (source, kind),
        )  # fmt: skip
        return next((Mark(at, name, json.loads(about)) for at, name, about in results), None)

    def first(self, now: float) -> float:
        """Return the start of the history, ``now`` where there is none yet."""
        [[at]] = self.connection.execute("SELECT min(at) FROM knitperf_marks")
        return now if at is None else float(at)

    def marks(self, since: float, until: float) -> list[Mark]:
        """Return the marks of a window, oldest first."""
        results = self.connection.execute(
            "SELECT at, kind, about FROM knitperf_marks WHERE at >= ? AND at < ? ORDER BY at",
            (since, until),
        )
        return [Mark(at, kind, json.loads(about)) for at, kind, about in results]


class RowsByKind(NamedTuple):
    """Numbers of series, with rows, by the meaning of the rows."""

    series: list[tuple[int, bytes]]
    gauges: list[tuple[int, rows.GaugeRow]]
    notes: list[tuple[int, rows.NoteRow]]
    totals: list[tuple[int, bytes]]


def by_kind(
    about: Mapping[int, tuple[SeriesKey, str]], pairs: Iterable[tuple[int, bytes]]
) -> RowsByKind:
    """Return rows by their meaning; those of series and totals are not decoded.

    Args:
        about: identity of each series, by its number.
        pairs: numbers of series, with rows.
    """
    series: list[tuple[int, bytes]] = []
    gauges: list[tuple[int, bytes]] = []
    notes: list[tuple[int, bytes]] = []
    totals: list[tuple[int, bytes]] = []
    chosen = {
        RowKind.GAUGE.value: gauges, RowKind.NOTE.value: notes, RowKind.TOTAL.value: totals
    }  # fmt: skip
    for number, data in pairs:
        chosen.get(about[number][0].kind, series).append((number, data))
    return RowsByKind(
        series,
        list(zip(_firsts(gauges), rows.gauges_of(_seconds(gauges)), strict=True)),
        list(zip(_firsts(notes), rows.notes_of(_seconds(notes)), strict=True)),
        totals,
    )


def add_rows(
    about: Mapping[int, tuple[SeriesKey, str]], pairs: Iterable[tuple[int, bytes]]
) -> dict[int, bytes]:
    """Return the sums of rows by the number of their series; see :func:`by_kind`."""
    divided = by_kind(about, pairs)
    gauges, notes = rows.sum_by_key(divided.gauges), rows.sum_by_key(divided.notes)
    series = [*divided.series, *divided.totals]
    owners = np.array(_firsts(series), np.int64)
    return dict([
        *zip(*rows.merged(owners, _seconds(series)), strict=True),
        *zip(gauges, rows.gauge_rows(gauges.values()), strict=True),
        *zip(notes, rows.note_rows(notes.values()), strict=True),
    ])  # fmt: skip


def _firsts(pairs: Iterable[tuple[int, Any]]) -> list[int]:
    return [number for number, _ in pairs]


def _seconds(pairs: Iterable[tuple[int, bytes]]) -> list[bytes]:
    return [data for _, data in pairs]


@contextmanager
def connected(database: Database) -> Iterator[Connection]:
    """Open a prepared connection for one reader, which needs no series.

    Raises:
        HistoryError: the database cannot be used.
    """
    with closing(database.open()) as connection:
        prepare(connection)
        yield connection


@contextmanager
def opened(database: Database) -> Iterator[Store]:
    """Open a database for one reader, with its series.

    Raises:
        HistoryError: the database cannot be used.
    """
    with connected(database) as connection:
        store = Store(connection)
        store.load_series()
        yield store


def _chunks(numbers: list[int]) -> Iterable[list[int]]:
    return (numbers[begin : begin + _CHUNK] for begin in range(0, len(numbers), _CHUNK))


def _marks(values: Sequence[Any]) -> str:
    """Return a question mark for each value."""
    return ", ".join("?" * len(values)) or "NULL"
