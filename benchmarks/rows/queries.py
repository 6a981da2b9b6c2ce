"""Cost of tracking queries: per query, above listeners that do nothing, and beside peers.

Requests send the same small query ten and a hundred and ten times to a database in memory, in an
application for each way of tracking; blocks of requests alternate, and their CPU time is measured. The
time that a hundred more queries add, divided by a hundred, is the cost of a query, including the work at
the end of the request; the rest of ten queries is the fixed cost of a request with queries.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask
from sqlalchemy.pool import StaticPool

from flask_knitperf import KnitPerf

from ..harness import blocks
from ..harness.outcome import Grid, Outcome, Spread
from ..harness.wsgi import Get

FEW = 10
MANY = 110
"""Queries of a request."""
BARE = "not tracked"
EMPTY = "empty listeners"
PLAIN = "without lines"
LINES = "with lines"
TELEMETRY = "OpenTelemetry"
TAP = "sqltap"
RAW = "sqlite3"
WRAPPED = "wrapped, without lines"
WRAPPED_LINES = "wrapped, with lines"
_STATEMENT = sa.text("SELECT a FROM t WHERE id = :id")


def _engine() -> sa.Engine:
    engine = sa.create_engine("sqlite://", poolclass=StaticPool,
                              connect_args={"check_same_thread": False})  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)"))
        connection.execute(sa.text("INSERT INTO t VALUES (1, 'x')"))
    return engine


def _app(name: str, state: Path, send: Callable[[int], None], **config: Any) -> Flask:
    app = Flask("queries")
    app.config.update(KNITPERF_STATE_DIR=str(state / name), KNITPERF_CPU_SAMPLE=10_000,
                      KNITPERF_SAMPLER=False, KNITPERF_REQUEST_DETAILS=False, **config)  # fmt: skip
    app.add_url_rule("/<int:count>", "view", lambda count: (send(count), "ok")[1])
    KnitPerf(app)
    return app


def _by_engine(engine: sa.Engine) -> Callable[[int], None]:
    def send(count: int) -> None:
        with engine.connect() as connection:
            for _ in range(count):
                connection.execute(_STATEMENT, {"id": 1}).all()

    return send


def _empty(engine: sa.Engine) -> sa.Engine:
    def nothing(*_: Any) -> None:
        pass

    sa.event.listen(engine, "before_cursor_execute", nothing)
    sa.event.listen(engine, "after_cursor_execute", nothing)
    return engine


def _engines(state: Path) -> dict[str, Flask]:
    """Return an application for each way of tracking an engine; peers only if they are installed."""
    track = KnitPerf().queries.instrument
    apps = {
        BARE: _app("bare", state, _by_engine(_engine())),
        EMPTY: _app("empty", state, _by_engine(_empty(_engine()))),
        PLAIN: _app("plain", state, _by_engine(track(_engine())), KNITPERF_QUERY_SITES=False),
        LINES: _app("lines", state, _by_engine(track(_engine()))),
    }
    with suppress(ImportError):
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

        if not sa.__version__.startswith("2.0."):  # it does not instrument newer ones
            raise ImportError
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import (
            BatchSpanProcessor,
            SpanExporter,
            SpanExportResult,
        )

        class Nowhere(SpanExporter):
            def export(self, spans: Any) -> SpanExportResult:
                return SpanExportResult.SUCCESS

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(Nowhere()))
        engine = _engine()
        SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=provider)
        apps[TELEMETRY] = _app("telemetry", state, _by_engine(engine))
    with suppress(ImportError):
        import sqltap

        engine = _engine()
        send, profiler = _by_engine(engine), sqltap.ProfilingSession(engine)

        def tapped(count: int) -> None:
            with profiler:
                send(count)
            profiler.collect()

        apps[TAP] = _app("tap", state, tapped)
    return apps


def _connections(state: Path) -> dict[str, Flask]:
    """Return an application for each way of tracking a plain connection."""

    def by_cursor(connect: Callable[..., Any]) -> Callable[[int], None]:
        connection = connect(":memory:", check_same_thread=False)
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
        cursor = connection.cursor()

        def send(count: int) -> None:
            for _ in range(count):
                cursor.execute("DELETE FROM t WHERE id = ?", (7,))

        return send

    wrap = KnitPerf().queries.wrap_connect
    return {
        RAW: _app("raw", state, by_cursor(sqlite3.connect)),
        WRAPPED: _app(
            "wrapped", state, by_cursor(wrap(sqlite3.connect)), KNITPERF_QUERY_SITES=False
        ),
        WRAPPED_LINES: _app("wrapped-lines", state, by_cursor(wrap(sqlite3.connect))),
    }


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    rounds = 4 if quick else 200
    with tempfile.TemporaryDirectory() as folder:
        engines, connections = _engines(Path(folder)), _connections(Path(folder))
        added, whole = _alternate(engines, rounds)
        plain, plain_whole = _alternate(connections, rounds)
        for app in (*engines.values(), *connections.values()):
            app.extensions["knitperf"].close()
        older = None if TELEMETRY in added else _older(Path(folder), rounds)
    above_empty, bare = blocks.differences(added, EMPTY), blocks.differences(added, BARE)
    raw = blocks.differences(plain, RAW)
    requests = {**blocks.differences(whole, BARE), **blocks.differences(plain_whole, RAW)}
    _judge(outcome, above_empty, raw)
    if older is not None:
        _judge_peers(outcome, older["above_empty_us"], f" on SQLAlchemy {older['sqlalchemy']}")
    _judge_peers(outcome, {name: spread.median for name, spread in above_empty.items()}, "")
    rows = [
        (f"SQLAlchemy {sa.__version__}, {name}", spread.text(2)) for name, spread in bare.items()
    ]
    rows += [(name, spread.text(2)) for name, spread in raw.items()]
    heads = ("way", "µs (quartiles)")
    outcome.grids.append(Grid("CPU time added to a query", heads, tuple(rows)))
    rows = [(name, spread.text()) for name, spread in requests.items()]
    outcome.grids.append(Grid("CPU time added to a request with queries", heads, tuple(rows)))
    return outcome


def _judge(outcome: Outcome, above_empty: dict[str, Spread], raw: dict[str, Spread]) -> None:
    for name, target in ((PLAIN, 5.0), (LINES, 15.0)):
        median = above_empty[name].median
        outcome.judge(f"queries.{'plain' if name == PLAIN else 'lines'}",
                      f"added to a query above an empty pair of listeners, {name}",
                      f"≤ {target:g} µs", f"{median:.1f} µs", median <= target)  # fmt: skip
    median = raw[WRAPPED].median
    outcome.judge("queries.wrap", "a wrapped connection adds to a query, without lines", "≤ 1.5 µs",
                  f"{median:.2f} µs; with lines {raw[WRAPPED_LINES].median:.2f}",
                  median <= 1.5)  # fmt: skip


def _judge_peers(outcome: Outcome, above_empty: dict[str, float], where: str) -> None:
    for name, times in ((TELEMETRY, 4), (TAP, 10)):
        if name in above_empty:
            ratio = above_empty[name] / above_empty[LINES]
            key = f"queries.{name.lower()}{'.older' * bool(where and name == TAP)}"
            outcome.judge(key, f"cheaper than {name}, lines included{where}", f"≥ {times} ×",
                          f"{ratio:.1f} ×", ratio >= times)  # fmt: skip


def _older(folder: Path, rounds: int) -> dict[str, Any] | None:
    """Measure with SQLAlchemy 2.0 in a separate process, if its peer is installed."""
    if importlib.util.find_spec("opentelemetry") is None:
        return None
    packages, result = folder / "older", folder / "older.json"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--target", str(packages), "sqlalchemy>=2.0,<2.1"], check=True,
    )  # fmt: skip
    path = os.pathsep.join([str(packages), str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-m", __name__, str(result), str(rounds)], check=True,
                   env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    document: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return document


def _measure_older(target: Path, rounds: int) -> None:
    """Measure engines; write the cost of each way of tracking above empty listeners."""
    with tempfile.TemporaryDirectory() as folder:
        apps = _engines(Path(folder))
        added, _ = _alternate(apps, rounds)
        for app in apps.values():
            app.extensions["knitperf"].close()
    above_empty = blocks.differences(added, EMPTY)
    target.write_text(json.dumps({
        "sqlalchemy": sa.__version__,
        "above_empty_us": {name: spread.median for name, spread in above_empty.items()},
    }), encoding="utf-8")  # fmt: skip


def _alternate(
    apps: dict[str, Flask], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the CPU microseconds of a query, and the fixed ones of a request, by round."""
    gets = {
        (name, count): Get(app, f"/{count}") for name, app in apps.items() for count in (FEW, MANY)
    }
    measured = blocks.measure(gets, rounds, 5)
    queries: dict[str, list[float]] = {}
    requests: dict[str, list[float]] = {}
    for name in apps:
        pairs = list(zip(measured[name, FEW], measured[name, MANY], strict=True))
        queries[name] = [(many - few) / (MANY - FEW) for few, many in pairs]
        requests[name] = [few - FEW * (many - few) / (MANY - FEW) for few, many in pairs]
    return queries, requests


if __name__ == "__main__":
    _measure_older(Path(sys.argv[1]), int(sys.argv[2]))
