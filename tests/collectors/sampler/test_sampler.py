"""The sampler: right lines, running or waiting, for requests in flight only."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time as system_time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.analysis.hot_lines import whole
from flask_knitperf.collectors.sampler import sampler as module
from flask_knitperf.collectors.sampler.sample_buffer import SampleBuffer
from flask_knitperf.collectors.sampler.sample_counter import TickTiming
from flask_knitperf.collectors.sampler.sampler import Sampler
from flask_knitperf.collectors.sampler.thread_clocks import ThreadClocks
from flask_knitperf.metrics.stack_trie import Sampled, StackFrame
from flask_knitperf.recording.recorder import Recorder
from flask_knitperf.recording.span import Span

from .applications import MS, SampledApplication, linux

A = (StackFrame("a.py", 1, "f", True),)


def line_of(mark: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.endswith("# " + mark))
    return f"sampler/test_sampler.py:{number}"


# -- samples -----------------------------------------------------------------------------------------


@linux
def test_a_wait_is_sampled_at_its_line_as_waiting(sampled: SampledApplication) -> None:
    inside = threading.Event()

    def view() -> None:
        inside.set()
        sampled.done.wait(10)  # waits here

    sampled.sample_view(view, inside, rests=True)
    [line] = sampled.lines()
    assert line.where == line_of("waits here")
    assert (line.samples, line.running) == (3, 0) and line.waiting > 0
    assert line.function.endswith("view") and next(iter(line.inside)) == "Event.wait"


@linux
@pytest.mark.parametrize("with_statement", [True, False])
def test_a_lock_is_the_callee_of_the_line_that_waits_for_it(
    sampled: SampledApplication, with_statement: bool
) -> None:
    inside, lock = threading.Event(), threading.Lock()

    def view() -> None:
        inside.set()
        if with_statement:
            with lock:  # waits for the lock
                return
        lock.acquire()  # waits for it by hand
        lock.release()

    threading.Thread(target=lambda: (sampled.done.wait(10), lock.release())).start()
    lock.acquire()
    sampled.sample_view(view, inside, rests=True)
    [line] = sampled.lines()
    assert line.where == line_of("waits for the lock" if with_statement else "waits for it by hand")
    assert line.running == 0 and line.calls == "threading.Lock.acquire"


@linux
def test_computing_is_sampled_at_its_line_as_running(sampled: SampledApplication) -> None:
    inside = threading.Event()

    def view() -> None:
        inside.set()
        while not sampled.done.is_set():
            sum(range(2000))  # computes here

    sampled.sample_view(view, inside, ticks=8, late=0.005)  # a thread that computes delays ticks
    lines = sampled.lines()
    running, waiting = sum(line.running for line in lines), sum(line.waiting for line in lines)
    assert running > waiting
    assert line_of("computes here") in [line.where for line in lines]


@pytest.mark.parametrize("computes", [False, True])
def test_an_async_view_is_sampled_though_another_thread_runs_it(
    sampled: SampledApplication, computes: bool
) -> None:
    inside = threading.Event()

    async def awaiting() -> str:
        inside.set()
        while not sampled.done.is_set():
            if computes:
                sum(range(2000))  # computes in a coroutine
            else:
                await asyncio.sleep(0.001)  # awaits here
        return ""

    sampled.mill.app.add_url_rule("/awaiting", "awaiting", awaiting)
    thread = threading.Thread(target=sampled.mill.get, args=("/awaiting",))
    thread.start()
    assert inside.wait(10)
    for _ in range(2000):  # at first the thread of its event loop is unknown
        sampled.sampler.tick(0.005 if computes else 0.0)
        requests = sampled.sampler._counter.requests.values()
        stacks = [path for request in requests for path in request.stacks]
        if any(place.own for path in stacks for place in path):
            break
    sampled.done.set()
    thread.join(10)
    sampled.sampler.tick()
    lines = {line.where for line in sampled.lines("awaiting")}
    assert line_of("computes in a coroutine" if computes else "awaits here") in lines


@linux
@pytest.mark.parametrize("computes", [True, False])
def test_the_thread_of_a_pool_is_sampled_while_the_request_waits_for_it(
    sampled: SampledApplication, computes: bool
) -> None:
    inside = threading.Event()

    def work() -> None:
        inside.set()
        while not sampled.done.is_set():
            if computes:
                sum(range(2000))  # computes in a pool
            else:
                sampled.done.wait(10)  # waits in a pool

    def view() -> str:
        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(work), pool.submit(work)]:
                future.result()
        return ""

    sampled.mill.app.add_url_rule("/fan-out", "fan-out", view)
    thread = threading.Thread(target=sampled.mill.get, args=("/fan-out",))
    thread.start()
    assert inside.wait(10)
    expected = line_of("computes in a pool" if computes else "waits in a pool")
    for _ in range(
        2000
    ):  # at first the request may not wait yet, or a busy machine has no core for it
        sampled.sampler.tick(0.005 if computes else 0.0)
        times = [
            time for request in sampled.sampler._counter.requests.values()
            for path, time in request.stacks.items()
            if any(frame.shown() == expected for frame in path)
        ]  # fmt: skip
        running, waiting = (sum(time[place] for time in times) for place in (0, 1))
        if times and (running > waiting) is computes:
            break
    sampled.done.set()
    thread.join(10)
    sampled.sampler.tick()
    [line] = [line for line in sampled.lines("fan-out") if line.where == expected]
    assert (line.running > line.waiting) is computes


def test_only_requests_in_flight_are_sampled(sampled: SampledApplication) -> None:
    other = threading.Thread(target=sampled.done.wait, args=(10,))
    other.start()
    sampled.mill.get("/")
    sampled.sampler.tick()
    sampled.done.set()
    other.join()
    assert sampled.session.details.read(None, 0, 0) == {}


def test_a_stack_ends_at_the_application_and_omits_this_package(
    sampled: SampledApplication,
) -> None:
    inside = threading.Event()

    def view() -> None:
        with sampled.mill.perf.section("wait"):
            inside.set()
            sampled.done.wait(10)

    sampled.sample_view(view, inside, ticks=1)
    trie = whole(sampled.session.details.read(None, 0, 0)["v", "GET"])
    [(path, _)] = list(trie.stacks())
    assert path[0].function == "Flask.full_dispatch_request"
    assert not [place for place in path if "flask_knitperf" in place.file]


def test_a_request_that_ended_meanwhile_is_not_sampled_again(sampled: SampledApplication) -> None:
    inside = threading.Event()

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    sampled.meanwhile = sampled.done.set
    sampled.sample_view(view, inside, ticks=1)
    assert [line.samples for line in sampled.lines()] == [1]


def test_expensive_ticks_become_rarer_down_to_one_a_second(
    recorder: Recorder,
) -> None:
    sampler = Sampler(recorder, SampleBuffer(lambda _: 1))
    assert sampler.interval() == pytest.approx(0.05)
    sampler._cost_ns = 1_000_000
    assert sampler.interval() == pytest.approx(0.001 / module.MAX_CORE_SHARE)
    sampler._cost_ns = 1e9
    assert sampler.interval() == 1.0


def test_an_idle_worker_looks_for_requests_twice_a_second(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler(recorder, SampleBuffer(lambda _: 1))
    monkeypatch.setattr(Recorder, "idle", True)
    assert sampler.interval() == 0.5
    recorder.spans[Span(recorder, {})] = None
    assert sampler.interval() == pytest.approx(0.05)
    recorder.spans.clear()


def test_detail_mode_ends_after_a_minute(recorder: Recorder, time: Any) -> None:
    recorder.clock = time.clock()
    sampler = Sampler(recorder, SampleBuffer(lambda _: 1))
    sampler.sample_in_detail()
    assert sampler.interval() == pytest.approx(0.01)
    time.pass_(61)
    assert sampler.interval() == pytest.approx(0.05)


def test_a_sampler_that_keeps_failing_stops_and_reports_it(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler(recorder, SampleBuffer(lambda _: 1))
    monkeypatch.setattr(sampler, "tick", lambda _: 1 / 0)
    monkeypatch.setattr(sampler, "interval", lambda: 0.001)
    sampler.start()
    thread = sampler._thread
    assert thread is not None
    thread.join(10)
    assert "ZeroDivisionError" in sampler.degraded and recorder.failures["sampler"] == 5
    sampler.stop()


@pytest.mark.parametrize("enabled", [True, False])
def test_no_collection_starts_while_stacks_are_taken_where_that_is_unsafe(
    sampled: SampledApplication, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    inside, states = threading.Event(), []
    reader = sampled.sampler._reader
    read_stack = reader.stack

    def stack(frame: Any) -> Any:
        states.append(gc.isenabled())
        return read_stack(frame)

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    monkeypatch.setattr(reader, "stack", stack)
    sampled.meanwhile = lambda: states.append(gc.isenabled())
    (gc.enable if enabled else gc.disable)()
    try:
        sampled.sample_view(view, inside, ticks=1)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert states == [enabled and sys.version_info >= (3, 12), enabled]


def test_a_tick_that_was_in_the_run_queue_was_not_late(
    sampled: SampledApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, timings = threading.Event(), list[TickTiming]()
    counter = sampled.sampler._counter
    count = counter.count

    def spy(samples: Any, shares: Any, cpu: Any, timing: TickTiming, interval: int) -> None:
        timings.append(timing)
        count(samples, shares, cpu, timing, interval)

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    waits = iter([7 * MS, 10 * MS, 10 * MS])
    recorder = sampled.session.recorder
    recorder.clock = replace(recorder.clock, run_queue_ns=lambda: next(waits, 10 * MS))
    monkeypatch.setattr(counter, "count", spy)
    sampled.sampler._run_queue_wait()
    sampled.session.profile.cpu_known = False  # so that no request reads that clock
    sampled.sample_view(view, inside, ticks=2, late=0.005)
    assert [round(timing.late, 4) for timing in timings] == [0.002, 0.005]


TORTURE = """
import gc, sys, threading, time
from flask import Flask
from flask_knitperf import KnitPerf

