"""Queue time of a request, from the header of a load balancer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("form", ["{:.3f}", "t={:.3f}", "{ms:.0f}", "t={ms:.0f}", "{us:.0f}"])
def test_a_trusted_header_is_the_start_of_the_queue_time(
    make_app: Callable[..., Any], time: Any, form: str
) -> None:
    mill = make_app(TESTING=True, KNITPERF_TRUST_QUEUE_HEADER=True)
    mill.session.recorder.clock = time.clock()
    at = time.epoch - 0.25
    mill.get("/", HTTP_X_REQUEST_START=form.format(at, ms=at * 1e3, us=at * 1e6))
    assert mill.report()["queue"]["mean_ms"] == pytest.approx(250, abs=1)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "nan", "inf", "-inf", "t=", "-5", "0", "1e999", "99999999999999999999", "٣"],
)
def test_a_trusted_header_that_is_not_plausible_is_ignored(
    make_app: Callable[..., Any], text: str
) -> None:
    mill = make_app(TESTING=True, KNITPERF_TRUST_QUEUE_HEADER=True)
    mill.get("/", HTTP_X_REQUEST_START=text)
    report = mill.report()
    assert (report["queue"], report["self"]["degraded"]) == (None, [])


def test_a_header_that_is_not_trusted_is_ignored(timed: Any, time: Any) -> None:
    timed.get("/", HTTP_X_REQUEST_START=str(time.epoch - 0.25))
    assert timed.report()["queue"] is None
