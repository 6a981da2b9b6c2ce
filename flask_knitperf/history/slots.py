"""Slots of a chart: their length, the rows that they are read from, and what these add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core.clock import NS_PER_MS
from ..metrics.histogram import PER_OCTAVE, ZERO, Histogram, upper_bound
from ..metrics.histogram_batch import Batch
from . import rows
from .reader import bounds
from .resolutions import DAY, FINEST, RESOLUTIONS, Stretch, stretches
from .store import Store, StoredRows
from .varints import Ints

if TYPE_CHECKING:
    from ..reports.documents.charts import Heat

MAX_POINTS = 150
"""Number of slots of a chart, at most."""
LENGTHS = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, DAY)
"""Lengths of the slots of a chart, in seconds."""
LEVELS = (0.5, 0.95, 0.99)
"""Percentiles of a chart, as shares."""
MAX_BANDS = 48
"""Number of bands of response times in one slot, at most."""


class Slots(NamedTuple):
    """Slots of a chart.

    Attributes:
        length: in seconds.
        stretches: rows that they are read from.
        written: time up to which requests are in rows, in seconds since the epoch.
    """

    length: int
    stretches: list[Stretch]
    written: float

    @property
    def begins(self) -> float | None:
        """Start of the first row, ``None`` where there is no row."""
        return self.stretches[0].begins if self.stretches else None

    def seconds(self, at: int, first: float) -> float:
        """Return the part of a slot that is in the rows: those at the ends of a window are cut.

        Args:
            at: start of the slot.
            first: start of the history, in seconds since the epoch.
        """
        if not self.stretches:
            return float(self.length)
        begins = max(at, self.stretches[0].begins, first)
        ends = min(at + self.length, self.stretches[-1].ends, self.written)
        return round(min(self.length, max(FINEST.seconds, ends - begins)), 3)


def slots(
    store: Store, since: float, until: float, now: float, most: int = MAX_POINTS
) -> Slots:  # fmt: skip
    """Return the slots of a window: as short as their number allows, and as the rows that are kept.

    Args:
        store: the rows.
        since: start of the window, in seconds since the epoch.
        until: its end.
        now: the present.
        most: number of slots, at most.
    """
    edge, complete = bounds(store, since, until)
    shortest = (until - since) / most
    length = next((one for one in LENGTHS if one >= shortest), DAY)
    resolution = max(one for one in RESOLUTIONS if length % one.seconds == 0)
    chosen = stretches(since, edge, now, complete, resolution)
    coarsest = max((stretch.resolution.seconds for stretch in chosen), default=length)
    length = next(one for one in LENGTHS if one >= length and one % coarsest == 0)
    return Slots(length, chosen, complete.get(FINEST.seconds, since))


def by_slot(some: StoredRows, length: int) -> Mapping[int, Histogram]:
    """Return the sums of rows by the start of slots of a length in seconds, in order of time."""
    starts = np.array(some.slots, np.int64) // length * length
    return by_owner(starts, some.data)


def by_owner(
    owner: Ints, data: Sequence[bytes], levels: Sequence[float] = LEVELS
) -> Mapping[int, Histogram]:
    """Return the sums of rows by their owner, a number, in ascending order.

    Args:
        owner: of each row.
        data: the rows.
        levels: percentiles that are computed for all at once, as shares.
    """
    owners, place = np.unique(owner, return_inverse=True)
    nameless: Any = (None,) * len(owners)
    whole = rows.columns_of(nameless, place.astype(np.int64), data)
    places = np.arange(len(owners))
    begins = whole.row.searchsorted(places, "left").tolist()
    ends = whole.row.searchsorted(places, "right").tolist()
    index = whole.bucket.astype(np.int64)
    sums = {
        one: Histogram(count, total, cells=(index[begin:end], whole.weight[begin:end]))
        for one, count, total, begin, end in zip(
            owners.tolist(), whole.count.tolist(), whole.total.tolist(), begins, ends, strict=True
        )
    }
    Batch(list(sums.values())).quantiles(levels)
    return sums


def milliseconds(requests: Histogram, share: float) -> float | None:
    """Return a percentile in milliseconds, ``None`` without requests."""
    value = requests.quantile(share)
    return None if value is None else round(value / NS_PER_MS, 3)


def heat(points: Sequence[Histogram]) -> Heat:
    """Return the number of requests of each point in bands of equal ratio.

    Args:
        points: response times in nanoseconds.
    """
    cells = [one.cells for one in points]
    filled = [index[index != ZERO] for index, _ in cells]
    low = min((int(index[0]) for index in filled if len(index)), default=0)
    high = max((int(index[-1]) for index in filled if len(index)), default=low)
    if not any(len(index) for index, _ in cells):
        return {"upper_ms": [], "counts": [[] for _ in cells]}
    step = _band(high - low + 1)
    size = -(-(high - low + 1) // step)
    counts = [
        np.bincount(np.maximum(index - low, 0) // step, weight, size).astype(int).tolist()
        for index, weight in cells
    ]
    return {
        "upper_ms": [
            round(upper_bound(low + step * (band + 1) - 1) / NS_PER_MS, 6) for band in range(size)
        ],
        "counts": counts,
    }  # fmt: skip


def _band(size: int) -> int:
    """Return the number of buckets of a band: a divisor of those of an octave, or some octaves."""
    step = PER_OCTAVE // 8
    while step * MAX_BANDS < size:
        step *= 2
    return step
