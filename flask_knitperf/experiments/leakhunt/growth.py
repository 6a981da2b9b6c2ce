"""Does a series of live bytes grow for good? Judged on levels that are never left again.

Memory that is taken and given back (batches, caches that are emptied now and then, garbage that waits)
makes a saw-tooth, and whoever looks at it every so many requests sees a slope that is not there. So a
series is first replaced by its low water: the smallest value from a moment on. A batch has a flat one,
a leak has a rising one, and a cache that fills one that stops to rise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...core.trends import theil_sen

FLOOR = 64
"""Bytes per request below which nothing is called a leak: less than an object in a list."""
MARKS = 13
_GOES_ON = 0.4
"""The last quarter has to grow by this share of what a quarter grows by on average."""

Samples = Sequence[tuple[int, float]]
"""``(request, value)``, requests ascending."""
Levels = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Growth:
    """How a value grows with requests.

    Attributes:
        per_request: Theil-Sen slope.
        low: lower end of its 99 % interval.
        high: upper end of it.
        blocks: stretches of requests that were compared.
        grew: how many of them ended at a higher low water than they began.
        steady: whether it grows over the whole run, by at least the floor that was asked for.
    """

    per_request: float
    low: float
    high: float
    blocks: int
    grew: int
    steady: bool


FLAT = Growth(0.0, 0.0, 0.0, 0, 0, False)


def low_water(samples: Samples, marks: int = MARKS) -> Levels:
    """Return the levels that are never left again, at evenly spaced requests.

    Each looks at what comes later, so the last stretch of requests gets no mark of its own: there every
    way up, even of a batch, would look final.
    """
    if not samples:
        return []
    lowest = [samples[-1][1]]
    for _, value in reversed(samples[:-1]):
        lowest.append(min(value, lowest[-1]))
    lowest.reverse()
    first, last = samples[0][0], samples[-1][0]
    found = []
    place = 0
    for mark in range(marks):
        at = first + mark * (last - first) / marks
        while samples[place][0] < at:
            place += 1
        found.append((float(samples[place][0]), lowest[place]))
    return found


def goes_on(levels: Levels) -> bool:
    """Return whether the last quarter of the levels grows about as much as the others."""
    if len(levels) < 2:
        return False
    some = max(1, (len(levels) - 1) // 4)
    whole, last = levels[-1][1] - levels[0][1], levels[-1][1] - levels[-1 - some][1]
    return last > 0 and last >= _GOES_ON * whole * some / (len(levels) - 1)


def in_each_third(levels: Levels) -> bool:
    """Return whether the levels grow in each third, by steps that may be rare and large."""
    last = len(levels) - 1
    ends = [levels[round(last * part / 3)][1] for part in range(4)]
    least = (ends[-1] - ends[0]) / 3 / 4
    gains = [later - earlier for earlier, later in pairwise(ends)]
    return all(gain > 0 and gain >= least for gain in gains)


def judge(samples: Samples, floor: float, marks: int = MARKS) -> Growth:
    """Return whether and how fast a value grows.

    Growth is steady when the whole interval of its slope (:func:`...core.trends.theil_sen`) is above
    zero, the slope at least ``floor``, and the last quarter grows on.

    Args:
        samples: values after requests, when nothing waits for the collector.
        floor: the least growth per request that counts.
        marks: how many levels are compared.
    """
    if len(samples) < 2 * marks:
        marks = max(4, len(samples) // 2)
    if len(samples) < marks:
        return FLAT
    levels = low_water(samples, marks)
    found = theil_sen([at for at, _ in levels], [value for _, value in levels], bounded=True)
    if found is None:
        return FLAT
    grew = sum(later[1] > earlier[1] for earlier, later in pairwise(levels))
    steady = found.low > 0 and found.middle >= floor and goes_on(levels)
    return Growth(found.middle, found.low, found.high, len(levels) - 1, grew, steady)


def may_grow(samples: Samples, floor: float) -> bool:
    """Return whether it is worth to look longer: the second half of the run grew at all."""
    levels = low_water(samples)
    (middle, before), (last, after) = levels[len(levels) // 2], levels[-1]
    return after - before >= floor / 4 * (last - middle) > 0
