"""Workers come and go, one is killed every second, and no committed request is lost or doubled.

The load and the books of ``exact``, while gunicorn recycles its workers and a killer sends SIGKILL to
one of them each second. Beside it a reader polls the run all the time: no total may ever shrink and
no read may fail. At the end everything is killed at once and read again from what lies on disk.

What may differ: a request whose connection broke is uncertain, and a killed thread may leave one
request out that its client already had (a stream's last byte leaves before its end is noted).
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
from flask_knitperf.storage import runs, state_dir

from ..harness.client import Books, Key, Load, counts, every_worker, impossible
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
_THREADS = 8


@dataclass
class Watched:
    """What the killer and the reader saw.

    Attributes:
        killed: how many workers were killed.
        reads: how many times the run was read.
        failed: reads that raised, as text.
        shrunk: totals that were smaller than before, as text.
        degraded: sentences that reads gave.
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
    """Send the load at a server while it is shot at; judge and return a line of the table."""
    watched = Watched()
    with server:
        run_ = _run_of(server)
        books = _shoot(server, run_, watched, *((1500, 2.0) if quick else (20_000, 20.0)))
        time.sleep(1.5)
        answers = every_worker(server.port, workers)
        told = [counts(answer.document) for answer in answers]
        odd = [said for answer in answers for said in impossible(answer.document)]
        errors = server.errors()
        _kill_all(server)
        after = _counted(run_)
    missing, doubled = _compare(books, told[-1])
    allowed = watched.killed * threads
    agree = all(each == told[0] for each in told) and after == told[0]
    fine = missing <= allowed and not doubled and agree and not odd and not books.unexpected
    outcome.judge(
        f"kill.{name.replace(' ', '_')}", f"{books.asked:,} requests, {watched.killed} workers "
        f"killed, others recycled: {name}", f"missing ≤ {allowed}, none doubled",
        f"{missing} missing, {doubled} doubled", fine and watched.killed > 0,
    )  # fmt: skip
    clean = not (watched.failed or watched.shrunk or watched.degraded)
    outcome.judge(f"kill.{name.replace(' ', '_')}.reads", "reads meanwhile; totals never shrink",
                  "no failed read", f"{watched.reads:,} reads, {len(watched.failed)} failed, "
                  f"{len(watched.shrunk)} shrunk", clean)  # fmt: skip
    _tell(outcome, name, watched, odd, errors, agree, books)
    return (name, f"{books.asked:,}", str(watched.killed), str(sum(books.uncertain.values())),
            str(missing), str(doubled), f"{watched.reads:,}", str(len(watched.failed)),
            str(len(watched.shrunk)))  # fmt: skip


def _shoot(server: Gunicorn, run_: Path, watched: Watched, total: int, seconds: float) -> Books:
    """Send the load while one aide kills and another reads; return the books."""
    aides = [
        threading.Thread(target=_kill, args=(server, watched)),
        threading.Thread(target=_read, args=(run_, watched)),
    ]
    books, began = Books(), time.monotonic()
    for aide in aides:
        aide.start()
    while books.asked < total or time.monotonic() - began < seconds:
        part = Load(server.port, threads=_THREADS, total=total // 10, seed=books.asked)
        _add(books, part.start().wait())
    watched.over.set()
    for aide in aides:
        aide.join()
    return books


def _tell(
    outcome: Outcome, name: str, watched: Watched, odd: list[str], errors: list[str], agree: bool,
    books: Books,
) -> None:  # fmt: skip
    said = [*watched.failed[:3], *watched.shrunk[:3], *sorted(watched.degraded)[:3], *odd[:3],
            *dict.fromkeys(errors[:3]), *books.unexpected]  # fmt: skip
    if not agree:
        said.append("workers, or the disk after the last kill, disagreed")
    outcome.notes += [f"{name}: {sentence}" for sentence in said]
    outcome.details[name] = {
        "asked": books.asked, "killed": watched.killed, "reads": watched.reads,
        "failed": watched.failed, "shrunk": watched.shrunk, "degraded": sorted(watched.degraded),
        "uncertain": {" ".join(key): count for key, count in books.uncertain.items()},
    }  # fmt: skip


def _add(books: Books, more: Books) -> None:
    books.committed += more.committed
    books.uncertain += more.uncertain
    books.unexpected += more.unexpected
    books.asked += more.asked


def _compare(books: Books, told: Counter[Key]) -> tuple[int, int]:
    """Return how many committed requests are missing, and how many were counted too often."""
    expected = Counter(books.committed)
    expected["<unmatched>", "GET", "4xx"] += 1  # the request that waited for the server to start
    keys = {*expected, *told}
    missing = sum(max(0, expected[key] - told[key]) for key in keys)
    doubled = sum(max(0, told[key] - expected[key] - books.uncertain[key]) for key in keys)
    return missing, doubled


def _kill(server: Gunicorn, watched: Watched) -> None:
    rng = random.Random(7)
    while not watched.over.wait(1.0):
        workers = server.workers()
        if workers:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                watched.killed += 1


def _read(run_: Path, watched: Watched) -> None:
    """Read again and again; note what fails and what shrinks."""
    before: Counter[str] = Counter()
    while not watched.over.is_set():
        try:
            snapshot = state_dir.read(run_)
        except Exception as error:
            watched.failed.append(f"{type(error).__name__}: {error}")
            continue
        watched.reads += 1
        watched.degraded |= set(snapshot.degraded)
        now = Counter({
            f"{' '.join((key.meter, *key.labels))} {what}": value
            for key, series in columns.series(snapshot.columns).items()
            for what, value in (("count", series.data.count), ("sum", series.data.total))
        })  # fmt: skip
        watched.shrunk += [f"{key}: {count} → {now[key]}" for key, count in before.items()
                           if now[key] < count]  # fmt: skip
        before = now


def _counted(run_: Path) -> Counter[Key]:
    """Return what lies on disk, as :func:`.client.counts` would."""
    found: Counter[Key] = Counter()
    for key, series in columns.series(state_dir.read(run_).columns).items():
        if key.meter == "request" and series.data.count:
            endpoint, method, status, _ = key.labels
            found[endpoint, method, status] += series.data.count
    return found


def _run_of(server: Gunicorn) -> Path:
    """Return the directory of the only run."""
    ends = time.monotonic() + 10
    while not runs.runs(server.state):
        if time.monotonic() > ends:
            raise TimeoutError("no run began")
        time.sleep(0.05)
    return runs.runs(server.state)[0]


def _kill_all(server: Gunicorn) -> None:
    """Kill the master and every worker at once."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)
