"""Two windows side by side: only what chance does not explain is a change."""

from __future__ import annotations

import math
import random

import pytest

from flask_knitperf.analysis.endpoints import endpoints
from flask_knitperf.analysis.regression import compare

from .tables import LIMITS, Mill


def times(middle: float, number: int, seed: int) -> list[float]:
    chance = random.Random(seed)
    return [chance.lognormvariate(0, 0.3) * middle for _ in range(number)]


def changes(now: dict[str, list[float]], before: dict[str, list[float]]) -> dict[str, str]:
    rows = []
    for window in (now, before):
        mill = Mill()
        for name, numbers in window.items():
            mill.requests(name, numbers)
        rows.append(endpoints(mill.readings, LIMITS))
    return {row.endpoint: row.change for row in compare(*rows)}


@pytest.mark.parametrize(
    ("now", "before", "number", "change"),
    [
        (30, 20, 300, "slower"), (20, 30, 300, "faster"), (20, 20, 20_000, "same"),
        (20.6, 20, 20_000, "same"), (20, 20, 100, "too few"), (22, 20, 100, "too few"),
    ],
)  # fmt: skip
def test_a_change_and_that_there_is_none_are_both_shown_by_requests(
    now: float, before: float, number: int, change: str
) -> None:
    assert changes({"e": times(now, number, 1)}, {"e": times(before, number, 2)}) == {"e": change}


def test_a_change_that_chance_may_explain_is_not_called_the_same() -> None:
    slow = [900.0] * 2
    assert changes({"e": [1.0] * 28 + slow}, {"e": [1.0] * 30}) == {"e": "too few"}
    assert changes({"e": [1.0] * 300}, {"e": [1.0] * 300}) == {"e": "same"}


def test_among_many_endpoints_a_change_takes_more_evidence() -> None:
    slow, fine = [1.0] * 91 + [9.0] * 9, [1.0] * 97 + [9.0] * 3
    assert changes({"e": slow + slow}, {"e": fine + fine})["e"] == "slower"
    others = {f"other{number}": [1.0] * 300 for number in range(60)}
    lines = changes({"e": slow + slow, **others}, {"e": fine + fine, **others})
    assert lines.pop("e") == "too few" and set(lines.values()) == {"same"}


@pytest.mark.slow
def test_the_interval_has_the_true_ratio_in_nearly_all_cases() -> None:
    outside = unknown = 0
    for seed in range(300):
        mill_now, mill_before = Mill(), Mill()
        mill_now.requests("e", times(24, 600, seed))
        mill_before.requests("e", times(20, 400, seed + 5000))
        rows = [endpoints(mill.readings, LIMITS) for mill in (mill_now, mill_before)]
        [row] = compare(*rows)
        low, high = row.interval
        unknown += low is None or high is None
        outside += not (low or 0) <= 1.2 <= (high or math.inf)
    assert outside <= 15 and unknown == 0


def test_few_requests_decide_nothing() -> None:
    assert changes({"e": [900.0] * 19}, {"e": [1.0] * 500}) == {"e": "too few"}


def test_endpoints_that_came_and_went_are_named_slower_ones_first() -> None:
    lines = changes(
        {"new": [1.0] * 30, "slow": [9.0] * 30}, {"gone": [1.0] * 30, "slow": [1.0] * 30}
    )
    assert list(lines.items()) == [("slow", "slower"), ("new", "new"), ("gone", "gone")]


@pytest.mark.slow
def test_equal_windows_are_hardly_ever_called_different() -> None:
    wrong = 0
    for seed in range(200):
        lines = changes({"e": times(20, 200, seed)}, {"e": times(20, 200, seed + 1000)})
        wrong += lines["e"] not in {"same", "too few"}
    assert wrong <= 16
