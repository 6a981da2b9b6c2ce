"""Growth is steady if low-water marks rise over the whole run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.experiments.leakhunt.growth import (
    NO_GROWTH,
    estimate_growth,
    grows_in_each_third,
    low_water_marks,
    may_grow,
)

RUN = range(400)


def test_a_constant_amount_per_request_is_steady_growth_with_an_exact_slope() -> None:
    growth = estimate_growth([(at, 5_000.0 + 120 * at) for at in RUN], 64)
    assert growth.steady
    assert growth.per_request == growth.low == growth.high == 120
    assert growth.grown_blocks == growth.blocks == 12


ALIKE = {
    "flat": lambda at: 5_000.0,
    "noise": lambda at: 5_000.0 + 977 * at % 1_000,
    "a cache that is full after half of the run": lambda at: 800.0 * min(at, 200),
    "a cache that is full after three quarters": lambda at: 800.0 * min(at, 300),
    "a cache that is full at once": lambda at: 800.0 * min(at, 20),
    "a step in the middle": lambda at: 90_000.0 * (at > 200),
    "a step at the end": lambda at: 90_000.0 * (at > 390),
    "below the floor": lambda at: 20.0 * at,
    "it shrinks": lambda at: 1e6 - 500 * at,
    "it slows down": lambda at: 2e5 * (1 - 0.98**at),
    **{
        f"a batch of {size}": lambda at, size=size: 900.0 * (at % size) for size in range(2, 200, 3)
    },
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_series_that_does_not_grow_over_the_whole_run_is_not_steady(name: str) -> None:
    assert not estimate_growth([(at, ALIKE[name](at)) for at in RUN], 64).steady


@pytest.mark.parametrize("every", [3, 7, 12, 25])
def test_a_batch_that_is_sampled_rarely_does_not_grow(every: int) -> None:
    samples = [(at, 900.0 * (at % 12)) for at in RUN if at % every == 0]
    assert not estimate_growth(samples, 64).steady


@pytest.mark.parametrize("size", [2, 12, 40, 100])
def test_a_leak_below_a_batch_has_its_slope(size: int) -> None:
    growth = estimate_growth([(at, 200.0 * at + 900 * (at % size)) for at in RUN], 64)
    assert growth.steady
    assert growth.per_request == pytest.approx(200, rel=0.2)


def test_a_buffer_with_an_eighth_of_spare_capacity_grows() -> None:
    samples, capacity = [], 0.0
    for at in RUN:
        if 2_000 * (at + 240) > capacity:
            capacity = 2_000 * (at + 240) * 1.125
        samples.append((at, capacity))
    growth = estimate_growth(samples, 64)
    assert growth.steady
    assert growth.per_request == pytest.approx(2_250, rel=0.3)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.integers(4, 13))
def test_marks_never_fall_and_never_exceed_the_samples(values: list[float], count: int) -> None:
    marks = low_water_marks(list(enumerate(values)), count)
    heights = [height for _, height in marks]
    assert heights == sorted(heights)
    assert all(height <= values[int(at)] for at, height in marks)


@given(st.lists(st.floats(0, 1e9), max_size=60))
def test_the_slope_lies_in_its_interval(values: list[float]) -> None:
    growth = estimate_growth(list(enumerate(values)), 64)
    assert growth.low <= growth.per_request <= growth.high


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_too_few_samples_have_no_growth(values: list[float]) -> None:
    assert estimate_growth(list(enumerate(values)), 64) == NO_GROWTH


def test_samples_of_a_single_request_have_no_growth() -> None:
    assert estimate_growth([(3, 1.0)] * 30, 64) == NO_GROWTH


@pytest.mark.parametrize(
    ("heights", "grows"),
    [
        ([0, 1, 2, 3, 4, 5, 6], True),
        ([0, 0, 5, 5, 9, 9, 16], True),
        ([0, 5, 9, 9, 9, 9, 9], False),
        ([0, 0, 0, 0, 0, 5, 9], False),
        ([0, 0, 0, 0, 0, 0, 0], False),
    ],
)
def test_growth_in_each_third_may_be_stepwise(heights: list[float], grows: bool) -> None:
    assert grows_in_each_third(list(enumerate(heights))) is grows


def test_a_longer_run_is_not_worthwhile_if_the_second_half_is_flat() -> None:
    assert not may_grow([(at, 100.0 * min(at, 60)) for at in range(200)], 64)
    assert may_grow([(at, 100.0 * min(at, 160)) for at in range(200)], 64)
