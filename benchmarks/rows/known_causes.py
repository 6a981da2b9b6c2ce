"""Small endpoints with one known cause each: its line is named first, with the right advice.

An application serves them one after another in one thread, the sampler at its default rate, on a calm
machine and beside as many busy processes as there are cores. The first finding of an endpoint on its
time must have the cause and the line of the key; its advice must be that of the call at the line. For a
line of plain Python any advice is wrong. Queueing for a core does not count as the cause, since the
report states that separately. Where ``BENCH_PYTHON_313`` names an interpreter with the package, the same
is measured there.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.analysis.advice import ADVICE
from flask_knitperf.analysis.callee_table import CALLEES

from ..corpus import known_causes, known_causes_unseen
from ..corpus.known_causes import Case
from ..corpus.known_causes_unseen import UnseenCase
from ..harness.busy_machine import CORES, busy_processes
from ..harness.outcome import Grid, Outcome
from ..harness.sampled import sampled_report
from ..harness.wsgi import Get

ROUNDS = 20  # requests of each endpoint
QUICK_ROUNDS = 8
_QUICK_STEP = 12  # one endpoint of this many is served quickly
MIN_NAMED = 0.9
"""Share of the endpoints whose cause and line must be named first."""
CORPORA: dict[str, ModuleType] = {"listed": known_causes, "unseen": known_causes_unseen}
"""The second is by an author who had not seen the detector."""
_LOADS = {"calm": 0, "busy": CORES}
_OTHER = "BENCH_PYTHON_313"
_OF_TIME = ("SLOW_RESPONSE", "MODERATE_RESPONSE")
_ROOT = Path(__file__).resolve().parents[2]


class Result(NamedTuple):
    """One endpoint, compared with the key; JSON values only.

    Attributes:
        corpus: its corpus.
        load: ``calm`` or ``busy``.
        name: of the endpoint.
        cause: of the key, with the calls at its line.
        where: line of the key.
        named: whether its cause and line come first.
        advised: whether it has the right advice, or rightly none.
        wrong: whether its advice is that of something else.
        waits_named: whether the finding names the service or the like that it waits for; ``None`` where
            the key names none.
        text: its finding.
    """

    corpus: str
    load: str
    name: str
    cause: str
    where: str
    named: bool
    advised: bool
    wrong: bool
    waits_named: bool | None
    text: str


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    measured = [(platform.python_version(), "", results(quick))]
    if other := os.environ.get(_OTHER):
        measured.append((*_measure_by(other, quick),))
    else:
        outcome.notes.append(f"{_OTHER} is not set: Python 3.13 was not measured.")
    for python, suffix, rows in measured:
        for load in _LOADS:
            of_load = [row for row in rows if row.load == load]
            name = f"{suffix}.{load}" if load != "calm" else suffix
            _judge(outcome, name, f"{load}, Python {python}", of_load)
        outcome.grids.append(_grid(python, rows))
        outcome.notes += [
            f"{row.name} ({row.where}), {row.load}, Python {python}: {row.text}" for row in rows
            if row.wrong or row.waits_named is False or not (row.named and row.advised)
        ]  # fmt: skip
    return outcome


def _judge(outcome: Outcome, suffix: str, what: str, rows: Sequence[Result]) -> None:
    named, wrong = sum(row.named for row in rows), sum(row.wrong for row in rows)
    advised, count = sum(row.advised for row in rows), len(rows)
    outcome.judge(f"known_causes.named{suffix}",
                  f"{count} endpoints, cause and line named first, {what}", "≥ 90 %",
                  f"{named} of {count}", named >= MIN_NAMED * count)  # fmt: skip
    outcome.judge(f"known_causes.wrong{suffix}", f"endpoints with the advice of another cause, {what}",
                  "none", str(wrong), not wrong)  # fmt: skip
    outcome.judge(f"known_causes.advised{suffix}",
                  f"endpoints with the right advice, or rightly none, {what}", "≥ 90 %",
                  f"{advised} of {count}", advised >= MIN_NAMED * count)  # fmt: skip
    waiting = [row.waits_named for row in rows if row.waits_named is not None]
    if waiting:
        outcome.judge(f"known_causes.waits{suffix}", f"waits with the name of the key, {what}",
                      "≥ 90 %", f"{sum(waiting)} of {len(waiting)}",
                      sum(waiting) >= MIN_NAMED * len(waiting))  # fmt: skip


def _grid(python: str, rows: Sequence[Result]) -> Grid:
    """Return the table of one interpreter, a line for each endpoint."""
    by_endpoint: dict[tuple[str, str, str], dict[str, Result]] = {}
    for row in rows:
        by_endpoint.setdefault((row.corpus, row.name, row.cause), {})[row.load] = row
    lines = []
    for endpoint, loads in by_endpoint.items():
        line = list(endpoint)
        for row in loads.values():
            line.append("yes" if row.named else "NO")
            line.append("wrong" if row.wrong else "yes" if row.advised else "NO")
        lines.append(tuple(line))
    heads = ["corpus", "endpoint", "its cause"]
    for load in _LOADS:
        heads += [f"named first, {load}", f"advised, {load}"]
    return Grid(f"Python {python}", tuple(heads), tuple(lines))


def _measure_by(interpreter: str, quick: bool) -> tuple[str, str, list[Result]]:
    """Return version, suffix of the rows and results of another interpreter."""
    code = (
        "import json, platform; from benchmarks.rows import known_causes; "
        f"print(json.dumps([platform.python_version(), known_causes.results({quick})]))"
    )
    process = subprocess.run([interpreter, "-c", code], cwd=_ROOT, stdout=subprocess.PIPE, text=True,
                             check=True, env={**os.environ, "PYTHONPATH": str(_ROOT)})  # fmt: skip
    version, rows = json.loads(process.stdout.splitlines()[-1])
    suffix = ".py" + "".join(version.split(".")[:2])
    return version, suffix, [Result(*row) for row in rows]


def results(quick: bool = False) -> list[Result]:
    """Return the endpoints of both corpora on a calm and on a busy machine."""
    corpora = {
        corpus: module.cases()[:: _QUICK_STEP if quick else 1] for corpus, module in CORPORA.items()
    }
    rows: list[Result] = []
    for load, processes in _LOADS.items():
        for corpus, cases in corpora.items():
            with tempfile.TemporaryDirectory() as folder, busy_processes(processes):
                document = _report(Path(folder), CORPORA[corpus], cases,
                                   QUICK_ROUNDS if quick else ROUNDS)  # fmt: skip
            rows += [_compare(corpus, load, case, _first_finding(document, case)) for case in cases]
    return rows


def _first_finding(document: Mapping[str, Any], case: Case) -> Mapping[str, Any] | None:
    """Return the first finding of an endpoint on its time, if any."""
    findings: list[Mapping[str, Any]] = document["bottlenecks"]
    return next(
        (row for row in findings if row["endpoint"] == case.name and row["type"] in _OF_TIME), None
    )


def _report(
    folder: Path, module: ModuleType, cases: Iterable[Case], rounds: int
) -> Mapping[str, Any]:
    """Serve endpoints one after another; return the report."""
    app = Flask("known_causes")
    app.config.update(KNITPERF_STATE_DIR=str(folder), KNITPERF_SAMPLER=True,
                      KNITPERF_MODERATE_MS=20, KNITPERF_SLOW_MS=40)  # fmt: skip
    perf = KnitPerf(app)
    register = getattr(module, "register", None)
    if register is not None:
        register(app)
    engines = module.engines() if hasattr(module, "engines") else []
    for engine in engines:
        perf.queries.instrument(engine)
    gets = []
    for case in cases:
        if case.name not in app.view_functions:
            app.add_url_rule(f"/{case.name}", case.name, case.view)
        gets.append(Get(app, f"/{case.name}"))
    for _ in range(rounds):
        for get in gets:
            get()
    document = sampled_report(app)
    app.extensions["knitperf"].close()
    for engine in engines:
        perf.queries.uninstrument(engine)
    return document


def _compare(corpus: str, load: str, case: Case, finding: Mapping[str, Any] | None) -> Result:
    """Compare the first finding of an endpoint on its time with the key."""
    waits_for = case.waits_for.lower() if isinstance(case, UnseenCase) else ""
    waits_named = False if waits_for else None
    key = ", ".join(case.callees) or waits_for or f"({case.cause})"
    result = Result(corpus, load, case.name, key, case.where, named=False, advised=False, wrong=False,
                    waits_named=waits_named, text="no finding")  # fmt: skip
    if finding is None:
        return result
    causes = [cause for cause in finding["why"] if cause["cause"] != "cpu_queue"]
    top = causes[0] if causes else {"cause": "", "where": "", "detail": ""}
    places = {case.where, *(case.also if isinstance(case, UnseenCase) else ())}
    advice = finding["recommendation"].removeprefix(ADVICE["cpu_queue"]).strip()
    advised, wrong = _judge_advice(case, advice)
    if waits_for:
        waits_named = waits_for in f"{top['detail']} {advice}".lower()
    return result._replace(
        named=top["cause"] == case.cause and top["where"] in places, advised=advised, wrong=wrong,
        waits_named=waits_named, text=f"{finding['text']} [{top['cause']} {top['where']}]",
    )  # fmt: skip


def _judge_advice(case: Case, advice: str) -> tuple[bool, bool]:
    """Return whether an advice is right, and whether it is that of something else.

    The key has callees of the table, or words of which a right advice has one and a wrong one any.
    """
    if isinstance(case, UnseenCase):
        words = advice.lower()
        wrong = any(word in words for word in case.wrong)
        return any(word in words for word in case.right) if case.right else not advice, wrong
    right = {callee.advice for callee in CALLEES if callee.name in case.callees} or {""}
    return advice in right, advice in {callee.advice for callee in CALLEES} - right
