"""Histograms that merge without loss, and the statistics that are read from them.

A histogram here is OpenTelemetry's base-2 exponential histogram at scale 6: bucket ``i`` holds the
values in ``(2**(i/64), 2**((i+1)/64)]``, so a bucket's upper bound is 1.1 % above its lower one and
its geometric middle at most 0.55 % from any value inside. Zero has a bucket of its own. Merging is
addition, hence associative and commutative, and a window is a difference.

The index is found without a logarithm near its boundaries: ``frexp`` splits off the exponent exactly
and a search among 64 mantissa bounds does the rest; the vector form searches the same table, so both
always agree.

Quantiles are nearest-rank: the value at rank ``ceil(q * n)``.

Source: OpenTelemetry metrics data model, "ExponentialHistogram".
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

SCALE = 6
PER_OCTAVE = 1 << SCALE
ZERO = -(1 << 30)
"""The bucket of the value zero (and of anything below, which a clock should never give)."""

_MIDDLES_KEPT = 8192
_middles: dict[int, float] = {}
# frexp gives mantissas in [0.5, 1); bound j is the upper end of the j-th 64th of that octave.
_BOUNDS = tuple(2.0 ** ((j + 1) / PER_OCTAVE - 1) for j in range(PER_OCTAVE))
_BOUNDS_ARRAY = np.array(_BOUNDS)


def bucket(value: float) -> int:
    """Return the index of the bucket that holds ``value`` (upper-inclusive)."""
    if not value > 0:
        return ZERO
    mantissa, exponent = math.frexp(value)
    if mantissa == 0.5:  # a power of two is the upper end of the bucket below
        return (exponent - 1) * PER_OCTAVE - 1
    return (exponent - 1) * PER_OCTAVE + bisect_left(_BOUNDS, mantissa)


def buckets(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return :func:`bucket` of each value, as an array of the same length."""
    mantissa, exponent = np.frexp(values)
    place = np.searchsorted(_BOUNDS_ARRAY, mantissa, side="left").astype(np.int64)
    place[mantissa == 0.5] = -1
    index = (exponent.astype(np.int64) - 1) * PER_OCTAVE + place
    index[~(values > 0)] = ZERO
    return index


def upper(index: int) -> float:
    """Return the inclusive upper bound of a bucket."""
    return 0.0 if index == ZERO else float(2.0 ** ((index + 1) / PER_OCTAVE))


def middle(index: int) -> float:
    """Return the geometric middle of a bucket, at most 0.55 % from any value in it."""
    found = _middles.get(index)
    if found is None:
        found = 0.0 if index == ZERO else float(2.0 ** ((index + 0.5) / PER_OCTAVE))
        if len(_middles) < _MIDDLES_KEPT:
            _middles[index] = found
    return found


def middles(indices: npt.NDArray[np.signedinteger[Any]]) -> npt.NDArray[np.float64]:
    """Return :func:`middle` of each bucket, as an array of the same length."""
    values = np.exp2((indices.astype(np.float64) + 0.5) / PER_OCTAVE)
    values[indices == ZERO] = 0.0
    return values


