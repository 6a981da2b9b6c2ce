"""Jobs: runs outside of requests, with their failures and parts."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.collectors.jobs import jobs as module
from flask_knitperf.core.errors import KnitPerfError
from flask_knitperf.metrics.catalogue import JOB_METHOD
from flask_knitperf.recording.span import CURRENT
from flask_knitperf.runtime.session import Session
from tests.runtime.applications import in_child, needs_fork, run_of, without_thread


def rows(mill: Any, window: str = "run") -> dict[str, dict[str, Any]]:
    """Return the jobs of a window, by name."""
    return {row["name"]: row for row in mill.report(window)["jobs"]}


def runs_of(mill: Any) -> dict[str, tuple[int, int]]:
    """Return the number of runs and of failed ones, by job."""
    return {name: (row["runs"], row["failed"]) for name, row in rows(mill).items()}


def parts_of(mill: Any, job: str) -> dict[str, int]:
    return {part["name"]: part["count"] for part in rows(mill)[job]["parts"]}


# -- what a run is ---------------------------------------------------------------------------------


def test_a_block_is_a_run_of_a_job(quiet: Any) -> None:
    for _ in range(3):
        with quiet.perf.job("nightly"):
            pass
    row = rows(quiet)["nightly"]
    assert (row["runs"], row["failed"], row["failures"]) == (3, 0, {})
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["max_ms"] < 1000
    assert row["cpu_ms"] is not None and row["last"] is not None


def test_each_call_of_a_decorated_function_is_a_run(quiet: Any) -> None:
    @quiet.perf.job
    def knit(rows: int, *, size: int = 1) -> int:
        """Knit."""
        return rows * size

    @quiet.perf.job("purl")
    async def purl(rows: int) -> int:
        await asyncio.sleep(0)
        return rows

    assert (knit(2, size=3), asyncio.run(purl(4)), knit.__doc__) == (6, 4, "Knit.")
    name = "test_each_call_of_a_decorated_function_is_a_run.knit"
    assert runs_of(quiet) == {name: (1, 0), "purl": (1, 0)}


def test_a_generator_function_is_refused(quiet: Any) -> None:
    def rows() -> Iterator[int]:
        yield 1

    with pytest.raises(KnitPerfError, match="rows is a generator function"):
        quiet.perf.job("rows")(rows)


def test_a_profiled_function_that_is_part_of_no_request_is_a_job(quiet: Any) -> None:
    @quiet.perf.profile
    def inner() -> None:
        """Do nothing."""

    @quiet.perf.profile
    def outer() -> None:
        inner()

    thread = threading.Thread(target=outer)
    thread.start(), thread.join()
    prefix = "test_a_profiled_function_that_is_part_of_no_request_is_a_job"
    assert runs_of(quiet) == {f"{prefix}.outer": (1, 0)}
    assert quiet.functions()[f"{prefix}.inner"]["count"] == 1


def test_without_an_application_the_work_is_done_all_the_same() -> None:
    perf = KnitPerf()
    with perf.job("nightly"):
        pass
    assert perf.job(lambda: 5)() == 5


# -- failures --------------------------------------------------------------------------------------


def test_a_run_that_raises_has_failed_and_its_error_is_the_hosts(quiet: Any) -> None:
    for error in (ValueError("x"), ValueError("y"), KeyError("z"), SystemExit(3)):
        with pytest.raises(type(error)) as raised, quiet.perf.job("nightly"):
            raise error
        assert raised.value is error
    row = rows(quiet)["nightly"]
    assert (row["runs"], row["failed"]) == (4, 4)
    assert row["failures"] == {"ValueError": 2, "KeyError": 1, "SystemExit": 1}


@pytest.mark.parametrize("code", [None, 0])
def test_an_exit_with_success_is_no_failure(quiet: Any, code: int | None) -> None:
    with pytest.raises(SystemExit), quiet.perf.job("nightly"):
        sys.exit(code)
    assert runs_of(quiet) == {"nightly": (1, 0)}


# -- parts -----------------------------------------------------------------------------------------


def test_sections_statements_and_file_reads_are_its_parts(mill: Any, tmp_path: Path) -> None:
    import pandas as pd

    (tmp_path / "yarn.csv").write_text("a,b\n1,2\n")
    without_thread(mill)
    connect = mill.perf.queries.wrap_connect(sqlite3.connect)
    with mill.perf.job("nightly"):
        with mill.perf.section("load"):
            pd.read_csv(tmp_path / "yarn.csv")
        connection = connect(":memory:")
        for _ in range(3):
            connection.execute("SELECT 1").fetchall()
        connection.close()
    assert parts_of(mill, "nightly") == {"section:load": 1, "file_read": 1, "sql": 3}
    shares = [part["share"] for part in rows(mill)["nightly"]["parts"]]
    assert sum(shares) <= 1 and shares == sorted(shares, reverse=True)
    (query,) = mill.session.documents.queries("run")["queries"]
    assert query["count"] == 3
    assert mill.report()["endpoints"] == []


def test_within_a_request_a_job_is_a_section_and_a_run(quiet: Any) -> None:
    @quiet.app.get("/it", endpoint="it")
    def it() -> str:
        with quiet.perf.job("eager"):
            return "ok"

    quiet.get("/it")
    assert runs_of(quiet) == {"eager": (1, 0)}
    assert quiet.parts("it")["section:eager"]["count"] == 1
    assert (rows(quiet)["eager"]["cpu_ms"], rows(quiet)["eager"]["parts"]) == (None, [])


def test_within_a_job_a_job_is_a_section_and_a_run(quiet: Any) -> None:
    with quiet.perf.job("outer"), quiet.perf.job("inner"):
        pass
    assert runs_of(quiet) == {"outer": (1, 0), "inner": (1, 0)}
    assert parts_of(quiet, "outer") == {"section:inner": 1}


def test_requests_within_a_job_are_requests(quiet: Any) -> None:
    with quiet.perf.job("warm up"):
        assert quiet.client.get("/").data == b"ok"
    assert (quiet.row("index")["count"], runs_of(quiet)) == (1, {"warm up": (1, 0)})


# -- beside requests -------------------------------------------------------------------------------


def test_a_job_makes_no_request_concurrent_and_no_worker_busy(quiet: Any) -> None:
    with quiet.perf.job("long"):
        assert not quiet.session.recorder.spans
        for _ in range(3):
            quiet.get("/")
    assert quiet.session.profile.busy_ns < 1e9
    assert CURRENT.get() is None


def test_threads_may_share_a_job(quiet: Any) -> None:
    job, barrier = quiet.perf.job("shared"), threading.Barrier(4)

    def work() -> None:
        with job:
            barrier.wait(5)
            with job:
                barrier.wait(5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (runs_of(quiet), job._open) == ({"shared": (8, 0)}, {})


def test_tasks_of_an_event_loop_may_share_a_job(quiet: Any) -> None:
    job = quiet.perf.job("shared")

    async def work(opened: asyncio.Event, end: asyncio.Event) -> int | None:
        with job:
            span = CURRENT.get()
            opened.set()
            await end.wait()
        assert span is not None and span.ended and CURRENT.get() is None
        return None

    async def overlap() -> None:
        first_open, second_open, first_end, second_end = (asyncio.Event() for _ in range(4))
        first = asyncio.create_task(work(first_open, first_end))
        await first_open.wait()
        second = asyncio.create_task(work(second_open, second_end))
        await second_open.wait()
        first_end.set()
        await first
        second_end.set()
        await second

    asyncio.run(overlap())
    assert (runs_of(quiet), job._open) == ({"shared": (2, 0)}, {})


def test_a_block_may_end_in_another_thread_than_it_began(quiet: Any) -> None:
    job = quiet.perf.job("moved")
    thread = threading.Thread(target=job.__enter__)
    thread.start(), thread.join()
    job.__exit__(None, None, None)
    assert (runs_of(quiet), job._open) == ({"moved": (1, 0)}, {})


def test_a_run_that_ends_in_another_thread_has_no_cpu_time(quiet: Any) -> None:
    running = module.run(quiet.session.recorder, "moved")
    thread = threading.Thread(target=running.__enter__)
    thread.start(), thread.join()
    assert running.__exit__(None, None, None) is False
    row = rows(quiet)["moved"]
    assert (row["runs"], row["failed"], row["cpu_ms"]) == (1, 0, None)


def test_green_threads_have_no_cpu_time(quiet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_green", lambda: True)
    with quiet.perf.job("green"):
        pass
    assert rows(quiet)["green"]["cpu_ms"] is None


def test_a_client_cannot_pass_a_request_off_as_a_job(quiet: Any) -> None:
    quiet.send(JOB_METHOD.encode().decode(), "/")
    assert runs_of(quiet) == {}
    assert {method for _, method in quiet.rows()} == {"<other>"}


# -- bounds and failures of ours -------------------------------------------------------------------


def test_beyond_a_hundred_names_runs_are_counted_together(quiet: Any) -> None:
    for number in range(130):
        with quiet.perf.job(f"import {number}"), quiet.perf.section("read"):
            pass
    names = rows(quiet)
    assert len(names) == 100
    assert sum(row["runs"] for row in names.values()) == 130
    assert parts_of(quiet, "<other>") == {"section:read": 31}
    quiet.get("/")
    assert quiet.row("index")["count"] == 1


def test_a_failure_of_ours_does_not_reach_the_job(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise OSError("disk on fire")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_known_name", failing)
        with quiet.perf.job("nightly"):
            pass
    with quiet.perf.job("nightly"):
        monkeypatch.setattr(type(quiet.session.recorder.worker), "series", failing)
    monkeypatch.undo()
    assert "jobs failed 3 times" in quiet.degraded()


# -- over time -------------------------------------------------------------------------------------


def test_a_job_of_a_process_that_has_ended_keeps_its_last_run(
    make_app: Callable[..., Any], time: Any
) -> None:
    server = without_thread(make_app(), time.clock())
    server.get("/")
    for _ in range(3):
        command = without_thread(make_app(), time.clock())
        time.pass_(60)
        with command.perf.job("nightly"):
            pass
        last = rows(server)["nightly"]["last"]
        command.session.close()
        assert rows(server)["nightly"]["last"] == last
        server.session.jobs.publish_heartbeat()  # retires the process
        assert rows(server)["nightly"]["last"] == last
    assert rows(server)["nightly"]["runs"] == 3


def test_a_window_counts_the_runs_within_it(make_app: Callable[..., Any], time: Any) -> None:
    mill = without_thread(make_app(), time.clock())
    mill.get("/")
    with mill.perf.job("nightly"):
        pass
    time.pass_(600)
    mill.session.jobs.fold()
    time.pass_(400)
    with mill.perf.job("hourly"):
        pass
    assert set(rows(mill, "5m")) == {"hourly"}
    assert set(rows(mill, "1h")) == {"nightly", "hourly"}


@needs_fork
def test_a_job_in_a_forked_child_counts_in_the_run_of_its_parent(mill: Any) -> None:
    mill.get("/")

    def work() -> Any:
        with mill.perf.job("forked"):
            pass
        return str(run_of(mill))

    assert in_child(work) == str(run_of(mill))
    assert runs_of(mill) == {"forked": (1, 0)}


def test_the_page_and_the_terminal_show_jobs(make_app: Callable[..., Any]) -> None:
    from flask_knitperf.render import terminal

    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda _: True)
    with pytest.raises(ValueError, match="x"), mill.perf.job("nightly"), mill.perf.section("load"):
        raise ValueError("x")
    page = mill.get("/perf/", HTTP_ACCEPT="text/html").body.decode()
    assert all(text in page for text in ("nightly", "section:load", "1 × ValueError"))
    text = terminal.report(mill.report())
    assert "JOBS" in text and "nightly" in text


def test_sessions_hold_no_span_of_a_job(quiet: Any) -> None:
    session: Session = quiet.session
    with quiet.perf.job("nightly"):
        span = CURRENT.get()
        assert span is not None and span.owner is session.recorder
    assert span.ended


def test_a_job_of_several_applications_belongs_to_the_current_one(
    make_app: Callable[..., Any],
) -> None:
    perf = KnitPerf()
    one, two = (make_app(name=name, perf=perf, TESTING=True) for name in ("one", "two"))
    with two.app.app_context(), perf.job("nightly"):
        pass
    with perf.job("of neither"):
        pass
    assert (runs_of(one), runs_of(two)) == ({}, {"nightly": (1, 0)})
    assert isinstance(one.app, Flask)
