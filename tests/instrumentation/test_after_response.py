"""Jobs that wait for the end of a response, in requests and on a live host."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from flask import Response

from flask_knitperf.collectors.memory.gc_freeze import WARM_REQUESTS

from .calls import counts, start


class Cycle:
    """Object that only the garbage collector frees; remembers the thread that does."""

    def __init__(self, threads: list[str]) -> None:
        self.me, self.threads = self, threads

    def __del__(self) -> None:
        self.threads.append(threading.current_thread().name)


@pytest.mark.slow
@pytest.mark.parametrize("collect", ["pressure", "requested", "frozen"])
def test_the_host_is_finalized_in_the_threads_of_its_requests_only(
    make_app: Any, thawed: None, collect: str
) -> None:
    mill = make_app(
        KNITPERF_GC_THRESHOLD_MB=1 if collect == "pressure" else 100_000,
        KNITPERF_GC_FREEZE=collect == "frozen",
    )  # fmt: skip
    threads: list[str] = []
    jobs, waits = mill.session.recorder.after_response, threading.Event()
    wake = jobs.wake
    jobs.wake = lambda: (wake(), waits.set())
    gc.disable()
    try:
        Cycle(threads)
        mill.get("/")  # starts the housekeeper
        if collect == "requested":
            mill.session.commands.submit("collect")
        if collect == "frozen":
            mill.session.profile.requests_started += WARM_REQUESTS
        assert waits.wait(10)
        mill.get("/")
    finally:
        gc.enable()
    assert threads == [threading.current_thread().name]


def test_the_response_is_sent_before_the_job_runs(quiet: Any) -> None:
    order: list[str] = []
    quiet.get("/")
    quiet.session.recorder.after_response.add(lambda: order.append("job"), 5)
    body = start(quiet, "/")
    order.extend("chunk" for _ in body)
    body.close()
    assert order == ["chunk", "job"]
    assert counts(quiet) == {"index": 2}


def test_a_streamed_body_ends_before_the_job_runs(quiet: Any) -> None:
    order: list[str] = []

    def stream() -> Any:
        yield b"1"
        yield b"2"
        order.append("end")

    quiet.app.get("/stream", endpoint="stream")(lambda: Response(stream()))
    quiet.session.recorder.after_response.add(lambda: order.append("job"), 5)
    assert quiet.get("/stream").body == b"12"
    assert order == ["end", "job"]


def test_a_server_that_never_closes_runs_the_job_when_it_drops_the_body(quiet: Any) -> None:
    ran: list[int] = []
    quiet.session.recorder.after_response.add(lambda: ran.append(1), 5)
    body = start(quiet, "/")
    list(body)
    assert ran == []
    del body
    assert ran == [1]


def test_a_list_stays_a_list_and_the_job_runs_at_once(quiet: Any) -> None:
    ran: list[int] = []
    inner = quiet.inner
    quiet.put_inside(lambda environ, respond: [b"".join(inner(environ, respond))])
    quiet.session.recorder.after_response.add(lambda: ran.append(1), 5)
    body = start(quiet, "/")
    assert (type(body), ran) == (list, [1])


@pytest.mark.parametrize("path", ["/perf/", "/health"])
def test_requests_that_are_not_recorded_carry_jobs_too(make_app: Any, path: str) -> None:
    mill = make_app(TESTING=True, KNITPERF_IGNORE_PATHS=["/health"])
    ran: list[int] = []
    mill.session.recorder.after_response.add(lambda: ran.append(1), 5)
    mill.get(path)
    assert ran == [1]


def test_a_failing_job_harms_no_response(quiet: Any) -> None:
    quiet.session.recorder.after_response.add(lambda: 1 / 0, 5)
    assert quiet.get("/").code == 200
    assert list(quiet.session.recorder.failures.values()) == [1]


def test_the_fast_path_serves_again_once_the_jobs_have_run(quiet: Any) -> None:
    quiet.get("/")
    quiet.session.recorder.after_response.add(lambda: None, 5)
    quiet.get("/")
    quiet.get("/")
    assert quiet.session.profile.prepare_at > quiet.session.profile.requests_started + 1


def test_a_body_with_a_job_is_freed_without_a_collection(quiet: Any) -> None:
    quiet.session.recorder.after_response.add(lambda: None, 5)
    body = start(quiet, "/")
    known = weakref.ref(body)
    body.close()
    gc.disable()
    try:
        del body
        assert known() is None
    finally:
        gc.enable()
