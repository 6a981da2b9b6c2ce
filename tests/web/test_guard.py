"""Who sees the pages: every way in, every forged variant of it, and strangers, who learn nothing."""

from __future__ import annotations

import re
import time as system_time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask, g, redirect, request, session, url_for
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import create_environ

from flask_knitperf.web.guard import (
    LINK_SECONDS,
    SESSION_SECONDS,
    Allowed,
    Guard,
    derive,
    sign,
    sign_in_link,
)
from flask_knitperf.web.one_time_codes import Once, Rate

TOKEN = "a-long-enough-token"
OTHER = "another-long-token!"
BEARER = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:5000"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
PATHS = (
    "/perf", "/perf/", "/perf/report", "/perf/report/", "/perf/queries",
    "/perf/memory", "/perf/style.css",
    "/perf/command/clear", "/perf/command/nothing", "/perf/sign-out", "/perf/nothing",
    "//perf", "//perf/report", "/perf//report", "/perf/report//", "///perf///report",
    "/perf/../perf/report", "/perf/./report", "/x/../perf/report", "/perf/%2e%2e/perf/report",
    "/perf%2freport", "/%70erf/report", "/PERF", "/PERF/report", "/Perf/Report", "/perfect",
    "/perf/report;x=1", "/perf;/report", "/perf\\report", "/perf/\x00", "/perf/\xff\xfe",
    "perf", "perf/", "perf/report", "perf/sign-in",
)  # fmt: skip


def form(**fields: str) -> dict[str, Any]:
    """Return the environment of a posted form."""
    body = urlencode(fields).encode()
    return {
        "wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
    }  # fmt: skip


def cookie_of(answer: Any) -> str:
    """Return the session that an answer sets, as a browser sends it back."""
    return set_by(answer)["knitperf"].partition(";")[0]


def set_by(answer: Any) -> dict[str, str]:
    """Return the cookies that an answer sets, by name."""
    said = [value for name, value in answer.headers if name == "Set-Cookie"]
    return {value.partition("=")[0]: value for value in said}


def csrf_of(body: bytes) -> str:
    found = re.search(rb'name="csrf" value="([^"]+)"', body)
    assert found is not None
    return found[1].decode()


@pytest.fixture
def make_closed(make_app: Callable[..., Any]) -> Callable[..., Any]:
    """Return a maker of applications in memory, with the token."""

    def make(**config: Any) -> Any:
        return make_app(**{"TESTING": True, "KNITPERF_ACCESS_TOKEN": TOKEN, **config})

    return make


@pytest.fixture
def closed(make_closed: Callable[..., Any]) -> Any:
    return make_closed()


def make_guard(clock: Callable[[], float], **given: Any) -> Guard:
    """Return a guard of its own: no application, its own clock."""
    options: dict[str, Any] = {
        "prefix": "/perf", "token": TOKEN, "access": None, "debug": lambda: False, "clock": clock,
        "once": Once(lambda: None), "on_error": lambda part, error: None,
    }  # fmt: skip
    return Guard(**{**options, **given})


def decide(guard: Guard, path: str = "/perf/report", method: str = "GET", **environ: Any) -> Any:
    given = create_environ(path, method=method)
    given["REMOTE_ADDR"] = "192.0.2.7"
    given.update(environ)
    return guard.decide(given)


def sign_in(guard: Guard, **fields: str) -> Any:
    return decide(guard, "/perf/sign-in", "POST", **form(**(fields or {"token": TOKEN})))


def new_code(now: float, token: str = TOKEN) -> str:
    return sign_in_link(token, "/perf", now).partition("code=")[2]


# -- strangers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_gets_the_answer_of_a_path_that_does_not_exist(
    closed: Any, path: str, method: str
) -> None:
    assert closed.send(method, path) == closed.send(method, "/nowhere")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [*PATHS, "/perf/sign-in", "/perf/sign-in/", "//perf/sign-in"])
def test_without_a_token_there_is_no_sign_in_page_either(
    quiet: Any, path: str, method: str
) -> None:
    assert quiet.send(method, path) == quiet.send(method, "/nowhere")


@pytest.mark.parametrize("method", sorted({*METHODS} - {"GET", "HEAD", "POST"}))
def test_the_sign_in_page_answers_to_no_other_method(closed: Any, method: str) -> None:
    assert closed.send(method, "/perf/sign-in") == closed.send(method, "/nowhere")


@pytest.mark.parametrize(
    "path", ["//perf/sign-in", "/perf//sign-in", "/perf/sign-in/", "/perf/Sign-in"]
)
def test_the_sign_in_page_has_one_address_only(closed: Any, path: str) -> None:
    assert closed.get(path) == closed.get("/nowhere")


@pytest.mark.parametrize("path", ["/perf", "/perf/report", "/perf/sign-in", "/perf/sign-in?code=x"])
def test_nothing_that_a_stranger_sees_names_the_tool(closed: Any, path: str) -> None:
    answer = closed.get(path)
    said = f"{answer.headers} {answer.body.decode()}".lower()
    assert not re.search("knit|perf|profil|monitor|python|flask", said)


