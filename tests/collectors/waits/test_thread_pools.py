"""Work that a request submits to a thread pool and waits for is part of the request."""

from __future__ import annotations

import concurrent.futures
import gc
import inspect
import sqlite3
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pandas as pd
import pytest

from flask_knitperf.collectors.waits import thread_pools
from flask_knitperf.collectors.waits.hooks import WAIT_HOOKS

from .conftest import HEAD_S, waits

pytestmark = pytest.mark.usefixtures("nothing_read_before")


def results(pool: ThreadPoolExecutor, calls: list[Any]) -> list[Any]:
    return [future.result() for future in [pool.submit(call) for call in calls]]


def mapped(pool: ThreadPoolExecutor, calls: list[Any]) -> list[Any]:
    return list(pool.map(lambda call: call(), calls))


def completed(pool: ThreadPoolExecutor, calls: list[Any]) -> list[Any]:
    return [future.result() for future in as_completed([pool.submit(call) for call in calls], 30)]


def waited(pool: ThreadPoolExecutor, calls: list[Any]) -> list[Any]:
    futures = [pool.submit(call) for call in calls]
    done, _ = concurrent.futures.wait(futures)
    return [future.result() for future in done]


def left(pool: ThreadPoolExecutor, calls: list[Any]) -> list[Any]:
    return [pool.submit(call) for call in calls]  # its ``with`` waits


WAYS = [results, mapped, completed, waited, left]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_calls_side_by_side_are_parts_of_the_request_and_sum_to_the_time_it_waited(
    serve: Any, quiet: Any, service: str, way: Any
) -> None:
    def view() -> None:
        with ThreadPoolExecutor(4) as pool:
            assert len(way(pool, [lambda: urlopen(service).read()] * 4)) == 4

    parts = serve(view)
    whole = quiet.row("view")["mean_ms"]
    assert parts["http:localhost"]["count"] == 4
    assert parts["http:localhost"]["ms"] >= HEAD_S * 500
    assert sum(part["ms"] for part in parts.values()) <= whole
    assert {wait.thread for wait in waits(quiet) if wait.part == "http:localhost"} == {"pool"}


def test_one_call_after_another_in_a_pool_of_one_thread_keeps_its_time(
    serve: Any, service: str
) -> None:
    def view() -> None:
        with ThreadPoolExecutor(1) as pool:
            results(pool, [lambda: urlopen(service).read()] * 3)

    assert serve(view)["http:localhost"]["ms"] >= 3 * HEAD_S * 600


def test_work_without_parts_and_queueing_is_waiting_for_threads(serve: Any) -> None:
    pool, gate = ThreadPoolExecutor(1), threading.Event()

    def view() -> None:
        threading.Timer(0.03, gate.set).start()
        pool.submit(sum, range(10)).result()

    with pool:
        pool.submit(gate.wait)  # the pool is busy, for another request
        parts = serve(view)
    assert parts["threads"]["count"] == 1 and parts["threads"]["ms"] > 0
    assert "sleep" not in parts


def burn(ms: float) -> None:
    until = time.thread_time() + ms / 1000
    while time.thread_time() < until:
        sum(range(100))


def computing(mill: Any, part: str) -> float:
    """Return the CPU share of a part of the view, by its sampled requests."""
    readings = mill.session.recorder.snapshot().readings
    [row] = [row for row in readings.endpoints if row.endpoint == "view"]
    [reading] = [one for one in row.parts if one.name == part]
    return float(reading.sampled_cpu.total / reading.sampled_wall.total)


def test_work_that_computes_in_a_pool_is_computing(serve: Any, quiet: Any) -> None:
    def view() -> None:
        with ThreadPoolExecutor(2) as pool:
            mapped(pool, [lambda: burn(40)] * 2)

    serve(view)
    assert computing(quiet, "threads") > 0.1


def test_a_section_in_a_pool_has_the_cpu_time_of_its_thread(serve: Any, quiet: Any) -> None:
    def work() -> None:
        with quiet.perf.section("sums"):
            burn(30)
        time.sleep(0.01)

    def view() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()

    serve(view)
    assert computing(quiet, "section:sums") > 0.1


def test_computing_in_a_pool_is_not_that_of_neighbours(quiet: Any) -> None:
    beside, done = threading.Event(), threading.Event()

    def view() -> str:
        with ThreadPoolExecutor(1) as pool:
            return str(pool.submit(burn, 60).result())

    quiet.app.add_url_rule("/beside", "beside", lambda: str(beside.set() or done.wait(10)))
    quiet.app.add_url_rule("/view", "view", view)
    other = threading.Thread(target=quiet.get, args=("/beside",))
    other.start()
    assert beside.wait(10)
    quiet.get("/view")
    done.set()
    other.join()
    readings = quiet.session.recorder.snapshot().readings
    [row] = [row for row in readings.endpoints if row.endpoint == "view"]
    assert row.contention.count == 1 and row.contention.total < 30e6


def test_files_that_several_threads_read_are_file_reads_of_the_request(
    quiet: Any, tmp_path: Path
) -> None:
    for name in ("bom", "lots", "yarn"):
        (tmp_path / f"{name}.csv").write_text("a,b\n" + "1,2\n" * 5000)

    def view() -> str:
        with ThreadPoolExecutor(3) as pool:
            frames = pool.map(pd.read_csv, [tmp_path / f"{n}.csv" for n in ("bom", "lots", "yarn")])
            return str(sum(map(len, frames)))

    reads = quiet.read_by(view)
    assert sorted(read["path"].rpartition("/")[2] for read in reads) == [
        "bom.csv", "lots.csv", "yarn.csv",
    ]  # fmt: skip
    assert quiet.parts("read")["file_read"]["count"] == 3


