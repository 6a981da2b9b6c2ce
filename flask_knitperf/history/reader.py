"""Reads windows of any length: exact counts, and the quantiles of the buckets added."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..metrics import columns
from ..metrics.columns import Columns
from ..metrics.table import NoteDocument, NoteId, Table, note_id
from ..storage.snapshots import difference, unpacked
from ..storage.state_dir import Snapshot
from ..storage.windows import Span
from . import rows
from .resolutions import FINEST, Stretch, stretches
from .rows import GaugeRow
from .store import Mark, SeriesKey, Store, by_kind, descriptor_of

Gauges = Mapping[tuple[str, tuple[str, ...]], GaugeRow]
"""Values by the name and the labels of a gauge."""


Only = Callable[[SeriesKey], bool]
"""Returns whether a series is read."""


class Past(NamedTuple):
    """Series, evidence, gauges and marks of a window.

    Attributes:
        begins: its start, in seconds since the epoch: up to one slot before the requested one.
        ends: its end.
        snapshot: series and evidence.
        gauges: values of gauges.
        marks: deploys.
        first: start of the history, in seconds since the epoch.
    """

    begins: float
    ends: float
    snapshot: Snapshot
    gauges: Gauges
    marks: list[Mark]
    first: float


def read_parts(
    store: Store, parts: Sequence[Span], now: float,
    live: Mapping[tuple[str, str], Snapshot] | None = None,
    only: Only | None = None,
) -> Past:  # fmt: skip
    """Read parts of a window together.

    Args:
        store: the rows.
        parts: in order of time, with more than an hour between two.
        now: the present.
        live: totals of runs by source and run, for what was observed since the latest write; of a
            window that ends earlier they are not used.
        only: returns whether a series is read, ``None`` for all.
    """
    with store.connection.reading():
        return _read_parts(store, parts, now, live or {}, only)


def _read_parts(
    store: Store, parts: Sequence[Span], now: float, live: Mapping[tuple[str, str], Snapshot],
    only: Only | None,
) -> Past:  # fmt: skip
    complete = store.complete()
    chosen = [
        stretch for part in parts
        for stretch in stretches(part.since, _edge(part.since, part.until, complete), now, complete)
    ]  # fmt: skip
    since, until = parts[0].since, parts[-1].until
    begins = chosen[0].begins if chosen else since
    part = _read(store, chosen, only)
    ends: float = chosen[-1].ends if chosen else since
    if live and until >= complete.get(FINEST.seconds, since):
        fresh = _since_write(store, live)
        part = _Part(
            columns.add([part.columns, *(one.columns for one in fresh)]),
            _sum_notes([part.notes, *(list(one.about.evidence.values()) for one in fresh)]),
            part.gauges,
        )
        ends = now
    about = Table(evidence={note_id(note): note for note in part.notes})
    snapshot = Snapshot(part.columns, about)
    return Past(begins, ends, snapshot, part.gauges, store.marks(begins, ends), store.first(now))


def bounds(store: Store, since: float, until: float) -> tuple[float, dict[int, float]]:
    """Return the end of the rows of a window, and the times up to which coarser slots are complete."""
    complete = store.complete()
    return _edge(since, until, complete), complete


def _edge(since: float, until: float, complete: Mapping[int, float]) -> float:
    return min(until, FINEST.slot(complete.get(FINEST.seconds, since)) + FINEST.seconds)


class _Part(NamedTuple):
    columns: Columns
    notes: list[NoteDocument]
    gauges: dict[tuple[str, tuple[str, ...]], GaugeRow]


def _read(store: Store, chosen: Sequence[Stretch], only: Only | None = None) -> _Part:
    """Return the sums of the rows of some stretches."""
    known = store.series()
    numbers = None if only is None else [number for number, (key, _) in known.items() if only(key)]
    some = store.rows(chosen, numbers)
    if not known.keys() >= set(some.series):
        store.load_series(0)
    divided = by_kind(known, zip(some.series, some.data, strict=True))
    owner = np.array([number for number, _ in divided.series], np.int64)
    owners, place = np.unique(owner, return_inverse=True)
    descriptors = tuple(
        descriptor_of(key, json.loads(about))
        for key, about in (known[number] for number in owners.tolist())
    )
    return _Part(
        rows.columns_of(descriptors, place.astype(np.int64), [data for _, data in divided.series]),
        [_note(*known[number], row) for number, row in rows.sum_by_key(divided.notes).items()],
        {_name(known[number][0]): row for number, row in rows.sum_by_key(divided.gauges).items()},
    )


def _note(key: SeriesKey, about: str, row: rows.NoteRow) -> NoteDocument:
    return NoteDocument(
        kind=key.name, key=json.loads(key.labels), count=row.times, weight=row.weight,
        detail=json.loads(about)["detail"],
    )  # fmt: skip


def _name(key: SeriesKey) -> tuple[str, tuple[str, ...]]:
    return key.name, tuple(json.loads(key.labels))


def _since_write(store: Store, live: Mapping[tuple[str, str], Snapshot]) -> list[Snapshot]:
    """Return the observations since the latest write."""
    fresh = []
    for (source, run), snapshot in live.items():
        number = store.known_source(source)
        baselines = {} if number is None else store.baselines(number, run)
        baseline = baselines.get(FINEST.seconds)
        before = None if baseline is None else unpacked(baseline.data)
        if before is not None:
            fresh.append(difference(snapshot, before))
    return fresh


def _sum_notes(parts: Iterable[Iterable[NoteDocument]]) -> list[NoteDocument]:
    sums: dict[NoteId, NoteDocument] = {}
    for part in parts:
        for note in part:
            identity = note_id(note)
            if identity in sums:
                sums[identity]["count"] += note["count"]
                sums[identity]["weight"] += note["weight"]
            else:
                sums[identity] = note.copy()
    return list(sums.values())
