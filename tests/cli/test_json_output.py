"""JSON of every command goes out alone, whatever the application prints; and to a file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd
import pytest
from flask import Flask

from flask_knitperf.cli.commands import knitperf
from flask_knitperf.cli.offline import offline

NOISY = """
import atexit, logging, os, subprocess, sys
logging.basicConfig(stream=sys.stdout, level="INFO")
logging.info("mill loads")
print("mill loads")
os.write(1, b"mill loads\\n")
subprocess.run([sys.executable, "-c", "print('mill loads')"])
atexit.register(print, "mill ends")

from flask import Flask
from flask_knitperf import KnitPerf

app = Flask("mill")
app.config.update(KNITPERF_STATE_DIR={state!r}, KNITPERF_SAMPLER=False)
KnitPerf(app)

@app.get("/fast")
def fast():
    print("mill serves")
    return "x"
"""
COMMANDS = [
    ["report"], ["why", "fast"], ["queries"], ["cache"], ["memory"], ["frames", "--live"],
    ["baseline", "--times", "2"], ["gc", "/fast", "--requests", "5"],
    ["frames", "yarn.csv", "yarn.csv"], ["report", "--against", "previous"],
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Folder of an application that prints, with a live worker in this process and a run before."""
    state = str(tmp_path / "state")
    (tmp_path / "noisy.py").write_text(NOISY.format(state=state), encoding="utf-8")
    (tmp_path / "yarn.csv").write_text("a\n" + "1\n" * 99, encoding="utf-8")
    sessions = []
    for release in ("1", "2"):
        mill = Flask("mill")
        mill.config.update(KNITPERF_STATE_DIR=state, KNITPERF_SAMPLER=False)
        mill.config["KNITPERF_RELEASE"] = release
        from flask_knitperf import KnitPerf

        KnitPerf(mill)
        mill.add_url_rule("/fast", "fast", lambda: "x")
        mill.test_client().get("/fast")
        sessions.append(mill.extensions["knitperf"])
    yield tmp_path
    for session in sessions:
        session.close()


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "flask", "--app", "noisy:app", "knitperf", *words]
    return subprocess.run(
        program, cwd=folder, capture_output=True, check=False, text=True, encoding="utf-8"
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_json_is_alone_on_the_standard_output(folder: Path, words: list[str]) -> None:
    process = call(folder, *words, "--json")
    assert process.returncode == 0, process.stderr
    assert isinstance(json.loads(process.stdout), dict | list)
    if "yarn.csv" in words:  # files need no application
        assert "mill" not in process.stderr
        assert "2/2  yarn.csv" in process.stderr
    else:
        assert process.stderr.count("mill loads") == 4
        assert "mill ends" in process.stderr


@pytest.mark.slow
def test_text_leaves_the_output_of_the_application_where_it_is(folder: Path) -> None:
    assert call(folder, "report").stdout.count("mill loads") == 4


@pytest.mark.slow
def test_json_is_written_to_a_file_beside_the_text(folder: Path) -> None:
    process = call(folder, "report", "-o", "report.json")
    assert "GET fast" in process.stdout
    assert "saved to report.json" in process.stderr
    assert json.loads((folder / "report.json").read_text())["endpoints"][0]["endpoint"] == "fast"
    both = call(folder, "report", "--json", "--output", "both.json")
    assert (
        json.loads(both.stdout)["endpoints"]
        == json.loads((folder / "both.json").read_text())["endpoints"]
    )


@pytest.mark.slow
def test_a_file_in_a_missing_folder_is_refused_before_the_work(folder: Path) -> None:
    process = call(folder, "report", "-o", "none/report.json")
    assert process.returncode == 2
    assert "the folder 'none' does not exist" in process.stderr
    assert "mill loads" not in process.stdout


@pytest.mark.slow
def test_a_file_that_is_planned_is_not_overwritten(folder: Path) -> None:
    (folder / "link.csv").symlink_to(folder / "yarn.csv")
    process = call(folder, "frames", "yarn.csv", "-o", "link.csv")
    assert process.returncode == 2 and "would overwrite link.csv" in process.stderr
    assert (folder / "yarn.csv").read_text().startswith("a\n1\n")


@pytest.mark.slow
def test_a_reader_that_ends_early_is_not_an_error_with_a_traceback(folder: Path) -> None:
    command = f"{sys.executable} -m flask --app noisy:app knitperf memory --json | true"
    process = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, check=False, text=True
    )
    assert "Traceback" not in process.stderr and "BrokenPipe" not in process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", "<&-"])
def test_json_is_printed_without_other_streams(folder: Path, closed: str) -> None:
    command = f"{sys.executable} -m flask --app noisy:app knitperf memory --json {closed}"
    process = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, check=False, text=True
    )
    assert json.loads(process.stdout)["schema"] == "flask-knitperf/memory/1"


@pytest.mark.slow
def test_a_process_that_calls_a_command_keeps_its_standard_output(tmp_path: Path) -> None:
    (tmp_path / "yarn.csv").write_text("a\n1\n", encoding="utf-8")
    code = (
        "from flask_knitperf.cli.offline import offline\n"
        "offline(['frames', 'yarn.csv', '--json'], standalone_mode=False)\n"
        "print('after')"
    )
    (tmp_path / "nightly.py").write_text(code, encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "nightly.py", "frames"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.endswith("]\nafter\n")


def commands_of(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", one) for inner, one in commands_of(command))
        else:
            yield name, command


@pytest.mark.parametrize("group", [knitperf, offline], ids=["flask knitperf", "flask_knitperf"])
def test_every_command_that_prints_a_document_has_both_options(group: click.Group) -> None:
    without = {
        name for name, command in commands_of(group)
        if not {"as_json", "output"} <= {option.name for option in command.params}
    }  # fmt: skip
    texts = {  # each line of an export is JSON
        "open", "reset", "history export", "history prune", "alerts test", "alerts backtest",
        "alerts silence", "cache warm",
    }  # fmt: skip
    assert without == (texts if group is knitperf else set())


# -- live frames -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_live_frames_are_listed_without_the_application(folder: Path) -> None:
    frame = pd.DataFrame({"of the folder": range(200_000)})
    program = [sys.executable, "-m", "flask_knitperf", "frames", "--live"]
    listed = subprocess.run(
        [*program, "--state", str(folder / "state")], capture_output=True, check=False, text=True
    )
    assert "200,000 × 1" in listed.stdout, listed.stderr
    assert len(frame) == 200_000
    missing = subprocess.run(program, capture_output=True, check=False, text=True)
    assert missing.returncode == 2
    assert "--live needs --state DIR" in missing.stderr
