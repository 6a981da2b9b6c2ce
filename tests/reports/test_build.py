"""The report as a whole: sentences, scorecard, schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.analysis.phrases import duration, one_in, percent, title
from tests.analysis.tables import Mill
from tests.reports.building import report_of

ROUTES = [("fabric_forecast", "/forecast", ["GET"]), ("ping", "/ping", ["GET"])]


def report(mill: Mill, routes: Any = ROUTES) -> Any:
    return report_of(mill, routes)


def forecast() -> Mill:
    mill = Mill().requests("fabric_forecast", [5600] * 40)
    mill.counter("part", "fabric_forecast", "GET", "section:read", ms=0.92 * 5600 * 40)
    return mill.function("read", "forecast.py:41", [5152])


def card(mill: Mill) -> dict[str, Any]:
    return {row["criterion"]: row["ok"] for row in report(mill)["scorecard"]}


def test_a_finding_is_a_sentence_with_cause_line_advice_and_confidence() -> None:
    assert report(forecast())["bottlenecks"][0]["text"] == (
        "Fabric forecast: 40 of 40 requests took over 500 ms, half of them 5.6 s or more. "
        "92 % of its time is spent in the section read (forecast.py:41). "
        "Start with that section. Sure: 40 of 40 requests."
    )


def test_where_few_are_slow_the_share_of_users_is_stated() -> None:
    text = report(Mill().requests("ping", [50] * 80 + [1100] * 20))["bottlenecks"][0]["text"]
    assert text.startswith("Ping: 1 in 20 users waits over 1.1 s.")


def test_where_most_are_slow_half_of_all_is_stated() -> None:
    text = report(Mill().requests("ping", [50] * 10 + [1100] * 30))["bottlenecks"][0]["text"]
    assert text.startswith("Ping: 30 of 40 requests took over 500 ms, half of all 1.1 s or more.")


def test_few_requests_are_counted_instead_of_extrapolated() -> None:
    text = report(Mill().requests("ping", [900] * 3))["bottlenecks"][0]["text"]
    assert text.startswith("Ping: 3 of 3 requests took over 500 ms, half of them 900 ms or more.")


def test_a_victims_finding_names_the_culprit() -> None:
    mill = Mill().requests("ping", [4] * 10).requests("ping", [600] * 20, when="concurrent")
    finding = report(mill.neighbour("ping", "fabric_forecast"))["bottlenecks"][0]
    text = (
        "Ping: slowed by Fabric forecast (100 % of the computing beside it) to 600 ms; without them "
        "it takes 4.0 ms"
    )
    assert finding["text"].startswith(text)


def test_a_victim_is_called_fast_enough_only_where_its_solo_requests_show_it() -> None:
    mill = Mill().requests("ping", [600] * 20, when="concurrent").neighbour("ping", "export")
    mill.sampled("ping", wall=600, cpu=5, contention=590)
    advice = report(mill)["bottlenecks"][0]["recommendation"]
    assert advice == "Fix Export, or give it separate workers."
    advice = report(mill.requests("ping", [4] * 10))["bottlenecks"][0]["recommendation"]
    assert advice.endswith("; alone this endpoint is within its thresholds.")


def test_the_pause_of_collections_and_its_share_are_one_figure() -> None:
    mill = Mill().requests("ping", [2496] * 20)
    mill.counter("gc", "ping", "GET", ms=532 * 20, count=20)
    mill.counter("gc_own", "ping", "GET", ms=532 * 20, count=20)
    mill.counter("part", "ping", "GET", "section:read", ms=2000 * 20, count=20)
    [finding] = [f for f in report(mill)["bottlenecks"] if f["type"] == "GC_PAUSES"]
    assert "pauses each request for 532 ms" in finding["text"]
    assert finding["why"][0]["share"] == pytest.approx(532 / 2496, abs=1e-4)


def test_the_median_in_a_finding_is_the_p50_of_the_table() -> None:
    mill = Mill().requests("ping", [900] * 6).requests("ping", [700] * 8, when="first")
    document = report(mill)
    assert document["endpoints"][0]["p50_ms"] == pytest.approx(700, rel=0.006)
    assert (
        "6 of 6 requests took over 500 ms, half of them 700 ms or more"
        in document["bottlenecks"][0]["text"]
    )


def test_noisy_neighbours_are_ranked_by_their_computing_time() -> None:
    mill = Mill().requests("ping", [4] * 10).requests("ping", [600] * 20, when="concurrent")
    mill.neighbour("ping", "export", 6e9).neighbour("ping", "waits", 30e9)
    mill.requests("export", [900] * 9).sampled("export", wall=900, cpu=891)
    mill.requests("waits", [900] * 9).sampled("waits", wall=900, cpu=0)
    document = report(mill)
    assert document["neighbours"] == [
        {"victim": "ping", "culprit": "export", "computed_s": 6.0, "share": 0.9524},
        {"victim": "ping", "culprit": "waits", "computed_s": 0.3, "share": 0.0476},
    ]  # fmt: skip
    [text] = [f["text"] for f in document["bottlenecks"] if f["type"] == "SLOWED_BY"]
    assert text.startswith("Ping: slowed by Export (95 % of the computing beside it) to")


def test_a_failing_endpoints_finding_names_exception_and_line() -> None:
    mill = Mill().requests("ping", [4] * 20, status="5xx").error("ping", "KeyError", "q.py:7", 20)
    finding = report(mill)["bottlenecks"][0]
    assert finding["why"][0]["where"] == "q.py:7" and "Fix KeyError at q.py:7." in finding["text"]


def test_high_variance_states_the_usual_and_the_worst_time() -> None:
    text = report(Mill().requests("ping", [20] * 95 + [2000] * 5))["bottlenecks"][0]["text"]
    assert "usually it takes 20 ms, but 1 in 20 requests is far slower, up to 2.0 s" in text


def test_one_recommendation_names_all_its_endpoints() -> None:
    mill = Mill().requests("ping", [900] * 9).requests("fabric_forecast", [950] * 9)
    assert [r["endpoints"] for r in report(mill)["recommendations"]] == [
        ["fabric_forecast", "ping"]
    ]


def test_a_saving_is_reported_only_where_it_was_measured() -> None:
    assert report(forecast())["bottlenecks"][0]["saving"] is None


def test_an_empty_report_is_never_ok() -> None:
    assert set(card(Mill()).values()) == {None}


def test_a_report_has_every_part_of_the_schema() -> None:
    assert set(report(Mill())) == {
        "schema", "generated_at", "window", "workers", "coverage", "load", "endpoints", "functions",
        "jobs", "queue", "neighbours", "bottlenecks", "cards", "recommendations", "cache_advice",
        "scorecard", "self",
    }  # fmt: skip


def test_a_report_is_json_without_nan() -> None:
    mill = forecast().gauge("in_flight", "ping", "GET", w1=1)
    assert json.loads(json.dumps(report(mill), allow_nan=False)) == report(mill)


def test_the_scorecard_compares_the_largest_worker() -> None:
    assert card(Mill().gauge("rss_bytes", w1=3e8, w2=6e8))["memory per worker"] is False


def test_the_scorecard_passes_fast_endpoints() -> None:
    assert card(Mill().requests("ping", [20] * 9))["response time"] is True


def test_the_scorecard_fails_slow_endpoints() -> None:
    assert card(Mill().requests("ping", [300] * 9))["response time"] is False


def test_unseen_endpoints_are_not_covered() -> None:
    assert card(Mill().requests("ping", [20] * 9))["coverage"] is False


def test_cache_hits_that_were_not_measured_are_neither_met_nor_missed() -> None:
    assert card(Mill().requests("ping", [20] * 9))["cache hits"] is None


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [("fabric_forecast", "Fabric forecast"), ("orders.orders_list", "Orders list"), ("", "")],
)
def test_endpoints_have_readable_names(endpoint: str, text: str) -> None:
    assert title(endpoint) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(0.42, "420 µs"), (230.4, "230 ms"), (999, "1.0 s"), (5600, "5.6 s")]
)
def test_durations_have_a_readable_unit(ms: float, text: str) -> None:
    assert duration(ms) == text


def test_a_share_never_claims_more_than_was_seen() -> None:
    assert [percent(s) for s in (0.92, 0.999, 1.0)] == ["92 %", "99.9 %", "100 %"]


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_a_frequency_is_every_only_without_exception(bad: int, n: int) -> None:
    assert (one_in(bad, n) == "every") == (bad >= n)


@pytest.mark.parametrize(
    ("cpu", "text"), [(0.9, "it computes"), (0.1, "it waits"), (None, "Start with that section")]
)
def test_the_advice_for_a_section_depends_on_whether_it_computes_or_waits(
    cpu: float | None, text: str
) -> None:
    mill = Mill().requests("bom", [1000] * 9)
    mill.counter("part", "bom", "GET", "section:explode", ms=9000, count=9)
    if cpu is not None:
        mill.counter("part_wall", "bom", "GET", "section:explode", ms=9000, count=9)
        mill.counter("part_cpu", "bom", "GET", "section:explode", ms=9000 * cpu, count=9)
    assert text in report(mill)["bottlenecks"][0]["recommendation"]


def test_functions_are_sorted_by_total_time() -> None:
    mill = Mill().function("quick", "a.py:1", [1]).function("heavy", "a.py:9", [50, 70])
    functions = report(mill.function("idle", "a.py:5", []))["functions"]
    means = [(row["name"], row["mean_ms"]) for row in functions]
    assert means == [("heavy", 60.0), ("quick", 1.0)]


def test_the_queue_is_unknown_without_a_proxy() -> None:
    assert report(Mill())["queue"] is None


def test_the_queue_time_is_reported_where_a_proxy_sends_it() -> None:
    mill = Mill()
    mill.series("queue").data.add(30e6)
    assert report(mill)["queue"]["p95_ms"] == pytest.approx(30, rel=0.01)
