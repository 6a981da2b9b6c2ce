"""Of a window, the parts in the hours of the day of another one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.storage.day_hours import MAX_DAYS, at_hours_of, is_whole, seconds_of
from flask_knitperf.storage.windows import Span

DAY, HOUR = 86_400.0, 3_600.0
NIGHT = 20_000 * DAY
SPANS = st.builds(
    lambda since, length: Span(since, since + length),
    st.floats(NIGHT, NIGHT + 30 * DAY), st.floats(10, 20 * DAY),
)  # fmt: skip


def hours(day: float, begins: float, ends: float) -> Span:
    return Span(NIGHT + day * DAY + begins * HOUR, NIGHT + day * DAY + ends * HOUR)


def test_a_morning_is_in_each_day() -> None:
    week = Span(NIGHT, NIGHT + 7 * DAY)
    assert at_hours_of(week, hours(9, 8, 11)) == [hours(day, 8, 11) for day in range(7)]


def test_days_that_begin_and_end_within_those_hours_are_cut() -> None:
    span = Span(NIGHT + 9 * HOUR, NIGHT + DAY + 10 * HOUR)
    assert at_hours_of(span, hours(9, 8, 11)) == [hours(0, 9, 11), hours(1, 8, 10)]


def test_hours_around_midnight_are_one_part() -> None:
    span = Span(NIGHT, NIGHT + 2 * DAY)
    assert at_hours_of(span, hours(9, 22, 26)) == [
        hours(0, 0, 2), hours(0, 22, 26), hours(1, 22, 24)
    ]  # fmt: skip


@pytest.mark.parametrize("length", [22.5 * HOUR, DAY, 9 * DAY])
def test_a_window_of_nearly_a_day_has_all_hours(length: float) -> None:
    span = hours(0, 5, 6)
    assert at_hours_of(span, Span(NIGHT + 2000, NIGHT + 2000 + length)) == [span]


def test_a_few_minutes_are_compared_with_their_whole_hour() -> None:
    assert at_hours_of(hours(0, 0, 24), hours(3, 8.2, 8.4)) == [hours(0, 8, 9)]


def test_other_hours_have_nothing_in_common() -> None:
    assert at_hours_of(hours(0, 5, 8), hours(3, 8, 11)) == []


def test_of_many_days_the_latest_are_taken() -> None:
    parts = at_hours_of(Span(NIGHT, NIGHT + 400 * DAY), hours(0, 8, 11))
    assert len(parts) == MAX_DAYS and parts[-1] == hours(399, 8, 11)


@given(SPANS, SPANS)
def test_each_part_lies_in_its_window_at_those_hours_and_they_are_apart(
    span: Span, other: Span
) -> None:
    parts = at_hours_of(span, other)
    for since, until in parts:
        assert span.since <= since < until <= span.until
        if parts != [span]:
            hours = {
                hour % 24 for hour in range(int(other.since // HOUR), -int(-other.until // HOUR))
            }
            assert since // HOUR % 24 in hours and (until - 1e-3) // HOUR % 24 in hours
    for (_, until), (since, _) in pairwise(parts):
        assert since - until >= HOUR - 1e-3


@given(SPANS, st.integers(-30, 30))
def test_the_same_hours_of_another_day_are_the_whole_window(span: Span, days: int) -> None:
    parts = at_hours_of(span, Span(span.since + days * DAY, span.until + days * DAY))
    assert is_whole(parts, span)


def test_parts_are_whole_where_a_slot_at_most_is_missing() -> None:
    span = hours(0, 8, 11)
    assert seconds_of([span]) == 3 * HOUR
    assert is_whole([Span(span.since + 9, span.until)], span)
    assert not is_whole([Span(span.since + 11, span.until)], span) and not is_whole([], span)
