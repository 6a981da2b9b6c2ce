"""The history has every observation once, whatever happens to its writer."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.errors import HistoryError
from flask_knitperf.history.databases import Connection, Database
from flask_knitperf.history.lease import LeaseLostError
from flask_knitperf.history.resolutions import COARSER, FINEST, HOUR, HOURS, RESOLUTIONS, Stretch
from flask_knitperf.history.schema import prepare
from flask_knitperf.history.slots import by_slot
from flask_knitperf.history.store import Store
from flask_knitperf.history.totals import KEYS
from flask_knitperf.history.writer import FRESH_S, LEASE_S, HistoryWriter
from flask_knitperf.metrics.catalogue import RSS

from .harness import START, Host, Run, by_series, past, requests

Open = Callable[[], Database]


class KilledError(BaseException):
    """The process is killed here."""


def kill_at(connection: Connection, number: int) -> None:
    """Have a process end before its n-th statement, and execute none after it."""
    left = [number]

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            return method(*args)

        return call

    for name in ("execute", "change_many", "change"):
        setattr(connection, name, wrap(getattr(connection, name)))


def rows_at(database: Database, begins: float = 0) -> dict[int, int]:
    """Return the number of requests in the rows of each resolution."""
    connection = database.connection()
    prepare(connection)
    store = Store(connection)
    counted = {}
    for resolution in RESOLUTIONS:
        store.load_series(0)
        from flask_knitperf.history.reader import _read

        stretch = Stretch(resolution, int(begins), int(START) + 1000 * HOUR)
        part = _read(store, [stretch])
        counted[resolution.seconds] = sum(
            int(count) for descriptor, count in zip(
                part.columns.descriptors, part.columns.count.tolist(), strict=True)
            if descriptor.key.meter == "http.request"
        )  # fmt: skip
        assert total_rows_at(store, stretch) == counted[resolution.seconds]
    return counted


def total_rows_at(store: Store, stretch: Stretch) -> int:
    """Return the number of requests of all endpoints in the rows of totals."""
    numbers = [number for number, (key, _) in store.series().items() if key in KEYS]
    sums = by_slot(store.rows([stretch], numbers), stretch.resolution.seconds)
    return sum(one.count for one in sums.values())


def serve(
    host: Host, writer: HistoryWriter, ticks: int, requests_per_tick: int = 2, seconds: float = 10
) -> None:
    """Serve some requests and write, several times."""
    for _ in range(ticks):
        host.now += seconds
        host.run.observe(*range(10**6, 10**6 + requests_per_tick))
        writer.tick()


# -- what is written -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_observation_is_in_each_resolution_once(host: Host) -> None:
    writer = host.writer()
    serve(host, writer, 500)
    host.now = START + 3 * HOUR
    writer.tick()
    assert rows_at(host.database) == dict.fromkeys((10, 60, 600, 3600), 1000)


@pytest.mark.slow
def test_a_window_has_counts_sums_and_buckets_of_its_observations(host: Host) -> None:
    writer = host.writer()
    for tick in range(60):
        host.now = START + 10 * tick + 1
        host.run.observe(10**6 * (tick + 1), endpoint="lots")
        host.run.observe(10**7, 3 * 10**7, endpoint="yarn")
        writer.tick()
    read = past(host.database, START + 100, START + 200, now=host.now)
    assert (requests(read), requests(read, "yarn")) == (10, 20)
    assert (read.begins, read.ends) == (START + 100, START + 200)
    histogram = read.snapshot.totals.histogram(
        [row for row in read.snapshot.totals.rows("http.request") if row[0][0] == "lots"]
    )
    # the request of a tick was observed in the slot before it
    assert histogram.total == sum(10**6 * (tick + 1) for tick in range(11, 21))
    assert histogram.quantile(0.5) == pytest.approx(16 * 10**6, rel=0.006)


def test_evidence_and_gauges_are_kept(host: Host) -> None:
    writer = host.writer()
    for tick in range(20):
        host.now = START + 10 * tick + 1
        host.run.note("evidence.error", "mill.py:3", 0.5)
        host.run.gauge(one=100.0 + tick, two=50.0)
        writer.tick()
    read = past(host.database, START, host.now)
    [note] = read.snapshot.about.evidence.values()
    assert (note["count"], note["weight"], note["detail"]) == (20, 10.0, {"at": 1})
    gauge = read.gauges[RSS.name, ()]
    assert (gauge.ticks, gauge.values, gauge.low, gauge.high) == (20, 40, 50.0, 119.0)


def test_names_of_any_kind_come_back(host: Host) -> None:
    names = [
        "<b>",
        "a\0b",
        "\ud800",
        "\u202egnp",
        "x" * 10_000,
        "'; DROP TABLE knitperf_rows; --",
        "%s?",
    ]
    writer = host.writer()
    for name in names:
        host.run.observe(10**6, endpoint=name)
    writer.tick()
    host.now += 20
    writer.tick()
    read = past(host.database, START - 20, host.now)
    assert [requests(read, name) for name in names] == [1] * len(names)


def test_what_happened_since_the_latest_write_counts_too(host: Host) -> None:
    writer = host.writer()
    serve(host, writer, 5)
    host.run.observe(10**6)
    live = {("host", host.run.path.name): host.run.snapshot()}
    assert requests(past(host.database, START, host.now + 3, live=live)) == 11
    assert requests(past(host.database, START, START + 30, now=host.now, live=live)) == 6


def test_a_slot_is_written_once_it_has_ended(host: Host) -> None:
    writer = host.writer()
    writer.tick()
    host.now += 3
    host.run.observe(10**6)
    writer.tick()
    assert rows_at(host.database)[10] == 0
    host.now += 7
    writer.tick()
    assert rows_at(host.database) == {10: 1, 60: 0, 600: 0, 3600: 0}


# -- runs ----------------------------------------------------------------------------------------------


def test_a_deploy_is_a_mark_and_both_runs_are_whole(host: Host) -> None:
    writer = host.writer()
    serve(host, writer, 5)
    old, host.run = host.run, Run(host.state, "server-2", host.now)
    old.observe(10**6)  # after the latest write
    _freeze(old)
    serve(host, writer, 10)
    read = past(host.database, START, host.now)
    assert [mark.about["run"] for mark in read.marks] == ["server-1", "server-2"]
    assert requests(read) == 10 + 1 + 20


def _freeze(run: Run) -> None:
    """Write the totals of a run as its workers leave them when they end."""
    from flask_knitperf.metrics.table import Table, encode
    from flask_knitperf.storage.state_dir import RETIRED

    snapshot = run.snapshot()
    table = Table(evidence=snapshot.about.evidence, generation=1)
    (run.path / RETIRED).write_bytes(encode(table, snapshot.columns))


def test_a_run_from_before_there_was_a_history_begins_with_it(host: Host) -> None:
    host.now = START + FRESH_S + 1
    host.run.observe(*[10**6] * 100)
    writer = host.writer()
    writer.tick()
    serve(host, writer, 10)
    assert requests(past(host.database, START, host.now)) == 20


def test_baselines_of_removed_runs_are_dropped(host: Host) -> None:
    writer = host.writer()
    writer.tick()
    old, host.run = host.run, Run(host.state, "server-2", host.now)
    (old.path / "app.json").unlink()
    serve(host, writer, 10)
    rows = host.database.connection().execute("SELECT DISTINCT run FROM knitperf_baselines")
    assert rows == [("server-2",)]


def test_a_run_of_another_version_is_left_to_its_own_writer(host: Host) -> None:
    other = Run(host.state, "server-0")
    (other.path / "app.json").write_text('{"format": 1, "number": 1}')
    serve(host, host.writer(), 10)
    assert requests(past(host.database, START, host.now)) == 20


# -- several writers -----------------------------------------------------------------------------------


def test_one_of_two_writes(host: Host, another: Open) -> None:
    first, second = host.writer("first"), host.writer("second", another())
    for _ in range(20):
        host.now += 10
        host.run.observe(10**6)
        first.tick()
        second.tick()
    assert first.leads and not second.leads
    assert requests(past(host.database, START, host.now)) == 20


def test_one_that_gives_up_is_followed_at_once(host: Host, another: Open) -> None:
    first, second = host.writer("first"), host.writer("second", another())
    serve(host, first, 5)
    second.tick()
    first.close()
    serve(host, second, 5)
    assert second.leads
    assert requests(past(host.database, START, host.now)) == 20


def test_a_suspended_writer_writes_nothing_beside_its_successor(host: Host, another: Open) -> None:
    first, second = host.writer("first"), host.writer("second", another())
    serve(host, first, 5)
    _expire(another())
    serve(host, second, 5)
    lease = first._lease
    assert lease is not None
    store = first._store
    assert store is not None
    with pytest.raises(LeaseLostError):
        first._write_run(store, lease, host.now, host.run.path, host.run.snapshot(), is_live=True)
    serve(host, first, 1)
    serve(host, second, 1)
    assert not first.leads and second.leads
    assert rows_at(host.database)[10] == 22 + 2


def test_a_writer_that_loses_its_lease_while_it_writes_leaves_it_to_the_other_one(
    host: Host, another: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = host.writer("first"), host.writer("second", another())
    serve(host, first, 5)
    own = first._own

    def suspended() -> Any:
        _expire(host.database)
        second.tick()
        return own()

    monkeypatch.setattr(first, "_own", suspended)
    serve(host, first, 1)
    assert not first.leads and second.leads
    monkeypatch.undo()
    serve(host, second, 5)
    assert requests(past(host.database, START, host.now)) == 22


def _expire(database: Database) -> None:
    prepare(database.connection())
    database.connection().execute("UPDATE knitperf_leases SET expires = 0")


@pytest.mark.slow
def test_writers_that_take_turns_lose_and_double_nothing(host: Host, another: Open) -> None:
    writers = [host.writer("first"), host.writer("second", another())]
    for turn in range(40):
        serve(host, writers[turn % 2], 3, seconds=7)
        _expire(host.database)
    host.now += 2 * HOUR
    writers[0].tick()
    assert rows_at(host.database) == dict.fromkeys((10, 60, 600, 3600), 240)


# -- faults --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("ends", RESOLUTIONS, ids=["10 s", "1 min", "10 min", "1 h"])
def test_a_writer_that_is_killed_before_any_statement_loses_and_doubles_nothing(
    host: Host, another: Open, ends: Any
) -> None:
    serve(host, host.writer("first"), 2)
    _expire(host.database)
    number, served = 0, 4
    while True:
        database = another()
        writer = host.writer(f"writer {number}", database)
        _make_sure_of_tables(database)
        kill_at(database.connection(), number)
        host.now = ends.slot(host.now) + ends.seconds + 1
        host.run.observe(10**6, 2 * 10**6)
        host.run.note("evidence.error", "mill.py:3")
        served += 2
        try:
            writer.tick()
        except KilledError:
            connection = database._open
            assert connection is not None
            connection.close()  # as the system does
            number += 1
            _expire(host.database)
            continue
        break
    assert number > 10
    _expire(host.database)
    last = host.writer("last")
    host.now += 2 * HOUR
    last.tick()
    counted = rows_at(host.database)
    kept = {one.seconds for one in RESOLUTIONS if host.now - START < one.kept_s}
    assert HOURS.seconds in kept and {counted[seconds] for seconds in kept} == {served}
    [note] = past(host.database, START, host.now).snapshot.about.evidence.values()
    assert note["count"] == number + 1


def _make_sure_of_tables(database: Database) -> None:
    prepare(database.connection())


def test_a_database_that_fails_for_a_while_has_everything_afterwards(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = host.writer()
    serve(host, writer, 5)
    connection = host.database.connection()

    def fail(*_: object) -> None:
        raise HistoryError("the disk is full")

    monkeypatch.setattr(connection, "change_many", fail)
    for _ in range(3):
        host.now += 10
        host.run.observe(10**6, 10**6)
        with pytest.raises(HistoryError, match="full"):
            writer.tick()
    monkeypatch.undo()
    serve(host, writer, 5)
    assert requests(past(host.database, START, host.now)) == 26


@pytest.mark.slow
def test_a_clock_that_is_set_back_loses_and_doubles_nothing(host: Host) -> None:
    writer = host.writer()
    serve(host, writer, 400)
    host.now -= HOUR
    serve(host, writer, 100)
    host.now += HOUR
    serve(host, writer, 10)
    host.now += 3 * HOUR
    writer.tick()
    assert rows_at(host.database) == dict.fromkeys((10, 60, 600, 3600), 1020)


def test_a_clock_of_1970_at_the_start_loses_nothing(host: Host) -> None:
    host.now = 5.0
    writer = host.writer()
    serve(host, writer, 10)
    host.now = START
    serve(host, writer, 10)
    host.now += 3 * HOUR
    writer.tick()
    assert rows_at(host.database) == dict.fromkeys((10, 60, 600, 3600), 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_windows_side_by_side_have_every_observation_once(
    host: Host, another: Open, seed: int
) -> None:
    generator = random.Random(seed)
    writers = [host.writer("first"), host.writer("second", another())]
    served = 0
    for _ in range(120):
        host.now += generator.choice([1, 5, 10, 10, 10, 10, 30, 70, 400, -90])
        host.run.observe(*[10**6] * generator.randint(0, 3))
        if generator.random() < 0.03:
            _expire(host.database)
        if generator.random() < 0.03:
            served += len(host.run.values)
            _freeze(host.run)
            host.run = Run(host.state, f"server-{served}-{seed}", host.now)
        generator.choice(writers).tick()
        if generator.random() < 0.3:  # the other one may hold the lease
            for writer in writers:
                writer.tick()
    for _ in range(2):  # beyond every time that the clock has shown
        host.now += HOUR
        for writer in writers:
            writer.tick()
    served += len(host.run.values)
    cuts = sorted(generator.uniform(START, host.now) // 10 * 10 for _ in range(5))
    bounds = [START - HOUR, *cuts, host.now]
    windows = [past(host.database, *pair, now=host.now) for pair in pairwise(bounds)]
    assert (
        sum(map(requests, windows))
        == requests(past(host.database, START - HOUR, host.now))
        == served
    )


@pytest.mark.slow
@pytest.mark.parametrize("since_deploy", [HOUR, 3 * HOUR])
def test_a_host_that_is_gone_has_its_last_hour_written_by_another_one(
    host: Host, another: Open, tmp_path: Path, since_deploy: int
) -> None:
    gone = host.writer("gone")
    serve(host, gone, 400)
    elsewhere = Host(another(), tmp_path / "other", Run(tmp_path / "other", "server-9", host.now))
    elsewhere.now = host.now
    writer = elsewhere.writer("other", source="other host")
    for _ in range(3):
        serve(elsewhere, writer, 2)
        assert rows_at(host.database)[3600] == 720  # nothing was taken over yet
    _expire(host.database)
    elsewhere.now += since_deploy
    serve(elsewhere, writer, 2)
    counted = rows_at(host.database)
    assert {counted[one.seconds] for one in COARSER} == {800 + 12}
    serve(host, gone, 1)  # it was only suspended
    host.now += 2 * HOUR
    gone.tick()
    elsewhere.now = host.now
    writer.tick()
    assert set(rows_at(host.database).values()) == {800 + 2 + 16}


def test_damaged_totals_begin_anew_instead_of_being_counted_twice(
    host: Host, another: Open
) -> None:
    serve(host, host.writer(), 10)
    host.database.connection().execute("UPDATE knitperf_baselines SET data = ?", (b"damaged",))
    _expire(host.database)
    serve(host, host.writer("second", another()), 10)
    assert (
        28 <= requests(past(host.database, START, host.now)) <= 40
    )  # up to the slot that had begun


def test_a_series_for_which_there_is_no_room_is_left_out(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_knitperf.history.store.MAX_SERIES", 2)
    writer = host.writer()
    serve(host, writer, 2)
    host.run.observe(10**6, endpoint="another")
    serve(host, writer, 2)
    assert writer._store is not None and writer._store.left_out >= 2
    assert sum(by_series(past(host.database, START, host.now)).values()) == 16


def test_the_lease_outlasts_the_pause_of_an_idle_housekeeper() -> None:
    from flask_knitperf.recording.housekeeper import IDLE_INTERVAL_S

    assert IDLE_INTERVAL_S + FINEST.seconds < LEASE_S
