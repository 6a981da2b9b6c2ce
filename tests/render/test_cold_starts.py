"""First requests of workers: where figures include them and verdicts do not, that is stated."""

from __future__ import annotations

from typing import Any

from flask_knitperf.render import terminal


def test_the_terminal_states_that_first_requests_are_in_the_table_and_in_no_verdict(
    timed: Any, time: Any
) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(0.7) or "")
    for _ in range(7):
        timed.get("/slow")
    text = " ".join(terminal.report(timed.report()).split())
    assert "GET slow 7" in text and "6 of 6 requests" in text
    assert "a cold start: it counts here, and in no verdict on latency" in text
    document = timed.session.documents.why("slow", "GET", "run").document
    text = " ".join(terminal.why(document).split())
    assert "7 requests" in text
    assert (
        "First request of a worker: 700 ms, a cold start that is in no verdict on latency" in text
    )


def test_without_a_first_request_nothing_is_stated(timed: Any) -> None:
    assert "cold start" not in terminal.report(timed.report()).partition("ENDPOINTS")[2]
