"""Scaling law of an endpoint: growth of its time with the rows it works on, time = a + b · rows^k.

Requests are grouped by rows in classes half a power of two wide, and each class counts by its median, so
that single outliers do not bend the curve. For every exponent of a fine grid, a and b (both at least
zero) minimise the weighted squares of the relative errors; outlying classes lose weight (Huber's, in
five rounds). The exponent with the smallest error is chosen. Its interval is twice the standard error of
the jackknife (Efron 1982: each class is left out in turn) to either side, so it is wide where one class
decides.

A law is reported only with enough classes over a wide enough range, a narrow interval, and growth that
matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.clock import NS_PER_MS
from ..metrics.readings.rows import SizeReading

EXPONENT_STEP = 0.05
EXPONENTS = np.arange(EXPONENT_STEP, 3.5001, EXPONENT_STEP)
MIN_CLASSES = 4
MIN_ROWS_RATIO = 8.0
"""Ratio of the most rows to the fewest."""
MIN_REQUESTS = 20
MIN_CLASS_REQUESTS = 3
"""Requests below which a class does not count."""
MAX_INTERVAL = 0.8
"""Width of the exponent's interval above which no law is reported."""
MIN_GROWTH = 2.0
"""Growth of the time over the observed range below which no law is reported."""
MAX_EXTRAPOLATION = 100.0
"""Largest multiple of the observed rows to which a law is extrapolated."""
SERVER_TIMEOUT_MS = 30_000.0
"""Common timeout of servers and proxies."""
_HUBER = 1.345  # standard deviations within which a class keeps its weight
_HUBER_ROUNDS = 5
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution

Floats = npt.NDArray[np.float64]


class Crossing(NamedTuple):
    """A time limit, and the number of rows at which it is exceeded."""

    ms: float
    rows: float


@dataclass(frozen=True, slots=True)
class ScalingLaw:
    """time = ``a_ms`` + ``b`` · rows^``k`` in milliseconds.

    Attributes:
        k: exponent.
        low: lower bound of the exponent's interval.
        high: upper bound of the exponent's interval.
        a_ms: time that does not depend on the rows.
        b: milliseconds per row^k.
        min_rows: fewest observed rows, as the mean of their class.
        max_rows: most observed rows, as the mean of their class.
        count: number of requests.
    """

    k: float
    low: float
    high: float
    a_ms: float
    b: float
    min_rows: float
    max_rows: float
    count: int

    def ms(self, rows: float) -> float:
        """Return the milliseconds of a request with a number of rows."""
        return float(self.a_ms + self.b * rows**self.k)

    def rows_at(self, ms: float) -> float | None:
        """Return the rows at which a time is exceeded.

        Returns:
            ``None`` where the observed rows exceed it already, or beyond ``MAX_EXTRAPOLATION``.
        """
        if ms <= self.a_ms or self.b <= 0:
            return None
        rows = float(((ms - self.a_ms) / self.b) ** (1 / self.k))
        return rows if self.max_rows < rows <= MAX_EXTRAPOLATION * self.max_rows else None

    def next_crossing(self, limit_ms: float) -> Crossing | None:
        """Return the rows at which the threshold is exceeded, else those at which servers time out.

        Args:
            limit_ms: the endpoint's threshold.
        """
        for ms in (limit_ms, SERVER_TIMEOUT_MS):
            if (rows := self.rows_at(ms)) is not None:
                return Crossing(ms, rows)
        return None


def scaling_law(sizes: Sequence[SizeReading]) -> ScalingLaw | None:
    """Return the law that requests of different sizes follow, ``None`` where they follow none."""
    classes = sorted(
        (s for s in sizes if s.requests.count >= MIN_CLASS_REQUESTS and s.rows > 0),
        key=lambda size: size.rows,
    )
    count = sum(size.requests.count for size in classes)
    if len(classes) < MIN_CLASSES or count < MIN_REQUESTS:
        return None
    rows = np.array([size.rows for size in classes])
    median_ms = np.array([(size.requests.quantile(0.5) or 0.0) / NS_PER_MS for size in classes])
    if rows[-1] < MIN_ROWS_RATIO * rows[0] or (median_ms <= 0).any():
        return None
    weight = np.sqrt([size.requests.count for size in classes])
    # the first row keeps every class, each further row leaves one out
    kept = np.vstack([np.ones(len(classes)), 1.0 - np.eye(len(classes))])
    exponents, a, b = _fit(rows, median_ms, weight * kept)
    k, jackknife = float(exponents[0]), exponents[1:]
    margin = 2 * float(np.sqrt((len(classes) - 1) * jackknife.var())) + EXPONENT_STEP / 2
    low, high = max(0.0, k - margin), k + margin
    law = ScalingLaw(k, low, high, a, b, float(rows[0]), float(rows[-1]), count)
    growth = law.ms(law.max_rows) / max(law.ms(law.min_rows), 1e-9)
    if high - low > MAX_INTERVAL or growth < MIN_GROWTH or k >= EXPONENTS[-1]:
        return None
    return law


def _fit(rows: Floats, times: Floats, weights: Floats) -> tuple[Floats, float, float]:
    """Fit the curve for each row of weights, all exponents at once.

    Returns:
        The exponent with the smallest relative error for each row of weights; a and b of the first.
    """
    scale = rows.max()
    power = (rows / scale) ** EXPONENTS[:, None] / times  # relative to the observed time
    constant = np.broadcast_to(1 / times, power.shape)
    weight = weights[:, None, :]
    robust = np.broadcast_to(weight, (len(weights), *power.shape))
    median = ((weights > 0).sum(axis=1)[:, None, None] - 1) // 2
    a = b = np.zeros(())
    error = power
    for _ in range(_HUBER_ROUNDS):
        a, b = _least_squares(power, constant, robust)
        error = np.abs(a * constant + b * power - 1)
        ordered = np.sort(np.where(weight > 0, error, np.inf), axis=-1)
        deviation = np.maximum(
            _MAD_TO_DEVIATION * np.take_along_axis(ordered, median, -1), 1e-9
        )  # fmt: skip
        robust = weight * np.minimum(1.0, _HUBER * deviation / np.maximum(error, 1e-12))
    best = (weight * np.minimum(error, 1.0)).sum(axis=-1).argmin(axis=1)
    exponents = EXPONENTS[best]
    first = int(best[0])
    return exponents, float(a[0, first, 0]), float(b[0, first, 0] / scale ** exponents[0])


def _least_squares(power: Floats, constant: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return a and b, both at least zero, that minimise (a · constant + b · power - 1)²."""

    def summed(values: Floats) -> Floats:
        return np.asarray((weight * values).sum(axis=-1, keepdims=True))

    cc, cp, pp = summed(constant * constant), summed(constant * power), summed(power * power)
    c, p = summed(constant), summed(power)
    determinant = cc * pp - cp * cp
    regular = determinant > 1e-12 * cc * pp
    divisor = np.where(regular, determinant, 1.0)
    a, b = (c * pp - p * cp) / divisor, (p * cc - c * cp) / divisor
    only_a, only_b = c / cc, p / pp
    flat = summed((only_a * constant - 1) ** 2) < summed((only_b * power - 1) ** 2)
    both = regular & (a >= 0) & (b >= 0)
    a = np.where(both, a, np.where(flat, only_a, 0.0))
    return a, np.where(both, b, np.where(flat, 0.0, only_b))