def test_a_head_of_the_sign_in_page_has_no_body(closed: Any) -> None:
    assert closed.send("HEAD", "/perf/sign-in").body == b""


def test_a_head_of_the_sign_in_page_announces_the_length_of_the_page(closed: Any) -> None:
    page, head = closed.get("/perf/sign-in"), closed.send("HEAD", "/perf/sign-in")
    assert head.header("Content-Length") == page.header("Content-Length") == str(len(page.body))


def test_a_stranger_is_not_recorded(closed: Any) -> None:
    closed.get("/perf/report")
    assert closed.rows() == {}


def test_a_path_that_only_begins_like_the_prefix_is_recorded(closed: Any) -> None:
    closed.get("/perfect")
    assert closed.row("<unmatched>")["count"] == 1


def test_forged_origin_and_referrer_open_nothing(closed: Any) -> None:
    answer = closed.get(
        "/perf/report", HTTP_ORIGIN="http://localhost", HTTP_REFERER="http://localhost/perf/"
    )
    assert answer == closed.get("/nowhere")


def test_an_application_key_in_the_environment_cannot_come_from_a_header(closed: Any) -> None:
    forged = {"HTTP_KNITPERF_ALLOWED": "1", "HTTP_X_KNITPERF_ALLOWED": "1"}
    assert closed.get("/perf/report", **forged).code == 404


def _own_404(mill: Any) -> None:
    mill.app.register_error_handler(404, lambda error: ("lost: " + request.path, 404))


def _single_page(mill: Any) -> None:
    mill.app.add_url_rule("/<path:path>", view_func=lambda path: "page", methods=["GET", "POST"])


def _login(mill: Any) -> None:
    mill.app.before_request(lambda: redirect(url_for("index", then=request.endpoint)))


def _marked(mill: Any) -> None:
    mill.app.after_request(lambda answer: answer.headers.add("X-Mill", "1") or answer)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("habit", [_own_404, _single_page, _login, _marked])
def test_a_stranger_meets_the_application_as_it_is_without_the_pages(
    make_closed: Callable[..., Any], habit: Callable[[Any], None], path: str, method: str
) -> None:
    with_pages, bare = make_closed(), make_closed(name="bare", KNITPERF_ENABLED=False)
    habit(with_pages), habit(bare)
    assert with_pages.send(method, path) == bare.send(method, path)


def test_a_stranger_s_request_keeps_its_body(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(KNITPERF_ACCESS=lambda asked: bool(asked.form.get("let me in")))

    @mill.app.post("/perf/<path:rest>")
    def own(rest: str) -> str:
        return f"{rest} {len(request.form['yarn'])}"

    answer = mill.send("POST", "/perf/x", **form(yarn="y" * 9000))
    assert answer.body == b"x 9000"


def test_who_is_let_in_sees_the_pages_in_front_of_the_applications_own(closed: Any) -> None:
    _single_page(closed)
    assert closed.get("/perf/report", **BEARER).body.startswith(b"{")
    assert closed.get("/perf/else", **BEARER).body == b"page"


def test_a_hook_of_the_application_still_builds_addresses_beside_the_pages(closed: Any) -> None:
    seen = []
    closed.app.before_request(lambda: seen.append((url_for("index"), url_for("knitperf.report"))))
    assert closed.get("/perf/report", **BEARER).code == 200
    assert seen == [("/", "/perf/report")]


def test_a_copy_of_an_environment_that_was_let_in_lets_nobody_in(closed: Any) -> None:
    kept: list[Any] = []
    closed.app.before_request(lambda: kept.append(dict(request.environ)))
    closed.get("/perf/report", **BEARER)
    copied = {
        k: v for k, v in kept[0].items() if k not in ("HTTP_AUTHORIZATION", "werkzeug.request")
    }
    assert closed.get("/perf/report", **copied).code == 404


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.text(st.characters(max_codepoint=255))
            for name in ("HTTP_AUTHORIZATION", "HTTP_COOKIE", "QUERY_STRING", "REMOTE_ADDR",
                         "HTTP_HOST", "CONTENT_LENGTH", "SCRIPT_NAME")
        },
    ),
    st.sampled_from(["/perf", "/perf/report", "/perf/sign-in", "/perf/sign-out"]),
    st.sampled_from(METHODS),
)  # fmt: skip
def test_no_header_whatever_it_holds_opens_or_breaks_the_guard(
    headers: dict[str, str], path: str, method: str
) -> None:
    guard = make_guard(lambda: 0.0, debug=lambda: True)
    assert not isinstance(decide(guard, path, method, **headers), Allowed)


