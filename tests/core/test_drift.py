"""A drift is a slow change of daily values, at about the same load."""

from __future__ import annotations

import random

import pytest

from flask_knitperf.core.drift import drift

DAYS = list(range(30))


def values(per_day: float, noise: float = 0.02, seed: int = 1) -> list[float]:
    generator = random.Random(seed)
    return [100 * (1 + per_day * day) * generator.gauss(1, noise) for day in DAYS]


@pytest.mark.parametrize("per_day", [0.01, -0.01])
def test_a_slow_change_has_its_slope(per_day: float) -> None:
    slow = drift(DAYS, values(per_day), [500] * 30)
    assert slow is not None and slow.days == 30
    assert slow.per_week == pytest.approx(7 * per_day, rel=0.25)
    assert slow.change == pytest.approx(29 * per_day, rel=0.25)


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_spikes_are_no_drift(seed: int) -> None:
    generator = random.Random(seed)
    noisy = [value * (3 if generator.random() < 0.1 else 1) for value in values(0.0, 0.08, seed)]
    assert drift(DAYS, noisy, [500] * 30) is None


def test_a_change_that_comes_with_the_load_is_no_drift() -> None:
    loads = [500 if day < 15 else 5000 for day in DAYS]
    grown = [100.0 if day < 15 else 200.0 for day in DAYS]
    assert drift(DAYS, grown, loads) is None


def test_fewer_than_fourteen_days_and_a_small_change_have_none() -> None:
    assert drift(DAYS[:13], values(0.05)[:13], [500] * 13) is None
    assert drift(DAYS, values(0.002, 0.0), [500] * 30) is None
    assert drift([], [], []) is None
    assert drift(DAYS, [0.0] * 30, [500] * 30) is None
    assert drift([3] * 20, [1.0] * 20, [500] * 20) is None
