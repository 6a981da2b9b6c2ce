"""Under gevent everything is recorded except figures that need system threads, and that is reported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MEASURED

ROOT = Path(__file__).parents[2]
SCRIPT = """
from gevent import monkey
monkey.patch_all()

import json, sys, time
from urllib.request import Request, urlopen

import gevent
from flask import Flask
from gevent.pywsgi import WSGIServer

from flask_knitperf import KnitPerf

app = Flask("mill")
app.config.update(KNITPERF_STATE_DIR=sys.argv[1], KNITPERF_SAMPLER=True)
KnitPerf(app)

@app.get("/waits")
def waits():
    time.sleep(0.05)
    return "ok"

server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()
address = f"http://127.0.0.1:{server.server_port}/waits"
clients = [gevent.spawn(lambda: urlopen(address).read()) for _ in range(20)]
gevent.joinall(clients)
session = app.extensions["knitperf"]
time.sleep(1.5)  # the housekeeper's first turns
print(json.dumps([[client.value.decode() for client in clients], session.documents.report("run")]))
session.close()
"""


@pytest.mark.slow
def test_concurrent_waits_are_counted_and_unknown_figures_are_omitted(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "state")],
        cwd=ROOT, env=MEASURED, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers, report = json.loads(done.stdout)
    assert answers == ["ok"] * 20
    [row] = [row for row in report["endpoints"] if row["endpoint"] == "waits"]
    assert (row["count"], row["status"]["2xx"]) == (20, 20) and row["min_ms"] >= 49
    assert (row["cpu_ms"], row["lines"]) == (None, [])
    assert [(part["name"], part["count"]) for part in row["parts"]] == [("sleep", 20)]
    [message] = report["self"]["degraded"]
    assert message.endswith("stacks are not sampled: threads here are gevent's or eventlet's")
