"""A deploy under load: two releases, two runs, each of them exact.

gunicorn receives HUP while the load goes on; the workers that start then read another release from their
configuration. Every response names its release, so the client counts both. Then any worker's report must
agree with the counts of the second release, and its ``window=previous`` with those of the first.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from ..harness import machine
from ..harness.client import (
    START_REQUEST,
    Answer,
    Key,
    Ledger,
    Load,
    counts,
    every_worker,
    report_within_limits,
)
from ..harness.outcome import Grid, Outcome
from ..harness.servers import Gunicorn

_OLD, _NEW = "2026.1", "2026.2"


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        config = {"KNITPERF_RELEASE": _OLD}
        with Gunicorn(Path(folder), "--workers=4", config=config) as server:
            ledger = _load(server, 1_600 if quick else 20_000)
            time.sleep(1.5)
            current = every_worker(server.port, 4)
            previous = [report_within_limits(server.port, "window=previous") for _ in range(8)]
            failure = _compare(server.state)
            errors = server.errors()
    old, new = ledger.releases[_OLD], ledger.releases[_NEW]
    old[START_REQUEST] += 1
    lines = []
    for name, release, expected, answers in (
        ("first", _OLD, old, previous),
        ("second", _NEW, new, current),
    ):
        exact = [a for a in answers if a.status == 200 and _is_exact(a, release, expected)]
        ok = len(exact) == len(answers) and sum(expected.values()) > 1
        outcome.judge(f"deploy.{name}", f"the {name} run, {sum(expected.values()):,} requests",
                      "exact", f"{len(exact)} of {len(answers)} reports exact", ok)  # fmt: skip
        lines.append((release, f"{sum(expected.values()):,}", str(len(answers)), str(len(exact))))
        for answer in [a for a in answers if a not in exact][:2]:
            outcome.notes.append(f"{name}: {answer.status} {_difference(answer, expected)}")
    broken = sum(ledger.uncertain.values())
    outcome.judge("deploy.compare", "`report --against previous` in a terminal", "compares them",
                  failure or "compared", not failure)  # fmt: skip
    outcome.judge("deploy.served", "requests that the deploy broke", "0", str(broken),
                  not broken and not ledger.unexpected)  # fmt: skip
    outcome.grids.append(Grid("Runs", ("release", "requests", "reports", "exact"), tuple(lines)))
    outcome.notes += list(dict.fromkeys(errors[:3]))
    return outcome


def _load(server: Gunicorn, total: int) -> Ledger:
    """Send the load; deploy after a third of it."""
    load = Load(server.port, total=total).start()
    while load.ledger.sent < total // 3:
        time.sleep(0.02)
    server.configure(KNITPERF_RELEASE=_NEW)
    server.signal(signal.SIGHUP)
    return load.wait()


def _is_exact(answer: Answer, release: str, expected: Counter[Key]) -> bool:
    document = answer.document
    return bool(document["window"]["release"] == release and counts(document) == expected)


def _difference(answer: Answer, expected: Counter[Key]) -> str:
    if answer.status != 200:
        return str(answer.document)[:200]
    counted = counts(answer.document)
    wrong = {key: (expected[key], counted[key])
             for key in {*expected, *counted} if expected[key] != counted[key]}  # fmt: skip
    return f"release {answer.document['window']['release']}; expected, counted: {wrong}"


def _compare(state: Path) -> str:
    """Compare both runs from the terminal; return the failure, empty without one."""
    process = subprocess.run(
        [sys.executable, "-m", "flask_knitperf", "report", "--state", str(state), "--against",
         "previous"],
        cwd=machine.ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if process.returncode not in (0, 1):
        return f"exit code {process.returncode}: {process.stderr.strip()[-150:]}"
    return "" if "item" in process.stdout else "it names no endpoint"
