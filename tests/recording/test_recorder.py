"""The recorder: one worker per process, its threads, forks and failures."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.errors import StateError, Stopped
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import FREEZE, HEARTBEAT, FreezeDetail, FreezeKey
from flask_knitperf.metrics.instruments import Key
from flask_knitperf.recording.housekeeper import Housekeeper, Job, RecorderThread
from flask_knitperf.recording.recorder import Recorder
from flask_knitperf.recording.span import CURRENT, Span
from flask_knitperf.storage.atomic_files import is_locked
from tests.recording.recorders import REQUESTS, SIZE, make_recorder, observe, request_count


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_snapshot_holds_recorded_values_gauges_and_evidence(
    tmp_path: Path, on_disk: bool
) -> None:
    r = make_recorder(tmp_path if on_disk else None)
    assert not r.has_worker
    r.record((r.series(REQUESTS, "a"), 5.0), (r.series(SIZE), 7.0))
    r.note(FREEZE, FreezeKey("a"), 3.0, FreezeDetail(objects=1, before_ns=2, after_ns=1))
    snapshot = r.snapshot()
    assert r.has_worker
    assert request_count(snapshot) == 1
    assert list(columns.series(snapshot.columns)[Key("size", ())].gauge.values()) == [7.0]
    assert [note.count for note in snapshot.totals.notes(FREEZE)] == [1]
    assert snapshot.workers[0]["host"] == "here"
    r.close()


def test_more_observations_than_fit_in_a_group_are_written_as_several_groups(
    tmp_path: Path,
) -> None:
    r = make_recorder(tmp_path)
    series = r.series(REQUESTS, "a")
    r.emit([(series, 1, float(n)) for n in range(150)])
    assert request_count(r.snapshot()) == 150
    r.close()


def test_an_unusable_state_directory_keeps_measurements_in_memory_and_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def nowhere() -> tuple[Path, dict[str, Any]]:
        raise StateError("the state directory belongs to another user")

    r = Recorder(nowhere, threaded=lambda: False)
    with caplog.at_level(logging.WARNING):
        r.record((r.series(REQUESTS, "a"), 5.0))
    snapshot = r.snapshot()
    assert request_count(snapshot) == 1
    assert "belongs to another user" in snapshot.degraded[0]
    r.close()


def test_a_failure_is_logged_once_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    r = make_recorder(None)
    for _ in range(3):
        r.failed("part", ValueError("x"))
    assert r.failures == {"part": 3}
    assert len(caplog.records) == 1
    r.close()


def test_a_span_is_returned_only_by_the_recorder_that_owns_it() -> None:
    mine, other = make_recorder(None), make_recorder(None)
    span = Span(mine, {}, 0)
    token = CURRENT.set(span)
    assert mine.span() is span
    assert other.span() is None
    CURRENT.reset(token)
    assert mine.span() is None


def test_closing_twice_is_harmless_and_a_later_request_starts_a_new_worker(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    r.record((r.series(REQUESTS, "a"), 5.0))
    first = r.worker.name
    r.close()
    r.close()
    r.record((r.series(REQUESTS, "a"), 5.0))
    assert r.worker.name != first
    assert request_count(r.snapshot()) == 2
    r.close()


def test_concurrent_first_uses_create_one_worker(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    names: set[str] = set()
    gate = threading.Barrier(8)

    def first() -> None:
        gate.wait()
        names.add(r.worker.name)

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 1
    r.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_a_separate_worker_and_does_not_hold_the_parents_lock(
    tmp_path: Path,
) -> None:
    r = make_recorder(tmp_path)
    r.record((r.series(REQUESTS, "a"), 5.0))
    name = r.worker.name
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        r.record((r.series(REQUESTS, "a"), 5.0))
        os.write(writing, b"x" if r.worker.name != name else b"-")
        os._exit(0)
    assert os.read(reading, 1) == b"x"
    os.waitpid(child, 0)
    assert request_count(r.snapshot()) == 2
    assert is_locked(tmp_path / f"{name}.lock")
    r.close()
    assert not is_locked(tmp_path / f"{name}.lock")
    os.close(reading)
    os.close(writing)


def test_the_housekeeper_runs_jobs_that_were_added_before_and_after_it_started(
    tmp_path: Path,
) -> None:
    ran, late = threading.Event(), threading.Event()
    r = Recorder(lambda: (tmp_path, {"pid": 1}), log_bytes=65536)
    r.every(0.01, ran.set)
    r.series(HEARTBEAT)
    r.every(0.01, late.set)
    assert ran.wait(5)
    assert late.wait(5)
    r.close()


def test_a_job_that_outlives_its_writer_stops_the_housekeeper_and_creates_no_writer(
    tmp_path: Path,
) -> None:
    ran: list[int] = []
    ended = threading.Event()
    r = make_recorder(tmp_path)

    def job() -> None:
        ran.append(1)
        try:
            r.worker.fold()
        except Stopped:
            ended.set()
            raise

    housekeeper = Housekeeper([Job(0.01, job)], lambda *_: None)
    housekeeper.start()
    assert ended.wait(5)
    housekeeper.stop(5)
    assert ran == [1]
    assert not r.has_worker
    assert list(tmp_path.iterdir()) == []


def test_on_change_is_called_when_the_writer_goes(tmp_path: Path) -> None:
    calls: list[int] = []
    r = make_recorder(tmp_path)
    r.on_change.append(lambda: calls.append(1))
    r.series(HEARTBEAT)
    r.close()
    r.after_fork()
    assert len(calls) == 2


def test_a_recorder_passes_wrap_job_to_its_housekeeper(tmp_path: Path) -> None:
    ran = threading.Event()
    r = Recorder(lambda: (tmp_path, {"pid": 1}), log_bytes=65536)
    r.wrap_job = lambda run: (run(), ran.set())
    r.every(0.01, lambda: None)
    r.series(HEARTBEAT)
    assert ran.wait(5)
    r.close()


def test_after_a_fork_every_recorder_has_no_worker(tmp_path: Path) -> None:
    from flask_knitperf.recording import recorder as module

    r = make_recorder(tmp_path)
    observe(r, 1)
    worker = r.worker
    assert r._begin() is worker
    module._in_child()
    assert not r.has_worker
    worker.release()


def test_an_unreadable_state_directory_shows_only_this_worker(tmp_path: Path) -> None:
    import shutil

    r = make_recorder(tmp_path / "run")
    (tmp_path / "run").mkdir()
    observe(r, 2)
    shutil.rmtree(tmp_path / "run")
    snapshot = r.snapshot()
    assert request_count(snapshot) == 2
    assert "this worker alone is shown" in snapshot.degraded[0]
    r.close()


def test_background_threads_start_and_stop_with_the_writer_and_are_forgotten_in_a_child() -> None:
    calls: list[str] = []

    class BackgroundThread:
        def start(self) -> None:
            calls.append("start")

        def stop(self) -> None:
            calls.append("stop")

        def forget(self) -> None:
            calls.append("forget")

    recorder = Recorder(lambda: (None, {}))
    recorder.background_threads.append(BackgroundThread())
    assert recorder.worker and calls == ["start"]
    recorder.close()
    assert calls == ["start", "stop"]
    recorder.after_fork()
    assert calls == ["start", "stop", "forget"]


@pytest.mark.slow
def test_only_a_recorder_with_a_housekeeper_can_end_it() -> None:
    ended = threading.Event()
    recorder = Recorder(lambda: (None, {"pid": os.getpid()}))
    assert not recorder.end_housekeeper(ended.set) and not ended.is_set()
    observe(recorder, 1)
    assert recorder.end_housekeeper(ended.set) and ended.wait(5)
    recorder.close()


def test_a_recorder_may_close_while_its_threads_start() -> None:
    recorder = Recorder(lambda: (None, {}), threaded=lambda: True)

    class Closing:
        def start(self) -> None:
            recorder.close()  # as another thread does meanwhile

        def stop(self) -> None:
            pass

    recorder.background_threads.append(Closing())  # type: ignore[arg-type]
    recorder.serve()
    assert recorder.worker is not None
    recorder.close()


@pytest.mark.slow
def test_one_that_begins_and_closes_in_many_threads_leaves_no_thread_and_no_hook() -> None:
    hooks: list[int] = []
    running: set[int] = set()
    errors: list[Exception] = []
    interval = sys.getswitchinterval()

    class BackgroundThread:
        def start(self) -> None:
            running.add(1)

        def stop(self) -> None:
            running.discard(1)

    recorder = Recorder(
        lambda: (None, {}), started=lambda: hooks.append(1), ended=lambda: hooks.append(-1)
    )
    recorder.background_threads.append(BackgroundThread())  # type: ignore[arg-type]

    def begin_and_close() -> None:
        try:
            for _ in range(30):
                assert recorder.worker is not None
                recorder.close()
        except Exception as error:
            errors.append(error)

    before = threading.active_count()
    threads = [threading.Thread(target=begin_and_close) for _ in range(6)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == [] and running == set() and sum(hooks) == 0 < len(hooks)
    assert threading.active_count() == before


def test_a_job_that_closes_does_not_wait_for_another_thread_that_does() -> None:
    recorder = Recorder(lambda: (None, {}))
    assert recorder.worker is not None
    with recorder._closing:  # it waits for the job to end
        job = RecorderThread(target=recorder.close)
        job.start()
        job.join(10)
        assert not job.is_alive() and recorder.has_worker
    recorder.close()


def test_a_job_that_waited_for_a_close_does_not_begin_again() -> None:
    recorder = Recorder(lambda: (None, {}))
    worker, stopped = recorder.worker, threading.Event()

    def begin() -> None:
        try:
            recorder._begin()
        except Stopped:
            stopped.set()

    job = RecorderThread(target=begin)
    with recorder._starting:
        job.start()
        job.join(0.3)  # it waits for the lock
        recorder._worker = None
    job.join(10)
    assert stopped.is_set()
    recorder.close()
    worker.close()


@pytest.mark.slow
def test_background_threads_and_jobs_of_servers_start_with_the_first_request() -> None:
    calls: list[str] = []
    both, server = threading.Event(), threading.Event()

    class BackgroundThread:
        def start(self) -> None:
            calls.append("start")

        def stop(self) -> None:
            calls.append("stop")

    recorder = Recorder(lambda: (None, {}), attach=lambda: (None, {}))
    recorder.background_threads.append(BackgroundThread())  # type: ignore[arg-type]
    recorder.every(60, server.set)
    recorder.every(60, both.set, attached=True)
    assert recorder.worker and both.wait(5) and calls == []
    recorder.every(60, server.set)
    recorder.serve()
    assert calls == ["start"] and server.wait(5)
    recorder.close()
    assert calls == ["start", "stop"]


def test_a_job_that_outlived_its_writer_does_not_wait_for_what_closes(tmp_path: Path) -> None:
    recorder, errors = make_recorder(tmp_path), []
    thread = Housekeeper([Job(1.0, lambda: recorder.worker)], lambda _, error: errors.append(error))
    with recorder._starting:  # a thread that closes, and may wait for the job
        thread.start()
        assert thread._thread is not None
        thread._thread.join(5.0)
        assert not thread._thread.is_alive()
    assert errors == [] and not recorder.has_worker
