"""Under load every request is counted, once, and every worker tells the same.

A client keeps its own books of 20,000 requests over endpoints, methods and statuses against real
gunicorn workers. Once idle, reports are asked for on new connections until every worker has answered;
each answer must agree with the books to the last request.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

from ..harness.client import Answer, Books, Load, counts, every_worker, impossible
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
                began = time.monotonic()
                books = Load(server.port, total=total).start().wait()
                took = time.monotonic() - began
                time.sleep(0.5)
                answers = every_worker(server.port, workers)
                errors = server.errors()
        lines.append(_judge(outcome, name, books, answers, took, errors))
    outcome.grids.append(Grid(
        "Books against reports", ("server", "requests", "a second", "workers asked", "reports",
                                  "wrong reports", "slowest report ms"), tuple(lines),
    ))  # fmt: skip
    outcome.notes.append(
        "gthread: 2 workers of 4 threads; small logs: LOG_BYTES 65,536 and a fold each 0.2 s"
    )
    return outcome


def _judge(
    outcome: Outcome, name: str, books: Books, answers: list[Answer], took: float,
    errors: list[str],
) -> tuple[str, ...]:  # fmt: skip
    expected = Counter(books.committed)
    expected["<unmatched>", "GET", "4xx"] += 1  # the request that waited for the server to start
    wrong = [answer for answer in answers if counts(answer.document) != expected]
    odd = [said for answer in answers for said in impossible(answer.document)]
    workers = len({answer.worker for answer in answers})
    trouble = [*errors, *books.unexpected, *odd]
    lost = sum(books.uncertain.values())
    fine = not wrong and not trouble and not lost
    measured = (
        f"exact in {len(answers) - len(wrong)} of {len(answers)} reports of {workers} workers"
    )
    outcome.judge(f"exact.{name.replace(' ', '_')}",
                  f"{books.asked:,} requests, any worker's report, {name}", "exact",
                  measured, fine)  # fmt: skip
    for answer in wrong[:3]:
        found = counts(answer.document)
        differ = {str(key): (expected[key], found[key])
                  for key in {*expected, *found} if expected[key] != found[key]}  # fmt: skip
        outcome.notes.append(f"{name}: worker {answer.worker} expected, found: {differ}")
    outcome.notes += [f"{name}: {said}" for said in dict.fromkeys(trouble[:5])]
    if lost:
        outcome.notes.append(f"{name}: {lost} requests broke: {dict(books.uncertain)}")
    slowest = max(answer.seconds for answer in answers) * 1000
    outcome.details[name] = {
        "asked": books.asked, "per_second": round(books.asked / took),
        "reports": len(answers), "wrong": len(wrong),
        "expected": {" ".join(key): count for key, count in sorted(expected.items())},
    }  # fmt: skip
    return (name, f"{books.asked:,}", f"{books.asked / took:.0f}", str(workers),
            str(len(answers)), str(len(wrong)), f"{slowest:.0f}")  # fmt: skip
