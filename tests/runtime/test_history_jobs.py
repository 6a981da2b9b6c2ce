"""An application writes its history, reads long windows of it, and runs on where it cannot."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.alerts import watch
from flask_knitperf.core.errors import HistoryError, StateError
from flask_knitperf.history import writer
from flask_knitperf.history.fork_gate import FORK_GATE
from flask_knitperf.history.resolutions import FINEST
from flask_knitperf.runtime import history_jobs
from flask_knitperf.runtime.history_jobs import HistoryJobs
from tests.conftest import Mill


def write(mill: Mill) -> HistoryJobs:
    """Write the history as if a slot had ended."""
    history = mill.session.history
    assert history is not None
    with history._lock:  # the housekeeper may be writing
        history._write(0)
    return history


def degraded(mill: Mill) -> list[str]:
    mill.session.recorder.worker.publish()
    return list(mill.session.documents.report("run")["self"]["degraded"])


def path(mill: Mill) -> Path:
    return Path(mill.session.settings.history_url)


def test_a_long_window_has_the_requests_of_the_run(mill: Mill) -> None:
    for _ in range(3):
        mill.get("/")
    write(mill)
    mill.get("/")  # after the latest write
    mill.session.jobs.fold()
    report = mill.session.documents.report("24h")
    [row] = [row for row in report["endpoints"] if row["endpoint"] == "index"]
    assert row["count"] == 4 and report["window"]["name"] == "24h"
    assert report["window"]["from"] >= mill.session.documents.report("run")["window"]["from"]
    assert report["workers"] == mill.session.documents.report("run")["workers"]


def test_the_page_offers_the_windows_that_can_be_read(make_app: Callable[..., Mill]) -> None:
    access = {"KNITPERF_ACCESS": lambda _: True}
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, True), ({"KNITPERF_HISTORY": False}, False), ({"TESTING": True}, False)
    ]  # fmt: skip
    for config, offered in cases:
        mill = make_app(name=f"mill{len(config)}{offered}", **access, **config)
        mill.get("/")
        page = mill.app.test_client().get("/perf/report", headers={"Accept": "text/html"}).text
        assert ("window=24h" in page) is offered


def test_without_a_history_a_long_window_is_refused(make_app: Callable[..., Mill]) -> None:
    mill = make_app(KNITPERF_HISTORY=False)
    mill.get("/")
    assert mill.session.history is None
    with pytest.raises(StateError, match="needs the history"):
        mill.session.documents.window("7d")


def test_in_memory_there_is_no_history(quiet: Mill) -> None:
    quiet.get("/")
    history = quiet.session.history
    assert history is not None
    for slot in (None, -1):
        history._slot = slot
        history.tick()
    assert not path(quiet).exists()
    with pytest.raises(StateError, match="needs the history, and this run is in memory only"):
        quiet.session.documents.window("7d")


@pytest.mark.slow
def test_nothing_is_imported_before_the_first_slot_has_ended(mill: Mill) -> None:
    program = (
        "import sys; from flask import Flask; from flask_knitperf import KnitPerf\n"
        "app = Flask('a'); KnitPerf(app); app.test_client().get('/')\n"
        "assert not [name for name in sys.modules if name.startswith('flask_knitperf.history')]\n"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", program], check=True, env={
        **os.environ, "KNITPERF_STATE_DIR": str(path(mill).parent)
    })  # fmt: skip


def test_the_first_slot_is_as_long_as_those_of_the_history() -> None:
    assert FINEST.seconds == history_jobs._SLOT_S


def test_it_lies_in_the_instance_folder_where_there_is_one(make_app: Callable[..., Mill]) -> None:
    assert path(make_app(name="first")).parent.name == "history"
    instance = Path(make_app(name="first").app.instance_path)
    instance.mkdir(parents=True)
    assert path(make_app(name="a/b")) == instance / "knitperf-a-b.sqlite"


def test_an_error_is_a_sentence_in_the_report_and_logged_once(
    mill: Mill, caplog: pytest.LogCaptureFixture
) -> None:
    mill.get("/")
    path(mill).parent.mkdir(parents=True)
    path(mill).mkdir()
    with caplog.at_level(logging.WARNING, "flask_knitperf"):
        for _ in range(3):
            history = write(mill)
    assert len([record for record in caplog.records if "cannot be used" in record.message]) == 1
    assert any("cannot be used" in text for text in degraded(mill))
    with pytest.raises(HistoryError):
        mill.session.documents.window("24h")
    path(mill).rmdir()
    write(mill)
    assert not any("cannot be used" in text for text in degraded(mill))
    assert path(mill).exists() and history is mill.session.history


def test_when_a_session_closes_another_process_may_write_at_once(mill: Mill) -> None:
    mill.get("/")
    write(mill)
    mill.session.close()
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path(mill))) as connection:
        assert connection.execute("SELECT DISTINCT expires FROM knitperf_leases").fetchall() == [
            (0.0,)
        ]


def test_a_child_writes_with_a_connection_of_itself(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.get("/")
    first = write(mill)._writer
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -5)
        second = write(mill)._writer
        assert first is not None and second is not None and second is not first
        second.close()
    first.close()


@pytest.mark.slow
def test_a_write_that_cannot_give_the_lease_back_does_not_stop_the_end(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.get("/")
    write(mill)

    def fail(*_: Any) -> None:
        raise HistoryError("gone")

    monkeypatch.setattr(writer, "drop", fail)
    monkeypatch.setattr(watch, "drop", fail)
    mill.session.close()
    assert not [one for one in map(os.path.realpath, Path("/proc/self/fd").glob("*"))
                if one.startswith(str(path(mill)))]  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there is no fork")
def test_a_fork_closes_the_connection_and_leaves_a_write_that_takes_long_alone(
    mill: Mill, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mill.get("/")
    history = write(mill)
    history_jobs._before_fork()
    assert history._lock.locked() and history._writer is not None and history._writer._store is None
    history_jobs._after_fork()
    assert not history._lock.locked()
    monkeypatch.setattr(history_jobs, "_CLOSE_S", 0.01)
    with history._lock:  # a write
        history_jobs._before_fork()
        history_jobs._after_fork()
        assert history._lock.locked()
    assert "forked while the history was written" in caplog.text


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there is no fork")
def test_threads_that_fork_at_once_leave_every_lock_free(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.get("/")
    history = write(mill)
    monkeypatch.setattr(history_jobs, "_CLOSE_S", 0.01)
    history_jobs._before_fork()
    for fork in (history_jobs._before_fork, history_jobs._after_fork):
        other = threading.Thread(target=fork)  # it waits too short
        other.start()
        other.join()
        assert history._lock.locked() and FORK_GATE._lock.locked()
    history_jobs._after_fork()
    assert not history._lock.locked() and not FORK_GATE._lock.locked()
