"""Planted leaks, hunted through the command line: the right line, the right kind, no false alarm.

Two corpora, committed before the detector ran on them: ``corpus/leaks.py`` holds all cases of the issue,
``corpus/leaks_unseen.py`` is by an author who had not seen the detector. Each case is hunted as a user
would, by ``flask knitperf leakhunt`` in a separate process. The line named first has to be one of those
that allocate or store the retained memory; a look-alike must not be reported as a leak.

The detector's author saw the names and mechanisms of six of the twelve unseen cases before writing it,
by a search that printed too much, and none of their code. The first run named all eight lines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import ModuleType
from typing import Any

from ..corpus import leaks, leaks_unseen
from ..harness import machine
from ..harness.outcome import Grid, Outcome

CORPORA = {"listed": leaks, "unseen": leaks_unseen}
MIN_NAMED = 0.9
"""Share of the leaks whose line has to be named first."""
_QUICK = 3


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    cases = [_try(name, module, case) for name, module in CORPORA.items()
             for case in (module.CASES[::_QUICK * 4] if quick else module.CASES)]  # fmt: skip
    _judge(outcome, "", cases, "planted leaks")
    _judge(outcome, ".unseen", [row for row in cases if row["corpus"] == "unseen"],
           "unseen leaks")  # fmt: skip
    right = sum(row["verdict"] in row["expected"] for row in cases)
    outcome.judge("leakhunt.kind", "right kind: leak, native leak, cycles, none", "≥ 90 %",
                  f"{right} of {len(cases)}", right >= MIN_NAMED * len(cases))  # fmt: skip
    heads = ("case", "verdict", "line named first", "right", "bytes", "s")
    lines = tuple(
        (row["name"], row["verdict"], row["first"] or "–", "yes" if row["right"] else "NO",
         f"{row['bytes']:,.0f}", f"{row['seconds']:.0f}") for row in cases
    )  # fmt: skip
    outcome.grids.append(Grid("Cases", heads, lines))
    outcome.notes += [f"{row['name']}: {row['mechanism']}; {row['text']}" for row in cases
                      if not row["right"]]  # fmt: skip
    return outcome


def _judge(outcome: Outcome, name: str, cases: list[dict[str, Any]], what: str) -> None:
    planted = [row for row in cases if row["leaks"]]
    named = sum(row["right"] for row in planted)
    lookalikes = [row for row in cases if not row["leaks"]]
    false = sum(not row["right"] for row in lookalikes)
    outcome.judge(f"leakhunt.line{name}", f"{what}: the right line named first", "≥ 90 %",
                  f"{named} of {len(planted)}", named >= MIN_NAMED * len(planted))  # fmt: skip
    outcome.judge(f"leakhunt.false{name}", f"look-alikes of {what} that are reported as leaks", "0",
                  f"{false} of {len(lookalikes)}", false == 0)  # fmt: skip


def _try(corpus: str, module: ModuleType, case: Any) -> dict[str, Any]:
    """Hunt one case; return the verdict and the expected one."""
    start = time.monotonic()
    words = [
        "-m",
        "flask",
        "--app",
        f"{module.__name__}:create_app",
        "knitperf",
        "leakhunt",
        case.path,
    ]
    process = subprocess.run(
        [sys.executable, *words, "--json"], cwd=machine.ROOT, capture_output=True, text=True,
        check=False, timeout=900, env={**os.environ, "PYTHONPATH": str(machine.ROOT)},
    )  # fmt: skip
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{case.name}: {process.stderr}")
    document = json.loads(process.stdout)
    first = document["lines"][0] if document["lines"] else {"file": "", "line": 0}
    kinds = {"leak", "native leak"} if case.leaks else {"none", "cycles", "fragmentation"}
    lines = module.lines_of(case.mark) if case.leaks else ()
    named = first["line"] in lines and first["file"] == module.__file__
    return {
        "corpus": corpus, "name": case.name, "leaks": case.leaks, "mechanism": case.mechanism,
        "verdict": document["verdict"], "first": f"{first['line']}" if first["line"] else "",
        "expected": {case.kind} if hasattr(case, "kind") else kinds,
        "right": named and process.returncode == 1 if case.leaks else process.returncode == 0,
        "bytes": document["bytes_per_request"], "text": document["text"],
        "seconds": time.monotonic() - start,
    }  # fmt: skip
