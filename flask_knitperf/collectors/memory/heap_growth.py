"""Growth of one heap of a worker: its low-water marks, and the trend in them.

Sources: the Mann-Kendall test and the Theil-Sen slope of :mod:`...core.trends`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...core.trends import rises, theil_sen
from ..requests.endpoint_series import EndpointKey

MAX_READINGS = 120
"""Length of a series."""
MIN_INTERVAL_S = 0.25
"""Length of an interval of a new series."""
MAX_INTERVAL_S = 64.0
"""Length to which the intervals grow."""
MIN_READINGS_FOR_SUSPICION = 6
"""Number of readings below which there is no trend."""
MIN_READINGS = 12
"""Number of readings below which no growth is reported."""
MIN_REQUESTS = 1_000
"""Number of requests in the judged part below which there is no trend."""
MIN_GROWTH_BYTES = 512 * 1024
"""Growth below which nothing is reported."""
MIN_LATE_SLOPE_SHARE = 0.5
"""Share of the overall slope that the last half must have: a cache that fills up slows down."""
ALPHA = 0.01
"""Significance level of growth (Mann-Kendall)."""
SUSPICION_ALPHA = 0.1
"""Significance level above which it is not worth measuring requests."""


class Reading(NamedTuple):
    """Allocated bytes of one heap at one moment.

    Attributes:
        seconds: monotonic time.
        requests: number of requests served so far.
        used: bytes in use.
        counts: number of requests served so far, by endpoint and method.
    """

    seconds: float
    requests: int
    used: int
    counts: Mapping[EndpointKey, int]


class Trend(NamedTuple):
    """Growth of one heap over the judged part of its series.

    Attributes:
        grown: bytes, by the Theil-Sen slope.
        grown_low: bytes, by the lower end of the slope's confidence interval.
        grown_high: bytes, by its upper end.
        requests: number of requests served meanwhile.
        seconds: length of the judged part.
        p_value: probability of such a rise by chance (Mann-Kendall).
        lasting: whether the last half still grows.
        readings: number of readings.
    """

    grown: float
    grown_low: float
    grown_high: float
    requests: int
    seconds: float
    p_value: float
    lasting: bool
    readings: int = MIN_READINGS

    @property
    def sufficient(self) -> bool:
        """Whether there are enough readings for a verdict."""
        return self.readings >= MIN_READINGS

    @property
    def suspicious(self) -> bool:
        """Whether growth is likely enough to measure requests; few readings cannot show if it lasts."""
        likely = self.p_value < SUSPICION_ALPHA and self.grown > MIN_GROWTH_BYTES / 4
        return likely and (self.lasting or not self.sufficient)

    @property
    def certain(self) -> bool:
        """Whether memory grows."""
        significant = self.p_value < ALPHA and self.grown_low > 0
        enough = self.sufficient and self.grown > MIN_GROWTH_BYTES
        return enough and self.lasting and significant


class Series:
    """Low-water marks of one heap, thinned so that they span a worker's life."""

    def __init__(self) -> None:
        self.readings: deque[Reading] = deque(maxlen=MAX_READINGS)
        self.interval = MIN_INTERVAL_S
        self._lowest: Reading | None = None
        self._interval_start = 0.0

    def add(self, reading: Reading) -> bool:
        """Add a reading; return whether it completed an interval."""
        if self._lowest is None:
            self._interval_start = reading.seconds
        if self._lowest is None or reading.used <= self._lowest.used:
            self._lowest = reading
        if reading.seconds - self._interval_start < self.interval:
            return False
        if self.readings and reading.requests == self.readings[-1].requests:
            return False  # an idle worker's memory carries no information on its requests
        self.readings.append(self._lowest)
        self._lowest = None
        if len(self.readings) == MAX_READINGS and self.interval * 2 <= MAX_INTERVAL_S:
            self._thin()
        return True

    def _thin(self) -> None:
        """Keep the lower reading of each two, and double the interval."""
        readings = list(self.readings)
        self.readings = deque(
            (min(readings[i : i + 2], key=lambda r: r.used) for i in range(0, MAX_READINGS, 2)),
            maxlen=MAX_READINGS,
        )
        self.interval *= 2

    def judged(self) -> list[Reading]:
        """Return the judged part: all but the first third, in which a worker warms up."""
        readings = list(self.readings)
        return readings[len(readings) // 3 :]


def trend(readings: Sequence[Reading]) -> Trend | None:
    """Return the growth of one heap, ``None`` where there are too few readings or requests."""
    if len(readings) < MIN_READINGS_FOR_SUSPICION:
        return None
    served = readings[-1].requests - readings[0].requests
    if served < MIN_REQUESTS:
        return None
    x, y = [r.requests for r in readings], [r.used for r in readings]
    slope, half = theil_sen(x, y), len(readings) // 2
    if slope is None:
        return None
    late = theil_sen(x[half:], y[half:], 0.8)
    steady = MIN_LATE_SLOPE_SHARE * slope.middle
    lasting = late is not None and late.low > 0 and late.middle >= steady
    seconds = readings[-1].seconds - readings[0].seconds
    low, middle, high = (bytes_per_request * served for bytes_per_request in slope)
    return Trend(middle, low, high, served, seconds, rises(y), lasting, len(readings))
