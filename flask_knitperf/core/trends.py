"""Robust estimators of growth: Theil-Sen slope, Mann-Kendall test, non-negative least squares.

The slope is the median of the slopes between all pairs of points, with Sen's confidence interval from
Kendall's statistic; the Mann-Kendall test uses the same statistic, the excess of rising pairs. Neither
assumes a distribution of the noise, and up to 29 % of the points may be outliers. Non-negative least
squares attributes growth to causes that can only add: a request retains memory or none, but it does
not release what other requests retained.

Sources: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat.
Assoc. 63 (1968); M. G. Kendall, "Rank correlation methods" (1955); C. L. Lawson and R. J. Hanson,
"Solving least squares problems" (1974), chapter 23.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Slope(NamedTuple):
    """Growth of ``y`` per unit of ``x``: the estimate and its confidence interval."""

    low: float
    middle: float
    high: float


def theil_sen(
    x: Sequence[float], y: Sequence[float], confidence: float = 0.99, *, bounded: bool = False
) -> Slope | None:
    """Return the median slope between all pairs of points, and its interval.

    Args:
        x: positions in any order; pairs at the same position are skipped.
        y: values, one for each ``x``.
        confidence: level of the interval, 0 to 1.
        bounded: with too few points for an interval, use the smallest and the largest slope as its
            ends; they are infinite otherwise.

    Returns:
        ``None`` where all points lie at the same position.
    """
    places, values = np.asarray(x, float), np.asarray(y, float)
    one, other = np.triu_indices(len(places), 1)
    run = places[other] - places[one]
    apart = run != 0
    if not apart.any():
        return None
    slopes = np.sort((values[other] - values[one])[apart] / run[apart])
    count, n = len(slopes), len(places)
    quantile = _normal_quantile(0.5 + confidence / 2)
    reach = quantile * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    first, last = math.floor((count - reach) / 2) - 1, math.ceil((count + reach) / 2)
    least, most = (float(slopes[0]), float(slopes[-1])) if bounded else (-math.inf, math.inf)
    return Slope(
        float(slopes[first]) if first >= 0 else least,
        float(np.median(slopes)),
        float(slopes[last]) if last < count else most,
    )


def rises(y: Sequence[float]) -> float:
    """Return the one-sided p-value of the Mann-Kendall test for an upward trend.

    Args:
        y: values in order of time; the variance is corrected for ties.
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
    return math.erfc((rise - 1) / math.sqrt(spread / 9)) / 2  # 1 - the normal distribution


def _normal_quantile(share: float) -> float:
    """Return the quantile of the standard normal distribution."""
    from statistics import NormalDist  # not at the start of an application

    return NormalDist().inv_cdf(share)


def nnls(a: Floats, b: Floats) -> Floats:
    """Return the non-negative ``x`` that minimises the norm of ``a @ x - b`` (Lawson-Hanson).

    Args:
        a: one row per observation, one column per weight; (n, k).
        b: observations; (n,).

    Returns:
        The weights; (k,). With linearly dependent columns it is one of several solutions.
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
    """Return the least-squares weights of the chosen columns, dropping those that would be negative."""
    while True:
        target = np.zeros_like(weights)
        target[chosen] = np.linalg.lstsq(a[:, chosen], b, rcond=None)[0]
        below = chosen & (target <= 0)
        if not below.any():
            return target
        room = weights[below] - target[below]
        step = float((weights[below] / np.where(room > 0, room, 1.0)).min())
        weights = weights + step * (target - weights)
        chosen &= weights > 1e-12 * float(np.abs(weights).max(initial=1.0))
        weights[~chosen] = 0.0
