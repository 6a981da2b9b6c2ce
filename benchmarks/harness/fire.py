"""Load on a server whose workers are killed while its run is read, for ``kill`` and ``endurance``."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import REQUEST
from flask_knitperf.storage import runs, state_dir

from .client import MIX, Key, Ledger, Load, RequestKind, expected_counts
from .servers import Gunicorn

CLIENTS = 8


class Pace(NamedTuple):
    """Load and kills over time.

    Attributes:
        requests: number of requests at least.
        seconds: duration at least.
        kill_s: seconds between two kills, at random between both.
        reload_s: seconds between two reloads of the server, 0 for none.
        per_second: requests per second; 0 sends as fast as possible.
        read_s: seconds between two reads of the run.
        mix: kinds of requests.
    """

    requests: int
    seconds: float
    kill_s: tuple[float, float] = (1.0, 1.0)
    reload_s: float = 0.0
    per_second: float = 0.0
    read_s: float = 0.0
    mix: tuple[RequestKind, ...] = MIX


@dataclass
class Observations:
    """Observations of the threads that kill, reload and read.

    Attributes:
        killed: number of killed workers.
        reloads: number of reloads.
        reads: number of reads of the run.
        failed: reads that raised, as text.
        shrunk: totals that were smaller than before, as text.
        degraded: degradations that reads reported, as sentences.
        over: set when all have to end.
    """

    killed: int = 0
    reloads: int = 0
    reads: int = 0
    failed: list[str] = field(default_factory=list)
    shrunk: list[str] = field(default_factory=list)
    degraded: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)


def attack(
    server: Gunicorn, pace: Pace, *beside: Callable[[threading.Event], None]
) -> tuple[Ledger, Observations]:
    """Send load to a server while its workers are killed and its run is read.

    Args:
        server: it is running.
        pace: of the attack.
        beside: run in threads until their argument is set.

    Returns:
        The ledger of the load, and the observations.
    """
    seen, run = Observations(), run_of(server)
    threads = [
        threading.Thread(target=_kill, args=(server, seen, pace)),
        threading.Thread(target=_read, args=(run, seen, pace.read_s)),
        *(threading.Thread(target=watch, args=(seen.over,)) for watch in beside),
    ]
    ledger, start = Ledger(), time.monotonic()
    for thread in threads:
        thread.start()
    while ledger.sent < pace.requests or time.monotonic() - start < pace.seconds:
        load = Load(
            server.port, threads=CLIENTS, total=pace.requests // 10, seed=ledger.sent,
            per_second=pace.per_second, mix=pace.mix,
        )  # fmt: skip
        ledger.add(load.start().wait())
    seen.over.set()
    for thread in threads:
        thread.join()
    return ledger, seen


def compare(ledger: Ledger, reported: Counter[Key]) -> tuple[int, int]:
    """Return the number of committed requests that are missing, and of those counted too often."""
    expected = expected_counts(ledger)
    keys = {*expected, *reported}
    missing = sum(max(0, expected[key] - reported[key]) for key in keys)
    doubled = sum(max(0, reported[key] - expected[key] - ledger.uncertain[key]) for key in keys)
    return missing, doubled


def _kill(server: Gunicorn, seen: Observations, pace: Pace) -> None:
    rng, reload_at = random.Random(7), time.monotonic() + pace.reload_s
    while not seen.over.wait(rng.uniform(*pace.kill_s)):
        if pace.reload_s and time.monotonic() >= reload_at:
            server.signal(signal.SIGHUP)
            seen.reloads += 1
            reload_at += pace.reload_s
        workers = server.workers()
        if workers:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                seen.killed += 1


def _read(run: Path, seen: Observations, pause_s: float) -> None:
    """Read the run repeatedly; record failures, and totals that shrink."""
    before: Counter[str] = Counter()
    while not seen.over.wait(pause_s):
        try:
            snapshot = state_dir.read(run)
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


def counts_on_disk(run: Path) -> Counter[Key]:
    """Return the counts in the files of a run, in the form of :func:`.client.counts`."""
    counter: Counter[Key] = Counter()
    for key, series in columns.series(state_dir.read(run).columns).items():
        if key.meter == REQUEST.name and series.data.count:
            endpoint, method, status, _ = key.labels
            counter[endpoint, method, status] += series.data.count
    return counter


def run_of(server: Gunicorn) -> Path:
    """Return the directory of the only run.

    Raises:
        TimeoutError: none started.
    """
    deadline = time.monotonic() + 10
    while not runs.runs(server.state):
        if time.monotonic() > deadline:
            raise TimeoutError("no run started")
        time.sleep(0.05)
    return runs.runs(server.state)[0]


def kill_all(server: Gunicorn) -> None:
    """Kill the master and every worker at once."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
