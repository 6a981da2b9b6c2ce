"""Waits of coroutines share the time of their request, and some of them run side by side."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from asyncio import sleep as imported_sleep
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from flask_knitperf.collectors.waits.async_waits import RunningWaits
from flask_knitperf.metrics.catalogue import WaitThread
from flask_knitperf.metrics.readings.rows import WaitReading

from .conftest import waits

pytestmark = pytest.mark.usefixtures("nothing_read_before")
PAUSE_S = 0.03


def sleeps(quiet: Any) -> list[WaitReading]:
    """Return the sleeps that were recorded; on a busy machine a request waits for its loop too."""
    return [wait for wait in waits(quiet) if wait.part == "sleep"]


def within(quiet: Any, parts: dict[str, Any]) -> bool:
    """Return whether parts are not negative, and sum to at most the time of the request."""
    positive = all(part["ms"] >= 0 and part["share"] >= 0 for part in parts.values())
    return positive and sum(part["ms"] for part in parts.values()) <= quiet.row("view")["mean_ms"]


def test_a_sleep_of_a_coroutine_is_a_part_with_its_line(serve_async: Any, quiet: Any) -> None:
    async def view() -> None:
        await asyncio.sleep(PAUSE_S)

    parts = serve_async(view)
    assert parts["sleep"]["count"] == 1 and parts["sleep"]["ms"] >= PAUSE_S * 900
    assert within(quiet, parts)
    [wait] = sleeps(quiet)
    assert (wait.thread, wait.time.count) == (WaitThread.REQUEST, 1)
    assert wait.where.startswith("waits/test_async_waits.py:")


def test_sleeps_one_after_another_are_counted_as_such(serve_async: Any, quiet: Any) -> None:
    async def view() -> None:
        for _ in range(3):
            await imported_sleep(0.01)

    parts = serve_async(view)
    assert parts["sleep"]["count"] == 3 and parts["sleep"]["ms"] >= 27
    assert {wait.thread for wait in sleeps(quiet)} == {WaitThread.REQUEST}


def test_three_waits_side_by_side_take_the_time_in_which_one_of_them_ran(
    serve_async: Any, quiet: Any
) -> None:
    async def pause() -> None:
        await asyncio.sleep(PAUSE_S)

    async def view() -> None:
        await asyncio.gather(pause(), pause(), pause())

    parts = serve_async(view)
    assert parts["sleep"]["count"] == 3
    assert PAUSE_S * 900 <= parts["sleep"]["ms"] < PAUSE_S * 3000  # less than their sum
    assert within(quiet, parts)
    assert {wait.thread for wait in sleeps(quiet)} == {WaitThread.TASK}


def test_a_task_without_own_code_has_the_line_that_awaits_it(serve_async: Any, quiet: Any) -> None:
    async def view() -> None:
        await asyncio.gather(*(asyncio.sleep(PAUSE_S) for _ in range(3)))
        await asyncio.create_task(asyncio.sleep(0.01))

    serve_async(view)
    first = inspect.getsourcelines(view)[1]
    sites = {wait.where: wait.time.count for wait in sleeps(quiet)}
    assert sites == {
        f"waits/test_async_waits.py:{first + 1}": 3, f"waits/test_async_waits.py:{first + 2}": 1,
    }  # fmt: skip


def test_a_task_of_a_group_has_the_line_of_the_group(serve_async: Any, quiet: Any) -> None:
    async def view() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.sleep(PAUSE_S))

    assert serve_async(view)["sleep"]["count"] == 3
    first = inspect.getsourcelines(view)[1]
    assert {wait.where for wait in sleeps(quiet)} == {f"waits/test_async_waits.py:{first + 1}"}


def test_a_task_that_any_of_several_lines_may_await_has_no_line(
    serve_async: Any, quiet: Any
) -> None:
    async def pause() -> None:
        await asyncio.sleep(PAUSE_S)

    async def view() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(pause())
            group.create_task(asyncio.sleep(PAUSE_S / 2))

    serve_async(view)
    assert "" in {wait.where for wait in waits(quiet)}


def test_the_debug_mode_of_asyncio_changes_nothing(serve: Any, quiet: Any) -> None:
    async def both() -> None:
        await asyncio.gather(asyncio.sleep(0.01), asyncio.to_thread(time.sleep, 0.01))

    parts = serve(lambda: asyncio.run(both(), debug=True))
    assert parts["sleep"]["count"] == 2 and within(quiet, parts)


def test_different_waits_side_by_side_share_the_time(serve_async: Any, quiet: Any) -> None:
    async def view() -> None:
        await asyncio.gather(asyncio.sleep(PAUSE_S), asyncio.to_thread(time.sleep, PAUSE_S * 2))

    parts = serve_async(view)
    assert parts["sleep"]["count"] == 2
    assert parts["sleep"]["ms"] + parts.get("threads", {"ms": 0})["ms"] >= PAUSE_S * 1800
    assert within(quiet, parts)


def test_a_thread_s_work_is_the_requests(serve_async: Any, quiet: Any) -> None:
    async def view() -> None:
        await asyncio.to_thread(time.sleep, PAUSE_S)
        with ThreadPoolExecutor(1) as pool:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(pool, time.sleep, PAUSE_S)
            await loop.run_in_executor(None, contextvars.copy_context().run, time.sleep, PAUSE_S)

    parts = serve_async(view)
    assert parts["sleep"]["count"] == 3 and parts["sleep"]["ms"] >= PAUSE_S * 2500
    assert within(quiet, parts)
    assert {wait.thread for wait in waits(quiet) if wait.part == "sleep"} == {WaitThread.POOL}


def test_threads_side_by_side_take_the_time_in_which_one_of_them_ran(
    serve_async: Any, quiet: Any
) -> None:
    async def view() -> None:
        await asyncio.gather(*(asyncio.to_thread(time.sleep, PAUSE_S) for _ in range(4)))

    parts = serve_async(view)
    assert parts["sleep"]["count"] == 4 and within(quiet, parts)
    assert parts["sleep"]["ms"] >= PAUSE_S * 500
    assert all(wait.where.startswith("waits/test_async_waits.py:") for wait in sleeps(quiet))


def test_results_errors_and_cancellation_are_those_of_asyncio(serve_async: Any) -> None:
    def fails() -> None:
        raise KeyError("lot")

    async def view() -> None:
        assert await asyncio.sleep(0.001, 7) == 7
        assert await asyncio.sleep(0, result="now") == "now"
        assert await asyncio.to_thread(int, "7", base=8) == 7
        with pytest.raises(KeyError, match="lot"):
            await asyncio.to_thread(fails)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 0.01)
        task = asyncio.create_task(asyncio.sleep(5))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TypeError):
            await asyncio.sleep("long")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await asyncio.get_running_loop().run_in_executor(None)  # type: ignore[call-arg]

    parts = serve_async(view)
    assert parts["sleep"]["ms"] < 1000


def test_a_task_that_is_left_running_takes_no_time_of_later_requests(serve_async: Any) -> None:
    async def view() -> None:
        asyncio.create_task(asyncio.sleep(5))  # noqa: RUF006
        await asyncio.sleep(0.002)

    parts = serve_async(view, times=3)
    assert parts["sleep"]["count"] >= 3 and parts["sleep"]["ms"] < 1000


def test_statements_that_block_the_loop_keep_their_time(serve_async: Any, quiet: Any) -> None:
    connect = quiet.perf.queries.wrap_connect(sqlite3.connect)
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "

    async def query() -> None:
        connection = connect(":memory:")
        connection.execute(slow + "SELECT sum(i) FROM n").fetchall()
        connection.close()

    async def view() -> None:
        await asyncio.gather(asyncio.sleep(0.001), query())

    parts = serve_async(view)
    assert within(quiet, parts)
    assert parts["sql"]["ms"] > parts.get("sleep", {"ms": 0})["ms"]


def test_what_works_beside_a_sleep_has_the_time_of_both(serve_async: Any, quiet: Any) -> None:
    async def work() -> None:
        await asyncio.get_running_loop().run_in_executor(None, subprocess.run, ["sleep", "0.1"])

    async def view() -> None:
        await asyncio.gather(asyncio.sleep(0.06), work())

    parts = serve_async(view)
    assert within(quiet, parts) and parts["sleep"]["count"] == 1
    assert parts["sleep"]["ms"] < 30 < 90 < sum(part["ms"] for part in parts.values())


def test_a_section_around_waits_side_by_side_keeps_only_its_rest(
    serve_async: Any, quiet: Any
) -> None:
    async def view() -> None:
        with quiet.perf.section("rates"):
            await asyncio.gather(asyncio.sleep(PAUSE_S), asyncio.sleep(PAUSE_S))

    parts = serve_async(view)
    assert {"section:rates", "sleep"} <= parts.keys() and within(quiet, parts)


def test_code_that_asgiref_runs_in_the_request_s_thread_keeps_its_time(
    serve_async: Any, quiet: Any
) -> None:
    async def view() -> None:
        await sync_to_async(time.sleep)(PAUSE_S)

    parts = serve_async(view)
    assert parts["sleep"]["count"] == 1 and parts["sleep"]["ms"] >= PAUSE_S * 900
    assert within(quiet, parts)


def test_a_loop_within_a_plain_view_is_seen_too(serve: Any, quiet: Any) -> None:
    async def both() -> None:
        await asyncio.gather(asyncio.sleep(PAUSE_S), asyncio.sleep(PAUSE_S))

    parts = serve(lambda: asyncio.run(both()))
    assert parts["sleep"]["count"] == 2 and within(quiet, parts)


def test_many_requests_and_tasks_count_every_wait(quiet: Any) -> None:
    async def one(number: int) -> None:
        with quiet.perf.section("one"):
            await asyncio.sleep(0.001)
        if number % 2:
            await asyncio.to_thread(time.sleep, 0.001)

    async def view() -> str:
        await asyncio.gather(*map(one, range(20)))
        return "ok"

    quiet.app.add_url_rule("/view", "view", view)
    quiet.get("/view")
    clients = [threading.Thread(target=quiet.get, args=("/view",)) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    parts = quiet.parts("view")
    assert parts["sleep"]["count"] == 9 * (20 + 10) and quiet.row("view")["count"] == 9
    assert parts["section:one"]["count"] == 9 * 20
    assert within(quiet, parts) and not quiet.session.recorder.failures


def test_a_coroutine_that_fails_or_is_cancelled_ends_its_wait(serve_async: Any, quiet: Any) -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(0.001)

    async def view() -> None:
        tasks = [asyncio.create_task(fails()) for _ in range(3)]
        await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    parts = serve_async(view)
    assert parts["sleep"]["count"] == 7 and within(quiet, parts)
    assert not quiet.session.recorder.failures


def test_a_failure_of_ours_does_not_reach_the_coroutine(
    serve_async: Any, quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def view() -> None:
        assert await asyncio.sleep(0.001, 7) == 7
        assert await asyncio.to_thread(int, "7") == 7

    monkeypatch.setattr(RunningWaits, "add", None)
    serve_async(view)
    assert quiet.session.recorder.failures["waits"] >= 1


def test_work_of_a_loop_that_does_not_run_yet_is_the_requests(serve: Any, quiet: Any) -> None:
    def view() -> None:
        loop = asyncio.new_event_loop()
        future = loop.run_in_executor(None, time.sleep, PAUSE_S)
        loop.run_until_complete(future)
        loop.close()

    parts = serve(view)
    assert parts["sleep"]["count"] == 1 and within(quiet, parts)
    assert not quiet.session.recorder.failures


def test_asyncio_outside_of_requests_is_as_before(quiet: Any) -> None:
    before = asyncio.sleep, vars(asyncio.BaseEventLoop)["run_in_executor"]
    quiet.get("/")
    assert asyncio.sleep is not before[0] and imported_sleep is asyncio.sleep
    assert inspect.iscoroutinefunction(asyncio.sleep)
    assert inspect.signature(asyncio.sleep) == inspect.signature(before[0])
    assert asyncio.run(asyncio.to_thread(int, "7")) == 7
    quiet.session.close()
    assert (asyncio.sleep, vars(asyncio.BaseEventLoop)["run_in_executor"]) == before


@pytest.mark.slow
def test_libraries_that_are_imported_late_are_hooked_then_and_none_is_imported_by_us() -> None:
    source = """
        import sys
        from flask import Flask
        from flask_knitperf import KnitPerf

        app = Flask("mill")
        app.config.update(TESTING=True)
        KnitPerf(app)

        @app.get("/first")
        def first():
            return "ok"

        @app.get("/second")
        def second():
            import asyncio, httpx, aiohttp
            return "ok"

        @app.get("/third")
        def third():
            import asyncio
            asyncio.run(asyncio.sleep(0.002))
            return "ok"

        client = app.test_client()
        client.get("/first")
        print({"asyncio", "httpx", "aiohttp"} & set(sys.modules) or "none")
        client.get("/second"), client.get("/third")
        rows = app.extensions["knitperf"].documents.report("run")["endpoints"]
        print([part["name"] for row in rows if row["endpoint"] == "third" for part in row["parts"]])
        import httpx, aiohttp
        print(hasattr(httpx.HTTPTransport.handle_request, "__wrapped__"),
              hasattr(aiohttp.ClientSession._request, "__wrapped__"))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert ran.stdout.splitlines() == ["none", "['sleep']", "True True"], ran.stderr
