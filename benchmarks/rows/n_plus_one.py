"""N+1: views of a mill that send one query per row, and look-alikes.

The cases are by an author who had not seen the detector, and were committed before it existed
(``corpus/n_plus_one_unseen.py``). Each is served three times by a separate application; then the report
must name every line that repeats its query, and no other, and none in the look-alikes.
"""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import create_engine

from flask_knitperf import KnitPerf

from ..corpus import n_plus_one_unseen as corpus
from ..harness.outcome import Grid, Outcome

REQUESTS = 3
_FILE = Path(corpus.__file__).name


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seeds = range(1 if quick else 10)
    lines: list[tuple[str, ...]] = []
    planted = reported = lookalikes = false = 0
    for seed in seeds:
        for case, named in _served(seed):
            expected = {f"{_FILE}:{corpus.line_of(marker)}" for marker in case.hot}
            places = {where.rpartition("/")[2] for where in named}
            if case.hot:
                planted += 1
                reported += places == expected
            else:
                lookalikes += 1
                false += bool(places)
            if places != expected:
                lines.append((str(seed), case.name, ", ".join(sorted(places)) or "none",
                              ", ".join(sorted(expected)) or "none"))  # fmt: skip
    cases = len(corpus.cases(0))
    outcome.judge("n_plus_one.found", f"N+1 in {cases} unseen cases, each line named and no other",
                  "all", f"{reported} of {planted}", reported == planted)  # fmt: skip
    outcome.judge("n_plus_one.false", "look-alikes that are reported as N+1", "0",
                  f"{false} of {lookalikes}", false == 0)  # fmt: skip
    if lines:
        outcome.grids.append(Grid("Wrong", ("seed", "case", "named", "expected"), tuple(lines)))
    return outcome


def _served(seed: int) -> list[tuple[corpus.Case, set[str]]]:
    """Serve all cases of a seed; return the lines that the report names for each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mill.db"
        perf = KnitPerf()
        connect = perf.queries.wrap_connect(functools.partial(sqlite3.connect, path))
        engine = create_engine(f"sqlite:///{path}")
        corpus.fill(engine, seed)
        database = corpus.Database(engine, connect, seed)
        engines = [engine, *database.mills]
        for one in engines:
            perf.queries.instrument(one)
        try:
            return [(case, _named(perf, case, database)) for case in corpus.cases(seed)]
        finally:
            database.close()
            for one in engines:
                perf.queries.uninstrument(one)
                one.dispose()


def _named(perf: KnitPerf, case: corpus.Case, database: corpus.Database) -> set[str]:
    """Return the lines that the report names as N+1 for one case."""
    app = Flask("mill")
    app.config.update(TESTING=True, KNITPERF_SAMPLER=False)
    perf.init_app(app)
    app.add_url_rule("/", "view", _view(case.view, database))
    client = app.test_client()
    for _ in range(REQUESTS):
        client.get("/")
    report: dict[str, Any] = app.extensions["knitperf"].documents.report("run")
    app.extensions["knitperf"].close()
    if not any(finding["type"] == "N_PLUS_ONE" for finding in report["bottlenecks"]):
        return set()
    [row] = report["endpoints"]
    return {
        repeat["where"] or "?"
        for repeat in row["queries"]["repeated"]
        if repeat["kind"] == "n_plus_one"
    }


def _view(
    view: Callable[[corpus.Database], object], database: corpus.Database
) -> Callable[[], str]:
    def served() -> str:
        assert view(database), "the view has no result"
        return "ok"

    return served
