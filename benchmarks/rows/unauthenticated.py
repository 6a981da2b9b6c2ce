"""Requests without credentials are refused, and their responses do not reveal the tool.

Raw requests (paths that no client library would send, every method, forged headers) go to real gunicorn
and waitress servers, with and without a token, and in debug mode: from another address with everything
forged, and from this machine with everything that must disable local access. Each response must equal
that of a URL that does not exist, and may not contain a word that names the tool. The sign-in page may
answer only if a token is set.
"""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil

from ..harness import machine
from ..harness.outcome import Grid, Outcome
from ..harness.servers import TOKEN, Gunicorn, environment, stop, wait_for

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
PROXIED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
"""Removed by waitress before the application sees them, so there they cannot disable local access."""
FORGED: dict[str, tuple[str, ...]] = {
    **{name: HEADERS[name] for name in ("none", *PROXIED[:-1])},
    "Via": ("Host: localhost", "Via: 1.1 proxy"),
    "Host evil": ("Host: evil.example",),
    "Host localhost.evil": ("Host: localhost.evil.example",),
    "Host with user": ("Host: localhost@evil.example",),
    "Host empty": ("Host:",),
}
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
    """Configuration of a server, headers of the requests to it, and whether they are local."""

    name: str
    config: dict[str, object]
    headers: dict[str, tuple[str, ...]]
    local: bool = True


_CASES = (
    Case("token", {"KNITPERF_ACCESS_TOKEN": TOKEN}, HEADERS),
    Case("no token", {}, HEADERS),
    Case("debug, forged", {"DEBUG": True}, FORGED),
    Case("debug, another address", {"DEBUG": True}, {**HEADERS, **FORGED}, local=False),
)


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    lines = []
    for case in _CASES:
        address = "127.0.0.1" if case.local else _other_address()
        if address is None:
            outcome.judge("unauthenticated.debug_another_address",
                          "anonymous requests from another address", TARGET,
                          "this machine has no other address", None)  # fmt: skip
            continue
        for kind in ("gunicorn", "waitress"):
            headers = case.headers
            if case.name == "debug, forged" and kind == "waitress":
                headers = {name: h for name, h in headers.items() if name not in PROXIED}
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                port = _serve(stack, kind, Path(folder), case.config)
                public = "KNITPERF_ACCESS_TOKEN" in case.config
                sent, statuses, wrong = _send_all((address, port), headers, public, quick)
            lines.append((f"{case.name}, {kind}", f"{sent:,}", _text(statuses), str(len(wrong))))
            name = case.name.replace(",", "").replace(" ", "_")
            outcome.judge(f"unauthenticated.{name}.{kind}",
                          f"{sent:,} anonymous requests, {case.name}", TARGET,
                          f"{len(wrong)} wrong", not wrong)  # fmt: skip
            outcome.notes += [f"{case.name}, {kind}: {error}" for error in wrong[:4]]
    outcome.grids.append(Grid("Answers", ("server", "requests", "statuses", "wrong"), tuple(lines)))
    return outcome


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
    with socket.create_server(("0.0.0.0", 0)) as free:
        port: int = free.getsockname()[1]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "waitress", f"--listen=0.0.0.0:{port}", "--call",
             "benchmarks.harness.apps:served"],
            cwd=machine.ROOT, env=environment(folder / "config.json", {}), stdout=log, stderr=log,
        )  # fmt: skip
    stack.callback(stop, process)
    wait_for(port, process, folder / "server.log")
    return port


def _send_all(
    server: tuple[str, int], headers: dict[str, tuple[str, ...]], has_token: bool, quick: bool
) -> tuple[int, Counter[str], list[str]]:
    """Send all requests; return their number, the statuses, and errors."""
    statuses: Counter[str] = Counter()
    wrong, sent = [], 0
    unknown = {
        method: _send(server, method, "/no-such-page", HEADERS["none"]) for method in METHODS
    }
    for method, path, name, lines in _requests(headers, quick):
        answer = _send(server, method, path, lines)
        sent += 1
        statuses[answer.status] += 1
        public = has_token and path in SIGN_IN
        error = _error(answer, unknown[method], method, path, public)
        if error:
            wrong.append(f"{method} {path} ({name}): {error}")
    return sent, statuses, wrong


def _requests(
    headers: dict[str, tuple[str, ...]], quick: bool
) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    rng = random.Random(3)
    for path in (*PATHS, *SIGN_IN):
        for method in METHODS:
            for name, lines in headers.items():
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
        return "" if answer.status in {*expected, "404"} else f"sign-in: {answer.status}"
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
