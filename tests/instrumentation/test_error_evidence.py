"""Unhandled exceptions are recorded with the line of the application that led to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.instrumentation.flask_hooks import raised_at


def parse() -> object:
    return json.loads("{")


@pytest.mark.slow
def test_the_line_is_own_code_below_which_a_library_failed_wherever_it_lies(tmp_path: Path) -> None:
    app = Flask("mill", root_path=str(tmp_path))  # this file is not below the application's folder
    app.config.update(KNITPERF_STATE_DIR=str(tmp_path / "state"), PROPAGATE_EXCEPTIONS=False)
    perf = KnitPerf(app)
    app.get("/quote", endpoint="quote")(lambda: str(parse()))
    client = app.test_client()
    for _ in range(5):
        assert client.get("/quote").status_code == 500
    with app.app_context():
        [finding] = perf.report("run")["bottlenecks"]
    app.extensions["knitperf"].close()
    line = parse.__code__.co_firstlineno + 1
    assert finding["why"][0]["where"] == f"instrumentation/test_error_evidence.py:{line}"


def test_without_own_code_it_is_the_innermost_frame() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        parse()
    traceback = caught.value.__traceback__
    while traceback is not None and "json" not in traceback.tb_frame.f_code.co_filename:
        traceback = traceback.tb_next
    where = raised_at(traceback)
    assert where is not None and where.startswith("json/decoder.py:")
    assert raised_at(None) is None
