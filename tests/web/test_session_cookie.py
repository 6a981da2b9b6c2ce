"""The session cookie: its attributes, tampering, expiry."""

from __future__ import annotations

import time as system_time
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.web.guard import Principal
from flask_knitperf.web.session_cookie import SESSION_LIFETIME_S

from .clients import OTHER, TOKEN, decide, form, make_guard, new_code, session_of, sign_in


def test_the_session_cookie_is_out_of_reach_for_scripts_and_other_sites(closed: Any) -> None:
    header = closed.send("POST", "/perf/sign-in", **form(token=TOKEN)).header("Set-Cookie")
    attributes = {part.strip() for part in header.split(";")[1:]}
    assert attributes == {
        "Path=/perf", f"Max-Age={SESSION_LIFETIME_S}", "HttpOnly", "SameSite=Strict"
    }  # fmt: skip


def test_the_session_cookie_is_secure_on_https(closed: Any) -> None:
    environ = {**form(token=TOKEN), "wsgi.url_scheme": "https"}
    header = closed.send("POST", "/perf/sign-in", **environ).header("Set-Cookie")
    assert "; Secure" in header


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v[:-1], lambda v: v[1:], lambda v: v + "0", lambda v: "9" + v,
        lambda v: v.replace(".", ".x", 1), lambda v: v.rpartition(".")[0],
        lambda v: v.rpartition(".")[2], lambda v: v.upper(), lambda v: "", lambda v: ".",
        lambda v: "..", lambda v: f'"{v}x"', lambda v: v[: len(v) // 2],
        lambda v: f"99999999999.{v.partition('.')[2]}",
    ],
)  # fmt: skip
def test_a_cookie_that_was_tampered_with_opens_nothing(
    closed: Any, spoil: Callable[[str], str]
) -> None:
    signed = session_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    value = spoil(signed.partition("=")[2])
    assert closed.get("/perf/report", HTTP_COOKIE=f"knitperf={value}") == closed.get("/nowhere")


def test_a_cookie_of_another_token_opens_nothing(
    closed: Any, make_closed: Callable[..., Any]
) -> None:
    other = make_closed(name="other", KNITPERF_ACCESS_TOKEN=OTHER)
    cookie = session_of(other.send("POST", "/perf/sign-in", **form(token=OTHER)))
    assert closed.get("/perf/report", HTTP_COOKIE=cookie).code == 404


def test_a_code_of_a_link_is_not_a_session(closed: Any) -> None:
    code = new_code(system_time.time())
    assert closed.get("/perf/report", HTTP_COOKIE=f"knitperf={code}").code == 404


def test_a_session_is_not_a_code_of_a_link(closed: Any) -> None:
    signed = session_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    fields = form(code=signed.partition("=")[2])
    assert closed.send("POST", "/perf/sign-in", **fields).code == 403


@pytest.mark.parametrize(
    "neighbours",
    ["a=b; {}", "{}; a=b", 'theme={{"dark": true}}; {}', "a=ü; {}", "=; {}", "a b c; {}",
     "x; {}; y", 'a="b; {}', "expires; {}", "a[0]=1; {}", "a,b=1; {}"],
)  # fmt: skip
def test_a_session_is_found_beside_other_cookies(closed: Any, neighbours: str) -> None:
    cookie = session_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    assert closed.get("/perf/report", HTTP_COOKIE=neighbours.format(cookie)).code == 200


@pytest.mark.parametrize(
    ("later", "open_"), [(SESSION_LIFETIME_S - 1, True), (SESSION_LIFETIME_S, False)]
)
def test_a_session_expires_after_its_lifetime(time: Any, later: float, open_: bool) -> None:
    guard = make_guard(lambda: time.epoch)
    cookie = session_of(sign_in(guard))
    time.pass_(later)
    assert isinstance(decide(guard, HTTP_COOKIE=cookie), Principal) is open_
