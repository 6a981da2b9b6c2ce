"""Clients of the pages: credentials, forms, cookies, and a guard without an application."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

from werkzeug.test import create_environ

from flask_knitperf.instrumentation.install import create_credentials
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.revocations import Revocations
from flask_knitperf.storage.shared_secret import SharedSecret
from flask_knitperf.web.credentials import Credentials
from flask_knitperf.web.guard import Guard
from flask_knitperf.web.sign_in import sign_in_link
from flask_knitperf.web.signatures import derive_key

TOKEN = "a-long-enough-token"
OTHER = "another-long-token!"
NAME = "mill"
"""Name of the application of a guard that has none."""
ADMITTED = "tests.admitted"
"""Key of the WSGI environment of a request that the tests' access function admits."""
BEARER = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:5000"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
PATHS = (
    "/perf", "/perf/", "/perf/report", "/perf/report/", "/perf/queries",
    "/perf/cache", "/perf/memory", "/perf/style.css",
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


def session_of(response: Any) -> str:
    """Return the session that a response sets, as a browser sends it back."""
    return cookies_of(response)["knitperf"].partition(";")[0]


def cookies_of(response: Any) -> dict[str, str]:
    """Return the cookies that a response sets, by name."""
    headers = [value for name, value in response.headers if name == "Set-Cookie"]
    return {header.partition("=")[0]: header for header in headers}


def csrf_of(body: bytes) -> str:
    """Return the CSRF token in the forms of a page."""
    match = re.search(rb'name="csrf" value="([^"]+)"', body)
    assert match is not None
    return match[1].decode()


def make_guard(clock: Callable[[], float], **options: Any) -> Guard:
    """Return a guard without an application.

    Args:
        clock: seconds since the epoch.
        options: arguments that differ from the defaults here.
    """
    folder = options.pop("folder", lambda: None)
    token, debug = options.pop("token", TOKEN), options.pop("debug", False)
    defaults: dict[str, Any] = {
        "prefix": "/perf", "access": None, "clock": clock,
        "revocations": Revocations(folder, Disk()),
        "credentials": Credentials(NAME, "", token, lambda: debug, SharedSecret(folder, Disk()).read),
        "on_error": lambda part, error: None,
    }  # fmt: skip
    return Guard(**{**defaults, **options})


def decide(guard: Guard, path: str = "/perf/report", method: str = "GET", **environ: Any) -> Any:
    """Return the decision about a request from another machine."""
    request = {**create_environ(path, method=method), "REMOTE_ADDR": "192.0.2.7", **environ}
    return guard.decide(request)


def sign_in(guard: Guard, **fields: str) -> Any:
    """Return the response to a sign-in form; without fields, to the right token."""
    return decide(guard, "/perf/sign-in", "POST", **form(**(fields or {"token": TOKEN})))


def new_code(now: float, token: str = TOKEN, mill: Any = None, origin: str = "") -> str:
    """Return the code of a fresh sign-in link: of an application, else of a guard without one."""
    key = derive_key(token, NAME, "") if mill is None else credentials_of(mill).read().key
    return sign_in_link(key, "/perf", now, origin).partition("code=")[2]


def credentials_of(mill: Any) -> Credentials:
    """Return the credentials of an application."""
    return create_credentials(mill.session, mill.session.settings)


def debug_code(mill: Any) -> str:
    """Return the code that opens the pages of an application in debug mode."""
    secret = credentials_of(mill).read().text
    assert secret is not None
    return secret


def viewer_headers(mill: Any) -> dict[str, str]:
    """Return the headers of a browser that signed in to an application in debug mode."""
    response = mill.send("POST", "/perf/sign-in", **form(token=debug_code(mill)))
    return {"HTTP_COOKIE": cookies_of(response)["knitperf_viewer"].partition(";")[0]}


def admitting(app: Any) -> Callable[..., Any]:
    """Return a WSGI application all of whose clients the tests' access function admits."""
    return lambda environ, start: app({**environ, ADMITTED: True}, start)


def admitted_form(mill: Any, **fields: str) -> dict[str, Any]:
    """Return the environment of a form of a page, from a browser that ``KNITPERF_ACCESS`` admits."""
    page = mill.get("/perf/", HTTP_ACCEPT="text/html")
    cookie = cookies_of(page)["knitperf_form"].partition(";")[0]
    return {**form(csrf=csrf_of(page.body), **fields), "HTTP_COOKIE": cookie}


def first_page(mill: Any, cookie: str) -> bytes:
    """Return the report page as a signed-in browser gets it."""
    body: bytes = mill.get("/perf/", HTTP_COOKIE=cookie, HTTP_ACCEPT="text/html").body
    return body
