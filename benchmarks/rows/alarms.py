"""The host's timeouts by ``SIGALRM`` reach the host, wherever they interrupt our code.

A view runs statements and sections back to back. An alarm goes off after a random time below a
millisecond, and again until it interrupts our code; then its handler raises. The view has to see each of
these exceptions, once. One is lost if the view still runs a second later. Whatever the alarm left behind
must be closed: no section is open in the request, and the next statement works. Afterwards the report
must count all requests.

No alarm is raised where SQLAlchemy itself ignores exceptions, with our code or without it: while it
resets a connection or closes a cursor. Those that Python ignores, in finalizers, are counted apart.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.core.code_locations import PACKAGE
from flask_knitperf.recording import span

from ..harness.outcome import Grid, Outcome
from ..harness.wsgi import Get

_LOST_AFTER_S = 1.0
_LATEST_S = 0.001
_AGAIN_S = 0.0001
_IGNORANT = frozenset({"_finalize_fairy", "_safe_close_cursor"})
"""Functions of SQLAlchemy that only log the exceptions of what they call."""
_STATEMENT = "SELECT id FROM t WHERE id <= ?"


class AlarmError(Exception):
    """Raised by the host's handler."""


class Counts(NamedTuple):
    """Alarms that were raised, that the view saw, and that Python ignored; sections left open."""

    raised: int
    seen: int
    ignored: int
    left_open: int


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    if not hasattr(signal, "setitimer"):
        outcome.judge("alarms", "alarms that reach the host", "all", "this system has none", None)
        return outcome
    alarms = 60 if quick else 600
    lines = []
    for kind in WORK:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            counts = pool.apply(_in_process, (kind, alarms))
        lost = counts.raised - counts.ignored - counts.seen
        outcome.judge(
            f"alarms.{kind}", f"alarms lost during {kind.replace('_', ' ')}", f"0 of {alarms}",
            f"{lost} of {counts.raised}; {counts.left_open} left open",
            lost == 0 and counts.left_open == 0 and counts.raised >= alarms,
        )  # fmt: skip
        lines.append((kind.replace("_", " "), *map(str, counts)))
    heads = ("work", "raised", "seen by the view", "ignored by Python", "left open")
    outcome.grids.append(Grid("Alarms", heads, tuple(lines)))
    return outcome


def _in_process(kind: str, alarms: int) -> Counts:
    """Count the alarms of one kind of work, in the main thread of the current process."""
    counts = {"raised": 0, "seen": 0, "ignored": 0, "left_open": 0}
    rng = random.Random(3)

    def alarm(_: int, frame: FrameType | None) -> None:
        if not _interrupts_ours(frame):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, _AGAIN_S))
            return
        counts["raised"] += 1
        raise AlarmError

    def ignored(event: Any) -> None:
        if isinstance(event.exc_value, AlarmError):
            counts["ignored"] += 1
        else:
            sys.__unraisablehook__(event)

    with tempfile.TemporaryDirectory() as folder:
        app = Flask("alarms")
        app.config["KNITPERF_STATE_DIR"] = str(Path(folder) / "state")
        app.config["PROPAGATE_EXCEPTIONS"] = True
        perf = KnitPerf(app)
        work = WORK[kind](perf, str(Path(folder) / "database"))

        @app.get("/work")
        def view() -> str:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, _LATEST_S))
                ends = time.monotonic() + _LOST_AFTER_S
                while time.monotonic() < ends:  # by then the alarm is lost
                    work()
            except AlarmError:
                counts["seen"] += 1
            current = span.current()
            if current is None or current.stack:
                counts["left_open"] += 1
            work()
            return "ok"

        signal.signal(signal.SIGALRM, alarm)
        sys.unraisablehook = ignored
        request = Get(app.wsgi_app, "/work")
        served = 0
        while counts["raised"] < alarms and served < 2 * alarms:
            if request() != b"ok":
                raise RuntimeError("the view failed")
            served += 1
        session = app.extensions["knitperf"]
        session.recorder.worker.fold()
        rows = session.documents.report("run")["endpoints"]
        if [(row["endpoint"], row["count"]) for row in rows] != [("view", served)]:
            raise RuntimeError(f"{served} requests were served; the report has {rows}")
        session.close()
    return Counts(**counts)


def _interrupts_ours(frame: FrameType | None) -> bool:
    """Return whether a frame of ours is on the stack, and none that ignores exceptions."""
    is_ours = False
    while frame is not None and frame.f_code.co_name != "view":
        if frame.f_code.co_name in _IGNORANT:
            return False
        is_ours = is_ours or frame.f_code.co_filename.startswith(PACKAGE)
        frame = frame.f_back
    return is_ours and frame is not None


# -- the work --------------------------------------------------------------------------------------


def _table(database: str) -> None:
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(20)])
    connection.close()


def _sections(perf: KnitPerf, database: str) -> Callable[[], object]:
    @perf.profile
    def profiled() -> int:
        return 7

    def work() -> None:
        with perf.section("outer"), perf.section("inner"):
            profiled()

    return work


def _plain_statements(perf: KnitPerf, database: str) -> Callable[[], object]:
    _table(database)
    connection = perf.queries.wrap_connect(sqlite3.connect)(database)
    return lambda: connection.execute(_STATEMENT, (3,)).fetchall()


def _engine_statements(perf: KnitPerf, database: str) -> Callable[[], object]:
    _table(database)
    # of a pool SQLAlchemy loses the connections that it was about to hand out
    plain = sa.create_engine(f"sqlite:///{database}", poolclass=sa.pool.NullPool)
    engine = perf.queries.instrument(plain)

    def work() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(_STATEMENT, (3,)).all()

    return work


WORK: dict[str, Callable[[KnitPerf, str], Callable[[], object]]] = {
    "sections": _sections,
    "statements_of_a_connection": _plain_statements,
    "statements_of_an_engine": _engine_statements,
}
"""Kinds of work: from the extension and the path of a database to the function that a view repeats."""
