"""Readings: each row carries, by name, the observations of the meters that it stands for."""

from __future__ import annotations

import pytest

from flask_knitperf.metrics.catalogue import (
    PLAN,
    POOL_LEAK,
    PlanDetail,
    PlanKey,
    PoolLeakDetail,
    PoolLeakKey,
    ScanDetail,
)
from flask_knitperf.metrics.readings import Readings
from flask_knitperf.metrics.readings.rows import (
    FunctionReading,
    GCReading,
    GrowthReading,
    LeakReading,
    PartReading,
    RepeatReading,
    StatementReading,
)
from flask_knitperf.metrics.totals import NOTHING, Tally
from tests.analysis.tables import MS, Mill

ORDERS = ("orders", "GET")


def ms(total: float, count: int = 1) -> Tally:
    return Tally(count, round(total * MS))


def test_nothing_recorded_reads_as_nothing() -> None:
    readings = Mill().readings
    assert (readings.endpoints, readings.functions, readings.pools, readings.gc) == ([], [], [], [])
    assert (readings.cost, readings.queue.count, readings.incomplete) == (NOTHING, 0, 0)
    assert readings.gc_pauses == readings.growth == readings.leaks == {}
    assert readings.statement_texts == readings.statement_times == readings.plans == {}


def test_requests_are_read_by_when_they_ran() -> None:
    mill = Mill().requests("orders", [100], when="first").requests("orders", [10, 20])
    mill.requests("orders", [30], when="concurrent", status="5xx")
    (row,) = mill.readings.endpoints
    assert {name: data.count for name, data in row.requests._asdict().items()} == {
        "every": 4, "first": 1, "solo": 2, "concurrent": 1, "warm": 3,
    }  # fmt: skip
    assert row.requests.first.total == 100 * MS
    assert row.status == {"2xx": 3, "5xx": 1}


@pytest.mark.parametrize("name", ["killed", "disconnected"])
def test_an_endpoint_that_never_answers_has_a_row(name: str) -> None:
    (row,) = Mill().counter(name, *ORDERS, ms=9).readings.endpoints
    assert (row.endpoint, row.method) == ORDERS
    assert getattr(row, name) == ms(9)


def test_an_endpoint_that_was_never_requested_has_none() -> None:
    assert Mill().counter("part", *ORDERS, "sql", ms=1).readings.endpoints == []


def test_requests_in_flight_are_summed_over_workers_and_never_negative() -> None:
    (row,) = Mill().gauge("in_flight", *ORDERS, a=2.0, b=1.0, c=-1.0).readings.endpoints
    assert row.in_flight == 3.0


@pytest.mark.parametrize(
    "name",
    ["cpu", "sampled_wall", "run_queue", "contention", "gc", "gc_own", "bytes_out", "streamed"],
)
def test_each_counter_of_an_endpoint_is_an_attribute_of_its_row(name: str) -> None:
    (row,) = (
        Mill().requests("orders", [10]).counter(name, *ORDERS, ms=7, count=2).readings.endpoints
    )
    assert getattr(row, name) == ms(7, 2)


def test_parts_carry_their_sampled_times() -> None:
    mill = Mill().requests("orders", [10])
    mill.counter("part", *ORDERS, "sql", ms=6, count=3).counter("part", *ORDERS, "hook:a", ms=1)
    mill.counter("part_wall", *ORDERS, "sql", ms=4).counter("part_cpu", *ORDERS, "sql", ms=2)
    (row,) = mill.readings.endpoints
    assert row.parts == [
        PartReading("sql", ms(6, 3), ms(4), ms(2)),
        PartReading("hook:a", ms(1), NOTHING, NOTHING),
    ]


def test_file_reads_carry_the_line_and_the_state_of_the_file() -> None:
    mill = Mill().requests("orders", [10])
    mill.counter("file_read", *ORDERS, "a.csv", "app.py:3", "unchanged", ms=5, count=2)
    mill.counter("file_read_bytes", *ORDERS, "a.csv", ms=1)
    mill.counter("file_read_rows", *ORDERS, "a.csv", ms=2)
    (row,) = mill.readings.endpoints
    (read,) = row.file_reads
    assert read == ("a.csv", "app.py:3", "unchanged", ms(5, 2))
    assert (row.file_bytes, row.file_rows) == ({"a.csv": ms(1)}, {"a.csv": ms(2)})


