"""Confidence intervals of shares."""

from __future__ import annotations

import math

_Z = 1.959964  # 97.5 % quantile of the normal distribution


def wilson_interval(share: float, total: float) -> tuple[float, float]:
    """Return the bounds of the 95 % confidence interval of a share, 0 to 1.

    It holds for few trials too, and for shares near 0 and 1 (Wilson, "Probable Inference, the Law of
    Succession, and Statistical Inference", 1927).

    Args:
        share: observed, 0 to 1.
        total: number of independent trials; without any the interval is 0 to 1.
    """
    if not total:
        return 0.0, 1.0
    square = _Z * _Z / total
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
