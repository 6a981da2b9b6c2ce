"""Workers are recycled, one is killed every second, and no committed request is lost or doubled.

The load and the ledger of ``exact``, while gunicorn recycles its workers and a killer sends SIGKILL to
one of them each second. A concurrent reader polls the run: no total may ever shrink and no read may
fail. At the end all processes are killed at once, and the files on disk are read again.

Tolerated differences: a request whose connection broke is uncertain, and a killed thread may miss one
request that its client already has (a stream's last byte leaves before its end is recorded).
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import REQUEST
from flask_knitperf.storage import runs, state_dir

from ..harness.client import (
    Key,
    Ledger,
    Load,
    counts,
    every_worker,
    expected_counts,
    impossible,
)
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
_CLIENTS = 8


@dataclass
class Observations:
    """Observations of the killer and the reader.

    Attributes:
        killed: number of killed workers.
        reads: number of reads of the run.
        failed: reads that raised, as text.
        shrunk: totals that were smaller than before, as text.
        degraded: degradations that reads reported, as sentences.
        over: set when both have to end.
    """

    killed: int = 0
    reads: int = 0
    failed: list[str] = field(default_factory=list)
    shrunk: list[str] = field(default_factory=list)
    degraded: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)


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
    seen = Observations()
    with server:
        run_ = _run_of(server)
        ledger = _attack(server, run_, seen, *((1500, 2.0) if quick else (20_000, 20.0)))
        time.sleep(1.5)
        answers = every_worker(server.port, workers)
        reported = [counts(answer.document) for answer in answers]
        values = [sentence for answer in answers for sentence in impossible(answer.document)]
        errors = server.errors()
        _kill_all(server)
        on_disk = _counts_on_disk(run_)
    missing, doubled = _compare(ledger, reported[-1])
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


def _attack(server: Gunicorn, run_: Path, seen: Observations, total: int, seconds: float) -> Ledger:
    """Send the load while one thread kills and another reads; return the ledger."""
    threads = [
        threading.Thread(target=_kill, args=(server, seen)),
        threading.Thread(target=_read, args=(run_, seen)),
    ]
    ledger, start = Ledger(), time.monotonic()
    for thread in threads:
        thread.start()
    while ledger.sent < total or time.monotonic() - start < seconds:
        load = Load(server.port, threads=_CLIENTS, total=total // 10, seed=ledger.sent)
        _add(ledger, load.start().wait())
    seen.over.set()
    for thread in threads:
        thread.join()
    return ledger


def _add(ledger: Ledger, more: Ledger) -> None:
    ledger.committed += more.committed
    ledger.uncertain += more.uncertain
    ledger.unexpected += more.unexpected
    ledger.sent += more.sent


def _compare(ledger: Ledger, reported: Counter[Key]) -> tuple[int, int]:
    """Return the number of committed requests that are missing, and of those counted too often."""
    expected = expected_counts(ledger)
    keys = {*expected, *reported}
    missing = sum(max(0, expected[key] - reported[key]) for key in keys)
    doubled = sum(max(0, reported[key] - expected[key] - ledger.uncertain[key]) for key in keys)
    return missing, doubled


def _kill(server: Gunicorn, seen: Observations) -> None:
    rng = random.Random(7)
    while not seen.over.wait(1.0):
        workers = server.workers()
        if workers:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                seen.killed += 1


def _read(run_: Path, seen: Observations) -> None:
    """Read the run repeatedly; record failures, and totals that shrink."""
    before: Counter[str] = Counter()
    while not seen.over.is_set():
        try:
            snapshot = state_dir.read(run_)
        except Exception as error:
            seen.failed.append(f"{type(error).__name__}: {error}")
            continue
        seen.reads += 1
        seen.degraded |= set(snapshot.degraded)
        now = Counter({
            f"{' '.join((key.meter, *key.labels))} {what}": value
            for key, series in columns.series(snapshot.columns).items()
            for what, value in (("count", series.data.count), ("sum", series.data.total))
        })  # fmt: skip
        seen.shrunk += [f"{key}: {count} → {now[key]}" for key, count in before.items()
                        if now[key] < count]  # fmt: skip
        before = now


def _counts_on_disk(run_: Path) -> Counter[Key]:
    """Return the counts in the files of a run, in the form of :func:`.client.counts`."""
    counter: Counter[Key] = Counter()
    for key, series in columns.series(state_dir.read(run_).columns).items():
        if key.meter == REQUEST.name and series.data.count:
            endpoint, method, status, _ = key.labels
            counter[endpoint, method, status] += series.data.count
    return counter


def _run_of(server: Gunicorn) -> Path:
    """Return the directory of the only run."""
    deadline = time.monotonic() + 10
    while not runs.runs(server.state):
        if time.monotonic() > deadline:
            raise TimeoutError("no run started")
        time.sleep(0.05)
    return runs.runs(server.state)[0]


def _kill_all(server: Gunicorn) -> None:
    """Kill the master and every worker at once."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
