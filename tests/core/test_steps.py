"""A level that changed is a step, noise and single days are none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from flask_knitperf.core.steps import BEFORE, RECENT, latest_step, rank_test, steps

LEVEL = [100.0 + number % 5 for number in range(40)]


def test_a_step_has_its_day_and_both_levels() -> None:
    [step] = steps([*LEVEL, *(120.0 + number % 5 for number in range(20))])
    assert (step.day, step.before, step.after) == (40, 102.0, 121.5)
    assert step.change == pytest.approx(0.191, abs=0.001) and step.p < 1e-5


def test_a_step_down_counts_too() -> None:
    assert [step.change < 0 for step in steps([*LEVEL, *[80.0] * 20])] == [True]


@pytest.mark.parametrize(
    "values",
    [
        LEVEL, [*LEVEL, 500.0, *LEVEL], [*LEVEL, 500.0, 101.0, 500.0, *LEVEL],
        [*LEVEL, *(value * 1.04 for value in LEVEL)], [0.0] * 60, LEVEL[:5],
    ],
    ids=["level", "one high day", "two high days", "four percent", "nothing", "few days"],
)  # fmt: skip
def test_what_is_no_step(values: list[float]) -> None:
    assert steps(values) == []


def test_fewer_days_than_are_compared_have_no_step() -> None:
    days = [100.0] * BEFORE + [200.0] * RECENT
    assert latest_step(days[1:]) is None and latest_step(days) is not None


def test_the_test_of_ranks_is_exact() -> None:
    one, other = [3.0, 5.0, 9.0], [1.0, 2.0, 4.0, 7.0]
    every = [*one, *other]
    sums = [
        sum(sorted(every).index(v) for v in chosen) for chosen in itertools.combinations(every, 3)
    ]
    own = sum(sorted(every).index(value) for value in one)
    middle = np.mean(sums)
    extreme = sum(abs(value - middle) >= abs(own - middle) for value in sums)
    assert rank_test(one, other) == pytest.approx(extreme / len(sums))
    assert rank_test(other, one) == pytest.approx(rank_test(one, other))


def test_equal_values_are_no_difference() -> None:
    assert rank_test([1.0] * 6, [1.0] * 20) == 1.0
