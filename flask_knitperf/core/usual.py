"""The usual band of a value: what is normal for an hour of the week, from the four weeks before.

A mill has a rhythm of days and weeks: its p95 on Monday at eight is normal if it was the same on other
Mondays. The band is the median of the same hour in the four weeks before, with the hour before and after
it, plus and minus three standard deviations. These are estimated by the median absolute deviation, which
a single bad Monday does not move (F. R. Hampel, J. Am. Stat. Assoc. 69, 1974).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple

WEEK_HOURS = 7 * 24
WEEKS = 4
MIN_VALUES = 3
"""Values that a band takes: those of one week."""
_DEVIATIONS = 3.0
_NORMAL = 1.4826  # standard deviation over median absolute deviation, of the normal distribution
_MIN_WIDTH = 0.05  # of a band on either side, as a share of its middle


class Band(NamedTuple):
    """Bounds of what is usual."""

    low: float
    high: float


def usual_band(values: Mapping[int, float], hours: Iterable[int]) -> Band | None:
    """Return the usual band of some hours, ``None`` before a week was seen.

    Args:
        values: a value for each hour that has one, by its number since the epoch.
        hours: numbers of the hours that one value covers.
    """
    places = {
        hour - week * WEEK_HOURS + near
        for hour in hours for week in range(1, WEEKS + 1) for near in (-1, 0, 1)
    }  # fmt: skip
    past = [values[place] for place in places if place in values]
    if len(past) < MIN_VALUES:
        return None
    middle = statistics.median(past)
    spread = _NORMAL * statistics.median([abs(value - middle) for value in past])
    reach = max(_DEVIATIONS * spread, _MIN_WIDTH * middle)
    return Band(max(0.0, middle - reach), middle + reach)
