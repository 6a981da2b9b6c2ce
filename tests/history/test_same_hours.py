"""Windows are compared at the times of day that they have in common."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flask_knitperf.core import settings
from flask_knitperf.core.errors import StateError
from flask_knitperf.history.databases import Database
from flask_knitperf.history.resolutions import DAY, HOUR
from flask_knitperf.history.store import Mark, opened
from flask_knitperf.history.windows import parts_window, past_window, release_span
from flask_knitperf.history.writer import DEPLOY
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import REQUEST
from flask_knitperf.metrics.table import Table
from flask_knitperf.reports.comparison import compare_windows
from flask_knitperf.reports.references import LAST_WEEK, Pair, read_pair, same_hours
from flask_knitperf.storage.state_dir import Snapshot
from flask_knitperf.storage.windows import Span, Window, WindowName

from .harness import START, Host, Run

REQUESTS = 240
"""Of an hour."""
NIGHTS, MORNINGS = (1, 2, 3), (8, 9, 10)
MIDNIGHT = START // DAY * DAY + DAY
MS = 10**6


class Past:
    """The history in a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def window(self, name: WindowName, now: float, current: Window) -> Window:
        return past_window(self.database, "host", name, now, current)

    def parts(self, parts: Sequence[Span], now: float, current: Window) -> Window:
        return parts_window(self.database, "host", parts, now, current)

    def release(self, name: str, now: float) -> Span:
        return release_span(self.database, name, now)


