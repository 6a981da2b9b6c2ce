"""The fast path of a request: one contract, tested on the implementations in Python and in C."""

from __future__ import annotations

import contextvars
import gc
import importlib.util
import os
import subprocess
import sys
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from flask_knitperf.core.sampling import is_chosen, position
from flask_knitperf.recording import fastpath
from flask_knitperf.recording.fastpath import COST_EVERY, COST_STRIDE
from tests.recording.harness import (
    CURRENT,
    ENDPOINT,
    Body,
    Harness,
    growth,
    in_c,
    in_pure_python,
    nested,
    wrapped,
)


@pytest.fixture(params=[in_pure_python, in_c], ids=["python", "c"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
def harness(module: Any) -> Harness:
    return Harness(module)


# -- the fast path ---------------------------------------------------------------------------------


def test_a_request_on_the_fast_path_is_one_group_of_wall_time_and_bytes(harness: Harness) -> None:
    assert harness.get() is harness.body
    assert harness.written() == [(7, 500.0), (9, 4.0)]
    assert harness.calls == [("200 OK", [("A", "b")])]


def test_a_request_on_the_fast_path_leaves_no_span_in_flight_or_current(harness: Harness) -> None:
    harness.get()
    assert harness.spans == {} and CURRENT.get() is None
    assert (
        harness.span.ended
        and harness.profile.busy_ns == 500
        and harness.profile.requests_started == 1
    )


def test_a_concurrent_request_has_its_own_series_and_ends_no_busy_period(harness: Harness) -> None:
    other = harness.in_flight()
    harness.get()
    assert harness.written()[0] == (8, 500.0)
    assert harness.profile.busy_ns == 0 and harness.spans == {other: None}


def test_requests_that_overlap_are_all_marked_and_busy_from_the_first_ones_start(
    harness: Harness,
) -> None:
    other = harness.in_flight()
    harness.get()
    assert other.concurrent and harness.span.concurrent and harness.profile.busy_since == 200
    later = harness.in_flight()
    later.began = 100
    harness.get()
    assert later.concurrent and harness.profile.busy_since == 200


def test_the_last_of_several_requests_ends_the_busy_period(harness: Harness) -> None:
    def app(environ: Any, start: Any) -> Any:
        harness.spans.pop(other)
        return harness.app(environ, start)

    other = harness.in_flight()
    harness.middleware.app = app
    harness.get()
    assert (harness.profile.busy_ns, harness.profile.busy_since) == (1_300, 0)


def test_a_busy_period_is_never_negative(harness: Harness) -> None:
    harness.profile.busy_since = 10**9
    harness.get()
    assert (harness.profile.busy_ns, harness.profile.busy_since) == (0, 0)


def has_measured_cost(number: int) -> bool:
    return position(number * COST_STRIDE, COST_EVERY) == COST_EVERY - 1


def timed_number() -> int:
    """Return the number of requests before the first one whose cost is measured."""
    return next(n for n in range(1_000) if has_measured_cost(n + 1))


def serve_timed(harness: Harness) -> list[int]:
    """Serve the requests before and after, and one whose cost is measured; return the costs."""
    harness.profile.requests_started = timed_number() - 1
    for _ in range(3):
        harness.get()
    return [call[1] for call in harness.calls if call[0] == "record_cost"]


def test_the_cost_of_one_request_in_many_is_the_cpu_time_around_the_application(
    harness: Harness,
) -> None:
    # three stretches of 200, the response's start among them, and three readings of 200 subtracted
    assert serve_timed(harness) == [0]
    harness.profile.requests_started = timed_number()
    readings = iter([0, 1_000, 1_000, 1_500, 2_000, 4_000, 4_000, 4_100])
    harness.clock.thread_ns = lambda: next(readings)
    harness.get()
    assert harness.calls[-1] == ("record_cost", 1_000 + 500 + 2_000 - 3 * 100)


def test_a_cost_whose_measurement_was_interrupted_is_not_recorded(harness: Harness) -> None:
    harness.body = [b"yarn"]

    def interrupted(span: Any, body: Any) -> Any:
        span.cost -= 10_000  # a stretch that started and never ended
        return body

    harness.middleware.finish_slow = interrupted
    assert serve_timed(harness) == []


def test_the_slow_path_has_a_cost_too(harness: Harness) -> None:
    harness.body, harness.ends = [b"yarn"], True
    assert serve_timed(harness) == [0]
    assert harness.calls.count("finish_slow") == 3


@pytest.mark.slow
def test_requests_whose_cost_is_measured_have_their_share_of_cpu_samples() -> None:
    timed = [n for n in range(1_000_000) if has_measured_cost(n)]
    sampled = sum(is_chosen(n, 64) for n in timed)
    assert len(timed) == pytest.approx(1_000_000 / 64, rel=0.01)
    assert sampled == pytest.approx(len(timed) / 64, rel=0.2)


@pytest.mark.parametrize("failing", range(8))
def test_a_clock_that_fails_while_the_cost_is_measured_harms_no_request(
    harness: Harness, failing: int
) -> None:
    readings = iter(range(8))

    def read() -> int:
        if (reading := next(readings)) == failing:
            raise OSError
        return reading

    harness.clock.thread_ns = read
    harness.profile.requests_started = timed_number()
    assert harness.get() is harness.body
    assert ("on_fastpath_error", OSError) in harness.calls and len(harness.log) == 1
    assert "finish_slow" not in harness.calls and not harness.spans


def test_a_full_log_is_followed_by_the_next(harness: Harness) -> None:
    def full(_: bytes) -> None:
        raise ValueError("data out of range")

    harness.series.append = full
    harness.get()
    assert harness.written() == [(7, 500.0), (9, 4.0)] and "append_to_next_log" in harness.calls


def test_keyword_arguments_and_exc_info_reach_the_servers_start_response(harness: Harness) -> None:
    def app(environ: Any, start: Any) -> Any:
        environ["werkzeug.request"] = ENDPOINT
        start(status="200 OK", headers=[], exc_info=("a", "b", "c"))
        return harness.body

    harness.middleware.app = app
    harness.get()
    assert harness.calls == [("200 OK", [], ("a", "b", "c"))]


def test_the_return_value_of_start_response_reaches_the_application(harness: Harness) -> None:
    returned = []

    def app(environ: Any, start: Any) -> Any:
        environ["werkzeug.request"] = ENDPOINT
        returned.append(start("200 OK", []))
        return harness.body

    harness.middleware.app = app
    harness.middleware({"REQUEST_METHOD": "GET"}, lambda *_: "write")
    assert returned == ["write"]


def test_the_environment_may_be_any_mapping(harness: Harness) -> None:
    for kind in (OrderedDict, UserDict):
        environ = kind({"PATH_INFO": "/item", "REQUEST_METHOD": "GET"})
        assert harness.middleware(environ, lambda *_: None) is harness.body
    assert len(harness.log) == 2


# -- the slow path ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        Body(b"a", b"b"),
        Body("text"),
        Body(bytearray(b"a")),
        [b"a list"],
        iter([b"x"]),
        nested(Body(b"a"), times=fastpath.MAX_NESTED_BODIES),
        nested(Body("text")),
        wrapped(Body(b"a")),
    ],
)
def test_a_body_of_another_kind_takes_the_slow_path(harness: Harness, body: Any) -> None:
    harness.body = body
    assert harness.get() is body
    assert harness.log == [] and harness.calls[-1] == "finish_slow" and not harness.span.ended


