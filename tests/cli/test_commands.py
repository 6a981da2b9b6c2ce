"""The terminal: reads what workers left, asks them to begin anew, and never becomes one."""

from __future__ import annotations

import json
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
from flask_knitperf.render import terminal

TOKEN = "a-secret-of-many-characters"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    made = Flask("mill")
    made.config.update(KNITPERF_STATE_DIR=str(tmp_path / "state"), KNITPERF_ACCESS_TOKEN=TOKEN)
    made.config["KNITPERF_SAMPLER"] = False  # so that two reports are the same
    KnitPerf(made)
    if "knitperf" not in made.cli.commands:
        made.cli.add_command(knitperf)

    @made.get("/fast")
    def fast() -> str:
        return "x"

    @made.get("/boom")
    def boom() -> str:
        raise ValueError("planted")

    @made.get("/stock/<int:number>")
    def stock(number: int) -> str:
        return str(number)

    yield made
    made.extensions["knitperf"].close()


def run(app: Flask, *words: str) -> Any:
    return app.test_cli_runner().invoke(args=["knitperf", *words])


def serve(app: Flask, number: int = 30) -> None:
    client = app.test_client()
    for _ in range(number):
        client.get("/fast")
        client.get("/boom")


def test_the_report_is_shown_in_eighty_columns(app: Flask) -> None:
    serve(app)
    found = run(app, "report")
    assert found.exit_code == 0
    assert "Boom: every request fails" in found.output
    assert "GET fast" in found.output
    assert max(len(line) for line in found.output.splitlines()) <= 80


def test_the_report_as_json_is_the_one_of_the_page(app: Flask) -> None:
    serve(app)
    found = json.loads(run(app, "report", "--json").output)
    shown = app.extensions["knitperf"].documents.report()
    assert found["endpoints"] == shown["endpoints"]
    assert found["bottlenecks"] == shown["bottlenecks"]


def test_one_endpoint_is_opened_up_in_eighty_columns(app: Flask) -> None:
    serve(app)
    found = run(app, "why", "boom")
    assert found.exit_code == 0, found.output
    assert "Boom: every request fails" in found.output and "not sampled" in found.output
    assert max(len(line) for line in found.output.splitlines()) <= 80
    assert json.loads(run(app, "why", "boom", "--json").output)["row"]["count"] == 30


def test_one_endpoint_with_all_there_is_to_say(tmp_path: Path) -> None:
    import pandas as pd

    from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

    made = Flask("mill")
    made.config.update(KNITPERF_STATE_DIR=str(tmp_path / "own"), KNITPERF_SAMPLER=True)
    made.config.update(KNITPERF_SLOW_MS=60_000, KNITPERF_MODERATE_MS=60_000)
    KnitPerf(made)
    made.add_url_rule("/reads", "reads", lambda: str(pd.read_csv(tmp_path / "yarn.csv"))[:0])
    client = made.test_client()
    for rows in range(
        4
    ):  # it changes, so however long a read takes on a busy machine is no finding
        (tmp_path / "yarn.csv").write_text("a\n1\n" + "1\n" * rows)
        client.get("/reads")
    session = made.extensions["knitperf"]
    for wall, line in ((1, 5), (90_000, 9)):
        path = (StackFrame("mill/a.py", line, "f", True), StackFrame("pandas/io.py", 0, "read", False))
        session.samples.add(("reads", "GET"), wall * 10**6, Sampled({path: [10**6, 0, 1, 0]}))
    session.close()
    words = ["why", "reads", "--state", str(tmp_path / "own")]
    found = CliRunner().invoke(offline, words)
    assert found.exit_code == 0, found.output
    for said in ("mill/a.py:5 read", "WHAT SLOW REQUESTS DO OTHERWISE", "file_read", "yarn.csv",
                 "It keeps within", "SLOWEST REQUESTS"):  # fmt: skip
        assert said in found.output
    assert max(len(line) for line in found.output.splitlines()) <= 80
    compared = CliRunner().invoke(offline, [*words, "--against", "run"]).output
    assert "CHANGED SINCE" in compared and "mill/a.py:9" in compared.partition("CHANGED")[2]
    assert max(len(line) for line in compared.splitlines()) <= 80


def test_without_samples_or_requests_then_there_is_nothing_to_compare() -> None:
    told = {"window": {}, "row": None, "lines": []}
    assert terminal._changed(told, 80) == ["nothing was measured of it then"]
    assert terminal._changed({**told, "row": {}}, 80) == ["no samples in one of the two windows"]


def test_an_endpoint_nobody_called_is_not_explained(app: Flask) -> None:
    serve(app, 1)
    found = run(app, "why", "bom")
    assert found.exit_code == 1 and "did you mean boom?" in found.output


def test_the_memory_of_the_workers_is_shown(app: Flask) -> None:
    serve(app)
    app.extensions["knitperf"].memory_jobs.collector.record_gauges()
    assert "resident" in run(app, "memory").output
    assert json.loads(run(app, "memory", "--json").output)["workers"][0]["rss_mb"] > 1


