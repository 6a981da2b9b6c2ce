"""Rate limits of sign-in and of the pages."""

from __future__ import annotations

from typing import Any

from flask_knitperf.web.guard import Principal
from flask_knitperf.web.rate_limit import TokenBucket

from .clients import BEARER, OTHER, decide, make_guard, sign_in


def test_after_ten_tries_sign_in_answers_too_many(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    seen = [sign_in(guard, token=OTHER).status[:3] for _ in range(12)]
    assert seen == ["403"] * 10 + ["429"] * 2


def test_the_rate_limit_holds_for_the_right_token_too(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(10):
        sign_in(guard, token=OTHER)
    assert sign_in(guard).status.startswith("429")


def test_one_more_try_is_allowed_every_six_seconds(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(10):
        sign_in(guard, token=OTHER)
    time.pass_(6.5)
    assert [sign_in(guard).status[:3] for _ in range(2)] == ["303", "429"]


def test_the_pages_answer_sixty_requests_at_once(closed: Any) -> None:
    seen = [closed.get("/perf/style.css", **BEARER).code for _ in range(62)]
    assert seen[:60] == [200] * 60 and 429 in seen[60:]


def test_a_429_names_the_seconds_to_wait(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(60):
        decide(guard, **BEARER)
    assert ("Retry-After", "5") in decide(guard, **BEARER).headers


def test_unauthenticated_requests_do_not_use_up_the_rate_limit_of_the_pages(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(200):
        decide(guard)
    assert isinstance(decide(guard, **BEARER), Principal)


def test_a_rate_survives_a_clock_that_goes_back(time: Any) -> None:
    rate = TokenBucket(2, 1, lambda: time.epoch)
    rate.take()
    time.pass_(-1000)
    assert [rate.take(), rate.take()] == [True, False]
