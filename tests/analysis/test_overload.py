"""An overloaded machine: one finding, blamed on no endpoint."""

from __future__ import annotations

import pytest

from flask_knitperf.analysis.endpoints import endpoints
from flask_knitperf.analysis.overload import overload
from tests.reports.building import report_of

from .tables import LIMITS, MS, Mill


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
    assert first == "This machine lacks CPU cores: 90 % of request time is waiting for a free one"
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


def test_two_endpoints_are_named_with_an_and() -> None:
    mill = Mill().queueing("light", cpu=70, run_queue=930).queueing("small", cpu=70, run_queue=930)
    texts = [row["text"] for row in report_of(mill)["cards"][0]["points"]]
    assert "Light and Small exceed their thresholds only because of it." in texts


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


def test_requests_of_which_none_above_the_threshold_was_sampled_are_judged_by_the_mean() -> None:
    mill = Mill().queueing("others", cpu=70, run_queue=930)
    mill.requests("by_path", [400] * 64)
    for meter, ms in (("sampled_wall", 400), ("cpu", 120), ("run_queue", 280)):
        mill.counter(meter, "by_path", "GET", ms=64 * ms, count=64)
    assert types(mill) == []


def test_a_slow_endpoint_of_which_none_above_the_threshold_was_sampled_keeps_its_verdict() -> None:
    mill = Mill().queueing("others", cpu=70, run_queue=930)
    mill.requests("by_path", [4000] * 64)
    for meter, ms in (("sampled_wall", 4000), ("cpu", 1200), ("run_queue", 2800)):
        mill.counter(meter, "by_path", "GET", ms=64 * ms, count=64)
    assert types(mill) == ["SLOW_RESPONSE"]


def test_cpu_time_that_has_grown_by_less_than_a_third_is_not_too_long() -> None:
    mill = Mill().queueing("grown", cpu=260, run_queue=740)
    assert types(mill) == []
    assert types(mill.queueing("slow", cpu=290, run_queue=740)) == ["MODERATE_RESPONSE"]


def test_waiting_does_not_grow_on_an_overloaded_machine() -> None:
    mill = Mill().queueing("waits", cpu=5, run_queue=100, waiting=220)
    assert types(mill.queueing("others", cpu=70, run_queue=930)) == ["MODERATE_RESPONSE"]


def test_pauses_are_judged_without_queueing() -> None:
    mill = Mill().queueing("collects", cpu=10, run_queue=30)
    assert types(mill.counter("gc_own", "collects", "GET", ms=20 * 36, count=20)) == []
    assert types(mill.counter("gc_own", "collects", "GET", ms=20 * 5, count=20)) == ["GC_PAUSES"]


def reading_a_file(cpu: float) -> Mill:
    """Return requests that re-read a file, for which they queue three quarters of their time."""
    mill = Mill().queueing("reads", cpu=cpu, run_queue=3 * cpu)
    for meter in ("part", "part_cpu", "part_wall"):
        mill.counter(meter, "reads", "GET", "file_read", ms=20 * 4 * cpu, count=20)
    return mill.counter("file_read", "reads", "GET", "a.csv", "a.py:1", "unchanged",
                        ms=20 * 4 * cpu, count=20)  # fmt: skip


def test_reads_of_unchanged_files_are_judged_without_queueing() -> None:
    assert types(reading_a_file(cpu=9)) == []
    assert types(reading_a_file(cpu=11)) == ["REPEATED_FILE_READ"]


def sending_a_statement(cpu: float) -> Mill:
    """Return requests that wait for a statement that computes, of which three quarters queue."""
    mill = Mill().queueing("sends", cpu=cpu, run_queue=3 * cpu)
    for meter in ("part", "part_cpu", "part_wall"):
        mill.counter(meter, "sends", "GET", "sql", ms=20 * 4 * cpu, count=20)
    mill.counter("query_at", "sends", "GET", "f1", "a.py:1", ms=20 * 4 * cpu, count=20)
    series = mill.series("query", "f1", "SELECT 1")
    for _ in range(20):
        series.data.add(4 * cpu * MS)
    return mill


def test_a_statement_that_computes_in_the_process_is_judged_without_queueing() -> None:
    assert types(sending_a_statement(cpu=90)) == []
    assert "SLOW_QUERY" in types(sending_a_statement(cpu=110))


@pytest.mark.parametrize("run_queue", [400, 399, 1200])
def test_requests_that_did_nothing_but_queue_are_not_too_long(run_queue: float) -> None:
    mill = Mill().queueing("others", cpu=70, run_queue=930)
    mill.requests("by_path", [400] * 64)
    for meter, ms in (("sampled_wall", 400), ("cpu", 0), ("run_queue", run_queue)):
        mill.counter(meter, "by_path", "GET", ms=64 * ms, count=64)
    assert types(mill) == []
