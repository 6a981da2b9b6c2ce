"""Forks, and a database that dies: the application gets its own answers, and no errors but its own.

Forks: a parent with a live engine forks four children that ask at once, and go on asking itself; every
answer says who asked for it. Death: the demo on PostgreSQL under gunicorn is asked by eight clients
while its database is killed and begun anew; each answer must be an answer or the database's error,
every request must be counted, and the extension must have nothing to say.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

from demo_app.plants import plan
from flask_knitperf import KnitPerf

from ..harness.client import report
from ..harness.outcome import Outcome
from ..harness.postgres import Postgres
from ..harness.servers import TOKEN, Gunicorn

CHILDREN, ROUNDS, ASKED = 4, 5, 1000
CLIENTS, DEATHS = 8, 3
_ASK = sa.text("SELECT :n, pg_sleep(0.0005)")
_WRONG, _FAILED, _HUNG = 3, 4, -signal.SIGALRM


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as text:
        os.environ["XDG_RUNTIME_DIR"] = text
        with Postgres(Path(text) / "data") as server:
            _forks(outcome, server.url, 1 if quick else ROUNDS, 100 if quick else ASKED)
            _deaths(outcome, Path(text), server, 1 if quick else DEATHS)
    return outcome


# -- forks -----------------------------------------------------------------------------------------


def _forks(outcome: Outcome, url: str, rounds: int, asked: int) -> None:
    ended: Counter[int] = Counter()
    for _ in range(rounds):
        engine = KnitPerf().queries.create_engine(
            url.replace("postgresql://", "postgresql+psycopg://"), pool_size=5
        )
        _ask(engine, 0, 10)  # the parent's connection is live now
        children = []
        for number in range(1, CHILDREN + 1):
            child = os.fork()
            if not child:
                signal.alarm(120)
                os._exit(_ask(engine, number, asked))
            children.append(child)
        ended[_ask(engine, 0, asked)] += 1
        ended.update(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        engine.dispose()
    fine = set(ended) == {0}
    outcome.judge(
        "databases.forks",
        f"{CHILDREN} children forked from a parent with a live engine, {asked:,} answers each, "
        f"{rounds} times",
        "0 wrong, 0 errors, 0 hangs",
        f"{ended[_WRONG]} wrong, {ended[_FAILED]} errors, {ended[_HUNG]} hangs", fine,
    )  # fmt: skip
    outcome.details["forks"] = {str(code): count for code, count in ended.items()}


def _ask(engine: sa.Engine, number: int, times: int) -> int:
    """Ask so many times; return how that ended."""
    try:
        for turn in range(times):
            with engine.connect() as connection:
                wanted = number * 1_000_000 + turn
                if connection.execute(_ASK, {"n": wanted}).one()[0] != wanted:
                    return _WRONG
    except Exception:
        return _FAILED
    return 0


# -- a database that dies --------------------------------------------------------------------------


class _Clients:
    """Clients that ask one path until they are told to stop, and what they were told."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._stop = threading.Event()
        self.said: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> _Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.is_set():
            connection.request("GET", self._path)
            answer = connection.getresponse()
            body = answer.read()
            self.said.append("fine" if answer.status == 200 else _kind(answer.status, body))
        connection.close()

    def until(self, wanted: str) -> float:
        """Wait until somebody is told this; return the seconds."""
        first, began = len(self.said), time.monotonic()
        while wanted not in self.said[first:]:
            if time.monotonic() - began > 60:
                raise RuntimeError(f"nobody was told {wanted}: {self.said[-3:]}")
            time.sleep(0.01)
        return time.monotonic() - began


def _kind(status: int, body: bytes) -> str:
    error = str(json.loads(body).get("error", "")) if status == 500 else ""
    of_database = any(word in error for word in (
        "connection", "server closed", "terminating", "psycopg", "the database system",
    ))  # fmt: skip
    return "database" if of_database else f"{status}: {body[:200]!r}"


def _deaths(outcome: Outcome, folder: Path, server: Postgres, deaths: int) -> None:
    place = plan(0).places["slow_sql"]
    env = {
        "DEMO_DATA": str(folder / "mill"), "DEMO_FIXED": "1", "DEMO_DATABASE_URL": server.url,
        "KNITPERF_STATE_DIR": str(folder / "state"), "KNITPERF_ACCESS_TOKEN": TOKEN,
    }  # fmt: skip
    options = ("--workers=2", "--worker-class=gthread", "--threads=4")
    back = []
    with Gunicorn(folder / "served", *options, app="demo_app:create_app()", env=env) as served:
        with _Clients(served.port, place.rule.partition("<")[0] + "C007") as clients:
            for _ in range(deaths):
                clients.until("fine")
                server.kill()
                clients.until("database")
                server.start()
                back.append(clients.until("fine"))
        time.sleep(0.5)
        document = report(served.port).document
        errors = [line for line in served.errors() if "flask_knitperf:" in line]
    told = Counter(clients.said)
    counted = next(
        row["count"] for row in document["endpoints"] if row["endpoint"] == place.endpoint
    )
    fine = set(told) == {"fine", "database"} and counted == len(clients.said) and not errors
    outcome.judge(
        "databases.deaths", f"the database killed and begun anew {deaths} times under load",
        "the host sees only its own database's errors",
        f"{told['fine']:,} answers, {told['database']:,} database errors, "
        f"{len(clients.said) - told['fine'] - told['database']} others; {counted:,} requests counted",
        fine,
    )  # fmt: skip
    outcome.notes += [*errors[:5], *[said for said in told if said not in ("fine", "database")][:5]]
    outcome.details["deaths"] = {"told": told, "counted": counted, "back_s": back}
