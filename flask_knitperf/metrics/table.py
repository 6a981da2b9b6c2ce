"""The table: logs folded into totals, one per worker, and the pure functions that merge tables.

``fold(table, log)`` adds the observations of a log, ``merge(tables)`` adds tables. The order does not
matter, so tests build tables directly and compare.

*The invariant that makes it crash-safe.* A table lists its content: a worker's table the number of its
fully folded logs and the offset into the next one (``logs``, ``offset``); the retired table the workers
that it includes (``holds``). A table is written beside the old one and renamed over it, and only then
are its parts unlinked. A reader reads the parts first and the table last: a part that the table lists
is in it, any other part is not. Whenever a process dies, nothing is lost and nothing is counted twice.

On disk a table is stored as columns (:mod:`.columns`): text and plain arrays behind a checksum, because
a state directory outlives the interpreter that wrote it, and reading a damaged one must fail cleanly.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np

from . import codec, columns
from .columns import Columns, Descriptor, Descriptors, Series
from .instruments import Key, Kind, Merge, Meter
from .log_format import Parsed, parse

MAX_EVIDENCE = 50  # of each kind, the heaviest
CHUNK_BYTES = 1 << 17  # of a log, folded at once

_ABOUT = ("worker", "logs", "offset", "holds", "generation", "pruned", "evidence", "incomplete")


class NoteDocument(TypedDict):
    """One piece of evidence as JSON values; see :class:`.instruments.Note`."""

    kind: str
    key: list[str | int]
    count: int
    weight: float
    detail: Any


NoteId = tuple[str | int, ...]
"""Kind and key of a note."""


def note_id(note: NoteDocument) -> NoteId:
    """Return the identity of a piece of evidence."""
    return note["kind"], *note["key"]


@dataclass(slots=True)
class Table:
    """Totals of one worker, of the retired workers, or (merged) of a run.

    Attributes:
        worker: the worker whose logs are folded, empty for the retired and merged tables.
        logs: number of fully folded logs; the next one is folded up to ``offset``.
        offset: folded bytes of the current log.
        series: by key.
        descriptors: descriptors of the worker's series; the one with id ``n`` at index ``n - 1``.
        holds: included workers, with the generation that added them.
        generation: number of times the retired table was written.
        pruned: the generation at which names were last dropped from ``holds``.
        evidence: the heaviest notes of each kind, by key.
        incomplete: number of logs with an incomplete end.
    """

    worker: str = ""
    logs: int = 0
    offset: int = 0
    series: dict[Key, Series] = field(default_factory=dict)
    descriptors: Descriptors = ()
    holds: dict[str, int] = field(default_factory=dict)
    generation: int = 0
    pruned: int = 0
    evidence: dict[NoteId, NoteDocument] = field(default_factory=dict)
    incomplete: int = 0


def copy(table: Table) -> Table:
    """Return an independent copy."""
    duplicate = merge([table])
    duplicate.worker, duplicate.logs, duplicate.offset = table.worker, table.logs, table.offset
    duplicate.descriptors, duplicate.holds = table.descriptors, dict(table.holds)
    duplicate.generation, duplicate.pruned = table.generation, table.pruned
    return duplicate


def define(key: Key, meter: Meter) -> list[Any]:
    """Return the JSON document that defines a series in a log."""
    return [key.meter, list(key.labels), meter.kind.value, meter.unit, meter.merge.value]


def fold(table: Table, data: bytes | mmap.mmap, *, closed: bool, end: int | None = None) -> Table:
    """Fold a log from ``table.offset`` into the worker's table, in place.

    It is folded in chunks: the arrays of a whole log take six times its size, and the C library might
    never return that memory.

    Args:
        table: the worker's table.
        data: the log, from its start.
        closed: whether the log is complete; the next one starts at offset 0 then.
        end: number of bytes written; ``None`` for the whole length.

    Returns:
        ``table``.
    """
    end = len(data) if end is None else end
    parts: list[Columns] = []
    last = False
    try:
        while not last:
            begin = table.offset
            last = begin + CHUNK_BYTES >= end
            parsed = parse(data[begin : min(begin + CHUNK_BYTES, end)])
            if not (parsed.end or last):  # incomplete, or one item is longer than a chunk
                last, parsed = True, parse(data[begin:end])
            parsed.end += begin
            parts.append(take_in(table, parsed, closed=closed and last))
    finally:  # everything before the offset must be in the table, whatever failed
        _include(table, columns.add([columns.widened(part, table.descriptors) for part in parts]))
    return table


def _include(table: Table, fresh: Columns) -> None:
    """Add columns to a table's series."""
    for key, series in columns.series(fresh).items():
        existing = table.series.setdefault(key, series)
        if existing is not series:
            existing.data.include(series.data)
            existing.gauge = {**existing.gauge, **series.gauge}