def test_statements_and_repeats_carry_fingerprint_and_line() -> None:
    mill = Mill().requests("orders", [10]).requests("others", [10])
    mill.series("queries", *ORDERS).data.add(12)
    mill.counter("query_at", *ORDERS, "f1", "app.py:9", ms=4, count=12)
    mill.counter("query_rows", *ORDERS, "f1", ms=1, count=12)
    mill.counter("repeated", *ORDERS, "n_plus_one", "f1", "app.py:9", "lazy", ms=3, count=11)
    mill.counter("repeating", *ORDERS, "n_plus_one", "f1", "app.py:9", ms=5, count=1)
    orders, others = mill.readings.endpoints
    assert (orders.queries.count, orders.queries.total) == (1, 12)
    assert orders.statements == [StatementReading("f1", "app.py:9", ms(4, 12))]
    assert orders.statement_rows == {"f1": ms(1, 12)}
    assert orders.repeats == [RepeatReading("n_plus_one", "f1", "app.py:9", "lazy", ms(3, 11))]
    assert orders.repeating == {("n_plus_one", "f1", "app.py:9"): ms(5)}
    assert (others.statements, others.queries.count) == ((), 0)


def test_sizes_carry_the_mean_of_their_rows() -> None:
    mill = Mill().sized("orders", 100, [5, 7]).sized("orders", 1000, [50])
    mill.series("by_rows", *ORDERS, "99").data.add(1)  # a class whose rows were not recorded
    (row,) = mill.readings.endpoints
    assert [(size.rows, size.requests.count) for size in row.sizes] == [(100, 2), (1000, 1)]


def test_statements_are_read_over_all_endpoints() -> None:
    mill = Mill()
    mill.series("query", "f1", "SELECT ?").data.add(3 * MS)
    mill.counter("query_failed", "a", "GET", "f1", "OperationalError", ms=1)
    mill.counter("query_failed", "b", "GET", "f1", "OperationalError", ms=1, count=2)
    readings = mill.readings
    assert readings.statement_texts == {"f1": "SELECT ?"}
    assert readings.statement_times["f1"].total == 3 * MS
    assert readings.statement_failures == {"f1": {"OperationalError": 3}}


def test_plans_are_read_by_fingerprint() -> None:
    scan = ScanDetail(
        table="payments", columns=["invoice"], rows=9, exact=True, given=1, passes=1
    )  # fmt: skip
    detail = PlanDetail(steps=["SCAN payments"], scans=[scan])
    assert Mill().note(PLAN, PlanKey("f1"), 1, 0.5, detail).readings.plans == {"f1": detail}


def test_a_note_that_does_not_fit_its_declaration_is_left_out() -> None:
    mill = Mill().note(POOL_LEAK, PoolLeakKey("main", "a.py:1"), 1, 5.0, PoolLeakDetail(stack=[]))
    mill.note(POOL_LEAK, ("main",), 1, 5.0, PoolLeakDetail(stack=[]))  # type: ignore[type-var]
    mill.note(POOL_LEAK, PoolLeakKey("main", "b.py:1"), 1, 5.0, {})  # type: ignore[type-var]
    assert [note.key.where for note in mill.readings.notes(POOL_LEAK)] == ["a.py:1"]


def test_a_pool_is_read_from_any_of_its_meters() -> None:
    mill = Mill().counter("pool_timeouts", "main", ms=30_000)
    mill.series("pool_wait", "main").data.add(2 * MS)
    mill.series("pool_hold", "main").data.add(9 * MS)
    mill.series("pool_in_use", "main").data.add(4)
    mill.counter("pool_opened", "main", ms=11).counter("pool_invalidated", "main", "Error", ms=0)
    mill.gauge("pool_size", "main", a=5.0, b=5.0).series("pool_hold", "other").data.add(MS)
    main, other = mill.readings.pools
    assert (main.wait.total, main.hold.total, main.in_use.total) == (2 * MS, 9 * MS, 4)
    assert (main.opened, main.timeouts) == (ms(11), ms(30_000))
    assert (main.invalidated, main.size, main.limit) == ({"Error": 1}, 5.0, None)
    assert (other.name, other.hold.count, other.wait.count) == ("other", 1, 0)


