"""A run whose totals a test adds to, and writers of its history on a clock that the test sets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from flask_knitperf.core.clock import Clock
from flask_knitperf.history.databases import Database
from flask_knitperf.history.reader import Past, read_parts
from flask_knitperf.history.schema import prepare
from flask_knitperf.history.store import Store
from flask_knitperf.history.writer import HistoryWriter
from flask_knitperf.metrics.catalogue import PART, REQUEST, RSS
from flask_knitperf.metrics.codec import FORMAT
from flask_knitperf.metrics.columns import Series
from flask_knitperf.metrics.instruments import Key, Kind, Meter
from flask_knitperf.metrics.table import Table, as_columns, keep_evidence
from flask_knitperf.storage.state_dir import Snapshot
from flask_knitperf.storage.windows import Span

START = 1_700_000_000.0 - 1_700_000_000 % 3600
"""The start of an hour."""


class Run:
    """One run in a state directory.

    Args:
        state: the state directory.
        name: of the run.
        began: its start, in seconds since the epoch.
    """

    def __init__(self, state: Path, name: str = "server-1", began: float = START) -> None:
        self.path = state / name
        self.path.mkdir(parents=True, exist_ok=True)
        about = {
            "format": FORMAT,
            "began": began,
            "release": name,
            "number": len(list(state.iterdir())),
        }
        (self.path / "app.json").write_text(json.dumps(about))
        self.table = Table()
        self.values: list[float] = []

    def observe(self, *values: float, endpoint: str = "lots") -> None:
        """Record requests with these durations in nanoseconds."""
        self._add(REQUEST, (endpoint, "GET", "2xx", "warm"), values)
        self._add(PART, (endpoint, "GET", "sql"), values)
        self.values += values

    def note(self, kind: str, key: str, weight: float = 1.0) -> None:
        """Record a piece of evidence."""
        keep_evidence(self.table.evidence, {
            "kind": kind, "key": [key], "count": 1, "weight": weight, "detail": {"at": 1}
        })  # fmt: skip

    def gauge(self, **workers: float) -> None:
        """Set the resident memory of workers."""
        self._series(RSS, ()).gauge = workers

    def _add(self, meter: Meter, labels: tuple[str, ...], values: tuple[float, ...]) -> None:
        data = self._series(meter, labels).data
        for value in values:
            if meter.kind is Kind.HISTOGRAM:
                data.add(value)
            else:
                data.count, data.total = data.count + 1, data.total + round(value)

    def _series(self, meter: Meter, labels: tuple[str, ...]) -> Series:
        key = Key(meter.name, labels)
        return self.table.series.setdefault(key, Series(meter.kind, meter.unit, meter.merge))

    def snapshot(self) -> Snapshot:
        """Return the totals so far."""
        about = Table(evidence={key: note.copy() for key, note in self.table.evidence.items()})
        return Snapshot(as_columns(self.table), about)


class Host:
    """Writers of one state directory.

    Args:
        database: that holds the history.
        state: the state directory.
        run: the run of the writers.
    """

    def __init__(self, database: Database, state: Path, run: Run) -> None:
        self.database, self.state, self.run = database, state, run
        self.now = START

    def writer(
        self, holder: str = "first", database: Database | None = None, source: str = "host"
    ) -> HistoryWriter:
        """Return a writer."""
        return HistoryWriter(
            database or self.database, self.state, source, holder,
            lambda: (self.run.path, self.run.snapshot()), Clock(wall=lambda: self.now), 1 << 30,
        )  # fmt: skip


def past(database: Database, since: float, until: float, **options: Any) -> Past:
    """Return a window."""
    connection = database.connection()
    prepare(connection)
    now = options.pop("now", until)
    return read_parts(Store(connection), [Span(since, until)], now, **options)


def requests(read: Past, endpoint: str = "lots") -> int:
    """Return the number of requests in a window."""
    totals = read.snapshot.totals
    return totals.tally([row for row in totals.rows(REQUEST.name) if row[0][0] == endpoint]).count


def by_series(read: Past) -> Counter[tuple[str, ...]]:
    """Return the number of observations of each series in a window."""
    columns = read.snapshot.columns
    return Counter({
        (descriptor.key.meter, *descriptor.key.labels): int(count)
        for descriptor, count in zip(columns.descriptors, columns.count.tolist(), strict=True)
    })  # fmt: skip
