"""Workers are recycled, one is killed every second, and no committed request is lost or doubled.

The load and the ledger of ``exact``, while gunicorn recycles its workers and a killer sends SIGKILL to
one of them each second. A concurrent reader polls the run: no total may ever shrink and no read may
fail. At the end all processes are killed at once, and the files on disk are read again.

Tolerated differences: a request whose connection broke is uncertain, and a killed thread may miss one
request that its client already has (a stream's last byte leaves before its end is recorded).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from ..harness import fire
from ..harness.client import counts, every_worker, impossible
from ..harness.outcome import Grid, Outcome
from ..harness.servers import Gunicorn
from . import kill_steps

_SMALL = {"KNITPERF_LOG_BYTES": 65536, "KNITPERF_FOLD_INTERVAL_S": 0.2}
_RECYCLE = ("--max-requests=400", "--max-requests-jitter=200")
SERVERS: tuple[tuple[str, int, int, tuple[str, ...], dict[str, Any]], ...] = (
    ("sync", 4, 1, ("--workers=4", *_RECYCLE), {}),
    ("gthread", 4, 4, ("--workers=4", "--worker-class=gthread", "--threads=4", *_RECYCLE), {}),
    ("small logs", 4, 1, ("--workers=4", *_RECYCLE), _SMALL),
)  # fmt: skip
"""Name, workers, threads of a worker, gunicorn's options, configuration."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    lines = []
    for name, workers, threads, options, config in SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            server = Gunicorn(Path(folder), *options, config=dict(config))
            lines.append(_under_fire(outcome, name, server, workers, threads, quick))
    heads = ("server", "requests", "killed", "uncertain", "missing", "doubled", "reads", "failed",
             "shrunk")  # fmt: skip
    outcome.grids.append(Grid("Under fire", heads, tuple(lines)))
    kill_steps.run(outcome, quick)
    return outcome


def _under_fire(
    outcome: Outcome, name: str, server: Gunicorn, workers: int, threads: int, quick: bool
) -> tuple[str, ...]:
    """Send the load to a server whose workers are killed; judge, and return a line of the table."""
    with server:
        run_ = fire.run_of(server)
        ledger, seen = fire.attack(server, fire.Pace(*((1500, 2.0) if quick else (20_000, 20.0))))
        time.sleep(1.5)
        answers = every_worker(server.port, workers)
        reported = [counts(answer.document) for answer in answers]
        values = [sentence for answer in answers for sentence in impossible(answer.document)]
        errors = server.errors()
        fire.kill_all(server)
        on_disk = fire.counts_on_disk(run_)
    missing, doubled = fire.compare(ledger, reported[-1])
    allowed = seen.killed * threads
    agree = all(counter == on_disk for counter in reported)
    exact = missing <= allowed and not doubled and agree and not values and not ledger.unexpected
    outcome.judge(
        f"kill.{name.replace(' ', '_')}", f"{ledger.sent:,} requests, {seen.killed} workers "
        f"killed, others recycled: {name}", f"missing ≤ {allowed}, none doubled",
        f"{missing} missing, {doubled} doubled", exact and seen.killed > 0,
    )  # fmt: skip
    clean = not (seen.failed or seen.shrunk or seen.degraded)
    outcome.judge(f"kill.{name.replace(' ', '_')}.reads", "reads meanwhile; totals never shrink",
                  "no failed read", f"{seen.reads:,} reads, {len(seen.failed)} failed, "
                  f"{len(seen.shrunk)} shrunk", clean)  # fmt: skip
    notes = [*seen.failed[:3], *seen.shrunk[:3], *sorted(seen.degraded)[:3], *values[:3],
             *dict.fromkeys(errors[:3]), *ledger.unexpected]  # fmt: skip
    if not agree:
        notes.append("workers, or the files after the last kill, disagreed")
    outcome.notes += [f"{name}: {note}" for note in notes]
    return (name, f"{ledger.sent:,}", str(seen.killed), str(sum(ledger.uncertain.values())),
            str(missing), str(doubled), f"{seen.reads:,}", str(len(seen.failed)),
            str(len(seen.shrunk)))  # fmt: skip
