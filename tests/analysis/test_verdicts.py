"""Verdicts: who gets one, and who must not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.analysis.endpoints import endpoints
from flask_knitperf.analysis.findings import findings
from flask_knitperf.analysis.judged import Verdict
from flask_knitperf.analysis.verdicts import verdicts
from flask_knitperf.metrics.catalogue import NEIGHBOUR

from .tables import LIMITS, Budget, Limits, Mill


def judge(mill: Mill, limits: object = LIMITS) -> list[Verdict]:
    rows = endpoints(mill.readings, limits)  # type: ignore[arg-type]
    return verdicts(rows, limits, mill.readings.notes(NEIGHBOUR))  # type: ignore[arg-type]


def types(mill: Mill, limits: object = LIMITS) -> list[str]:
    return [verdict.type for verdict in judge(mill, limits)]


def test_no_requests_no_verdicts() -> None:
    assert types(Mill()) == []


def test_twenty_requests_exactly_at_the_limit_are_not_flagged() -> None:
    assert types(Mill().requests("at_limit", [200] * 20)) == []


def test_an_endpoint_of_which_one_in_twenty_exceeds_is_within_its_limit() -> None:
    assert types(Mill().requests("edge", [150] * 19 + [600])) == []


@pytest.mark.slow
def test_an_endpoint_at_its_limit_is_flagged_in_at_most_one_percent_of_runs() -> None:
    chance = random.Random(7)
    flagged = 0
    for _ in range(1000):
        times = [201 if chance.random() < 0.05 else 150 for _ in range(20)]
        flagged += bool(types(Mill().requests("edge", times)))
    assert flagged <= 10


def test_three_requests_all_slow_are_flagged() -> None:
    assert types(Mill().requests("forecast", [900] * 3)) == ["SLOW_RESPONSE"]


def test_two_requests_are_not_judged() -> None:
    assert types(Mill().requests("forecast", [900] * 2)) == []


def test_between_the_thresholds_it_is_moderate() -> None:
    assert types(Mill().requests("bom", [300] * 20)) == ["MODERATE_RESPONSE"]


def test_an_endpoint_is_judged_by_its_own_budget() -> None:
    limits = Limits(budgets={"export": Budget(slow_ms=5000, moderate_ms=3000)})
    assert types(Mill().requests("export", [2000] * 30), limits) == []


def test_cold_starts_do_not_spoil_a_verdict() -> None:
    mill = Mill().requests("orders", [5] * 396).requests("orders", [900] * 4, when="first")
    assert types(mill) == []


def test_an_endpoint_that_ten_percent_of_the_time_answers_500_is_flagged() -> None:
    mill = Mill().requests("quote", [5] * 180).requests("quote", [5] * 20, status="5xx")
    assert types(mill) == ["LOW_SUCCESS_RATE"]


def test_client_errors_are_no_failures() -> None:
    assert types(Mill().requests("order", [5] * 50, status="4xx")) == []


def test_requests_killed_by_the_server_are_failures() -> None:
    mill = Mill().counter("killed", "stuck", "GET", ms=90_000, count=3)
    assert types(mill) == ["LOW_SUCCESS_RATE"]


@pytest.mark.parametrize(
    ("age_ms", "reason"),
    [(90_000, "killed by the server, mostly for taking too long"),
     (3, "its worker ended after 1.0 ms: sys.exit, a crash or a restart")],
)  # fmt: skip
def test_only_old_requests_were_killed_for_taking_too_long(age_ms: float, reason: str) -> None:
    mill = Mill().counter("killed", "stuck", "GET", ms=age_ms, count=3)
    (finding,) = findings(mill.readings, endpoints(mill.readings, LIMITS), LIMITS)  # type: ignore[arg-type]
    assert [cause.detail for cause in finding.why] == [reason]


def test_failures_without_a_route_are_not_called_404() -> None:
    mill = Mill().requests("<unmatched>", [5] * 5, status="5xx")
    (finding,) = findings(mill.readings, endpoints(mill.readings, LIMITS), LIMITS)  # type: ignore[arg-type]
    assert finding.text.startswith("No matching route: all requests fail")


def test_one_request_that_was_killed_after_a_slow_time_is_critical() -> None:
    mill = Mill().requests("stuck", [5] * 11).counter("killed", "stuck", "GET", ms=30_000)
    (finding,) = findings(mill.readings, endpoints(mill.readings, LIMITS), LIMITS)  # type: ignore[arg-type]
    assert (finding.type, finding.severity, finding.samples) == ("REQUEST_KILLED", "CRITICAL", 12)
    headline, advice, *_ = finding.text.split(". ")
    assert headline.endswith("1 of 12 requests was killed with the worker, after 30.0 s")
    assert advice.startswith("Compare that with the server's timeout")


def test_the_only_request_is_counted_in_the_singular() -> None:
    mill = Mill().counter("killed", "stuck", "GET", ms=30_000)
    (finding,) = findings(mill.readings, endpoints(mill.readings, LIMITS), LIMITS)  # type: ignore[arg-type]
    assert finding.confidence.endswith(": 1 of 1 request was killed")


def test_a_killed_worker_takes_short_requests_with_it_that_are_no_finding() -> None:
    mill = Mill().requests("quick", [5] * 50).counter("killed", "quick", "GET", ms=40)
    assert types(mill) == []


def test_rare_but_long_outliers_are_high_variance() -> None:
    assert types(Mill().requests("jitter", [20] * 190 + [2000] * 10)) == ["HIGH_VARIANCE"]


def test_variance_below_the_moderate_threshold_is_harmless() -> None:
    assert types(Mill().requests("jitter", [1] * 190 + [100] * 10)) == []


def test_a_single_freak_is_no_variance() -> None:
    assert types(Mill().requests("ping", [5] * 49 + [900])) == []


def test_paths_without_a_rule_get_no_latency_verdict() -> None:
    assert types(Mill().requests("<unmatched>", [900] * 20, status="4xx")) == []


def test_redirects_get_no_latency_verdict() -> None:
    assert types(Mill().requests("legacy", [900] * 20, status="3xx")) == []


def healthy_beside_sick() -> Mill:
    mill = (
        Mill().requests("forecast", [5600] * 20, when="concurrent").requests("forecast", [5500] * 5)
    )
    mill.requests("ping", [4] * 10).requests("ping", [600] * 20, when="concurrent")
    return mill.neighbour("ping", "forecast").sampled("forecast", wall=5600, cpu=5500)


def test_a_healthy_endpoint_beside_a_sick_one_gets_only_slowed_by() -> None:
    verdicts = [v for v in judge(healthy_beside_sick()) if v.row.endpoint == "ping"]
    assert [(v.type, v.severity) for v in verdicts] == [("SLOWED_BY", "INFO")]


def test_the_victim_names_its_culprit() -> None:
    verdicts = [v for v in judge(healthy_beside_sick()) if v.row.endpoint == "ping"]
    assert verdicts[0].culprit == "forecast"


def test_the_culprit_itself_is_still_flagged() -> None:
    verdicts = [v.type for v in judge(healthy_beside_sick()) if v.row.endpoint == "forecast"]
    assert verdicts == ["SLOW_RESPONSE"]


def test_a_neighbour_that_sleeps_is_not_the_culprit() -> None:
    mill = healthy_beside_sick().neighbour("ping", "sleeper", weight=3e9)
    mill.requests("sleeper", [100] * 5).sampled("sleeper", wall=100, cpu=0)
    assert [v.culprit for v in judge(mill) if v.row.endpoint == "ping"] == ["forecast"]


def test_never_alone_but_mostly_contention_is_slowed_by() -> None:
    mill = Mill().requests("ping", [600] * 20, when="concurrent").neighbour("ping", "forecast")
    assert types(mill.sampled("ping", wall=600, cpu=5, contention=590)) == ["SLOWED_BY"]


@pytest.mark.parametrize("solo", [[900], [900, 700]])
def test_an_endpoint_that_is_as_slow_in_its_few_solo_requests_is_not_excused(
    solo: list[float],
) -> None:
    mill = Mill().requests("orders", [900] * 20, when="concurrent").requests("orders", solo)
    mill.neighbour("orders", "export").sampled("orders", wall=900, cpu=20, contention=800)
    assert types(mill) == ["SLOW_RESPONSE"]


def test_contention_that_does_not_explain_the_excess_excuses_nothing() -> None:
    mill = Mill().requests("bom", [1200] * 20, when="concurrent")
    assert types(mill.sampled("bom", wall=1200, cpu=600, contention=600)) == ["SLOW_RESPONSE"]


def test_never_alone_and_no_contention_measured_excuses_nothing() -> None:
    assert types(Mill().requests("bom", [1200] * 20, when="concurrent")) == ["SLOW_RESPONSE"]


def test_slow_beside_and_moderate_alone_is_moderate_by_itself() -> None:
    mill = Mill().requests("bom", [300] * 10).requests("bom", [700] * 20, when="concurrent")
    verdicts = judge(mill)
    assert [(v.type, v.judged.n) for v in verdicts] == [("MODERATE_RESPONSE", 10)]


def test_a_few_fast_requests_alone_do_not_excuse_rare_outliers() -> None:
    mill = Mill().requests("jitter", [20] * 5)
    mill.requests("jitter", [20] * 190 + [2000] * 10, when="concurrent")
    assert types(mill) == ["HIGH_VARIANCE"]


def test_variance_that_contention_explains_is_slowed_by() -> None:
    mill = Mill().requests("ping", [5] * 200)
    mill.requests("ping", [5] * 150 + [900] * 15, when="concurrent").neighbour("ping", "forecast")
    assert types(mill) == ["SLOWED_BY"]


def test_a_failing_victim_is_still_reported() -> None:
    mill = Mill().requests("ping", [4] * 10)
    mill.requests("ping", [600] * 20, when="concurrent", status="5xx")
    assert types(mill) == ["LOW_SUCCESS_RATE", "SLOWED_BY"]


@given(st.lists(st.floats(0.001, 200), max_size=60), st.lists(st.floats(0.001, 200), max_size=60))
def test_no_request_above_the_threshold_no_latency_verdict(
    alone: list[float], beside: list[float]
) -> None:
    assert types(Mill().requests("any", alone).requests("any", beside, when="concurrent")) == []


@given(st.integers(3, 200), st.floats(520, 90_000))
def test_all_requests_slow_and_alone_is_always_flagged(n: int, ms: float) -> None:
    assert types(Mill().requests("any", [ms] * n)) == ["SLOW_RESPONSE"]
