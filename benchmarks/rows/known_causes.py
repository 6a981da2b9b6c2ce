"""Small endpoints with one known cause each: its line is named first, with the right advice.

An application serves them one after another in one thread, the sampler at its default rate. The first
finding of an endpoint on its time must have the cause and the line of the key; its advice must be that
of the call at the line. For a line of plain Python any advice is wrong.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.analysis.callee_table import CALLEES

from ..corpus import known_causes as corpus
from ..harness.outcome import Grid, Outcome
from ..harness.wsgi import Get

ROUNDS = 25  # requests of each endpoint
QUICK_ROUNDS = 10
MIN_NAMED = 0.9
"""Share of the endpoints whose cause and line must be named first."""
_OF_TIME = ("SLOW_RESPONSE", "MODERATE_RESPONSE")


class Result(NamedTuple):
    """One endpoint, compared with the key.

    Attributes:
        case: the endpoint.
        named: whether its cause and line come first.
        advised: whether it has the right advice, or rightly none.
        wrong: whether its advice is that of something else.
        text: its finding.
    """

    case: corpus.Case
    named: bool
    advised: bool
    wrong: bool
    text: str


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        results = _serve(Path(folder), QUICK_ROUNDS if quick else ROUNDS)
    named, wrong = sum(r.named for r in results), sum(r.wrong for r in results)
    advised = sum(r.advised for r in results)
    outcome.judge("known_causes.named", f"{len(results)} endpoints, cause and line named first",
                  "≥ 90 %", f"{named} of {len(results)}", named >= MIN_NAMED * len(results))  # fmt: skip
    outcome.judge("known_causes.wrong", "endpoints with the advice of another cause", "none",
                  str(wrong), not wrong)  # fmt: skip
    outcome.judge("known_causes.advised", "endpoints with the right advice, or rightly none",
                  "≥ 90 %", f"{advised} of {len(results)}",
                  advised >= MIN_NAMED * len(results))  # fmt: skip
    lines = [
        (r.case.name, ", ".join(r.case.callees) or "(none)", "yes" if r.named else "NO",
         "wrong" if r.wrong else "yes" if r.advised else "NO")
        for r in results
    ]  # fmt: skip
    heads = ("endpoint", "its cause", "named first", "advised")
    outcome.grids.append(Grid("By endpoint", heads, tuple(lines)))
    outcome.notes += [
        f"{r.case.name} ({r.case.where}): {r.text}" for r in results if not (r.named and r.advised)
    ]
    return outcome


def _serve(folder: Path, rounds: int) -> list[Result]:
    """Serve every endpoint, and compare the report with the key."""
    cases = corpus.cases()
    app = Flask("known_causes")
    app.config.update(KNITPERF_STATE_DIR=str(folder / "state"), KNITPERF_SAMPLER=True,
                      KNITPERF_MODERATE_MS=20, KNITPERF_SLOW_MS=40)  # fmt: skip
    for case in cases:
        app.add_url_rule(f"/{case.name}", case.name, case.view)
    perf = KnitPerf(app)
    gets = [Get(app, f"/{case.name}") for case in cases]
    for _ in range(rounds):
        for get in gets:
            get()
    time.sleep(1.2)  # until the samples are published
    with app.app_context():
        document = perf.report("run")
    app.extensions["knitperf"].close()
    return [_compare(case, document) for case in cases]


def _compare(case: corpus.Case, document: Mapping[str, Any]) -> Result:
    """Compare the first finding of an endpoint on its time with the key."""
    finding = next(
        (row for row in document["bottlenecks"]
         if row["endpoint"] == case.name and row["type"] in _OF_TIME), None,
    )  # fmt: skip
    if finding is None:
        return Result(case, False, False, False, "no finding")
    top, advice = (finding["why"] or [None])[0], finding["recommendation"]
    named = top is not None and (top["cause"], top["where"]) == (case.cause, case.where)
    right = {callee.advice for callee in CALLEES if callee.name in case.callees} or {""}
    others = {callee.advice for callee in CALLEES} - right
    return Result(case, named, advice in right, advice in others, finding["text"])