# -- the Bearer token ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_opens_the_pages_as_bearer(closed: Any, scheme: str) -> None:
    assert closed.get("/perf/report", HTTP_AUTHORIZATION=f"{scheme} {TOKEN}").code == 200


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {OTHER}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}",
        "Bearer", "Bearer ", "", f"Basic {TOKEN}", f"Token {TOKEN}", TOKEN, f"Bearer{TOKEN}",
        f"Bearer {TOKEN}, Bearer {TOKEN}", f"Digest Bearer {TOKEN}", "Bearer None", "Bearer \xff",
        "Basic OmEtbG9uZy1lbm91Z2gtdG9rZW4=",
    ],
)  # fmt: skip
def test_no_other_authorization_opens_them(closed: Any, header: str) -> None:
    assert closed.get("/perf/report", HTTP_AUTHORIZATION=header) == closed.get("/nowhere")


@pytest.mark.parametrize("header", ["Bearer ", "Bearer None", f"Bearer {TOKEN}"])
def test_without_a_configured_token_no_bearer_opens_them(quiet: Any, header: str) -> None:
    assert quiet.get("/perf/report", HTTP_AUTHORIZATION=header).code == 404


@pytest.mark.parametrize("place", ["query", "form", "header", "cookie"])
def test_the_token_itself_opens_nothing_in_another_place(closed: Any, place: str) -> None:
    path, method, environ = "/perf/report", "GET", {}
    if place == "query":
        path += f"?token={TOKEN}&access_token={TOKEN}&code={TOKEN}"
    elif place == "form":
        method, environ = "POST", form(token=TOKEN)
    elif place == "header":
        environ = {"HTTP_X_ACCESS_TOKEN": TOKEN, "HTTP_X_API_KEY": TOKEN}
    else:
        environ = {"HTTP_COOKIE": f"knitperf={TOKEN}"}
    assert closed.send(method, path, **environ) == closed.send(method, "/nowhere")


def test_without_a_token_a_cookie_signed_with_nothing_opens_nothing(quiet: Any) -> None:
    signed = sign(derive(""), "session", system_time.time() + 60)
    assert quiet.get("/perf/report", HTTP_COOKIE=f"knitperf={signed}").code == 404


# -- signing in ------------------------------------------------------------------------------------


def test_the_sign_in_page_asks_for_the_token(closed: Any) -> None:
    answer = closed.get("/perf/sign-in")
    assert answer.code == 200 and b'type="password"' in answer.body


def test_the_sign_in_page_of_a_link_asks_for_a_click(closed: Any) -> None:
    body = closed.get("/perf/sign-in?code=abc").body
    assert b'name="code" value="abc"' in body and b"password" not in body


def test_a_code_is_escaped_on_the_sign_in_page(closed: Any) -> None:
    body = closed.get("/perf/sign-in?code=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").body
    assert b"<script" not in body and b"&lt;script&gt;" in body


def test_the_token_signs_in(closed: Any) -> None:
    answer = closed.send("POST", "/perf/sign-in", **form(token=TOKEN))
    assert (answer.code, answer.header("Location")) == (303, "/perf/")


def test_who_signed_in_sees_the_pages(closed: Any) -> None:
    cookie = cookie_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    assert closed.get("/perf/report", HTTP_COOKIE=cookie).code == 200


@pytest.mark.parametrize(
    "fields",
    [{"token": OTHER}, {"token": ""}, {"token": TOKEN[:-1]}, {"tokens": TOKEN}, {"code": TOKEN},
     {"code": "1.2.3"}, {"code": "9999999999.x.00"}, {"code": ""}, {}, {"token": "\x00"}],
)  # fmt: skip
def test_nothing_else_signs_in(closed: Any, fields: dict[str, str]) -> None:
    answer = closed.send("POST", "/perf/sign-in", **form(**fields))
    assert answer.code == 403 and answer.header("Set-Cookie") is None


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "", "5"])
def test_a_form_of_a_wrong_or_huge_length_does_not_sign_in(closed: Any, length: str) -> None:
    given = {**form(token=TOKEN), "CONTENT_LENGTH": length}
    assert closed.send("POST", "/perf/sign-in", **given).code == 403


def test_the_session_cookie_is_out_of_reach_for_scripts_and_other_sites(closed: Any) -> None:
    said = closed.send("POST", "/perf/sign-in", **form(token=TOKEN)).header("Set-Cookie")
    attributes = {part.strip() for part in said.split(";")[1:]}
    assert attributes == {
        "Path=/perf", f"Max-Age={SESSION_SECONDS}", "HttpOnly", "SameSite=Strict"
    }  # fmt: skip


def test_the_session_cookie_is_secure_on_https(closed: Any) -> None:
    environ = {**form(token=TOKEN), "wsgi.url_scheme": "https"}
    said = closed.send("POST", "/perf/sign-in", **environ).header("Set-Cookie")
    assert "; Secure" in said


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
    signed = cookie_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    value = spoil(signed.partition("=")[2])
    assert closed.get("/perf/report", HTTP_COOKIE=f"knitperf={value}") == closed.get("/nowhere")


