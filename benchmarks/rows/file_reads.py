"""Cost of tracking file reads: per read, and in requests that read nothing.

One request reads the same small CSV many times, in an application that tracks reads and in one that does
not; the difference, divided by the number of reads, is the cost of a read. Files, not mocks: the time of
the read itself is in both and cancels out. The tracking readers are swapped by hand from block to block,
because the extension's own replacement walks through all modules, which empties the processor's caches.
The second row compares requests that read nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from flask import Flask

from flask_knitperf import KnitPerf

from ..harness import blocks
from ..harness.outcome import Grid, Outcome
from ..harness.wsgi import Get

READS = 20
TARGET_US = 30.0
TRACKED, PLAIN = "tracked", "not tracked"


def _app(state: Path, table: Path, **config: Any) -> Flask:
    app = Flask("reads")
    app.config.update(KNITPERF_STATE_DIR=str(state), KNITPERF_CPU_SAMPLE=10_000, **config)

    @app.get("/reads")
    def reads() -> str:
        for _ in range(READS):
            pd.read_csv(table)
        return "read"

    @app.get("/nothing")
    def nothing() -> str:
        return "nothing"

    KnitPerf(app)
    return app


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    rounds = 4 if quick else 150
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "yarn.csv"
        table.write_text("a,b\n1,2\n")
        apps = {
            TRACKED: _app(Path(folder) / "on", table),
            PLAIN: _app(Path(folder) / "off", table, KNITPERF_FILE_READS=False),
        }
        measured = {path: _alternate(apps, path, rounds) for path in ("/reads", "/nothing")}
        for app in apps.values():
            app.extensions["knitperf"].close()
    reading = blocks.differences(measured["/reads"], PLAIN)[TRACKED]
    nothing = blocks.differences(measured["/nothing"], PLAIN)[TRACKED]
    outcome.judge("file_reads.cost", "a tracked file read", f"≤ {TARGET_US:.0f} µs",
                  f"{reading.median / READS:.1f} µs", reading.median / READS <= TARGET_US)  # fmt: skip
    outcome.judge("file_reads.nothing", "a request that reads nothing", "0 µs (within noise)",
                  f"{nothing.median:+.2f} µs", nothing.low <= 0 <= nothing.high)  # fmt: skip
    outcome.grids.append(Grid("CPU time added", ("what", "µs (quartiles)"), (
        (f"a request with {READS} reads", reading.text()), ("a request without", nothing.text(2)),
    )))  # fmt: skip
    return outcome


def _alternate(apps: dict[str, Flask], path: str, rounds: int) -> dict[str, list[float]]:
    """Return the CPU microseconds per request; readers are tracked in the tracked blocks only."""
    gets = {name: Get(app, path) for name, app in apps.items()}
    times = 6 if path == "/reads" else 300
    by_name: dict[str, list[float]] = {name: [] for name in apps}
    for get in gets.values():
        get.times(10)
    tracked: Any = pd.read_csv
    readers = {TRACKED: tracked, PLAIN: tracked.__knitperf_reads__}
    for turn in range(rounds):
        for name in sorted(apps, reverse=bool(turn % 2)):
            pd.read_csv = readers[name]
            by_name[name] += blocks.measure({name: gets[name]}, 1, times, warm_up=2)[name]
    pd.read_csv = tracked
    return by_name
