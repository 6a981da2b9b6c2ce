"""Does something grow, how fast, and because of what: three estimators that single peaks do not move.

*How fast* is the median of the slopes between all pairs of points (Theil-Sen), with the interval that
Sen read from Kendall's statistic. *Whether at all* is Kendall's statistic itself (the Mann-Kendall
test): how many pairs rise. Neither asks how noise is distributed, and up to 29 % of the points may lie
anywhere. *Because of what* is least squares whose weights cannot be negative: a request takes memory
or takes none, but its kind does not give back what others took.

Sources: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat.
Assoc. 63 (1968); M. G. Kendall, "Rank correlation methods" (1955); C. L. Lawson and R. J. Hanson,
"Solving least squares problems" (1974), chapter 23.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Slope(NamedTuple):
    """How much ``y`` grows per unit of ``x``: the estimate, and the ends of its interval."""

    low: float
    middle: float
    high: float


def theil_sen(
    x: Sequence[float], y: Sequence[float], confidence: float = 0.99, *, bounded: bool = False
) -> Slope | None:
    """Return the median slope between all pairs of points, and its interval.

    Args:
        x: where, in any order; pairs at one place are left out.
        y: how much, one value for each ``x``.
        confidence: of the interval, 0 to 1.
        bounded: where there are so few points that the interval has no ends, take the smallest and the
            largest slope for them; they are infinite otherwise.

    Returns:
        ``None`` where no two points lie at different places.
    """
    places, values = np.asarray(x, float), np.asarray(y, float)
    one, other = np.triu_indices(len(places), 1)
    run = places[other] - places[one]
    apart = run != 0
    if not apart.any():
        return None
    slopes = np.sort((values[other] - values[one])[apart] / run[apart])
    count, n = len(slopes), len(places)
    quantile = NormalDist().inv_cdf(0.5 + confidence / 2)
    reach = quantile * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    first, last = math.floor((count - reach) / 2) - 1, math.ceil((count + reach) / 2)
    least, most = (float(slopes[0]), float(slopes[-1])) if bounded else (-math.inf, math.inf)
    return Slope(
        float(slopes[first]) if first >= 0 else least,
        float(np.median(slopes)),
        float(slopes[last]) if last < count else most,
    )


def rises(y: Sequence[float]) -> float:
    """Return how likely values would rise this much by chance, 0 to 1 (Mann-Kendall, one-sided).

    Args:
        y: values in their order in time; ties are allowed for.
    """
    values = np.asarray(y, float)
    n = len(values)
    if n < 3:
        return 1.0
    one, other = np.triu_indices(n, 1)
    rise = int(np.sign(values[other] - values[one]).sum())
    _, ties = np.unique(values, return_counts=True)
    spread = n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())
    if spread <= 0 or rise <= 0:
        return 1.0
    return 1 - NormalDist().cdf((rise - 1) / math.sqrt(spread / 18))


def nnls(a: Floats, b: Floats) -> Floats:
    """Return the ``x`` of no negative weight for which ``a @ x`` is nearest to ``b``.

    Args:
        a: one row for each observation, one column for each weight; (n, k).
        b: what was observed; (n,).

    Returns:
        The weights; (k,). Where columns depend on one another it is one solution of several.
    """
    columns = a.shape[1]
    weights = np.zeros(columns)
    chosen = np.zeros(columns, bool)
    tolerance = 1e-10 * float(np.abs(a).sum() or 1.0) * float(np.abs(b).max(initial=1.0))
    for _ in range(3 * columns):
        pull = a.T @ (b - a @ weights)
        pull[chosen] = -np.inf
        if chosen.all() or pull.max() <= tolerance:
            break
        chosen[int(pull.argmax())] = True
        weights = _within(a, b, weights, chosen)
    return weights


def _within(a: Floats, b: Floats, weights: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    """Return the best weights of the chosen columns, dropping those that would be negative."""
    while True:
        wanted = np.zeros_like(weights)
        wanted[chosen] = np.linalg.lstsq(a[:, chosen], b, rcond=None)[0]
        below = chosen & (wanted <= 0)
        if not below.any():
            return wanted
        room = weights[below] - wanted[below]
        step = float((weights[below] / np.where(room > 0, room, 1.0)).min())
        weights = weights + step * (wanted - weights)
        chosen &= weights > 1e-12 * float(np.abs(weights).max(initial=1.0))
        weights[~chosen] = 0.0
