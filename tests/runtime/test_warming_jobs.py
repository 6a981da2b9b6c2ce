"""A server warms after its first request, and makes way for requests and for other processes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_knitperf import KnitPerf, KnitPerfError
from flask_knitperf.caching import warm_record
from flask_knitperf.core.clock import Clock
from flask_knitperf.runtime import warming_jobs
from flask_knitperf.runtime.warming_jobs import BUSY_REST, IDLE_REST, WarmingJobs, _ServerPace
from flask_knitperf.storage.commands import Command, outcome
from flask_knitperf.storage.warm_progress import read_progress

from ..waiting import wait_for
from .applications import in_child, needs_fork, our_threads, run_of

WARM = "flask_knitperf-warm"


class Mill:
    """An application on disk with a function that is warmed; its housekeeper is the test."""

    def __init__(self, state: Path, *, threaded: bool = False, **config: Any) -> None:
        self.app = Flask("mill")
        self.app.config.update(KNITPERF_STATE_DIR=str(state), **config)
        self.perf = KnitPerf(self.app)
        self.session = self.app.extensions["knitperf"]
        if not threaded:
            self.session.recorder._threaded = lambda: False
        self.loads: list[str] = []
        self.total = self.perf.cache.cached(warm=True, namespace="total")(self.load)
        self.app.add_url_rule("/", "index", lambda: "x")
        self.app.add_url_rule("/<style>", "style", self.total_of)
        self.client = self.app.test_client()

    def load(self, style: str) -> str:
        self.loads.append(style)
        return style

    def total_of(self, style: str) -> str:
        return str(self.total(style))

    @property
    def jobs(self) -> WarmingJobs:
        jobs: WarmingJobs = self.session.warming
        return jobs

    def use(self, *styles: str) -> None:
        for style in styles * 3:
            self.client.get(f"/{style}")

    def end_round(self) -> None:
        """Wait until the thread has ended."""
        wait_for(lambda: WARM not in our_threads())


@pytest.fixture
def make_mill(tmp_path: Path) -> Iterator[Callable[..., Mill]]:
    mills: list[Mill] = []

    def make(**options: Any) -> Mill:
        mills.append(Mill(tmp_path / "state", **options))
        return mills[-1]

    yield make
    for mill in mills:
        mill.session.close()


def test_a_worker_begins_with_the_values_of_the_one_before(make_mill: Callable[..., Mill]) -> None:
    before = make_mill()
    before.use("a", "b")
    before.session.close()
    after = make_mill()
    after.client.get("/")
    after.jobs.tick()
    after.end_round()
    assert sorted(after.loads) == ["a", "b"]
    after.client.get("/a")
    assert sorted(after.loads) == ["a", "b"]


@pytest.mark.slow
def test_the_housekeeper_does_it_by_itself_and_close_ends_it(
    make_mill: Callable[..., Mill],
) -> None:
    before = make_mill()
    before.use("a")
    before.session.close()
    after = make_mill(threaded=True)
    after.client.get("/")
    wait_for(lambda: after.loads)
    after.session.close()
    assert our_threads() == []


def test_a_load_that_outlives_the_session_does_not_begin_to_record_again(
    make_mill: Callable[..., Mill], caplog: pytest.LogCaptureFixture
) -> None:
    mill = make_mill()
    started, go = threading.Event(), threading.Event()

    def load(style: str) -> str:
        started.set()
        go.wait(30)
        return style

    slow = mill.perf.cache.cached(warm=lambda: ["a", "b"], namespace="slow")(load)
    mill.client.get("/")
    mill.jobs.tick()
    assert started.wait(30)
    mill.jobs._stopping.set()
    mill.session.recorder.close()
    go.set()
    mill.end_round()
    assert not mill.session.recorder.has_worker
    assert slow.__knitperf_cache__.region.warmed == 1  # the second one was left
    assert caplog.messages == []


def test_nothing_is_loaded_before_the_first_request(make_mill: Callable[..., Mill]) -> None:
    make_mill().use("a")
    after = make_mill()
    assert not after.session.recorder.has_worker
    assert our_threads() == []


def test_a_test_starts_no_thread_and_writes_no_record(
    make_mill: Callable[..., Mill], tmp_path: Path
) -> None:
    mill = make_mill(TESTING=True, threaded=True)
    mill.use("a")
    mill.session.close()
    assert our_threads() == []
    assert list(tmp_path.rglob(warm_record.FILE)) == []


def test_zero_seconds_switch_it_off(make_mill: Callable[..., Mill], tmp_path: Path) -> None:
    mill = make_mill(KNITPERF_CACHE_WARM_SECONDS=0)
    mill.use("a")
    mill.session.close()
    assert mill.session.warming is None
    assert list(tmp_path.rglob(warm_record.FILE)) == []
    with pytest.raises(KnitPerfError, match="KNITPERF_CACHE_WARM_SECONDS"):
        mill.session.commands._warm(Command("1", "warm", 0.0))


def test_the_record_is_written_once_a_minute_too(
    make_mill: Callable[..., Mill], tmp_path: Path
) -> None:
    mill = make_mill()
    mill.use("a")
    mill.jobs.save_later()  # at the start nothing has proved its value
    assert not (tmp_path / "state" / warm_record.FILE).exists()
    mill.jobs.save_later()
    assert [row.arguments for row in warm_record.read(tmp_path / "state")] == [{"style": "a"}]


def test_a_record_of_other_code_loads_by_the_new_code(
    make_mill: Callable[..., Mill], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make_mill()
    before.use("a")
    before.session.close()
    monkeypatch.setattr(Mill, "load", lambda mill, style: f"new {style}")
    monkeypatch.setattr(Mill.load, "__module__", __name__)
    monkeypatch.setattr(Mill.load, "__qualname__", "Mill.load")
    after = make_mill()
    after.client.get("/")
    after.jobs.tick()
    after.end_round()
    assert after.perf.cache.get_cache_statistics()["total"]["warmed"] == 1
    assert after.client.get("/a").text == "new a"


def test_an_invalidated_value_in_use_is_loaded_off_requests(
    make_mill: Callable[..., Mill], monkeypatch: pytest.MonkeyPatch
) -> None:
    mill = make_mill()
    mill.use("a")
    mill.jobs.tick()
    mill.end_round()
    mill.perf.cache.invalidate("total")
    mill.jobs._looks.reset()
    moments = iter([0.0, 10.0])
    monkeypatch.setattr(mill.jobs._schedule, "_clock", lambda: time.monotonic() + next(moments))
    mill.jobs.tick()
    mill.jobs._looks.reset()
    mill.jobs.tick()
    mill.end_round()
    assert mill.loads == ["a", "a"]
    statistics = mill.perf.cache.get_cache_statistics()["total"]
    assert (statistics["warmed"], statistics["misses"]) == (1, 1)


@needs_fork
def test_a_forked_child_has_no_thread_and_begins_with_its_first_request(
    make_mill: Callable[..., Mill],
) -> None:
    before = make_mill()
    before.use("a")
    before.session.close()
    mill = make_mill()
    mill.client.get("/")
    mill.jobs.tick()
    mill.end_round()
    mill.loads.clear()
    mill.perf.cache.clear()

    def child() -> list[str]:
        assert mill.jobs._thread is None
        mill.client.get("/")
        mill.jobs.tick()
        mill.end_round()
        return mill.loads

    assert in_child(child) == ["a"]


# -- commands ----------------------------------------------------------------------------------------


def command(mill: Mill, **arguments: Any) -> Any:
    sent = mill.session.commands.submit("warm") if not arguments else None
    if sent is None:
        from flask_knitperf.storage.commands import send

        sent = send(run_of(mill), "warm", time.time(), arguments)
    mill.session.commands.process()
    mill.end_round()
    return sent


def test_a_command_warms_and_reports_its_progress(make_mill: Callable[..., Mill]) -> None:
    before = make_mill()
    before.use("a", "b")
    before.session.close()
    mill = make_mill()
    mill.client.get("/a")
    sent = command(mill, namespaces=["total"], seconds=5)
    worker = mill.session.recorder.worker.name
    progress = read_progress(run_of(mill), worker, sent.id)
    assert progress is not None
    assert (progress.ended, progress.done, progress.total) == (True, 2, 2)
    assert (progress.warmed, progress.fresh) == (1, 1)
    assert outcome(run_of(mill), sent).done == (worker,)


@pytest.mark.parametrize(
    "arguments",
    [{"namespaces": ["nosuch"]}, {"namespaces": "total"}, {"namespaces": 5}, {"seconds": "x"}],
    ids=repr,
)
def test_a_command_with_bad_arguments_is_answered_with_the_error(
    make_mill: Callable[..., Mill], arguments: dict[str, Any]
) -> None:
    mill = make_mill()
    mill.client.get("/")
    sent = command(mill, **arguments)
    assert len(outcome(run_of(mill), sent).failed) == 1


def test_a_command_without_a_state_directory_is_executed_here(
    make_mill: Callable[..., Mill],
) -> None:
    mill = make_mill(TESTING=True)
    mill.client.get("/a")
    assert mill.session.commands.submit("warm") is None
    mill.end_round()


def test_progress_of_another_command_or_in_another_form_is_none(tmp_path: Path) -> None:
    path = tmp_path / "w-1.warming.json"
    for text in ("", "[]", '{"command": "2"}', '{"command": "1", "nosuch": 1}', "{"):
        path.write_text(text)
        assert read_progress(tmp_path, "w-1", "1") is None
    path.write_text('{"command": "1"}')
    assert read_progress(tmp_path, "w-1", "1") is not None


# -- pace --------------------------------------------------------------------------------------------


class Waits:
    """An event that is never set, and notes the waits."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def is_set(self) -> bool:
        return len(self.seconds) > 500

    def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Recorder:
    """The parts of a recorder that a pace reads."""

    def __init__(self) -> None:
        self.spans: dict[Any, None] = {}
        self.now = self.queued = 0
        self.cpu = 0
        self.clock = Clock(
            monotonic_ns=self._monotonic,
            run_queue_ns=lambda: self.queued,
            thread_ns=lambda: self.cpu,
        )

    def _monotonic(self) -> int:
        self.now += 10_000_000
        return self.now


