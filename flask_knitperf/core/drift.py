"""Drift of daily values: a level that rises or falls slowly, at about the same load.

The slope is that of Theil and Sen (:mod:`.trends`). It counts if the two-sided p-value of the test of
Mann and Kendall is below 0.0005, and the values have drifted by at least a tenth. Days with less than
half or more than twice the usual load are left out, since their values differ for another reason. A
series with a step has no drift: the step is the better description.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .trends import rises, theil_sen

MIN_DAYS = 14
"""Days that a drift needs."""
MIN_CHANGE = 0.1
MAX_P = 0.0005
_LOAD = 2.0  # ratio to the usual load, or its inverse, up to which a day counts
_WEEK = 7


class Drift(NamedTuple):
    """A drift.

    Attributes:
        days: number of days that were compared.
        per_week: change in a week, as a share of the level at the start.
        change: change over all days, as a share of the level at the start.
    """

    days: int
    per_week: float
    change: float


def drift(days: Sequence[int], values: Sequence[float], loads: Sequence[float]) -> Drift | None:
    """Return the drift of daily values, ``None`` without one.

    Args:
        days: numbers of the days, ascending.
        values: positive values, one for each day.
        loads: requests of each day.
    """
    if not days:
        return None
    usual = statistics.median(loads)
    chosen = [place for place, load in enumerate(loads) if usual / _LOAD <= load <= usual * _LOAD]
    x, y = [float(days[place]) for place in chosen], [values[place] for place in chosen]
    if len(x) < MIN_DAYS:
        return None
    slope = theil_sen(x, y)
    p = 2 * min(rises(y), rises([-value for value in y]))
    if slope is None or p >= MAX_P:
        return None
    length = x[-1] - x[0]
    start = statistics.median(y) - slope.middle * length / 2
    if start <= 0 or abs(slope.middle * length / start) < MIN_CHANGE:
        return None
    return Drift(len(x), slope.middle * _WEEK / start, slope.middle * length / start)
