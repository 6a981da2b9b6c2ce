"""Estimators of growth: robust against noise and outliers."""

from __future__ import annotations

import random
from statistics import median

import numpy as np
import pytest

from flask_knitperf.core.trends import nnls, rises, theil_sen


def test_a_straight_line_has_its_slope() -> None:
    slope = theil_sen(range(20), [3.0 * x + 7 for x in range(20)])
    assert slope is not None
    assert slope.middle == pytest.approx(3)
    assert slope.low == pytest.approx(3) == slope.high


def test_a_quarter_of_outliers_does_not_move_the_slope() -> None:
    rng = random.Random(3)
    values = [2.0 * x for x in range(40)]
    for place in rng.sample(range(40), 10):
        values[place] += rng.uniform(500, 1000)
    slope = theil_sen(range(40), values)
    assert slope is not None
    assert slope.middle == pytest.approx(2, abs=1)


def test_points_at_one_position_have_no_slope() -> None:
    assert theil_sen([5, 5, 5], [1, 2, 3]) is None


def test_with_very_few_points_the_interval_is_infinite() -> None:
    slope = theil_sen([0, 1, 2], [0, 1, 2])
    assert slope is not None
    assert (slope.low, slope.high) == (float("-inf"), float("inf"))


def test_infinite_ends_can_be_bounded_by_the_extreme_slopes() -> None:
    slope = theil_sen([0, 1, 2], [0, 1, 4], bounded=True)
    assert slope is not None
    assert (slope.low, slope.high) == (1, 3)


def test_the_interval_covers_the_true_slope_at_its_confidence_level() -> None:
    rng = random.Random(11)
    inside = 0
    for _ in range(300):
        values = [0.5 * x + rng.gauss(0, 4) for x in range(30)]
        slope = theil_sen(range(30), values, 0.9)
        assert slope is not None
        inside += slope.low <= 0.5 <= slope.high
    assert 0.83 <= inside / 300 <= 0.97


def test_the_slope_is_the_median_of_all_pairs() -> None:
    rng = random.Random(2)
    x = [rng.uniform(0, 9) for _ in range(15)]
    y = [rng.uniform(0, 9) for _ in range(15)]
    pairs = [(y[j] - y[i]) / (x[j] - x[i]) for i in range(15) for j in range(i + 1, 15)]
    slope = theil_sen(x, y)
    assert slope is not None
    assert slope.middle == pytest.approx(median(pairs))


def test_p_values_of_noise_are_uniform() -> None:
    rng = random.Random(5)
    p_values = [rises([rng.random() for _ in range(25)]) for _ in range(600)]
    assert 0.02 <= sum(p < 0.05 for p in p_values) / 600 <= 0.09


def test_a_steady_rise_has_a_tiny_p_value() -> None:
    assert rises(range(30)) < 1e-10


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [4.0] * 20, list(range(20, 0, -1))])
def test_too_few_equal_or_falling_values_do_not_rise(values: list[float]) -> None:
    assert rises(values) == 1.0


def test_nnls_recovers_the_weights_of_exact_observations() -> None:
    rng = np.random.default_rng(4)
    a = rng.poisson(30, (60, 8)).astype(float)
    true = np.array([0, 0, 2048, 0, 0, 512, 0, 0], float)
    assert nnls(a, a @ true) == pytest.approx(true, abs=1e-6)


def test_no_weight_is_negative_where_least_squares_would_have_one() -> None:
    rng = np.random.default_rng(9)
    for _ in range(50):
        a, b = rng.normal(size=(20, 6)), rng.normal(size=20)
        weights = nnls(a, b)
        assert (weights >= 0).all()
        pull = a.T @ (b - a @ weights)  # the conditions of Kuhn and Tucker
        assert (pull[weights > 0] == pytest.approx(0, abs=1e-8)) if (weights > 0).any() else True
        assert pull.max() < 1e-6


def test_a_weight_that_would_become_negative_later_is_dropped_again() -> None:
    rng = np.random.default_rng(14)
    n, k = rng.integers(4, 9), rng.integers(3, 7)
    a, b = rng.integers(0, 9, (n, k)).astype(float), rng.integers(-9, 9, n).astype(float)
    slope = nnls(a, b)
    pull = a.T @ (b - a @ slope)
    assert slope.min() == 0 < slope.max()
    assert pull[slope > 0] == pytest.approx(0, abs=1e-9)
    assert pull.max() < 1e-9


def test_without_columns_there_are_no_weights() -> None:
    assert nnls(np.zeros((5, 0)), np.ones(5)).shape == (0,)


def test_columns_without_anything_get_no_weight() -> None:
    a = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    assert nnls(a, np.array([2.0, 4.0, 6.0])) == pytest.approx([2, 0])


def test_columns_that_are_alike_share_what_one_would_have() -> None:
    column = np.arange(1.0, 9.0)
    a = np.stack([column, column], axis=1)
    slope = nnls(a, 3 * column)
    assert slope.sum() == pytest.approx(3)
