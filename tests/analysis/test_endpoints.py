"""Rows: what is known of an endpoint, in the report's units."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.analysis.endpoints import coverage, endpoints
from flask_knitperf.reports.endpoint_rows import endpoint_row

from .tables import LIMITS, Mill


def row(mill: Mill, routes: Any = ()) -> Any:
    return endpoint_row(endpoints(mill.readings, LIMITS, routes)[0])


def test_an_empty_table_has_no_rows() -> None:
    assert endpoints(Mill().readings, LIMITS) == []


def test_all_times_of_requests_are_counted_together() -> None:
    mill = Mill().requests("a", [1], when="first").requests("a", [2])
    mill.requests("a", [3], when="concurrent")
    assert (row(mill)["count"], row(mill)["mean_ms"]) == (3, 2)


def test_the_first_requests_are_kept_apart() -> None:
    assert row(Mill().requests("a", [300, 500], when="first").requests("a", [5]))["first_ms"] == 400


def test_an_endpoint_that_always_fails_stays_in_the_table() -> None:
    endpoint = row(Mill().requests("a", [5] * 4, status="5xx"))
    assert (endpoint["status"]["5xx"], endpoint["success_rate"], endpoint["p95_ms"]) == (4, 0, 5)


def test_an_endpoint_that_was_only_killed_stays_in_the_table() -> None:
    endpoint = row(Mill().counter("killed", "stuck", "GET", ms=60_000, count=2))
    assert (endpoint["killed"], endpoint["count"], endpoint["time_spent_s"]) == (2, 0, 60)


def test_an_endpoint_whose_only_request_is_in_flight_is_shown() -> None:
    assert row(Mill().gauge("in_flight", "a", "GET", w1=1, w2=2))["in_flight"] == 3


def test_cpu_is_null_where_it_was_not_measured() -> None:
    endpoint = row(Mill().requests("async_quote", [50] * 5).counter(
        "sampled_wall", "async_quote", "GET", ms=50))  # fmt: skip
    assert (endpoint["cpu_ms"], endpoint["wait_ms"]) == (None, None)


def test_cpu_and_waiting_make_up_the_mean() -> None:
    endpoint = row(Mill().requests("a", [100] * 5).sampled("a", wall=100, cpu=30))
    assert (endpoint["cpu_ms"], endpoint["wait_ms"]) == (30, 70)


def test_p99_is_not_given_on_few_requests() -> None:
    assert row(Mill().requests("a", [5] * 99))["p99_ms"] is None


def test_p99_is_given_on_many_requests() -> None:
    assert row(Mill().requests("a", [5] * 100))["p99_ms"] == 5


def test_excess_is_the_time_above_the_moderate_threshold() -> None:
    assert row(Mill().requests("a", [700] * 10))["excess_s"] == pytest.approx(5, rel=0.01)


def test_rows_are_sorted_by_excess_then_time_spent() -> None:
    mill = Mill().requests("busy", [100] * 90).requests("idle", [1]).requests("slow", [900])
    assert [r.endpoint for r in endpoints(mill.readings, LIMITS)] == ["slow", "busy", "idle"]


def test_a_row_names_the_rule_of_its_method() -> None:
    routes = [("order", "/order", ["POST"]), ("order", "/order/<id>", ["GET"])]
    assert row(Mill().requests("order", [5]), routes)["rule"] == "/order/<id>"


def test_coverage_lists_what_was_never_called() -> None:
    routes = [("a", "/a", ["GET"]), ("b", "/b", ["GET"])]
    rows = endpoints(Mill().requests("a", [5]).readings, LIMITS, routes)
    covered = coverage(rows, routes)
    assert (covered.total, covered.seen, covered.unseen) == (2, 1, ["b"])


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e8)), min_size=1, max_size=80))
def test_a_picture_counts_every_request_in_few_rising_bars(values: list[float]) -> None:
    endpoint = row(Mill().requests("a", values))["distribution"]
    uppers = endpoint["upper_ms"]
    assert len(uppers) == len(endpoint["count"]) <= 24 and uppers == sorted(uppers)
    assert sum(endpoint["count"]) == len(values)
