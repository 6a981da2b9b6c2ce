"""The application over time: load, percentiles, saturation and trends from the rows of the history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.printable import printable
from flask_knitperf.history.charts import ChartParts, read_charts
from flask_knitperf.history.databases import Database
from flask_knitperf.history.resolutions import DAY, HOUR
from flask_knitperf.history.slots import LENGTHS, slots
from flask_knitperf.history.store import opened
from flask_knitperf.history.timelines import endpoint_timeline
from flask_knitperf.metrics.catalogue import BUSY_SHARE, QUEUE, REQUEST

from .harness import START, Host, Run

MB = 1024 * 1024


def charts(
    database: Database,
    since: float,
    now: float,
    *pairs: tuple[str, str],
    until: float | None = None,
) -> ChartParts:
    with opened(database) as store:
        return read_charts(store, since, now if until is None else until, now, pairs)


def test_the_load_is_the_sum_of_all_endpoints_with_cold_starts_and_failures(host: Host) -> None:
    writer = host.writer()
    for tick in range(30):
        host.now = START + 10 * tick + 1
        host.run.observe(10**6, endpoint="lots")
        host.run.observe(10**8, endpoint="yarn")
        host.run._add(REQUEST, ("yarn", "GET", "500", "solo"), (10**8,))
        host.run._add(REQUEST, ("yarn", "GET", "2xx", "first"), (10**12,))
        writer.tick()
    shown = charts(host.database, START, START + 300)
    assert shown.slot_s == 10
    assert sum(point["count"] for point in shown.points) == 4 * 30
    assert sum(point["failed"] for point in shown.points) == 30
    assert [p["p95_ms"] for p in shown.points] == [pytest.approx(100, rel=0.006)] * len(
        shown.points
    )
    assert [row["release"] for row in shown.deploys] == ["server-1"]


def test_each_request_is_in_one_band_of_the_heat_map(host: Host) -> None:
    writer = host.writer()
    for tick in range(20):
        host.now = START + 10 * tick + 1
        host.run.observe(*[10**6 * 2**n for n in range(12)], 0)
        writer.tick()
    shown = charts(host.database, START, START + 200)
    assert [sum(counts) for counts in shown.heat["counts"]] == [p["count"] for p in shown.points]
    assert (
        len({len(counts) for counts in shown.heat["counts"]} | {len(shown.heat["upper_ms"])}) == 1
    )
    assert shown.heat["upper_ms"] == sorted(shown.heat["upper_ms"])


@pytest.mark.parametrize("durations", [(0,), (0, 1), (1, 2), (1, 10**9)])
def test_a_request_of_no_time_is_in_one_band_of_the_heat_map(
    host: Host, durations: tuple[int, ...]
) -> None:
    writer = host.writer()
    for tick in range(20):
        host.now = START + 10 * tick + 1
        host.run.observe(*durations)
        writer.tick()
    shown = charts(host.database, START, START + 200)
    assert [sum(counts) for counts in shown.heat["counts"]] == [p["count"] for p in shown.points]
    assert {len(counts) for counts in shown.heat["counts"]} == {len(shown.heat["upper_ms"])}


def test_a_resource_has_the_largest_value_of_all_workers(host: Host) -> None:
    writer = host.writer()
    for tick in range(6):
        host.now = START + 10 * tick + 1
        host.run.observe(10**6)
        host.run.gauge(w1=100 * MB, w2=(200 + tick) * MB)
        host.run._series(BUSY_SHARE, ()).gauge = {"w1": 0.2, "w2": 0.7}
        host.run._add(QUEUE, (), (5 * 10**6,))
        writer.tick()
    values = {
        row["name"]: row["values"] for row in charts(host.database, START, START + 60).saturation
    }
    assert (
        values["rss_mb"] == pytest.approx([201, 202, 203, 204, 205]) or len(values["rss_mb"]) == 6
    )
    assert set(values["busy_share"]) == {0.7} and set(values["gil_pressure"]) == {None}
    assert values["queue_p95_ms"][-1] == pytest.approx(5, rel=0.006)


@pytest.mark.slow
def test_trends_are_those_of_the_endpoints_that_were_requested(host: Host) -> None:
    writer = host.writer()
    for tick in range(60):
        host.now = START + 10 * tick + 1
        host.run.observe(10**6 * (tick + 1), endpoint="lots")
        if tick > 30:
            host.run.observe(10**9, endpoint="yarn")
        writer.tick()
    pairs = (("yarn", "GET"), ("lots", "GET"), ("none", "GET"))
    yarn, lots, none = charts(host.database, START, START + 600, *pairs).endpoints
    assert (yarn["endpoint"], lots["endpoint"]) == ("yarn", "lots")
    assert len(yarn["p95_ms"]) == len(lots["p95_ms"]) == len(none["p95_ms"]) <= 49
    known = [ms for ms in lots["p95_ms"] if ms is not None]
    assert known == sorted(known) and len(known) == len(lots["p95_ms"])
    assert yarn["p95_ms"][0] is None and yarn["p95_ms"][-1] == pytest.approx(1000, rel=0.006)
    assert set(none["p95_ms"]) == {None}


@pytest.mark.parametrize(
    ("length", "age", "slot"),
    [(300, 0, 10), (HOUR, 0, 30), (HOUR, 2 * DAY, 60), (HOUR, 9 * DAY, 600), (HOUR, 20 * DAY, HOUR),
     (DAY, 0, 600),
     (30 * DAY, 0, 21_600)],
)  # fmt: skip
def test_slots_are_as_short_as_the_rows_that_are_kept(
    host: Host, length: int, age: int, slot: int
) -> None:
    now = host.now = START + 40 * DAY
    host.run.observe(10**6)
    host.writer().tick()
    until = now - age
    assert charts(host.database, until - length, now, until=until).slot_s == slot


@pytest.mark.slow
@pytest.mark.parametrize("hours", [5.2, 26.0, 36.0])
def test_each_slot_has_the_requests_of_its_time(host: Host, hours: float) -> None:
    writer = host.writer()
    for five_minutes in range(1, round(hours * 12) + 1):
        host.now = START + 300 * five_minutes
        host.run.observe(*[10**6] * 5)
        writer.tick()
    shown = charts(host.database, START, host.now, until=host.now)
    for point in shown.points[1:-1]:
        assert point["count"] == point["seconds"] / 60 == shown.slot_s / 60


def test_a_slot_is_a_multiple_of_the_rows_that_it_is_read_from(host: Host) -> None:
    host.now = START + 40 * DAY
    host.run.observe(10**6)
    host.writer().tick()
    with opened(host.database) as store:
        for age in (0, 5 * HOUR, 2 * DAY, 8 * DAY, 20 * DAY):
            for length in range(600, 40 * HOUR, 4321):
                chosen = slots(store, host.now - age - length, host.now - age, host.now)
                assert chosen.length in LENGTHS
                for stretch in chosen.stretches:
                    assert chosen.length % stretch.resolution.seconds == 0


def requests_every_minute(host: Host, hours: float) -> int:
    """Write some requests each minute, and return their number."""
    writer = host.writer()
    for _ in range(round(hours * 60)):
        host.now += 60
        host.run.observe(10**6, 10**8, endpoint="lots")
        host.run._add(REQUEST, ("yarn", "GET", "500", "first"), (10**9,))
        writer.tick()
    return 3 * round(hours * 60)


@pytest.mark.slow
def test_charts_have_every_request_from_the_rows_of_each_resolution(host: Host) -> None:
    written = requests_every_minute(host, 5.1)
    ended = host.now
    for age in (0, 2 * DAY, 9 * DAY, 20 * DAY):
        host.now += age
        host.writer().tick()
        shown = charts(host.database, START, host.now, until=ended + 3 * HOUR)
        assert sum(point["failed"] for point in shown.points) * 3 == written
        assert sum(point["count"] for point in shown.points) == written
        assert sum(sum(counts) for counts in shown.heat["counts"]) * 3 == written * 2
        assert {point["p50_ms"] for point in shown.points} == {shown.points[0]["p50_ms"]}


@pytest.mark.slow
def test_the_rates_of_cut_slots_are_those_of_their_written_parts(host: Host) -> None:
    requests_every_minute(host, 2.02)
    shown = charts(host.database, START + 90, host.now, until=START + DAY)
    assert shown.slot_s == 600
    assert shown.points[0]["seconds"] == 510 and shown.points[-1]["seconds"] < 600
    assert {point["seconds"] for point in shown.points[1:-1]} == {600}
    rates = [point["count"] / point["seconds"] for point in shown.points]
    assert rates == pytest.approx([3 / 60] * len(rates), rel=0.2)


@pytest.mark.slow
def test_a_window_of_one_host_has_the_requests_of_that_host(
    host: Host, another: Callable[[], Any], tmp_path: Path
) -> None:
    other = Host(another(), tmp_path / "other", Run(tmp_path / "other"))
    other_writer = other.writer(source="other")
    for tick in range(60):
        other.now = START + 10 * tick + 1
        other.run.observe(10**9)
        other.run.gauge(w1=900.0 * MB)
        other_writer.tick()
    requests_every_minute(host, 0.2)
    with opened(host.database) as store:
        number = store.known_source("host")
        bounds = START, START + HOUR, START + HOUR
        one = read_charts(store, *bounds, (("lots", "GET"),), number)
        all_ = read_charts(store, *bounds, (("lots", "GET"),))
        timeline = endpoint_timeline(store, "lots", "GET", *bounds, number)
    assert sum(point["count"] for point in one.points) == 36
    assert sum(point["count"] for point in all_.points) == 36 + 60
    assert max(point["p99_ms"] or 0 for point in one.points) < 200
    assert max(ms or 0 for ms in one.endpoints[0]["p95_ms"]) < 200
    assert {value for row in one.saturation for value in row["values"]} == {None}
    assert max(point["p99_ms"] for point in timeline["points"]) < 200


def test_an_endpoint_that_is_requested_twice_or_has_a_hostile_name_has_its_trend(
    host: Host,
) -> None:
    writer = host.writer()
    for tick in range(20):
        host.now = START + 10 * tick + 1
        host.run.observe(10**6, endpoint="lots\u202e")
        writer.tick()
    pair = (printable("lots\u202e"), "GET")
    [row] = charts(host.database, START, START + 200, pair, pair).endpoints
    assert [ms for ms in row["p95_ms"] if ms] == pytest.approx([1.0] * 19, rel=0.006)


def test_without_a_history_there_is_nothing(database: Database) -> None:
    shown = charts(database, START, START + HOUR, ("lots", "GET"))
    assert (
        shown.points == [] and shown.deploys == [] and shown.heat == {"upper_ms": [], "counts": []}
    )
    assert shown.endpoints == [{"endpoint": "lots", "method": "GET", "p95_ms": []}]


def test_the_page_of_an_endpoint_and_that_of_all_have_the_same_requests(
    host: Host, another: Callable[[], Any]
) -> None:
    writer = host.writer()
    for tick in range(40):
        host.now = START + 10 * tick + 1
        host.run.observe(10**7, 3 * 10**7)
        writer.tick()
    from .test_timelines import timeline

    whole = charts(host.database, START, START + 400)
    one = timeline(another(), START, START + 400)
    assert [row["count"] for row in one["points"]] == [row["count"] for row in whole.points]
    assert [row["p99_ms"] for row in one["points"]] == [row["p99_ms"] for row in whole.points]
    assert one["heat"] == whole.heat
