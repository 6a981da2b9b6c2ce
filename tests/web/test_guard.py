"""Authentication: Bearer token, the code of debug mode, and the application's own decision."""

from __future__ import annotations

import functools
import time as system_time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from flask import Response, g, redirect, session
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response as WerkzeugResponse

from flask_knitperf.core.errors import ConfigurationError
from flask_knitperf.web.signatures import derive_key, new_text, sign

from .clients import BEARER, LOCAL, OTHER, TOKEN, admitted_form, debug_code, form, session_of

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


def test_without_a_token_a_cookie_signed_with_an_empty_one_opens_nothing(quiet: Any) -> None:
    key = derive_key("", quiet.app.name, quiet.app.root_path)
    signed = sign(key, "session", new_text(system_time.time() + 60))
    assert quiet.get("/perf/report", HTTP_COOKIE=f"knitperf={signed}").code == 404


# -- debug mode ------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("environ", [*AT_HOME, *FROM_AFAR], ids=str)
@pytest.mark.parametrize(
    "path", ["/perf/report", "/perf/memory", "/perf/nothing", "/perf/sign-out"]
)
def test_debug_mode_alone_opens_nothing(
    make_app: Callable[..., Any], environ: dict[str, Any], path: str
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    assert mill.get(path, **{**LOCAL, **environ}) == mill.get("/nowhere")


@pytest.mark.parametrize("environ", AT_HOME, ids=str)
@pytest.mark.parametrize(("path", "location"), [("/perf/", "sign-in"), ("/perf", "perf/sign-in")])
def test_in_debug_mode_the_first_page_leads_a_browser_on_this_machine_to_sign_in(
    make_app: Callable[..., Any], environ: dict[str, Any], path: str, location: str
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    response = mill.get(path, **{**LOCAL, **environ})
    assert (response.code, response.header("Location"), response.body) == (303, location, b"")


@pytest.mark.parametrize("environ", FROM_AFAR, ids=str)
def test_in_debug_mode_no_other_client_is_led_there(
    make_app: Callable[..., Any], environ: dict[str, Any]
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    assert mill.get("/perf/", **{**LOCAL, **environ}) == mill.get("/nowhere")


@pytest.mark.parametrize("write", [str, str.lower, lambda code: code.replace("-", " ")])
def test_the_code_of_debug_mode_opens_the_pages_to_a_browser(
    make_app: Callable[..., Any], write: Callable[[str], str]
) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    response = mill.send("POST", "/perf/sign-in", **form(token=write(debug_code(mill))))
    assert mill.get("/perf/report", HTTP_COOKIE=session_of(response)).code == 200


def test_the_code_of_debug_mode_opens_the_pages_as_bearer(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    header = f"Bearer {debug_code(mill)}"
    assert mill.get("/perf/report", HTTP_AUTHORIZATION=header).code == 200


@pytest.mark.parametrize("code", ["", "-", "----", "AAAA-AAAA-AAAA", "\xff", "A" * 3000])
def test_no_other_code_opens_them(make_app: Callable[..., Any], code: str) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    response = mill.send("POST", "/perf/sign-in", **form(token=code))
    assert response.code == 403 and response.header("Set-Cookie") is None
    assert mill.get("/perf/report", HTTP_AUTHORIZATION=f"Bearer {code}").code == 404


def test_where_a_token_is_set_debug_mode_has_no_code(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(DEBUG=True)
    assert debug_code(mill) == TOKEN
    assert b'type="password"' in mill.get("/perf/sign-in").body
    assert mill.get("/perf/", **LOCAL) == mill.get("/nowhere")


def test_the_sign_in_page_of_debug_mode_has_a_field_for_the_code(
    make_app: Callable[..., Any],
) -> None:
    body = make_app(TESTING=True, DEBUG=True).get("/perf/sign-in").body
    assert b"printed in its terminal" in body and b"password" not in body


def test_debug_mode_that_is_switched_on_later_opens_by_its_code(quiet: Any) -> None:
    assert quiet.get("/perf/sign-in", **LOCAL) == quiet.get("/nowhere")
    quiet.app.debug = True
    assert quiet.send("POST", "/perf/sign-in", **form(token=debug_code(quiet))).code == 303


def test_debug_mode_that_is_switched_off_later_closes(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    code = debug_code(mill)
    cookie = session_of(mill.send("POST", "/perf/sign-in", **form(token=code)))
    mill.app.debug = False
    assert mill.get("/perf/report", HTTP_COOKIE=cookie) == mill.get("/nowhere")
    assert mill.get("/perf/report", HTTP_AUTHORIZATION=f"Bearer {code}").code == 404


@pytest.mark.parametrize("inner", [False, True])
def test_no_proxy_fix_opens_the_pages(make_app: Callable[..., Any], inner: bool) -> None:
    mill = make_app(TESTING=True, DEBUG=True)
    if inner:
        mill.put_inside(ProxyFix(mill.inner))
    else:
        mill.app.wsgi_app = ProxyFix(mill.app.wsgi_app)
    forged = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}
    assert mill.get("/perf/report", HTTP_HOST="localhost", **forged).code == 404


# -- the application's own decision ----------------------------------------------------------------


def test_the_application_authorises_by_returning_true(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: True)
    assert mill.get("/perf/report").code == 200


@pytest.mark.parametrize("decision", [False, None], ids=repr)
def test_the_application_refuses_by_returning_false_or_none(
    make_app: Callable[..., Any], decision: object
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: decision)
    assert mill.get("/perf/report") == mill.get("/nowhere")
    assert "KNITPERF_ACCESS" not in mill.degraded()


class AlwaysEqual:
    """Equal to everything, and true."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


def is_allowed(request: Any = None) -> bool:
    return True


async def is_allowed_later(request: Any = None) -> bool:
    return True


def iter_roles(request: Any = None) -> Iterator[bool]:
    yield True


OTHER_RESULTS: dict[str, Callable[[], object]] = {
    "builtins.int": lambda: 1, "builtins.str": lambda: "yes", "builtins.list": lambda: ["role"],
    "builtins.dict": lambda: {"role": "it"}, "builtins.tuple": lambda: ("Sign in first", 401),
    "builtins.object": object, "builtins.function": lambda: is_allowed,
    "builtins.coroutine": is_allowed_later, "builtins.generator": iter_roles,
    "flask.wrappers.Response": lambda: Response("Sign in first", 401),
    "werkzeug.wrappers.response.Response": lambda: WerkzeugResponse("Sign in first", 401),
    "unittest.mock.Mock": Mock, "numpy.bool": lambda: np.True_,
    "tests.web.test_guard.AlwaysEqual": AlwaysEqual,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_RESULTS)
def test_any_other_result_refuses_and_is_logged_once_with_its_type(
    make_app: Callable[..., Any], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: OTHER_RESULTS[name]())
    assert mill.get("/perf/report") == mill.get("/nowhere")
    mill.get("/perf/report")
    [record] = caplog.records
    assert record.exc_info is not None and name in str(record.exc_info[1])


def codes_around_login(mill: Any, key: str) -> list[int]:
    """Return the status of a page, of a login that sets a key of the session, and of the page again."""

    @mill.app.get("/login")
    def login() -> str:
        session[key] = "it"
        return "in"

    client = mill.client
    return [client.get(path).status_code for path in ("/perf/report", "/login", "/perf/report")]


def test_a_function_that_redirects_to_a_login_page_refuses(make_app: Callable[..., Any]) -> None:
    def login_required(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args) if "user" in session else redirect("/login")

        return wrapper

    mill = make_app(TESTING=True, SECRET_KEY="k", KNITPERF_ACCESS=login_required(is_allowed))

    assert codes_around_login(mill, "user") == [404, 200, 200]


class AsyncCallable:
    """Callable as a coroutine."""

    async def __call__(self, request: Any) -> bool:
        return True


async def stream_roles(request: Any) -> AsyncIterator[bool]:
    yield True


@pytest.mark.parametrize(
    "function",
    [is_allowed_later, functools.partial(is_allowed_later, None), AsyncCallable(), stream_roles],
    ids=["function", "partial", "object", "generator"],
)
def test_a_coroutine_is_no_access_function(make_app: Callable[..., Any], function: Any) -> None:
    with pytest.raises(
        ConfigurationError, match="must be a function that takes the request, and no coroutine"
    ):
        make_app(TESTING=True, KNITPERF_ACCESS=function)


def failing(request: Any) -> bool:
    raise RuntimeError("the directory server does not answer")


def test_a_decision_that_fails_refuses(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=failing)
    assert mill.get("/perf/report") == mill.get("/nowhere")


def test_a_decision_that_fails_is_listed_in_the_report(make_app: Callable[..., Any]) -> None:
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

    assert codes_around_login(mill, "role") == [404, 200, 200]


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

    def decide(request: Any) -> bool:
        seen.append("user" in g)
        g.user = "admin"
        return True

    mill = make_app(TESTING=True, KNITPERF_ACCESS=decide)
    mill.app.before_request(lambda: seen.append("user" in g))
    mill.get("/perf/report"), mill.get("/perf/report")
    assert seen == [False, False, False, False]


def test_a_decision_that_reads_the_form_leaves_it_for_the_page(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: request.form is not None)
    response = mill.send("POST", "/perf/command/collect", **admitted_form(mill))
    assert response.code == 200


def test_the_application_decides_about_our_pages_only(make_app: Callable[..., Any]) -> None:
    paths: list[str] = []

    def decide(request: Any) -> bool:
        paths.append(request.path)
        return True

    mill = make_app(TESTING=True, KNITPERF_ACCESS=decide)
    mill.get("/"), mill.get("/perfect"), mill.get("/perf/report")
    assert paths == ["/perf/report"]
