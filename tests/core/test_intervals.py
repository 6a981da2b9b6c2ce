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
    assert wilson_interval(count, total) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_holds_the_true_share_in_about_19_of_20_experiments() -> None:
    draw, covered = random.Random(1).random, 0
    for _ in range(1000):
        count = sum(draw() < 0.1 for _ in range(50))
        low, high = wilson_interval(count, 50)
        covered += low <= 0.1 <= high
    assert 930 < covered < 990