def test_statements_in_threads_count_as_the_requests(quiet: Any, tmp_path: Path) -> None:
    path = tmp_path / "mill.db"
    connect = quiet.perf.queries.wrap_connect(sqlite3.connect)

    def query(number: int) -> Any:
        connection = connect(path)
        try:
            return connection.execute("SELECT ?", (number,)).fetchall()
        finally:
            connection.close()

    def view() -> str:
        query(0)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(query, range(1, 8)))
        return "ok"

    quiet.app.add_url_rule("/view", "view", view)
    quiet.get("/view")
    row = quiet.row("view")
    assert quiet.parts("view")["sql"]["count"] == 8
    assert row["queries"]["per_request"] == 8
    [reading] = quiet.session.recorder.snapshot().readings.endpoints
    assert [(repeat.kind, repeat.time.count) for repeat in reading.repeats] == [("n_plus_one", 8)]


def test_a_section_and_a_nested_pool_within_a_task_are_parts(serve: Any, quiet: Any) -> None:
    def inner() -> None:
        with quiet.perf.section("explode"):
            time.sleep(0.01)

    def outer() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(inner).result()

    def view() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(outer).result()

    parts = serve(view)
    assert parts["sleep"]["count"] == parts["section:explode"]["count"] == 1
    assert sum(part["share"] for part in parts.values()) <= 1


def test_work_that_a_request_does_not_wait_for_is_not_part_of_it(serve: Any, quiet: Any) -> None:
    pool, futures = ThreadPoolExecutor(1), list[Any]()
    with pool:
        parts = serve(lambda: futures.append(pool.submit(time.sleep, 0.02)))
        futures[0].result()
    assert parts == {} and not waits(quiet)


def test_own_time_beside_the_pool_stays_own_time(serve: Any, service: str) -> None:
    def view() -> None:
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(lambda: urlopen(service).read()) for _ in range(4)]
            while not all(future.done() for future in futures):
                time.sleep(0.001)
            assert [future.result() for future in futures] == [b"1.07"] * 4

    parts = serve(view)
    assert parts["http:localhost"]["count"] == 4
    assert parts["http:localhost"]["ms"] < parts["sleep"]["ms"]


def test_results_errors_timeouts_and_cancellation_are_those_of_the_pool(serve: Any) -> None:
    def fails() -> None:
        raise KeyError("lot")

    def view() -> None:
        gate = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(int, "7", base=8).result() == 7
            with pytest.raises(KeyError, match="lot"):
                pool.submit(fails).result()
            assert isinstance(pool.submit(fails).exception(), KeyError)
            slow = pool.submit(gate.wait, 30)
            with pytest.raises(concurrent.futures.TimeoutError):
                slow.result(0.001)
            assert pool.submit(print).cancel()
            gate.set()
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(print)
        with pytest.raises(TypeError):
            pool.submit()  # type: ignore[call-arg]

    assert "threads" in serve(view)


def test_a_future_that_outlives_its_request_does_not_keep_it(serve: Any, quiet: Any) -> None:
    futures, spans = list[Any](), list[Any]()
    pool = ThreadPoolExecutor(1)

    def view() -> None:
        spans.append(
            weakref.ref(quiet.session.recorder.span().environ.setdefault("marker", Marker()))
        )
        futures.extend(pool.submit(time.sleep, 0.001) for _ in range(3))
        futures[0].result()

    class Marker:
        pass

    with pool:
        serve(view)
    gc.collect()
    assert all(future.done() for future in futures)
    assert quiet.session.reservoir is None or spans[0]() is None


def test_many_threads_and_requests_count_every_call(quiet: Any) -> None:
    pool = ThreadPoolExecutor(8)

    def view() -> str:
        list(pool.map(time.sleep, [0.001] * 10))
        return "ok"

    quiet.app.add_url_rule("/view", "view", view)
    quiet.get("/")  # the first request replaces the functions that wait
    clients = [threading.Thread(target=quiet.get, args=("/view",)) for _ in range(12)]
    with pool:
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    parts = quiet.parts("view")
    assert all(wait.where.startswith("waits/test_thread_pools.py:") for wait in waits(quiet))
    assert parts["sleep"]["count"] == 120 and quiet.row("view")["count"] == 12
    assert sum(part["share"] for part in parts.values()) <= 1


def test_tasks_beyond_the_bound_run_as_before(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pools, "_MAX_TASKS", 2)

    def view() -> None:
        with ThreadPoolExecutor(1) as pool:
            assert sum(pool.map(int, ["1"] * 5)) == 5

    serve(view)


def test_the_originals_are_back_once_the_application_is_closed(quiet: Any) -> None:
    owners = [
        (ThreadPoolExecutor, "submit"), (ThreadPoolExecutor, "shutdown"), (Future, "result"),
        (Future, "exception"), (concurrent.futures, "wait"), (concurrent.futures, "as_completed"),
    ]  # fmt: skip
    before = [vars(owner)[name] for owner, name in owners]
    signatures = [inspect.signature(function) for function in before]
    quiet.get("/")
    assert WAIT_HOOKS.installed
    assert [inspect.signature(vars(owner)[name]) for owner, name in owners] == signatures
    quiet.session.close()
    assert [vars(owner)[name] for owner, name in owners] == before
