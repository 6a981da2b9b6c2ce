"""A million statements with different literals, and a million with different fingerprints.

One process serves requests that send a thousand statements each to a database in memory. First values
are written into the text, so there are a million texts with one fingerprint; then names differ too, so
there are far more fingerprints than are kept apart. Growth counts from a quarter on, when the tables are
full; the process may not grow with either, and the report must state the statements that share a row.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from ..harness import machine
from ..harness.outcome import Grid, Outcome

TOTAL = 1_000_000
PER_REQUEST = 1000
"""Statements of a request."""
_PROGRAM = """
import gc, json, sqlite3, sys
from flask import Flask
from flask_knitperf import KnitPerf
from benchmarks.harness.wsgi import Get

total, per_request, state = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
app = Flask("literals")
app.config.update(KNITPERF_STATE_DIR=state, KNITPERF_SAMPLER=False)
perf = KnitPerf(app)
connection = perf.queries.wrap_connect(sqlite3.connect)(":memory:", check_same_thread=False)
sent = 0

@app.get("/values")
def values():
    global sent
    for number in range(sent, sent + per_request):
        connection.execute(f"SELECT {number}, 'name {number}' /* {number} */").fetchone()
    sent += per_request
    return "ok"

@app.get("/names")
def names():
    global sent
    for number in range(sent, sent + per_request):
        connection.execute(f"SELECT 1 AS a{number}").fetchone()
    sent += per_request
    return "ok"

def size():
    gc.collect()
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["RssAnon"].split()[0]) / 1024

sizes = {}
for path in ("/values", "/names"):
    get = Get(app, path)
    get.times(max(1, total // per_request // 4))
    readings = [size()]
    for _ in range(4):
        get.times(max(1, total // per_request // 4))
        readings.append(size())
    sizes[path[1:]] = readings
session = app.extensions["knitperf"]
session.jobs.publish_heartbeat()
document = session.documents.queries("run")
session.close()
rows = document["queries"]
print(json.dumps({
    "sizes": sizes, "rows": len(rows), "count": sum(row["count"] for row in rows), "sent": sent,
    "distinct": document["told_apart"]["query"], "dropped": document["dropped"],
    "rest": sum(row["count"] for row in rows if row["shape"] == "<other>"),
}))
"""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    total = 20_000 if quick else TOTAL
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(total), str(PER_REQUEST), folder], cwd=machine.ROOT,
            text=True, check=True, timeout=1800, stdout=subprocess.PIPE,
        )  # fmt: skip
    result = json.loads(process.stdout)
    for name, what in (("values", "values"), ("names", "fingerprints")):
        sizes = result["sizes"][name]
        grown = sizes[-1] - sizes[0]
        outcome.judge(f"literals.{name}", f"memory grown over {total:,} statements of different {what}",
                      "≤ 2 MB", f"{grown:+.2f} MB", grown <= 2.0)  # fmt: skip
    exact = result["rows"] <= result["distinct"] + 1 and result["count"] == result["sent"]
    exact = exact and result["rest"] > 0 and result["dropped"].get("query", 0) > 0
    outcome.judge("literals.counted", "fingerprints kept apart, and statements that share a row",
                  "both, exact", f"{result['rows'] - 1} apart, {result['rest']:,} of "
                  f"{result['count']:,} in one row", exact)  # fmt: skip
    outcome.grids.append(Grid("Memory without mapped files, evenly spaced", ("different", "MB"), tuple(
        (name, " ".join(f"{size:.1f}" for size in sizes)) for name, sizes in result["sizes"].items()
    )))  # fmt: skip
    return outcome
