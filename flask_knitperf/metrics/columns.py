"""Columnar form of a table, for operations on all series at once: files, sums, differences.

A worker folds into a :class:`~.table.Table`, one object per series, because it updates few series at a
time. A reader adds eight workers with thousands of series each, fifty times as many as it shows; on
disk and while reading, a table is therefore a handful of arrays, and addition is array arithmetic.

Sums are 64-bit integers: 292 years in nanoseconds.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .histogram import (
    NO_CELLS,
    Histogram,
    buckets,
    join_codes,
    midpoints,
    split_codes,
    sum_by_bucket,
    sum_by_code,
)
from .instruments import Key, Kind, Merge

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MAX_PLAUSIBLE = 2.0**53  # 100 days in nanoseconds; larger values no clock can have returned
_KINDS = tuple(Kind)
_MAX_CACHED = 16
_extended_cache: dict[tuple[int, Descriptors], tuple[Descriptors, Descriptors]] = {}
_kinds_cache: dict[int, tuple[Descriptors, npt.NDArray[np.int8]]] = {}
_MAX_UNIONS = 8
_union_cache: dict[tuple[int, ...], tuple[tuple[Descriptors, ...], Descriptors, list[Ints]]] = {}


class Descriptor(NamedTuple):
    """Descriptor of a series: its key, and how its meter is folded and merged."""

    key: Key
    kind: Kind
    unit: str
    merge: Merge


Descriptors = tuple[Descriptor, ...]


_NOTHING: Mapping[Any, float] = MappingProxyType({})


@dataclass(slots=True)
class Series:
    """One series and its observations.

    ``gauge`` maps a worker to its last value, ``open`` a token to the start of what is in progress;
    both are replaced, never mutated, because nearly all series share one empty mapping. The buckets
    of the histogram stay empty for counters.
    """

    kind: Kind
    unit: str
    merge: Merge
    data: Histogram = field(default_factory=Histogram)
    gauge: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    open: Mapping[int, float] = field(default_factory=lambda: _NOTHING)


@dataclass(slots=True, eq=False, repr=False)
class Columns:
    """Many series. Row ``i`` of the first arrays is series ``descriptors[i]``.

    Attributes:
        descriptors: descriptors of the series.
        count: number of observations; ``int64``, one per series.
        total: exact sums; ``int64``, one per series.
        low: smallest values, NaN where unknown; ``float64``, one per series.
        high: largest values, NaN where unknown; ``float64``, one per series.
        row: series of each non-empty bucket, ascending; ``int32``.
        bucket: index of each non-empty bucket; ``int32``.
        weight: count of each non-empty bucket; ``int64``.
        gauges: values of gauges by worker, by row.
        in_progress: start times of what is in progress, by row.
    """

    descriptors: Descriptors
    count: Ints
    total: Ints
    low: Floats
    high: Floats
    row: npt.NDArray[np.int32]
    bucket: npt.NDArray[np.int32]
    weight: Ints
    gauges: dict[int, dict[str, float]] = field(default_factory=dict)
    in_progress: dict[int, dict[int, float]] = field(default_factory=dict)


def descriptors_of(series: dict[Key, Series]) -> Descriptors:
    """Return the descriptors of some series, in their order."""
    return tuple([Descriptor(key, s.kind, s.unit, s.merge) for key, s in series.items()])


def of(descriptors: Descriptors, series: dict[Key, Series]) -> Columns:
    """Return columns with one row per descriptor, empty for those without observations."""
    nothing = Histogram()
    objects = [series.get(descriptor.key) for descriptor in descriptors]
    data = [s.data if s is not None else nothing for s in objects]
    cells = [d.buckets for d in data]
    columns = Columns(
        descriptors,
        np.array([d.count for d in data], np.int64),
        np.array([d.total for d in data], np.int64),
        np.array([np.nan if d.low is None else d.low for d in data], np.float64),
        np.array([np.nan if d.high is None else d.high for d in data], np.float64),
        *_no_cells(),
        {row: dict(s.gauge) for row, s in enumerate(objects) if s is not None and s.gauge},
        {row: dict(s.open) for row, s in enumerate(objects) if s is not None and s.open},
    )
    row = np.repeat(np.arange(len(data), dtype=np.int64), [len(buckets_) for buckets_ in cells])
    index = np.array([i for buckets_ in cells for i in buckets_], np.int32)
    weight = np.array([c for buckets_ in cells for c in buckets_.values()], np.int64)
    _set_cells(columns, [join_codes(row, index)], [weight])
    return columns


def empty(descriptors: Descriptors) -> Columns:
    """Return columns without observations."""
    size = len(descriptors)
    return Columns(
        descriptors, np.zeros(size, np.int64), np.zeros(size, np.int64), np.full(size, np.nan),
        np.full(size, np.nan), *_no_cells(),
    )  # fmt: skip


def observed(
    descriptors: Descriptors, worker: str, row: Ints, weight: Ints, value: Floats
) -> tuple[Columns, int]:
    """Return the columns of some observations, except those of open meters (:class:`~.table.Table`).

    Args:
        descriptors: descriptors of the series.
        worker: name of the observing worker.
        row: series of each observation, in order of time.
        weight: weight of each observation.
        value: value of each observation.

    Returns:
        The columns, and the number of observations rejected as implausible (NaN, or longer than 100
        days).
    """
    folded = kinds(descriptors)
    summed = (folded == code(Kind.HISTOGRAM)) | (folded == code(Kind.COUNTER))
    present = np.bincount(row, minlength=len(folded)) > 0
    with np.errstate(invalid="ignore", over="ignore"):
        implausible = 0
        if len(row) and not np.abs(value).max() * float(weight.max()) < _MAX_PLAUSIBLE:
            good = ~summed[row] | (np.abs(value) * weight < _MAX_PLAUSIBLE)
            implausible = len(row) - int(good.sum())
            row, weight, value = row[good], weight[good], value[good]
    columns = empty(descriptors)
    if not summed[present].all():
        for at in np.flatnonzero(folded[row] == code(Kind.GAUGE)).tolist():
            columns.gauges[int(row[at])] = {worker: float(value[at])}  # the last one wins
        chosen = summed[row]
        row, weight, value = row[chosen], weight[chosen], value[chosen]
    np.add.at(columns.count, row, weight)
    np.add.at(columns.total, row, np.rint(value).astype(np.int64) * weight)
    if (folded[present] == code(Kind.COUNTER)).any():
        chosen = folded[row] == code(Kind.HISTOGRAM)
        row, weight, value = row[chosen], weight[chosen], value[chosen]
    np.fmin.at(columns.low, row, value)
    np.fmax.at(columns.high, row, value)
    codes, weights = sum_by_bucket(row, buckets(value), weight)
    _set_cells(columns, [codes], [weights])
    return columns, implausible


def code(kind: Kind) -> int:
    """Return the number of a kind in the result of :func:`kinds`."""
    return _KINDS.index(kind)


def kinds(descriptors: Descriptors) -> npt.NDArray[np.int8]:
    """Return the kind of each series as a number; cached by the identity of the descriptors."""
    entry = _kinds_cache.get(id(descriptors))
    if entry is None or entry[0] is not descriptors:
        numbers = np.array([_KINDS.index(descriptor.kind) for descriptor in descriptors], np.int8)
        entry = descriptors, numbers
        remember(_kinds_cache, id(descriptors), entry, _MAX_CACHED)
    return entry[1]


def extended(descriptors: Descriptors, new: Iterable[Descriptor]) -> Descriptors:
    """Return descriptors with new ones appended; the same object for the same arguments."""
    new = tuple(new)
    if not new:
        return descriptors
    name = (id(descriptors), new)
    entry = _extended_cache.get(name)
    if entry is not None and entry[0] is descriptors:
        return entry[1]
    longer = (*descriptors, *new)
    remember(_extended_cache, name, (descriptors, longer), _MAX_CACHED)
    return longer


def widened(part: Columns, descriptors: Descriptors) -> Columns:
    """Return columns with empty rows appended, for descriptors that start with those of the columns."""
    if len(descriptors) == len(part.descriptors):
        return part
    new = empty(descriptors[len(part.descriptors) :])
    return Columns(
        descriptors,
        np.concatenate([part.count, new.count]), np.concatenate([part.total, new.total]),
        np.concatenate([part.low, new.low]), np.concatenate([part.high, new.high]),
        part.row, part.bucket, part.weight, part.gauges, part.in_progress,
    )  # fmt: skip


def add(parts: Sequence[Columns]) -> Columns:
    """Return the sum of tables: pure, associative and commutative (up to the order of rows).

    Parts with the same ``descriptors`` object, such as those of one worker, are aligned once.
    """
    descriptors, targets = _union(tuple(part.descriptors for part in parts))
    total = empty(descriptors)
    alike: dict[int, list[Columns]] = {}
    for part in parts:
        alike.setdefault(id(part.descriptors), []).append(part)
    rows_of = {id(part.descriptors): rows for part, rows in zip(parts, targets, strict=True)}
    for name, group in alike.items():
        rows = rows_of[name]
        total.count[rows] += sum(part.count for part in group)
        total.total[rows] += sum(part.total for part in group)
        total.low[rows] = np.fmin.reduce([total.low[rows], *(part.low for part in group)])
        total.high[rows] = np.fmax.reduce([total.high[rows], *(part.high for part in group)])
    for part, rows in zip(parts, targets, strict=True):
        for row, values in part.gauges.items():
            total.gauges.setdefault(int(rows[row]), {}).update(values)
        for row, begun in part.in_progress.items():
            total.in_progress.setdefault(int(rows[row]), {}).update(begun)
    codes = [
        join_codes(rows[part.row], part.bucket) for part, rows in zip(parts, targets, strict=True)
    ]
    _set_cells(total, codes, [part.weight for part in parts])
    return total


def _union(parts: tuple[Descriptors, ...]) -> tuple[Descriptors, list[Ints]]:
    """Return the union of the parts' descriptors, and the rows of each part in it.

    Tables of the same workers are added again and again, so the last results are cached. The cache
    holds the descriptors, so their ids are not reused.
    """
    name = tuple([id(descriptors) for descriptors in parts])
    entry = _union_cache.get(name)
    if entry is not None and all(map(operator.is_, entry[0], parts)):
        return entry[1], entry[2]
    row_of: dict[Key, int] = {}
    union: list[Descriptor] = []
    rows: dict[int, Ints] = {}
    for descriptors in parts:
        if id(descriptors) not in rows:
            own = []
            for descriptor in descriptors:
                row = row_of.setdefault(descriptor.key, len(union))
                if row == len(union):
                    union.append(descriptor)
                own.append(row)
            rows[id(descriptors)] = np.array(own, np.int64)
    entry = parts, tuple(union), [rows[id(descriptors)] for descriptors in parts]
    remember(_union_cache, name, entry, _MAX_UNIONS)
    return entry[1], entry[2]


def summed(
    descriptors: Descriptors, row: Ints, count: Ints, total: Ints, cell_row: Ints, bucket: Ints,
    weight: Ints,
) -> Columns:  # fmt: skip
    """Return the sum of observations whose extremes are unknown: those of the outermost buckets count.

    Args:
        descriptors: descriptors of the series.
        row: series of each count and sum.
        count: numbers of observations.
        total: their sums.
        cell_row: series of each bucket.
        bucket: indices of buckets.
        weight: counts of buckets.
    """
    columns = empty(descriptors)
    np.add.at(columns.count, row, count)
    np.add.at(columns.total, row, total)
    code, weight = sum_by_bucket(cell_row, bucket, weight)
    rows, index = split_codes(code)
    columns.row, columns.bucket = rows.astype(np.int32), index.astype(np.int32)
    columns.weight = weight
    _set_extremes(columns, columns.count, np.zeros_like(columns.count))
    return columns


def subtract(now: Columns, earlier: Columns) -> Columns:
    """Return the observations between two states of one run; gauges keep their current values.

    Extremes cannot be subtracted: they are taken from the outermost remaining buckets.
    """
    before = {descriptor.key: row for row, descriptor in enumerate(earlier.descriptors)}
    pairs = [
        (row, before[descriptor.key])
        for row, descriptor in enumerate(now.descriptors)
        if descriptor.key in before
    ]
    mine = np.array([a for a, _ in pairs], np.int64)
    theirs = np.full(len(earlier.descriptors), -1, np.int64)
    count, total = now.count.copy(), now.total.copy()
    if pairs:
        old = np.array([b for _, b in pairs], np.int64)
        theirs[old] = mine
        count[mine] -= earlier.count[old]
        total[mine] -= earlier.total[old]
    rest = Columns(now.descriptors, count, total, now.low.copy(), now.high.copy(), *_no_cells(),
                   now.gauges, now.in_progress)  # fmt: skip
    rows = theirs[earlier.row]
    common = rows >= 0
    _set_cells(
        rest,
        [
            join_codes(now.row.astype(np.int64), now.bucket),
            join_codes(rows[common], earlier.bucket[common]),
        ],
        [now.weight, -earlier.weight[common]],
    )
    _set_extremes(rest, count, now.count)
    return rest


def _set_extremes(columns: Columns, count: Ints, whole: Ints) -> None:
    """Set the extremes of rows that were reduced; zero those without remaining observations."""
    changed = count != whole
    columns.low[changed] = np.nan
    columns.high[changed] = np.nan
    columns.total[count <= 0] = 0
    columns.count[count <= 0] = 0
    if not len(columns.row):
        return
    rows, first = np.unique(columns.row, return_index=True)
    last = np.append(first[1:], len(columns.row)) - 1
    chosen = changed[rows]
    rows, first, last = rows[chosen], first[chosen], last[chosen]
    columns.low[rows] = midpoints(columns.bucket[first])
    columns.high[rows] = midpoints(columns.bucket[last])


def series(columns: Columns) -> dict[Key, Series]:
    """Return the series with any data as objects."""
    filled = columns.count != 0
    filled[[*columns.gauges, *columns.in_progress]] = True
    rows = np.flatnonzero(filled)
    begins, ends = (columns.row.searchsorted(rows, side).tolist() for side in ("left", "right"))
    index, weight = columns.bucket.astype(np.int64), columns.weight
    about = zip(
        rows.tolist(), columns.count[rows].tolist(), columns.total[rows].tolist(),
        columns.low[rows].tolist(), columns.high[rows].tolist(), begins, ends, strict=True,
    )  # fmt: skip
    objects: dict[Key, Series] = {}
    for row, count, total, low, high, begin, end in about:
        data = Histogram(
            count, total, None if low != low else low, None if high != high else high,
            cells=(index[begin:end], weight[begin:end]) if end > begin else NO_CELLS,
        )  # fmt: skip
        key, kind, unit, how = columns.descriptors[row]
        objects[key] = one = Series(kind, unit, how, data, _NOTHING, _NOTHING)
        if row in columns.gauges:
            one.gauge = dict(columns.gauges[row])
        if row in columns.in_progress:
            one.open = dict(columns.in_progress[row])
    return objects


def _no_cells() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Ints]:
    return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64)


def _set_cells(columns: Columns, codes: list[Ints], weights: list[Ints]) -> None:
    """Set the sum of some buckets, without empty ones, in order of row and bucket."""
    if not codes:
        return
    code, weight = sum_by_code(np.concatenate(codes), np.concatenate(weights))
    if len(weight) and weight.min() <= 0:
        positive = weight > 0
        code, weight = code[positive], weight[positive]
    row, bucket = split_codes(code)
    columns.row, columns.bucket, columns.weight = (
        row.astype(np.int32),
        bucket.astype(np.int32),
        weight,
    )


def remember(cache: dict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Store a value in a cache, clearing a full one first (each step atomic, for threads share it)."""
    if len(cache) >= most:
        cache.clear()
    cache[key] = value
