"""An application that sends exactly as many queries as its URL names."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading

import sqlalchemy as sa
from flask import Flask

from flask_knitperf import KnitPerf

from .apps import configured

ROWS = 3
"""Rows that each query returns."""
STATEMENT = "SELECT id FROM t WHERE id <= ?"


def served() -> Flask:
    """Return the application, configured by ``BENCH_CONFIG``."""
    app = configured("queries")
    perf = KnitPerf(app)
    path = os.path.join(tempfile.mkdtemp(), f"{os.getpid()}.db")
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1, 21)])
    database.close()
    engine = perf.queries.instrument(sa.create_engine(f"sqlite:///{path}"))
    connect = perf.queries.wrap_connect(sqlite3.connect)
    local = threading.local()

    @app.get("/engine/<int:count>")
    def by_engine(count: int) -> str:
        with engine.connect() as connection:
            for _ in range(count):
                connection.exec_driver_sql(STATEMENT, (ROWS,)).all()
        return "ok"

    @app.get("/plain/<int:count>")
    def by_connection(count: int) -> str:
        if not hasattr(local, "connection"):
            local.connection = connect(path)
        for _ in range(count):
            local.connection.execute(STATEMENT, (ROWS,)).fetchall()
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
