"""Leaks that workers suspect, and collections that an endpoint's own objects cause."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.analysis.endpoints import Coverage, endpoints
from flask_knitperf.analysis.findings import findings
from flask_knitperf.analysis.leaks import leaks
from flask_knitperf.analysis.scorecard import Measured, scorecard
from flask_knitperf.reports.endpoint_rows import leak_row

from .tables import LIMITS, Mill

MB = 1 << 20


def gauge(mill: Mill, meter: str, *labels: str, **by_worker: float) -> None:
    mill.gauge(meter, *labels, **by_worker)


def judged(
    mill: Mill, worker: str, grown: float, chance: float = 1e-8, requests: int = 9_000
) -> Mill:
    """Have a worker say how its memory grew."""
    figures = {"grown_bytes": grown, "requests": requests, "seconds": 600.0, "p_value": chance}
    for figure, value in figures.items():
        gauge(mill, "growth", figure, **{worker: value})
    return mill


def suspects(
    mill: Mill, worker: str, endpoint: str, per_request: float, grown: float, pairs: int = 90
) -> Mill:
    """Have a worker suspect an endpoint."""
    for figure, value in (
        ("bytes_per_request", per_request),
        ("grown_bytes", grown),
        ("pairs", pairs),
    ):
        gauge(mill, "leak", endpoint, "POST", figure, **{worker: value})
    return mill


def leaking() -> Mill:
    mill = Mill().requests("notes", [5] * 400, method="POST").requests("stock", [5] * 400)
    for worker, per_request in (("w1", 2_048), ("w2", 2_100)):
        suspects(judged(mill, worker, 3 * MB), worker, "notes", per_request, 2 * MB)
    return mill


def by_type(mill: Mill) -> dict[str, Any]:
    rows = endpoints(mill.readings, LIMITS)
    return {finding.type: finding for finding in findings(mill.readings, rows, LIMITS)}


def test_a_leak_is_reported_with_retained_bytes_and_the_command_that_finds_its_line() -> None:
    finding = by_type(leaking())["LEAK_SUSPECTED"]
    assert finding.text == (
        "Notes: each request retains about 2.0 KB, 4.0 MB in total so far. Run `flask knitperf "
        "leakhunt URL --method POST --allow-writes` to find the line. Sure: 180 of 180 measured "
        "requests."
    )
    assert (finding.endpoint, finding.severity) == ("notes", "WARNING")


def test_the_route_is_named_where_it_is_known() -> None:
    mill = leaking()
    rows = endpoints(mill.readings, LIMITS, [("notes", "/mill/notes", ("POST",))])
    (finding,) = [
        one for one in findings(mill.readings, rows, LIMITS) if one.type == "LEAK_SUSPECTED"
    ]
    assert "leakhunt /mill/notes --method POST --allow-writes" in finding.recommendation


def test_workers_are_put_together_by_what_they_grew() -> None:
    mill = suspects(judged(Mill(), "w1", MB), "w1", "notes", 1_000, MB)
    suspects(judged(mill, "w2", 3 * MB), "w2", "notes", 2_000, 3 * MB)
    leak = leaks(mill.readings)["notes", "POST"]
    assert (leak.bytes_per_request, leak.grown_bytes, leak.workers) == (1_750, 4 * MB, 2)


def test_a_suspicion_that_was_taken_back_is_none() -> None:
    mill = suspects(judged(Mill().requests("notes", [5] * 9), "w1", 0), "w1", "notes", 2_048, 0)
    assert leaks(mill.readings) == {}


def test_the_p_value_is_that_of_the_surest_worker_corrected_for_their_number() -> None:
    mill = suspects(judged(Mill(), "w1", MB, 1e-3), "w1", "notes", 1_000, MB)
    judged(judged(mill, "w2", 0, 0.5), "w3", 0, 0.7)
    assert leaks(mill.readings)["notes", "POST"].p_value == pytest.approx(3e-3)


def test_what_was_inferred_from_numbers_of_requests_counts_those() -> None:
    mill = Mill().requests("notes", [5] * 400, method="POST")
    suspects(judged(mill, "w1", MB), "w1", "notes", 1_000, MB, pairs=0)
    assert by_type(mill)["LEAK_SUSPECTED"].samples == 400


def test_a_worker_that_has_not_judged_yet_is_left_out() -> None:
    mill = Mill()
    gauge(mill, "growth", "grown_bytes", w1=5.0)
    assert mill.readings.growth == {}


def test_an_endpoint_includes_its_suspected_retained_bytes() -> None:
    leaks_of = {row.endpoint: row.leak for row in endpoints(leaking().readings, LIMITS)}
    assert leaks_of["stock"] is None and leaks_of["notes"] is not None
    assert leak_row(leaks_of["notes"]) == {
        "kb_per_request": 2.03, "grown_mb": 4.0, "workers": 2, "weighed": 180,
    }  # fmt: skip


def criterion(mill: Mill) -> Measured:
    return scorecard(mill.readings, [], Coverage(1, []), LIMITS)["memory leaks"]


def test_the_scorecard_names_the_suspect() -> None:
    assert criterion(leaking())[1:] == ("1 suspected", False)


def test_the_scorecard_passes_workers_that_were_judged() -> None:
    assert criterion(judged(Mill(), "w1", 0))[1:] == ("none in 1 worker", True)


def test_the_scorecard_does_not_pass_without_a_judgement() -> None:
    assert criterion(Mill()).ok is None


# -- collections -----------------------------------------------------------------------------------


def churning(own_ms: float = 40, stopped: int = 30, time: float = 100) -> Mill:
    mill = Mill().requests("seats", [time] * 30)
    mill.counter("gc", "seats", "GET", ms=own_ms * 30, count=30)
    return mill.counter("gc_own", "seats", "GET", ms=own_ms * 30, count=stopped)


def test_long_gc_pauses_are_reported() -> None:
    finding = by_type(churning())["GC_PAUSES"]
    assert finding.text.startswith("Seats: garbage collection pauses each request for 40 ms.")
    assert "flask knitperf gc" in finding.recommendation
    assert "LEAK_SUSPECTED" not in by_type(churning())


@pytest.mark.parametrize(
    "mill",
    [churning(own_ms=5), churning(own_ms=15), churning(stopped=2)],
    ids=["short", "a small share", "rare"],
)
def test_short_gc_pauses_are_not_reported(mill: Mill) -> None:
    assert "GC_PAUSES" not in by_type(mill)


def test_whom_others_collections_stop_is_not_blamed() -> None:
    mill = Mill().requests("ping", [50] * 30)
    mill.counter("gc", "ping", "GET", ms=40 * 30, count=30)
    assert "GC_PAUSES" not in by_type(mill)
