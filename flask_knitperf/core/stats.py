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
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Histogram:
    """Count, exact integer sum, extremes and sparse buckets of one series.

    Attributes:
        count: observations, a sampled one counted with its weight.
        total: exact sum in the meter's unit (integer nanoseconds or bytes).
        low: smallest value, ``None`` without observations or when only buckets know (a window).
        high: largest value, likewise.
        buckets: count by bucket index.
    """

    count: int = 0
    total: int = 0
    low: float | None = None
    high: float | None = None
    buckets: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Iterable[float]) -> Histogram:
        """Return the histogram of some values."""
        made = cls()
        for value in values:
            made.add(value)
        return made

    def add(self, value: float, weight: int = 1) -> None:
        """Count one value, ``weight`` times."""
        self.count += weight
        self.total += round(value) * weight
        self.low = value if self.low is None else min(self.low, value)
        self.high = value if self.high is None else max(self.high, value)
        index = bucket(value)
        self.buckets[index] = self.buckets.get(index, 0) + weight

    def include(self, other: Histogram) -> None:
        """Add all observations of another histogram to this one."""
        self.count += other.count
        self.total += other.total
        if other.low is not None:
            self.low = other.low if self.low is None else min(self.low, other.low)
        if other.high is not None:
            self.high = other.high if self.high is None else max(self.high, other.high)
        mine = self.buckets
        for index, count in other.buckets.items():
            mine[index] = mine.get(index, 0) + count

    def copy(self) -> Histogram:
        """Return an independent copy."""
        return Histogram(self.count, self.total, self.low, self.high, dict(self.buckets))

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
        if not self.count or not self.buckets:
            return [None] * len(wanted)
        low, high = self.low, self.high
        order = iter(sorted(self.buckets.items()))
        index, seen = next(order)
        found: list[float | None] = []
        for q in wanted:
            rank = max(1, math.ceil(q * self.count))
            while seen < rank:
                try:
                    index, count = next(order)
                except StopIteration:
                    break
                seen += count
            value = middle(index)
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
        if not self.count or not self.buckets:
            return None
        size = len(self.buckets)
        value = middles(np.fromiter(self.buckets.keys(), np.int64, size))
        count = np.fromiter(self.buckets.values(), np.float64, size)
        n = float(count.sum())
        mean = float(value @ count) / n
        return math.sqrt(float((value - mean) ** 2 @ count) / n)

    def above(self, threshold: float) -> int:
        """Return how many observations exceed a threshold (exact to its bucket)."""
        if self.high is not None and self.high <= threshold:
            return 0
        limit = bucket(threshold)
        return sum([count for index, count in self.buckets.items() if index > limit])

    def excess(self, threshold: float) -> float:
        """Return the sum of what each observation spent above a threshold, in the unit."""
        if self.high is not None and self.high <= threshold:
            return 0.0
        limit = bucket(threshold)
        return sum(
            (middle(index) - threshold) * count
            for index, count in self.buckets.items()
            if index > limit
        )


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
