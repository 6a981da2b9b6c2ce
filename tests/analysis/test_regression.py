"""Two windows side by side: only what chance does not explain is a change."""

from __future__ import annotations

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
    ("now", "before", "change"),
    [(30, 20, "slower"), (20, 30, "faster"), (20, 20, "same"), (20.2, 20, "same")],
)
def test_a_change_is_reported_when_it_is_significant(
    now: float, before: float, change: str
) -> None:
    assert changes({"e": times(now, 300, 1)}, {"e": times(before, 300, 2)}) == {"e": change}


def test_a_change_that_chance_may_explain_is_not_called_the_same() -> None:
    slow = [900.0] * 2
    assert changes({"e": [1.0] * 28 + slow}, {"e": [1.0] * 30}) == {"e": "within chance"}
    assert changes({"e": [1.0] * 30}, {"e": [1.0] * 30}) == {"e": "same"}


def test_few_requests_decide_nothing() -> None:
    assert changes({"e": [900.0] * 19}, {"e": [1.0] * 500}) == {"e": "too few"}


def test_endpoints_that_came_and_went_are_named_slower_ones_first() -> None:
    lines = changes(
        {"new": [1.0] * 30, "slow": [9.0] * 30}, {"gone": [1.0] * 30, "slow": [1.0] * 30}
    )
    assert list(lines.items()) == [("slow", "slower"), ("new", "new"), ("gone", "gone")]


def test_equal_windows_are_hardly_ever_called_different() -> None:
    wrong = 0
    for seed in range(200):
        lines = changes({"e": times(20, 200, seed)}, {"e": times(20, 200, seed + 1000)})
        wrong += lines["e"] not in {"same", "within chance"}
    assert wrong <= 16
