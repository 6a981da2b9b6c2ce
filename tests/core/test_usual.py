"""The usual band of an hour of the week."""

from __future__ import annotations

import random

import pytest

from flask_knitperf.core.usual import WEEK_HOURS, usual_band

NOW = 10 * WEEK_HOURS + 8


def weeks(number: int, value: float = 100.0) -> dict[int, float]:
    """Return a value for each hour of some weeks before now; Monday at eight is ten times as high."""
    return {
        hour: value * (10 if hour % WEEK_HOURS in (7, 8, 9) else 1)
        for hour in range(NOW - number * WEEK_HOURS - 1, NOW)
    }


def test_a_rhythm_of_the_week_is_usual() -> None:
    assert usual_band(weeks(4), [NOW]) == pytest.approx((950, 1050))
    assert usual_band(weeks(4), [NOW + 24]) == pytest.approx((95, 105))


def test_there_is_no_band_before_one_week_was_seen() -> None:
    assert usual_band(dict.fromkeys(range(NOW - 160, NOW), 1.0), [NOW]) is None
    assert usual_band(weeks(1), [NOW]) is not None
    assert usual_band({}, [NOW]) is None


def test_one_bad_week_does_not_widen_it() -> None:
    values = weeks(4)
    for near in (-1, 0, 1):
        values[NOW - 2 * WEEK_HOURS + near] = 50_000.0
    assert usual_band(values, [NOW]) == pytest.approx((950, 1050))


def test_a_value_that_covers_several_hours_has_the_band_of_all() -> None:
    band = usual_band(weeks(4), range(NOW, NOW + 6))
    assert band is not None and band.low == pytest.approx(95)


def test_noise_is_within_the_band_nearly_always() -> None:
    chance = random.Random(1)
    outside = 0
    for _ in range(500):
        values = {hour: chance.gauss(100, 10) for hour in weeks(4)}
        band = usual_band(values, [NOW])
        assert band is not None
        outside += not band.low <= chance.gauss(100, 10) <= band.high
    assert outside <= 25
