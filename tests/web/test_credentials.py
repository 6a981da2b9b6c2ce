"""The secret that opens the pages, and the key that belongs to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.instrumentation.install import create_credentials
from flask_knitperf.web.credentials import Credentials
from flask_knitperf.web.guard import Principal

from .clients import NAME, OTHER, TOKEN, cookies_of, decide, form, make_guard, sign_in


def in_debug_mode(random: bytes) -> Credentials:
    return Credentials("mill", "/srv", None, lambda: True, lambda: random)


def test_the_code_of_debug_mode_has_sixty_bits() -> None:
    code = in_debug_mode(b"x" * 32).read().text
    assert code is not None and re.fullmatch("[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}", code)


def test_a_request_reads_the_random_bytes_once() -> None:
    reads: list[int] = []

    def random() -> bytes:
        reads.append(1)
        return b"x" * 32

    credentials = Credentials(NAME, "", None, lambda: True, random)
    guard = make_guard(lambda: 0.0, credentials=credentials)
    secret = credentials.read()
    assert secret.text is not None
    cookies = cookies_of(sign_in(guard, token=secret.text))
    jar = "; ".join(cookie.partition(";")[0] for cookie in (*cookies.values(), "knitperf=1.2.3.4"))
    reads.clear()
    assert isinstance(decide(guard, HTTP_COOKIE=jar), Principal) and len(reads) == 1
    reads.clear()
    assert guard.sees_timing({"HTTP_COOKIE": jar}) and len(reads) == 1


def test_the_code_and_the_key_belong_to_the_random_bytes() -> None:
    one, same, other = (in_debug_mode(random * 32).read() for random in (b"x", b"x", b"y"))
    assert one.text == same.text != other.text
    assert one.key == same.key != other.key


def test_equal_tokens_of_two_applications_give_different_keys() -> None:
    secrets = [Credentials(n, "/srv", TOKEN, lambda: False, bytes).read() for n in ("a", "b", "")]
    assert len({secret.key for secret in secrets}) == 3


def test_a_session_of_one_application_opens_no_other_with_its_token(
    closed: Any, make_closed: Callable[..., Any]
) -> None:
    other = make_closed(name="other")
    cookies = cookies_of(other.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    cookie = "; ".join(cookie.partition(";")[0] for cookie in cookies.values())
    assert other.get("/perf/report", HTTP_COOKIE=cookie).code == 200
    assert closed.get("/perf/report", HTTP_COOKIE=cookie).code == 404


@pytest.mark.parametrize("value", ["", TOKEN.upper(), f" {TOKEN}", TOKEN.replace("-", ""), OTHER])
def test_a_token_is_compared_as_it_is(value: str) -> None:
    assert not Credentials("mill", "/srv", TOKEN, lambda: True, bytes).read().accepts(value)


def test_a_session_of_one_application_opens_no_other_of_its_name_elsewhere(
    make_closed: Callable[..., Any],
) -> None:
    one, other = make_closed(), make_closed(name="other")
    other.session.name = one.session.name
    other.app.root_path = "/srv/other"
    assert (
        create_credentials(one.session, one.session.settings).read().key
        != create_credentials(other.session, other.session.settings).read().key
    )
