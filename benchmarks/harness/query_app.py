"""An application that asks its database exactly as often as it is told to."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading

import sqlalchemy as sa
from flask import Flask

from flask_knitperf import KnitPerf

ROWS = 3
STATEMENT = "SELECT id FROM t WHERE id <= ?"


def served() -> Flask:
    """Return the application; ``BENCH_CONFIG`` names a file of JSON with its configuration."""
    app = Flask("asking")
    with open(os.environ["BENCH_CONFIG"], encoding="utf-8") as file:
        app.config.update(json.load(file))
    perf = KnitPerf(app)
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, f"{os.getpid()}.db")
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        made.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1, 21)])
    made.close()
    engine = perf.queries.instrument(sa.create_engine(f"sqlite:///{path}"))
    connect = perf.queries.wrap_connect(sqlite3.connect)
    held = threading.local()

    @app.get("/engine/<int:count>")
    def by_engine(count: int) -> str:
        with engine.connect() as connection:
            for _ in range(count):
                connection.exec_driver_sql(STATEMENT, (ROWS,)).all()
        return "ok"

    @app.get("/plain/<int:count>")
    def by_connection(count: int) -> str:
        if not hasattr(held, "connection"):
            held.connection = connect(path)
        for _ in range(count):
            held.connection.execute(STATEMENT, (ROWS,)).fetchall()
        return "ok"

    @app.get("/failing/<int:count>")
    def failing(count: int) -> str:
        with engine.connect() as connection:
            for _ in range(count):
                try:
                    connection.exec_driver_sql("SELECT id FROM nothing")
                except sa.exc.OperationalError:
                    continue
        return "ok"

    return app
