"""Duration of a report over many endpoints and workers.

Eight real workers leave 200 endpoints each, with several statuses, parts and histograms as wide as a
live application's; then the run is read and rendered repeatedly as ``/perf/report`` does. Its steps are
timed separately.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flask_knitperf.core.clock import SYSTEM
from flask_knitperf.core.settings import Settings
from flask_knitperf.core.settings import read as settings_of
from flask_knitperf.metrics import catalogue as meters
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import When
from flask_knitperf.metrics.log_format import Observation, pack
from flask_knitperf.metrics.table import decode
from flask_knitperf.reports.build import Route, build_report
from flask_knitperf.storage import state_dir
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.windows import Window
from flask_knitperf.storage.writer import Worker

from ..harness.outcome import Grid, Outcome, Spread

WORKERS = 8
ENDPOINTS = 200
REQUESTS = 120
"""Requests to each endpoint of each worker."""
TARGET_MS = 50.0


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    workers, endpoints, turns = (2, 20, 5) if quick else (WORKERS, ENDPOINTS, 41)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run_ = Path(folder)
        for number in range(workers):
            worker = _fill(run_, number, endpoints, workers)
            stack.callback(worker.release)
        size = sum(path.stat().st_size for path in run_.glob("*.table"))
        tables = [(run_ / f"{name}.table").read_bytes() for name in state_dir.workers(run_)]
        series = len(state_dir.read(run_).columns.descriptors)
        steps = _steps(run_, endpoints, tables)
        spreads = {name: _time(step, turns) for name, step in steps.items()}
        hot = _hot(steps["whole report"])
    whole = spreads["whole report"]
    outcome.judge(
        "report_time", f"report over {workers} workers × {endpoints} endpoints",
        f"≤ {TARGET_MS:.0f} ms", f"{whole.text()} ms", whole.median <= TARGET_MS,
    )  # fmt: skip
    outcome.grids.append(Grid("Steps of a report", ("step", "ms (quartiles)"), tuple(
        (name, spread.text()) for name, spread in spreads.items()
    )))  # fmt: skip
    outcome.grids.append(Grid("Where the time goes", ("function", "own ms", "calls"), hot))
    outcome.notes.append(
        f"{series:,} series, {size / 1024:.0f} KB of tables, {REQUESTS} requests per endpoint and "
        f"worker, tails of up to 64 KiB not folded yet; {turns} reports"
    )
    return outcome


def _steps(run_: Path, endpoints: int, tables: list[bytes]) -> dict[str, Callable[[], object]]:
    settings = settings_of({})
    routes: list[Route] = [
        (f"bp.e{n}", f"/e{n}/<int:id>", ("GET", "HEAD")) for n in range(endpoints)
    ]
    now = time.time()
    snapshot = state_dir.read(run_)
    document = report(run_, settings, routes, now)
    decoded = [decode(data)[1] for data in tables]

    return {
        "whole report": lambda: report(run_, settings, routes, now),
        "read": lambda: state_dir.read(run_),
        "of it: decode": lambda: [decode(data) for data in tables],
        "of it: add up": lambda: columns.add(decoded),
        "render": lambda: build_report(
            Window("run", now - 99, now, "r", None, snapshot), settings, routes, now),
        "as JSON text (not in the whole)": lambda: json.dumps(document),
    }  # fmt: skip


def report(run_: Path, settings: Settings, routes: list[Route], now: float) -> object:
    """Read a run and return its report."""
    window = Window("run", now - 99, now, run_.name, None, state_dir.read(run_))
    return build_report(window, settings, routes, now)


def _time(step: Callable[[], object], turns: int) -> Spread:
    durations = []
    for _ in range(turns):
        start = time.perf_counter()
        step()
        durations.append((time.perf_counter() - start) * 1000)
    return Spread.of(durations)


def _hot(step: Callable[[], object]) -> tuple[tuple[str, ...], ...]:
    """Return the functions with most own time, under the profiler (which slows all of them)."""
    profile = cProfile.Profile()
    for _ in range(5):
        profile.runcall(step)
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows = sorted(stats.items(), key=lambda item: -item[1][2])[:12]
    return tuple(
        (f"{'/'.join(file.split('/')[-2:])}:{name}", f"{own / 5 * 1000:.1f}", f"{calls // 5:,}")
        for (file, _, name), (_, calls, own, _, _) in rows
    )


# -- the files of a run ----------------------------------------------------------------------------


def _fill(run_: Path, number: int, endpoints: int, workers: int) -> Worker:
    """Record with one real worker, fold, and leave a tail in its log.

    A worker folds once 64 KiB wait, so at any moment the tails of several are spread evenly below.
    """
    rng = random.Random(number)
    worker = Worker(
        run_, {"pid": os.getpid(), "host": "bench", "started": time.time()}, clock=SYSTEM,
        disk=Disk(), log_bytes=1 << 20,
    )  # fmt: skip
    for endpoint in range(endpoints):
        _endpoint(worker, rng, endpoint, REQUESTS)
        worker.prepare_spare()
    worker.fold()
    tail = (1 << 16) * (number + 0.5) / workers
    begins = worker._log.map.tell()
    while worker._log.map.tell() - begins < tail:
        _endpoint(worker, rng, rng.randrange(endpoints), 1)
    return worker


def _endpoint(worker: Worker, rng: random.Random, number: int, requests: int) -> None:
    """Record requests of one endpoint in the extension's format."""
    name = f"bp.e{number}"
    middle = random.Random(name).uniform(15, 20.5)  # e**15 ns is 3 ms, e**20.5 is 800 ms
    for turn in range(requests):
        wall = round(rng.lognormvariate(middle, 0.6))
        status = "5xx" if rng.random() < 0.02 else "2xx"
        when = When.SOLO
        if not turn and requests > 1:
            when = When.FIRST
        elif rng.random() < 0.3:
            when = When.CONCURRENT
        _write(worker, name, wall, status, when, rng.random() < 0.125)


def _write(worker: Worker, name: str, wall: int, status: str, when: str, sampled: bool) -> None:
    labels = (name, "GET")
    group: list[Observation] = [
        (worker.series(meters.REQUEST, (*labels, status, when)), 1, float(wall)),
        (worker.series(meters.BYTES_OUT, labels), 1, 2048.0),
    ]
    for part, share in (("section:load", 0.3), ("section:compute", 0.4), ("hook:user", 0.05)):
        group.append((worker.series(meters.PART, (*labels, part)), 1, float(round(wall * share))))
    if sampled:
        for meter, share in ((meters.CPU, 0.6), (meters.SAMPLED_WALL, 1.0)):
            group.append((worker.series(meter, labels), 8, float(round(wall * share))))
        if when == When.CONCURRENT:
            lost = float(round(wall * 0.2))
            group.append((worker.series(meters.CONTENTION, labels), 8, lost))
    worker.write(pack(group))
