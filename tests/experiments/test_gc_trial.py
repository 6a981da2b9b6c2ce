"""What the collector costs under other settings, measured on a request that makes cycles."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from flask_knitperf.experiments.gc_trial import HIGHER, settings, trial


def seats(number: int = 400) -> None:
    """Leave cycles behind."""
    last: list[Any] = [None, None]
    for _ in range(number):
        seat: list[Any] = [last, None]
        last[1] = seat
        last = seat


def test_the_present_setting_comes_first_and_each_other_says_how_to_have_it() -> None:
    first, *others = settings()
    assert (first.threshold, first.frozen, first.code) == (gc.get_threshold()[0], False, "")
    assert [bool(one.code) for one in others] == [True] * 3


def test_a_higher_threshold_collects_less_often_and_keeps_more_waiting() -> None:
    as_it_is, _, higher, _ = trial(seats, 200, rounds=3)
    assert higher.collections < as_it_is.collections / 2
    assert as_it_is.collections > 0
    assert higher.setting.threshold == as_it_is.setting.threshold * HIGHER


def test_pauses_are_part_of_the_request() -> None:
    for one in trial(seats, 100, rounds=3):
        assert 0 <= one.pause_ms <= one.request_ms


def test_the_collector_is_left_as_it_was() -> None:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    trial(seats, 20, rounds=1)
    assert (gc.get_threshold(), gc.get_freeze_count(), gc.callbacks) == (thresholds, 0, callbacks)


def test_the_collector_is_left_as_it_was_also_where_the_request_fails() -> None:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)

    def fail() -> None:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        trial(fail, 20)
    assert (gc.get_threshold(), gc.get_freeze_count(), gc.callbacks) == (thresholds, 0, callbacks)


def test_how_far_it_is_is_told() -> None:
    told: list[float] = []
    trial(seats, 5, rounds=2, tell=told.append)
    assert told == sorted(told)
    assert (len(told), told[-1]) == (8, 1.0)
