"""Load of a worker, and the detail it sheds where measuring is too expensive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.core.clock import Clock
from flask_knitperf.recording.span import Span

BUDGET_NS = 150_000


def record_cost(mill: Any, took_ns: int, times: int = 1) -> None:
    """Record the load several times, each after one timed request."""
    for _ in range(times):
        mill.session.profile.record_cost(took_ns)
        mill.session.profile.record_load()


def degraded(mill: Any) -> list[str]:
    return list(mill.report()["self"]["degraded"])


def test_a_worker_is_idle_ten_seconds_after_its_last_request(timed: Any, time: Any) -> None:
    is_idle, spans = timed.session.recorder.is_idle, timed.session.recorder.spans
    assert not is_idle()
    timed.get("/")
    time.pass_(20)
    assert not is_idle()
    time.pass_(9)
    assert not is_idle()
    time.pass_(1)
    assert is_idle()
    spans[Span(timed.session.recorder, {})] = None  # a request in flight
    assert not is_idle()
    spans.clear()


def test_a_process_that_serves_no_request_is_never_idle(timed: Any, time: Any) -> None:
    is_idle = timed.session.recorder.is_idle
    assert not is_idle()
    time.pass_(60)
    assert not is_idle()


def test_the_mean_cost_of_a_request_is_reported(timed: Any) -> None:
    timed.session.profile.record_cost(4_000)
    timed.session.profile.record_cost(8_000)
    timed.session.profile.record_load()
    record_cost(timed, 9_000)
    assert timed.report()["self"]["us_per_request"] == 7.0


def test_requests_that_all_take_the_slow_path_have_a_cost(quiet: Any) -> None:
    @quiet.app.get("/sectioned")
    def sectioned() -> str:
        with quiet.perf.section("price"):
            return "x"

    for _ in range(130):
        quiet.get("/sectioned")
    quiet.session.profile.record_load()
    assert quiet.report()["self"]["us_per_request"] > 1


def test_cost_above_the_budget_three_times_running_sheds_detail_and_reports_it(timed: Any) -> None:
    load = timed.session.profile.load
    record_cost(timed, BUDGET_NS + 1, times=2)
    record_cost(timed, BUDGET_NS)
    record_cost(timed, BUDGET_NS + 1, times=2)
    assert not load.shed and degraded(timed) == []
    record_cost(timed, 2 * BUDGET_NS)
    assert load.shed
    assert degraded(timed) == [
        "measuring cost 300 µs per request, so CPU time and neighbours are not recorded"
    ]


def test_a_cost_that_is_a_small_share_of_slow_requests_sheds_nothing(timed: Any) -> None:
    profile = timed.session.profile
    for _ in range(5):
        profile.requests_started += 10
        profile.busy_ns += 10 * 100 * 2 * BUDGET_NS + 10
        record_cost(timed, 2 * BUDGET_NS)
    assert not profile.load.shed
    for _ in range(3):
        profile.requests_started += 10
        profile.busy_ns += 10 * 90 * 2 * BUDGET_NS
        record_cost(timed, 2 * BUDGET_NS)
    assert profile.load.shed


def test_a_tick_without_a_timed_request_counts_for_nothing(timed: Any) -> None:
    record_cost(timed, BUDGET_NS + 1, times=2)
    timed.session.profile.record_load()
    record_cost(timed, BUDGET_NS + 1)
    assert timed.session.profile.load.shed


def test_a_fifth_of_the_budget_brings_detail_back(timed: Any) -> None:
    load = timed.session.profile.load
    record_cost(timed, 2 * BUDGET_NS, times=3)
    record_cost(timed, BUDGET_NS // 5)
    assert load.shed
    record_cost(timed, BUDGET_NS // 5 - 1)
    assert not load.shed and degraded(timed) == []


@pytest.mark.parametrize("shed", [False, True])
def test_cpu_is_read_unless_detail_is_shed(make_app: Callable[..., Any], shed: bool) -> None:
    mill = make_app(TESTING=True)
    mill.session.profile.load.shed = shed
    mill.get("/")
    assert (mill.row("index")["cpu_ms"] is None) is shed


def test_the_busy_share_is_that_of_the_last_minute(timed: Any, time: Any) -> None:
    timed.app.add_url_rule("/second", "second", lambda: str(time.pass_(1.0))[:0] + "ok")
    timed.session.profile.record_load()
    for tick in range(20):
        for _ in range(4 if tick >= 8 else 0):
            timed.get("/second")
        time.pass_(1.0 if tick >= 8 else 5.0)
        timed.session.profile.record_load()
    assert timed.report()["workers"][0]["busy_share"] == 0.8


def test_gil_pressure_is_that_of_the_last_minute(timed: Any, time: Any) -> None:
    profile = timed.session.profile
    for tick in range(20):
        profile.sampled_ns = tick * 1_000_000_000
        profile.load.waited = 0 if tick < 7 else (tick - 6) * 500_000_000
        profile.record_load()
        time.pass_(5)
    assert timed.report()["workers"][0]["gil_pressure"] == 0.5


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