def take_in(table: Table, parsed: Parsed, *, closed: bool) -> Columns:
    """Fold a parsed log, but return its observations instead of adding them to the table's series.

    Only open meters go into the table's series, since their start may lie in an earlier log.
    """
    new: list[Descriptor] = []
    for number, document in parsed.definitions.items():
        meter, labels, kind, unit, how = document
        if number == len(table.descriptors) + len(new) + 1:
            new.append(Descriptor(Key(meter, tuple(labels)), Kind(kind), unit, Merge(how)))
    table.descriptors = columns.extended(table.descriptors, new)
    for note in parsed.notes:
        keep_evidence(table.evidence, note)
    fresh = _observed(table, parsed)
    table.offset = parsed.end
    if closed:
        table.incomplete += parsed.incomplete
        table.logs, table.offset = table.logs + 1, 0
    return fresh


def _observed(table: Table, parsed: Parsed) -> Columns:
    row, weight, value = parsed.series.astype(np.int64) - 1, parsed.weight, parsed.value
    if len(row) and not (row.min() >= 0 and row.max() < len(table.descriptors)):
        defined = (row >= 0) & (row < len(table.descriptors))
        table.incomplete += len(np.unique(row[~defined]))
        row, weight, value = row[defined], weight[defined], value[defined]
    descriptors = table.descriptors
    fresh, implausible = columns.observed(
        descriptors, table.worker, row, weight.astype(np.int64), value
    )
    table.incomplete += implausible
    is_open = columns.kinds(descriptors) == columns.code(Kind.OPEN)
    for position in np.flatnonzero(is_open[row]).tolist() if is_open.any() else ():
        descriptor = descriptors[int(row[position])]
        series = table.series.setdefault(
            descriptor.key, Series(descriptor.kind, descriptor.unit, descriptor.merge)
        )
        series.open = _open(series.open, int(weight[position]), float(value[position]))
    return fresh


def _open(in_progress: Mapping[int, float], token: int, value: float) -> dict[int, float]:
    """Return the items in progress after a start (positive value) or an end (negative)."""
    others = {key: began for key, began in in_progress.items() if key != token}
    return {**others, token: value} if value > 0 else others


def keep_evidence(kept: dict[NoteId, NoteDocument], note: NoteDocument) -> None:
    """Add one piece of evidence: equal keys add up, and only the heaviest of each kind remain.

    Args:
        kept: evidence by its identity; mutated.
        note: one piece.
    """
    identity = note_id(note)
    old = kept.get(identity)
    if old is None:
        kept[identity] = note.copy()
    else:
        old["count"] += note["count"]
        old["weight"] += note["weight"]
    same = [other for other in kept if kept[other]["kind"] == note["kind"]]
    if len(same) > MAX_EVIDENCE:
        del kept[min(same, key=lambda other: (kept[other]["weight"], other))]


def merge(tables: Iterable[Table]) -> Table:
    """Return the sum of tables. Pure, associative and commutative."""
    parts = list(tables)
    total = Table()
    total.series = columns.series(columns.add([as_columns(table) for table in parts]))
    total.incomplete, total.evidence = add_notes(parts)
    return total


def add_notes(tables: Iterable[Table]) -> tuple[int, dict[NoteId, NoteDocument]]:
    """Return the sums of incomplete logs and of evidence of some tables."""
    incomplete, kept = 0, dict[NoteId, NoteDocument]()
    for table in tables:
        incomplete += table.incomplete
        for note in table.evidence.values():
            keep_evidence(kept, note)
    return incomplete, kept


def as_columns(table: Table) -> Columns:
    """Return a table's series as columns, in the order of their ids if they have any."""
    descriptors = table.descriptors or columns.descriptors_of(table.series)
    return columns.of(descriptors, table.series)


def encode(table: Table, series: Columns | None = None) -> bytes:
    """Return the bytes of a table on disk; ``series`` are its series as columns, if available."""
    about = {name: getattr(table, name) for name in _ABOUT}
    about["evidence"] = list(table.evidence.values())
    return codec.encode(as_columns(table) if series is None else series, about)


def decode(data: bytes) -> tuple[Table, Columns]:
    """Return the arguments of :func:`encode`: the table without series, and its series as columns.

    Raises:
        StateError: the bytes are truncated, damaged or of another format version.
    """
    series, about = codec.decode(data)
    about["evidence"] = {note_id(note): note for note in about["evidence"]}
    table = Table(**{name: about[name] for name in _ABOUT})
    if table.worker:
        table.descriptors = series.descriptors
    return table, series