@pytest.mark.parametrize("body", [Body(), Body(b"")])
def test_of_an_empty_body_no_bytes_are_recorded(harness: Harness, body: Any) -> None:
    harness.body = body
    harness.get()
    assert harness.written() == [(7, 500.0)]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_response_is_found_behind_nested_bodies(harness: Harness, times: int) -> None:
    harness.body = nested(Body(b"yarn"), times)
    harness.get()
    assert harness.written() == [(7, 500.0), (9, 4.0)]


def test_the_body_of_a_response_that_has_none_is_not_looked_at(harness: Harness) -> None:
    harness.series.bodiless = True
    harness.body = Body("text")
    harness.get()
    assert harness.written() == [(7, 500.0)]


def test_a_body_without_the_callbacks_attribute_is_a_fast_path_error(harness: Harness) -> None:
    del harness.body._callbacks
    harness.get()
    assert harness.calls[1:] == [("on_fastpath_error", AttributeError), "finish_slow"]


def test_a_body_with_no_callbacks_is_a_fast_path_error(harness: Harness) -> None:
    harness.body._callbacks.clear()
    harness.get()
    assert harness.calls[1:] == [("on_fastpath_error", IndexError), "finish_slow"]


def test_a_body_whose_last_callback_is_a_function_takes_the_slow_path(harness: Harness) -> None:
    harness.body._callbacks.append(lambda: None)
    harness.get()
    assert harness.log == [] and harness.calls[1:] == ["finish_slow"]


