"""Time and memory that the extension adds to a start, beyond Flask and pandas.

Fresh interpreters in turns: one imports Flask and pandas, creates an application and answers a request;
the other does the same with the extension, its first request included (state directory, lock, log,
thread). Medians of both, and of the difference between neighbours.
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
from ..harness.outcome import Grid, Outcome, Spread

_PROGRAM = """
import json, os, resource, sys, time
import flask, pandas
from flask import Flask

def resident():
    with open("/proc/self/smaps_rollup") as file:
        pages = dict(line.split(":") for line in file if ":" in line)
    return sum(int(pages[key].split()[0]) for key in ("Private_Clean", "Private_Dirty"))

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024

app = Flask("start")

@app.get("/")
def index():
    return "hello"

moments = [time.perf_counter()]
cpu = time.process_time()
memory, private = rss(), resident()
if sys.argv[1] == "with":
    from flask_knitperf import KnitPerf
    moments.append(time.perf_counter())
    app.config["KNITPERF_STATE_DIR"] = sys.argv[2]
    KnitPerf(app)
    moments.append(time.perf_counter())
environ = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "localhost",
    "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
    "wsgi.input": None, "wsgi.errors": sys.stderr, "REMOTE_ADDR": "192.0.2.1",
}
body = app.wsgi_app(environ, lambda status, headers, exc_info=None: None)
assert b"".join(body) == b"hello"
body.close()
moments.append(time.perf_counter())
cpu = time.process_time() - cpu
result = {"steps": [1000 * (b - a) for a, b in zip(moments, moments[1:])], "cpu": cpu * 1000,
        "modules": len(sys.modules)}
time.sleep(0.4)
print(json.dumps({**result, "rss_mb": (rss() - memory) / 1024,
                  "private_mb": (resident() - private) / 1024}))
"""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    if not Path("/proc/self/smaps_rollup").exists():
        outcome.judge("startup", "start-up added", "≤ 60 ms, ≤ 8 MB", "needs Linux", None)
        return outcome
    turns = 3 if quick else 31
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as cache:
        _compile(Path(cache))
        for _ in range(turns):
            bare.append(_start("without", cache))
            ours.append(_start("with", cache))
        slowest = _imports(cache)
    pairs = list(zip(ours, bare, strict=True))
    added = Spread.of(sum(a["steps"]) - sum(b["steps"]) for a, b in pairs)
    memory = Spread.of(a["rss_mb"] - b["rss_mb"] for a, b in pairs)
    private = Spread.of(a["private_mb"] - b["private_mb"] for a, b in pairs)
    what = "start-up added beyond Flask and pandas, first request included"
    outcome.judge("startup.time", what, "≤ 60 ms", f"{added.text()} ms", added.median <= 60)
    outcome.judge("startup.memory", what, "≤ 8 MB", f"{memory.text(2)} MB", memory.median <= 8)
    steps = [Spread.of(a["steps"][place] for a in ours) for place in range(3)]
    names = ("import flask_knitperf and all it needs", "KnitPerf(app)", "first request")
    outcome.grids.append(Grid("Steps of a start", ("step", "ms (quartiles)"), (
        *((name, step.text()) for name, step in zip(names, steps, strict=True)),
        ("first request without the extension", Spread.of(b["steps"][0] for b in bare).text()),
    )))  # fmt: skip
    outcome.grids.append(Grid("Imports that take longest", ("module", "own ms"), slowest))
    outcome.notes.append(
        f"{turns} starts each, in turns, byte code cached; memory 0.4 s later: resident "
        f"{memory.text(2)} MB, of which private {private.text(2)} MB"
    )
    return outcome


def _compile(cache: Path) -> None:
    """Compile everything to byte code, as after an installation."""
    _start("with", str(cache))
    if not any(cache.rglob("flask_knitperf/instrumentation/wsgi.*.pyc")):
        raise RuntimeError("the byte code was not cached, so each start would compile")


def _start(which: str, cache: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        process = _python(cache, "-c", _PROGRAM, which, str(Path(folder) / "state"))
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def _imports(cache: str) -> tuple[tuple[str, ...], ...]:
    """Return the modules beyond Flask's and pandas' whose own import takes longest."""
    probe = "import flask, pandas, sys; print('#', file=sys.stderr); from flask_knitperf import KnitPerf"
    rows = []
    for line in (
        _python(cache, "-X", "importtime", "-c", probe).stderr.partition("#\n")[2].splitlines()
    ):
        cells = line.removeprefix("import time:").split("|")
        if len(cells) == 3 and cells[0].strip().isdigit():
            rows.append((int(cells[0]), cells[2].strip()))
    return tuple((name, f"{own / 1000:.1f}") for own, name in sorted(rows, reverse=True)[:10])


def _python(cache: str, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(machine.ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": cache}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run(
        [sys.executable, *words], cwd=machine.ROOT, env=env,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
