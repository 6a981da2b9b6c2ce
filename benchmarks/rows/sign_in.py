"""The owner signs in at the first try while others post 19 wrong tokens and links per second.

A gunicorn with two workers receives the wrong posts from other addresses, and in a second round from
the owner's own, as behind a plain proxy, where all clients have one address. Meanwhile the owner signs
in a hundred times, by the token and by a sign-in link in turn: each post must be answered by a redirect
with a session, and the report must open with it. No wrong post may get a session.
"""

from __future__ import annotations

import http.client
import itertools
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

from flask_knitperf.web.session_cookie import SESSION_COOKIE
from flask_knitperf.web.sign_in import sign_in_link
from flask_knitperf.web.signatures import derive_key

from ..harness import machine
from ..harness.outcome import Grid, Outcome
from ..harness.servers import TOKEN, Gunicorn

WRONG_PER_S = 19
_OWNER, _OTHER = "127.0.0.1", "127.0.0.2"
_ROUNDS = (("elsewhere", _OTHER), ("the_same_address", _OWNER))
_OWNERS_PER_S = 5
_APPLICATION = "served"
"""Name of the application of :func:`.apps.served`; its root is the project's."""


class Attack(threading.Thread):
    """Posts wrong tokens and links at a fixed rate until it is stopped.

    Attributes:
        statuses: number of responses by status.
        sessions: number of responses that set a session.
    """

    def __init__(self, port: int, address: str) -> None:
        super().__init__(daemon=True)
        self.statuses: Counter[int] = Counter()
        self.sessions = 0
        self._port, self._address = port, address
        self._stopping = threading.Event()

    def run(self) -> None:
        """Post until stopped."""
        due = time.monotonic()
        for number in itertools.count():
            due += 1 / WRONG_PER_S
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            field = "code" if number % 2 else "token"
            status, session = _post(self._port, self._address, {field: f"1.wrong-{number:08}.0"})
            self.statuses[status] += 1
            self.sessions += bool(session)

    def stop(self) -> None:
        """Stop, and wait for the last response."""
        self._stopping.set()
        self.join()


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    tries = 10 if quick else 100
    lines = []
    for name, address in _ROUNDS:
        with (
            tempfile.TemporaryDirectory() as folder,
            Gunicorn(Path(folder), "--workers=2") as server,
        ):
            attack = Attack(server.port, address)
            attack.start()
            time.sleep(0 if quick else 2)  # by then the attacker is refused
            failures = _sign_in_repeatedly(server.port, tries)
            attack.stop()
        outcome.judge(
            f"sign_in.{name}", f"sign-in at the first try, {WRONG_PER_S} wrong posts per second from "
            + name.replace("_", " "), f"{tries} of {tries}", f"{tries - len(failures)}",
            not failures and attack.sessions == 0,
        )  # fmt: skip
        outcome.notes += failures[:3]
        statuses = ", ".join(
            f"{status} × {count}" for status, count in sorted(attack.statuses.items())
        )
        lines.append((name.replace("_", " "), str(tries), statuses, str(attack.sessions)))
    heads = ("wrong posts from", "sign-ins", "answers to wrong posts", "sessions given to them")
    outcome.grids.append(Grid("Sign-in under attack", heads, tuple(lines)))
    return outcome


def _sign_in_repeatedly(port: int, tries: int) -> list[str]:
    """Sign in as the owner; return the failures."""
    key, failures = derive_key(TOKEN, _APPLICATION, str(machine.ROOT)), []
    for number in range(tries):
        due = time.monotonic() + 1 / _OWNERS_PER_S
        fields = {"token": TOKEN}
        if number % 2:
            fields = {"code": sign_in_link(key, "", time.time()).partition("code=")[2]}
        status, session = _post(port, _OWNER, fields)
        page = _get_report(port, session)
        if (status, page) != (303, 200):
            failures.append(
                f"try {number} by {next(iter(fields))}: sign-in {status}, report {page}"
            )
        time.sleep(max(0.0, due - time.monotonic()))
    return failures


def _post(port: int, address: str, fields: dict[str, str]) -> tuple[int, str]:
    """Post the sign-in form; return the status, and the session that the response sets."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
    status, cookies = _send(port, address, "POST", "/perf/sign-in", urlencode(fields), headers)
    sessions = [cookie for cookie in cookies if cookie.startswith(f"{SESSION_COOKIE}=")]
    return status, sessions[0].partition(";")[0] if sessions else ""


def _get_report(port: int, session: str) -> int:
    """Return the status of the report for a browser with a session."""
    headers = {"Cookie": session, "Connection": "close"}
    return _send(port, _OWNER, "GET", "/perf/report?window=run", None, headers)[0]


def _send(
    port: int, address: str, method: str, path: str, body: str | None, headers: dict[str, str]
) -> tuple[int, list[str]]:
    """Send a request from an address of this machine; return the status and the cookies it sets."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=60, source_address=(address, 0)
    )
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers.get_all("Set-Cookie", [])
    finally:
        connection.close()
