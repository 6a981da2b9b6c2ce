"""Test for steady growth of a series of live bytes, on its low-water marks.

Memory that is allocated and freed again (batches, caches that are cleared, garbage that waits) makes a
saw-tooth, and reading it every few requests shows a slope that is not there. So a series is reduced to
its low-water marks: at each moment, the smallest value from then on. The marks of a batch are flat,
those of a leak rise, and those of a cache that fills stop rising.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...core.trends import theil_sen

MIN_GROWTH_BYTES = 64
"""Bytes per request below which growth is not called a leak: less than one object in a list."""
MAX_MARKS = 13
"""Low-water marks of a series; fewer if it is short."""
MIN_MARKS = 4
_MIN_LAST_QUARTER = 0.4
"""Growth in the last quarter of the marks, as a share of an average quarter, that counts as ongoing."""

Samples = Sequence[tuple[int, float]]
"""Requests served by then, and the value; requests ascending."""
Marks = Sequence[tuple[float, float]]
"""Requests served by then, and the low-water mark."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of a value with the number of requests.

    Attributes:
        per_request: Theil-Sen slope.
        low: lower end of its 99 % interval.
        high: upper end of its 99 % interval.
        blocks: number of blocks of requests between two marks.
        grown_blocks: number of blocks over which the mark rose.
        steady: whether the value grows over the whole run, by at least the required minimum.
    """

    per_request: float
    low: float
    high: float
    blocks: int
    grown_blocks: int
    steady: bool


NO_GROWTH = Growth(0.0, 0.0, 0.0, 0, 0, False)


def low_water_marks(samples: Samples, count: int = MAX_MARKS) -> Marks:
    """Return ``count`` low-water marks at evenly spaced requests.

    A mark depends on the later samples, so the last block has no mark at its end: any rise there, even
    of a batch, would look final.
    """
    if not samples:
        return []
    lowest = [samples[-1][1]]
    for _, value in reversed(samples[:-1]):
        lowest.append(min(value, lowest[-1]))
    lowest.reverse()
    first, last = samples[0][0], samples[-1][0]
    marks = []
    position = 0
    for number in range(count):
        request = first + number * (last - first) / count
        while samples[position][0] < request:
            position += 1
        marks.append((float(samples[position][0]), lowest[position]))
    return marks


def keeps_growing(marks: Marks) -> bool:
    """Return whether the last quarter of the marks rises about as much as the others."""
    if len(marks) < 2:
        return False
    quarter = max(1, (len(marks) - 1) // 4)
    total, last = marks[-1][1] - marks[0][1], marks[-1][1] - marks[-1 - quarter][1]
    return last > 0 and last >= _MIN_LAST_QUARTER * total * quarter / (len(marks) - 1)


def grows_in_each_third(marks: Marks) -> bool:
    """Return whether the marks rise in each third, by steps that may be rare and large."""
    last = len(marks) - 1
    values = [marks[round(last * third / 3)][1] for third in range(4)]
    min_gain = (values[-1] - values[0]) / 3 / 4
    gains = [later - earlier for earlier, later in pairwise(values)]
    return all(gain > 0 and gain >= min_gain for gain in gains)


def estimate_growth(samples: Samples, min_growth: float, max_marks: int = MAX_MARKS) -> Growth:
    """Return the growth of a value per request, and whether it is steady.

    Growth is steady if the whole interval of its slope (:func:`...core.trends.theil_sen`) is above
    zero, the slope is at least ``min_growth``, and the last quarter keeps growing.

    Args:
        samples: values read right after a garbage collection.
        min_growth: the smallest growth per request that counts.
        max_marks: number of low-water marks, fewer if there are few samples.
    """
    count = max_marks
    if len(samples) < 2 * count:
        count = max(MIN_MARKS, len(samples) // 2)
    if len(samples) < count:
        return NO_GROWTH
    marks = low_water_marks(samples, count)
    slope = theil_sen([at for at, _ in marks], [value for _, value in marks], bounded=True)
    if slope is None:
        return NO_GROWTH
    grown_blocks = sum(later[1] > earlier[1] for earlier, later in pairwise(marks))
    steady = slope.low > 0 and slope.middle >= min_growth and keeps_growing(marks)
    return Growth(slope.middle, slope.low, slope.high, len(marks) - 1, grown_blocks, steady)


def may_grow(samples: Samples, min_growth: float) -> bool:
    """Return whether a longer run is worthwhile: the second half of this one grew at all."""
    marks = low_water_marks(samples)
    (middle, before), (last, after) = marks[len(marks) // 2], marks[-1]
    return after - before >= min_growth / 4 * (last - middle) > 0