def test_without_measurements_it_says_where_it_looked(app: Flask, tmp_path: Path) -> None:
    found = run(app, "report")
    assert found.exit_code == 1
    assert "no measurements" in found.output
    assert str(tmp_path / "state") in found.output


def test_an_application_without_the_extension_is_told_what_to_do() -> None:
    bare = Flask("bare")
    bare.cli.add_command(knitperf)
    assert "KnitPerf(app)" in run(bare, "report").output


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


def test_opening_without_a_token_says_how_to_make_one(tmp_path: Path) -> None:
    app = Flask("mill")
    app.config["KNITPERF_STATE_DIR"] = str(tmp_path)
    KnitPerf(app)
    app.cli.add_command(knitperf)
    found = run(app, "open")
    assert found.exit_code == 1
    assert "KNITPERF_ACCESS_TOKEN" in found.output


def test_resetting_asks_every_worker_and_says_how_many_did_it(app: Flask) -> None:
    serve(app)
    assert "1 of 1 workers" in run(app, "reset").output
    assert "0 requests" in run(app, "report", "--window", "run").output


def test_resetting_without_a_worker_says_so(app: Flask) -> None:
    serve(app, 1)
    app.extensions["knitperf"].close()
    found = run(app, "reset")
    assert found.exit_code == 1
    assert "no worker is running" in found.output


def test_a_baseline_calls_every_get_and_lists_those_that_need_parameters(
    app: Flask, tmp_path: Path
) -> None:
    target = tmp_path / "baseline.json"
    found = run(app, "baseline", "--times", "4", "--output", str(target))
    assert found.exit_code == 0
    assert "GET /stock/<int:number>" in found.output
    saved = json.loads(target.read_text())
    counts = {row["endpoint"]: row["count"] for row in saved["endpoints"]}
    assert counts == {"fast": 4, "boom": 4}
    assert not (tmp_path / "state").exists()


def test_a_baseline_that_cannot_be_saved_says_why(app: Flask, tmp_path: Path) -> None:
    found = run(app, "baseline", "--times", "1", "--output", str(tmp_path / "no" / "file"))
    assert found.exit_code == 1
    assert "cannot be written" in found.output


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
        for _ in range(40):
            app.test_client().get("/fast")
        session.close()
    found = run(app, "report", "--window", "run", "--against", "previous")
    assert "slower" in found.output
    rows = json.loads(run(app, "report", "--against", "previous", "--json").output)
    assert [row["change"] for row in rows] == ["slower"]


def test_without_a_run_before_there_is_nothing_to_compare_with(app: Flask) -> None:
    serve(app, 1)
    found = run(app, "report", "--against", "previous")
    assert found.exit_code == 1
    assert "no previous run" in found.output


def test_a_state_directory_is_read_without_the_application(app: Flask, tmp_path: Path) -> None:
    serve(app)
    words = [sys.executable, "-m", "flask_knitperf"]
    for command in ("report", "memory"):
        done = subprocess.run(
            [*words, command, "--state", str(tmp_path / "state")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "worker" in done.stdout or "requests" in done.stdout
    from click.testing import CliRunner

    shown = CliRunner().invoke(offline, ["report", "--state", str(tmp_path / "state"), "--json"])
    assert json.loads(shown.output)["endpoints"]
    shown = CliRunner().invoke(offline, ["memory", "--state", str(tmp_path / "state"), "--json"])
    assert json.loads(shown.output)["schema"] == "flask-knitperf/memory/1"
    missing = CliRunner().invoke(offline, ["report", "--state", str(tmp_path / "nothing")])
    assert missing.exit_code == 1
    assert "no measurements" in missing.output


def test_what_was_slow_only_at_first_is_not_said_to_be_within_its_thresholds() -> None:
    row = {"max_ms": 4500.0, "thresholds": {"moderate_ms": 200}}
    assert terminal.calm(row).startswith("No verdict")
    assert terminal.calm({**row, "max_ms": None}) == "It keeps within its thresholds."


# -- live frames -------------------------------------------------------------------------------------


def test_live_frames_are_listed_in_eighty_columns(app: Flask) -> None:
    frame = pd.DataFrame({"of the terminal": range(200_000)})
    serve(app, 3)
    found = run(app, "frames", "--live")
    assert found.exit_code == 0, found.output
    assert "200000 x 1" in found.output.replace(",", "")
    assert "1 of 1 workers" in found.output
    assert max(map(len, found.output.splitlines())) <= 80
    assert len(frame) == 200_000


def test_live_frames_are_listed_as_json(app: Flask) -> None:
    frame = pd.DataFrame({"as json of the terminal": range(1_000)})
    serve(app, 3)
    (told,) = json.loads(run(app, "frames", "--live", "--json").stdout)
    names = [row["names"] for row in told["frames"]]
    assert list(frame.columns) in names
    assert told["stalled_ms"] > 0


def test_without_a_worker_there_are_no_live_frames(app: Flask) -> None:
    found = run(app, "frames", "--live")
    assert found.exit_code == 1


def test_what_nobody_listed_is_said() -> None:
    assert terminal.live_frames([]) == "No worker has listed its frames.\n"
