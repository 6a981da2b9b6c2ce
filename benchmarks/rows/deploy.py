"""A deploy under load: two releases, two runs, and each exact.

gunicorn gets HUP while the load goes on; the workers that start then read another release from their
configuration. Every response names the release that gave it, so the client keeps books on both. Then
any worker's report must agree with the second book, and its ``window=previous`` with the first.
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
from ..harness.client import Answer, Books, Load, counts, every_worker, report
from ..harness.outcome import Grid, Outcome
from ..harness.servers import Gunicorn

_OLD, _NEW = "2026.1", "2026.2"


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        config = {"KNITPERF_RELEASE": _OLD}
        with Gunicorn(Path(folder), "--workers=4", config=config) as server:
            books = _load(server, 1_600 if quick else 20_000)
            time.sleep(1.5)
            now = every_worker(server.port, 4)
            before = [_patient(server.port, "window=previous") for _ in range(8)]
            compared = _against(server.state)
            errors = server.errors()
    old, new = books.releases[_OLD], books.releases[_NEW]
    old["<unmatched>", "GET", "4xx"] += 1  # the request that waited for the server to start
    lines = []
    for name, release, expected, answers in (
        ("first", _OLD, old, before),
        ("second", _NEW, new, now),
    ):
        right = [a for a in answers if a.status == 200 and _says(a, release, expected)]
        fine = len(right) == len(answers) and sum(expected.values()) > 1
        outcome.judge(f"deploy.{name}", f"the {name} run, {sum(expected.values()):,} requests",
                      "exact", f"{len(right)} of {len(answers)} reports exact", fine)  # fmt: skip
        lines.append((release, f"{sum(expected.values()):,}", str(len(answers)), str(len(right))))
        for answer in [a for a in answers if a not in right][:2]:
            outcome.notes.append(f"{name}: {answer.status} {_differ(answer, expected)}")
    broke = sum(books.uncertain.values())
    outcome.judge("deploy.compare", "`report --against previous` in a terminal", "compares them",
                  compared or "compared", not compared)  # fmt: skip
    outcome.judge("deploy.served", "requests that the deploy broke", "0", str(broke),
                  not broke and not books.unexpected)  # fmt: skip
    outcome.grids.append(Grid("Runs", ("release", "requests", "reports", "exact"), tuple(lines)))
    outcome.notes += list(dict.fromkeys(errors[:3]))
    return outcome


def _load(server: Gunicorn, total: int) -> Books:
    """Send the load; deploy when a third of it is done."""
    load = Load(server.port, total=total).start()
    while load.books.asked < total // 3:
        time.sleep(0.02)
    server.configure(KNITPERF_RELEASE=_NEW)
    server.signal(signal.SIGHUP)
    return load.wait()


def _says(answer: Answer, release: str, expected: Counter[tuple[str, str, str]]) -> bool:
    document = answer.document
    return bool(document["window"]["release"] == release and counts(document) == expected)


def _differ(answer: Answer, expected: Counter[tuple[str, str, str]]) -> str:
    if answer.status != 200:
        return str(answer.document)[:200]
    found = counts(answer.document)
    wrong = {key: (expected[key], found[key])
             for key in {*expected, *found} if expected[key] != found[key]}  # fmt: skip
    return f"release {answer.document['window']['release']}; expected, found: {wrong}"


def _patient(port: int, query: str) -> Answer:
    """Ask for a report, again where the guard says "too fast"."""
    for _ in range(10):
        answer = report(port, query)
        if answer.status != 429:
            break
        time.sleep(1)
    return answer


def _against(state: Path) -> str:
    """Compare both runs from the terminal; return what went wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "flask_knitperf", "report", "--state", str(state), "--against",
         "previous"],
        cwd=machine.ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        return f"exit code {done.returncode}: {done.stderr.strip()[-150:]}"
    return "" if "item" in done.stdout else "it names no endpoint"
