"""Statistics of many histograms in one pass.

A report asks a few numbers of hundreds of small histograms, and asking an array library for each of
them costs far more than the arithmetic. So the buckets of all are laid behind one another, each
statistic is worked out for all at once, and every histogram remembers its own (see
:attr:`.histogram.Histogram.known`): whoever asks it later finds the answer there. What is not asked in
advance is worked out as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .histogram import NO_CELLS, PER_OCTAVE, ZERO, Cells, Histogram, buckets, joined, middles

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Batch:
    """Histograms with their buckets behind one another.

    Args:
        each: they must not change while the batch is used.
        stacked: their buckets behind one another, where they lie so already.

    Attributes:
        each: all of them.
        histograms: those that have buckets: the ones of which statistics are worked out.
    """

    def __init__(self, each: Sequence[Histogram], stacked: Cells | None = None) -> None:
        cells = [one.cells for one in each]
        self.each = each
        self.histograms = [one for one, (index, _) in zip(each, cells, strict=True) if len(index)]
        self._known = [one.known for one in self.histograms]
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
        self._upto = self._weight.cumsum()
        self._before = self._upto[self._starts] - self._weight[self._starts]
        self._middle = middles(self._index)

    def quantiles(self, wanted: Sequence[float]) -> None:
        """Work out nearest-rank quantiles."""
        count = np.array([one.count for one in self.histograms], np.int64)
        low = np.array([np.nan if h.low is None else h.low for h in self.histograms])
        high = np.array([np.nan if h.high is None else h.high for h in self.histograms])
        for q in wanted:
            rank = np.maximum(1, np.ceil(q * count)).astype(np.int64)
            place = self._upto.searchsorted(self._before + rank)
            value = self._middle[np.minimum(place, self._ends - 1)]
            last, first = (rank >= count) & ~np.isnan(high), (rank == 1) & (count > 1)
            value = np.where(last, high, np.fmin(value, high))
            value = np.where(first & ~np.isnan(low), low, np.fmax(value, low))
            self._tell(("quantile", q), value)

    def deviations(self) -> None:
        """Work out standard deviations."""
        if not self.histograms:
            return
        count = self._weight.astype(np.float64)
        n = np.add.reduceat(count, self._starts)
        mean = np.add.reduceat(self._middle * count, self._starts) / n
        off = self._middle - mean[self._owner]
        square = np.add.reduceat(off * off * count, self._starts) / n
        self._tell(("deviation",), np.sqrt(square))

    def above(self, limits: Sequence[float]) -> None:
        """Work out how many observations exceed a limit, one for each histogram given."""
        limit, place = self._beyond(limits)
        more = self._upto[self._ends - 1] - np.where(
            place > self._starts, self._upto[place - 1], self._before
        )
        for known, each, number in zip(self._known, limit.tolist(), more.tolist(), strict=True):
            known["above", each] = number

    def excess(self, limits: Sequence[float]) -> None:
        """Work out what each observation spent above a limit, one for each histogram given."""
        limit, _ = self._beyond(limits)
        over = self._index > buckets(limit)[self._owner]
        spent = np.where(over, (self._middle - limit[self._owner]) * self._weight, 0.0)
        sums = np.bincount(self._owner, spent, len(self.histograms))
        rows = zip(self.histograms, self._known, limit.tolist(), sums.tolist(), strict=True)
        for one, known, each, number in rows:
            below = one.high is not None and one.high <= each
            known["excess", each] = 0.0 if below else number

    def bars(self, most: int, unit: float = 1.0) -> list[tuple[list[float], list[int]]]:
        """Return each histogram as at most ``most`` bars of equal ratio, fastest first.

        Returns:
            For each, the upper ends of its bars (in units, to six digits) and their counts, empty ones
            within the range included; the counts sum to the histogram's. The value zero counts for the
            first bar.
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
        return [(of[:size], some[:size]) for of, some, size in rows]

    def _beyond(self, limits: Sequence[float]) -> tuple[Floats, Ints]:
        """Return the limit of each histogram, and where its buckets above that begin."""
        limit = np.array(limits, np.float64)
        mine = joined(np.arange(len(limit), dtype=np.int64), buckets(limit))
        return limit, self._code.searchsorted(mine, "right")

    @cached_property
    def _code(self) -> Ints:
        return joined(self._owner, self._index)

    def _tell(self, name: tuple[object, ...], values: Floats) -> None:
        for known, value in zip(self._known, values.tolist(), strict=True):
            known[name] = value
