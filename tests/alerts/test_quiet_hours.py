"""Quiet hours: they are those of the clocks on the wall, also where these change."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.alerts.quiet_hours import QuietHours

pytestmark = pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be set")
DAY_MINUTES = 24 * 60
MINUTES = st.integers(0, DAY_MINUTES - 1)
SPRING, AUTUMN = 1_774_746_000, 1_792_890_000  # changes of the clocks of Berlin in 2026
TIMES = st.one_of(
    st.integers(1_700_000_000, 1_900_000_000),
    *(st.integers(change - 100_000, change + 100_000) for change in (SPRING, AUTUMN)),
    st.floats(1_700_000_000, 1_900_000_000),
)


@pytest.fixture(autouse=True, scope="module")
def berlin() -> Iterator[None]:
    """Have the clocks of the server be those of Berlin."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def zone() -> Iterator[pytest.MonkeyPatch]:
    """Set ``TZ`` for a test."""
    with pytest.MonkeyPatch.context() as patched:
        yield patched
    time.tzset()


def at(text: str) -> float:
    """Return a time of ISO 8601 in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def shown(seconds: float) -> str:
    """Return a time as the clocks show it."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat()


def is_quiet(hours: QuietHours, seconds: float) -> bool:
    """Return whether clocks show a quiet minute: by the system, and minute by minute."""
    local = time.localtime(seconds)
    minute = local.tm_hour * 60 + local.tm_min
    if hours.begins <= hours.ends:
        return hours.begins <= minute < hours.ends
    return minute >= hours.begins or minute < hours.ends


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("22:00-06:30", (1320, 390)),
        ("00:00-23:59", (0, 1439)),
        ("09:00 - 17:00", (540, 1020)),
        ("12:00-12:00", (720, 720)),
    ],
)
def test_hours_are_read_from_a_text(text: str, hours: tuple[int, int]) -> None:
    assert QuietHours.of(text) == hours


@pytest.mark.parametrize(
    "text",
    ["", "22", "22-6", "22:00", "22:00-", "22:00-6:00", "24:00-06:00", "22:60-06:00", "22:00-06:60",
     "22:00-24:00", "22:00–06:00", "22:00-06:00\n", " 22:00-06:00", "-1:00-06:00", "22:00-06:00-07:00",
     "\0"],
)  # fmt: skip
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        QuietHours.of(text)


@pytest.mark.parametrize(
    ("text", "now", "end"),
    [
        ("22:00-06:00", "2026-06-01T21:59:59+02:00", "2026-06-01T21:59:59+02:00"),
        ("22:00-06:00", "2026-06-01T22:00:00+02:00", "2026-06-02T06:00:00+02:00"),
        ("22:00-06:00", "2026-06-01T23:59:59+02:00", "2026-06-02T06:00:00+02:00"),
        ("22:00-06:00", "2026-06-02T00:00:00+02:00", "2026-06-02T06:00:00+02:00"),
        ("22:00-06:00", "2026-06-02T05:59:59+02:00", "2026-06-02T06:00:00+02:00"),
        ("22:00-06:00", "2026-06-02T06:00:00+02:00", "2026-06-02T06:00:00+02:00"),
        ("12:00-13:00", "2026-06-01T12:30:10+02:00", "2026-06-01T13:00:00+02:00"),
        ("12:00-13:00", "2026-06-01T13:00:10+02:00", "2026-06-01T13:00:10+02:00"),
        ("12:00-11:59", "2026-06-01T12:00:00+02:00", "2026-06-02T11:59:00+02:00"),
    ],
)
def test_quiet_hours_end_at_their_minute(text: str, now: str, end: str) -> None:
    assert shown(QuietHours.of(text).end_after(at(now))) == end


def test_a_time_outside_of_quiet_hours_stays_to_the_fraction_of_a_second() -> None:
    assert QuietHours.of("22:00-06:00").end_after(SPRING + 40_000.123) == SPRING + 40_000.123


@given(MINUTES, TIMES)
def test_equal_ends_are_no_quiet_hours(minute: int, now: float) -> None:
    assert QuietHours(minute, minute).end_after(now) == now


