"""State directories that cannot be used, vanish, fill up or hold damaged files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import REQUEST
from flask_knitperf.reports.offline import Offline
from flask_knitperf.storage import slices, state_dir

from .applications import counts, needs_root, run_of, without_thread

ROOT = Path(__file__).parents[2]


# -- unusable, removed and damaged ------------------------------------------------------------------


def assert_works(mill: Any) -> str:
    """Assert that an application answers and reports; return its degradations."""
    assert [mill.get("/").body for _ in range(3)] == [b"ok"] * 3
    assert counts(mill)["index"] >= 3
    return str(mill.degraded())


@pytest.mark.parametrize("kind", ["file", "link to a file", "open to others", "below a file"])
def test_an_unusable_state_directory_is_reported_and_the_application_runs(
    make_app: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "place"
    if kind == "link to a file":
        (tmp_path / "real").write_text("")
        place.symlink_to(tmp_path / "real")
    elif kind == "open to others":
        place.mkdir()
        place.chmod(0o777)
    else:
        place.write_text("")
    degradations = assert_works(
        make_app(KNITPERF_STATE_DIR=str(place / "x" if kind == "below a file" else place))
    )
    assert "kept in its memory only" in degradations and str(place) in degradations


@needs_root
def test_a_state_directory_of_another_user_is_reported_and_the_application_runs(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    place = tmp_path / "theirs"
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 12345)
    assert "belongs to another user" in assert_works(make_app(KNITPERF_STATE_DIR=str(place)))
    assert list(place.iterdir()) == []


def test_a_removed_state_directory_is_reported_and_the_application_runs(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app(KNITPERF_LOG_BYTES=65536)
    mill.get("/")
    while (tmp_path / "state").exists():  # the housekeeper may be writing
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
    for _ in range(2000):  # more than a log holds
        mill.get("/")
    assert "state directory" in assert_works(mill)


def test_pages_open_after_the_state_directory_was_removed(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app(KNITPERF_ACCESS=lambda request: True)
    mill.get("/")
    while (tmp_path / "state").exists():  # the housekeeper may be writing
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
    codes = [mill.get(path, HTTP_ACCEPT="text/html").code for path in ("/perf/", "/perf/memory")]
    assert codes == [200, 200]


@pytest.mark.parametrize("name", ["{worker}.table", "{worker}.0.log", "app.json", "retired.table",
                                  "{worker}.lock", "points/1.point", "commands.log"])  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 5000, b"[1, 2]", b"null"])
def test_damaged_files_in_the_state_directory_are_tolerated(
    make_app: Callable[..., Any], name: str, content: bytes
) -> None:
    mill = without_thread(make_app(KNITPERF_ACCESS=lambda request: True))
    mill.get("/")
    mill.session.jobs.fold()
    dead = "w-99-" + "0" * 12  # a worker that died and left its files
    path = run_of(mill) / name.format(worker=dead)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    jobs = mill.session.jobs
    jobs.publish_heartbeat(), mill.session.commands.process(), jobs.fold(), jobs.publish_heartbeat()
    assert mill.get("/perf/report").code == mill.get("/perf/memory").code == 200
    assert_works(mill)


def test_damaged_samples_and_requests_are_skipped_and_reported(
    make_app: Callable[..., Any],
) -> None:
    mill = without_thread(make_app(KNITPERF_SAMPLER=True))
    mill.get("/")
    mill.session.reservoir.tick(at_once=True)
    mill.session.details.turn()
    folder = run_of(mill) / "details"
    (folder / f"w-0-gone.{slices.begins(mill.session.recorder.clock.wall())}.slice").write_bytes(
        b"x"
    )
    (folder / "w-0-gone.exemplars").write_bytes(b"a\tb\n" * 2)
    assert mill.report("run")["self"]["degraded"] == [
        "slices of samples that are damaged and left out: 1"
    ]
    window = mill.session.documents.window("run")
    assert len(mill.session.documents.requests(window)) == 1
    assert window.snapshot.degraded == ["kept requests whose lines are damaged and left out: 2"]
    offline = Offline(mill.session.settings.state_dir)
    assert offline.report("run")["self"]["degraded"] == [
        "slices of samples that are damaged and left out: 1"
    ]


def test_a_damaged_table_of_a_live_worker_is_reported(threadless: Any) -> None:
    threadless.get("/")
    threadless.session.jobs.fold()
    name = threadless.session.recorder.worker.name
    (run_of(threadless) / f"{name}.table").write_bytes(b"garbage")
    assert "damaged" in threadless.degraded()


def test_a_run_with_a_damaged_description_is_still_read(make_app: Callable[..., Any]) -> None:
    mill = without_thread(make_app())
    mill.get("/")
    (run_of(mill) / "app.json").write_bytes(b"{")
    again = without_thread(make_app())
    again.get("/")
    assert counts(again) == {"index": 2}


# -- in a separate process --------------------------------------------------------------------------

PREAMBLE = """
import json, os, sys
import encodings.idna, flask.testing, pandas  # now, while this user may read them
from flask import Flask
from flask_knitperf import KnitPerf
app = Flask("mill")
app.logger.disabled = True
app.config.update(KNITPERF_STATE_DIR=sys.argv[1], KNITPERF_LOG_BYTES=65536)
perf = KnitPerf(app)
app.add_url_rule("/", "index", lambda: "ok")
app.test_client()  # looks up the version of Werkzeug
def serve(number):
    client = app.test_client()
    assert all(client.get("/").data == b"ok" for _ in range(number))
