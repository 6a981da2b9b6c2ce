"""The table: logs folded into totals, one per worker, and the pure functions that put them together.

``fold(table, log)`` takes a log's observations in, ``merge(tables)`` adds tables up. Both are pure and
the order does not matter, so tests build tables directly and compare.

*The rule that makes it safe.* A table names what it holds: a worker's table the number of its logs
folded in whole and how far into the next one (``logs``, ``offset``); the retired table the workers it
swallowed (``holds``). A table is written beside the old one and renamed over it, and only then are
its parts unlinked. A reader reads the parts first and the table last: a part that the table names is
in it, a part that it does not name is not. Whatever instant a process dies at, nothing is lost and
nothing is counted twice.

On disk a table is columns (see :mod:`.columns`): text and plain arrays behind a checksum, because a
state directory outlives the interpreter that wrote it, and reading a damaged one must fail, not crash.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import codec, columns
from .columns import Columns, Head, Heads, Series
from .instruments import Key, Kind, Merge, Meter
from .log_format import Parsed, parse

EVIDENCE_KEPT = 50
PIECE = 1 << 17
"""Bytes of a log that are folded at once."""


_ABOUT = ("worker", "logs", "offset", "holds", "generation", "pruned", "evidence", "torn")


@dataclass(slots=True)
class Table:
    """Totals of one worker, of the retired ones, or (merged) of a run.

    Attributes:
        worker: the worker whose logs these are, empty for the retired and merged ones.
        logs: how many of the worker's logs are held in whole; the next one is held up to ``offset``.
        offset: see ``logs``.
        series: by key.
        heads: what the worker's series are; the one with id ``n`` stands at ``n - 1``.
        holds: workers swallowed, with the generation that did it.
        generation: how often the retired table was written.
        pruned: the generation at which names were last dropped from ``holds``.
        evidence: kept heaviest first, by its key.
        torn: logs that ended in something not there in full.
    """

    worker: str = ""
    logs: int = 0
    offset: int = 0
    series: dict[Key, Series] = field(default_factory=dict)
    heads: Heads = ()
    holds: dict[str, int] = field(default_factory=dict)
    generation: int = 0
    pruned: int = 0
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    torn: int = 0


def copy(table: Table) -> Table:
    """Return an independent copy."""
    made = merge([table])
    made.worker, made.logs, made.offset = table.worker, table.logs, table.offset
    made.heads, made.holds = table.heads, dict(table.holds)
    made.generation, made.pruned = table.generation, table.pruned
    return made


def define(key: Key, meter: Meter) -> list[Any]:
    """Return the JSON document that defines a series in a log."""
    return [key.meter, list(key.labels), meter.kind.value, meter.unit, meter.merge.value]


def fold(table: Table, data: bytes | mmap.mmap, *, closed: bool, end: int | None = None) -> Table:
    """Take what a log holds beyond ``table.offset`` into the worker's table, in place.

    It goes piece by piece, for the arrays of a whole log at once take six times its size, and the C
    library may keep them for good.

    Args:
        table: the worker's table.
        data: the log, from its beginning.
        closed: the worker writes this log no more; the next one starts at offset 0.
        end: how far it is written, in bytes; ``None`` for its length.

    Returns:
        ``table``.
    """
    end = len(data) if end is None else end
    parts: list[Columns] = []
    last = False
    try:
        while not last:
            begin = table.offset
            last = begin + PIECE >= end
            parsed = parse(data[begin : min(begin + PIECE, end)])
            if not (parsed.end or last):  # torn here, or one thing is longer than a piece
                last, parsed = True, parse(data[begin:end])
            parsed.end += begin
            parts.append(take_in(table, parsed, closed=closed and last))
    finally:  # what the offset says is in the table must be in it, whatever failed
        _include(table, columns.add([columns.widened(part, table.heads) for part in parts]))
    return table


def _include(table: Table, found: Columns) -> None:
    """Add to a table's series what was observed."""
    for key, series in columns.series(found).items():
        mine = table.series.setdefault(key, series)
        if mine is not series:
            mine.data.include(series.data)
            mine.gauge = {**mine.gauge, **series.gauge}


