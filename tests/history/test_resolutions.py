"""A window is covered by slots, each moment once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.history.resolutions import (
    DAY,
    FINEST,
    HOUR,
    HOURS,
    MINUTES,
    RESOLUTIONS,
    TEN_MINUTES,
    Stretch,
    stretches,
)

NOW = 1_700_000_000 - 1_700_000_000 % HOUR


@given(st.floats(0.1, 500 * DAY), st.floats(0, 500 * DAY), st.floats(0, HOUR))
def test_a_window_is_covered_once_and_widened_by_less_than_a_slot(
    length: float, age: float, past_hour: float
) -> None:
    now = NOW + past_hour
    until = now - age
    since = until - length
    chosen = stretches(since, until, now)
    assert all(one.ends == other.begins for one, other in pairwise(chosen))
    assert chosen[0].begins <= since < chosen[0].begins + chosen[0].resolution.seconds
    assert chosen[-1].ends - chosen[-1].resolution.seconds < until <= chosen[-1].ends
    for resolution, begins, ends in chosen:
        assert begins < ends and begins % resolution.seconds == ends % resolution.seconds == 0


def test_whole_hours_come_from_hours_and_edges_from_finer_rows() -> None:
    assert stretches(NOW - 2 * HOUR - 70, NOW + 730, NOW + 730) == [
        Stretch(FINEST, NOW - 2 * HOUR - 70, NOW - 2 * HOUR - 60),
        Stretch(MINUTES, NOW - 2 * HOUR - 60, NOW - 2 * HOUR),
        Stretch(HOURS, NOW - 2 * HOUR, NOW),
        Stretch(TEN_MINUTES, NOW, NOW + 600),
        Stretch(MINUTES, NOW + 600, NOW + 720),
        Stretch(FINEST, NOW + 720, NOW + 730),
    ]


@pytest.mark.parametrize(
    ("age", "finest"), [(HOUR, FINEST), (DAY, MINUTES), (9 * DAY, TEN_MINUTES), (30 * DAY, HOURS)]
)
def test_edges_come_from_rows_that_are_still_kept(age: int, finest: object) -> None:
    since, until = NOW - age - 95, NOW - age + 5 * HOUR + 95 if age > HOUR else NOW
    assert stretches(since, until, NOW)[0].resolution == finest


def test_nothing_is_read_of_an_empty_window() -> None:
    assert stretches(NOW, NOW, NOW) == [] and stretches(NOW, NOW - 1, NOW) == []


def test_each_resolution_is_a_multiple_of_the_one_before_and_is_kept_longer() -> None:
    for finer, coarser in pairwise(RESOLUTIONS):
        assert coarser.seconds % finer.seconds == 0 and coarser.kept_s > finer.kept_s
