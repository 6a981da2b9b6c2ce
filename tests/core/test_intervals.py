"""Confidence intervals of shares."""

from __future__ import annotations

import random

import pytest

from flask_knitperf.core.intervals import wilson_interval


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (5, 50, 0.0435, 0.2136),
     (1, 2, 0.0945, 0.9055)],
)  # fmt: skip
def test_the_bounds_are_those_of_tables(count: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(count / max(total, 1), total) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("n", [20, 400])
def test_the_interval_contains_the_true_share_in_nineteen_of_twenty_samples(
    share: float, n: int
) -> None:
    draw = random.Random(n).random
    inside = 0
    for _ in range(1000):
        low, high = wilson_interval(sum(draw() < share for _ in range(n)) / n, n)
        inside += low <= share <= high
    assert inside >= 930
