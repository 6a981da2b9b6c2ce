"""An application that asks PostgreSQL through a pool of a size that it is told."""

from __future__ import annotations

import json
import os

import sqlalchemy as sa
from flask import Flask

from flask_knitperf import KnitPerf

_ASK = sa.text("SELECT count(*), sum(a) FROM stock WHERE b = :b")


def served() -> Flask:
    """Return the application; ``BENCH_CONFIG`` names a file of JSON with its configuration."""
    app = Flask("pooled")
    with open(os.environ["BENCH_CONFIG"], encoding="utf-8") as file:
        app.config.update(json.load(file))
    perf = KnitPerf(app)
    url, size = app.config["BENCH_URL"], app.config["BENCH_POOL"]
    options = {} if size is None else {"pool_size": size, "max_overflow": 0}
    engine = perf.queries.create_engine(url, pool_timeout=30, **options)

    @app.get("/stock/<int:number>")
    def stock(number: int) -> dict[str, int]:
        with engine.connect() as connection:
            [first] = connection.execute(_ASK, {"b": number % 50})
            [second] = connection.execute(_ASK, {"b": number % 49})
        return {"count": first[0], "sum": sum(range(2000)) + (second[1] or 0)}

    return app


def fill(url: str) -> None:
    """Write what it asks for."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE stock (id serial PRIMARY KEY, a int, b int)"))
        connection.execute(sa.text(
            "INSERT INTO stock (a, b) SELECT n, n % 50 FROM generate_series(1, 20000) n"
        ))  # fmt: skip
    engine.dispose()
