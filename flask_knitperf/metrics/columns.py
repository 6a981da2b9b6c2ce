"""A table as columns, for everything that looks at all series at once: files, sums, differences.

A worker folds into a :class:`~.table.Table`, one object per series, because it touches few series at
a time. A reader adds up eight workers with thousands of series each, fifty times as many as it shows;
so on disk and while reading, a table is a handful of arrays, and adding up is arithmetic on them.

Sums are 64-bit integers: in nanoseconds that is 292 years of time spent.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .histogram import NO_CELLS, Histogram, added, buckets, joined, middles, parted
from .instruments import Key, Kind, Merge

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BELIEVED = 2.0**53
_KINDS = tuple(Kind)
_HEADS_KEPT = 16
_extended_known: dict[tuple[int, Heads], tuple[Heads, Heads]] = {}
_kinds_known: dict[int, tuple[Heads, npt.NDArray[np.int8]]] = {}
_PLACES_KEPT = 8
_places_known: dict[tuple[int, ...], tuple[tuple[Heads, ...], Heads, list[Ints]]] = {}


class Head(NamedTuple):
    """What a series is: its key, and how its meter is folded and put together."""

    key: Key
    kind: Kind
    unit: str
    merge: Merge


Heads = tuple[Head, ...]


_NOTHING: Mapping[Any, float] = MappingProxyType({})


@dataclass(slots=True)
class Series:
    """One series: what it is, and what was observed.

    ``gauge`` holds the last value by worker, ``open`` what is under way; both are replaced, never
    changed, for nearly all series share one that is empty. The histogram's buckets stay empty for
    counters.
    """

    kind: Kind
    unit: str
    merge: Merge
    data: Histogram = field(default_factory=Histogram)
    gauge: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    open: Mapping[int, float] = field(default_factory=lambda: _NOTHING)


@dataclass(slots=True)
class Columns:
    """Many series. Row ``i`` of the first arrays is series ``heads[i]``.

    Attributes:
        heads: what the series are.
        count: observations; ``int64``, one per series, as are:
        total: exact sums.
        low: smallest values, NaN where unknown; ``float64``.
        high: largest values, likewise.
        row: series of each bucket that is not empty, ascending; ``int32``.
        bucket: its index; ``int32``.
        weight: its count; ``int64``.
        gauges: values of gauges by worker, by row.
        under_way: what is open, by row.
    """

    heads: Heads
    count: Ints
    total: Ints
    low: Floats
    high: Floats
    row: npt.NDArray[np.int32]
    bucket: npt.NDArray[np.int32]
    weight: Ints
    gauges: dict[int, dict[str, float]] = field(default_factory=dict)
    under_way: dict[int, dict[int, float]] = field(default_factory=dict)


def heads_of(series: dict[Key, Series]) -> Heads:
    """Return what some series are, in their order."""
    return tuple([Head(key, s.kind, s.unit, s.merge) for key, s in series.items()])


def of(heads: Heads, series: dict[Key, Series]) -> Columns:
    """Return columns with one row for each head; a head without observations has an empty row."""
    nothing = Histogram()
    found = [series.get(head.key) for head in heads]
    data = [s.data if s is not None else nothing for s in found]
    cells = [d.buckets for d in data]
    made = Columns(
        heads,
        np.array([d.count for d in data], np.int64),
        np.array([d.total for d in data], np.int64),
        np.array([np.nan if d.low is None else d.low for d in data], np.float64),
        np.array([np.nan if d.high is None else d.high for d in data], np.float64),
        *_no_cells(),
        {row: dict(s.gauge) for row, s in enumerate(found) if s is not None and s.gauge},
        {row: dict(s.open) for row, s in enumerate(found) if s is not None and s.open},
    )
    row = np.repeat(np.arange(len(data), dtype=np.int64), [len(each) for each in cells])
    index = np.array([i for each in cells for i in each], np.int32)
    weight = np.array([c for each in cells for c in each.values()], np.int64)
    _set_cells(made, [joined(row, index)], [weight])
    return made


def empty(heads: Heads) -> Columns:
    """Return columns in which nothing was observed."""
    size = len(heads)
    return Columns(
        heads, np.zeros(size, np.int64), np.zeros(size, np.int64), np.full(size, np.nan),
        np.full(size, np.nan), *_no_cells(),
    )  # fmt: skip


def observed(
    heads: Heads, worker: str, row: Ints, weight: Ints, value: Floats
) -> tuple[Columns, int]:
    """Return observations as columns, but for what is under way (see :class:`~.table.Table`).

    Args:
        heads: what the series are.
        worker: who observed it.
        row: series of each observation, in the order in which they were made.
        weight: weight of each.
        value: value of each.

    Returns:
        The columns, and how many observations were left out because no clock and no counter can have
        given them (times of a hundred days and more, or no number).
    """
    folded = kinds(heads)
    summed = (folded == code(Kind.HISTOGRAM)) | (folded == code(Kind.COUNTER))
    with np.errstate(invalid="ignore", over="ignore"):
        good = ~summed[row] | (np.abs(value) * weight < _BELIEVED)
    odd = len(row) - int(good.sum())
    if odd:
        row, weight, value = row[good], weight[good], value[good]
    made = empty(heads)
    for at in np.flatnonzero(folded[row] == code(Kind.GAUGE)).tolist():
        made.gauges[int(row[at])] = {worker: float(value[at])}  # the last one stays
    chosen = summed[row]
    row, weight, value = row[chosen], weight[chosen], value[chosen]
    np.add.at(made.count, row, weight)
    np.add.at(made.total, row, np.rint(value).astype(np.int64) * weight)
    chosen = folded[row] == code(Kind.HISTOGRAM)
    row, weight, value = row[chosen], weight[chosen], value[chosen]
    np.fmin.at(made.low, row, value)
    np.fmax.at(made.high, row, value)
    _set_cells(made, [joined(row, buckets(value))], [weight])
    return made, odd


def code(kind: Kind) -> int:
    """Return the number that stands for a kind in :func:`kinds`."""
    return _KINDS.index(kind)


def kinds(heads: Heads) -> npt.NDArray[np.int8]:
    """Return the kind of each series as a number; kept for heads that were asked for before."""
    found = _kinds_known.get(id(heads))
    if found is None or found[0] is not heads:
        numbers = np.array([_KINDS.index(head.kind) for head in heads], np.int8)
        found = heads, numbers
        remember(_kinds_known, id(heads), found, _HEADS_KEPT)
    return found[1]


def extended(heads: Heads, new: Iterable[Head]) -> Heads:
    """Return heads with new ones behind, the same object as last time for the same ones."""
    new = tuple(new)
    if not new:
        return heads
    name = (id(heads), new)
    found = _extended_known.get(name)
    if found is not None and found[0] is heads:
        return found[1]
    longer = (*heads, *new)
    remember(_extended_known, name, (heads, longer), _HEADS_KEPT)
    return longer


def widened(part: Columns, heads: Heads) -> Columns:
    """Return columns with empty rows behind, for heads that begin with those of the columns."""
    if len(heads) == len(part.heads):
        return part
    new = empty(heads[len(part.heads) :])
    return Columns(
        heads,
        np.concatenate([part.count, new.count]), np.concatenate([part.total, new.total]),
        np.concatenate([part.low, new.low]), np.concatenate([part.high, new.high]),
        part.row, part.bucket, part.weight, part.gauges, part.under_way,
    )  # fmt: skip


def add(parts: Sequence[Columns]) -> Columns:
    """Return the sum of tables: pure, associative and commutative (up to the order of rows).

    Parts that share their ``heads``, as those of one worker do, are looked up once.
    """
    heads, targets = _places(tuple(part.heads for part in parts))
    made = empty(heads)
    alike: dict[int, list[Columns]] = {}
    for part in parts:
        alike.setdefault(id(part.heads), []).append(part)
    rows_of = {id(part.heads): rows for part, rows in zip(parts, targets, strict=True)}
    for name, those in alike.items():
        rows = rows_of[name]
        made.count[rows] += sum(part.count for part in those)
        made.total[rows] += sum(part.total for part in those)
        made.low[rows] = np.fmin.reduce([made.low[rows], *(part.low for part in those)])
        made.high[rows] = np.fmax.reduce([made.high[rows], *(part.high for part in those)])
    for part, rows in zip(parts, targets, strict=True):
        for row, values in part.gauges.items():
            made.gauges.setdefault(int(rows[row]), {}).update(values)
        for row, begun in part.under_way.items():
            made.under_way.setdefault(int(rows[row]), {}).update(begun)
    codes = [joined(rows[part.row], part.bucket) for part, rows in zip(parts, targets, strict=True)]
    _set_cells(made, codes, [part.weight for part in parts])
    return made


def _places(parts: tuple[Heads, ...]) -> tuple[Heads, list[Ints]]:
    """Return the heads of all parts, each once, and where in them each part's heads are.

    Tables of the same workers are added up again and again, so the last answers are kept; they hold
    the heads, so an id that is known means the same heads.
    """
    name = tuple([id(heads) for heads in parts])
    found = _places_known.get(name)
    if found is not None and all(map(operator.is_, found[0], parts)):
        return found[1], found[2]
    places: dict[Key, int] = {}
    together: list[Head] = []
    rows: dict[int, Ints] = {}
    for heads in parts:
        if id(heads) not in rows:
            own = []
            for head in heads:
                place = places.setdefault(head.key, len(together))
                if place == len(together):
                    together.append(head)
                own.append(place)
            rows[id(heads)] = np.array(own, np.int64)
    found = parts, tuple(together), [rows[id(heads)] for heads in parts]
    remember(_places_known, name, found, _PLACES_KEPT)
    return found[1], found[2]


def subtract(now: Columns, earlier: Columns) -> Columns:
    """Return what was observed between two states of one run; gauges stay as they are now.

    Extremes cannot be subtracted: they come from the outermost buckets of what is left, within the
    extremes of ``now``.
    """
    before = {head.key: row for row, head in enumerate(earlier.heads)}
    pairs = [(row, before[head.key]) for row, head in enumerate(now.heads) if head.key in before]
    mine = np.array([a for a, _ in pairs], np.int64)
    theirs = np.full(len(earlier.heads), -1, np.int64)
    count, total = now.count.copy(), now.total.copy()
    if pairs:
        old = np.array([b for _, b in pairs], np.int64)
        theirs[old] = mine
        count[mine] -= earlier.count[old]
        total[mine] -= earlier.total[old]
    made = Columns(now.heads, count, total, now.low.copy(), now.high.copy(), *_no_cells(),
                   now.gauges, now.under_way)  # fmt: skip
    rows = theirs[earlier.row]
    known = rows >= 0
    _set_cells(
        made,
        [joined(now.row.astype(np.int64), now.bucket), joined(rows[known], earlier.bucket[known])],
        [now.weight, -earlier.weight[known]],
    )
    _bound(made, count, now.count)
    return made


def _bound(made: Columns, count: Ints, whole: Ints) -> None:
    """Set the extremes of rows from which something was taken; empty those of which none is left."""
    changed = count != whole
    made.low[changed] = np.nan
    made.high[changed] = np.nan
    made.total[count <= 0] = 0
    made.count[count <= 0] = 0
    if not len(made.row):
        return
    rows, first = np.unique(made.row, return_index=True)
    last = np.append(first[1:], len(made.row)) - 1
    chosen = changed[rows]
    rows, first, last = rows[chosen], first[chosen], last[chosen]
    made.low[rows] = middles(made.bucket[first])
    made.high[rows] = middles(made.bucket[last])


def series(columns: Columns) -> dict[Key, Series]:
    """Return the series that anything is known of, as objects."""
    known = columns.count != 0
    known[[*columns.gauges, *columns.under_way]] = True
    rows = np.flatnonzero(known)
    begins, ends = (columns.row.searchsorted(rows, side).tolist() for side in ("left", "right"))
    index, weight = columns.bucket.astype(np.int64), columns.weight
    about = zip(
        rows.tolist(), columns.count[rows].tolist(), columns.total[rows].tolist(),
        columns.low[rows].tolist(), columns.high[rows].tolist(), begins, ends, strict=True,
    )  # fmt: skip
    made: dict[Key, Series] = {}
    for row, count, total, low, high, begin, end in about:
        data = Histogram(
            count, total, None if low != low else low, None if high != high else high,
            cells=(index[begin:end], weight[begin:end]) if end > begin else NO_CELLS,
        )  # fmt: skip
        key, kind, unit, how = columns.heads[row]
        made[key] = one = Series(kind, unit, how, data, _NOTHING, _NOTHING)
        if row in columns.gauges:
            one.gauge = dict(columns.gauges[row])
        if row in columns.under_way:
            one.open = dict(columns.under_way[row])
    return made


def _no_cells() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Ints]:
    return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64)


def _set_cells(made: Columns, codes: list[Ints], weights: list[Ints]) -> None:
    """Add buckets up and keep those that are above zero, ordered by row, then bucket."""
    if not codes:
        return
    code, weight = added(np.concatenate(codes), np.concatenate(weights))
    if len(weight) and weight.min() <= 0:
        kept = weight > 0
        code, weight = code[kept], weight[kept]
    row, bucket = parted(code)
    made.row, made.bucket, made.weight = row.astype(np.int32), bucket.astype(np.int32), weight


def remember(known: dict[Any, Any], name: Any, value: Any, most: int) -> None:
    """Keep an answer; a full memory is emptied first (in one step, so that threads may share it)."""
    if len(known) >= most:
        known.clear()
    known[name] = value
