"""What counts as growth: levels that are never left again, over the whole run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.experiments.leakhunt.growth import (
    FLAT,
    in_each_third,
    judge,
    low_water,
    may_grow,
)

RUN = range(400)


def test_a_constant_amount_per_request_is_growth_and_its_slope_is_exact() -> None:
    found = judge([(at, 5_000.0 + 120 * at) for at in RUN], 64)
    assert found.steady
    assert found.per_request == found.low == found.high == 120
    assert found.grew == found.blocks == 12


ALIKE = {
    "flat": lambda at: 5_000.0,
    "noise": lambda at: 5_000.0 + 977 * at % 1_000,
    "a cache that is full after half of the run": lambda at: 800.0 * min(at, 200),
    "a cache that is full after three quarters": lambda at: 800.0 * min(at, 300),
    "a cache that was full at once": lambda at: 800.0 * min(at, 20),
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
def test_what_only_seems_to_grow_is_none(name: str) -> None:
    assert not judge([(at, ALIKE[name](at)) for at in RUN], 64).steady


@pytest.mark.parametrize("every", [3, 7, 12, 25])
def test_a_batch_that_is_seen_only_now_and_then_is_no_growth(every: int) -> None:
    seen = [(at, 900.0 * (at % 12)) for at in RUN if at % every == 0]
    assert not judge(seen, 64).steady


@pytest.mark.parametrize("size", [2, 12, 40, 100])
def test_a_leak_below_a_batch_is_found_with_its_own_slope(size: int) -> None:
    found = judge([(at, 200.0 * at + 900 * (at % size)) for at in RUN], 64)
    assert found.steady
    assert found.per_request == pytest.approx(200, rel=0.2)


def test_a_buffer_that_takes_an_eighth_more_than_it_needs_is_growth() -> None:
    samples, held = [], 0.0
    for at in RUN:
        if 2_000 * (at + 240) > held:
            held = 2_000 * (at + 240) * 1.125
        samples.append((at, held))
    found = judge(samples, 64)
    assert found.steady
    assert found.per_request == pytest.approx(2_250, rel=0.3)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.integers(4, 13))
def test_low_water_never_falls_and_is_never_above_what_was_seen(
    values: list[float], marks: int
) -> None:
    levels = low_water(list(enumerate(values)), marks)
    heights = [level for _, level in levels]
    assert heights == sorted(heights)
    assert all(level <= values[int(at)] for at, level in levels)


@given(st.lists(st.floats(0, 1e9), max_size=60))
def test_the_slope_lies_in_its_interval(values: list[float]) -> None:
    found = judge(list(enumerate(values)), 64)
    assert found.low <= found.per_request <= found.high


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_too_few_values_prove_nothing(values: list[float]) -> None:
    assert judge(list(enumerate(values)), 64) == FLAT


def test_nothing_was_seen_twice_then_there_is_no_slope() -> None:
    assert judge([(3, 1.0)] * 30, 64) == FLAT


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
def test_growth_in_each_third_may_come_in_steps(heights: list[float], grows: bool) -> None:
    assert in_each_third(list(enumerate(heights))) is grows


def test_a_run_whose_second_half_is_flat_is_not_looked_at_longer() -> None:
    assert not may_grow([(at, 100.0 * min(at, 60)) for at in range(200)], 64)
    assert may_grow([(at, 100.0 * min(at, 160)) for at in range(200)], 64)
