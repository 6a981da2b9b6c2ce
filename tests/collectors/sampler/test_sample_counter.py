"""Weights of samples, and samples taken by late ticks."""

from __future__ import annotations

import pytest

from flask_knitperf.collectors.sampler import sample_counter
from flask_knitperf.collectors.sampler.sample_counter import (
    RequestSamples,
    SampleCounter,
    StackSample,
    TickTiming,
    sample_weight,
)
from flask_knitperf.metrics.stack_trie import StackFrame
from flask_knitperf.recording.span import Span

from .applications import MS

A, B = (StackFrame("a.py", 1, "f", True),), (StackFrame("a.py", 2, "f", True),)


def test_a_sample_is_divided_by_the_share_that_ran() -> None:
    request = RequestSamples(1, None)
    request.add(A, 100, 0.25)
    request.add(A, 10, 1.0, holding=True)
    assert request.stacks == {A: [35, 75, 2, 10]}


@pytest.mark.parametrize(
    ("previous", "began", "weight"),
    [
        (950, 0, 50),  # a request that is older than the previous tick
        (950, 990, 50),  # a younger one stands for those like it that were not sampled
        (0, 990, 50),  # the first tick, or one that came far too late
        (0, 100, 900),  # late because the GIL was held: the request waited throughout
        (1100, 0, 0),  # a clock that went back
    ],
)
def test_a_sample_stands_for_the_time_since_the_previous_tick(
    previous: int, began: int, weight: int
) -> None:
    assert sample_weight(1000, previous, began, 50) == weight


def test_early_and_late_lines_of_short_requests_count_alike() -> None:
    """Requests of length 10 that start at 0, 17, 34, … and are sampled every 50: half and half."""
    weights = [0, 0]
    for now in range(50, 50_000, 50):
        age = now % 17
        if age < 10:
            weights[age // 5] += sample_weight(now, now - 50, now - age, 50)
    assert 0.97 < weights[0] / weights[1] < 1.03
    assert 0.97 < sum(weights) / (50_000 * 10 / 17) < 1.03


# -- late ticks ---------------------------------------------------------------------------------------


Row = tuple[float, int]
"""Share of the window in which a request ran, and CPU time that its thread used since the last tick."""


class LateTick:
    """Requests of half a second, and a tick that is late by 3 ms."""

    def __init__(self) -> None:
        self.counter = SampleCounter()
        self.counter.previous = 50 * MS

    def count(
        self, *rows: Row, late: float = 0.003, window: int = MS // 5, others: int = 0
    ) -> list[RequestSamples]:
        """Count one sample of each request, and return the samples of each."""
        samples, cpu = [], {}
        for thread, (_, ran) in enumerate(rows):
            span = Span(None, {}, 0)
            span.thread, span.cpu_began = thread, 7
            cpu[thread] = 7 + ran
            samples.append(StackSample(span, A, thread, False))
        shares = [share for share, _ in rows]
        timing = TickTiming(100 * MS, late, window, others)
        self.counter.count(samples, shares, cpu, timing, 50 * MS)
        return [self.counter.requests[sample.span] for sample in samples]


@pytest.fixture
def late() -> LateTick:
    return LateTick()


def test_a_stack_that_computed_and_waits_at_a_late_tick_is_missed(late: LateTick) -> None:
    [request] = late.count((0.0, 30 * MS))
    assert (request.missed, request.stacks) == (50 * MS, {})


def test_a_stack_that_waited_throughout_is_not_missed(late: LateTick) -> None:
    [request] = late.count((0.0, 1 * MS))
    assert (request.missed, request.stacks) == (0, {A: [0, 50 * MS, 1, 0]})


def test_a_tick_in_time_misses_nothing(late: LateTick) -> None:
    [request] = late.count((0.0, 30 * MS), late=0.0)
    assert (request.missed, request.stacks) == (0, {A: [0, 50 * MS, 1, 0]})


def test_at_a_forced_tick_only_the_running_stack_held_the_gil(late: LateTick) -> None:
    waits, runs = late.count((0.0, 30 * MS), (1.0, 30 * MS), late=0.005)
    assert (waits.missed, waits.stacks) == (0, {A: [0, 50 * MS, 1, 0]})
    assert (runs.missed, runs.stacks) == (0, {A: [50 * MS, 0, 1, 50 * MS]})


def test_a_stack_that_runs_after_the_gil_was_released_was_another_one_before(
    late: LateTick,
) -> None:
    """It runs code without the GIL, after it had computed with it."""
    [request] = late.count((1.0, 30 * MS))
    assert (request.missed, request.stacks) == (50 * MS, {})


def test_a_forced_tick_after_which_nothing_runs_missed_the_stack_that_computed(
    late: LateTick,
) -> None:
    [request] = late.count((0.0, 30 * MS), late=0.005)
    assert (request.missed, request.stacks) == (50 * MS, {})


def test_a_gil_held_by_a_thread_without_a_request_misses_nothing(late: LateTick) -> None:
    [request] = late.count((0.0, 30 * MS), late=0.005, window=5 * MS, others=4 * MS)
    assert (request.missed, request.stacks) == (0, {A: [0, 50 * MS, 1, 0]})


def test_of_two_stacks_that_may_have_held_the_gil_each_is_half_missed(late: LateTick) -> None:
    for request in late.count((0.0, 30 * MS), (0.0, 20 * MS)):
        assert (request.missed, request.stacks) == (25 * MS, {A: [0, 25 * MS, 1, 0]})


@pytest.mark.parametrize("seconds", [0.0, 0.003])
def test_a_stack_that_held_the_gil_after_a_tick_that_was_not_forced_is_missed(
    late: LateTick, seconds: float
) -> None:
    runs, waits = late.count((1.0, 30 * MS), (0.0, 0), late=seconds, window=5 * MS)
    assert (runs.missed, runs.stacks) == (50 * MS, {})
    assert (waits.missed, waits.stacks) == (0, {A: [0, 50 * MS, 1, 0]})


def test_a_stack_that_held_the_gil_after_a_forced_tick_held_it_before(late: LateTick) -> None:
    [request] = late.count((1.0, 30 * MS), late=0.005, window=5 * MS)
    assert (request.missed, request.stacks) == (0, {A: [50 * MS, 0, 1, 50 * MS]})


def test_the_clock_of_another_thread_does_not_count_for_this_one(late: LateTick) -> None:
    span = Span(None, {}, 0)
    span.thread, span.cpu_began = 1, 7
    sample, timing = StackSample(span, A, 2, False), TickTiming(100 * MS, 0.003, 0, 0)
    late.counter.count([sample], [0.0], {2: 99 * MS}, timing, 50 * MS)
    assert late.counter.requests[span].missed == 0


def test_a_stack_without_a_clock_is_not_missed(late: LateTick) -> None:
    span = Span(None, {}, 0)
    sample, timing = StackSample(span, A, 1, False), TickTiming(100 * MS, 0.003, MS // 5, 0)
    late.counter.count([sample], [0.0], {}, timing, 50 * MS)
    assert late.counter.requests[span].missed == 0


def test_the_number_of_stacks_of_a_request_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_counter, "MAX_STACKS_PER_REQUEST", 3)
    request = RequestSamples(1, None)
    for number in range(9):
        request.add((*A, StackFrame("a.py", number, "g", True)), 10, 1.0)
    assert len(request.stacks) == 4 and sum(row[0] for row in request.stacks.values()) == 90