def make_pace(recorder: Recorder, count: Callable[[], int] = lambda: 0, lock: Any = None) -> Any:
    return _ServerPace(recorder, count, lock, Waits())  # type: ignore[arg-type]


def test_a_load_is_followed_by_a_rest_of_its_time() -> None:
    pace = make_pace(Recorder())
    assert pace.wait()
    pace.rest(0.2)
    assert pace._stopping.seconds == [0.2 * IDLE_REST]


@pytest.mark.parametrize("why", ["in flight", "served meanwhile", "no core was free"])
def test_the_rest_is_long_while_the_host_is_busy(why: str) -> None:
    recorder, counts = Recorder(), iter([0, int(why == "served meanwhile")])
    pace = make_pace(recorder, lambda: next(counts))
    assert pace.wait()
    if why == "in flight":
        recorder.spans[object()] = None
    if why == "no core was free":
        recorder.queued = 30_000_000
    recorder.cpu = 100_000_000 - recorder.queued
    pace.rest(0.2)
    assert pace._stopping.seconds == [pytest.approx(0.1 * BUSY_REST)]


def test_a_load_that_waits_for_a_database_needs_no_long_rest() -> None:
    recorder = Recorder()
    pace = make_pace(recorder)
    assert pace.wait()
    recorder.spans[object()] = None
    recorder.cpu = 1_000_000
    pace.rest(0.2)
    assert pace._stopping.seconds == [0.2 * IDLE_REST]


