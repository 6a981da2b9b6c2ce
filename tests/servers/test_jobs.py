"""Commands beside a running server: they count in its run, and change no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flask_knitperf.storage.runs import runs

from .serving import ROOT, Server, gunicorn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn does not run on Windows")
APP = ("--app", "tests.servers.mill:create_app()")


def command(server: Server, *arguments: str) -> str:
    """Run a command of ``flask`` beside a server; return its output."""
    environ = {**os.environ, "MILL_CONFIG": str(server.folder / "config.json")}
    finished = subprocess.run(
        [sys.executable, "-m", "flask", *APP, *arguments], cwd=ROOT, env=environ, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return finished.stdout


@pytest.mark.slow
def test_nightly_commands_and_threads_are_jobs_of_the_running_server(tmp_path: Path) -> None:
    previous = Server(tmp_path, gunicorn("--workers", "1"), KNITPERF_RUNS_KEPT=2)
    with previous:
        previous.drive("/", 20)
    with Server(tmp_path, gunicorn("--workers", "2"), KNITPERF_RUNS_KEPT=2) as server:
        server.drive("/", 30)
        server.get("/thread")
        before = [path.name for path in runs(server.state)]
        for fails in ("", "", "--fail"):
            command(server, "nightly", *filter(None, [fails]))
        assert [path.name for path in runs(server.state)] == before
        server.until(lambda: len(server.document()["jobs"]) == 2)
        document = server.document()
        jobs = {row["name"]: row for row in document["jobs"]}
        assert (jobs["nightly"]["runs"], jobs["nightly"]["failures"]) == (3, {"RuntimeError": 1})
        assert {part["name"] for part in jobs["nightly"]["parts"]} == {"section:knit", "sleep"}
        assert jobs["thread"]["runs"] == 1
        assert {row["alive"] for row in document["workers"]} == {True}
        assert (server.rows()["index"]["count"], server.rows("previous")["index"]["count"]) == (
            30,
            20,
        )
        text = command(server, "knitperf", "report", "--window", "run")
        assert "JOBS" in text and "GET index" in text