app = Flask("tortured")
app.config.update(KNITPERF_STATE_DIR=sys.argv[1], KNITPERF_SAMPLER=True)

def deep(levels):
    return deep(levels - 1) if levels else [object() for _ in range(50)]

@app.get("/")
def index():
    for _ in range(20):
        deep(60)
    return "ok"

KnitPerf(app)
gc.set_threshold(20)
sys.setswitchinterval(1e-5)
stopping = threading.Event()

def send():
    client = app.test_client()
    while not stopping.is_set():
        client.get("/")

threads = [threading.Thread(target=send) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(12):
    time.sleep(0.5)
    app.extensions["knitperf"].sampler.sample_in_detail()
stopping.set()
for thread in threads:
    thread.join()
print(app.extensions["knitperf"].recorder.failures)
"""


@pytest.mark.slow
def test_a_process_survives_collections_and_thread_switches_at_every_step(tmp_path: Path) -> None:
    """On 3.11 this crashed within three seconds while frames were taken with the collector on."""
    process = subprocess.run(
        [sys.executable, "-c", TORTURE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (0, "{}\n"), process.stderr[:2000]


def test_the_collector_is_enabled_again_after_a_failure(sampled: SampledApplication) -> None:
    inside = threading.Event()

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    sampled.sampler._reader.stack = lambda _: 1 / 0  # type: ignore[assignment,method-assign]
    with pytest.raises(ZeroDivisionError):
        sampled.sample_view(view, inside, ticks=1)
    assert gc.isenabled()


@linux
def test_a_thread_in_the_run_queue_counts_as_running(
    sampled: SampledApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ThreadClocks, "oversubscribed", lambda _: True)
    monkeypatch.setattr(ThreadClocks, "runnable", lambda *_: True)
    inside = threading.Event()

    def view() -> None:
        inside.set()
        sampled.done.wait(10)

    sampled.sample_view(view, inside, rests=True)
    assert sampled.lines()[0].waiting == 0


def test_it_can_be_switched_off(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_SAMPLER=False)
    mill.get("/")
    assert mill.session.sampler is None
    assert not [t for t in threading.enumerate() if "sampler" in t.name]


@pytest.mark.slow
def test_its_thread_ends_with_the_application_and_starts_at_the_first_request(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(KNITPERF_SAMPLER=True)
    assert not [t for t in threading.enumerate() if "sampler" in t.name]
    mill.get("/")
    assert [t for t in threading.enumerate() if "sampler" in t.name]
    mill.session.close()
    assert not [t for t in threading.enumerate() if "sampler" in t.name]


@pytest.mark.slow
def test_samples_of_live_workers_reach_the_report_and_the_disk(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(KNITPERF_SAMPLER=True)
    requests = iter(range(1000))

    @mill.app.get("/sleeps")
    def sleeps() -> str:
        system_time.sleep(0.12 if next(requests) % 2 else 0.3)  # sleeps here
        return ""

    for _ in range(14):
        mill.get("/sleeps")
    [line, *_] = mill.row("sleeps")["lines"]
    assert line["where"] == line_of("sleeps here") and line["samples"] >= 1
    document = mill.session.documents.why("sleeps", None, "run").document
    assert document["row"]["lines"][0]["where"] == line["where"] and document["sampled"]
    assert list((mill.session.recorder.worker.run / "details").glob("*.slice"))
    mill.session.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_no_samples_of_its_parent(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_SAMPLER=True)
    mill.get("/")
    mill.session.samples.add(("index", "GET"), 5, Sampled({A: [1, 0, 1, 0]}))
    child = os.fork()
    if not child:
        inherited = mill.session.samples.document()["stacks"] or mill.session.sampler._thread
        os._exit(1 if inherited else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert mill.session.samples.document()["stacks"]


def test_a_worker_with_green_threads_samples_nothing_and_reports_it(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_knitperf.runtime import session

    monkeypatch.setattr(session, "is_green", lambda: True)
    mill = make_app(KNITPERF_SAMPLER=True)
    mill.get("/")
    assert not [t for t in threading.enumerate() if "sampler" in t.name]
    mill.session.jobs.publish_heartbeat()
    assert "gevent" in mill.degraded()
