"""An endpoint over time has the requests of each slot, the deploys, and the steps of its level."""

from __future__ import annotations

import pytest

from flask_knitperf.history.databases import Connection, Database
from flask_knitperf.history.resolutions import DAY, FINEST, HOUR, HOURS, MINUTES
from flask_knitperf.history.rows import rows_of
from flask_knitperf.history.store import Baseline, Store, key_of, opened
from flask_knitperf.history.timelines import endpoint_timeline
from flask_knitperf.metrics.catalogue import REQUEST
from flask_knitperf.metrics.columns import Series
from flask_knitperf.metrics.histogram import Histogram
from flask_knitperf.metrics.instruments import Key
from flask_knitperf.metrics.table import Table, as_columns
from flask_knitperf.reports.documents.endpoint import Timeline

from .harness import START, Host, Run


def timeline(database: Database, since: float, now: float, method: str = "GET") -> Timeline:
    with opened(database) as store:
        return endpoint_timeline(store, "lots", method, since, now, now)


@pytest.mark.slow
def test_each_slot_has_its_requests_and_percentiles(host: Host) -> None:
    writer = host.writer()
    for tick in range(360):
        host.now = START + 10 * tick + 1
        host.run.observe(10**6 * (1 + tick // 60), endpoint="lots")
        host.run.observe(10**9, endpoint="yarn")
        writer.tick()
    shown = timeline(host.database, START, START + HOUR)
    assert shown["slot_s"] == 30
    assert [row["count"] for row in shown["points"]] == [4, *[3] * 118, 2]
    assert shown["points"][0]["p95_ms"] == pytest.approx(1, rel=0.006)
    assert shown["points"][-1]["p50_ms"] == pytest.approx(6, rel=0.006)
    assert shown["points"][0]["at"] == "2023-11-14T22:00:00+00:00"
    assert shown["deploys"] == [{"at": "2023-11-14T22:00:00+00:00", "release": "server-1"}]
    assert shown["steps"] == []


def test_cold_starts_are_counted_and_other_methods_are_left_out(host: Host) -> None:
    host.run._add(REQUEST, ("lots", "GET", "2xx", "first"), (10**9,))
    host.run._add(REQUEST, ("lots", "POST", "2xx", "solo"), (10**9,))
    host.run.observe(10**6)
    host.writer().tick()
    host.now += 20
    host.writer().tick()
    [point] = timeline(host.database, START - 60, host.now)["points"]
    assert point["count"] == 2 and point["p99_ms"] == pytest.approx(1, rel=0.006)
    assert timeline(host.database, START - 60, host.now, "PUT")["points"] == []


def test_a_slot_of_cold_starts_has_no_percentiles(host: Host) -> None:
    host.run._add(REQUEST, ("lots", "GET", "500", "first"), (10**9,))
    host.writer().tick()
    host.now += 20
    host.writer().tick()
    shown = timeline(host.database, START - 60, host.now)
    [point] = shown["points"]
    assert (point["count"], point["failed"], point["p95_ms"]) == (1, 1, None)
    assert shown["heat"]["counts"] == [[]]


def test_without_a_history_there_are_no_points(database: Database) -> None:
    assert timeline(database, START, START + HOUR) == {
        "slot_s": 30, "points": [], "deploys": [], "steps": [], "drift": None,
        "heat": {"upper_ms": [], "counts": []},
    }  # fmt: skip


@pytest.mark.slow
def test_a_day_at_another_level_is_a_step(connection: Connection, database: Database) -> None:
    store, now = Store(connection), int(START) + 40 * DAY
    key = Key(REQUEST.name, ("lots", "GET", "2xx", "solo"))
    with connection.transaction():
        for slot in range(int(START), now, HOUR):
            level = 10**8 if slot < now - 8 * DAY else 15 * 10**7
            data = Histogram.of(
                [level * (1 + number / 500) for number in range(slot // DAY % 7 + 5)]
            )
            one = {key: Series(REQUEST.kind, "ns", REQUEST.merge, data)}
            whole = as_columns(Table(series=one))
            about = {"unit": "ns", "merge": REQUEST.merge.value}
            [number] = store.numbers([(key_of(whole.descriptors[0]), about)])
            assert number is not None
            store.add(HOURS, slot, 1, {number: rows_of(whole)[1][0]}, merge=False)
        store.set_baseline(1, "server-1", HOURS, Baseline(now, -1, b""))
        store.set_baseline(1, "server-1", HOURS._replace(seconds=10), Baseline(now, -1, b""))
    shown = timeline(database, now - 30 * DAY, now)
    [step] = shown["steps"]
    assert step["at"] == "2023-12-16T00:00:00+00:00" or step["at"].startswith("2023-12-1")
    assert step["after_ms"] / step["before_ms"] == pytest.approx(1.5, rel=0.05)
    assert shown["slot_s"] == 21_600 and len(shown["points"]) <= 151


def test_a_run_in_the_window_is_a_deploy(host: Host) -> None:
    serve = host.writer()
    serve.tick()
    host.run = Run(host.state, "server-2", host.now + 30)
    host.now += 60
    serve.tick()
    shown = timeline(host.database, START - 60, host.now)
    assert [row["release"] for row in shown["deploys"]] == ["server-1", "server-2"]


@pytest.mark.slow
def test_points_have_the_usual_p95_of_their_hour_of_the_week(
    connection: Connection, database: Database
) -> None:
    store, week = Store(connection), 7 * DAY
    now = int(START) + 5 * week
    key = Key(REQUEST.name, ("lots", "GET", "2xx", "solo"))
    about = {"unit": "ns", "merge": REQUEST.merge.value}
    with connection.transaction():
        for slot in range(int(START), now, HOUR):
            busy = (slot - START) % week < 3 * HOUR
            data = Histogram.of([5 * 10**8 if busy else 10**8] * 40)
            whole = as_columns(Table(series={key: Series(REQUEST.kind, "ns", REQUEST.merge, data)}))
            [number] = store.numbers([(key_of(whole.descriptors[0]), about)])
            assert number is not None
            row = {number: rows_of(whole)[1][0]}
            store.add(HOURS, slot, 1, row, merge=False)
            if slot >= now - DAY:
                store.add(MINUTES, slot, 1, row, merge=False)
        for resolution in (HOURS, MINUTES, FINEST):
            store.set_baseline(1, "server-1", resolution, Baseline(now, -1, b""))
    for point in timeline(database, now - DAY, now)["points"]:
        assert (point["usual_low_ms"] or 0) <= point["p95_ms"] <= (point["usual_high_ms"] or 0)
    shown = timeline(database, int(START), int(START) + 6 * DAY)
    assert {point["usual_high_ms"] for point in shown["points"]} == {None}
