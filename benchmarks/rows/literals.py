"""A million statements that differ in the values written into them, and as many of different shape.

One process serves requests that send a thousand statements each to a database in memory. First values
are written into the text, so there are a million texts of one shape; then names differ too, so there
are far more shapes than are told apart. Growth counts once what is remembered is full, a quarter in;
the process may not grow with either, and the report must say what was not told apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from ..harness import machine
from ..harness.outcome import Grid, Outcome

TOTAL = 1_000_000
EACH = 1000
_PROGRAM = """
import gc, json, sqlite3, sys
from flask import Flask
from flask_knitperf import KnitPerf
from benchmarks.harness.wsgi import Get

total, each, state = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
app = Flask("literals")
app.config.update(KNITPERF_STATE_DIR=state, KNITPERF_SAMPLER=False)
perf = KnitPerf(app)
connection = perf.queries.wrap_connect(sqlite3.connect)(":memory:", check_same_thread=False)
sent = 0

@app.get("/values")
def values():
    global sent
    for number in range(sent, sent + each):
        connection.execute(f"SELECT {number}, 'name {number}' /* {number} */").fetchone()
    sent += each
    return "ok"

@app.get("/names")
def names():
    global sent
    for number in range(sent, sent + each):
        connection.execute(f"SELECT 1 AS a{number}").fetchone()
    sent += each
    return "ok"

def size():
    gc.collect()
    with open("/proc/self/status") as file:
        said = dict(line.split(":", 1) for line in file)
    return int(said["RssAnon"].split()[0]) / 1024

sizes = {}
for path in ("/values", "/names"):
    get = Get(app, path)
    get.times(max(1, total // each // 4))
    found = [size()]
    for _ in range(4):
        get.times(max(1, total // each // 4))
        found.append(size())
    sizes[path[1:]] = found
session = app.extensions["knitperf"]
session.jobs.publish_heartbeat()
document = session.documents.queries("run")
session.close()
rows = document["queries"]
print(json.dumps({
    "sizes": sizes, "rows": len(rows), "count": sum(row["count"] for row in rows), "sent": sent,
    "told_apart": document["told_apart"]["query"], "dropped": document["dropped"],
    "rest": sum(row["count"] for row in rows if row["shape"] == "<other>"),
}))
"""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    total = 20_000 if quick else TOTAL
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(total), str(EACH), folder], cwd=machine.ROOT,
            text=True, check=True, timeout=1800, stdout=subprocess.PIPE,
        )  # fmt: skip
    found = json.loads(done.stdout)
    for name, what in (("values", "values"), ("names", "shapes")):
        sizes = found["sizes"][name]
        grown = sizes[-1] - sizes[0]
        outcome.judge(f"literals.{name}", f"memory grown over {total:,} statements of different {what}",
                      "≤ 2 MB", f"{grown:+.2f} MB", grown <= 2.0)  # fmt: skip
    told = found["rows"] <= found["told_apart"] + 1 and found["count"] == found["sent"]
    told = told and found["rest"] > 0 and found["dropped"].get("query", 0) > 0
    outcome.judge("literals.told", "the number that is told apart, and what was not", "both, exact",
                  f"{found['rows'] - 1} apart, {found['rest']:,} of {found['count']:,} in one row",
                  told)  # fmt: skip
    outcome.grids.append(Grid("Memory that is no file's, evenly spaced", ("different", "MB"), tuple(
        (name, " ".join(f"{size:.1f}" for size in sizes)) for name, sizes in found["sizes"].items()
    )))  # fmt: skip
    outcome.details = found
    return outcome
