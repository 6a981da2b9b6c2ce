"""What watching file reads costs: per read, and on requests that read nothing.

One request reads the same small CSV many times, in an application that watches and in one that does
not; what the watching adds, divided by the reads, is the cost of a read. Files, not mocks: the time of
the read itself is in both and falls out. The readers are put in front of pandas' own by hand from block
to block, for replacing them everywhere looks through all modules and leaves nothing of what is
measured in the processor's caches. The second row compares requests that read nothing.
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
WATCHED, PLAIN = "watched", "not watched"


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
            WATCHED: _app(Path(folder) / "on", table),
            PLAIN: _app(Path(folder) / "off", table, KNITPERF_FILE_READS=False),
        }
        found = {path: _alternate(apps, path, rounds) for path in ("/reads", "/nothing")}
        for app in apps.values():
            app.extensions["knitperf"].close()
    each = blocks.differences(found["/reads"], PLAIN)[WATCHED]
    none = blocks.differences(found["/nothing"], PLAIN)[WATCHED]
    outcome.judge("file_reads.cost", "a file read that is watched", f"≤ {TARGET_US:.0f} µs",
                  f"{each.median / READS:.1f} µs", each.median / READS <= TARGET_US)  # fmt: skip
    outcome.judge("file_reads.nothing", "a request that reads nothing", "0 µs (within noise)",
                  f"{none.median:+.2f} µs", none.low <= 0 <= none.high)  # fmt: skip
    outcome.grids.append(Grid("CPU time added", ("what", "µs (quartiles)"), (
        (f"a request with {READS} reads", each.text()), ("a request without", none.text(2)),
    )))  # fmt: skip
    outcome.details = {
        "request_with_reads_us": each.document(),
        "request_without_us": none.document(),
    }
    return outcome


def _alternate(apps: dict[str, Flask], path: str, rounds: int) -> dict[str, list[float]]:
    """Return CPU microseconds per request; the readers are watched only during the watched blocks."""
    gets = {name: Get(app, path) for name, app in apps.items()}
    times = 6 if path == "/reads" else 300
    found: dict[str, list[float]] = {name: [] for name in apps}
    for get in gets.values():
        get.times(10)
    watched: Any = pd.read_csv
    readers = {WATCHED: watched, PLAIN: watched.__knitperf_reads__}
    for turn in range(rounds):
        for name in sorted(apps, reverse=bool(turn % 2)):
            pd.read_csv = readers[name]
            found[name] += blocks.measure({name: gets[name]}, 1, times, warm_up=2)[name]
    pd.read_csv = watched
    return found
