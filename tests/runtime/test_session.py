"""A session: starts with the first request, closes, and counts exactly under many threads."""

from __future__ import annotations

import gc
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Response

from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.storage import state_dir

from .applications import THREADS, counts, our_threads, run_of

# -- starting --------------------------------------------------------------------------------------


def test_nothing_starts_before_the_first_request(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app()
    started = (our_threads(), WATCH in gc.callbacks, (tmp_path / "state").exists())
    assert (started, mill.session.recorder.has_worker) == (([], False, False), False)


def test_an_unauthenticated_request_for_our_pages_starts_nothing(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(KNITPERF_ACCESS_TOKEN="a-long-enough-token")
    mill.get("/perf/report"), mill.get("/perf/sign-in")
    assert not mill.session.recorder.has_worker


def test_an_ignored_path_starts_nothing(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_IGNORE_PATHS=["/"])
    mill.get("/")
    assert not mill.session.recorder.has_worker


def test_the_first_request_starts_a_housekeeper_and_a_sampler(mill: Any) -> None:
    mill.get("/"), mill.get("/")
    assert our_threads() == THREADS


def test_testing_keeps_everything_in_memory(quiet: Any, tmp_path: Path) -> None:
    quiet.get("/")
    assert (our_threads(), (tmp_path / "state").exists()) == ([], False)
    assert counts(quiet) == {"index": 1}


def test_testing_mode_switched_on_after_init_app_keeps_everything_in_memory(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app()
    mill.app.testing = True
    mill.get("/")
    assert (our_threads(), (tmp_path / "state").exists()) == ([], False)


def test_the_state_directory_is_private(mill: Any) -> None:
    mill.get("/")
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (run_of(mill).parent, run_of(mill))]
    assert modes == [0o700, 0o700]


def test_files_in_the_state_directory_are_private(threadless: Any) -> None:
    threadless.get("/")
    threadless.session.jobs.fold()
    run = run_of(threadless)
    threadless.session.close()  # without a housekeeper, files do not change meanwhile
    files = [path for path in run.rglob("*") if path.is_file()]
    assert files and {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}


@pytest.mark.slow
def test_closing_closes_every_file_of_the_state_directory(mill: Any, tmp_path: Path) -> None:
    mill.get("/")
    mill.session.close()
    fds = Path("/proc/self/fd")
    links = [os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink()] if fds.is_dir() else []
    maps = Path("/proc/self/maps").read_text() if fds.is_dir() else ""
    assert not [link for link in links if str(tmp_path) in link] and str(tmp_path) not in maps


@pytest.mark.slow
def test_closing_twice_is_harmless(mill: Any) -> None:
    mill.get("/")
    mill.session.close()
    mill.session.close()
    assert WATCH not in gc.callbacks and our_threads() == []


def test_closing_before_the_first_request_does_nothing(mill: Any, tmp_path: Path) -> None:
    mill.session.close()
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_a_request_after_closing_records_in_the_same_run(mill: Any) -> None:
    mill.get("/")
    mill.session.close()
    mill.get("/")
    assert counts(mill) == {"index": 2}


@pytest.mark.slow
def test_a_request_in_flight_while_the_session_closes_is_answered(mill: Any) -> None:
    mill.app.get("/it", endpoint="it")(lambda: mill.session.close() or "x")
    assert (mill.get("/it").body, mill.degraded()) == (b"x", "")


# -- many threads ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("where", ["quiet", "mill"])
def test_forty_threads_are_counted_exactly(request: pytest.FixtureRequest, where: str) -> None:
    mill = request.getfixturevalue(where)
    mill.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    mill.app.get("/it", endpoint="it")(mill.perf.profile(lambda: "x"))
    start = threading.Barrier(40)

    def hammer() -> None:
        start.wait(20)
        for _ in range(30):
            for path in ("/", "/rows", "/it", "/nowhere"):
                mill.get(path)

    threads = [threading.Thread(target=hammer) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(mill) == dict.fromkeys(("index", "rows", "it", "<unmatched>"), 1200)
    (function,) = mill.report()["functions"]
    assert (function["count"], mill.report()["self"]["degraded"]) == (1200, [])


def test_concurrent_first_requests_share_one_worker(mill: Any) -> None:
    start = threading.Barrier(20)

    def send_first() -> None:
        start.wait(20)
        mill.get("/")

    threads = [threading.Thread(target=send_first) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (our_threads(), len(state_dir.workers(run_of(mill))), counts(mill)) == (
        THREADS, 1, {"index": 20}
    )  # fmt: skip


def test_many_small_logs_lose_nothing(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_LOG_BYTES=65536, KNITPERF_FOLD_INTERVAL_S=0.1)
    for _ in range(3000):
        mill.get("/")
    assert counts(mill) == {"index": 3000}
