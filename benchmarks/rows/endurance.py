"""A server for 25 minutes: a worker is killed every few seconds, all are reloaded every two minutes.

The load, its ledger and the reader of ``kill``, on a gunicorn with threads. Every five seconds the
resident memory, the descriptors and the threads of master and workers are read, and the files of the
state directory but its history. They are flat if the last third of the time needs no more than the first
one, the first 25th aside. At the end all workers report, all processes are killed, and the files are
read again.

A stream's last byte leaves before its end is recorded, so that a killed worker may miss a request that
its client has already; the load here has none.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from ..harness import fire
from ..harness.client import MIX, Key, Ledger, counts, every_worker, impossible
from ..harness.outcome import Grid, Outcome
from ..harness.servers import Gunicorn

WORKERS = 3
_OPTIONS = (f"--workers={WORKERS}", "--worker-class=gthread", "--threads=4")
_MIX = tuple(kind for kind in MIX if kind.endpoint != "stream")
_PER_SECOND = 80.0
_READING_S = 5.0
_HISTORY = ("points", "details")
"""Folders with a file for each minute or five, thinned out as they age: they grow for an hour."""
_MIN_AGE_S = 1.5
"""Age from which a worker is read: before that it still imports."""


class Reading(NamedTuple):
    """Resources at one time: of the master, the median of the workers, and of the state directory."""

    seconds: float
    master_mb: float
    master_descriptors: int
    worker_mb: float
    worker_descriptors: float
    worker_threads: float
    files: int
    files_mb: float


BOUNDS = {
    "master_mb": ("memory of the master, MB", 1.0),
    "master_descriptors": ("descriptors of the master", 0.0),
    "worker_mb": ("memory of a worker, MB", 2.0),
    "worker_descriptors": ("descriptors of a worker", 1.0),
    "worker_threads": ("threads of a worker", 1.0),
    "files": ("files of the state directory", 8.0),
    "files_mb": ("size of the state directory, MB", 1.0),
}
"""Of each resource its name, and the growth that is within its noise."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    pace = fire.Pace(
        1_000, 60.0 if quick else 1500.0, kill_s=(2.0, 5.0), reload_s=20.0 if quick else 120.0,
        per_second=_PER_SECOND, read_s=1.0, mix=_MIX,
    )  # fmt: skip
    readings: list[Reading] = []
    with tempfile.TemporaryDirectory() as folder, Gunicorn(Path(folder), *_OPTIONS) as server:
        run_ = fire.run_of(server)
        ledger, seen = fire.attack(server, pace, _watch(server, readings))
        time.sleep(3.0)
        answers = every_worker(server.port, WORKERS)
        errors = server.errors()
        fire.kill_all(server)
        on_disk = fire.counts_on_disk(run_)
    _judge_counts(outcome, ledger, seen, [counts(answer.document) for answer in answers], on_disk)
    values = [sentence for answer in answers for sentence in impossible(answer.document)]
    notes = [*seen.failed[:3], *seen.shrunk[:3], *sorted(seen.degraded)[:3], *values[:3],
             *dict.fromkeys(errors[:3]), *ledger.unexpected]  # fmt: skip
    outcome.judge(
        "endurance.reads", "reads meanwhile; totals never shrink; no impossible value, no error",
        "no failed read", f"{seen.reads:,} reads, {len(notes)} problems", not notes,
    )  # fmt: skip
    outcome.notes += notes
    _judge_resources(outcome, readings)
    return outcome


def _judge_counts(
    outcome: Outcome, ledger: Ledger, seen: fire.Observations, reported: list[Counter[Key]],
    on_disk: Counter[Key],
) -> None:  # fmt: skip
    missing, doubled = fire.compare(ledger, reported[-1])
    agree = all(counter == on_disk for counter in reported)
    outcome.judge(
        "endurance.counts", f"{ledger.sent:,} requests, {seen.killed} kills, {seen.reloads} reloads",
        "0 missing, 0 doubled", f"{missing} missing, {doubled} doubled"
        + ("" if agree else "; reports and files disagree"),
        missing == doubled == 0 and agree and seen.killed > 0 and seen.reloads > 0,
    )  # fmt: skip
    outcome.notes.append(f"{sum(ledger.uncertain.values())} requests lost their connection")


def _judge_resources(outcome: Outcome, readings: list[Reading]) -> None:
    """Judge whether the last third of the readings is above the first one."""
    settled = readings[len(readings) // 25 :]
    third = max(1, len(settled) // 3)
    lines = []
    for field, (name, bound) in BOUNDS.items():
        first, last = (median(getattr(one, field) for one in part)
                       for part in (settled[:third], settled[-third:]))  # fmt: skip
        outcome.judge(
            f"endurance.{field}", f"{name}: first and last third", f"≤ {bound:g} more",
            f"{first:.1f}, {last:.1f}", last - first <= bound,
        )  # fmt: skip
        lines.append((name, *(f"{getattr(one, field):.1f}"
                              for one in settled[:: max(1, len(settled) // 6)])))  # fmt: skip
    heads = (
        "resource",
        *(f"{one.seconds / 60:.1f} min" for one in settled[:: max(1, len(settled) // 6)]),
    )
    outcome.grids.append(Grid("Resources", heads, tuple(lines)))


def _watch(server: Gunicorn, readings: list[Reading]) -> Callable[[threading.Event], None]:
    """Return a function that appends readings until its argument is set."""

    def watch(over: threading.Event) -> None:
        began = time.monotonic()
        while not over.wait(_READING_S):
            workers = _settled_workers(server)
            if workers:
                readings.append(_reading(time.monotonic() - began, server, workers))

    return watch


def _settled_workers(server: Gunicorn) -> list[tuple[float, int, int]]:
    """Return memory in MB, descriptors and threads of each worker that is no longer starting."""
    levels = []
    for pid in server.workers():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            process = psutil.Process(pid)
            if time.time() - process.create_time() >= _MIN_AGE_S:
                levels.append((_mb(process), process.num_fds(), process.num_threads()))
    return levels


def _reading(seconds: float, server: Gunicorn, workers: list[tuple[float, int, int]]) -> Reading:
    master = psutil.Process(server.pid)
    files = (path for path in server.state.rglob("*") if path.parent.name not in _HISTORY)
    sizes = [size for path in files if (size := _size(path)) is not None]
    typical = (median(column) for column in zip(*workers, strict=True))
    return Reading(
        seconds, _mb(master), master.num_fds(), *typical,
        len(sizes), sum(sizes) / 1e6,
    )  # fmt: skip


def _size(path: Path) -> int | None:
    """Return the size of a file, ``None`` for a folder or a file that is gone."""
    try:
        return path.stat().st_size if path.is_file() else None
    except FileNotFoundError:
        return None


def _mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6
