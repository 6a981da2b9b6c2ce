"""The session cookie: its attributes, tampering, expiry."""

from __future__ import annotations

import time as system_time
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from flask_knitperf import KnitPerf
from flask_knitperf.web.guard import Principal
from flask_knitperf.web.session_cookie import SESSION_LIFETIME_S

from .clients import OTHER, TOKEN, csrf_of, decide, form, make_guard, new_code, session_of, sign_in


def test_the_session_cookie_is_out_of_reach_for_scripts_and_other_sites(closed: Any) -> None:
    header = closed.send("POST", "/perf/sign-in", **form(token=TOKEN)).header("Set-Cookie")
    attributes = {part.strip() for part in header.split(";")[1:]}
    assert attributes == {f"Max-Age={SESSION_LIFETIME_S}", "HttpOnly", "SameSite=Strict"}


@pytest.mark.parametrize(
    "sign",
    [{"wsgi.url_scheme": "https"}, {"HTTP_X_FORWARDED_PROTO": "https"},
     {"HTTP_X_FORWARDED_PROTO": "HTTPS, http"}, {"HTTP_ORIGIN": "https://mill.example"}],
    ids=str,
)  # fmt: skip
def test_the_session_cookie_is_secure_where_the_browser_sees_https(
    closed: Any, sign: dict[str, str]
) -> None:
    response = closed.send("POST", "/perf/sign-in", **form(token=TOKEN), **sign)
    assert response.header("Set-Cookie").endswith("; Secure")


@pytest.mark.parametrize(
    "sign",
    [{"HTTP_X_FORWARDED_PROTO": "http, https"}, {"HTTP_ORIGIN": "http://https://x"},
     {"HTTP_ORIGIN": "null"}],
    ids=str,
)  # fmt: skip
def test_the_session_cookie_is_not_secure_on_http(closed: Any, sign: dict[str, str]) -> None:
    response = closed.send("POST", "/perf/sign-in", **form(token=TOKEN), **sign)
    assert "Secure" not in response.header("Set-Cookie")


@pytest.mark.parametrize("order", ["before", "after"])
def test_behind_a_proxy_with_a_prefix_a_browser_signs_in_and_out(order: str) -> None:
    """The extension may be initialised before or after the middleware that reads the prefix."""

    def add_proxy_fix() -> None:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]

    app = Flask("mill")
    app.config.update(TESTING=True, KNITPERF_ACCESS_TOKEN=TOKEN)
    if order == "before":
        add_proxy_fix()
    KnitPerf(app)
    if order == "after":
        add_proxy_fix()
    headers = {"X-Forwarded-Prefix": "/mill", "Accept": "text/html"}

    def proxied(environ: Any, start_response: Any) -> Any:
        """Remove the prefix from the path, as a proxy does."""
        path = environ["PATH_INFO"]
        return app({**environ, "PATH_INFO": path.removeprefix("/mill")}, start_response)

    browser = Client(proxied)
    signed_in = browser.post("/mill/perf/sign-in", data={"token": TOKEN}, headers=headers)
    at = "http://localhost/mill/perf/sign-in"
    assert urljoin(at, signed_in.headers["Location"]) == "http://localhost/mill/perf/"
    page = browser.get("/mill/perf/", headers=headers)
    assert page.status_code == 200 and 'action="/mill/perf/sign-out"' in page.text
    csrf = csrf_of(page.data)
    browser.post("/mill/perf/sign-out", data={"csrf": csrf}, headers=headers)
    assert browser.get("/mill/perf/", headers=headers).status_code == 404
    app.extensions["knitperf"].close()


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
    code = new_code(system_time.time(), mill=closed)
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


def test_a_script_root_adds_no_attribute_to_a_cookie(closed: Any) -> None:
    root = {"SCRIPT_NAME": "/mill;Domain=other.example/Stra\xc3\x9fe"}
    response = closed.send("POST", "/perf/sign-in", **form(token=TOKEN), **root)
    cookies = [value for name, value in response.headers if name == "Set-Cookie"]
    paths = [part for cookie in cookies for part in cookie.split("; ") if part.startswith("Path=")]
    assert paths == ["Path=/mill%3BDomain=other.example/Stra%C3%9Fe/"]
