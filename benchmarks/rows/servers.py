"""Every server that runs a Flask application counts each request once, in one run per start.

The load and the ledger of ``exact``, on two processes where a server has several, each request on a
separate connection. Half-way through one process is killed, where its server replaces it; connections
that break with it may count or not. Then every report of every worker must agree with the client's
ledger, and the state directory must hold one run.

Two cases follow: gunicorn replaces itself (``USR2``), which starts a second run unless there is a
release; and mod_wsgi with two applications in one process, in the main interpreter and in Apache's
default, where NumPy refuses the second one. A server that this machine lacks is named in its row.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from flask_knitperf.storage import runs

from ..harness.client import (
    Answer,
    Key,
    Ledger,
    Load,
    counts,
    every_worker,
    expected_counts,
    impossible,
)
from ..harness.fire import compare
from ..harness.outcome import Grid, Outcome
from ..harness.recipes import RECIPES, Recipe
from ..harness.servers import Server, ServerError
from . import servers_cases

TARGET = "exact, one run"
_WORKER = re.compile(r"^w-\S+: ")  # the name before a sentence of one worker
_NUMPY = "NumPy was imported from a Python sub-interpreter"  # the warning in Apache's log


@dataclass
class Findings:
    """Everything that one server's row is judged by.

    Attributes:
        ledger: of the clients.
        answers: reports of all workers.
        runs: number of runs in the state directory.
        killed: number of killed workers.
        errors: lines of the server's log that mention the extension.
    """

    ledger: Ledger = field(default_factory=Ledger)
    answers: list[Answer] = field(default_factory=list)
    runs: int = 0
    killed: int = 0
    errors: list[str] = field(default_factory=list)


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    lines = []
    for recipe in RECIPES:
        missing = recipe.missing()
        if missing:
            outcome.judge(_row(recipe), f"requests under {recipe.name}", TARGET, missing, None)
            lines.append((recipe.name, "–", missing, *["–"] * 7))
            continue
        try:
            findings = _measure(recipe, 400 if quick else 4_000)
        except (ServerError, OSError) as error:
            outcome.judge(
                _row(recipe),
                f"requests under {recipe.name}",
                TARGET,
                f"{type(error).__name__}: {error}",
                False,
            )
            continue
        lines.append(_judge(outcome, recipe, findings))
    heads = ("server", "version", "processes", "requests", "killed", "broken", "reports", "wrong",
             "runs", "limits stated")  # fmt: skip
    servers_cases.run(outcome, 400 if quick else 4_000)
    outcome.figures["servers"] = [dict(zip(heads, line, strict=True)) for line in lines]
    outcome.grids.append(Grid("Ledger against reports", heads, tuple(lines)))
    return outcome


def _row(recipe: Recipe) -> str:
    return "servers." + re.sub(r"[^\w-]+", "_", recipe.name)


def _measure(recipe: Recipe, total: int) -> Findings:
    """Send the load to one server; kill a worker half-way through."""
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder:
        with Server(Path(folder), recipe.command) as server:
            for half in (1, 2):
                load = Load(server.port, total=total // 2, seed=half, mix=recipe.mix,
                            keep_alive=False)  # fmt: skip
                findings.ledger.add(load.start().wait())
                time.sleep(0.5)
                if half == 1 and recipe.workers > 1 and recipe.respawns:
                    os.kill(int(every_worker(server.port, 1, 1)[0].worker), signal.SIGKILL)
                    findings.killed += 1
            findings.answers = every_worker(server.port, recipe.workers)
            findings.errors = [line for line in server.errors() if _NUMPY not in line]
        findings.runs = len(runs.runs(server.state))
    return findings


def _judge(outcome: Outcome, recipe: Recipe, findings: Findings) -> tuple[str, ...]:
    ledger, answers = findings.ledger, findings.answers
    expected = expected_counts(ledger)
    wrong = [a for a in answers if compare(ledger, counts(a.document)) != (0, 0)]
    values = [sentence for answer in answers for sentence in impossible(answer.document)]
    problems = [*findings.errors, *ledger.unexpected, *values]
    lost = sum(ledger.uncertain.values())
    workers = len({answer.worker for answer in answers})
    degraded = {
        _WORKER.sub("", sentence)
        for answer in answers for sentence in answer.document["self"]["degraded"]
    }  # fmt: skip
    outcome.judge(
        _row(recipe), f"{ledger.sent:,} requests, any worker's report, {recipe.name}", TARGET,
        f"exact in {len(answers) - len(wrong)} of {len(answers)} reports of {workers} workers, "
        f"{findings.runs} run{'s' * (findings.runs != 1)}",
        not (wrong or problems or (lost and not findings.killed)) and findings.runs == 1,
    )  # fmt: skip
    for answer in wrong[:2]:
        outcome.notes.append(f"{recipe.name}: {_differences(expected, answer)}")
    outcome.notes += [f"{recipe.name}: {problem}" for problem in dict.fromkeys(problems[:5])]
    outcome.notes += [f"{recipe.name} states: {sentence}" for sentence in sorted(degraded)]
    return (recipe.name, recipe.version(), str(recipe.workers), f"{ledger.sent:,}",
            str(findings.killed), str(lost), str(len(answers)), str(len(wrong)), str(findings.runs),
            str(len(degraded)))  # fmt: skip


def _differences(expected: Counter[Key], answer: Answer) -> str:
    counted = counts(answer.document)
    pairs = {str(key): (expected[key], counted[key])
             for key in {*expected, *counted} if expected[key] != counted[key]}  # fmt: skip
    return f"worker {answer.worker} expected, counted: {pairs}"
