"""How an endpoint's time grows with the rows it works on: time = a + b · rows^k.

Requests are told apart by their rows, in classes half a power of two wide, and each class counts by
its median, so that a few odd requests bend nothing. For every exponent of a fine grid, a and b (neither
below zero) are the best ones by weighted least squares of relative errors; outlying classes lose weight
(Huber's, in five rounds). The exponent with the least error is taken. Its interval is twice the
standard error of the jackknife (Efron 1982: each class is left out in turn) to either side, so it is
wide where one class decides.

A law is told only where it is one: enough classes over a wide enough range, a narrow interval, and
growth that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..metrics.histogram import Histogram

MS = 1e6
STEP = 0.05
EXPONENTS = np.arange(STEP, 3.5001, STEP)
CLASSES, RANGE, REQUESTS, IN_A_CLASS = 4, 8.0, 20, 3
"""Least number of classes, ratio of rows, requests altogether, and in a class that counts."""
WIDEST = 0.8
GROWS = 2.0
"""What time must grow by over the range that was seen."""
FAR = 100.0
"""How far beyond the rows that were seen a law is believed."""
SERVER_MS = 30_000.0
"""When servers usually give up."""
_HUBER = 1.345
_ROUNDS = 5

Floats = npt.NDArray[np.float64]


class Size(NamedTuple):
    """Requests of one class of rows.

    Attributes:
        rows: the mean of it.
        requests: how long they took, in nanoseconds.
    """

    rows: float
    requests: Histogram


class Passing(NamedTuple):
    """A time that is exceeded, and the rows from which on it is."""

    ms: float
    rows: float


@dataclass(frozen=True, slots=True)
class Law:
    """time = ``a_ms`` + ``b`` · rows^``k`` in milliseconds.

    Attributes:
        k: the exponent.
        low: least exponent of its interval.
        high: greatest one.
        a_ms: time that does not depend on the rows.
        b: milliseconds of a request with one row.
        least: fewest rows that were seen, as the mean of their class.
        most: most rows, likewise.
        count: requests.
    """

    k: float
    low: float
    high: float
    a_ms: float
    b: float
    least: float
    most: float
    count: int

    def ms(self, rows: float) -> float:
        """Return how long a request with so many rows takes, in milliseconds."""
        return float(self.a_ms + self.b * rows**self.k)

    def passes(self, ms: float) -> float | None:
        """Return the rows at which a time is passed, ``None`` where that is beyond belief."""
        if ms <= self.a_ms or self.b <= 0:
            return None
        rows = float(((ms - self.a_ms) / self.b) ** (1 / self.k))
        return rows if self.most < rows <= FAR * self.most else None

    def next_passed(self, limit_ms: float) -> Passing | None:
        """Return where the endpoint's threshold is exceeded, else where servers give up.

        Args:
            limit_ms: the endpoint's threshold.
        """
        for ms in (limit_ms, SERVER_MS):
            if (rows := self.passes(ms)) is not None:
                return Passing(ms, rows)
        return None


def law(sizes: Sequence[Size]) -> Law | None:
    """Return the law that requests of different sizes follow, ``None`` where they show none."""
    good = sorted(size for size in sizes if size.requests.count >= IN_A_CLASS and size.rows > 0)
    count = sum(size.requests.count for size in good)
    if len(good) < CLASSES or count < REQUESTS or good[-1].rows < RANGE * good[0].rows:
        return None
    rows = np.array([size.rows for size in good])
    took = np.array([(size.requests.quantile(0.5) or 0.0) / MS for size in good])
    if (took <= 0).any():
        return None
    weight = np.sqrt([size.requests.count for size in good])
    # the first row keeps every class, each further one leaves one out
    kept = np.vstack([np.ones(len(good)), 1.0 - np.eye(len(good))])
    exponents, a, b = _fit(rows, took, weight * kept)
    k, others = float(exponents[0]), exponents[1:]
    off = 2 * float(np.sqrt((len(good) - 1) * others.var())) + STEP / 2
    low, high = max(0.0, k - off), k + off
    found = Law(k, low, high, a, b, good[0].rows, good[-1].rows, count)
    grown = found.ms(found.most) / max(found.ms(found.least), 1e-9)
    if high - low > WIDEST or grown < GROWS or k >= EXPONENTS[-1]:
        return None
    return found


def _fit(rows: Floats, took: Floats, weights: Floats) -> tuple[Floats, float, float]:
    """Return the exponent with the least relative error for each row of weights; a and b of the first.

    Everything is tried at once: by row of weights, by exponent, by class.
    """
    scale = rows.max()
    grown = (rows / scale) ** EXPONENTS[:, None] / took
    one = np.broadcast_to(1 / took, grown.shape)
    given = weights[:, None, :]
    left = np.broadcast_to(given, (len(weights), *grown.shape))
    middle = ((weights > 0).sum(axis=1)[:, None, None] - 1) // 2
    a = b = np.zeros(())
    off = grown
    for _ in range(_ROUNDS):
        a, b = _solve(grown, one, left)
        off = np.abs(a * one + b * grown - 1)
        ordered = np.sort(np.where(given > 0, off, np.inf), axis=-1)
        spread = np.maximum(1.4826 * np.take_along_axis(ordered, middle, -1), 1e-9)
        left = given * np.minimum(1.0, _HUBER * spread / np.maximum(off, 1e-12))
    best = (given * np.minimum(off, 1.0)).sum(axis=-1).argmin(axis=1)
    exponents = EXPONENTS[best]
    first = int(best[0])
    return exponents, float(a[0, first, 0]), float(b[0, first, 0] / scale ** exponents[0])


def _solve(grown: Floats, one: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return a and b, neither below zero, of the least squares of a · one + b · grown = 1."""

    def summed(values: Floats) -> Floats:
        return np.asarray((weight * values).sum(axis=-1, keepdims=True))

    oo, og, gg = summed(one * one), summed(one * grown), summed(grown * grown)
    o, g = summed(one), summed(grown)
    det = oo * gg - og * og
    sure = det > 1e-12 * oo * gg
    safe = np.where(sure, det, 1.0)
    a, b = (o * gg - g * og) / safe, (g * oo - o * og) / safe
    only_a, only_b = o / oo, g / gg
    constant = summed((only_a * one - 1) ** 2) < summed((only_b * grown - 1) ** 2)
    both = sure & (a >= 0) & (b >= 0)
    a = np.where(both, a, np.where(constant, only_a, 0.0))
    return a, np.where(both, b, np.where(constant, 0.0, only_b))
