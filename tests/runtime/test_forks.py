"""Forked processes: each records as a worker, and none disturbs its parent."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Response

from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.storage import state_dir

from ..conftest import start_wsgi
from .applications import THREADS, counts, in_child, needs_fork, our_threads, run_of, without_thread


@needs_fork
def test_a_child_forked_before_the_first_request_records(mill: Any) -> None:
    assert in_child(lambda: [mill.get("/").code, counts(mill)]) == [200, {"index": 1}]
    assert not mill.session.recorder.has_worker


@needs_fork
def test_a_child_records_as_a_separate_worker(mill: Any) -> None:
    def work() -> list[Any]:
        mill.get("/"), mill.get("/")
        return [mill.session.recorder.worker.name, our_threads(), counts(mill)]

    mill.get("/")
    name, threads, seen = in_child(work)
    assert name != mill.session.recorder.worker.name and (threads, seen) == (THREADS, {"index": 3})


@needs_fork
def test_a_parent_continues_after_a_fork(mill: Any) -> None:
    mill.get("/")
    worker = mill.session.recorder.worker
    in_child(lambda: mill.get("/").code)
    mill.get("/")
    assert mill.session.recorder.worker is worker and counts(mill) == {"index": 3}


@needs_fork
def test_an_idle_child_leaves_no_trace(mill: Any) -> None:
    mill.get("/")
    before = state_dir.workers(run_of(mill))
    in_child(lambda: None)
    assert state_dir.workers(run_of(mill)) == before and counts(mill) == {"index": 1}


@pytest.mark.slow
@needs_fork
def test_a_closed_parent_is_not_kept_alive_by_its_child(mill: Any) -> None:
    mill.get("/")
    run, name = run_of(mill), mill.session.recorder.worker.name
    out, into = os.pipe()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(into, b"x")  # by now it has closed the descriptors of its parent
        os.read(ready, 1)
        os._exit(0)
    os.read(out, 1)
    mill.session.close()
    locked = state_dir.is_locked(run / f"{name}.lock")
    os.write(go, b"x")
    os.waitpid(child, 0)
    for fd in (out, into, ready, go):
        os.close(fd)
    assert not locked


@needs_fork
def test_requests_in_flight_at_a_fork_belong_to_the_parent(mill: Any) -> None:
    mill.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    _, body = start_wsgi(mill.app.wsgi_app, "/rows")
    next(iter(body))

    def work() -> list[Any]:
        list(body)
        body.close()
        mill.get("/")
        return [len(mill.session.recorder.spans), counts(mill)]

    assert in_child(work) == [0, {"index": 1}]
    list(body)
    body.close()
    assert counts(mill) == {"index": 1, "rows": 1}


@needs_fork
def test_a_fork_in_the_middle_of_a_view_counts_the_request_once(mill: Any) -> None:
    @mill.app.get("/it", endpoint="it")
    def it() -> str:
        return str(in_child(lambda: mill.get("/").code))

    assert mill.get("/it").body == b"200"
    assert counts(mill) == {"it": 1, "index": 1}


@needs_fork
def test_a_child_that_finishes_a_request_of_its_parent_does_not_count_it_again(mill: Any) -> None:
    children: list[int] = []

    @mill.app.get("/it", endpoint="it")
    def it() -> str:
        children.append(os.fork())
        return "x"

    body = mill.get("/it").body
    if children[0] == 0:
        os._exit(0 if body == b"x" else 1)
    _, status = os.waitpid(children[0], 0)
    assert (status, counts(mill)) == (0, {"it": 1})


@needs_fork
def test_a_grandchild_records_too(mill: Any) -> None:
    mill.get("/")
    seen = in_child(lambda: [mill.get("/").code, in_child(lambda: [mill.get("/").code])])
    assert (seen, counts(mill)) == ([200, [200]], {"index": 3})


@needs_fork
def test_a_child_times_each_garbage_collection_once(mill: Any) -> None:
    mill.get("/")
    assert in_child(lambda: [mill.get("/").code, gc.callbacks.count(WATCH)]) == [200, 1]


@pytest.mark.slow
@needs_fork
def test_a_lock_held_by_another_thread_at_a_fork_does_not_block_the_child(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = without_thread(make_app(KNITPERF_ACCESS_TOKEN="a-long-enough-token"), time.clock())
    mill.app.get("/slow", endpoint="slow")(lambda: time.pass_(3) or "x")
    mill.get("/slow"), mill.get("/")

    def use() -> None:
        mill.get("/slow"), mill.get("/")
        mill.send("POST", "/perf/sign-in")
        mill.get("/perf/report", HTTP_AUTHORIZATION="Bearer a-long-enough-token")
        mill.session.profile.in_flight.tick(), mill.session.caches.expire(), mill.session.close()

    def work() -> bool:
        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(2)
        return thread.is_alive()

    blocked = []
    locks = locks_of(mill)
    for name, lock in locks.items():
        with lock:
            if in_child(work):
                blocked.append(name)
    assert len(locks) >= 6 and blocked == []


def locks_of(mill: Any) -> dict[str, Any]:
    """Return every lock of ours that is reachable from an application, by its path of attributes."""
    kinds = (type(threading.Lock()), type(threading.RLock()))
    seen: set[int] = set()
    locks: dict[str, Any] = {}
    todo: list[tuple[str, Any]] = [
        ("session", mill.session),
        ("wsgi", mill.app.wsgi_app),
        ("gc", WATCH),
    ]
    while todo:
        name, thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, kinds):
            locks[name] = thing
            continue
        inside = dict(getattr(thing, "__dict__", {}))
        for number, cell in enumerate(getattr(thing, "__closure__", None) or ()):
            inside[f"<{number}>"] = cell.cell_contents
        for key, value in inside.items():
            ours = type(value).__module__.startswith("flask_knitperf")
            of_ours = getattr(value, "__module__", "") and str(value.__module__).startswith(
                "flask_knitperf"
            )
            if ours or of_ours or isinstance(value, kinds):
                todo.append((f"{name}.{key}", value))
    return locks


@pytest.fixture(autouse=True)
def _no_stray_children() -> Iterator[None]:
    """Fail a forked child that comes back as a second test run."""
    own = os.getpid()
    yield
    if os.getpid() != own:
        os._exit(70)