@pytest.mark.parametrize(
    ("text", "now", "end"),
    [
        # a night of seven hours
        ("22:00-06:00", "2026-03-28T23:00:00+01:00", "2026-03-29T06:00:00+02:00"),
        ("22:00-06:00", "2026-03-29T01:59:59+01:00", "2026-03-29T06:00:00+02:00"),
        ("22:00-06:00", "2026-03-29T03:00:00+02:00", "2026-03-29T06:00:00+02:00"),
        ("22:00-03:00", "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00"),
        # an end, and hours, that clocks do not show
        ("22:00-02:30", "2026-03-28T23:00:00+01:00", "2026-03-29T03:30:00+02:00"),
        ("22:00-02:30", "2026-03-29T00:10:00+01:00", "2026-03-29T03:30:00+02:00"),
        ("02:15-02:45", "2026-03-29T01:59:00+01:00", "2026-03-29T01:59:00+01:00"),
        ("02:15-02:45", "2026-03-29T03:00:00+02:00", "2026-03-29T03:00:00+02:00"),
        # a night of nine hours
        ("22:00-06:00", "2026-10-24T23:00:00+02:00", "2026-10-25T06:00:00+01:00"),
        ("22:00-06:00", "2026-10-25T02:30:00+02:00", "2026-10-25T06:00:00+01:00"),
        ("22:00-06:00", "2026-10-25T02:30:00+01:00", "2026-10-25T06:00:00+01:00"),
        # an end, and hours, that clocks show twice
        ("22:00-02:30", "2026-10-24T23:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("22:00-02:30", "2026-10-25T02:10:00+01:00", "2026-10-25T02:30:00+01:00"),
        ("02:15-02:45", "2026-10-25T02:20:00+02:00", "2026-10-25T02:45:00+02:00"),
        ("02:15-02:45", "2026-10-25T02:20:00+01:00", "2026-10-25T02:45:00+01:00"),
    ],
)
def test_quiet_hours_end_as_clocks_show_it_where_these_change(
    text: str, now: str, end: str
) -> None:
    assert shown(QuietHours.of(text).end_after(at(now))) == end


@given(MINUTES, MINUTES, TIMES)
def test_an_end_is_never_in_quiet_hours_nor_before_the_time(
    begins: int, ends: int, now: float
) -> None:
    hours = QuietHours(begins, ends)
    end = hours.end_after(now)
    assert end >= now and not is_quiet(hours, end)


@given(MINUTES, MINUTES, TIMES)
def test_a_time_is_put_off_only_in_quiet_hours(begins: int, ends: int, now: float) -> None:
    hours = QuietHours(begins, ends)
    assert (hours.end_after(now) != now) == is_quiet(hours, now)


@given(MINUTES, st.integers(0, 22 * 60), TIMES)
def test_an_end_is_never_more_than_a_day_and_an_hour_away(
    begins: int, length: int, now: float
) -> None:
    end = QuietHours(begins, (begins + length) % DAY_MINUTES).end_after(now)
    assert end - now <= 25 * 3600


@given(MINUTES, MINUTES, TIMES)
def test_an_end_is_at_most_an_hour_after_the_last_quiet_minute(
    begins: int, ends: int, now: float
) -> None:
    hours = QuietHours(begins, ends)
    end = hours.end_after(now)
    if end != now:
        assert any(is_quiet(hours, end - 60 * minutes) for minutes in range(1, 61))


@given(MINUTES, MINUTES, TIMES)
def test_an_end_is_put_off_no_further(begins: int, ends: int, now: float) -> None:
    hours = QuietHours(begins, ends)
    end = hours.end_after(now)
    assert hours.end_after(end) == end


@pytest.mark.parametrize(
    "name", ["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
)
def test_each_time_zone_has_its_quiet_hours(zone: pytest.MonkeyPatch, name: str) -> None:
    zone.setenv("TZ", name)
    time.tzset()
    hours = QuietHours.of("22:00-06:00")
    for now in range(1_700_000_000, 1_732_000_000, 3571 * 3):
        end = hours.end_after(now)
        assert not is_quiet(hours, end) and now <= end <= now + 9 * 3600


def test_a_day_that_a_time_zone_has_left_out_is_passed(zone: pytest.MonkeyPatch) -> None:
    zone.setenv("TZ", "Pacific/Apia")  # 2011-12-30 was not
    time.tzset()
    end = QuietHours.of("22:00-06:00").end_after(at("2011-12-29T23:00:00-10:00"))
    assert shown(end) == "2011-12-31T06:00:00+14:00"


def test_the_time_zone_of_these_tests_is_set() -> None:
    assert os.environ["TZ"] == "Europe/Berlin" and time.localtime(SPRING).tm_hour == 3
