"""Pressure on the GIL: the share of request time in which others of the worker computed."""

from __future__ import annotations

from typing import Any

from flask_knitperf.core.clock import Clock


def test_a_worker_tells_how_much_of_its_requests_time_others_computed(
    timed: Any, time: Any
) -> None:
    """One request of a second, all of which another thread computes, within one of a second more."""
    process = [5_000_000_000]
    timed.session.recorder.clock = Clock(
        lambda: time.ns, lambda: time.epoch, lambda: time.cpu, lambda: 0, lambda: process[0]
    )

    def slowed() -> str:
        time.pass_(1.0)
        process[0] += 1_000_000_000
        return "ok"

    def outer() -> str:
        time.pass_(1.0)
        timed.get("/slowed")
        return "ok"

    timed.app.add_url_rule("/slowed", "slowed", slowed)
    timed.app.add_url_rule("/outer", "outer", outer)
    timed.session.profile.account()
    assert timed.report()["workers"][0]["gil_pressure"] is None
    timed.get("/outer")
    time.pass_(5)
    timed.session.profile.account()
    assert timed.report()["workers"][0]["gil_pressure"] == 0.333
