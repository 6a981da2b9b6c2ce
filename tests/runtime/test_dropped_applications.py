"""An application that is not referenced any more takes its thread, files and measurements with it."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client

from flask_knitperf import KnitPerf
from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.reports.offline import Offline
from flask_knitperf.storage.atomic_files import is_locked
from tests.waiting import wait_for

from .applications import our_threads


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    wait_for(lambda: not our_threads())


def _application(folder: Path, perf: KnitPerf | None = None, **config: Any) -> Flask:
    app = Flask("tenant")
    app.config.update(
        SECRET_KEY="tenant", KNITPERF_STATE_DIR=str(folder), KNITPERF_SAMPLER=True, **config
    )
    app.add_url_rule("/", "index", lambda: "x")
    (KnitPerf() if perf is None else perf).init_app(app)
    return app


def _served(app: Flask) -> weakref.ref[Flask]:
    assert Client(app).get("/").data == b"x"
    return weakref.ref(app)


def test_its_threads_end_and_its_requests_stay_counted(folder: Path) -> None:
    app = _application(folder)
    gone = _served(app)
    del app
    gc.collect()
    assert gone() is None
    wait_for(lambda: not our_threads())
    assert not any(is_locked(path) for path in folder.glob("*/w-*.lock"))
    report = Offline(folder).report("run")
    assert [(row["endpoint"], row["count"]) for row in report["endpoints"]] == [("index", 1)]


def test_the_extension_that_initialised_it_does_not_keep_it(folder: Path) -> None:
    perf = KnitPerf()
    gone = _served(_application(folder, perf))
    gc.collect()
    assert gone() is None


def test_one_that_testing_keeps_in_memory_is_closed_before_the_next(folder: Path) -> None:
    gone = _served(_application(folder, TESTING=True))
    gc.collect()
    assert gone() is None and our_threads() == []
    _application(folder, TESTING=True)
    assert WATCH not in gc.callbacks


def test_one_that_failed_and_showed_a_page_is_collected_too(folder: Path) -> None:
    app = _application(folder, KNITPERF_ACCESS_TOKEN="a-long-enough-token")
    app.add_url_rule("/fail", "fail", lambda: 1 / 0)
    app.logger.disabled = True  # pytest would keep the record, and with it the application
    client = Client(app)
    assert client.get("/fail").status_code == 500
    bearer = {"Authorization": "Bearer a-long-enough-token"}
    assert client.get("/perf/", headers=bearer).status_code == 200
    gone = weakref.ref(app)
    del app, client
    gc.collect()
    assert gone() is None


def test_its_wsgi_application_alone_keeps_it_alive_and_served(folder: Path) -> None:
    served = _application(folder).wsgi_app
    gc.collect()
    assert Client(served).get("/").data == b"x"
    assert len(our_threads()) == 2
    del served
    gc.collect()


@pytest.mark.slow
def test_many_that_come_and_go_leave_no_thread_and_no_descriptor(folder: Path) -> None:
    _served(_application(folder))
    gc.collect()
    wait_for(lambda: not our_threads())
    before = len(os.listdir("/proc/self/fd"))
    for number in range(12):
        _served(_application(folder / str(number % 3)))
        gc.collect()
    wait_for(lambda: not our_threads())
    assert len(os.listdir("/proc/self/fd")) <= before
