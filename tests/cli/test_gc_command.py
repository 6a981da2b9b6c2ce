"""The command that measures the cost of garbage collection for one address."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flask_knitperf.core.settings import HUNT
from flask_knitperf.experiments import gc_replay
from flask_knitperf.experiments.gc_replay import Trial, best
from flask_knitperf.experiments.gc_trial import Setting, SettingCost
from flask_knitperf.experiments.in_process import Request
from flask_knitperf.render import gc_trial
from tests.conftest import MEASURED


def tried(
    name: str, pause_ms: float, request_ms: float = 30.0, code: str = "gc.freeze()"
) -> SettingCost:
    return SettingCost(
        Setting(name, code, "freeze" in code, 700), pause_ms, request_ms, 2.0, 5 << 20
    )


NOW = tried("as it is", 20.0, code="")


MILL = """
from flask import Flask
from flask_knitperf import KnitPerf

app = Flask("mill")
app.config["KNITPERF_STATE_DIR"] = "state"
KnitPerf(app)

@app.get("/seats")
def seats():
    last = None
    for _ in range(3_000):
        seat = [last, None]
        if last is not None:
            last[1] = seat
        last = seat
    return "seated"
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a new process: a trial collects all objects of its process."""
    (folder / "app.py").write_text(MILL)
    return subprocess.run(
        [sys.executable, "-m", "flask", "knitperf", "gc", *arguments],
        cwd=folder, env=MEASURED, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_each_setting_is_shown_in_eighty_columns(tmp_path: Path) -> None:
    done = run(tmp_path, "/seats", "--requests", "5")
    assert done.returncode == 0, done.stderr
    assert "Garbage collection pauses GET /seats for" in done.stdout
    assert "frozen once warm" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_it_is_json_too_and_nothing_is_recorded(tmp_path: Path) -> None:
    document = json.loads(run(tmp_path, "/seats", "--requests", "5", "--json").stdout)
    assert document["settings"][0]["name"] == "as it is"
    assert document["settings"][0]["collections"] > 0
    assert set(document["statuses"]) == {"200"}
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_an_address_that_fails_is_not_measured(tmp_path: Path) -> None:
    done = run(tmp_path, "/nowhere")
    assert done.returncode == 1
    assert "/nowhere responds with 404" in done.stderr


@pytest.mark.slow
def test_an_argument_that_is_not_an_address_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "nowhere").returncode == 2


def test_an_application_that_is_loaded_afterwards_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(HUNT, raising=False)
    monkeypatch.setattr(gc_replay.os, "environ", environ := {})
    gc_replay.switch_off()
    assert environ == {HUNT: "gc"}


def test_the_setting_that_saves_most_is_advised() -> None:
    assert best([NOW, tried("a", 9.0), tried("b", 4.0), tried("c", 5.0)]) == tried("b", 4.0)


@pytest.mark.parametrize(
    ("now", "after"),
    [(20.0, 19.5), (0.9, 0.0), (2.0, 0.5)],
    ids=["little", "short", "a small share"],
)
def test_a_setting_that_saves_little_is_not_advised(now: float, after: float) -> None:
    request = 100.0 if now == 2.0 else 30.0
    assert best([tried("as it is", now, request, ""), tried("a", after, request)]) is None


def test_advice_has_the_pause_before_and_after_and_its_price() -> None:
    trial = Trial([NOW, tried("frozen", 4.0, 14.0)], {200: 9})
    text = " ".join(gc_trial.text(Request("/seats"), trial).split())
    assert "pauses GET /seats for 20 ms of 30 ms. With gc.freeze() once" in text
    assert "it is 4.0 ms; up to 5.0 MB of garbage wait" in text
    assert "KNITPERF_GC_FREEZE = True" in text


def test_without_a_setting_that_helps_there_is_no_advice() -> None:
    trial = Trial([NOW, tried("a", 19.9)], {200: 9})
    assert "No setting saves" in gc_trial.text(Request("/seats"), trial)
    assert gc_trial.document(Request("/seats"), trial)["advice"] is None
