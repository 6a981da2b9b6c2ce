"""An application on a system that has only what Windows has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .applications import run_python

# Everything that Windows lacks is removed before this package is imported. A Linux lock that also
# belongs to an open file and covers one byte stands in for the lock of Windows.
WITHOUT_POSIX = """
import ctypes, fcntl, os, struct, sys, types
import flask, flask.testing, numpy, psutil, pytest, werkzeug.serving, xml.sax
def locking(descriptor, mode, count):
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    request = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, count, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
sys.modules["fcntl"] = None
plain_library, ctypes.CDLL = ctypes.CDLL, lambda *_, **__: object()
for name in ("fork", "register_at_fork", "posix_fallocate"):
    delattr(os, name)
sys.platform = "win32"
import flask_knitperf.storage.atomic_files
sys.platform = "linux"
assert flask_knitperf.storage.atomic_files._fcntl is None
"""
linux_locks = pytest.mark.skipif(
    sys.platform != "linux", reason="emulates the locks of Windows by those of Linux"
)


@pytest.mark.slow
@linux_locks
def test_an_application_runs_without_posix(tmp_path: Path) -> None:
    code = (
        WITHOUT_POSIX
        + """
import time
from flask import Flask
from flask_knitperf import KnitPerf
from flask_knitperf.storage import state_dir
def make():
    app = Flask("mill")
    app.config["KNITPERF_STATE_DIR"] = sys.argv[1]
    KnitPerf(app)
    return app, app.extensions["knitperf"]
(one, first), (two, second) = make(), make()
for app in (one, two, two):
    app.test_client().get("/")
for session in (first, second):
    collector = session.memory_jobs.collector
    session.jobs.fold(), session.jobs.publish_heartbeat()
    collector.collect("requested"), collector.record_gauges()
run = first.recorder.worker.run
assert sorted(w["alive"] for w in state_dir.read(run).workers) == [True, True]
first.close()
assert sorted(w["alive"] for w in state_dir.read(run).workers) == [False, True]
time.sleep(state_dir.RETIRE_INTERVAL_S)
second.jobs.publish_heartbeat()
assert len(state_dir.read(run).workers) == 1
report = second.documents.report("run")
print(sum(row["count"] for row in report["endpoints"]), report["self"])
second.close()
"""
    )
    process = run_python([code, str(tmp_path / "state")])
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("3 ") and "'degraded': []" in process.stdout


@pytest.mark.slow
@linux_locks
@pytest.mark.parametrize(
    "arguments",
    [
        ["tests/runtime/test_session.py", "tests/runtime/test_documents.py",
         "tests/runtime/test_commands.py", "tests/storage/test_crash_safety.py"],
        ["tests/instrumentation", "tests/collectors/requests/test_sections.py",
         "tests/collectors/requests/test_queue_time.py",
         "-k", "not ten_thousand and not three_thousand and not celery"],  # which needs fcntl
        ["tests/runtime/test_state_directory.py", "-k", "damaged or pages"],
    ],
    ids=lambda arguments: Path(arguments[0]).stem,
)  # fmt: skip
def test_the_main_parts_of_the_suite_pass_without_posix(arguments: list[str]) -> None:
    code = WITHOUT_POSIX + "raise SystemExit(pytest.main(sys.argv[1:]))"
    process = run_python([code, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments])
    assert process.returncode == 0, process.stdout[-6000:] + process.stderr[-2000:]
    assert " passed" in process.stdout
