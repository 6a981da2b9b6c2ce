"""Cached results of queries are never out of date, and never of data that was rolled back.

Processes with one state directory read and change rows of one PostgreSQL database in every way
(`harness/query_mill.py`), and their answers are judged afterwards by the times of all commits
(`harness/query_oracle.py`). An answer is stale if the commit of a later change had returned in its
process before the query was put. Then a process that writes in a loop is killed, often in the middle of
a commit, and each answer after that is compared with the database.
"""

from __future__ import annotations

import itertools
import os
import pickle
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa

from ..harness.outcome import Grid, Outcome, Spread
from ..harness.postgres import Postgres
from ..harness.query_mill import ROWS, YARN, Mill, create_schema
from ..harness.query_oracle import Answer, Change, judge

PROCESSES = 4
OPERATIONS = 24_000
KILLS = 40
AFTER_KILL_S = 0.3
HITS = 3000


class Trace(NamedTuple):
    """Notes of one process."""

    changes: list[Change]
    answers: list[Answer]
    wrong: list[str]
    counts: dict[str, Any]
    reasons: dict[str, int]


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        with Postgres(Path(folder) / "data") as server:
            _allow_two_phases(server)
            create_schema(server.url)
            traces = _operations(server.url, Path(folder), 1200 if quick else OPERATIONS)
            _judge(outcome, traces)
            kills, wrong, hits = _kills(server.url, Path(folder) / "killed", 3 if quick else KILLS)
            outcome.judge(
                "query_cache.kills", f"out of date after {kills} writers were killed", "0, and hits",
                f"{wrong}, with {hits:,} hits", not wrong and hits > 0,
            )  # fmt: skip
            cost = _cost(server.url, Path(folder) / "cost", 300 if quick else HITS)
    outcome.grids.append(Grid("One row of PostgreSQL by its key", ("call", "µs (quartiles)"), cost))
    return outcome


def _allow_two_phases(server: Postgres) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_prepared_transactions = 20")
        connection.execute("ALTER SYSTEM SET fsync = off")
    server.kill()
    server.start()


