"""Recording of requests: CPU sampling, garbage collections, and bounded memory."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from flask import (
    Response,
)

from flask_knitperf.core.sampling import is_chosen
from tests.instrumentation.calls import start

# -- CPU sampling -----------------------------------------------------------------------------------


class CpuSamples:
    """Sends requests, and counts those whose CPU time was recorded."""

    def __init__(self, mill: Any, time: Any) -> None:
        self._mill = mill
        self._seconds = 0.0
        self._samples = 0
        profile = mill.session.profile
        self._add_cpu, profile._add_cpu = profile._add_cpu, self._counted
        mill.app.get("/it", endpoint="it")(
            lambda: time.pass_(self._seconds, cpu=self._seconds / 2) or "it"
        )

    def _counted(self, *sample: Any) -> None:
        self._samples += 1
        self._add_cpu(*sample)

    def __call__(self, requests: int, seconds: float = 0.001, path: str = "/it") -> int:
        self._seconds, before = seconds, self._samples
        for _ in range(requests):
            self._mill.get(path)
        return self._samples - before


@pytest.fixture
def sampled(timed: Any, time: Any) -> CpuSamples:
    return CpuSamples(timed, time)


def test_the_first_requests_of_a_worker_are_all_sampled(sampled: CpuSamples) -> None:
    assert sampled(256) == 256


@pytest.mark.slow
def test_of_later_requests_one_in_64_is_sampled(sampled: CpuSamples) -> None:
    sampled(256)
    assert sampled(6400) == 100


def test_on_a_path_that_was_slow_every_slow_request_is_sampled(sampled: CpuSamples) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert sampled(30, seconds=0.5) == 30


def test_a_path_that_is_slow_now_and_then_stays_watched(sampled: CpuSamples) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert [(sampled(200), sampled(1, seconds=0.5))[1] for _ in range(3)] == [1, 1, 1]


def test_a_path_is_watched_for_twice_as_long_as_it_was_last_not_slow(
    timed: Any, sampled: CpuSamples
) -> None:
    def slow_after(others: int) -> int:
        """Serve a slow request after others to another path; return whether it is sampled."""
        number = timed.session.profile.requests_started + others
        while is_chosen(number + 1, 64):
            number += 1
        timed.session.profile.requests_started = number
        return sampled(1, seconds=0.5)

    sampled(300)
    assert [slow_after(1000) for _ in range(4)] == [0, 0, 1, 1]
    assert [slow_after(3000) for _ in range(3)] == [0, 1, 1]
    assert [slow_after(4500) for _ in range(3)] == [0, 0, 0]


def test_the_fast_requests_of_a_path_that_was_slow_are_sampled_like_others(
    sampled: CpuSamples,
) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert sampled(128) == 2


def test_the_fast_requests_of_a_path_that_was_slow_stay_on_the_fast_path(
    timed: Any, sampled: CpuSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    finished: list[Any] = []
    profile = timed.session.profile
    monkeypatch.setattr(profile, "finish", lambda *_, **__: finished.append(1))
    gc.disable()  # a request with a collection leaves the fast path
    try:
        sampled(10)
    finally:
        gc.enable()
    assert finished == []


@pytest.mark.slow
def test_a_path_that_was_slow_once_is_not_watched_for_long(sampled: CpuSamples) -> None:
    sampled(1, seconds=0.5)  # a cold start
    sampled(600)
    assert (sampled(6400), sampled(1, seconds=0.5)) == (100, 0)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2, 7, 40, 64])
def test_the_cpu_of_slow_and_fast_requests_of_a_path_is_estimated_without_bias(
    sampled: CpuSamples, timed: Any, every: int
) -> None:
    sampled(257)  # warmed up, and the fast path is known
    for _ in range(6400 // every):
        sampled(1, seconds=0.1)
        sampled(every - 1, seconds=0.01)
    row = timed.row("it")
    assert row["cpu_ms"] == pytest.approx(row["mean_ms"] / 2, rel=0.05)


@pytest.mark.slow
def test_a_slow_path_does_not_affect_other_paths(sampled: CpuSamples) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert sampled(6400, path="/") == pytest.approx(100, abs=1)


@pytest.mark.slow
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


@pytest.mark.slow
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


# -- failures, and queueing for a core ---------------------------------------------------------------


@pytest.mark.parametrize("status", ["500 INTERNAL SERVER ERROR", "503 SERVICE UNAVAILABLE"])
def test_the_status_of_a_failure_is_recorded_exactly(timed: Any, status: str) -> None:
    timed.app.get("/fails", endpoint="fails")(lambda: Response("", status))
    for _ in range(3):
        timed.get("/fails")
    [row] = timed.session.documents.window("run").snapshot.readings.endpoints
    assert (row.status, row.failed) == ({"5xx": 3}, {status[:3]: 3})


@pytest.mark.parametrize("status", ["599 Odd", "5", "599 a"])
def test_a_failure_with_a_status_that_http_does_not_define_has_its_class(
    timed: Any, status: str
) -> None:
    def raw(_: Any, start_response: Any) -> Any:
        start_response(status, [])
        return [b""]

    timed.app.get("/fails", endpoint="fails")(lambda: raw)
    timed.get("/fails")
    [row] = timed.session.documents.window("run").snapshot.readings.endpoints
    assert (row.status, row.failed) == ({"5xx": 1}, {"5xx": 1})


def test_a_slow_request_is_recorded_with_and_without_its_time_on_the_run_queue(
    timed: Any, time: Any
) -> None:
    timed.app.get("/queues", endpoint="queues")(lambda: time.pass_(0.5, cpu=0.1) or "")
    timed.get("/queues")
    [row] = timed.session.documents.window("run").snapshot.readings.endpoints
    # the clock of these tests has as much time on the run queue as on a core
    assert row.queueing.included.total == 500_000_000
    assert row.queueing.excluded.total == 400_000_000


def test_a_fast_request_is_not_recorded_by_its_queueing(timed: Any, time: Any) -> None:
    timed.app.get("/fast", endpoint="fast")(lambda: time.pass_(0.02) or "")
    timed.get("/fast")
    [row] = timed.session.documents.window("run").snapshot.readings.endpoints
    assert row.queueing is None
