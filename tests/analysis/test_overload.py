"""An overloaded machine: one finding, blamed on no endpoint."""

from __future__ import annotations

import pytest

from flask_knitperf.analysis.endpoints import endpoints
from flask_knitperf.analysis.overload import overload
from tests.reports.building import report_of

from .tables import LIMITS, Mill


def types(mill: Mill) -> list[str]:
    return [finding["type"] for finding in report_of(mill)["bottlenecks"]]


def titles(mill: Mill) -> list[str]:
    return [card["title"] for card in report_of(mill)["cards"]]


def test_an_endpoint_that_is_slow_only_while_it_queues_for_a_core_gets_no_verdict() -> None:
    assert types(Mill().queueing("light", cpu=70, run_queue=930)) == []


def test_an_endpoint_that_is_slow_without_queueing_keeps_its_verdict() -> None:
    assert types(Mill().queueing("heavy", cpu=700, run_queue=930)) == ["SLOW_RESPONSE"]


def test_an_endpoint_that_waits_too_long_for_something_else_keeps_its_verdict() -> None:
    mill = Mill().queueing("waits", cpu=70, run_queue=300, waiting=600)
    assert types(mill) == ["SLOW_RESPONSE"]


def test_a_severe_verdict_becomes_a_milder_one_where_queueing_made_it_severe() -> None:
    assert types(Mill().queueing("half", cpu=300, run_queue=500)) == ["MODERATE_RESPONSE"]


def test_variance_that_comes_from_queueing_is_no_finding() -> None:
    mill = Mill().queueing("light", cpu=10, run_queue=990, count=20)
    assert types(mill.requests("light", [10] * 180)) == []


def test_the_machine_is_one_card_and_the_first_with_the_share_of_request_time() -> None:
    mill = Mill().queueing("a", cpu=100, run_queue=900).queueing("b", cpu=100, run_queue=900)
    mill.requests("fails", [5] * 20, status="500")
    first, *others = titles(mill)
    assert first == "This machine lacks CPU cores: 90 % of request time is queueing for one"
    assert not [title for title in others if "cores" in title]


def test_the_machines_card_names_the_endpoints_that_are_slow_only_for_it() -> None:
    card = report_of(
        Mill().queueing("light", cpu=70, run_queue=930).queueing("heavy", cpu=700, run_queue=930)
    )["cards"][0]
    assert (card["kind"], card["severity"]) == ("machine", "CRITICAL")
    assert [row["endpoint"] for row in card["endpoints"]] == ["light"]
    assert "Light exceeds its threshold only because of it." in [
        row["text"] for row in card["points"]
    ]


def test_queueing_that_makes_nothing_slow_is_not_reported() -> None:
    assert titles(Mill().queueing("fast", cpu=20, run_queue=40)) == []


def test_quantiles_stay_as_measured() -> None:
    [row] = report_of(Mill().queueing("light", cpu=70, run_queue=930))["endpoints"]
    assert row["p95_ms"] == pytest.approx(1000, rel=0.006)


@pytest.mark.parametrize(
    ("cpu", "run_queue", "waiting", "count"),
    [(600, 50, 0, 20), (10, 20, 900, 20), (70, 930, 0, 19), (900, 200, 0, 20)],
    ids=["hardly any", "a small share of the time", "too few", "a small share of the computing"],
)
def test_a_machine_with_little_queueing_is_not_overloaded(
    cpu: float, run_queue: float, waiting: float, count: int
) -> None:
    mill = Mill().queueing("a", cpu=cpu, run_queue=run_queue, waiting=waiting, count=count)
    assert overload(endpoints(mill.readings, LIMITS)) is None


def test_without_overload_requests_are_judged_as_they_are() -> None:
    mill = Mill().queueing("light", cpu=70, run_queue=930).requests("waits", [9000] * 50)
    mill.counter("sampled_wall", "waits", "GET", ms=450_000, count=50)
    mill.counter("cpu", "waits", "GET", ms=10, count=50)
    assert types(mill) == ["SLOW_RESPONSE", "SLOW_RESPONSE"]


def test_async_views_of_which_queueing_is_not_measured_are_judged_as_they_are() -> None:
    mill = Mill().queueing("light", cpu=70, run_queue=930).requests("async", [900] * 20)
    assert types(mill) == ["SLOW_RESPONSE"]


def test_the_overload_is_stated_once_and_a_finding_is_about_the_code() -> None:
    document = report_of(Mill().queueing("heavy", cpu=700, run_queue=930))
    [finding] = document["bottlenecks"]
    assert finding["why"][0]["cause"] == "cpu_queue"
    assert "of its time is spent running Python code" in finding["text"]
    assert finding["recommendation"].startswith("Sampled stacks show the lines")
    assert [card["kind"] for card in document["cards"]] == ["machine", "endpoint"]


def test_where_the_machine_is_not_overloaded_queueing_is_the_reason_of_an_endpoint() -> None:
    mill = Mill().queueing("heavy", cpu=700, run_queue=930)
    mill.queueing("calm", cpu=900, run_queue=0, count=400)
    [finding] = [row for row in report_of(mill)["bottlenecks"] if row["endpoint"] == "heavy"]
    assert "of its time is spent queueing for a CPU core" in finding["text"]
    assert finding["recommendation"].startswith("Give the machine more cores")
    assert "KNITPERF_SAMPLER = True" in finding["recommendation"]
