"""GIL pressure: the share of request time in which other threads of the worker computed."""

from __future__ import annotations

from typing import Any

from flask_knitperf.core.clock import Clock


def test_a_worker_publishes_its_gil_pressure(timed: Any, time: Any) -> None:
    """A request waits a second for another thread, within a request that takes one second more."""
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
    timed.session.profile.record_load()
    assert timed.report()["workers"][0]["gil_pressure"] is None
    timed.get("/outer")
    time.pass_(5)
    timed.session.profile.record_load()
    assert timed.report()["workers"][0]["gil_pressure"] == 0.333