def test_the_first_request_of_a_kind_takes_the_slow_path(harness: Harness) -> None:
    harness.get(REQUEST_METHOD="PUT")
    harness.series.solo = 0
    harness.get()
    assert harness.log == [] and harness.calls.count("finish_slow") == 2


@pytest.mark.parametrize("pause", [1, fastpath.SHORT_PAUSE_NS])
def test_a_short_pause_is_in_the_group_and_never_longer_than_the_request(
    harness: Harness, pause: int
) -> None:
    _collect(harness, pause)
    harness.series.gc = 10
    harness.get()
    assert harness.written() == [(7, 500.0), (10, min(500.0, pause)), (9, 4.0)]


@pytest.mark.parametrize(("series", "pause"), [(0, 1), (10, fastpath.SHORT_PAUSE_NS + 1)])
def test_the_first_pause_of_an_endpoint_and_a_long_one_take_the_slow_path(
    harness: Harness, series: int, pause: int
) -> None:
    _collect(harness, pause)
    harness.series.gc = series
    harness.get()
    assert harness.log == [] and harness.calls[-1] == "finish_slow"


def _collect(harness: Harness, pause: int) -> None:
    """Let garbage be collected while the application runs."""

    def app(environ: Any, start: Any) -> Any:
        harness.pauses.total += pause
        return harness.app(environ, start)

    harness.middleware.app = app


# -- samples of CPU time -----------------------------------------------------------------------------


def test_one_request_in_many_has_its_cpu_time_sampled_and_stands_for_all(harness: Harness) -> None:
    harness.sample(every=8)
    for _ in range(9):
        harness.get()
    sampled = [row for row in harness.weights() if row[1] > 1]
    assert sampled == [(13, 8, 30.0), (11, 8, 200.0), (12, 8, 500.0)] * 2
    assert len(harness.log) == 9 and harness.profile.sampled_ns == 2 * 8 * 500


def test_slow_and_fast_requests_in_turn_are_sampled_alike(harness: Harness) -> None:
    harness.sample(every=8)
    turns = [0, 0]
    for number in range(1_600):
        before = harness.profile.sampled_ns
        harness.get()
        turns[number % 2] += harness.profile.sampled_ns > before
    assert turns == pytest.approx([100, 100], abs=2)


def test_the_first_requests_of_a_worker_are_all_sampled(harness: Harness) -> None:
    harness.sample()
    harness.profile.cpu_every = 1000
    harness.profile.requests_started = fastpath.WARM_UP_REQUESTS - 1
    harness.get()
    harness.get()
    assert [row[:2] for row in harness.weights()] == [
        (7, 1), (13, 1), (11, 1), (12, 1), (9, 1), (7, 1), (9, 1),
    ]  # fmt: skip


def test_no_cpu_time_is_read_where_none_is_sampled(harness: Harness) -> None:
    harness.sample()
    harness.profile.cpu_every = 0
    harness.profile.slow_urls["/item"] = 10**9
    harness.get()
    assert harness.span.cpu_began is None and harness.written() == [(7, 500.0), (9, 4.0)]


def test_a_fast_request_to_a_watched_path_is_a_sample_only_if_it_was_chosen(
    harness: Harness,
) -> None:
    harness.sample(every=8)
    harness.profile.slow_urls["/item"] = 10**12
    weights = []
    for _ in range(2):
        harness.get()
        weights.append(harness.span.weight)
        assert harness.span.cpu_began is not None
    assert weights == [-8, 0]
    assert [row for row in harness.weights() if row[0] == 11] == [(11, 8, 200.0)]


