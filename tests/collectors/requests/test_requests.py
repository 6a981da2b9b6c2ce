"""Recording of requests: CPU sampling, garbage collections, and bounded memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import (
    Response,
)

from tests.instrumentation.calls import start

# -- CPU sampling -----------------------------------------------------------------------------------


class CpuSamples:
    """Sends requests, and counts those for which the thread's CPU clock was read."""

    def __init__(self, mill: Any, time: Any) -> None:
        self._mill, self._time = mill, time
        self._seconds = 0.0
        self._reads = 0
        clock = time.clock()
        mill.session.recorder.clock = replace(clock, thread_ns=self._read(clock.thread_ns))
        mill.app.get("/it", endpoint="it")(lambda: time.pass_(self._seconds) or "it")

    def _read(self, cpu: Callable[[], int]) -> Callable[[], int]:
        def read() -> int:
            self._reads += 1
            return cpu()

        return read

    def __call__(self, requests: int, seconds: float = 0.001, path: str = "/it") -> int:
        self._seconds, before = seconds, self._reads
        for _ in range(requests):
            self._mill.get(path)
        return (self._reads - before) // 2


@pytest.fixture
def sampled(timed: Any, time: Any) -> CpuSamples:
    return CpuSamples(timed, time)


def test_the_first_requests_of_a_worker_are_all_sampled(sampled: CpuSamples) -> None:
    assert sampled(256) == 256


def test_of_later_requests_one_in_64_is_sampled(sampled: CpuSamples) -> None:
    sampled(256)
    assert sampled(6400) == 100


def test_on_a_path_that_was_slow_every_request_is_sampled(sampled: CpuSamples) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert sampled(100) == 100


def test_a_path_that_stays_slow_stays_sampled(sampled: CpuSamples) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert [sampled(200) + sampled(1, seconds=0.5) for _ in range(3)] == [201, 201, 201]


def test_a_path_that_was_slow_once_is_soon_sampled_like_others(sampled: CpuSamples) -> None:
    sampled(1, seconds=0.5)  # a cold start
    sampled(600)
    assert sampled(6400) == 100


def test_a_slow_path_does_not_affect_other_paths(sampled: CpuSamples) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert sampled(6400, path="/") == 100


def test_the_number_of_slow_paths_is_bounded(timed: Any, time: Any) -> None:
    timed.app.get("/it/<number>", endpoint="it")(lambda number: time.pass_(0.5) or number)
    for number in range(5000):
        timed.get(f"/it/{number}")
    assert len(timed.session.profile.slow_urls) == 512


def test_the_cpu_of_all_requests_is_estimated_from_the_samples(timed: Any, time: Any) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(0.002, cpu=0.001) or "it")
    for _ in range(2000):
        timed.get("/it")
    row = timed.row("it")
    assert (row["count"], row["cpu_ms"], row["wait_ms"]) == (2000, 1, 1)


def test_a_sampled_request_has_its_runnable_time(timed: Any, time: Any) -> None:
    spans: list[Any] = []

    def work() -> str:
        spans.append(timed.session.recorder.span())
        # on the clock of these tests it is queued for as long as it computes
        time.pass_(0.04, cpu=0.01)
        return "ok"

    timed.app.add_url_rule("/work", "work", work)
    timed.get("/work")
    timed.session.profile.cpu_known = False
    timed.session.profile.slow_urls.clear()
    timed.get("/work")
    assert [span.runnable_ns for span in spans] == [20_000_000, -1]


# -- garbage collections ----------------------------------------------------------------------------


def test_a_collection_is_charged_to_the_request_it_stops(quiet: Any) -> None:
    quiet.app.get("/it", endpoint="it")(lambda: str(gc.collect()))
    quiet.get("/it"), quiet.get("/")
    assert quiet.row("it")["gc_ms"] > 0


def test_a_collection_is_charged_to_every_request_in_flight(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    quiet.app.get("/it", endpoint="it")(lambda: str(gc.collect()))
    body = start(quiet, "/rows")
    quiet.get("/it")
    list(body)
    body.close()
    assert quiet.row("rows")["gc_ms"] > 0


# -- bounds -----------------------------------------------------------------------------------------


def test_three_thousand_unknown_methods_do_not_stay_in_memory(quiet: Any) -> None:
    for number in range(3000):
        start(quiet, "/nowhere", f"M{number}")
    assert len(quiet.session.profile.endpoints) < 100


def test_ten_thousand_section_names_do_not_stay_in_memory(quiet: Any) -> None:
    numbers = iter(range(10_000))

    @quiet.app.get("/it", endpoint="it")
    def it() -> str:
        for _ in range(1000):
            with quiet.perf.section(f"customer {next(numbers)}"):
                pass
        return "x"

    for _ in range(10):
        quiet.get("/it")
    endpoints = quiet.session.profile.endpoints.values()
    assert sum(len(series.ids) for series in endpoints) < 5000