def serve(host: Host, hours: Sequence[float]) -> None:
    """Serve requests in some hours, counted from midnight of the first day; nights are slow."""
    writer = host.writer()
    for hour in hours:
        slow = 300 * MS if hour % 24 in NIGHTS else 100 * MS
        for minute in (0, 30):
            host.now = MIDNIGHT + hour * HOUR + minute * 60 + 15
            values = tuple(slow + n % 20 * MS for n in range(REQUESTS // 2))
            host.run._add(REQUEST, ("lots", "GET", "2xx", "solo"), values)
            writer.tick()


def window(host: Host, begins: float, ends: float) -> Window:
    """Return a window of no requests: those of the history are read."""
    nothing = Snapshot(columns.empty(()), Table())
    return Window("span", begins, ends, host.run.path.name, host.run.path.name, nothing)


@pytest.fixture
def two_releases(host: Host) -> Host:
    """A release that served three days and nights, and one that has served a morning."""
    host.run = Run(host.state, "first", MIDNIGHT + HOUR)
    serve(host, [24 * day + hour for day in range(3) for hour in (*NIGHTS, *MORNINGS)])
    host.run = Run(host.state, "second", MIDNIGHT + 80 * HOUR)
    serve(host, range(80, 83))
    return host


def changes(pair: Pair) -> list[tuple[str, int, int]]:
    rows = compare_windows(pair, settings.read({}), [])["rows"]
    return [(row["change"], row["count_before"], row["count"]) for row in rows]


def test_a_release_of_a_morning_is_compared_with_mornings(two_releases: Host) -> None:
    host, past = two_releases, Past(two_releases.database)
    begins, ends = MIDNIGHT + 80 * HOUR, MIDNIGHT + 83 * HOUR
    now = past.parts([Span(begins, ends)], ends, window(host, begins, ends))
    pair = read_pair(now, "first", lambda _: window(host, begins, ends), past, ends)
    assert pair.hours == "common" and pair.before.release == "first"
    assert changes(pair) == [("same", 9 * REQUESTS, 3 * REQUESTS)]
    whole = past.parts([past.release("first", ends)], ends, window(host, begins, ends))
    assert changes(Pair(now, whole, "different")) == [("faster", 18 * REQUESTS, 3 * REQUESTS)]


def test_of_a_longer_window_the_hours_of_a_short_release_are_read(two_releases: Host) -> None:
    host, past = two_releases, Past(two_releases.database)
    ends = MIDNIGHT + 83 * HOUR
    now = past.parts([Span(MIDNIGHT, ends)], ends, window(host, MIDNIGHT, ends))
    pair = read_pair(now, "second", lambda _: window(host, MIDNIGHT, ends), past, ends)
    assert pair.hours == "common"
    assert changes(pair) == [("same", 3 * REQUESTS, 12 * REQUESTS)]


def test_the_same_hours_of_the_week_before_need_no_choice(two_releases: Host) -> None:
    host, past = two_releases, Past(two_releases.database)
    begins, ends = MIDNIGHT + 7 * DAY + HOUR, MIDNIGHT + 7 * DAY + 4 * HOUR
    now = window(host, begins, ends)
    pair = read_pair(now, LAST_WEEK, lambda _: now, past, ends)
    assert pair.hours == "all" and pair.now is now
    assert changes(pair) == [("gone", 3 * REQUESTS, 0)]


def test_windows_without_common_hours_are_compared_as_they_are(two_releases: Host) -> None:
    host, past = two_releases, Past(two_releases.database)
    night, morning = [
        past.parts([Span(begins, begins + 3 * HOUR)], host.now, window(host, begins, begins))
        for begins in (MIDNIGHT + HOUR, MIDNIGHT + 80 * HOUR)
    ]
    pair = read_pair(morning, "24h", lambda _: night, past, host.now)
    assert pair == (morning, night, "different")


def test_windows_of_the_history_keep_their_names(two_releases: Host) -> None:
    host, past = two_releases, Past(two_releases.database)
    ends = MIDNIGHT + 83 * HOUR
    day = window(host, ends - 25 * HOUR, ends)._replace(name="24h", release="of the day")
    morning = window(host, ends - HOUR, ends)._replace(name="1h", run="another")
    pair = read_pair(day, "1h", lambda _: morning, past, ends)
    assert pair.before is morning and pair.hours == "common"
    now = pair.now
    assert (now.name, now.run, now.release) == ("24h", "second", "of the day")


def test_a_window_of_one_run_is_compared_as_it_is(two_releases: Host) -> None:
    host, past = two_releases, Past(two_releases.database)
    run, previous = (
        window(host, MIDNIGHT + at * HOUR, MIDNIGHT + (at + 6) * HOUR)._replace(name=name)
        for at, name in ((80, "run"), (10, "previous"))
    )
    assert read_pair(run, "previous", lambda _: previous, past, host.now) == (
        run,
        previous,
        "different",
    )
    pair = read_pair(run, "first", lambda _: run, past, MIDNIGHT + 90 * HOUR)
    assert pair.now is run and pair.hours == "common"  # only the release is cut
    pair = read_pair(run, "second", lambda _: run, past, MIDNIGHT + 82 * HOUR)
    assert pair.now is run and pair.hours == "different"


@pytest.mark.parametrize(
    ("hour", "hours", "release"),
    [(1, 3, "first"), (79, 0.9, "first"), (79, 2, None), (81, 2, "second"), (85, 1, "first"),
     (81, 6, None), (0, 1, "server-1"), (-2, 5, None)],
)  # fmt: skip
def test_a_release_is_named_where_it_served_a_whole_window(
    two_releases: Host, hour: float, hours: float, release: str | None
) -> None:
    host, past = two_releases, Past(two_releases.database)
    with opened(host.database) as store:
        again = Mark(MIDNIGHT + 84 * HOUR, DEPLOY, {"run": "first", "release": "first"})
        store.add_mark(store.source("host"), again)
    span, now = Span(MIDNIGHT + hour * HOUR, MIDNIGHT + (hour + hours) * HOUR), MIDNIGHT + 90 * HOUR
    assert past.parts([span], now, window(host, *span)).release == release


def test_less_than_half_of_a_window_is_too_little_to_compare() -> None:
    day, morning = (
        Span(MIDNIGHT, MIDNIGHT + 10 * HOUR),
        Span(MIDNIGHT + 8 * HOUR, MIDNIGHT + 11 * HOUR),
    )
    assert same_hours(day, morning).hours == "common"
    assert same_hours(Span(MIDNIGHT, MIDNIGHT + 9 * HOUR), morning).hours == "different"


@pytest.mark.parametrize("seconds", [0, 8, 59])
def test_of_a_few_seconds_no_hours_are_stated(seconds: float) -> None:
    moment, day = Span(MIDNIGHT, MIDNIGHT + seconds), Span(MIDNIGHT, MIDNIGHT + DAY)
    assert same_hours(moment, moment) == ([moment], [moment], "all")
    assert same_hours(day, moment) == ([day], [moment], "all")


def test_without_a_history_other_hours_are_compared_and_stated(two_releases: Host) -> None:
    host = two_releases
    now, before = (window(host, MIDNIGHT + at * HOUR, MIDNIGHT + (at + 4) * HOUR) for at in (30, 5))
    assert read_pair(now, "run", lambda _: before, None, host.now) == (now, before, "different")
    assert read_pair(now, "run", lambda _: now, None, host.now).hours == "all"
    with pytest.raises(StateError, match="takes a history"):
        read_pair(now, "first", lambda _: before, None, host.now)