Cells = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Indices of buckets that are not empty, ascending, and their counts."""


class Histogram:
    """Count, exact integer sum, extremes and sparse buckets of one series.

    Its buckets are a dict while it is added to and two arrays while statistics are read from it; each
    form is made from the other when it is asked for.

    Attributes:
        count: observations, a sampled one counted with its weight.
        total: exact sum in the meter's unit (integer nanoseconds or bytes).
        low: smallest value, ``None`` without observations or when only buckets know (a window).
        high: largest value, likewise.
    """

    __slots__ = ("_buckets", "_cells", "_upto", "count", "high", "low", "total")

    def __init__(
        self, count: int = 0, total: int = 0, low: float | None = None, high: float | None = None,
        buckets: dict[int, int] | None = None, cells: Cells | None = None,
    ) -> None:  # fmt: skip
        self.count = count
        self.total = total
        self.low = low
        self.high = high
        self._buckets = {} if buckets is None and cells is None else buckets
        self._cells = cells
        self._upto: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Histogram:
        """Return the histogram of some values."""
        made = cls()
        for value in values:
            made.add(value)
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        mine = (self.count, self.total, self.low, self.high, self.buckets)
        return mine == (other.count, other.total, other.low, other.high, other.buckets)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"Histogram(count={self.count}, total={self.total}, low={self.low}, high={self.high}, "
            f"buckets={self.buckets})"
        )

    @property
    def buckets(self) -> dict[int, int]:
        """Count by bucket index; may be changed."""
        if self._buckets is None:
            assert self._cells is not None
            index, weight = self._cells
            self._buckets = dict(zip(index.tolist(), weight.tolist(), strict=True))
        self._cells = self._upto = None
        return self._buckets

    @property
    def cells(self) -> Cells:
        """The buckets as arrays; not to be changed."""
        if self._cells is None:
            assert self._buckets is not None
            size = len(self._buckets)
            index = np.fromiter(self._buckets.keys(), np.int64, size)
            weight = np.fromiter(self._buckets.values(), np.int64, size)
            order = np.argsort(index)
            self._cells = index[order], weight[order]
        return self._cells

    def _below(self) -> npt.NDArray[np.int64]:
        """Return how many observations are in each bucket or below it."""
        if self._cells is None or self._upto is None:
            self._upto = self.cells[1].cumsum()
        return self._upto

    def add(self, value: float, weight: int = 1) -> None:
        """Count one value, ``weight`` times."""
        self.count += weight
        self.total += round(value) * weight
        self.low = value if self.low is None else min(self.low, value)
        self.high = value if self.high is None else max(self.high, value)
        index, mine = bucket(value), self.buckets
        mine[index] = mine.get(index, 0) + weight

    def include(self, other: Histogram) -> None:
        """Add all observations of another histogram to this one."""
        self.count += other.count
        self.total += other.total
        self._stretch(other)
        mine = self.buckets
        for index, count in zip(*(each.tolist() for each in other.cells), strict=True):
            mine[index] = mine.get(index, 0) + count

    def _stretch(self, other: Histogram) -> None:
        if other.low is not None:
            self.low = other.low if self.low is None else min(self.low, other.low)
        if other.high is not None:
            self.high = other.high if self.high is None else max(self.high, other.high)

    def quantile(self, q: float) -> float | None:
        """Return the nearest-rank quantile, within 0.6 % of the exact one.

        Args:
            q: between 0 and 1.

        Returns:
            A value in the meter's unit, ``None`` without observations.
        """
        return self.quantiles((q,))[0]

    def quantiles(self, wanted: Sequence[float]) -> list[float | None]:
        """Return several quantiles in one pass; see :meth:`quantile`.

        Args:
            wanted: between 0 and 1, in ascending order.
        """
        index = self.cells[0]
        if not self.count or not len(index):
            return [None] * len(wanted)
        low, high = self.low, self.high
        ranks = [max(1, math.ceil(q * self.count)) for q in wanted]
        places = self._below().searchsorted(ranks).tolist()
        found: list[float | None] = []
        for rank, place in zip(ranks, places, strict=True):
            value = middle(int(index[min(place, len(index) - 1)]))
            if high is not None:
                value = high if rank >= self.count else min(value, high)
            if low is not None:
                value = low if rank == 1 and self.count > 1 else max(value, low)
            found.append(value)
        return found

    @property
    def mean(self) -> float | None:
        """The exact mean, ``None`` without observations."""
        return self.total / self.count if self.count else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation, from the buckets (so that a window has one too)."""
        index, weight = self.cells
        if not self.count or not len(index):
            return None
        value, count = middles(index), weight.astype(np.float64)
        n = float(count.sum())
        value -= float(value @ count) / n
        return math.sqrt(float((value * value) @ count) / n)

    def above(self, threshold: float) -> int:
        """Return how many observations exceed a threshold (exact to its bucket)."""
        index = self.cells[0]
        if not len(index) or (self.high is not None and self.high <= threshold):
            return 0
        upto = self._below()
        place = int(index.searchsorted(bucket(threshold), "right"))
        return int(upto[-1]) - (int(upto[place - 1]) if place else 0)

    def excess(self, threshold: float) -> float:
        """Return the sum of what each observation spent above a threshold, in the unit."""
        if self.high is not None and self.high <= threshold:
            return 0.0
        index, weight = self.cells
        place = int(index.searchsorted(bucket(threshold), "right"))
        return float((middles(index[place:]) - threshold) @ weight[place:])


