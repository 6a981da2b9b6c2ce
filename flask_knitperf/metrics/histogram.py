"""Histograms that merge without loss, and their statistics.

A histogram is OpenTelemetry's base-2 exponential histogram at scale 6: bucket ``i`` holds the
values in ``(2**(i/64), 2**((i+1)/64)]``, so a bucket's upper bound is 1.1 % above its lower one and
its geometric midpoint at most 0.55 % from any value inside. Zero has a separate bucket. Merging is
addition, hence associative and commutative, and a window is a difference.

The index is computed without a logarithm: ``frexp`` splits off the exponent exactly and a binary search
among 64 mantissa bounds gives the rest; the vector form searches the same table, so both always agree.

Quantiles are nearest-rank: the value at rank ``ceil(q * n)``.

Source: OpenTelemetry metrics data model, "ExponentialHistogram".
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

SCALE = 6
PER_OCTAVE = 1 << SCALE
ZERO = -(1 << 30)  # bucket of zero, and of negative values, which no clock should return

_MAX_MIDPOINTS = 8192
_midpoints: dict[int, float] = {}
# frexp returns mantissas in [0.5, 1); bound j is the upper end of the j-th 64th of that octave.
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


def upper_bound(index: int) -> float:
    """Return the inclusive upper bound of a bucket."""
    return 0.0 if index == ZERO else float(2.0 ** ((index + 1) / PER_OCTAVE))


def midpoint(index: int) -> float:
    """Return the geometric midpoint of a bucket, at most 0.55 % from any value in it."""
    value = _midpoints.get(index)
    if value is None:
        value = 0.0 if index == ZERO else float(2.0 ** ((index + 0.5) / PER_OCTAVE))
        if len(_midpoints) < _MAX_MIDPOINTS:
            _midpoints[index] = value
    return value


def midpoints(indices: npt.NDArray[np.signedinteger[Any]]) -> npt.NDArray[np.float64]:
    """Return :func:`middle` of each bucket, as an array of the same length."""
    values = np.exp2((indices.astype(np.float64) + 0.5) / PER_OCTAVE)
    values[indices == ZERO] = 0.0
    return values


_OFFSET = 1 << 31


def join_codes(
    owner: npt.NDArray[np.int64], index: npt.NDArray[np.signedinteger[Any]]
) -> npt.NDArray[np.int64]:
    """Return owner and bucket index packed into one integer that sorts like the pair."""
    return (owner << 32) + (index.astype(np.int64) + _OFFSET)


def split_codes(code: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the two arguments of :func:`join_codes`."""
    return code >> 32, (code & 0xFFFFFFFF) - _OFFSET