def test_a_path_is_watched_up_to_a_number_of_requests(harness: Harness) -> None:
    harness.profile.cpu_every, harness.profile.requests_started = 8, 1_000
    harness.profile.slow_urls["/item"] = 1_001
    for sampled in (True, False):
        harness.get()
        assert (harness.span.cpu_began is not None) is sampled


@pytest.mark.parametrize(
    ("cpu", "run_queue", "expected"),
    [
        ([0, 900], [0, 900], [(11, 1, 500.0)]),  # clocks of other grains
        ([0, 0], [0, 0], [(11, 1, 0.0)]),
        ([0, 100], [50, 20], [(11, 1, 100.0)]),
        ([0, 100], [0, 900], [(13, 1, 400.0), (11, 1, 100.0)]),
    ],
)
def test_cpu_time_and_run_queue_never_exceed_the_request(
    harness: Harness, cpu: list[int], run_queue: list[int], expected: list[Any]
) -> None:
    harness.sample()
    harness.cpu, harness.run_queue = iter(cpu), iter(run_queue)  # type: ignore[assignment]
    harness.get()
    assert harness.weights()[1:-2] == expected


def _own_series(harness: Harness) -> None:
    harness.series.cpu = 0


def _run_queue(harness: Harness) -> None:
    harness.series.run_queue = 0


def _gap(harness: Harness) -> None:
    harness.series.detailed_at = 1_500


def _long(harness: Harness) -> None:
    harness.series.detailed_above = 499


def _concurrent(harness: Harness) -> None:
    harness.in_flight()


def _other_clock(harness: Harness) -> None:
    harness.cpu = iter([500, 400])  # type: ignore[assignment]


def _other_thread(harness: Harness) -> None:
    def app(environ: Any, start: Any) -> Any:
        start.thread += 1
        return harness.app(environ, start)

    harness.middleware.app = app


@pytest.mark.parametrize(
    "change",
    [_own_series, _run_queue, _gap, _long, _concurrent, _other_clock, _other_thread],
)
def test_a_sample_that_is_new_or_in_doubt_or_to_be_kept_takes_the_slow_path(
    harness: Harness, change: Callable[[Harness], None]
) -> None:
    harness.sample()
    change(harness)
    harness.get()
    assert harness.log == [] and harness.calls[-1] == "finish_slow"
    assert harness.profile.sampled_ns == 0


def test_a_concurrent_sample_knows_the_cpu_time_of_the_process(harness: Harness) -> None:
    harness.sample()
    harness.get()
    assert harness.span.process_began == 0
    harness.in_flight()
    harness.get()
    assert harness.span.process_began == 77