def _operations(url: str, folder: Path, count: int) -> list[Trace]:
    """Run operations in several processes; return their notes."""

    def work(number: int) -> Trace:
        mill = Mill(url, folder / "state", number)
        mill.wait_until_published()
        clerks = mill.run_beside(count // PROCESSES)
        cache = mill.perf.cache
        reasons = dict[str, int]()
        for region in cache.queries.cache.regions.values():
            for reason, times in region.refusals.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + times
        counts = dict(cache.get_cache_statistics()["total"])
        mill.close()
        return Trace(
            [change for clerk in clerks for change in clerk.changes],
            [answer for clerk in clerks for answer in clerk.answers],
            [text for clerk in clerks for text in clerk.wrong], counts, reasons,
        )  # fmt: skip

    return in_processes(work, PROCESSES, folder)


def in_processes(work: Callable[[int], Any], count: int, folder: Path) -> list[Any]:
    """Return the results of a function in some forked processes.

    Raises:
        RuntimeError: one of them failed.
    """
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            code = 1
            try:
                (folder / f"result-{number}").write_bytes(pickle.dumps(work(number)))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    if failed:
        raise RuntimeError(f"{len(failed)} of {count} processes failed")
    return [pickle.loads((folder / f"result-{n}").read_bytes()) for n in range(count)]


def _judge(outcome: Outcome, traces: list[Trace]) -> None:
    changes = [change for trace in traces for change in trace.changes]
    answers = [answer for trace in traces for answer in trace.answers]
    wrong = [text for trace in traces for text in trace.wrong]
    hits = sum(trace.counts["hits"] for trace in traces)
    verdict = judge(changes, answers)
    what = (
        f"{len(answers):,} answers and {len(changes):,} commits of {PROCESSES} processes, "
        "two threads each"
    )
    stale = verdict.stale.total()
    outcome.judge("query_cache.stale", f"stale answers, {what}", "0, and hits",
                  f"{stale}, with {hits:,} hits", not stale and hits > 0)  # fmt: skip
    undone = verdict.rolled_back.total() + verdict.early.total()
    outcome.judge("query_cache.rolled_back", "answers with data that was not committed", "0",
                  str(undone), not undone)  # fmt: skip
    outcome.judge("query_cache.own", "reads in a transaction that miss its writes or its snapshot", "0",
                  str(len(wrong)), not wrong)  # fmt: skip
    if stale:
        outcome.notes.append(
            f"Stale by way: {dict(verdict.stale)}; the longest for {verdict.longest_ns / 1e6:.3f} ms."
        )
    outcome.notes += wrong[:5]
    reasons: dict[str, int] = {}
    for trace in traces:
        for reason, count in trace.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    lines = sorted(reasons.items(), key=lambda pair: -pair[1])
    outcome.grids.append(Grid(
        "Answers that were not cached", ("reason", "calls"),
        tuple((reason, f"{count:,}") for reason, count in lines),
    ))  # fmt: skip


def _kills(url: str, state: Path, count: int) -> tuple[int, int, int]:
    """Kill writers in a loop; return the numbers of kills, of wrong answers and of hits."""
    mill = Mill(url, state, 99)
    mill.wait_until_published()
    draw = random.Random(7)
    wrong = 0
    plain = psycopg.connect(url, autocommit=True)
    with mill.app.app_context():
        for number in range(count):
            child = os.fork()
            if not child:
                _write_for_ever(url, state, number)
            time.sleep(0.4 + draw.random() * 0.1)
            until = time.monotonic() + 0.1 + draw.random() * 0.05
            while time.monotonic() < until:  # fill the cache while it writes
                mill.by_core()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            _wait_until_alone(plain)
            until = time.monotonic() + AFTER_KILL_S
            while time.monotonic() < until:
                row = draw.randrange(ROWS)
                query = sa.select(YARN.c.value).where(YARN.c.id == row)
                [(cached,)] = mill.perf.queries.cached(query, mill.engine)
                fresh = plain.execute("SELECT value FROM yarn WHERE id = %s", (row,)).fetchone()
                wrong += fresh is None or cached != fresh[0]
    hits = mill.perf.cache.get_cache_statistics()["total"]["hits"]
    plain.close()
    mill.close()
    return count, wrong, hits


def _write_for_ever(url: str, state: Path, number: int) -> None:
    try:
        writer = Mill(url, state, 100 + number)
        with writer.app.app_context():
            writer.perf.queries.cached("SELECT 1 AS one", writer.engine)
            with writer.engine.connect() as connection:
                for turn in itertools.count():
                    update = YARN.update().where(YARN.c.id == turn % ROWS)
                    connection.execute(update.values(value=YARN.c.value + 1))
                    connection.commit()
    finally:
        os._exit(1)


def _wait_until_alone(plain: psycopg.Connection[Any]) -> None:
    """Wait until the server has noticed that the killed client is gone."""
    query = ("SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"
             " AND backend_type = 'client backend' AND query NOT LIKE 'SELECT%'")  # fmt: skip
    until = time.monotonic() + 5
    while time.monotonic() < until and plain.execute(query).fetchone() != (0,):
        time.sleep(0.01)


def _cost(url: str, state: Path, count: int) -> tuple[tuple[str, str], ...]:
    """Return the times of a call with and without the cache."""
    mill = Mill(url, state, 98)
    mill.wait_until_published()
    query = sa.select(YARN.c.value, YARN.c.token).where(YARN.c.id == 3)
    lines = []
    with mill.app.app_context(), mill.engine.connect() as connection:
        calls: dict[str, Callable[[], object]] = {
            "the query itself": lambda: connection.execute(query).all(),
            "cached, a hit": lambda: mill.perf.queries.cached(query, connection),
        }
        for name, call in calls.items():
            call()
            times = []
            for _ in range(count):
                began = time.perf_counter_ns()
                call()
                times.append((time.perf_counter_ns() - began) / 1000)
            lines.append((name, Spread.of(times).text()))
    mill.close()
    return tuple(lines)
