"""Commands: they read the state of workers, send them commands, and never become one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.cli.commands import knitperf, offline
from flask_knitperf.render import terminal, terminal_memory
from flask_knitperf.render.wording import calm

TOKEN = "a-secret-of-many-characters"
ROW = {"max_ms": 4500.0, "judged": True, "thresholds": {"moderate_ms": 200}}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    mill = Flask("mill")
    mill.config.update(KNITPERF_STATE_DIR=str(tmp_path / "state"), KNITPERF_ACCESS_TOKEN=TOKEN)
    mill.config["KNITPERF_SAMPLER"] = False  # so that two reports are the same
    KnitPerf(mill)
    if "knitperf" not in mill.cli.commands:
        mill.cli.add_command(knitperf)

    @mill.get("/fast")
    def fast() -> str:
        return "x"

    @mill.get("/boom")
    def boom() -> str:
        raise ValueError("planted")

    @mill.get("/stock/<int:number>")
    def stock(number: int) -> str:
        return str(number)

    yield mill
    mill.extensions["knitperf"].close()


def run(app: Flask, *arguments: str) -> Any:
    return app.test_cli_runner().invoke(args=["knitperf", *arguments])


def serve(app: Flask, number: int = 30) -> None:
    client = app.test_client()
    for _ in range(number):
        client.get("/fast")
        client.get("/boom")


def test_the_report_is_shown_in_eighty_columns(app: Flask) -> None:
    serve(app)
    result = run(app, "report")
    assert result.exit_code == 0
    assert "Boom: all requests fail" in result.output
    assert "GET fast" in result.output
    assert max(len(line) for line in result.output.splitlines()) <= 80


def test_the_report_as_json_is_the_one_of_the_page(app: Flask) -> None:
    serve(app)
    printed = json.loads(run(app, "report", "--json").output)
    document = app.extensions["knitperf"].documents.report()
    assert printed["endpoints"] == document["endpoints"]
    assert printed["bottlenecks"] == document["bottlenecks"]


def test_the_report_names_the_option_that_switches_sampling_on(app: Flask) -> None:
    serve(app)
    assert "option KNITPERF_SAMPLER" in " ".join(run(app, "report").output.split())


def test_one_endpoint_is_shown_in_eighty_columns(app: Flask) -> None:
    serve(app)
    result = run(app, "why", "boom")
    assert result.exit_code == 0, result.output
    assert "Boom: all requests fail" in result.output and "Sampling is off" in result.output
    assert max(len(line) for line in result.output.splitlines()) <= 80
    assert json.loads(run(app, "why", "boom", "--json").output)["row"]["count"] == 30


@pytest.mark.slow
def test_one_endpoint_with_every_section(tmp_path: Path) -> None:
    import pandas as pd

    from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

    mill = Flask("mill")
    mill.config.update(KNITPERF_STATE_DIR=str(tmp_path / "own"), KNITPERF_SAMPLER=True)
    mill.config.update(KNITPERF_SLOW_MS=60_000, KNITPERF_MODERATE_MS=60_000)
    KnitPerf(mill)
    mill.add_url_rule("/reads", "reads", lambda: str(pd.read_csv(tmp_path / "yarn.csv"))[:0])
    client = mill.test_client()
    for rows in range(4):  # the file changes, so a slow read on a busy machine is not a finding
        (tmp_path / "yarn.csv").write_text("a\n1\n" + "1\n" * rows)
        client.get("/reads")
    session = mill.extensions["knitperf"]
    for wall, line in ((1, 5), (90_000, 9)):
        path = (
            StackFrame("mill/a.py", line, "f", True),
            StackFrame("pandas/io.py", 0, "read", False),
        )
        session.samples.add(("reads", "GET"), wall * 10**6, Sampled({path: [10**6, 0, 9, 0]}))
    session.close()
    words = ["why", "reads", "--state", str(tmp_path / "own")]
    result = CliRunner().invoke(offline, words)
    assert result.exit_code == 0, result.output
    for text in ("SLOW VS. NORMAL REQUESTS", "file_read", "yarn.csv", calm({**ROW, "max_ms": None}),
                 "SLOWEST REQUESTS"):  # fmt: skip
        assert text in result.output
    assert re.search(r"mill/a\.py:5 +read", result.output)
    assert max(len(line) for line in result.output.splitlines()) <= 80
    compared = CliRunner().invoke(offline, [*words, "--against", "run"]).output
    assert "mill/a.py:9" in compared.partition("CHANGES")[2]
    assert max(len(line) for line in compared.splitlines()) <= 80


def test_without_samples_or_requests_there_is_nothing_to_compare() -> None:
    against = {"window": {}, "row": None, "lines": []}
    assert terminal._changes(against, 80) == ["No data for this endpoint in that window."]
    assert terminal._changes({**against, "row": {}}, 80) == [
        "No samples in one of the two windows."
    ]


def test_an_endpoint_without_data_is_an_error_that_suggests_another(app: Flask) -> None:
    serve(app, 1)
    result = run(app, "why", "bom")
    assert result.exit_code == 1 and "did you mean boom?" in result.output


def test_the_memory_of_the_workers_is_shown(app: Flask) -> None:
    serve(app)
    app.extensions["knitperf"].memory_jobs.collector.record_gauges()
    assert "resident" in run(app, "memory").output
    assert json.loads(run(app, "memory", "--json").output)["workers"][0]["rss_mb"] > 1


def test_without_measurements_the_error_names_the_directory(app: Flask, tmp_path: Path) -> None:
    result = run(app, "report")
    assert result.exit_code == 1
    assert "no measurements" in result.output
    assert str(tmp_path / "state") in result.output


def test_without_the_extension_the_error_names_the_call_to_make() -> None:
    bare = Flask("bare")
    bare.cli.add_command(knitperf)
    assert "KnitPerf(app)" in run(bare, "report").output


@pytest.mark.slow
def test_reading_writes_no_measurement(app: Flask, tmp_path: Path) -> None:
    serve(app, 3)
    app.extensions["knitperf"].close()
    before = sorted(path.name for path in (tmp_path / "state").rglob("*"))
    run(app, "report")
    run(app, "memory")
    assert sorted(path.name for path in (tmp_path / "state").rglob("*")) == before
    assert not app.extensions["knitperf"].recorder.has_worker


def test_opening_prints_an_address_that_signs_in_once(app: Flask) -> None:
    address = run(app, "open", "--url", "https://mill.example/").output.strip()
    assert address.startswith("https://mill.example/perf/sign-in?code=")
    code = address.partition("code=")[2]
    client = app.test_client()
    assert client.post("/perf/sign-in", data={"code": code}).status_code == 303
    assert client.get("/perf/report").status_code == 200
    other = app.test_client()
    assert other.post("/perf/sign-in", data={"code": code}).status_code == 403


def test_opening_without_a_token_names_the_setting(tmp_path: Path) -> None:
    app = Flask("mill")
    app.config["KNITPERF_STATE_DIR"] = str(tmp_path)
    KnitPerf(app)
    app.cli.add_command(knitperf)
    result = run(app, "open")
    assert result.exit_code == 1
    assert "KNITPERF_ACCESS_TOKEN" in result.output


@pytest.mark.slow
def test_in_debug_mode_opening_needs_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    app = Flask("mill")
    app.config["KNITPERF_STATE_DIR"] = str(tmp_path)
    KnitPerf(app)
    app.cli.add_command(knitperf)
    code = run(app, "open").output.strip().partition("code=")[2]
    client = app.test_client()
    assert client.post("/perf/sign-in", data={"code": code}).status_code == 303
    assert client.get("/perf/report").status_code == 200
    app.extensions["knitperf"].close()


@pytest.mark.slow
def test_reset_reaches_every_worker_and_counts_them(app: Flask) -> None:
    serve(app)
    assert run(app, "reset").output == "1 of 1 worker\n"
    assert "0 requests" in run(app, "report", "--window", "run").output


@pytest.mark.slow
def test_reset_without_a_worker_is_an_error(app: Flask) -> None:
    serve(app, 1)
    app.extensions["knitperf"].close()
    result = run(app, "reset")
    assert result.exit_code == 1
    assert "no running worker found in" in result.output


def test_a_baseline_calls_every_get_and_lists_those_that_need_parameters(
    app: Flask, tmp_path: Path
) -> None:
    target = tmp_path / "baseline.json"
    result = run(app, "baseline", "--times", "4", "--output", str(target))
    assert result.exit_code == 0
    assert "GET /stock/<int:number>" in result.output
    saved = json.loads(target.read_text())
    counts = {row["endpoint"]: row["count"] for row in saved["endpoints"]}
    assert counts == {"fast": 4, "boom": 4}
    assert not (tmp_path / "state").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is full")
def test_a_baseline_that_cannot_be_saved_is_an_error_with_its_reason(app: Flask) -> None:
    result = run(app, "baseline", "--times", "1", "--output", "/dev/full")
    assert result.exit_code == 1
    assert "/dev/full cannot be written: No space left on device" in result.output


@pytest.mark.slow
def test_a_release_is_compared_with_the_one_before(tmp_path: Path, time: Any) -> None:
    for release, pause in (("1", 0.001), ("2", 0.004)):
        app = Flask("mill")
        app.config.update(KNITPERF_STATE_DIR=str(tmp_path), KNITPERF_RELEASE=release)
        KnitPerf(app)
        app.cli.add_command(knitperf)

        @app.get("/fast")
        def fast(pause: float = pause) -> str:
            time.pass_(pause)
            return "x"

        session = app.extensions["knitperf"]
        session.recorder.clock = time.clock()
        app.add_url_rule("/rare", "rare", lambda: "x")
        client = app.test_client()
        for path in ["/fast"] * 40 + ["/rare"] * int(release) * 3:
            client.get(path)
        session.close()
    result = run(app, "report", "--window", "run", "--against", "previous")
    assert "slower" in result.output
    rows = json.loads(run(app, "report", "--against", "previous", "--json").output)
    assert [row["change"] for row in rows] == ["slower", "too few"]
    assert [rows[1][name] for name in ("count_before", "count", "needed")] == [2, 5, 20]
    assert re.search(r"GET rare +too few +2 → 5 ", result.output)
    assert "that takes 20 before and now at least" in " ".join(result.output.split())
    assert max(map(len, result.output.splitlines())) <= 80


def test_without_a_run_before_there_is_nothing_to_compare_with(app: Flask) -> None:
    serve(app, 1)
    result = run(app, "report", "--against", "previous")
    assert result.exit_code == 1
    assert "no previous run" in result.output


@pytest.mark.slow
def test_a_state_directory_is_read_without_the_application(app: Flask, tmp_path: Path) -> None:
    serve(app)
    program = [sys.executable, "-m", "flask_knitperf"]
    for command in ("report", "memory"):
        process = subprocess.run(
            [*program, command, "--state", str(tmp_path / "state")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "worker" in process.stdout or "requests" in process.stdout
    shown = CliRunner().invoke(offline, ["report", "--state", str(tmp_path / "state"), "--json"])
    assert json.loads(shown.output)["endpoints"]
    shown = CliRunner().invoke(offline, ["memory", "--state", str(tmp_path / "state"), "--json"])
    assert json.loads(shown.output)["schema"] == "flask-knitperf/memory/1"
    missing = CliRunner().invoke(offline, ["report", "--state", str(tmp_path / "nothing")])
    assert missing.exit_code == 1
    assert "no measurements" in missing.output


def test_an_endpoint_that_was_slow_once_is_not_called_within_its_thresholds() -> None:
    assert calm(ROW).startswith("No verdict")
    assert calm(ROW) != calm({**ROW, "max_ms": None})


def test_an_endpoint_with_too_few_requests_is_not_called_within_its_thresholds(app: Flask) -> None:
    assert calm({**ROW, "max_ms": 4.5, "judged": False}).startswith("Not judged: that takes three")
    app.test_client().get("/fast")
    app.extensions["knitperf"].recorder.worker.fold()
    shown = app.test_cli_runner().invoke(args=["knitperf", "why", "fast"]).output
    assert "Not judged" in shown and "Within" not in shown


def test_a_period_is_not_called_the_life_of_the_server(app: Flask) -> None:
    """A window of five minutes, one after a reset, and a baseline begin later, or have no server."""
    app.test_client().get("/fast")
    app.extensions["knitperf"].recorder.worker.fold()
    shown = app.test_cli_runner().invoke(args=["knitperf", "report"]).output
    assert shown.splitlines()[0].startswith("1 request,") and "since" not in shown


# -- live frames -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_live_frames_are_listed_in_eighty_columns(app: Flask) -> None:
    frame = pd.DataFrame({"of the terminal": range(200_000)})
    serve(app, 3)
    result = run(app, "frames", "--live")
    assert result.exit_code == 0, result.output
    assert "200,000 × 1" in result.output
    assert "1 of 1 worker" in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert len(frame) == 200_000


@pytest.mark.slow
def test_live_frames_are_listed_as_json(app: Flask) -> None:
    frame = pd.DataFrame({"as json of the terminal": range(1_000)})
    serve(app, 3)
    (worker,) = json.loads(run(app, "frames", "--live", "--json").stdout)
    names = [row["names"] for row in worker["frames"]]
    assert list(frame.columns) in names
    assert worker["stalled_ms"] > 0


def test_without_a_worker_there_are_no_live_frames(app: Flask) -> None:
    result = run(app, "frames", "--live")
    assert result.exit_code == 1


def test_live_frames_without_a_large_one_are_not_listed_by_their_number() -> None:
    worker: Any = {
        "pid": 7, "count": 3, "mb": 0.001, "duplicated_mb": 0, "pinned_mb": 0, "stalled_ms": 2.7,
        "frozen": 0, "frames": [],
    }  # fmt: skip
    text = terminal_memory.live_frames([worker])
    assert "Each is smaller than 10.0 KB, so none is listed." in text and "more" not in text


def test_files_and_workers_are_one_command(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "yarn.csv").write_text("a\n" + "1\n" * 99, encoding="utf-8")
    assert "99 rows × 1 column" in run(app, "frames", str(tmp_path / "yarn.csv")).output
    neither, both = run(app, "frames"), run(app, "frames", "--live", str(tmp_path / "yarn.csv"))
    assert neither.exit_code == both.exit_code == 2
    assert "name files to plan" in neither.output and "either files or --live" in both.output


def test_without_a_listing_the_text_states_that() -> None:
    assert terminal_memory.live_frames([]) == "No worker has listed its DataFrames.\n"
