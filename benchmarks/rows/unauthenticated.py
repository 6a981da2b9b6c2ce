"""Requests without credentials are refused, and their responses do not reveal the tool.

Raw requests (paths that no client library would send, every method, forged headers) go to real gunicorn
and waitress servers, with and without a token, and in debug mode: from this machine, from another
address, through a plain nginx and through a TCP forwarder, which both make a stranger look local. Each
response must equal that of a URL that does not exist, and may not contain a word that names the tool.
The sign-in page may answer only if there is a secret; in debug mode the first page may redirect to it.

In one process follow forms of peer and header fields that no socket can have, and values that a
``KNITPERF_ACCESS`` function may return: only ``True`` opens the pages.
"""

from __future__ import annotations

import random
import re
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from flask import Response
from flask.testing import FlaskClient

from ..harness.apps import small
from ..harness.outcome import Grid, Outcome
from ..harness.proxies import forwarder, nginx, nginx_program
from ..harness.recipes import waitress_on
from ..harness.servers import TOKEN, Gunicorn, Server

PATHS = (
    "/perf", "/perf/", "/perf/report", "/perf/report/", "/perf/memory", "/perf/style.css",
    "/perf/command/collect", "/perf/command/clear", "/perf/sign-out", "/perf/nothing",
    "/perf/report?format=json", "/perf/report?window=run", "/perf/static/knitperf.css", "//perf/",
    "//perf//report", "/perf//report", "///perf/memory", "/./perf/report", "/x/../perf/report",
    "/perf/../perf/report", "/perf/./report", "/%70erf/report", "/perf/%72eport", "/perf%2Freport",
    "/perf%2freport", "/perf/%2e%2e/perf/report", "/perf/report%00", "/perf/report%0d%0aX:%20y",
    "/perf;a=b/report", "/perf/report;a", "/perf/report%20", "/PERF/report", "/perf\\report",
    "/perf/%ff", "http://localhost/perf/report", "http://127.0.0.1/perf/", "/perf/sign-in/",
    "/perf/sign-in/x", "/perf/sign-in%2f", "/perf?x=/perf/sign-in",
)  # fmt: skip
SIGN_IN = ("/perf/sign-in", "/perf/sign-in?code=1.x.y", "//perf/sign-in", "/perf//sign-in")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "FOO")
HEADERS: dict[str, tuple[str, ...]] = {
    "none": ("Host: mill.example",),
    "Host localhost": ("Host: localhost",),
    "Host 127.0.0.1": ("Host: 127.0.0.1",),
    "Host ::1": ("Host: [::1]",),
    "Forwarded": ("Host: localhost", "Forwarded: for=127.0.0.1;host=localhost;proto=https"),
    "X-Forwarded-For": ("Host: localhost", "X-Forwarded-For: 127.0.0.1"),
    "X-Forwarded-Host": ("Host: mill.example", "X-Forwarded-Host: localhost"),
    "X-Real-IP": ("Host: localhost", "X-Real-IP: 127.0.0.1"),
    "Origin": ("Host: localhost", "Origin: http://localhost", "Referer: http://localhost/perf/"),
    "override": ("Host: localhost", "X-HTTP-Method-Override: GET", "X-Original-URL: /perf/report"),
    "cookie": ("Host: localhost", "Cookie: knitperf=1.x.y; session=abc"),
    "cookie far": ("Host: localhost", f"Cookie: knitperf=9999999999.aaaa.{'0' * 64}"),
    "bearer wrong": ("Host: localhost", "Authorization: Bearer wrong-token-000000000"),
    "bearer empty": ("Host: localhost", "Authorization: Bearer "),
    "bearer none": ("Host: localhost", "Authorization: Bearer None"),
    "bearer prefix": ("Host: localhost", f"Authorization: Bearer {TOKEN[:-1]}"),
    "basic": ("Host: localhost", "Authorization: Basic YWRtaW46YWRtaW4="),
    "form": ("Host: localhost", "Content-Type: application/x-www-form-urlencoded"),
    "json": ("Host: localhost", "Accept: application/json"),
    "html": ("Host: localhost", "Accept: text/html"),
}
FORGED: dict[str, tuple[str, ...]] = {
    "Client-IP": ("Host: localhost", "Client-IP: 127.0.0.1"),
    "Fly-Client-IP": ("Host: localhost", "Fly-Client-IP: 127.0.0.1"),
    "X-Scheme": ("Host: localhost", "X-Scheme: http"),
    "Via": ("Host: localhost", "Via: 1.1 proxy"),
    "Host evil": ("Host: evil.example",),
    "Host localhost.evil": ("Host: localhost.evil.example",),
    "Host with user": ("Host: localhost@evil.example",),
    "Host empty": ("Host:",),
}
FIRST_PAGE = ("perf", "perf/", "perf?x=/perf/sign-in", "http://127.0.0.1/perf/")
"""Requested paths, without slashes in front, that routing takes for the first page."""
FORMS: tuple[dict[str, str], ...] = (
    {}, {"HTTP_HOST": "localhost"}, {"HTTP_HOST": "LOCALHOST:5000"}, {"HTTP_HOST": "127.0.0.1"},
    {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:5000"}, {"REMOTE_ADDR": "127.8.9.1"},
    {"REMOTE_ADDR": "::ffff:127.0.0.1"}, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": "localhost"},
    {"REMOTE_ADDR": "unix:"}, {"REMOTE_ADDR": "0.0.0.0"}, {"REMOTE_ADDR": "10.0.0.1"},
    {"HTTP_HOST": "localhost."}, {"HTTP_HOST": "0.0.0.0:5000"}, {"HTTP_HOST": "[localhost]"},
    {"HTTP_CLIENT_IP": "127.0.0.1"}, {"HTTP_FLY_CLIENT_IP": "127.0.0.1"}, {"HTTP_X_SCHEME": "http"},
    {"HTTP_FORWARDED": "for=127.0.0.1"}, {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
    {"HTTP_X_REAL_IP": "127.0.0.1"}, {"HTTP_VIA": "1.1 proxy"}, {"HTTP_X_CLIENT_IP": "127.0.0.1"},
    {"HTTP_AUTHORIZATION": "Bearer "}, {"HTTP_AUTHORIZATION": "Bearer AAAA-AAAA-AAAA"},
    {"HTTP_COOKIE": "knitperf=9999999999.a.0"}, {"HTTP_COOKIE": "knitperf_viewer=1.a.0"},
)  # fmt: skip
VALUES: tuple[object, ...] = (
    False, None, 1, "yes", b"yes", ["role"], {"role": "it"}, ("Sign in first", 401), object(), 1.0,
    Response("Sign in first", 401), lambda: True, np.True_, ...,
)  # fmt: skip
_WORDS = re.compile(rb"knit|perf|profil|endpoint|scorecard|bearer|token", re.IGNORECASE)
_CHANGING = re.compile(
    rb"^(date|content-length|x-worker|connection|keep-alive):.*?\r\n", re.I | re.M
)
TARGET = "none admitted, nothing revealed"
REFUSED = {"400", "404", "501", "505"}
"""Statuses of responses that a server sends by itself, besides the guard's 404."""


class Answer(NamedTuple):
    """A raw response: its status, head and body, without the headers that change each time."""

    status: str
    head: bytes
    body: bytes


class Case(NamedTuple):
    """Configuration of a server, and where the requests to it come from.

    Attributes:
        name: of the case.
        config: of the application.
        through: ``loopback``, ``another address``, ``nginx`` or ``forwarder``.
    """

    name: str
    config: dict[str, object]
    through: str = "loopback"

    @property
    def has_sign_in(self) -> bool:
        """Whether there is a secret to sign in with."""
        return bool(self.config)

    @property
    def may_redirect(self) -> bool:
        """Whether the first page may lead to the sign-in page."""
        return bool(self.config.get("DEBUG"))


_CASES = (
    Case("token", {"KNITPERF_ACCESS_TOKEN": TOKEN}),
    Case("no token", {}),
    Case("debug", {"DEBUG": True}),
    Case("debug, another address", {"DEBUG": True}, "another address"),
    Case("debug, plain nginx", {"DEBUG": True}, "nginx"),
    Case("debug, TCP forwarder", {"DEBUG": True}, "forwarder"),
)


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    lines = []
    for case in _CASES:
        name = case.name.replace(",", "").replace(" ", "_")
        missing = _missing(case.through)
        if missing:
            outcome.judge(f"unauthenticated.{name}", f"anonymous requests, {case.name}", TARGET,
                          missing, None)  # fmt: skip
            continue
        for kind in ("gunicorn", "waitress"):
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                port = _serve(stack, kind, Path(folder), case.config)
                server = _reach(stack, case.through, Path(folder), port)
                sent, statuses, wrong = _send_all(server, case, quick)
            lines.append((f"{case.name}, {kind}", f"{sent:,}", _text(statuses), str(len(wrong))))
            outcome.judge(f"unauthenticated.{name}.{kind}",
                          f"{sent:,} anonymous requests, {case.name}", TARGET,
                          f"{len(wrong)} wrong", not wrong)  # fmt: skip
            outcome.notes += [f"{case.name}, {kind}: {error}" for error in wrong[:4]]
    outcome.grids.append(Grid("Answers", ("server", "requests", "statuses", "wrong"), tuple(lines)))
    _judge_forms(outcome)
    _judge_values(outcome)
    return outcome


def _judge_forms(outcome: Outcome) -> None:
    """Judge forms of peer and header fields, in debug mode, that look as local as can be."""
    app = small({"DEBUG": True})
    client, base = app.test_client(), {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:5000"}
    wrong = [
        f"{form} {path}" for form in FORMS for path in ("/perf/report", "/perf/memory", "/perf/why")
        if _shown(client, path, {**base, **form}) != _shown(client, "/nowhere", base)
    ]  # fmt: skip
    outcome.judge("unauthenticated.forms", f"{len(FORMS)} forms of peer and header fields, debug mode",
                  TARGET, f"{len(wrong)} wrong", not wrong)  # fmt: skip
    outcome.notes += wrong[:4]


def _judge_values(outcome: Outcome) -> None:
    """Judge the values that the application's own decision may return."""
    wrong = []
    for value in (*VALUES, True):
        client = small({"KNITPERF_ACCESS": lambda _, value=value: value}).test_client()
        opened = client.get("/perf/report").status_code == 200
        if opened is not (value is True):
            wrong.append(repr(value))
    outcome.judge("unauthenticated.values", f"KNITPERF_ACCESS returns {len(VALUES)} other values, True",
                  "True alone opens", f"{len(wrong)} wrong", not wrong)  # fmt: skip
    outcome.notes += wrong[:4]


def _shown(client: FlaskClient, path: str, environ: dict[str, str]) -> tuple[int, bytes, list[str]]:
    """Return the response to a GET: status, body, and header fields."""
    response = client.get(path, environ_overrides=environ)
    return response.status_code, response.data, sorted(f"{k}: {v}" for k, v in response.headers)


def _missing(through: str) -> str:
    """Return why there is no such way to a server on this machine, empty if there is one."""
    if through == "another address" and _other_address() is None:
        return "this machine has no other address"
    if through == "nginx" and nginx_program() is None:
        return "nginx is not installed (Debian: apt-get install nginx-light)"
    return ""


def _reach(stack: ExitStack, through: str, folder: Path, port: int) -> tuple[str, int]:
    """Return the address at which a server is reached."""
    if through == "nginx":
        return "127.0.0.1", stack.enter_context(nginx(folder, port))
    if through == "forwarder":
        return "127.0.0.1", stack.enter_context(forwarder(port))
    return (_other_address() or "" if through == "another address" else "127.0.0.1"), port


def _other_address() -> str | None:
    """Return an address of this machine that is not loopback, ``None`` without one."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return str(one.address)
    return None


def _text(statuses: Counter[str]) -> str:
    return ", ".join(f"{status} × {count:,}" for status, count in statuses.most_common())


def _serve(stack: ExitStack, kind: str, folder: Path, config: dict[str, object]) -> int:
    """Start a server that is stopped with the stack; return its port."""
    full = {"KNITPERF_ACCESS_TOKEN": None, "BENCH_QUIET": True, **config}
    gunicorn = Gunicorn(folder, "--workers=2", config=full, host="0.0.0.0")
    if kind == "gunicorn":
        return stack.enter_context(gunicorn).port
    waitress = Server(folder, waitress_on("0.0.0.0"), config=full, host="0.0.0.0")
    return stack.enter_context(waitress).port


def _send_all(
    server: tuple[str, int], case: Case, quick: bool
) -> tuple[int, Counter[str], list[str]]:
    """Send all requests; return their number, the statuses, and errors."""
    statuses: Counter[str] = Counter()
    wrong, sent = [], 0
    unknown = {
        method: _send(server, method, "/no-such-page", HEADERS["none"]) for method in METHODS
    }
    for method, path, name, lines in _requests(quick):
        answer = _send(server, method, path, lines)
        sent += 1
        statuses[answer.status] += 1
        public = case.has_sign_in and path in SIGN_IN
        if case.may_redirect and path.lstrip("/") in FIRST_PAGE and _leads_to_sign_in(answer):
            continue
        error = _error(answer, unknown[method], method, path, public)
        if error:
            wrong.append(f"{method} {path} ({name}): {error}")
    return sent, statuses, wrong


def _leads_to_sign_in(answer: Answer) -> bool:
    """Return whether a response is an empty redirect to the sign-in page."""
    location = re.search(rb"^location: (?:[^\r\n]*/)?sign-in\r\n", answer.head, re.I | re.M)
    return answer.status == "303" and location is not None and answer.body == b""


def _requests(quick: bool) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    rng = random.Random(3)
    for path in (*PATHS, *SIGN_IN):
        for method in METHODS:
            for name, lines in {**HEADERS, **FORGED}.items():
                if not quick or rng.random() < 0.05:
                    yield method, path, name, lines


def _error(answer: Answer, unknown: Answer, method: str, path: str, public: bool) -> str:
    """Return the error of a response, empty without one.

    Args:
        answer: the response.
        unknown: the response to an unknown path, by the same method.
        method: of the request.
        path: of the request.
        public: whether the sign-in page may answer there.
    """
    if public:
        page = {"GET": "200", "HEAD": "200"}.get(method)
        expected = {page} if page else {"403", "429"} if method == "POST" else {"404"}
        by_a_server = {unknown.status, "400"}  # such as the proxy, which answers some by itself
        return "" if answer.status in expected | by_a_server else f"sign-in: {answer.status}"
    if answer == unknown:
        return ""
    if answer.status not in REFUSED:
        return f"status {answer.status}"
    word = _WORDS.search(answer.head + answer.body.replace(path.encode(), b""))
    if word and not _WORDS.search(unknown.head + unknown.body):
        return f"it contains {word[0].decode()}"
    if answer.status == "404" and answer != unknown:
        return f"it differs from a 404 of the application: {_difference(answer, unknown)}"
    return ""


def _difference(one: Answer, other: Answer) -> str:
    lines = set(one.head.split(b"\r\n")) ^ set(other.head.split(b"\r\n"))
    return "; ".join(sorted(line.decode("latin-1") for line in lines)) or "the body"


def _send(server: tuple[str, int], method: str, path: str, lines: tuple[str, ...]) -> Answer:
    """Send one raw request on a new connection; return the raw response."""
    body = b"csrf=x&token=wrong-token-0000&code=1.2.3" if method == "POST" else b""
    head = [f"{method} {path} HTTP/1.1", *lines, "Connection: close"]
    if body:
        head.append(f"Content-Length: {len(body)}")
    with socket.create_connection(server, timeout=30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        data = b""
        while piece := _receive(connection):
            data += piece
    first, _, rest = data.partition(b"\r\n\r\n")
    status = first.split(b" ", 2)[1].decode() if first.count(b" ") else "none"
    return Answer(status, _CHANGING.sub(b"", first + b"\r\n"), rest)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""