def take_in(table: Table, parsed: Parsed, *, closed: bool) -> Columns:
    """Do what :func:`fold` does, but hand out what was observed instead of adding it to the series.

    Only what is under way goes into the table's series, since it may have begun in an earlier log.
    """
    new: list[Head] = []
    for number, document in parsed.definitions.items():
        meter, labels, kind, unit, how = document
        if number == len(table.heads) + len(new) + 1:
            new.append(Head(Key(meter, tuple(labels)), Kind(kind), unit, Merge(how)))
    table.heads = columns.extended(table.heads, new)
    for note in parsed.notes:
        keep_evidence(table.evidence, note)
    found = _observed(table, parsed)
    table.offset = parsed.end
    if closed:
        table.torn += parsed.torn
        table.logs, table.offset = table.logs + 1, 0
    return found


def _observed(table: Table, parsed: Parsed) -> Columns:
    row, weight, value = parsed.series.astype(np.int64) - 1, parsed.weight, parsed.value
    known = (row >= 0) & (row < len(table.heads))
    if not known.all():
        table.torn += len(np.unique(row[~known]))
        row, weight, value = row[known], weight[known], value[known]
    heads = table.heads
    found, odd = columns.observed(heads, table.worker, row, weight.astype(np.int64), value)
    table.torn += odd
    for place in np.flatnonzero(columns.kinds(heads)[row] == columns.code(Kind.OPEN)).tolist():
        head = heads[int(row[place])]
        series = table.series.setdefault(head.key, Series(head.kind, head.unit, head.merge))
        series.open = _open(series.open, int(weight[place]), float(value[place]))
    return found


def _open(under_way: Mapping[int, float], token: int, value: float) -> dict[int, float]:
    """Return what is under way after something was begun (positive) or ended (negative)."""
    others = {key: began for key, began in under_way.items() if key != token}
    return {**others, token: value} if value > 0 else others


def keep_evidence(kept: dict[str, dict[str, Any]], note: dict[str, Any]) -> None:
    """Add one piece of evidence: equal keys add up, only the heaviest of each kind stay.

    Args:
        kept: evidence by key; changed.
        note: ``{"kind", "key", "count", "weight", "detail"}``.
    """
    name = f"{note['kind']}\n{note['key']}"
    old = kept.get(name)
    if old is None:
        kept[name] = dict(note)
    else:
        old["count"] += note["count"]
        old["weight"] += note["weight"]
    same = [other for other in kept if kept[other]["kind"] == note["kind"]]
    if len(same) > EVIDENCE_KEPT:
        del kept[min(same, key=lambda other: (kept[other]["weight"], other))]


def merge(tables: Iterable[Table]) -> Table:
    """Return the sum of tables. Pure, associative and commutative."""
    parts = list(tables)
    total = Table()
    total.series = columns.series(columns.add([as_columns(table) for table in parts]))
    total.torn, total.evidence = add_notes(parts)
    return total


def add_notes(tables: Iterable[Table]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return torn logs and evidence of tables, added up."""
    torn, kept = 0, dict[str, dict[str, Any]]()
    for table in tables:
        torn += table.torn
        for note in table.evidence.values():
            keep_evidence(kept, note)
    return torn, kept


def as_columns(table: Table) -> Columns:
    """Return a table's series as columns, in the order of its ids where it has them."""
    heads = table.heads or columns.heads_of(table.series)
    return columns.of(heads, table.series)


def encode(table: Table, found: Columns | None = None) -> bytes:
    """Return a table as it stands on disk, with its series as columns if it has them so."""
    about = {name: getattr(table, name) for name in _ABOUT}
    return codec.encode(as_columns(table) if found is None else found, about)


def decode(data: bytes) -> tuple[Table, Columns]:
    """Return the table that :func:`encode` wrote: without its series, and those as columns.

    Raises:
        StateError: the bytes are cut off, damaged or of another format.
    """
    found, about = codec.decode(data)
    table = Table(**{name: about[name] for name in _ABOUT})
    if table.worker:
        table.heads = found.heads
    return table, found
