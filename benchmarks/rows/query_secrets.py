"""Secrets in literals, parameters, URLs and error messages appear in no file, page or log.

Real workers query PostgreSQL with secrets wherever a statement can carry them, slowly enough to be
explained and often enough to be reported as repeated. Then every file of the state directory, every page
and document, the terminal's output and the extension's lines in the server's log are searched for them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

from flask_knitperf import KnitPerf

from ..harness.apps import configured
from ..harness.client import page
from ..harness.outcome import Outcome
from ..harness.postgres import Postgres
from ..harness.servers import Gunicorn

SECRETS = {
    place: f"hunter2-{place}-7f3a9c" for place in (
        "literal", "parameter", "named", "list", "error", "cast", "comment", "dollar", "savepoint",
        "setting", "many", "sqlite", "password", "lost",
    )
}  # fmt: skip
VIEWS = ("literal", "parameter", "repeated", "error", "odd", "many", "plain", "lost")
_SLOW = "pg_sleep(0.02)"


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    times = 4 if quick else 200
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["XDG_RUNTIME_DIR"] = text
        with Postgres(folder / "data") as database:
            config = {
                "BENCH_URL": database.url,
                "KNITPERF_EXPLAIN": True,
                "KNITPERF_SLOW_QUERY_MS": 5,
            }
            options = ("--workers=2", "--worker-class=gthread", "--threads=4")
            app = "benchmarks.rows.query_secrets:served()"
            with Gunicorn(folder / "served", *options, app=app, config=config) as server:
                for _ in range(times):
                    for view in VIEWS:
                        _get(server.port, f"/{view}")
                time.sleep(3)
                pages = _pages(server.port)
                files = [path for path in server.state.rglob("*") if path.is_file()]
                contents = [path.read_bytes() for path in files]
                printed = _printed(server.state)
                log = "\n".join(server.errors()).encode()
    leaks = sorted(
        place for place, secret in SECRETS.items()
        if any(secret.encode() in text for text in (*pages, *contents, *printed, log))
    )  # fmt: skip
    counted = sum(row["count"] for row in json.loads(pages[0])["queries"])
    outcome.judge(
        "query_secrets", f"{len(SECRETS)} secrets in {counted:,} statements, searched for in "
        f"{len(pages)} pages, {len(files)} files, the terminal and the log", "none found",
        ", ".join(leaks) or "none found",
        not leaks and counted > times * len(VIEWS),
    )  # fmt: skip
    return outcome


def _get(port: int, path: str, accept: str = "application/json") -> bytes:
    status, body = page(port, path, accept)
    if status != 200:
        raise RuntimeError(f"{path} has status {status}")
    return body


def _pages(port: int) -> list[bytes]:
    """Return every document and page about statements; ``/perf/queries`` first."""
    bodies = []
    for path in ("/perf/queries", "/perf/report", "/perf/"):
        bodies += [
            _get(port, f"{path}?window=run", accept) for accept in ("application/json", "text/html")
        ]
    for view in VIEWS:
        why = _get(port, f"/perf/why?of={view}&window=run")
        bodies += [why, _get(port, f"/perf/why?of={view}&window=run", "text/html")]
        for row in json.loads(why)["requests"]["slowest"][:3]:
            for accept in ("application/json", "text/html"):
                bodies.append(_get(port, f"/perf/request?id={row['id']}&window=run", accept))
    return bodies


def _printed(state: Path) -> list[bytes]:
    """Return the output of the terminal commands."""
    return [
        subprocess.run(
            [sys.executable, "-m", "flask_knitperf", name, *more, "--state", str(state),
             "--window", "run"],
            capture_output=True, check=True,
        ).stdout
        for name, *more in (("report",), ("queries",), ("queries", "--json"), ("why", "literal"))
    ]  # fmt: skip


def served() -> Flask:
    """Return the application of this benchmark."""
    app = configured("query_secrets")
    app.logger.disabled = True
    perf = KnitPerf(app)
    url = sa.make_url(app.config["BENCH_URL"]).set(
        drivername="postgresql+psycopg", password=SECRETS["password"]
    )
    engine = perf.queries.create_engine(url, pool_size=8)
    lost = perf.queries.create_engine(
        f"postgresql+psycopg://me:{SECRETS['lost']}@localhost:1/x",
        connect_args={"connect_timeout": 1},
    )
    _views(app, engine, lost, perf)
    return app


def _views(app: Flask, engine: sa.Engine, lost: sa.Engine, perf: KnitPerf) -> None:
    def send(statement: str, parameters: Any = None, engine: sa.Engine = engine) -> None:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(statement, parameters)
        except sa.exc.SQLAlchemyError:
            return

    def literal() -> None:
        send(f"SELECT {_SLOW}, '{SECRETS['literal']}' AS a WHERE '{SECRETS['literal']}' <> 'b'")
        send(f"SELECT {_SLOW} /* {SECRETS['comment']} */, $${SECRETS['dollar']}$$ AS a")

    def parameter() -> None:
        send(f"SELECT {_SLOW}, %s::text", (SECRETS["parameter"],))
        send("SELECT %(a)s::text", {"a": SECRETS["named"]})
        send("SELECT 1 WHERE 'x' = ANY(%s)", ([SECRETS["list"]] * 3,))

    def repeated() -> None:
        for number in range(12):
            send(
                "SELECT relname FROM pg_class WHERE relname = %s",
                (f"{SECRETS['parameter']}{number}",),
            )
            send(f"SELECT relname FROM pg_class WHERE relname = '{SECRETS['literal']}{number}'")

    def error() -> None:
        send(f"SELECT '{SECRETS['cast']}'::int")
        send("SELECT %s::text::int", (SECRETS["error"],))

    def odd() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(f'SAVEPOINT "{SECRETS["savepoint"]}"')
            connection.exec_driver_sql(f"SET app.token = '{SECRETS['setting']}'")

    def many() -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TEMPORARY TABLE IF NOT EXISTS kept (a text)")
            connection.exec_driver_sql("INSERT INTO kept VALUES (%s)", [(SECRETS["many"],)] * 3)

    def plain() -> None:
        import sqlite3

        connection = perf.queries.wrap_connect(sqlite3.connect)(":memory:")
        connection.execute("SELECT ?", (SECRETS["sqlite"],)).fetchall()
        connection.execute(f'SELECT "{SECRETS["sqlite"]}"').fetchall()
        connection.close()

    def unreachable() -> None:
        send("SELECT 1", engine=lost)

    views = (literal, parameter, repeated, error, odd, many, plain, unreachable)
    for name, view in zip(VIEWS, views, strict=True):
        app.add_url_rule(f"/{name}", name, lambda view=view: (view(), "ok")[1])
