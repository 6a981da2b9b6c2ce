"""Cost of garbage collection under several settings, for a request that creates cycles."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from flask_knitperf.experiments.gc_trial import THRESHOLD_FACTOR, settings, trial

pytestmark = pytest.mark.usefixtures("all_thawed")


def seats(number: int = 400) -> None:
    """Create reference cycles."""
    last: list[Any] = [None, None]
    for _ in range(number):
        seat: list[Any] = [last, None]
        last[1] = seat
        last = seat


def test_the_present_setting_comes_first_and_each_other_has_its_code() -> None:
    first, *others = settings()
    assert (first.threshold, first.frozen, first.code) == (gc.get_threshold()[0], False, "")
    assert [bool(setting.code) for setting in others] == [True] * 3


@pytest.mark.slow
def test_a_higher_threshold_collects_less_often() -> None:
    present, _, raised, _ = trial(seats, 200, rounds=3)
    assert raised.collections < present.collections / 2
    assert present.collections > 0
    assert raised.setting.threshold == present.setting.threshold * THRESHOLD_FACTOR


@pytest.mark.slow
def test_pauses_are_part_of_the_request() -> None:
    for cost in trial(seats, 100, rounds=3):
        assert 0 <= cost.pause_ms <= cost.request_ms


@pytest.mark.slow
def test_the_collector_is_left_as_it_was() -> None:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    trial(seats, 20, rounds=1)
    assert (gc.get_threshold(), gc.get_freeze_count(), gc.callbacks) == (thresholds, 0, callbacks)


def test_a_request_that_fails_leaves_the_collector_as_it_was() -> None:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)

    def fail() -> None:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        trial(fail, 20)
    assert (gc.get_threshold(), gc.get_freeze_count(), gc.callbacks) == (thresholds, 0, callbacks)


@pytest.mark.slow
def test_progress_is_reported() -> None:
    shares: list[float] = []
    trial(seats, 5, rounds=2, on_progress=shares.append)
    assert shares == sorted(shares)
    assert (len(shares), shares[-1]) == (8, 1.0)
