"""The housekeeper thread of an application: it survives jobs that fail or hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.recording.housekeeper import Housekeeper, Job

from .applications import run_python


def test_a_failing_job_does_not_end_the_thread() -> None:
    failures: list[str] = []
    succeeded = threading.Event()

    def fail() -> None:
        raise ValueError("no yarn")

    housekeeper = Housekeeper(
        [Job(0.01, fail, name="fold")], lambda name, error: failures.append(name)
    )
    housekeeper.start()
    housekeeper.add(Job(0.01, lambda: succeeded.set() if failures else None))
    worked = succeeded.wait(10)
    housekeeper.stop()
    assert worked and failures[0] == "fold"


def test_a_job_that_keeps_failing_backs_off_exponentially() -> None:
    seen: list[float] = []
    now = 0.0

    def fail() -> None:
        seen.append(now)
        raise ValueError

    housekeeper = Housekeeper([Job(1.0, fail)], lambda name, error: None)
    while now < 70:
        housekeeper.tick(now)
        now += 1.0
    assert seen == [0, 2, 6, 14, 30, 62]


def test_a_failing_job_is_reported(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mill = make_app()
    noted = threading.Event()
    failed = mill.session.recorder.failed

    def note(part: str, error: BaseException) -> None:
        failed(part, error)
        noted.set()

    def fail() -> None:
        raise ValueError("no yarn")

    monkeypatch.setattr(mill.session.recorder, "failed", note)
    mill.session.recorder.every(0.01, fail)
    mill.get("/")
    assert noted.wait(10) and "fail failed" in mill.degraded()


def test_stopping_ends_a_waiting_thread() -> None:
    before = set(threading.enumerate())
    housekeeper = Housekeeper([Job(3600.0, lambda: None)], lambda name, error: None)
    housekeeper.start()
    housekeeper.stop(10)
    assert not set(threading.enumerate()) - before


def test_stopping_does_not_wait_for_a_hanging_job() -> None:
    started, go = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        go.wait(60)

    before = set(threading.enumerate())
    housekeeper = Housekeeper([Job(1.0, hang)], lambda name, error: None)
    housekeeper.start()
    started.wait(10)
    housekeeper.stop(0.05)
    hanging = set(threading.enumerate()) - before
    go.set()
    for thread in hanging:
        thread.join(10)
    assert len(hanging) == 1


@pytest.mark.slow
def test_a_job_that_outlives_its_session_does_not_start_it_again(mill: Any) -> None:
    started, go = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        go.wait(60)
        mill.session.jobs.publish_heartbeat()

    mill.session.recorder.every(1.0, hang)
    mill.get("/")
    started.wait(10)
    hanging = [t for t in threading.enumerate() if t.name.startswith("flask_knitperf")]
    mill.session.close()
    go.set()
    for thread in hanging:
        thread.join(10)
    assert (mill.session.recorder.has_worker, mill.session.recorder.failures) == (False, {})


@pytest.mark.slow
def test_a_process_ends_despite_a_hanging_job(tmp_path: Path) -> None:
    code = """
import sys, threading
from flask import Flask
from flask_knitperf import KnitPerf
app = Flask("mill")
app.config["KNITPERF_STATE_DIR"] = sys.argv[1]
KnitPerf(app)
started = threading.Event()
def hang():
    started.set()
    threading.Event().wait()
app.extensions["knitperf"].recorder.every(1.0, hang)
app.test_client().get("/")
assert started.wait(10)
print("ends")
"""
    process = run_python([code, str(tmp_path / "state")])
    assert (process.returncode, process.stdout.strip()) == (0, "ends")
