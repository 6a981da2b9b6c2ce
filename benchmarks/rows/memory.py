"""Growth of a worker's memory over 200,000 requests, with the extension and without.

Fresh interpreters serve direct WSGI calls: the usual mix, and then a hostile one in which every request
has a different path, query and header, none of which may be retained. Growth counts from the moment the
worker is warm: after half a minute each of the housekeeper's jobs has run several times. The measure is
resident memory without mapped files (``RssAnon``), because the pages of the mapped logs come and go by a
megabyte or two, and the system reclaims them. The smallest of a few readings counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..harness import machine
from ..harness.outcome import Grid, Outcome

_PROGRAM = """
import gc, json, os, sys, time
from benchmarks.harness.apps import served
from benchmarks.harness.wsgi import Get

app = served()
usual = [Get(app, path) for path in ("/items/3", "/items/4", "/empty", "/old", "/teapot", "/stream")]
turns = int(sys.argv[1])

def rss():
    gc.collect()
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["RssAnon"].split()[0]) / 1024

def serve(count):
    for turn in range(count):
        usual[turn % 6]()

seen = 0

def hostile(count):
    global seen
    for turn in range(seen, seen + count):
        Get(app, f"/x{turn}/{'y' * (turn % 200)}", f"q={turn}", REQUEST_METHOD=f"M{turn}",
            HTTP_USER_AGENT=f"agent {turn}", HTTP_X_REQUEST_START=str(turn))()
    seen += count

def level(more):
    readings = []
    for _ in range(5):
        more(turns // 100)
        readings.append(rss())
    return min(readings)

warm = time.monotonic() + (32 if turns > 10_000 else 1)
while time.monotonic() < warm:
    serve(1000)
sizes = [level(serve)]
for _ in range(4):
    serve(turns // 5)
    sizes.append(level(serve))
hostile_sizes = [level(hostile)]
for _ in range(2):
    hostile(turns // 8)
    hostile_sizes.append(level(hostile))
print(json.dumps({"usual": sizes, "hostile": hostile_sizes}))
"""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    if "RssAnon" not in _status():
        outcome.judge("memory", "growth over 200,000 requests", "≤ 1 MB", "needs Linux", None)
        return outcome
    turns = 4_000 if quick else 200_000
    bare, ours = _serve(turns, bare=True), _serve(turns, bare=False)
    lines = []
    for name, requests in (("usual", turns), ("hostile", turns // 4)):
        grown = ours[name][-1] - ours[name][0]
        grown_bare = bare[name][-1] - bare[name][0]
        outcome.judge(
            f"memory.{name}", f"memory grown over {requests:,} requests, {name} mix; without the "
            "extension", "≤ 1 MB more", f"{grown:+.2f} MB; {grown_bare:+.2f} MB",
            grown - grown_bare <= 1.0,
        )  # fmt: skip
        lines += [
            (f"{name}, {variant}", " ".join(f"{size:.1f}" for size in sizes))
            for variant, sizes in (("with", ours[name]), ("without", bare[name]))
        ]
    outcome.grids.append(
        Grid("Resident memory without mapped files, evenly spaced", ("mix", "MB"), tuple(lines))
    )
    return outcome


def _status() -> str:
    path = Path("/proc/self/status")
    return path.read_text() if path.exists() else ""


def _serve(turns: int, *, bare: bool) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        config: dict[str, Any] = {"BENCH_BARE": True} if bare else {
            "KNITPERF_STATE_DIR": str(Path(folder) / "state"), "KNITPERF_TRUST_QUEUE_HEADER": True,
        }  # fmt: skip
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        path = os.pathsep.join([str(machine.ROOT), os.environ.get("PYTHONPATH", "")])
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(turns)], cwd=machine.ROOT, text=True, check=True,
            env={**os.environ, "PYTHONPATH": path, "BENCH_CONFIG": str(file)}, timeout=900,
            stdout=subprocess.PIPE,
        )  # fmt: skip
    sizes: dict[str, list[float]] = json.loads(process.stdout)
    return sizes
