"""Old rows go, a few at a time, and the history stays below its size."""

from __future__ import annotations

import pytest

from flask_knitperf.history import retention
from flask_knitperf.history.databases import Connection
from flask_knitperf.history.resolutions import (
    DAY,
    FINEST,
    HOUR,
    HOURS,
    MINUTES,
    RESOLUTIONS,
    TEN_MINUTES,
)
from flask_knitperf.history.retention import Retention

NOW = 1_700_000_000 - 1_700_000_000 % HOUR


def fill(connection: Connection, series: int, slots: list[tuple[int, int]]) -> None:
    """Add series, each with a row in some slots."""
    for number in range(1, series + 1):
        connection.execute(
            "INSERT INTO knitperf_series (id, identity, kind, name, labels, about)"
            " VALUES (?, ?, '', '', '', '')",
            (number, str(number)),
        )
        connection.change_many(
            "INSERT INTO knitperf_rows (resolution, series, slot, source, data) VALUES (?, ?, ?, 1, ?)",
            [(resolution, number, slot, bytes(200)) for resolution, slot in slots],
        )


def slots(connection: Connection, resolution: int) -> list[int]:
    return [slot for (slot,) in connection.execute(
        "SELECT slot FROM knitperf_rows WHERE resolution = ? ORDER BY slot", (resolution,)
    )]  # fmt: skip


def test_rows_are_kept_for_the_time_of_their_resolution(connection: Connection) -> None:
    ages = {FINEST: 6 * HOUR, MINUTES: 7 * DAY, TEN_MINUTES: 10 * DAY, HOURS: 400 * DAY}
    fill(connection, 1, [
        (one.seconds, NOW - age + more * one.seconds) for one, age in ages.items() for more in (-1, 1)
    ])  # fmt: skip
    kept = Retention(1 << 30)
    assert kept.step(connection, NOW) == len(ages)
    for one, age in ages.items():
        assert slots(connection, one.seconds) == [NOW - age + one.seconds]


def test_a_step_deletes_no_more_than_it_may(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_ROWS", 7)
    fill(connection, 3, [(FINEST.seconds, 10 * number) for number in range(10)])
    kept = Retention(1 << 30)
    assert [kept.step(connection, NOW) for _ in range(6)] == [7, 7, 7, 7, 2, 0]


def test_each_step_looks_at_some_series_and_then_begins_again(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_SERIES", 2)
    fill(connection, 5, [(FINEST.seconds, 10)])
    kept = Retention(1 << 30)
    assert [kept.step(connection, NOW) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.slow
def test_a_history_that_is_too_large_keeps_its_rows_for_a_shorter_time(
    connection: Connection,
) -> None:
    days = range(300)
    fill(connection, 20, [(HOURS.seconds, NOW - day * DAY) for day in days])
    kept = Retention(connection.size_bytes() // 4)
    for _ in range(60):
        kept.step(connection, NOW)
    left = slots(connection, HOURS.seconds)
    assert 0.01 < kept.share < 0.5
    assert max(left) == NOW and len(left) < 20 * 150  # the newest stay


def test_with_room_rows_are_kept_as_long_as_before(connection: Connection) -> None:
    kept = Retention(1 << 40)
    kept.share = 0.9
    for _ in range(10):
        kept.step(connection, NOW)
    assert kept.share == 1.0


def test_a_share_of_the_time_is_the_same_for_every_resolution(connection: Connection) -> None:
    kept = Retention(1 << 40)
    kept.share = 0.5
    fill(connection, 1, [(one.seconds, NOW - int(one.kept_s * 0.6) // one.seconds * one.seconds)
                         for one in RESOLUTIONS])  # fmt: skip
    assert kept.step(connection, NOW) == len(RESOLUTIONS)
