"""Recorders without an application, and readings of what they recorded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask_knitperf.core.clock import Clock
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.instruments import Kind, Merge, Meter
from flask_knitperf.recording.recorder import Recorder
from flask_knitperf.storage import runs, state_dir
from flask_knitperf.storage.atomic_files import Disk

REQUESTS = Meter("request", Kind.HISTOGRAM, "ns", ("endpoint",))
SIZE = Meter("size", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)


def make_recorder(run: Path | None, **options: Any) -> Recorder:
    """Return a recorder without a thread, on a run's directory or (``None``) in memory."""
    return Recorder(
        lambda: (run, {"pid": os.getpid(), "host": "here", "started": 1.0}),
        threaded=lambda: False, log_bytes=65536, **options,
    )  # fmt: skip


def observe(recorder: Recorder, count: int) -> None:
    """Record a number of requests to endpoint "a", each of 5 ns."""
    for _ in range(count):
        recorder.record((recorder.series(REQUESTS, "a"), 5.0))


def request_count(snapshot: state_dir.Snapshot) -> int:
    """Return the number of requests in a snapshot."""
    return sum(
        series.data.count
        for key, series in columns.series(snapshot.columns).items()
        if key.meter == "request"
    )


def join_run(folder: Path, release: str | None = None, wall: float = 5.0) -> Path:
    """Join a run at a wall-clock time in seconds; return its directory."""
    clock = Clock(wall=lambda: wall)
    run, identity = runs.join(folder, release, {"routes": []}, clock, Disk())
    assert identity["pid"] == os.getpid()
    return run