def test_a_load_waits_for_a_moment_without_requests_but_not_for_ever() -> None:
    recorder = Recorder()
    recorder.spans[object()] = None
    pace = make_pace(recorder)
    assert pace.wait()
    assert recorder.now >= warming_jobs.PATIENCE_S * 1e9
    assert pace._stopping.seconds


def test_one_process_of_a_host_loads_at_a_time() -> None:
    class Locked:
        def __init__(self) -> None:
            self.answers = [False, False, True]
            self.released = 0

        def try_acquire(self, key: bytes) -> bool:
            return self.answers.pop(0)

        def release(self, key: bytes) -> None:
            self.released += 1

    lock = Locked()
    pace = make_pace(Recorder(), lock=lock)
    assert pace.wait()
    assert (lock.answers, lock.released) == ([], 0)
    pace.rest(0.1)
    assert lock.released == 1


def test_a_process_that_is_to_end_does_not_load() -> None:
    pace = make_pace(Recorder())
    pace._stopping.seconds = [0.0] * 600
    assert not pace.wait()


@needs_fork
@pytest.mark.slow
def test_a_process_that_is_killed_while_it_loads_lets_others_load(
    make_mill: Callable[..., Mill],
) -> None:
    mill = make_mill()
    mill.client.get("/")
    lock = mill.jobs._host_lock()
    assert lock is not None
    pid = os.fork()
    if pid == 0:
        own = mill.jobs._host_lock()
        assert own is not None
        own.try_acquire(warming_jobs._LOCK)
        threading.Event().wait(60)
    wait_for(
        lambda: lock.try_acquire(warming_jobs._LOCK) is False or lock.release(warming_jobs._LOCK)
    )
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert lock.try_acquire(warming_jobs._LOCK) is True
    lock.release(warming_jobs._LOCK)
