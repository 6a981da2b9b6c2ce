"""A request that waits for another thread has a part for that, with what it waits at."""

from __future__ import annotations

import queue
import select
import socket
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

from .conftest import waits

HELD_S = 0.15


def later(call: Callable[[], object]) -> None:
    timer = threading.Timer(HELD_S, call)
    timer.daemon = True
    timer.start()


def wait_for_event() -> None:
    event = threading.Event()
    later(event.set)
    event.wait()


def wait_for_queue() -> None:
    items: queue.Queue[int] = queue.Queue()
    later(lambda: items.put(1))
    assert items.get() == 1


def wait_for_room() -> None:
    items: queue.Queue[int] = queue.LifoQueue(1)
    items.put(1)
    later(items.get)
    items.put(2)


def wait_for_semaphore() -> None:
    permits = threading.BoundedSemaphore(1)
    permits.acquire()
    later(permits.release)
    with permits:
        pass


def wait_for_condition() -> None:
    condition, done = threading.Condition(), list[int]()

    def notify() -> None:
        with condition:
            done.append(1)
            condition.notify()

    later(notify)
    with condition:
        condition.wait_for(lambda: done)


def wait_for_barrier() -> None:
    barrier = threading.Barrier(2)
    later(barrier.wait)
    barrier.wait()


def wait_for_thread() -> None:
    thread = threading.Thread(target=select.select, args=([], [], [], HELD_S))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("view", "part"),
    [
        (wait_for_event, "lock:event"), (wait_for_queue, "lock:queue"), (wait_for_room, "lock:queue"),
        (wait_for_semaphore, "lock:semaphore"), (wait_for_condition, "lock:condition"),
        (wait_for_barrier, "lock:barrier"), (wait_for_thread, "lock:thread"),
    ],
)  # fmt: skip
def test_a_contended_wait_has_the_kind_of_its_object_and_its_line(
    serve: Any, quiet: Any, view: Any, part: str
) -> None:
    parts = serve(view)
    assert list(parts) == [part]
    assert parts[part]["count"] == 1 and parts[part]["ms"] >= HELD_S * 30
    [wait] = waits(quiet)
    assert wait.where.startswith("waits/test_lock_hook.py:")


def test_what_is_free_is_not_a_part(serve: Any) -> None:
    def view() -> None:
        event, permits, items = threading.Event(), threading.Semaphore(3), queue.Queue[int]()
        event.set(), items.put(1)
        assert event.wait() and permits.acquire() and items.get() == 1
        thread = threading.Thread(target=int)
        thread.start()

    assert serve(view) == {}


def test_a_wait_that_times_out_returns_what_it_returned_before(serve: Any) -> None:
    def view() -> None:
        assert threading.Event().wait(0.01) is False
        assert threading.Event().wait(timeout=0.01) is False
        with pytest.raises(queue.Empty):
            queue.Queue[int]().get(timeout=0.01)
        with pytest.raises(RuntimeError, match="un-acquired"):
            threading.Condition().wait()

    parts = serve(view)
    assert (parts["lock:event"]["count"], parts["lock:queue"]["count"]) == (2, 1)


def test_a_wait_within_a_library_has_the_name_of_the_library(serve: Any) -> None:
    library = types.ModuleType("huey.api")
    source = "import threading\ndef wait(): threading.Event().wait(0.01)"
    code = compile(source, threading.__file__.replace("threading.py", "huey.py"), "exec")
    exec(code, library.__dict__)
    assert serve(library.wait)["lock:huey"]["count"] == 1


def test_a_library_that_waits_within_a_call_that_is_timed_is_that_call(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = types.ModuleType("resolver")
    source = "import threading\ndef look_up(*_): threading.Event().wait(0.02); return []"
    code = compile(source, threading.__file__.replace("threading.py", "resolver.py"), "exec")
    exec(code, library.__dict__)
    monkeypatch.setattr(socket, "getaddrinfo", library.look_up)
    quiet.app.add_url_rule("/view", "view", lambda: str(socket.getaddrinfo("rates.example", 80)))
    quiet.get("/view")
    parts = quiet.parts("view")
    assert set(parts) == {"dns:rates.example"} and parts["dns:rates.example"]["ms"] >= 15


@pytest.mark.parametrize("watched", [True, False])
def test_an_exhausted_pool_is_a_wait_for_one_of_its_connections(
    serve: Any, quiet: Any, watched: bool
) -> None:
    engine = create_engine(
        "sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0,
        connect_args={"check_same_thread": False},
    )  # fmt: skip
    engine.connect().close()
    if watched:
        quiet.perf.queries.instrument(engine)

    def view() -> None:
        first = engine.connect()
        later(first.close)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    parts = serve(view)
    assert parts["pool"]["ms"] >= HELD_S * 30
    assert not any(name.startswith("lock") for name in parts)
    [wait] = [wait for wait in waits(quiet) if wait.part == "pool"]
    assert wait.time.count == 1 and wait.where.startswith("waits/test_lock_hook.py:")
    engine.dispose()


def test_the_original_is_back_once_the_application_is_closed(quiet: Any) -> None:
    before = threading.Condition.wait, threading.Thread.join
    quiet.get("/")
    assert threading.Condition.wait is not before[0] and threading.Thread.join is not before[1]
    quiet.session.close()
    assert (threading.Condition.wait, threading.Thread.join) == before


@pytest.mark.slow
def test_a_process_patched_by_gevent_waits_as_before() -> None:
    source = """
        from gevent import monkey
        monkey.patch_all()
        import queue, threading
        import gevent
        from flask import Flask
        from flask_knitperf import KnitPerf

        app = Flask("mill")
        app.config.update(TESTING=True)
        KnitPerf(app)

        @app.get("/")
        def view():
            event, items = threading.Event(), queue.Queue()
            gevent.spawn_later(0.02, event.set)
            gevent.spawn_later(0.04, items.put, 7)
            return f"{event.wait()} {items.get(timeout=5)} {threading.Event().wait(0.01)}"

        print(app.test_client().get("/").text)
        parts = app.extensions["knitperf"].documents.report("run")["endpoints"][0]["parts"]
        print(sorted(part["name"] for part in parts))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert ran.stdout.splitlines()[0] == "True 7 False", ran.stderr
