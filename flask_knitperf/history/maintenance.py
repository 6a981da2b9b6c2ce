"""Figures on the history, its rows as plain values, and the removal of old rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np

from ..reports.values import moment
from . import rows
from .databases import Connection
from .resolutions import RESOLUTIONS, Resolution
from .retention import MAX_ROWS, delete_oldest
from .store import RowKind, SeriesKey, Store


class ResolutionStats(TypedDict):
    """Rows of one resolution; times in ISO 8601, ``None`` without rows."""

    seconds: int
    rows: int
    oldest: str | None
    newest: str | None


class HistoryStats(TypedDict):
    """Figures on the history; times in ISO 8601.

    ``sources`` are hosts with their state directory.
    """

    database: str
    bytes: int
    series: int
    deploys: int
    resolutions: list[ResolutionStats]
    sources: list[str]
    written_at: str | None


def stats(connection: Connection, name: str) -> HistoryStats:
    """Return figures on a history.

    Args:
        connection: to its database.
        name: of the database.
    """
    [[series]] = connection.execute("SELECT count(*) FROM knitperf_series")
    [[deploys]] = connection.execute("SELECT count(*) FROM knitperf_marks")
    [[written]] = connection.execute("SELECT max(at) FROM knitperf_baselines")
    sources = connection.execute("SELECT name FROM knitperf_sources ORDER BY name")
    return HistoryStats(
        database=name, bytes=connection.size_bytes(), series=series, deploys=deploys,
        resolutions=[_resolution(connection, resolution) for resolution in RESOLUTIONS],
        sources=[source for (source,) in sources],
        written_at=None if written is None else moment(written),
    )  # fmt: skip


def _resolution(connection: Connection, resolution: Resolution) -> ResolutionStats:
    [[number, oldest, newest]] = connection.execute(
        "SELECT count(*), min(slot), max(slot) FROM knitperf_rows WHERE resolution = ?",
        (resolution.seconds,),
    )
    return ResolutionStats(
        seconds=resolution.seconds, rows=number, oldest=None if oldest is None else moment(oldest),
        newest=None if newest is None else moment(newest),
    )  # fmt: skip


def export(
    store: Store, since: float, until: float, resolution: Resolution
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one resolution as JSON values, by series and time.

    Args:
        store: the rows.
        since: least start of a slot, in seconds since the epoch.
        until: start of the first slot that is not exported.
        resolution: of the rows.
    """
    for number, (key, _) in sorted(store.series().items()):
        pairs = store.connection.execute(
            "SELECT slot, data FROM knitperf_rows WHERE resolution = ? AND series = ? AND slot >= ?"
            " AND slot < ? ORDER BY slot",
            (resolution.seconds, number, since, until),
        )
        for slot, data in pairs:
            yield {
                "at": moment(slot), "seconds": resolution.seconds, "kind": key.kind, "name": key.name,
                "labels": key.labels, **_values(key, bytes(data)),
            }  # fmt: skip


def _values(key: SeriesKey, data: bytes) -> dict[str, Any]:
    """Return the numbers of a row by their names."""
    if key.kind == RowKind.GAUGE:
        return rows.gauges_of([data])[0]._asdict()
    if key.kind == RowKind.NOTE:
        return rows.notes_of([data])[0]._asdict()
    nameless: Any = (None,)
    whole = rows.columns_of(nameless, np.zeros(1, np.int64), [data])
    buckets = [
        list(pair) for pair in zip(whole.bucket.tolist(), whole.weight.tolist(), strict=True)
    ]
    return {"count": int(whole.count[0]), "sum": int(whole.total[0]), "buckets": buckets}


def prune(connection: Connection, before: float) -> int:
    """Delete all rows of slots that begin before a time; return their number.

    They go a thousand at a time, so that the writer waits for no more than that.

    Args:
        connection: to the database.
        before: in seconds since the epoch.
    """
    deleted = 0
    for (number,) in connection.execute("SELECT id FROM knitperf_series ORDER BY id"):
        for resolution in RESOLUTIONS:
            while some := delete_oldest(connection, resolution, number, before, MAX_ROWS):
                deleted += some
    connection.give_back()
    return deleted