def test_functions_carry_their_place() -> None:
    readings = Mill().function("explode", "bom.py:3", [5]).function("len", "", [1]).readings
    assert readings.function_places == {"explode": "bom.py:3"}
    assert [(name, where) for name, where, _ in readings.functions] == [
        ("explode", "bom.py:3"), ("len", ""),
    ]  # fmt: skip
    assert isinstance(readings.functions[0], FunctionReading)


def test_a_job_carries_the_failures_of_the_window() -> None:
    mill = Mill().counter("job_failed", "nightly", "KeyError", ms=3)
    mill.series("job", "nightly").data.add(3 * MS)
    mill.series("job_failed", "nightly", "ValueError")  # before the window
    (row,) = mill.readings.jobs
    assert (row.name, row.runs.count, row.failures) == ("nightly", 1, {"KeyError": ms(3)})


def test_gauges_are_read_by_worker() -> None:
    mill = Mill().gauge("rss_bytes", a=3.0, b=4.0).gauge("pss_bytes", a=1.0)
    mill.gauge("peak_bytes", a=9.0).gauge("busy_share", b=0.5).gauge("gil_pressure", b=0.1)
    gauges = mill.readings.gauges
    assert gauges == ({"a": 3.0, "b": 4.0}, {"a": 1.0}, {"a": 9.0}, {"b": 0.5}, {"b": 0.1})
    assert (gauges.peak_rss, gauges.gil_pressure) == ({"a": 9.0}, {"b": 0.1})


def test_the_process_has_a_queue_a_cost_and_pauses() -> None:
    mill = Mill().counter("cost", ms=0.02, count=4).counter("gc_pause", "2", ms=80)
    mill.counter("gc_pause", "0", ms=1, count=3).series("queue").data.add(5 * MS)
    readings = mill.readings
    assert (readings.cost, readings.queue.total) == (ms(0.02, 4), 5 * MS)
    assert list(readings.gc_pauses.items()) == [(0, ms(1, 3)), (2, ms(80))]


def test_pauses_are_read_by_endpoint() -> None:
    mill = Mill().requests("orders", [10]).counter("gc", *ORDERS, ms=3)
    mill.counter("gc_own", *ORDERS, ms=2).counter("killed", "stuck", "GET", ms=1)
    assert mill.readings.gc == [GCReading(*ORDERS, ms(10), ms(3), ms(2))]


def test_growth_is_read_of_workers_that_are_judged() -> None:
    mill = Mill().gauge("growth", "grown_bytes", a=5.0, b=6.0).gauge("growth", "requests", a=100.0)
    mill.gauge("growth", "seconds", a=60.0).gauge("growth", "p_value", a=0.001)
    assert mill.readings.growth == {"a": GrowthReading(5.0, 100.0, 60.0, 0.001)}


def test_a_leak_is_read_by_endpoint_and_worker() -> None:
    mill = Mill().requests("orders", [10]).gauge("leak", *ORDERS, "grown_bytes", a=900.0, b=0.0)
    mill.gauge("leak", *ORDERS, "bytes_per_request", a=9.0).gauge("leak", *ORDERS, "pairs", a=3.0)
    readings: Readings = mill.readings
    expected = {"a": LeakReading(9.0, 900.0, 3.0), "b": LeakReading(0.0, 0.0, 0.0)}
    assert readings.leaks == {ORDERS: expected}
    assert readings.endpoints[0].leaks == expected


def test_the_batches_are_those_of_the_rows() -> None:
    readings = Mill().requests("orders", [10, 20]).requests("orders", [90], when="first").readings
    (row,) = readings.endpoints
    readings.every_batch().quantiles((0.5,))
    readings.warm_batch().quantiles((0.5,))
    assert row.requests.every.precomputed.keys() == row.requests.warm.precomputed.keys() != set()
    assert row.requests.solo.precomputed == {}


def test_sizes_and_leaks_of_an_endpoint_without_requests_are_left_out() -> None:
    mill = Mill().gauge("leak", *ORDERS, "grown_bytes", a=900.0)
    mill.series("by_rows", *ORDERS, "7").data.add(1)
    rows = mill.series("rows", *ORDERS, "7").data
    rows.count, rows.total = 1, 10
    assert mill.readings.endpoints == []