Cells = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Indices of non-empty buckets, ascending, and their counts."""
NO_CELLS: Cells = (np.empty(0, np.int64), np.empty(0, np.int64))


class Histogram:
    """Count, exact integer sum, extremes and sparse buckets of one series.

    The buckets are a dict while observations are added and two arrays while statistics are read; each
    form is derived from the other on demand. The arrays may be given as a function that returns them.

    Attributes:
        count: number of observations, a sampled one counted with its weight.
        total: exact sum in the meter's unit (integer nanoseconds or bytes).
        low: smallest value, ``None`` without observations or where only buckets exist (a window).
        high: largest value, ``None`` in the same cases.
    """

    __slots__ = (
        "_buckets",
        "_cells",
        "_cumulative",
        "_precomputed",
        "count",
        "high",
        "low",
        "total",
    )

    def __init__(
        self, count: int = 0, total: int = 0, low: float | None = None, high: float | None = None,
        buckets: dict[int, int] | None = None,
        cells: Cells | Callable[[], Cells] | None = None,
    ) -> None:  # fmt: skip
        self.count = count
        self.total = total
        self.low = low
        self.high = high
        self._buckets = {} if buckets is None and cells is None else buckets
        self._cells = cells
        self._cumulative: npt.NDArray[np.int64] | None = None
        self._precomputed: dict[tuple[object, ...], Any] | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Histogram:
        """Return the histogram of some values."""
        histogram = cls()
        for value in values:
            histogram.add(value)
        return histogram

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
        """Count by bucket index; may be mutated."""
        if self._buckets is None:
            index, weight = self.cells
            self._buckets = dict(zip(index.tolist(), weight.tolist(), strict=True))
        self._cells = self._cumulative = self._precomputed = None
        return self._buckets

    @property
    def precomputed(self) -> dict[tuple[object, ...], Any]:
        """Statistics computed in advance (:mod:`.histogram_batch`); cleared by any change."""
        if self._precomputed is None:
            self._precomputed = {}
        return self._precomputed

    @property
    def cells(self) -> Cells:
        """The buckets as arrays; not to be mutated."""
        if self._cells is None:
            self._cells = self._sorted()
        elif callable(self._cells):
            self._cells = self._cells()
        return self._cells

    def _sorted(self) -> Cells:
        assert self._buckets is not None
        size = len(self._buckets)
        index = np.fromiter(self._buckets.keys(), np.int64, size)
        weight = np.fromiter(self._buckets.values(), np.int64, size)
        order = np.argsort(index)
        return index[order], weight[order]

    def set_cells(self, cells: Cells) -> None:
        """Set buckets that the caller computed."""
        self._cells = cells

    def _below(self) -> npt.NDArray[np.int64]:
        """Return the cumulative counts of the buckets."""
        if self._cells is None or self._cumulative is None:
            self._cumulative = self.cells[1].cumsum()
        return self._cumulative

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
        self._extend_range(other)
        mine = self.buckets
        for index, count in zip(*(array.tolist() for array in other.cells), strict=True):
            mine[index] = mine.get(index, 0) + count

    def _extend_range(self, other: Histogram) -> None:
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

    def quantiles(self, levels: Sequence[float]) -> list[float | None]:
        """Return several quantiles in one pass; see :meth:`quantile`.

        Args:
            levels: between 0 and 1, in ascending order.
        """
        if self._precomputed is not None and all(
            ("quantile", q) in self._precomputed for q in levels
        ):
            return [self._precomputed["quantile", q] for q in levels]
        index = self.cells[0]
        if not self.count or not len(index):
            return [None] * len(levels)
        low, high = self.low, self.high
        ranks = [max(1, math.ceil(q * self.count)) for q in levels]
        positions = self._below().searchsorted(ranks).tolist()
        values: list[float | None] = []
        for rank, position in zip(ranks, positions, strict=True):
            value = midpoint(int(index[min(position, len(index) - 1)]))
            if high is not None:
                value = high if rank >= self.count else min(value, high)
            if low is not None:
                value = low if rank == 1 and self.count > 1 else max(value, low)
            values.append(value)
        return values

    @property
    def mean(self) -> float | None:
        """The exact mean, ``None`` without observations."""
        return self.total / self.count if self.count else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation, from the buckets (so that a window has one too)."""
        if self._precomputed is not None and ("deviation",) in self._precomputed:
            deviation: float = self._precomputed["deviation",]
            return deviation
        index, weight = self.cells
        if not self.count or not len(index):
            return None
        value, count = midpoints(index), weight.astype(np.float64)
        n = float(count.sum())
        value -= float(value @ count) / n
        return math.sqrt(float((value * value) @ count) / n)

    def above(self, threshold: float) -> int:
        """Return the number of observations above a threshold (exact to its bucket)."""
        if self._precomputed is not None and ("above", threshold) in self._precomputed:
            return int(self._precomputed["above", threshold])
        index = self.cells[0]
        if not len(index) or (self.high is not None and self.high <= threshold):
            return 0
        cumulative = self._below()
        first = int(index.searchsorted(bucket(threshold), "right"))
        return int(cumulative[-1]) - (int(cumulative[first - 1]) if first else 0)

    def excess(self, threshold: float) -> float:
        """Return the sum of the parts of all observations above a threshold, in the meter's unit."""
        if self._precomputed is not None and ("excess", threshold) in self._precomputed:
            return float(self._precomputed["excess", threshold])
        if self.high is not None and self.high <= threshold:
            return 0.0
        index, weight = self.cells
        first = int(index.searchsorted(bucket(threshold), "right"))
        return float((midpoints(index[first:]) - threshold) @ weight[first:])


