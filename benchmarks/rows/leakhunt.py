"""Planted leaks, hunted through the command line: the right line, the right kind, no false alarm.

Two corpora, committed before the detector ran on them: ``corpus/leaks.py`` holds all that the issue
lists, ``corpus/leaks_unseen.py`` is by somebody who had not seen the detector. Each case is hunted as a
person would, by ``flask knitperf leakhunt`` in a process of its own. Right is the line that is named
first, out of those that allocate or store what stays; and a look-alike is right when no leak is found.

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
NAMED = 0.9
_QUICK = 3


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    tried = [_try(name, module, case) for name, module in CORPORA.items()
             for case in (module.CASES[::_QUICK * 4] if quick else module.CASES)]  # fmt: skip
    _judge(outcome, "", tried, "planted leaks")
    _judge(outcome, ".unseen", [row for row in tried if row["corpus"] == "unseen"],
           "those by somebody unseeing")  # fmt: skip
    wrong = [row for row in tried if row["verdict"] not in row["wanted_verdicts"]]
    kinds = len(tried) - len(wrong)
    outcome.judge("leakhunt.kind", "kinds told right: leak, native leak, cycles, none", "≥ 90 %",
                  f"{kinds} of {len(tried)}", kinds >= NAMED * len(tried))  # fmt: skip
    heads = ("case", "verdict", "line named first", "right", "bytes", "s")
    lines = tuple(
        (row["name"], row["verdict"], row["first"] or "–", "yes" if row["right"] else "NO",
         f"{row['bytes']:,.0f}", f"{row['seconds']:.0f}") for row in tried
    )  # fmt: skip
    outcome.grids.append(Grid("Cases", heads, lines))
    outcome.notes += [f"{row['name']}: {row['mechanism']}; {row['said']}" for row in tried
                      if not row["right"]]  # fmt: skip
    outcome.details = {"cases": tried}
    return outcome


def _judge(outcome: Outcome, name: str, tried: list[dict[str, Any]], what: str) -> None:
    planted = [row for row in tried if row["leaks"]]
    named = sum(row["right"] for row in planted)
    alike = [row for row in tried if not row["leaks"]]
    false = sum(not row["right"] for row in alike)
    outcome.judge(f"leakhunt.line{name}", f"{what}: the right line named first", "≥ 90 %",
                  f"{named} of {len(planted)}", named >= NAMED * len(planted))  # fmt: skip
    outcome.judge(f"leakhunt.false{name}", f"look-alikes beside {what} that are called a leak", "0",
                  f"{false} of {len(alike)}", false == 0)  # fmt: skip


def _try(corpus: str, module: ModuleType, case: Any) -> dict[str, Any]:
    """Hunt one case; return what was said and what should have been."""
    began = time.monotonic()
    words = [
        "-m",
        "flask",
        "--app",
        f"{module.__name__}:create_app",
        "knitperf",
        "leakhunt",
        case.path,
    ]
    done = subprocess.run(
        [sys.executable, *words, "--json"], cwd=machine.ROOT, capture_output=True, text=True,
        check=False, timeout=900, env={**os.environ, "PYTHONPATH": str(machine.ROOT)},
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{case.name}: {done.stderr}")
    found = json.loads(done.stdout)
    first = found["lines"][0] if found["lines"] else {"file": "", "line": 0}
    kinds = {"leak", "native leak"} if case.leaks else {"none", "cycles", "fragmentation"}
    wanted = module.lines_of(case.mark) if case.leaks else ()
    named = first["line"] in wanted and first["file"] == module.__file__
    return {
        "corpus": corpus, "name": case.name, "leaks": case.leaks, "mechanism": case.mechanism,
        "verdict": found["verdict"], "first": f"{first['line']}" if first["line"] else "",
        "wanted": list(wanted),
        "wanted_verdicts": sorted({case.kind} if hasattr(case, "kind") else kinds),
        "right": named and done.returncode == 1 if case.leaks else done.returncode == 0,
        "bytes": found["bytes_per_request"], "kept": case.kept_bytes, "said": found["text"],
        "holders": [each["path"] for each in found["holders"]],
        "seconds": time.monotonic() - began,
    }  # fmt: skip
