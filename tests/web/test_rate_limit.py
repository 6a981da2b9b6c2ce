"""Rate limits of sign-in and of the pages."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.web.guard import Principal
from flask_knitperf.web.rate_limit import MAX_PEERS, PeerBuckets, TokenBucket

from .clients import BEARER, OTHER, TOKEN, decide, form, make_guard, new_code, sign_in


def test_after_ten_tries_sign_in_answers_too_many(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    seen = [sign_in(guard, token=OTHER).status[:3] for _ in range(12)]
    assert seen == ["403"] * 10 + ["429"] * 2


@pytest.mark.parametrize("address", ["192.0.2.7", "198.51.100.1"], ids=["same", "other"])
def test_the_right_token_and_a_link_sign_in_while_wrong_ones_are_refused(
    time: Any, address: str
) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(100):
        for _ in range(19):
            sign_in(guard, token=OTHER)
        for fields in ({"token": TOKEN}, {"code": new_code(time.epoch)}):
            environ = {**form(**fields), "REMOTE_ADDR": address}
            response: Any = decide(guard, "/perf/sign-in", "POST", **environ)
            assert response.status.startswith("303")
        time.pass_(1)


def test_one_more_failure_is_allowed_every_six_seconds(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(10):
        sign_in(guard, token=OTHER)
    time.pass_(6.5)
    assert [sign_in(guard, token=OTHER).status[:3] for _ in range(2)] == ["403", "429"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.7", "192.0.2.8"), ("192.0.2.7", "2001:db8::7"), ("2001:db8::7", "2001:db8:0:1::7"),
     ("192.0.2.7", ""), ("2001:db8::7", "somewhere")],
)  # fmt: skip
def test_failures_of_one_peer_do_not_count_for_another(time: Any, one: str, other: str) -> None:
    buckets = PeerBuckets(1, 1, lambda: time.epoch)
    assert [buckets.take(address) for address in (one, other, one)] == [True, True, False]


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.7", "::ffff:192.0.2.7"), ("2001:db8::7", "2001:db8::f:8"), ("", "somewhere")],
)
def test_two_addresses_of_one_peer_share_its_limit(time: Any, one: str, other: str) -> None:
    buckets = PeerBuckets(1, 1, lambda: time.epoch)
    assert [buckets.take(one), buckets.take(other)] == [True, False]


def test_the_number_of_peers_is_bounded(time: Any) -> None:
    buckets = PeerBuckets(1, 1, lambda: time.epoch)
    for number in range(2 * MAX_PEERS):
        buckets.take(f"10.0.{number // 256}.{number % 256}")
    assert len(buckets._buckets) == MAX_PEERS


def test_the_pages_answer_sixty_requests_at_once(closed: Any) -> None:
    seen = [closed.get("/perf/no-page", **BEARER).code for _ in range(62)]
    assert seen[:60] == [404] * 60 and 429 in seen[60:]


@pytest.mark.parametrize("path", ["/live.json", "/style.css", "/pages.js"])
def test_open_pages_poll_and_load_files_beyond_the_limit_of_pages(time: Any, path: str) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(60):
        decide(guard, **BEARER)
    light = [decide(guard, f"/perf{path}", **BEARER) for _ in range(301)]
    assert all(isinstance(one, Principal) for one in light[:300])
    assert light[300].status.startswith("429")


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