def total(parts: Sequence[Histogram]) -> Histogram:
    """Return the sum of some histograms, which they do not share."""
    cells = [part.cells for part in parts]
    summed = sum_by_code(
        np.concatenate([NO_CELLS[0], *[index for index, _ in cells]]),
        np.concatenate([NO_CELLS[1], *[weight for _, weight in cells]]),
    )
    lows = [part.low for part in parts if part.low is not None]
    highs = [part.high for part in parts if part.high is not None]
    return Histogram(
        sum(part.count for part in parts), sum(part.total for part in parts),
        min(lows, default=None), max(highs, default=None), cells=summed,
    )  # fmt: skip


def sum_by_code(
    code: npt.NDArray[np.int64], weight: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the unique codes, ascending, with the sums of their weights.

    Args:
        code: codes in any order.
        weight: weight of each code.
    """
    if not len(code):
        return code, weight
    order = np.argsort(code, kind="stable")  # tables are ascending runs, which it only merges
    code = code[order]
    starts = run_starts(code)
    return code[starts], np.add.reduceat(weight[order], starts)


def sum_by_bucket(
    owner: npt.NDArray[np.int64], index: npt.NDArray[np.int64], weight: npt.NDArray[np.int64]
) -> Cells:
    """Return the codes of the pairs of owner and bucket, ascending, with the sums of their weights.

    Args:
        owner: of each observation.
        index: bucket of each observation.
        weight: of each observation, below 2**32.
    """
    if not len(index):
        return NO_CELLS
    first, low = int(owner.min()), int(index.min())
    span = int(index.max()) - low + 1
    size = (int(owner.max()) - first + 1) * span
    if size > 4 * len(index) or len(index) > 1 << 20:  # few per pair, or sums beyond 2**53
        return sum_by_code(join_codes(owner, index), weight)
    sums = np.bincount((owner - first) * span + (index - low), weight)
    pairs = np.flatnonzero(sums)
    return join_codes(pairs // span + first, pairs % span + low), sums[pairs].astype(np.int64)


def run_starts(code: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the index of the first occurrence of each code in a non-empty ascending array."""
    new = np.empty(len(code), np.bool_)
    new[0] = True
    np.not_equal(code[1:], code[:-1], out=new[1:])
    return np.flatnonzero(new)


def binomial_tail(k: int, n: int, p: float) -> float:
    """Return the exact probability of at least ``k`` successes in ``n`` trials with probability ``p``.

    This is the regularised incomplete beta function I_p(k, n - k + 1), by the continued fraction of DLMF
    8.17.22, which converges in a few steps on one side of the mean; on the other side the complement is
    computed.
    """
    if k <= 0:
        return 1.0
    if k > n or p <= 0:
        return 0.0
    if p >= 1:
        return 1.0
    a, b = float(k), float(n - k + 1)
    front = math.exp(
        math.lgamma(n + 1) - math.lgamma(a) - math.lgamma(b)
        + a * math.log(p) + b * math.log1p(-p)
    )  # fmt: skip
    if p * (a + b + 2) <= a + 1:
        return min(1.0, front / (a * _beta_fraction(a, b, p)))
    return max(0.0, 1.0 - front / (b * _beta_fraction(b, a, 1 - p)))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction 1 + d1/(1 + d2/(1 + …)) of DLMF 8.17.22, by Lentz's method."""
    tiny, value, upper_, lower, m = 1e-300, 1.0, 1.0, 0.0, 0
    while True:
        for term in (
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
            (m + 1) * (b - m - 1) * x / ((a + 2 * m + 1) * (a + 2 * m + 2)),
        ):
            lower = 1.0 / ((1.0 + term * lower) or tiny)
            upper_ = (1.0 + term / upper_) or tiny
            value *= upper_ * lower
        m += 1
        if abs(upper_ * lower - 1.0) < 1e-15 or m > 10_000:
            return value


def hypergeometric_tail(k: int, n: int, marked: int, whole: int) -> float:
    """Return the exact probability of at least ``k`` marked items in a sample of ``n``.

    This is Fisher's one-sided exact test: the p-value for one of two samples holding at least ``k`` of
    the marked items of both if both have the same rate.

    Args:
        k: marked items in the sample.
        n: size of the sample.
        marked: marked items in the population.
        whole: size of the population.
    """

    def choose(a: int, b: int) -> float:
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)

    total = choose(whole, n)
    low, high = max(k, n + marked - whole), min(n, marked)
    return min(1.0, sum(
        math.exp(choose(marked, i) + choose(whole - marked, n - i) - total)
        for i in range(low, high + 1)
    ))  # fmt: skip