def test_a_cookie_of_another_token_opens_nothing(
    closed: Any, make_closed: Callable[..., Any]
) -> None:
    other = make_closed(name="other", KNITPERF_ACCESS_TOKEN=OTHER)
    cookie = cookie_of(other.send("POST", "/perf/sign-in", **form(token=OTHER)))
    assert closed.get("/perf/report", HTTP_COOKIE=cookie).code == 404


def test_a_code_of_a_link_is_no_session(closed: Any) -> None:
    code = new_code(system_time.time())
    assert closed.get("/perf/report", HTTP_COOKIE=f"knitperf={code}").code == 404


def test_a_session_is_no_code_of_a_link(closed: Any) -> None:
    signed = cookie_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    fields = form(code=signed.partition("=")[2])
    assert closed.send("POST", "/perf/sign-in", **fields).code == 403


@pytest.mark.parametrize(
    "neighbours",
    ["a=b; {}", "{}; a=b", 'theme={{"dark": true}}; {}', "a=ü; {}", "=; {}", "a b c; {}",
     "x; {}; y", 'a="b; {}', "expires; {}", "a[0]=1; {}", "a,b=1; {}"],
)  # fmt: skip
def test_a_session_is_found_beside_other_cookies(closed: Any, neighbours: str) -> None:
    cookie = cookie_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    assert closed.get("/perf/report", HTTP_COOKIE=neighbours.format(cookie)).code == 200


@pytest.mark.parametrize(
    ("later", "open_"), [(SESSION_SECONDS - 1, True), (SESSION_SECONDS, False)]
)
def test_a_session_ends_after_its_time(time: Any, later: float, open_: bool) -> None:
    guard = make_guard(lambda: time.epoch)
    cookie = cookie_of(sign_in(guard))
    time.pass_(later)
    assert isinstance(decide(guard, HTTP_COOKIE=cookie), Allowed) is open_


# -- the sign-in link ------------------------------------------------------------------------------