def report():
    document = app.extensions["knitperf"].documents.report("run")
    count = sum(row["count"] for row in document["endpoints"])
    print(json.dumps([count, document["self"]["degraded"]]))
"""


def run_application(code: str, folder: Path) -> tuple[int, str]:
    """Run a program with an application; return the number of requests and the degradations."""
    # -B: under a limit of the size of files, Python would leave byte code that is cut off
    done = subprocess.run(
        [sys.executable, "-B", "-c", PREAMBLE + textwrap.dedent(code), str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, degraded = json.loads(done.stdout)
    return count, "\n".join(degraded)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_without_room_for_a_log_is_reported_and_the_application_runs(tmp_path: Path) -> None:
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))
        serve(2500)
        report()
    """
    count, degraded = run_application(code, tmp_path / "state")
    assert count == 2500 and "memory only" in degraded


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_that_fills_up_is_reported_and_the_application_runs(tmp_path: Path) -> None:
    code = """
        import resource
        serve(10)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        serve(2500)
        app.extensions["knitperf"].recorder.worker.fold()
        report()
    """
    count, degraded = run_application(code, tmp_path / "state")
    assert count == 2510 and degraded


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_process_without_free_descriptors_answers(tmp_path: Path) -> None:
    code = """
        import resource
        serve(1)
        descriptors = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                descriptors.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        serve(2500)
        for descriptor in descriptors:
            os.close(descriptor)
        report()
    """
    assert run_application(code, tmp_path / "state")[0] == 2501


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_read_only_state_directory_is_reported_and_the_application_runs(
    tmp_path: Path, mode: int
) -> None:
    place = tmp_path / "state"
    place.mkdir()
    os.chown(place, 65534, 65534)
    place.chmod(mode)
    for folder in place.parents:
        if folder != folder.parent and folder.owner() == "root" and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    count, degraded = run_application("os.setuid(65534); serve(5); report()", place)
    assert count == 5 and "memory only" in degraded


@pytest.mark.slow
def test_everything_is_on_disk_after_a_process_ends(tmp_path: Path) -> None:
    run_application("serve(7); report()", tmp_path / "state")
    (run,) = [path for path in (tmp_path / "state").iterdir() if (path / "app.json").exists()]
    series = columns.series(state_dir.read(run).columns)
    assert sum(s.data.count for key, s in series.items() if key.meter == REQUEST.name) == 7


@pytest.mark.slow
def test_a_killed_process_loses_no_answered_request(tmp_path: Path) -> None:
    code = "serve(7); report(); sys.stdout.flush(); os._exit(0)"
    run_application(code, tmp_path / "state")
    (run,) = [path for path in (tmp_path / "state").iterdir() if (path / "app.json").exists()]
    series = columns.series(state_dir.read(run).columns)
    assert sum(s.data.count for key, s in series.items() if key.meter == REQUEST.name) == 7
