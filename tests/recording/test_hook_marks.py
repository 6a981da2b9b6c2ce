"""Marks between ``before_request`` functions: one contract, tested in Python and in C."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from flask_knitperf.recording import fastpath
from tests.recording.harness import CURRENT, Harness, growth, in_c, in_pure_python

LONG = fastpath.MIN_HOOK_NS
HOOKS = ("hook:user", "hook:tenant")


@pytest.fixture(params=[in_pure_python, in_c], ids=["python", "c"])
def harness(request: pytest.FixtureRequest) -> Harness:
    return Harness(request.param())


class Marks:
    """An application with two hooks, and what its marks passed to the slow path."""

    def __init__(self, harness: Harness, *took: int) -> None:
        self.harness = harness
        self.calls: list[Any] = []
        self.during: Callable[[Any], None] = lambda span: None
        marks = self

        class Mark(harness.module.HookMarkBase):  # type: ignore[misc]
            def start_hook(self, span: Any) -> None:
                marks.calls.append(("start_hook", self.name))
                span.hook_start = "noted"

            def end_hook(self, span: Any) -> None:
                marks.calls.append(("end_hook", span.hook, span.hook_start))

            def failed(self, error: Exception) -> None:
                marks.calls.append(("failed", type(error)))

        recorder = harness.middleware.recorder
        self.marks = [Mark(recorder, CURRENT, name) for name in (*HOOKS, None)]
        self.took = took
        harness.series.parts = {HOOKS[0]: (21, 0, 0), HOOKS[1]: (22, 0, 0)}
        harness.middleware.app = self.app
        harness.now = iter([1_000, *self.times(), 10_000_000])  # type: ignore[assignment]

    def times(self) -> list[int]:
        times = [2_000]
        for took in self.took:
            times.append(times[-1] + took)
        return times

    def app(self, environ: Any, start: Any) -> Any:
        for mark in self.marks[: len(self.took) + 1]:
            assert mark() is None
            self.during(start)
        return self.harness.app(environ, start)


def test_hooks_that_take_their_time_are_parts_on_the_fast_path(harness: Harness) -> None:
    Marks(harness, LONG, LONG + 5)
    harness.get()
    assert harness.written() == [(7, 9_999_000.0), (21, LONG), (22, LONG + 5), (9, 4.0)]


def test_a_mark_in_a_request_whose_cost_is_measured_is_a_stretch_of_it(harness: Harness) -> None:
    marks = Marks(harness)
    harness.span = harness.module.SpanBase(harness.middleware.recorder, {}, 0)
    harness.span.timed = 1
    token = CURRENT.set(harness.span)
    try:
        marks.marks[0]()
    finally:
        CURRENT.reset(token)
    assert (harness.span.cost, harness.span.timed, harness.span.hook) == (200, 2, HOOKS[0])


def test_short_hooks_leave_no_trace(harness: Harness) -> None:
    marks = Marks(harness, LONG - 1, 0)
    harness.get()
    assert harness.written() == [(7, 9_999_000.0), (9, 4.0)] and marks.calls == []
    assert harness.span.hooks is None and harness.span.hook is None


def test_a_hook_that_answers_takes_the_slow_path_unless_it_is_short(harness: Harness) -> None:
    Marks(harness, LONG)
    harness.get()
    assert harness.log == [] and harness.span.hook == HOOKS[1]
    assert harness.span.hooks == [(HOOKS[0], 2_000, 2_000 + LONG, None)]
    Marks(harness, LONG)
    harness.now = iter([1_000, 2_000, 60_000, 60_000 + LONG - 1])  # type: ignore[assignment]
    harness.get()
    assert harness.written()[1] == (21, 58_000.0)


def test_a_hook_unknown_to_the_series_takes_the_slow_path(harness: Harness) -> None:
    for known in ({HOOKS[0]: (21, 0, 0)}, {}, None):
        Marks(harness, LONG, LONG)
        harness.series.parts = known
        harness.get()
    assert harness.log == [] and harness.calls.count("finish_slow") == 3


def test_more_hooks_than_a_group_holds_take_the_slow_path(harness: Harness) -> None:
    marks = Marks(harness)
    mark = marks.marks[0]
    marks.marks = [mark] * (fastpath.MAX_PARTS + 1) + [marks.marks[2]]
    for count in (fastpath.MAX_PARTS, fastpath.MAX_PARTS + 1):
        marks.took = (LONG,) * count
        if count == fastpath.MAX_PARTS:
            marks.marks.pop(0)
        else:
            marks.marks.insert(0, mark)
        harness.now = iter([1_000, *marks.times(), 10_000_000])  # type: ignore[assignment]
        harness.get()
    assert len(harness.log) == 1 and len(harness.written()) == fastpath.MAX_PARTS + 2


def test_a_sampled_request_has_the_clocks_read_at_the_end_of_long_hooks(harness: Harness) -> None:
    marks = Marks(harness, LONG, 5)
    harness.sample()
    harness.get()
    assert harness.span.hooks == [(HOOKS[0], 2_000, 2_000 + LONG, 300 + 30)]
    assert marks.calls == [] and harness.calls[-1] == "finish_slow"


def test_on_a_watched_path_a_fast_request_with_hooks_stays_on_the_fast_path(
    harness: Harness,
) -> None:
    Marks(harness, LONG, 5)
    harness.sample()
    harness.profile.cpu_every, harness.profile.slow_urls["/item"] = 64, 10**12
    harness.profile.requests_started = 1_000
    harness.get()
    assert harness.span.cpu_began is not None and harness.span.weight == 0
    assert harness.written()[1] == (21, LONG)


def test_a_failing_clock_at_the_end_of_a_sampled_hook_is_handled(harness: Harness) -> None:
    marks = Marks(harness, LONG, 5)
    harness.sample()
    harness.run_queue = iter([0])  # type: ignore[assignment]
    harness.get()
    assert ("failed", StopIteration) in marks.calls


def test_a_hook_that_opens_a_part_ends_on_the_slow_path(harness: Harness) -> None:
    def opens(span: Any) -> None:
        span.fast = fastpath.FAST_OFF

    marks = Marks(harness, LONG, LONG)
    marks.during = opens
    harness.get()
    assert marks.calls == [
        ("end_hook", HOOKS[0], None), ("start_hook", HOOKS[1]), ("end_hook", HOOKS[1], "noted"),
    ]  # fmt: skip


def test_a_sample_with_a_hook_takes_the_slow_path(harness: Harness) -> None:
    Marks(harness, 5)
    harness.sample()
    harness.middleware.app = harness.app
    harness.now = iter([1_000, 2_000])  # type: ignore[assignment]

    def app(environ: Any, start: Any) -> Any:
        start.hooks = [(HOOKS[0], 1_100, 1_200, None)]
        return harness.app(environ, start)

    harness.middleware.app = app
    harness.get()
    assert harness.log == [] and harness.calls[-1] == "finish_slow"


def test_outside_of_a_request_of_this_recorder_a_mark_does_nothing(harness: Harness) -> None:
    marks = Marks(harness, 5)
    marks.marks[0]()
    foreign = harness.module.SpanBase(SimpleNamespace(), {}, 1)
    ended = harness.module.SpanBase(harness.middleware.recorder, {}, 1)
    ended.ended = True
    for span in (foreign, ended):
        token = CURRENT.set(span)
        marks.marks[0]()
        CURRENT.reset(token)
        assert span.hook is None


def test_a_failure_is_handled_and_the_next_hook_is_timed(harness: Harness) -> None:
    def fail() -> int:
        raise OSError("no clock")

    marks = Marks(harness, 5)
    good = harness.clock.monotonic_ns

    def app(environ: Any, start: Any) -> Any:
        harness.clock.monotonic_ns = fail
        marks.marks[0]()
        harness.clock.monotonic_ns = good
        marks.marks[1]()
        return harness.app(environ, start)

    harness.middleware.app = app
    harness.get()
    assert marks.calls == [("failed", OSError)] and harness.span.hook == HOOKS[1]


def test_a_failure_while_a_hook_ends_is_handled_and_it_ends(harness: Harness) -> None:
    marks = Marks(harness, LONG, 5)

    def fail(self: Any, span: Any) -> None:
        raise ZeroDivisionError

    type(marks.marks[0]).end_hook = fail
    marks.during = lambda span: setattr(span, "fast", fastpath.FAST_OFF)
    harness.get()
    assert ("failed", ZeroDivisionError) in marks.calls and harness.span.hook is None


def test_an_error_that_ends_the_process_passes_a_mark(harness: Harness) -> None:
    def fail() -> int:
        raise KeyboardInterrupt

    marks = Marks(harness, 5)

    def app(environ: Any, start: Any) -> Any:
        harness.clock.monotonic_ns = fail
        with pytest.raises(KeyboardInterrupt):
            marks.marks[0]()
        harness.clock.monotonic_ns = lambda: 5_000
        return harness.app(environ, start)

    harness.middleware.app = app
    harness.get()
    assert marks.calls == []


def test_a_mark_takes_no_arguments(harness: Harness) -> None:
    mark = Marks(harness).marks[0]
    for arguments, keywords in (((1,), {}), ((), {"a": 1})):
        with pytest.raises(TypeError):
            mark(*arguments, **keywords)


def test_marks_keep_no_memory(harness: Harness) -> None:
    marks = Marks(harness, LONG, LONG)

    def serve() -> None:
        for _ in range(200):
            harness.now = iter([1_000, *marks.times(), 10_000_000])  # type: ignore[assignment]
            harness.get()
            harness.calls.clear()
            harness.log.clear()
        harness.span = None

    assert growth(serve) < 100


def test_a_mark_is_freed_with_its_recorder(harness: Harness) -> None:
    class Recorder:
        marks: Any

    recorder = Recorder()
    recorder.marks = [harness.module.HookMarkBase(recorder, CURRENT, "hook:user")]
    gc.collect()
    before = len(gc.get_objects())
    del recorder
    gc.collect()
    assert len(gc.get_objects()) < before