def test_a_link_signs_in(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    answer = sign_in(guard, code=new_code(time.epoch))
    assert isinstance(decide(guard, HTTP_COOKIE=cookie_of(answer)), Allowed)


def test_a_link_signs_in_only_once(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    code = new_code(time.epoch)
    sign_in(guard, code=code)
    assert sign_in(guard, code=code).status.startswith("403")


def test_opening_a_link_does_not_use_it_up(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    code = new_code(time.epoch)
    for method in ("GET", "HEAD", "GET"):
        decide(guard, f"/perf/sign-in?code={code}", method)
    assert sign_in(guard, code=code).status.startswith("303")


@pytest.mark.parametrize(("later", "status"), [(LINK_SECONDS - 1, "303"), (LINK_SECONDS, "403")])
def test_a_link_ends_after_five_minutes(time: Any, later: float, status: str) -> None:
    guard = make_guard(lambda: time.epoch)
    code = new_code(time.epoch)
    time.pass_(later)
    assert sign_in(guard, code=code).status.startswith(status)


def test_a_link_of_another_token_does_not_sign_in(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    assert sign_in(guard, code=new_code(time.epoch, OTHER)).status.startswith("403")


def test_a_link_works_once_for_all_workers_that_share_a_state_directory(
    make_closed: Callable[..., Any],
) -> None:
    one, two = make_closed(TESTING=False), make_closed(TESTING=False)
    one.get("/"), two.get("/")
    code = new_code(system_time.time())
    codes = [m.send("POST", "/perf/sign-in", **form(code=code)).code for m in (one, two, one)]
    assert codes == [303, 403, 403]


def test_a_link_works_before_the_first_request_of_a_worker(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(TESTING=False)
    code = new_code(system_time.time())
    assert mill.send("POST", "/perf/sign-in", **form(code=code)).code == 303


def test_a_link_that_cannot_be_written_down_does_not_count(time: Any, tmp_path: Path) -> None:
    guard = make_guard(lambda: time.epoch, once=Once(lambda: tmp_path / "gone"))
    assert sign_in(guard, code=new_code(time.epoch)).status.startswith("403")


def test_used_links_do_not_pile_up(tmp_path: Path) -> None:
    once, now = Once(lambda: tmp_path), system_time.time()
    for number in range(5):
        once.spend(f"old{number}", now, LINK_SECONDS)
    once.spend("new", now + 3 * LINK_SECONDS, LINK_SECONDS)
    assert [path.name for path in (tmp_path / "used-links").iterdir()] == ["new"]


# -- signing out -----------------------------------------------------------------------------------


@pytest.fixture
def signed_in(closed: Any) -> tuple[Any, str]:
    return closed, cookie_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))


def page_of(mill: Any, cookie: str) -> bytes:
    body: bytes = mill.get("/perf/", HTTP_COOKIE=cookie, HTTP_ACCEPT="text/html").body
    return body


def test_signing_out_takes_the_cookie_away(signed_in: tuple[Any, str]) -> None:
    mill, cookie = signed_in
    fields = form(csrf=csrf_of(page_of(mill, cookie)))
    said = mill.send("POST", "/perf/sign-out", HTTP_COOKIE=cookie, **fields).header("Set-Cookie")
    assert said.startswith("knitperf=;") and "Max-Age=0" in said


@pytest.mark.parametrize("fields", [{}, {"csrf": ""}, {"csrf": "0" * 64}, {"token": TOKEN}])
def test_signing_out_needs_the_forms_token(
    signed_in: tuple[Any, str], fields: dict[str, str]
) -> None:
    mill, cookie = signed_in
    answer = mill.send("POST", "/perf/sign-out", HTTP_COOKIE=cookie, **form(**fields))
    assert answer.code == 403 and answer.header("Set-Cookie") is None


def test_a_get_of_sign_out_does_not_sign_out(signed_in: tuple[Any, str]) -> None:
    mill, cookie = signed_in
    assert mill.get("/perf/sign-out", HTTP_COOKIE=cookie).header("Set-Cookie") is None


# -- how often -------------------------------------------------------------------------------------


def test_after_ten_tries_sign_in_answers_too_many(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    seen = [sign_in(guard, token=OTHER).status[:3] for _ in range(12)]
    assert seen == ["403"] * 10 + ["429"] * 2


def test_the_right_token_waits_like_all_others(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(10):
        sign_in(guard, token=OTHER)
    assert sign_in(guard).status.startswith("429")


def test_one_more_try_comes_every_six_seconds(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(10):
        sign_in(guard, token=OTHER)
    time.pass_(6.5)
    assert [sign_in(guard).status[:3] for _ in range(2)] == ["303", "429"]


def test_the_pages_answer_sixty_requests_at_once(closed: Any) -> None:
    seen = [closed.get("/perf/style.css", **BEARER).code for _ in range(62)]
    assert seen[:60] == [200] * 60 and 429 in seen[60:]


def test_whoever_asks_too_fast_is_told_when_to_come_back(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(60):
        decide(guard, **BEARER)
    assert ("Retry-After", "5") in decide(guard, **BEARER).headers


def test_strangers_do_not_use_up_what_the_owner_may_ask(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    for _ in range(200):
        decide(guard)
    assert isinstance(decide(guard, **BEARER), Allowed)


def test_a_rate_survives_a_clock_that_goes_back(time: Any) -> None:
    rate = Rate(2, 1, lambda: time.epoch)
    rate.take()
    time.pass_(-1000)
    assert [rate.take(), rate.take()] == [True, False]


# -- debug mode from this machine ------------------------------------------------------------------

AT_HOME: list[dict[str, Any]] = [
    {}, {"HTTP_HOST": "localhost"}, {"HTTP_HOST": "LOCALHOST:5000"}, {"HTTP_HOST": "127.0.0.1:8000"},
    {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:5000"}, {"HTTP_HOST": "[::1]"},
    {"REMOTE_ADDR": "127.8.9.1"},
]  # fmt: skip
FROM_AFAR: list[dict[str, Any]] = [
    {"REMOTE_ADDR": "192.0.2.7"}, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": None},
    {"REMOTE_ADDR": "localhost"}, {"REMOTE_ADDR": "127.0.0.1, 192.0.2.7"},
    {"REMOTE_ADDR": "127.0.0.1.evil.example"}, {"REMOTE_ADDR": "10.0.0.1"},
    {"REMOTE_ADDR": "2130706433"}, {"REMOTE_ADDR": "unix:"}, {"REMOTE_ADDR": "0.0.0.0"},
    {"HTTP_HOST": "evil.example"}, {"HTTP_HOST": "localhost.evil.com"},
    {"HTTP_HOST": "127.0.0.1.evil.com"}, {"HTTP_HOST": ""}, {"HTTP_HOST": None},
    {"HTTP_HOST": "evil.example:5000"}, {"HTTP_HOST": "xlocalhost"}, {"HTTP_HOST": "localhost."},
    {"HTTP_HOST": "[::1].evil.example"}, {"HTTP_HOST": "[::1]evil.example:80"},
    {"HTTP_HOST": "localhost:80@evil.example"}, {"HTTP_HOST": "[::2]"}, {"HTTP_HOST": "[localhost]"},
    {"HTTP_HOST": "0.0.0.0:5000"}, {"HTTP_HOST": "user@localhost"}, {"HTTP_HOST": "localhost,evil"},
    {"HTTP_FORWARDED": "for=127.0.0.1"}, {"HTTP_FORWARDED": ""},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, {"HTTP_X_FORWARDED_FOR": ""},
    {"HTTP_X_FORWARDED_HOST": "localhost"}, {"HTTP_X_FORWARDED_PROTO": "http"},
    {"HTTP_X_FORWARDED_PORT": "80"}, {"HTTP_X_FORWARDED_PREFIX": "/x"}, {"HTTP_VIA": "1.1 proxy"},
    {"HTTP_X_REAL_IP": "127.0.0.1"}, {"HTTP_CF_CONNECTING_IP": "127.0.0.1"},
    {"HTTP_TRUE_CLIENT_IP": "127.0.0.1"}, {"HTTP_X_CLIENT_IP": "127.0.0.1"},
    {"HTTP_X_FORWARDED_SERVER": "proxy"},
]  # fmt: skip


@pytest.mark.parametrize("environ", AT_HOME, ids=str)
def test_debug_mode_opens_from_a_browser_on_this_machine(
    make_app: Callable[..., Any], environ: dict[str, Any]
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    assert mill.get("/perf/report", **{**LOCAL, **environ}).code == 200


@pytest.mark.parametrize("environ", FROM_AFAR, ids=str)
def test_debug_mode_opens_from_nowhere_else(
    make_app: Callable[..., Any], environ: dict[str, Any]
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    assert mill.get("/perf/report", **{**LOCAL, **environ}) == mill.get("/nowhere")


def test_without_debug_mode_this_machine_is_a_stranger_too(quiet: Any) -> None:
    assert quiet.get("/perf/report", **LOCAL).code == 404


def test_debug_mode_that_is_switched_on_later_opens(quiet: Any) -> None:
    quiet.get("/")
    quiet.app.debug = True
    assert quiet.get("/perf/report", **LOCAL).code == 200


def test_debug_mode_that_is_switched_off_later_closes(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    mill.get("/perf/report", **LOCAL)
    mill.app.debug = False
    assert mill.get("/perf/report", **LOCAL).code == 404


@pytest.mark.parametrize("forwarded", [{}, {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}], ids=str)
def test_debug_mode_stays_closed_behind_an_outer_proxy_fix(
    make_app: Callable[..., Any], forwarded: dict[str, str]
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    mill.app.wsgi_app = ProxyFix(mill.app.wsgi_app)
    assert mill.get("/perf/report", **LOCAL, **forwarded).code == 404


def test_debug_mode_stays_closed_to_what_an_inner_proxy_fix_would_believe(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    mill.app.wsgi_app.app = ProxyFix(mill.app.wsgi_app.app)
    forged = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}
    assert mill.get("/perf/report", HTTP_HOST="localhost", **forged).code == 404


def test_a_stranger_in_debug_mode_gets_no_debugger_and_no_hint(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    assert mill.get("/perf") == mill.get("/nowhere")


# -- the application's own decision ----------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, 1, "yes", ["role"]], ids=repr)
def test_the_application_lets_in_by_returning_something_true(
    make_app: Callable[..., Any], answer: object
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: answer)
    assert mill.get("/perf/report").code == 200


@pytest.mark.parametrize("answer", [False, None, 0, "", []], ids=repr)
def test_the_application_keeps_out_by_returning_nothing_true(
    make_app: Callable[..., Any], answer: object
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: answer)
    assert mill.get("/perf/report") == mill.get("/nowhere")


def failing(request: Any) -> bool:
    raise RuntimeError("the directory server does not answer")


def test_a_decision_that_fails_keeps_out(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=failing)
    assert mill.get("/perf/report") == mill.get("/nowhere")


def test_a_decision_that_fails_is_said_in_the_report(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=failing)
    mill.get("/perf/report"), mill.get("/perf/report")
    assert "KNITPERF_ACCESS failed 2 times" in mill.degraded()


def test_a_decision_that_fails_does_not_lock_the_token_out(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(KNITPERF_ACCESS=failing)
    assert mill.get("/perf/report", **BEARER).code == 200


def test_the_decision_gets_the_request(make_app: Callable[..., Any]) -> None:
    mill = make_app(
        TESTING=True, KNITPERF_ACCESS=lambda request: request.headers.get("X-Role") == "mill"
    )
    codes = [mill.get("/perf/report", HTTP_X_ROLE=role).code for role in ("mill", "shop")]
    assert codes == [200, 404]


def test_the_decision_may_read_the_session(make_app: Callable[..., Any]) -> None:
    mill = make_app(
        TESTING=True, SECRET_KEY="k", KNITPERF_ACCESS=lambda request: session.get("role") == "it"
    )

    @mill.app.get("/login")
    def login() -> str:
        session["role"] = "it"
        return "in"

    client = mill.client
    codes = [client.get(path).status_code for path in ("/perf/report", "/login", "/perf/report")]
    assert codes == [404, 200, 200]


def test_the_decision_may_load_a_user_into_g(make_app: Callable[..., Any]) -> None:
    def is_admin(request: Any) -> bool:
        if "user" not in g:
            g.user = request.args.get("user")
        return bool(g.user == "admin")

    mill = make_app(TESTING=True, KNITPERF_ACCESS=is_admin)
    codes = [mill.get(f"/perf/report?user={user}").code for user in ("admin", "guest", "admin")]
    assert codes == [200, 404, 200]


def test_the_decision_leaves_nothing_in_g_for_the_page(make_app: Callable[..., Any]) -> None:
    seen: list[bool] = []

    def let_in(request: Any) -> bool:
        seen.append("user" in g)
        g.user = "admin"
        return True

    mill = make_app(TESTING=True, KNITPERF_ACCESS=let_in)
    mill.app.before_request(lambda: seen.append("user" in g))
    mill.get("/perf/report"), mill.get("/perf/report")
    assert seen == [False, False, False, False]


def test_a_decision_that_reads_the_form_leaves_it_for_the_page(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: request.form is not None)
    csrf = csrf_of(mill.get("/perf/", HTTP_ACCEPT="text/html").body)
    answer = mill.send("POST", "/perf/command/collect", **form(csrf=csrf))
    assert answer.code == 200


def test_the_decision_is_asked_about_our_pages_only(make_app: Callable[..., Any]) -> None:
    asked: list[str] = []

    def let_in(request: Any) -> bool:
        asked.append(request.path)
        return True

    mill = make_app(TESTING=True, KNITPERF_ACCESS=let_in)
    mill.get("/"), mill.get("/perfect"), mill.get("/perf/report")
    assert asked == ["/perf/report"]


# -- changing requests -----------------------------------------------------------------------------


def way(kind: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return configuration and headers of one way in that a browser uses."""
    if kind == "debug":
        return {"DEBUG": True}, dict(LOCAL)
    return {"KNITPERF_ACCESS": lambda request: True}, {}


@pytest.mark.parametrize("kind", ["debug", "access"])
@pytest.mark.parametrize(
    "fields", [{}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "ü"}, {"token": TOKEN}]
)
def test_a_command_needs_the_forms_token(
    make_app: Callable[..., Any], kind: str, fields: dict[str, str]
) -> None:
    config, headers = way(kind)
    mill = make_app(TESTING=True, **config)
    mill.get("/")
    answer = mill.send("POST", "/perf/command/clear", **headers, **form(**fields))
    assert (answer.code, mill.row("index")["count"]) == (403, 1)


@pytest.mark.parametrize("kind", ["debug", "access"])
def test_a_command_with_the_forms_token_is_done(make_app: Callable[..., Any], kind: str) -> None:
    config, headers = way(kind)
    mill = make_app(TESTING=True, **config)
    mill.get("/")
    csrf = csrf_of(mill.get("/perf/", HTTP_ACCEPT="text/html", **headers).body)
    answer = mill.send("POST", "/perf/command/clear", **headers, **form(csrf=csrf))
    assert (answer.code, mill.rows()) == (200, {})


def test_a_forms_token_in_the_query_does_not_count(signed_in: tuple[Any, str]) -> None:
    mill, cookie = signed_in
    csrf = csrf_of(page_of(mill, cookie))
    answer = mill.send("POST", f"/perf/command/clear?csrf={csrf}", HTTP_COOKIE=cookie)
    assert answer.code == 403


def test_the_forms_token_of_one_session_is_no_good_in_another(closed: Any) -> None:
    one, two = (
        cookie_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN))) for _ in range(2)
    )
    fields = form(csrf=csrf_of(page_of(closed, one)))
    assert closed.send("POST", "/perf/command/clear", HTTP_COOKIE=two, **fields).code == 403


def test_a_command_by_bearer_needs_no_forms_token(closed: Any) -> None:
    assert closed.send("POST", "/perf/command/collect", **BEARER).code == 200


def test_a_command_from_a_page_leads_back_to_it(signed_in: tuple[Any, str]) -> None:
    mill, cookie = signed_in
    fields = form(csrf=csrf_of(page_of(mill, cookie)))
    headers = {"HTTP_COOKIE": cookie, "HTTP_ACCEPT": "text/html"}
    answer = mill.send("POST", "/perf/command/collect", **headers, **fields)
    assert (answer.code, answer.header("Location")) == (303, "/perf/memory")


def test_a_command_that_does_not_exist_is_explained(closed: Any) -> None:
    answer = closed.send("POST", "/perf/command/explode", **BEARER)
    assert answer.code == 409 and b"there is no command 'explode'" in answer.body


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_command_is_given_by_post_only(closed: Any, method: str) -> None:
    closed.get("/")
    assert closed.send(method, "/perf/command/clear", **BEARER).code == 405
    assert closed.row("index")["count"] == 1


@pytest.mark.parametrize(
    "path", ["/perf/", "/perf/report", "/perf/memory", "/perf/style.css", "/perf/sign-in?code=x",
             "/perf/sign-out", "/perf/command/clear", "/perf/command/collect"],
)  # fmt: skip
def test_a_get_changes_no_file_of_the_state(
    make_closed: Callable[..., Any], tmp_path: Path, path: str
) -> None:
    mill = make_closed(TESTING=False, KNITPERF_FOLD_INTERVAL_S=300)
    mill.get("/")
    mill.session.recorder._housekeeper.stop()
    before = {file: file.stat().st_size for file in (tmp_path / "state").rglob("*")}
    mill.get(path, **BEARER)
    assert {file: file.stat().st_size for file in (tmp_path / "state").rglob("*")} == before


class Protect:
    """Does what Flask-WTF's CSRFProtect does: refuses each POST without its own token."""

    def __init__(self, app: Flask) -> None:
        self.exempted: set[str] = set()
        app.extensions["csrf"] = self
        app.before_request(self.check)

    def exempt(self, blueprint: Any) -> None:
        self.exempted.add(blueprint.name)

    def check(self) -> tuple[str, int] | None:
        from flask import request

        if request.method == "POST" and request.blueprint not in self.exempted:
            return "The CSRF token is missing.", 400
        return None


def test_an_applications_csrf_protection_that_comes_later_leaves_our_posts_alone(
    closed: Any,
) -> None:
    Protect(closed.app)
    assert closed.send("POST", "/perf/command/collect", **BEARER).code == 200


def test_an_applications_csrf_protection_still_protects_the_application(closed: Any) -> None:
    Protect(closed.app)
    closed.app.post("/order")(lambda: "ordered")
    assert closed.send("POST", "/order", **BEARER).code == 400


# -- other places, other headers -------------------------------------------------------------------


def test_another_prefix_moves_the_pages(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(KNITPERF_URL_PREFIX="/internal/speed")
    paths = ("/internal/speed/report", "/perf/report", "/internal/report")
    assert [mill.get(path, **BEARER).code for path in paths] == [200, 404, 404]


def test_another_prefix_is_closed_to_strangers_too(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(KNITPERF_URL_PREFIX="/internal/speed")
    for path in ("/internal/speed", "/internal/speed/", "//internal/speed/report"):
        assert mill.get(path) == mill.get("/nowhere")


def mounted(mill: Any, path: str, method: str = "GET", **environ: Any) -> Any:
    """Call an application that is mounted at /mill."""
    outer = DispatcherMiddleware(lambda e, s: s("404 NOT FOUND", []) and [], {"/mill": mill.app})
    seen = type(mill)(mill.app, mill.perf)
    seen.app = type("Outer", (), {"wsgi_app": staticmethod(outer)})()
    return seen.send(method, path, **environ)


def test_a_mounted_application_is_closed_under_its_mount(closed: Any) -> None:
    assert mounted(closed, "/mill/perf/report") == mounted(closed, "/mill/nowhere")


def test_signing_in_to_a_mounted_application_leads_to_its_pages(closed: Any) -> None:
    answer = mounted(closed, "/mill/perf/sign-in", "POST", **form(token=TOKEN))
    assert answer.header("Location") == "/mill/perf/"
    assert "Path=/mill/perf;" in answer.header("Set-Cookie")


def test_the_pages_of_a_mounted_application_point_to_its_mount(closed: Any) -> None:
    body = mounted(closed, "/mill/perf/", HTTP_ACCEPT="text/html", **BEARER).body.decode()
    links = re.findall(r'(?:href|action)="(/[^"]*)"', body)
    assert links and all(link.startswith("/mill/perf/") for link in links)


@pytest.mark.parametrize("path", ["/perf/", "/perf/report", "/perf/memory", "/perf/style.css"])
def test_a_request_that_came_around_the_guard_is_refused(closed: Any, path: str) -> None:
    around = type(closed)(closed.app, closed.perf)
    around.app = type("Around", (), {"wsgi_app": lambda e, s: Flask.wsgi_app(closed.app, e, s)})
    assert around.get(path, **BEARER).code == 404


HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY", "Cache-Control": "no-store",
}  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/perf/", "/perf/report", "/perf/memory", "/perf/report?window=x", "/perf/report?format=json",
     "/perf/sign-in"],
)  # fmt: skip
@pytest.mark.parametrize("name", sorted(HEADERS))
def test_every_page_carries_its_security_headers(closed: Any, path: str, name: str) -> None:
    assert closed.get(path, **BEARER).header(name) == HEADERS[name]


@pytest.mark.parametrize("path", ["/perf/", "/perf/memory", "/perf/style.css", "/perf/sign-in"])
def test_every_page_forbids_scripts_frames_and_other_hosts(closed: Any, path: str) -> None:
    policy = closed.get(path, **BEARER).header("Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["frame-ancestors"] == "'none'"
    assert "script-src" not in rules and "unsafe" not in policy and "http" not in policy


def test_a_page_says_that_it_depends_on_who_asks(closed: Any) -> None:
    vary = closed.get("/perf/", **BEARER).header("Vary")
    assert {"Cookie", "Authorization", "Accept"} <= {word.strip() for word in vary.split(",")}
