"""Forks, and a database that dies: the application sees its own answers and its own errors only.

Forks: a parent with a live engine forks four children that query at once, and goes on querying itself;
every answer names its sender. Deaths: the demo on PostgreSQL under gunicorn serves eight clients while
its database is killed and restarted; each response must be an answer or the database's error, every
request must be counted, and the extension must log nothing.
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

CHILDREN = 4
ROUNDS = 5
QUERIES = 1000
"""Queries of each process in each round."""
CLIENTS = 8
DEATHS = 3
_QUERY = sa.text("SELECT :n, pg_sleep(0.0005)")
_WRONG = 3
_FAILED = 4
_HUNG = -signal.SIGALRM
"""Exit codes of a child."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as text:
        os.environ["XDG_RUNTIME_DIR"] = text
        with Postgres(Path(text) / "data") as server:
            _forks(outcome, server.url, 1 if quick else ROUNDS, 100 if quick else QUERIES)
            _deaths(outcome, Path(text), server, 1 if quick else DEATHS)
    return outcome


# -- forks -----------------------------------------------------------------------------------------


def _forks(outcome: Outcome, url: str, rounds: int, queries: int) -> None:
    ended: Counter[int] = Counter()
    for _ in range(rounds):
        engine = KnitPerf().queries.create_engine(
            url.replace("postgresql://", "postgresql+psycopg://"), pool_size=5
        )
        _query(engine, 0, 10)  # the parent's connection is live now
        children = []
        for number in range(1, CHILDREN + 1):
            child = os.fork()
            if not child:
                signal.alarm(120)
                os._exit(_query(engine, number, queries))
            children.append(child)
        ended[_query(engine, 0, queries)] += 1
        ended.update(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        engine.dispose()
    correct = set(ended) == {0}
    outcome.judge(
        "databases.forks",
        f"{CHILDREN} children forked from a parent with a live engine, {queries:,} answers each, "
        f"{rounds} times",
        "0 wrong, 0 errors, 0 hangs",
        f"{ended[_WRONG]} wrong, {ended[_FAILED]} errors, {ended[_HUNG]} hangs", correct,
    )  # fmt: skip


def _query(engine: sa.Engine, number: int, times: int) -> int:
    """Send queries; return an exit code, 0 if all answers were right."""
    try:
        for turn in range(times):
            with engine.connect() as connection:
                expected = number * 1_000_000 + turn
                if connection.execute(_QUERY, {"n": expected}).one()[0] != expected:
                    return _WRONG
    except Exception:
        return _FAILED
    return 0


# -- a database that dies --------------------------------------------------------------------------


class _Clients:
    """Clients that request one path until their block ends.

    Attributes:
        outcomes: of all responses: ``answer``, ``database`` for the database's error, else a text.
    """

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._stop = threading.Event()
        self.outcomes: list[str] = []
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
            response = connection.getresponse()
            body = response.read()
            self.outcomes.append(_outcome(response.status, body))
        connection.close()

    def wait_for(self, outcome: str) -> None:
        """Wait until a response has this outcome."""
        first, start = len(self.outcomes), time.monotonic()
        while outcome not in self.outcomes[first:]:
            if time.monotonic() - start > 60:
                raise RuntimeError(f"no response has outcome {outcome}: {self.outcomes[-3:]}")
            time.sleep(0.01)


def _outcome(status: int, body: bytes) -> str:
    if status == 200:
        return "answer"
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
    with Gunicorn(folder / "served", *options, app="demo_app:create_app()", env=env) as served:
        with _Clients(served.port, place.rule.partition("<")[0] + "C007") as clients:
            for _ in range(deaths):
                clients.wait_for("answer")
                server.kill()
                clients.wait_for("database")
                server.start()
                clients.wait_for("answer")
        time.sleep(0.5)
        document = report(served.port).document
        errors = [line for line in served.errors() if "flask_knitperf:" in line]
    outcomes = Counter(clients.outcomes)
    counted = next(
        row["count"] for row in document["endpoints"] if row["endpoint"] == place.endpoint
    )
    total = len(clients.outcomes)
    correct = set(outcomes) == {"answer", "database"} and counted == total and not errors
    outcome.judge(
        "databases.deaths", f"the database killed and restarted {deaths} times under load",
        "the host sees only its own database's errors",
        f"{outcomes['answer']:,} answers, {outcomes['database']:,} database errors, "
        f"{total - outcomes['answer'] - outcomes['database']} others; {counted:,} requests counted",
        correct,
    )  # fmt: skip
    others = [text for text in outcomes if text not in ("answer", "database")]
    outcome.notes += [*errors[:5], *others[:5]]
