"""How busy a worker says it is, and what it leaves out where measuring costs too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

BUDGET_NS = 150_000


def accounted(mill: Any, took_ns: int, times: int = 1) -> None:
    """Have some turns in each of which one request cost so much."""
    for _ in range(times):
        mill.session.profile.record_cost(took_ns)
        mill.session.profile.account()


def limits(mill: Any) -> list[str]:
    found: list[str] = mill.report()["self"]["degraded"]
    return found


def test_the_mean_cost_of_a_request_is_told(timed: Any) -> None:
    timed.session.profile.record_cost(4_000)
    timed.session.profile.record_cost(8_000)
    timed.session.profile.account()
    accounted(timed, 9_000)
    assert timed.report()["self"]["us_per_request"] == 7.0


def test_cost_above_the_budget_three_times_running_sheds_detail_and_says_so(timed: Any) -> None:
    load = timed.session.profile.load
    accounted(timed, BUDGET_NS + 1, times=2)
    accounted(timed, BUDGET_NS)
    accounted(timed, BUDGET_NS + 1, times=2)
    assert not load.shed and limits(timed) == []
    accounted(timed, 2 * BUDGET_NS)
    assert load.shed
    assert limits(timed) == [
        "measuring cost 300 µs per request, so CPU time and neighbours are not recorded"
    ]


def test_a_turn_without_a_timed_request_tells_nothing(timed: Any) -> None:
    accounted(timed, BUDGET_NS + 1, times=2)
    timed.session.profile.account()
    accounted(timed, BUDGET_NS + 1)
    assert timed.session.profile.load.shed


def test_a_fifth_of_the_budget_brings_detail_back(timed: Any) -> None:
    load = timed.session.profile.load
    accounted(timed, 2 * BUDGET_NS, times=3)
    accounted(timed, BUDGET_NS // 5)
    assert load.shed
    accounted(timed, BUDGET_NS // 5 - 1)
    assert not load.shed and limits(timed) == []


@pytest.mark.parametrize("shed", [False, True])
def test_cpu_is_read_unless_detail_is_left_out(make_app: Callable[..., Any], shed: bool) -> None:
    mill = make_app(TESTING=True)
    mill.session.profile.load.shed = shed
    mill.get("/")
    assert (mill.row("index")["cpu_ms"] is None) is shed


def test_the_share_in_which_a_worker_was_busy_is_that_of_the_last_minute(
    timed: Any, time: Any
) -> None:
    timed.app.add_url_rule("/second", "second", lambda: str(time.pass_(1.0))[:0] + "ok")
    timed.session.profile.account()
    for turn in range(20):
        for _ in range(4 if turn >= 8 else 0):
            timed.get("/second")
        time.pass_(1.0 if turn >= 8 else 5.0)
        timed.session.profile.account()
    assert timed.report()["workers"][0]["busy_share"] == 0.8


def test_pressure_is_that_of_the_last_minute(timed: Any, time: Any) -> None:
    profile = timed.session.profile
    for turn in range(20):
        profile.load.sampled = turn * 1_000_000_000
        profile.load.waited = 0 if turn < 7 else (turn - 6) * 500_000_000
        profile.account()
        time.pass_(5)
    assert timed.report()["workers"][0]["gil_pressure"] == 0.5
