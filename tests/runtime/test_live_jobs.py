"""Figures of the last seconds: who writes them, what they state, and what a poll gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.printable import printable
from flask_knitperf.runtime.live_jobs import INTERVAL_S, WATCHED_S
from tests.conftest import FakeTime
from tests.web.clients import BEARER, TOKEN

from .applications import run_of, without_thread


@pytest.fixture
def make_worker(make_app: Callable[..., Any], time: FakeTime) -> Callable[..., Any]:
    """Return a maker of workers of one run, which live by the fixture ``time`` and have no thread."""

    def make(**config: Any) -> Any:
        mill = without_thread(
            make_app(KNITPERF_ACCESS_TOKEN=TOKEN, PROPAGATE_EXCEPTIONS=False, **config),
            time.clock(),
        )

        def yarn() -> str:
            time.pass_(0.1)
            return "yarn"

        def broken() -> str:
            raise ValueError

        mill.app.add_url_rule("/yarn", "yarn", yarn)
        mill.app.add_url_rule("/broken", "broken", broken)
        mill.get("/")
        return mill

    return make


@pytest.fixture
def worker(make_worker: Callable[..., Any]) -> Any:
    return make_worker()


def written(mill: Any) -> Path:
    return run_of(mill) / "live.json"


def poll(mill: Any, after: int = 0) -> Any:
    return mill.session.live.read(after)


def turn(mill: Any, time: FakeTime, *paths: str, seconds: float = INTERVAL_S) -> Any:
    """Poll, serve some requests, have the worker write after some seconds, and return the figures."""
    poll(mill)
    for path in paths:
        mill.get(path)
    time.pass_(seconds)
    poll(mill)
    mill.session.live.tick()
    return poll(mill)


# -- who writes ------------------------------------------------------------------------------------


def test_nothing_is_written_without_a_poll(worker: Any) -> None:
    worker.session.live.tick()
    assert not written(worker).exists()
    assert poll(worker) is None
    worker.session.live.tick()
    assert written(worker).exists()


def test_a_worker_stops_writing_after_the_last_poll(worker: Any, time: FakeTime) -> None:
    sequence = turn(worker, time)["sequence"]
    for _ in range(3):
        time.pass_(WATCHED_S)
        worker.session.live.tick()
    assert json.loads(written(worker).read_text())["sequence"] == sequence


def test_one_of_two_workers_writes_and_the_other_takes_over(
    make_worker: Callable[..., Any], time: FakeTime
) -> None:
    first, second = make_worker(), make_worker()
    assert run_of(first) == run_of(second)
    names = [one.session.recorder.worker.name for one in (first, second)]
    poll(second)
    first.session.live.tick()
    second.session.live.tick()
    assert poll(second)["writer"] == poll(first)["writer"] == names[0]
    for _ in range(3):  # the first one was killed
        time.pass_(INTERVAL_S)
        poll(second)
        second.session.live.tick()
    assert poll(first)["writer"] == names[1]
    first.session.live.tick()
    assert poll(first)["writer"] == names[1]


def test_any_worker_serves_the_requests_of_all(
    make_worker: Callable[..., Any], time: FakeTime
) -> None:
    first, second = make_worker(), make_worker()
    turn(first, time)
    second.get("/"), second.get("/")
    assert turn(first, time, "/")["minute"]["count"] == 3
    assert poll(second) == poll(first) and poll(second)["workers"] == 2


# -- what the figures state ------------------------------------------------------------------------


def test_figures_of_a_minute_are_those_of_its_requests(worker: Any, time: FakeTime) -> None:
    turn(worker, time)
    for _ in range(3):
        shown = turn(worker, time, "/yarn", "/broken", "/")
    minute = shown["minute"]
    assert minute["count"] == 9 and minute["failed"] == 3
    assert minute["seconds"] == pytest.approx(3 * (INTERVAL_S + 0.1))
    assert minute["p95_ms"] == pytest.approx(100, rel=0.006)
    assert [point["count"] for point in shown["points"]] == [3, 3, 3]
    assert shown["requests"] == worker.report()["load"]["count"]


def test_a_minute_is_no_longer_where_writes_are_late(worker: Any, time: FakeTime) -> None:
    for _ in range(40):
        shown = turn(worker, time, "/", seconds=2.7)
    assert shown["minute"]["seconds"] == pytest.approx(22 * 2.7)
    assert shown["minute"]["count"] == 22


@pytest.mark.parametrize("jump", [3600.0, 30 * 86_400.0])
def test_a_clock_that_jumps_ahead_changes_no_rate(worker: Any, time: FakeTime, jump: float) -> None:
    turn(worker, time), turn(worker, time, "/")
    time.epoch += jump
    minute = turn(worker, time, "/")["minute"]
    assert minute["count"] == 2 and minute["seconds"] == pytest.approx(2 * INTERVAL_S)


def test_figures_begin_again_where_the_clock_is_set_back(worker: Any, time: FakeTime) -> None:
    turn(worker, time), turn(worker, time, "/")
    time.epoch -= 3600
    assert turn(worker, time, "/")["points"] == []
    assert turn(worker, time, "/")["minute"]["count"] == 1


def test_figures_begin_again_after_a_pause_of_more_than_a_minute(
    worker: Any, time: FakeTime
) -> None:
    turn(worker, time), turn(worker, time, "/")
    assert turn(worker, time, "/", seconds=600)["minute"]["seconds"] == 0
    assert turn(worker, time, "/")["minute"]["count"] == 1


def test_requests_of_another_run_are_not_those_of_the_last_seconds(
    worker: Any, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(worker, time), turn(worker, time, "/")
    other = run_of(worker).with_name("other")
    other.mkdir()
    for _ in range(5):
        worker.get("/")
    whole = worker.session.recorder.snapshot()
    monkeypatch.setattr(worker.session.recorder.worker, "run", other)
    monkeypatch.setattr(worker.session.recorder, "snapshot", lambda: whole)
    assert turn(worker, time)["points"] == []


def test_a_release_that_no_page_can_show_is_escaped(
    make_worker: Callable[..., Any], time: FakeTime
) -> None:
    release = "a\ud834\x00\u202e<b>"
    shown = turn(make_worker(KNITPERF_RELEASE=release), time)
    assert shown["release"] == printable(release) != release


# -- what a poll gets ------------------------------------------------------------------------------


def test_a_poll_gets_the_points_after_the_last_one(worker: Any, time: FakeTime) -> None:
    turn(worker, time)
    turn(worker, time, "/")
    known = poll(worker)["sequence"]
    turn(worker, time, "/", "/")
    assert [point["count"] for point in poll(worker)["points"]] == [1, 2]
    assert [point["count"] for point in poll(worker, known)["points"]] == [2]
    assert poll(worker, poll(worker)["sequence"])["points"] == []
    assert len(poll(worker, 10**20 - 1)["points"]) == 2  # of a clock that was ahead


def test_a_poll_is_answered_by_304_until_the_next_write(worker: Any, time: FakeTime) -> None:
    def answer(tag: str) -> Any:
        return worker.get("/perf/live.json", HTTP_IF_NONE_MATCH=tag, **BEARER)

    turn(worker, time)
    tag = answer("").header("ETag")
    assert answer(tag).code == 304 and answer(tag).body == b""
    turn(worker, time)
    assert answer(tag).code == 200 and answer(tag).header("ETag") != tag


def test_without_a_state_directory_there_are_no_figures(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS_TOKEN=TOKEN)
    mill.get("/")
    mill.session.live.tick()
    response = mill.get("/perf/live.json", **BEARER)
    assert response.code == 204 and response.body == b""


def test_strangers_get_the_404_of_the_application(worker: Any) -> None:
    missing = worker.get("/missing")
    for path in ("/perf/live.json", "/perf/live.json?after=x", "/perf/charts"):
        assert (worker.get(path).code, worker.get(path).body) == (404, missing.body)
    assert not written(worker).exists() and not (run_of(worker) / "live.polled").exists()


@pytest.mark.parametrize("after", ["", "-1", "1e9", "%D9%A1", "%EF%BC%91", "x", "+1", "1_0", "%00"])
def test_a_number_that_is_none_is_refused(worker: Any, after: str) -> None:
    assert worker.get(f"/perf/live.json?after={after}", **BEARER).code == 400


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b"\xff\xfe", b'{"schema":"other"}'],
)
def test_a_damaged_file_is_replaced(worker: Any, time: FakeTime, content: bytes) -> None:
    poll(worker)
    written(worker).write_bytes(content)
    assert worker.get("/perf/live.json", **BEARER).code == 204
    assert turn(worker, time)["writer"] == worker.session.recorder.worker.name


def test_a_run_without_a_directory_answers_without_figures(
    worker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker.session.recorder.worker, "run", tmp_path / "gone")
    assert worker.get("/perf/live.json", **BEARER).code == 204
    worker.session.live.tick()
    assert not (tmp_path / "gone").exists()


def test_a_full_disk_is_no_failure_of_a_job(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    poll(worker)

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(worker.session.recorder.disk, "save", refuse)
        worker.session.live.tick()
    assert not written(worker).exists()
    worker.session.live.tick()
    assert written(worker).exists()