@pytest.mark.parametrize("clock", ["thread_ns", "run_queue_ns"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_clock_that_fails_is_reported_and_the_response_is_sent(
    harness: Harness, clock: str, at_once: bool
) -> None:
    def fail() -> None:
        raise OSError("no clock")

    def app(environ: Any, start: Any) -> Any:
        setattr(harness.clock, clock, fail)
        return harness.app(environ, start)

    harness.sample()
    if at_once:
        setattr(harness.clock, clock, fail)
    harness.middleware.app = app
    assert harness.get() is harness.body
    assert ("on_fastpath_error", OSError) in harness.calls


def test_a_request_that_opened_a_part_takes_the_slow_path(harness: Harness) -> None:
    def app(environ: Any, start: Any) -> Any:
        start.fast = fastpath.FAST_OFF
        return harness.app(environ, start)

    harness.middleware.app = app
    harness.get()
    assert harness.log == [] and harness.calls[-1] == "finish_slow"


@pytest.mark.parametrize("step", [fastpath.SLOW_NS, 0, -5])
def test_a_slow_request_and_one_without_duration_take_the_slow_path(
    harness: Harness, step: int
) -> None:
    harness.now = iter([100_000_000, 100_000_000 + step])  # type: ignore[assignment]
    harness.get()
    assert harness.log == [] and harness.calls[-1] == "finish_slow"


def test_requests_are_prepared_from_a_number_on(harness: Harness) -> None:
    harness.profile.prepare_at = 2
    harness.get()
    assert harness.calls == [("200 OK", [("A", "b")])]
    harness.get()
    assert ("prepare_slow_path", "/item") in harness.calls


@pytest.mark.parametrize(
    ("cookie", "prepared"),
    [("a=b; viewer=c", True), ("viewer", True), ("a=b", False), (None, False)],
)
def test_a_request_with_the_viewer_cookie_is_prepared(
    harness: Harness, cookie: str | None, prepared: bool
) -> None:
    harness.get(HTTP_COOKIE=cookie)
    assert (("prepare_slow_path", "/item") in harness.calls) == prepared


def test_our_own_pages_bypass_recording(harness: Harness) -> None:
    assert harness.get("/perf/") == [b"bypassed"]
    assert harness.profile.requests_started == 0 and harness.span is None


def test_a_path_that_only_shares_our_prefix_is_recorded(harness: Harness) -> None:
    assert harness.get("/perfume") is harness.body
    assert len(harness.log) == 1


def test_a_request_without_a_path_is_recorded(harness: Harness) -> None:
    assert harness.get(None) is harness.body


@pytest.mark.parametrize("endpoint", [None, SimpleNamespace(url_rule=None)])
def test_the_endpoint_of_an_unrouted_request_is_determined_by_the_slow_path(
    harness: Harness, endpoint: Any
) -> None:
    harness.endpoint = endpoint
    harness.get()
    assert harness.calls[0] == ("unrouted", AttributeError)
    assert harness.span.endpoint == "<unmatched>"


def test_a_known_endpoint_is_kept_when_the_request_context_is_gone(harness: Harness) -> None:
    def app(environ: Any, start: Any) -> Any:
        start("500 ERROR", [])
        harness.endpoint = None
        return harness.app(environ, start)

    harness.middleware.app = app
    harness.middleware({"REQUEST_METHOD": "GET", "werkzeug.request": ENDPOINT}, lambda *_: None)
    assert harness.span.endpoint == "item" and harness.written()[0] == (7, 500.0)


# -- failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("host"), SystemExit(1), KeyboardInterrupt()])
def test_an_error_of_the_application_is_handled_and_raised_unchanged(
    harness: Harness, error: BaseException
) -> None:
    def app(environ: Any, start: Any) -> Any:
        raise error

    harness.middleware.app = app
    with pytest.raises(type(error)) as raised:
        harness.get()
    assert raised.value is error and error.__traceback__ is not None
    assert harness.calls == [("on_exception", error, False)] and CURRENT.get() is None


def test_a_request_whose_end_the_host_interrupts_is_ended(harness: Harness) -> None:
    def interrupted(*_: Any) -> Any:
        raise TimeoutError

    harness.body = [b"a list"]
    harness.middleware.finish_slow = interrupted
    with pytest.raises(TimeoutError):
        harness.get()
    assert [call[0] for call in harness.calls] == ["200 OK", "on_exception"] and not harness.spans


def test_a_request_that_is_interrupted_when_it_has_ended_ends_once(harness: Harness) -> None:
    def interrupted(_: bytes) -> None:
        raise KeyboardInterrupt

    harness.series.append = interrupted
    with pytest.raises(KeyboardInterrupt):
        harness.get()
    assert [call[0] for call in harness.calls] == ["200 OK"]
    assert harness.span.ended and not harness.spans


def test_an_error_while_an_error_is_handled_replaces_it(harness: Harness) -> None:
    def app(environ: Any, start: Any) -> Any:
        harness.spans.clear()  # on_exception() of the harness removes the span, which is gone
        raise RuntimeError("host")

    harness.middleware.app = app
    with pytest.raises(KeyError):
        harness.get()
    assert CURRENT.get() is None


@pytest.mark.parametrize(("fails", "error"), [(True, RuntimeError), (False, ValueError)])
def test_the_applications_error_is_raised_if_the_current_span_cannot_be_reset_either(
    harness: Harness, fails: bool, error: type[Exception]
) -> None:
    greenlet = pytest.importorskip("greenlet").getcurrent()
    before = greenlet.gr_context

    def app(environ: Any, start: Any) -> Any:
        greenlet.gr_context = contextvars.Context()  # a token cannot be used in another context
        if fails:
            raise RuntimeError("host")
        return harness.body

    harness.middleware.app = app
    with pytest.raises(error):
        harness.get()
    greenlet.gr_context = before
    CURRENT.set(None)


def test_an_error_of_start_response_reaches_the_application(harness: Harness) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        harness.middleware({"REQUEST_METHOD": "GET"}, refuse)


def test_a_failure_to_write_is_handled_and_the_response_is_sent(harness: Harness) -> None:
    def fail(_: bytes) -> None:
        raise OSError("disk")

    harness.series.append = fail
    assert harness.get() is harness.body
    assert harness.calls[1:] == [("on_fastpath_error", OSError), "finish_slow"]


def test_a_span_that_is_gone_at_its_end_is_handled_and_the_response_is_sent(
    harness: Harness,
) -> None:
    def app(environ: Any, start: Any) -> Any:
        harness.spans.clear()
        return harness.app(environ, start)

    harness.middleware.app = app
    assert harness.get() is harness.body
    assert harness.calls[-2:] == [("on_fastpath_error", KeyError), "finish_slow"]


def test_a_missing_request_method_is_a_fast_path_error(harness: Harness) -> None:
    environ = {"PATH_INFO": "/item"}
    assert harness.middleware(environ, lambda *_: None) is harness.body
    assert ("on_fastpath_error", KeyError) in harness.calls


def test_an_error_that_ends_the_process_is_raised(harness: Harness) -> None:
    def stop(_: bytes) -> None:
        raise KeyboardInterrupt

    harness.series.append = stop
    with pytest.raises(KeyboardInterrupt):
        harness.get()


# -- memory ------------------------------------------------------------------------------------------


def test_no_reference_to_a_request_is_kept(harness: Harness) -> None:
    class Environ(dict):  # type: ignore[type-arg]
        """A dict that supports weak references."""

    environ = Environ(PATH_INFO="/item", REQUEST_METHOD="GET")
    reference = weakref.ref(environ)
    harness.middleware(environ, lambda *_: None)
    harness.span = None
    del environ
    assert reference() is None


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/item", "/perf/", "/perfume", None])
@pytest.mark.parametrize("fails", [False, True])
def test_memory_does_not_grow_with_requests(harness: Harness, path: Any, fails: bool) -> None:
    def failing(environ: Any, start: Any) -> Any:
        harness.app(environ, start)
        raise RuntimeError

    if fails:
        harness.middleware.app = failing

    def serve() -> None:
        for _ in range(200):
            try:
                harness.get(path)
            except RuntimeError:
                assert fails
            harness.calls.clear()
            harness.log.clear()
        harness.span = None

    assert growth(serve) < 100


@pytest.mark.slow
def test_objects_in_a_reference_cycle_are_collected(module: Any) -> None:
    harness = Harness(module)
    harness.get()
    harness.middleware.myself = harness.middleware
    harness.profile.myself = harness.profile
    harness.series.myself = [harness.series]
    harness.span.start_record = (harness.span,)
    references = [
        weakref.ref(item) for item in (harness.middleware, harness.profile, harness.series)
    ]
    del harness
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


@pytest.mark.parametrize("pure", [True, False])
def test_an_environment_variable_selects_the_implementation(pure: bool) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "KNITPERF_PURE_PYTHON"}
    if pure:
        environ["KNITPERF_PURE_PYTHON"] = "1"
    code = "from flask_knitperf.recording.fastpath import COMPILED; print(COMPILED)"
    output = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    ).stdout.strip()
    built = importlib.util.find_spec("flask_knitperf.recording._speedups") is not None
    assert output == str(built and not pure)


def test_an_application_that_is_a_method_gets_its_instance(module: Any) -> None:
    harness = Harness(module)
    seen: list[Any] = []

    def method(instance: Any, environ: Any, start: Any) -> Any:
        seen.append(instance)
        return harness.app(environ, start)

    harness.middleware.app = method
    environ = {"PATH_INFO": "/item", "REQUEST_METHOD": "GET"}
    harness.middleware.serve(environ, lambda *_: None, harness)
    assert seen == [harness] and len(harness.log) == 1


@pytest.mark.parametrize("count", [2, 4])
def test_serving_takes_three_arguments(module: Any, count: int) -> None:
    with pytest.raises(TypeError):
        Harness(module).middleware.serve(*[{}] * count)
