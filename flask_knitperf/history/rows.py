"""Rows of the history: what one series, gauge or note added in one slot of time, as bytes.

======== ==================================================================================
series   count and sum; where it has buckets, the index of the first and their codes
gauge    ticks, values, and their sum, least and largest value (several workers have one each)
note     count and weight
======== ==================================================================================

The code of a bucket is its count less one, times four, plus the steps from the bucket before it, less
one: mostly a number below 128, which is one byte. Three stands for more steps: their number, times
four, follows. Numbers are varints (:mod:`.varints`), fractions the bytes of a double in the order in
which most of the leading ones are zero. A series without buckets is a counter. Rows are added by adding
these numbers, so a coarser slot has exactly what its finer ones have.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from ..core.errors import HistoryError
from ..metrics import columns
from ..metrics.columns import Columns, Descriptors
from ..metrics.histogram import PER_OCTAVE, ZERO
from .varints import Ints, Rows, Unsigned, decode, encode, unzigzag, zigzag

_FIXED = 2  # numbers of a series without buckets
_STEPS = 4  # codes of the steps to a bucket
_MANY = _STEPS - 1  # code of steps that follow
_BUCKETS = 1000 * PER_OCTAVE  # of the values of a double


class GaugeRow(NamedTuple):
    """Values of a gauge.

    Attributes:
        ticks: number of times at which it was read.
        values: number of values that were read; of some gauges each worker has one.
        total: their sum.
        low: the least.
        high: the largest.
    """

    ticks: int
    values: int
    total: float
    low: float
    high: float

    def plus(self, other: GaugeRow) -> GaugeRow:
        """Return the values of both."""
        return GaugeRow(
            self.ticks + other.ticks, self.values + other.values, self.total + other.total,
            min(self.low, other.low), max(self.high, other.high),
        )  # fmt: skip


class NoteRow(NamedTuple):
    """Number of times that a piece of evidence was noted, and the sum of its weights."""

    times: int
    weight: float

    def plus(self, other: NoteRow) -> NoteRow:
        """Return the sum of both."""
        return NoteRow(self.times + other.times, self.weight + other.weight)


class _Addable(Protocol):
    def plus(self, other: Self) -> Self: ...


K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=_Addable)


def sum_by_key(pairs: Iterable[tuple[K, R]]) -> dict[K, R]:
    """Return the sums of gauges or notes by their keys."""
    sums: dict[K, R] = {}
    for key, row in pairs:
        sums[key] = sums[key].plus(row) if key in sums else row
    return sums


# -- series ----------------------------------------------------------------------------------------


def rows_of(delta: Columns) -> tuple[Ints, list[bytes]]:
    """Return the series that have observations, by their place in the columns, and their rows."""
    active = np.flatnonzero(delta.count > 0)
    cells = np.isin(delta.row, active)
    owner, bucket = delta.row[cells].astype(np.int64), delta.bucket[cells].astype(np.int64)
    first = owner.searchsorted(active, "left")
    filled = owner.searchsorted(active, "right") > first
    step = np.diff(bucket, prepend=0)
    step[first[filled]] = 1
    is_far = step > _MANY
    ends = np.cumsum(1 + is_far)  # numbers of the buckets up to each one
    bounds = np.append(0, ends)
    numbers = bounds[owner.searchsorted(active, "right")] - bounds[first]
    starts = np.cumsum(np.append(0, _FIXED + filled + numbers))
    values = np.zeros(int(starts[-1]), np.uint64)
    values[starts[:-1]] = delta.count[active].view(np.uint64)
    values[starts[:-1] + 1] = zigzag(delta.total[active])
    values[starts[:-1][filled] + _FIXED] = zigzag(bucket[first[filled]])
    begins = np.repeat(
        starts[:-1] + _FIXED + filled - bounds[first], np.diff(np.append(first, len(owner)))
    )
    place = begins + ends - 1 - is_far
    code = (delta.weight[cells] - 1) * _STEPS + np.minimum(step - 1, _MANY)
    values[place] = code.view(np.uint64)
    values[place[is_far] + 1] = (step[is_far] * _STEPS).view(np.uint64)
    return active, encode(Rows(values, starts))


def columns_of(descriptors: Descriptors, owner: Ints, blobs: Sequence[bytes]) -> Columns:
    """Return the sum of rows.

    Args:
        descriptors: descriptors of the series.
        owner: of each row, the place of its series among them.
        blobs: the rows.

    Raises:
        HistoryError: a row is damaged.
    """
    if not len(owner):
        return columns.empty(descriptors)
    values, starts = decode(blobs)
    begins, sizes = starts[:-1], np.diff(starts)
    if sizes.min() < _FIXED or (sizes == _FIXED + 1).any():
        raise HistoryError("a row of the history is damaged: it lacks a number")
    count = values[begins].view(np.int64)
    total = unzigzag(values[begins + 1])
    filled = sizes > _FIXED
    numbers = np.where(filled, sizes - _FIXED - 1, 0)  # of the buckets of each row
    row = np.repeat(np.arange(len(owner)), numbers)
    before = np.cumsum(numbers) - numbers
    place = np.arange(len(row)) - before[row] + begins[row] + _FIXED + 1
    code = values[place].view(np.int64)
    is_far = code % _STEPS == _MANY  # never true of the number that follows
    is_bucket = np.append(True, ~is_far[:-1]) if len(code) else is_far
    if len(code) and (is_far[-1] or (row[1:][is_far[:-1]] != row[:-1][is_far[:-1]]).any()):
        raise HistoryError("a row of the history is damaged: it ends within a bucket")
    at = np.flatnonzero(is_bucket)
    step = code[at] % _STEPS + 1
    far = is_far[at]
    step[far] = code[at[far] + 1] // _STEPS
    row, weight = row[at], code[at] // _STEPS + 1
    index = np.cumsum(step)
    first = np.searchsorted(row, np.flatnonzero(filled))
    start = np.zeros(len(owner), np.int64)
    start[filled] = unzigzag(values[begins[filled] + _FIXED]) - index[first]
    bucket = index + start[row]
    is_known = (bucket == ZERO) | (abs(bucket) < _BUCKETS)
    if not is_known.all() or (weight < 1).any() or (count < 0).any():
        raise HistoryError("a row of the history is damaged: it has a bucket that no value lies in")
    return columns.summed(descriptors, owner, count, total, owner[row], bucket, weight)


def merged(owner: Ints, blobs: Sequence[bytes]) -> tuple[list[int], list[bytes]]:
    """Return the owners of some rows, ascending, and the sum of the rows of each."""
    owners, place = np.unique(owner, return_inverse=True)
    nameless: Any = (None,) * len(owners)
    chosen, sums = rows_of(columns_of(nameless, place.astype(np.int64), blobs))
    return owners[chosen].tolist(), sums


# -- gauges and notes ------------------------------------------------------------------------------


def gauge_rows(rows: Iterable[GaugeRow]) -> list[bytes]:
    """Return gauges as bytes."""
    return _encoded([[row.ticks, row.values, *_bits(row[2:])] for row in rows])


def gauges_of(blobs: Sequence[bytes]) -> list[GaugeRow]:
    """Return the argument of :func:`gauge_rows`."""
    return [
        GaugeRow(ticks, values, *_fractions(rest)) for ticks, values, *rest in _decoded(blobs, 5)
    ]


def note_rows(rows: Iterable[NoteRow]) -> list[bytes]:
    """Return notes as bytes."""
    return _encoded([[row.times, *_bits([row.weight])] for row in rows])


def notes_of(blobs: Sequence[bytes]) -> list[NoteRow]:
    """Return the argument of :func:`note_rows`."""
    return [NoteRow(times, *_fractions(rest)) for times, *rest in _decoded(blobs, 2)]


def _encoded(rows: list[list[int]]) -> list[bytes]:
    values: Unsigned = np.array([value for row in rows for value in row], np.uint64)
    return encode(Rows(values, np.cumsum([0, *map(len, rows)])))


def _decoded(blobs: Sequence[bytes], size: int) -> list[list[int]]:
    """Return rows of one number of numbers.

    Raises:
        HistoryError: a row is damaged.
    """
    values, starts = decode(blobs)
    if (np.diff(starts) != size).any():
        raise HistoryError(f"a row of the history is damaged: it does not have {size} numbers")
    numbers: list[list[int]] = values.reshape(-1, size).tolist()
    return numbers


def _bits(fractions: Sequence[float]) -> list[int]:
    bits: list[int] = np.array(fractions, np.float64).view(np.uint64).byteswap().tolist()
    return bits


def _fractions(bits: Sequence[int]) -> list[float]:
    fractions: list[float] = np.array(bits, np.uint64).byteswap().view(np.float64).tolist()
    return fractions
