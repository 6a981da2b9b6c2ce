"""An application in a sub-interpreter: it counts, and its reports state the limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_knitperf.core.server_limits import INTERPRETER
from tests.core.subinterpreters import in_subinterpreter

_CODE = """
import warnings
warnings.simplefilter("ignore")
from flask import Flask
from flask_knitperf import KnitPerf
app = Flask("mill")
app.config["KNITPERF_STATE_DIR"] = {state!r}
perf = KnitPerf(app)
app.add_url_rule("/", "index", lambda: "ok")
client = app.test_client()
for _ in range(20):
    client.get("/")
session = app.extensions["knitperf"]
session.jobs.publish_heartbeat()
report = perf.report("run")
print(report["endpoints"][0]["count"], *report["self"]["degraded"], sep="\\n")
session.close()
"""


@pytest.mark.slow
def test_it_counts_and_states_that_numpy_does_not_support_it(tmp_path: Path) -> None:
    count, sentence = in_subinterpreter(_CODE.format(state=str(tmp_path / "state"))).split("\n")
    assert count == "20"
    assert sentence.endswith(INTERPRETER)
