"""Statistics of many histograms in one pass.

A report needs a few statistics of hundreds of small histograms, and one array operation per histogram
costs far more than the arithmetic. So the buckets of all are concatenated, each statistic is computed
for all at once, and the result is stored in each histogram (:attr:`.histogram.Histogram.precomputed`),
whose methods then return it. Statistics that are not computed in advance are computed on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .histogram import NO_CELLS, PER_OCTAVE, ZERO, Cells, Histogram, buckets, join_codes, midpoints

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Batch:
    """Histograms with concatenated buckets.

    Args:
        histograms: must not change while the batch is used.
        stacked: their concatenated buckets, if available.

    Attributes:
        members: all of them.
        histograms: those that have buckets, in order.
    """

    def __init__(self, histograms: Sequence[Histogram], stacked: Cells | None = None) -> None:
        cells = [one.cells for one in histograms]
        self.members = histograms
        self.histograms = [
            one for one, (index, _) in zip(histograms, cells, strict=True) if len(index)
        ]
        self._precomputed = [one.precomputed for one in self.histograms]
        self._sizes = np.array([len(index) for index, _ in cells if len(index)], np.int64)
        self._ends = self._sizes.cumsum()
        self._starts = self._ends - self._sizes
        if stacked is None:
            stacked = (
                np.concatenate([NO_CELLS[0], *[index for index, _ in cells]]),
                np.concatenate([NO_CELLS[1], *[weight for _, weight in cells]]),
            )
        self._index, self._weight = stacked
        self._owner = np.repeat(np.arange(len(self._sizes), dtype=np.int64), self._sizes)
        self._cumulative = self._weight.cumsum()
        self._before = self._cumulative[self._starts] - self._weight[self._starts]
        self._middle = midpoints(self._index)

    def quantiles(self, levels: Sequence[float]) -> None:
        """Compute nearest-rank quantiles."""
        count = np.array([one.count for one in self.histograms], np.int64)
        low = np.array([np.nan if h.low is None else h.low for h in self.histograms])
        high = np.array([np.nan if h.high is None else h.high for h in self.histograms])
        for q in levels:
            rank = np.maximum(1, np.ceil(q * count)).astype(np.int64)
            position = self._cumulative.searchsorted(self._before + rank)
            value = self._middle[np.minimum(position, self._ends - 1)]
            last, first = (rank >= count) & ~np.isnan(high), (rank == 1) & (count > 1)
            value = np.where(last, high, np.fmin(value, high))
            value = np.where(first & ~np.isnan(low), low, np.fmax(value, low))
            self._store(("quantile", q), value)

    def deviations(self) -> None:
        """Compute standard deviations."""
        if not self.histograms:
            return
        count = self._weight.astype(np.float64)
        n = np.add.reduceat(count, self._starts)
        mean = np.add.reduceat(self._middle * count, self._starts) / n
        off = self._middle - mean[self._owner]
        square = np.add.reduceat(off * off * count, self._starts) / n
        self._store(("deviation",), np.sqrt(square))

    def above(self, limits: Sequence[float]) -> None:
        """Compute the number of observations above a limit, one limit per histogram."""
        limit, first = self._above(limits)
        above = self._cumulative[self._ends - 1] - np.where(
            first > self._starts, self._cumulative[first - 1], self._before
        )
        rows = zip(self._precomputed, limit.tolist(), above.tolist(), strict=True)
        for precomputed, threshold, count in rows:
            precomputed["above", threshold] = count

    def excess(self, limits: Sequence[float]) -> None:
        """Compute the sums of the parts above a limit, one limit per histogram."""
        limit, _ = self._above(limits)
        over = self._index > buckets(limit)[self._owner]
        spent = np.where(over, (self._middle - limit[self._owner]) * self._weight, 0.0)
        sums = np.bincount(self._owner, spent, len(self.histograms))
        rows = zip(self.histograms, self._precomputed, limit.tolist(), sums.tolist(), strict=True)
        for one, precomputed, threshold, total in rows:
            below = one.high is not None and one.high <= threshold
            precomputed["excess", threshold] = 0.0 if below else total

    def bars(self, most: int, unit: float = 1.0) -> list[tuple[list[float], list[int]]]:
        """Return each histogram as at most ``most`` bars of equal ratio, in ascending order.

        Returns:
            For each histogram the upper bounds of its bars (in units, rounded to six digits) and their
            counts, including empty bars within the range; the counts sum to the histogram's. Zeros are
            counted in the first bar.
        """
        zero = self._index == ZERO
        zeros = np.bincount(self._owner, np.where(zero, self._weight, 0), len(self.histograms))
        low = self._index[np.minimum(self._starts + zero[self._starts], self._ends - 1)]
        high = self._index[self._ends - 1]
        step = -(-(high - low + 1) // most)
        bar = (self._index - low[self._owner]) // step[self._owner]
        bar = self._owner * most + np.where(zero, 0, bar)
        flat = np.bincount(bar, np.where(zero, 0, self._weight), len(self.histograms) * most)
        counts = flat.astype(np.int64).reshape(-1, most)
        counts[:, 0] += zeros.astype(np.int64)
        ends = np.minimum(high[:, None], low[:, None] + step[:, None] * np.arange(1, most + 1) - 1)
        uppers = np.where(high[:, None] == ZERO, 0.0, np.exp2((ends + 1) / PER_OCTAVE) / unit)
        sizes = ((high - low) // step + 1).tolist()
        rows = zip(uppers.round(6).tolist(), counts.tolist(), sizes, strict=True)
        return [(bounds[:size], count[:size]) for bounds, count, size in rows]

    def _above(self, limits: Sequence[float]) -> tuple[Floats, Ints]:
        """Return the limit of each histogram, and the position of its first bucket above it."""
        limit = np.array(limits, np.float64)
        codes = join_codes(np.arange(len(limit), dtype=np.int64), buckets(limit))
        return limit, self._code.searchsorted(codes, "right")

    @cached_property
    def _code(self) -> Ints:
        return join_codes(self._owner, self._index)

    def _store(self, name: tuple[object, ...], values: Floats) -> None:
        for precomputed, value in zip(self._precomputed, values.tolist(), strict=True):
            precomputed[name] = value
