"""Memory levels: ordered, with a threshold each."""

from __future__ import annotations

import pytest

from flask_knitperf.core.memory_levels import CRITICAL, FINE, LEVELS, WARNING, Shares


@pytest.mark.parametrize(
    ("used", "level"),
    [(0, FINE), (85, FINE), (85.1, WARNING), (95, WARNING), (95.1, CRITICAL), (900, CRITICAL)],
)  # fmt: skip
def test_a_level_starts_above_its_share(used: float, level: int) -> None:
    assert Shares(0.85, 0.95).level(used, 100) == level


def test_without_a_limit_the_level_is_fine() -> None:
    assert Shares(0.85, 0.95).level(900, 0) == FINE
    assert Shares(0.85, 0.95).level(900, -1) == FINE


def test_levels_are_ordered_from_fine_to_the_worst() -> None:
    assert (LEVELS[FINE], LEVELS[WARNING], LEVELS[CRITICAL]) == LEVELS
