"""Every request is counted exactly once under load, and all workers report the same.

A client counts its 20,000 requests over endpoints, methods and statuses against real gunicorn workers.
Once they are idle, reports are requested on new connections until every worker has answered; each report
must agree with the client's ledger to the last request.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from ..harness.client import Answer, Ledger, Load, counts, every_worker, expected_counts, impossible
from ..harness.outcome import Grid, Outcome
from ..harness.servers import Gunicorn

SERVERS = (
    ("sync", 4, ("--workers=4",)),
    ("gthread", 2, ("--workers=2", "--worker-class=gthread", "--threads=4")),
    ("preload", 4, ("--workers=4", "--preload")),
    ("small logs", 4, ("--workers=4",)),
)
_SMALL = {"KNITPERF_LOG_BYTES": 65536, "KNITPERF_FOLD_INTERVAL_S": 0.2}


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    total = 800 if quick else 20_000
    lines = []
    for name, workers, options in SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            config = _SMALL if name == "small logs" else {}
            with Gunicorn(Path(folder), *options, config=config) as server:
                start = time.monotonic()
                ledger = Load(server.port, total=total).start().wait()
                seconds = time.monotonic() - start
                time.sleep(0.5)
                answers = every_worker(server.port, workers)
                errors = server.errors()
        lines.append(_judge(outcome, name, ledger, answers, seconds, errors))
    outcome.grids.append(Grid(
        "Ledger against reports", ("server", "requests", "requests a second", "workers", "reports",
                                   "wrong reports", "slowest report ms"), tuple(lines),
    ))  # fmt: skip
    outcome.notes.append(
        "gthread: 2 workers of 4 threads; small logs: LOG_BYTES 65,536 and a fold each 0.2 s"
    )
    return outcome


def _judge(
    outcome: Outcome, name: str, ledger: Ledger, answers: list[Answer], seconds: float,
    errors: list[str],
) -> tuple[str, ...]:  # fmt: skip
    expected = expected_counts(ledger)
    wrong = [answer for answer in answers if counts(answer.document) != expected]
    values = [sentence for answer in answers for sentence in impossible(answer.document)]
    workers = len({answer.worker for answer in answers})
    problems = [*errors, *ledger.unexpected, *values]
    lost = sum(ledger.uncertain.values())
    exact = not wrong and not problems and not lost
    measured = (
        f"exact in {len(answers) - len(wrong)} of {len(answers)} reports of {workers} workers"
    )
    outcome.judge(f"exact.{name.replace(' ', '_')}",
                  f"{ledger.sent:,} requests, any worker's report, {name}", "exact",
                  measured, exact)  # fmt: skip
    for answer in wrong[:3]:
        counted = counts(answer.document)
        differences = {str(key): (expected[key], counted[key])
                       for key in {*expected, *counted} if expected[key] != counted[key]}  # fmt: skip
        outcome.notes.append(f"{name}: worker {answer.worker} expected, counted: {differences}")
    outcome.notes += [f"{name}: {problem}" for problem in dict.fromkeys(problems[:5])]
    if lost:
        outcome.notes.append(f"{name}: {lost} requests broke: {dict(ledger.uncertain)}")
    slowest = max(answer.seconds for answer in answers) * 1000
    return (name, f"{ledger.sent:,}", f"{ledger.sent / seconds:.0f}", str(workers),
            str(len(answers)), str(len(wrong)), f"{slowest:.0f}")  # fmt: skip