def sums(groups: Iterable[Sequence[Histogram]]) -> list[Histogram]:
    """Return the sum of each group of histograms, all of them in one pass.

    Of a group in which only one has observations it is that one itself: do not change what is returned.
    """
    made: list[Histogram] = []
    added: list[Histogram] = []
    index, weight, owner, sizes = [], [], [], []
    for group in groups:
        full = [one for one in group if one.count]
        if len(full) < 2:
            made.append(full[0] if full else Histogram())
            continue
        total = Histogram(sum([one.count for one in full]), sum([one.total for one in full]))
        for one in full:
            total._stretch(one)
            index.append(one.cells[0])
            weight.append(one.cells[1])
            owner.append(len(added))
            sizes.append(len(one.cells[0]))
        added.append(total)
        made.append(total)
    if added:
        numbers = np.repeat(np.array(owner, np.int64), sizes)
        for total, cells in zip(
            added, _sums(numbers, np.concatenate(index), np.concatenate(weight), len(added)),
            strict=True,
        ):  # fmt: skip
            total._buckets, total._cells = None, cells
    return made


def _sums(
    owner: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    weight: npt.NDArray[np.int64],
    size: int,
) -> Iterable[Cells]:
    """Return the buckets of each owner, equal ones added up."""
    code = (owner << 32) + (index - 2 * ZERO)  # one number that sorts like the pair
    order = np.argsort(code, kind="stable")
    code = code[order]
    starts = np.flatnonzero(np.diff(code, prepend=np.int64(-1)))
    weight = np.add.reduceat(weight[order], starts) if len(starts) else weight
    code = code[starts]
    owner, index = code >> 32, (code & 0xFFFFFFFF) + 2 * ZERO
    ends = owner.searchsorted(np.arange(size + 1)).tolist()
    for place in range(size):
        part = slice(ends[place], ends[place + 1])
        yield index[part], weight[part]


def binomial_tail(k: int, n: int, p: float) -> float:
    """Return the exact probability of at least ``k`` successes in ``n`` trials of chance ``p``.

    Summed in logarithms from the largest term down, so it neither overflows nor cancels.
    """
    if k <= 0:
        return 1.0
    if k > n or p <= 0:
        return 0.0
    if p >= 1:
        return 1.0
    log_p, log_q = math.log(p), math.log1p(-p)
    head = math.lgamma(n + 1)
    term = math.exp(
        head - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q
    )
    if k <= n * p:  # the tail holds the bulk: take the complement, term by term downwards
        below, term_below, i = 0.0, term, k
        ratio = (1 - p) / p
        while i > 0:
            term_below *= i / (n - i + 1) * ratio
            i -= 1
            below += term_below
            if term_below < below * 1e-17:
                break
        return max(0.0, 1.0 - below)
    total, i, ratio = 0.0, k, p / (1 - p)
    while i <= n:
        total += term
        if term < total * 1e-17:
            break
        term *= (n - i) / (i + 1) * ratio
        i += 1
    return min(1.0, total)


def hypergeometric_tail(k: int, n: int, marked: int, whole: int) -> float:
    """Return the exact probability of at least ``k`` marked ones among ``n`` drawn.

    The one-sided test of Fisher: had two samples the same rate, how likely would one of them hold this
    many of what both hold together?

    Args:
        k: marked ones seen in the draw.
        n: size of the draw.
        marked: marked ones in the whole.
        whole: size of the whole.
    """

    def choose(a: int, b: int) -> float:
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)

    total = choose(whole, n)
    low, high = max(k, n + marked - whole), min(n, marked)
    return min(1.0, sum(
        math.exp(choose(marked, i) + choose(whole - marked, n - i) - total)
        for i in range(low, high + 1)
    ))  # fmt: skip
