"""Parts of a request: exclusive times that add up, in whatever order parts are closed."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.core.clock import Clock
from flask_knitperf.recording.fastpath import FAST_COLLECT, FAST_OFF, FAST_ON
from flask_knitperf.recording.span import CURRENT, Span, current


def span() -> Span:
    return Span(object(), {}, 0)


def test_the_time_of_a_part_excludes_the_parts_nested_in_it() -> None:
    s = span()
    outer = s.open("outer", 0, 0)
    inner = s.open("inner", 10, 4)
    s.close(inner, 30, 20)
    s.close(outer, 50, 25)
    assert s.parts == {"outer": [1, 30, 9], "inner": [1, 20, 16]}


def test_a_part_may_be_entered_again_while_it_is_open_and_afterwards() -> None:
    readings = iter(range(0, 10_000, 10))
    recorder = SimpleNamespace(clock=Clock(monotonic_ns=lambda: next(readings)))
    s = Span(recorder, {}, 0)
    part = s.part("a")
    for _ in range(2):
        with part, part, part:
            assert len(s.stack or ()) == 3
        assert s.stack == []
    assert s.parts == {"a": [6, 100, 0]}


class Interrupted(Exception):  # noqa: N818
    """Raised by a signal handler of the host."""


def test_a_part_whose_end_is_interrupted_by_a_signal_handler_is_closed() -> None:
    readings: list[int | type[Exception]] = [10, Interrupted, 50]

    def read() -> int:
        reading = readings.pop(0)
        if isinstance(reading, int):
            return reading
        raise reading

    s = Span(SimpleNamespace(clock=Clock(monotonic_ns=read)), {}, 0)
    with pytest.raises(Interrupted), s.part("price"):
        pass
    assert s.parts == {"price": [1, 40, 0]} and s.stack == []


def test_a_part_of_a_request_whose_cost_is_measured_adds_two_stretches() -> None:
    cpu = iter([100, 130, 1_000, 1_050])
    clock = Clock(monotonic_ns=iter([10, 50]).__next__, thread_ns=cpu.__next__)
    s = Span(SimpleNamespace(clock=clock), {}, 0)
    s.timed = 1
    with s.part("price"):
        pass
    assert (s.cost, s.timed, s.parts) == (80, 3, {"price": [1, 40, 0]})


def test_closing_a_part_out_of_order_closes_the_parts_above_it() -> None:
    s = span()
    outer = s.open("outer", 0)
    inner = s.open("inner", 10)
    s.close(outer, 50)
    s.close(inner, 60)
    assert s.parts == {"outer": [1, 10, 0], "inner": [1, 40, 0]}


def in_thread(work: Callable[[], Any]) -> Any:
    """Return the result of a function that ran in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_a_thread_closes_only_its_own_parts() -> None:
    s = span()
    outer = s.open("outer", 0)
    theirs = in_thread(lambda: s.open("theirs", 10))
    s.close(outer, 50)
    assert s.stack == [theirs]
    s.close(theirs, 60)
    assert {name: row[0] for name, row in s.parts.items()} == {"outer": 1, "theirs": 1}


def test_the_time_of_another_threads_part_is_nested_in_the_part_that_waits_for_it() -> None:
    s = span()
    outer = s.open("outer", 0)
    theirs = in_thread(lambda: s.open("theirs", 10))
    in_thread(lambda: s.close(theirs, 30))
    s.close(outer, 50)
    assert s.parts == {"outer": [1, 30, 0], "theirs": [1, 20, 0]}


def test_the_time_of_a_part_is_not_that_of_the_parts_around_it_in_any_thread() -> None:
    s = span()
    outer = s.open("outer", 0)
    theirs = in_thread(lambda: s.open("theirs", 5))
    inner = s.open("inner", 10)
    s.close(inner, 30)
    s.close(theirs, 40)
    s.close(outer, 50)
    assert s.parts == {"inner": [1, 20, 0], "theirs": [1, 15, 0], "outer": [1, 15, 0]}


def test_a_part_that_two_threads_end_at_once_is_recorded_once() -> None:
    s = span()
    part = s.open("shared", 0)
    s._end(part, 5, None)
    s._end(part, 9, None)  # it was still there when this thread looked
    assert s.parts == {"shared": [1, 5, 0]}


def test_many_threads_open_close_and_insert_parts_of_one_request() -> None:
    """Threads with a copied context share the request's span, as ``asyncio.to_thread`` has it."""
    s, all_started = span(), threading.Barrier(16)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        all_started.wait()
        for _ in range(1_500):
            outer = s.open("outer", 0)
            inner = s.open("inner", 0)
            for _ in range(rng.randrange(300)):
                pass  # where threads are switched
            if rng.random() < 0.1:
                s.insert("inserted", 0, 1, None, s.nested())
            s.close(inner, 1)
            s.close(outer, 2)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))  # raises what a thread raised
    finally:
        sys.setswitchinterval(interval)
    s.close_all(9)
    assert s.stack == []


def test_a_part_of_an_ended_request_records_nothing() -> None:
    s = span()
    part = s.open("late", 0)
    s.ended = True
    s.close(part, 50)
    assert s.parts == {}


def test_hooks_that_ended_become_parts_with_nothing_nested_in_them() -> None:
    s = span()
    s.hooks = [("hook:a", 10, 30, None), ("hook:b", 30, 90, None)]
    s.close_all(200)
    assert s.parts == {"hook:a": [1, 20, 0], "hook:b": [1, 60, 0]}
    assert [(e.name, e.began, e.ended) for e in s.ensure_notes().events] == [
        ("hook:a", 10, 30), ("hook:b", 30, 90)
    ]  # fmt: skip
    assert s.hooks is None and s.nested() == (80, 0)


def test_a_hook_that_runs_when_the_request_ends_excludes_what_is_nested_in_it() -> None:
    s = span()
    s.hook, s.hook_began = "hook:a", 1_000
    s.close(s.open("query", 2_000), 3_000)
    s.close_all(101_000)
    assert s.parts == {"query": [1, 1_000, 0], "hook:a": [1, 99_000, 0]} and s.hook is None


def test_the_cpu_time_of_hooks_counts_from_the_reading_before_without_the_time_between() -> None:
    s = span()
    s.began, s.cpu_began, s.run_queue_began = 1_000, 500, 20
    s.hook, s.hook_began = "hook:waits", 11_000
    s.end_hook(111_000, 520 + 10_000 + 30_000)  # 10,000 before it, 30,000 of its 100,000
    s.hook_start = s.nested()
    s.hook, s.hook_began = "hook:computes", 116_000
    s.end_hook(216_000, 520 + 40_000 + 5_000 + 200_000)  # a clock that ran ahead
    s.hook_start = s.nested()
    s.hook, s.hook_began = "hook:sleeps", 316_000
    s.end_hook(416_000, 520 + 245_000)
    assert s.parts == {
        "hook:waits": [1, 100_000, 30_000],
        "hook:computes": [1, 100_000, 100_000],
        "hook:sleeps": [1, 100_000, 0],
    }


def test_kept_hooks_of_a_sampled_request_have_the_cpu_time_since_the_reading_before() -> None:
    s = span()
    s.began, s.cpu_began, s.run_queue_began = 1_000, 500, 20
    s.hooks = [
        ("hook:waits", 11_000, 111_000, 520 + 10_000 + 30_000),
        ("hook:computes", 116_000, 216_000, 520 + 40_000 + 5_000 + 100_000),
    ]
    s.add_hooks()
    assert s.parts == {"hook:waits": [1, 100_000, 30_000], "hook:computes": [1, 100_000, 100_000]}
    assert s.nested() == (200_000, 130_000)


def test_a_hook_that_runs_excludes_no_hook_that_ended_before() -> None:
    s = span()
    s.hooks = [("hook:a", 0, 70_000, None)]
    s.hook, s.hook_began = "hook:b", 70_000
    s.settle()  # for instance for Server-Timing
    s.close(s.open("query", 80_000), 90_000)
    s.close_all(170_000)
    assert s.parts == {
        "hook:a": [1, 70_000, 0], "query": [1, 10_000, 0], "hook:b": [1, 90_000, 0],
    }  # fmt: skip


def test_a_short_hook_leaves_what_is_nested_in_it_to_the_request() -> None:
    s = span()
    s.hook, s.hook_began = "hook:a", 0
    s.close(s.open("query", 0), 10)
    s.end_hook(20)
    assert s.parts == {"query": [1, 10, 0]} and s.nested() == (10, 0)


def test_close_all_closes_every_part_once() -> None:
    s = span()
    s.open("a", 0)
    s.open("b", 10)
    s.close_all(30)
    s.close_all(99)
    assert s.parts == {"b": [1, 20, 0], "a": [1, 10, 0]}


def test_a_request_without_parts_has_none_to_close() -> None:
    s = span()
    s.close_all(10)
    assert s.parts is None


@given(st.lists(st.tuples(st.sampled_from(["open", "close"]), st.integers(0, 4)), max_size=40))
def test_exclusive_times_never_exceed_the_wall_time(steps: list[tuple[str, int]]) -> None:
    s, now, known = span(), 0, []
    for what, number in steps:
        now += number + 1
        if what == "open":
            known.append(s.open(f"p{number}", now))
        elif known:
            s.close(known[number % len(known)], now)
    s.close_all(now)
    times = [wall for _, wall, _ in (s.parts or {}).values()]
    assert sum(times) <= now and min(times, default=0) >= 0


def test_an_ended_request_is_not_the_current_one() -> None:
    s = span()
    token = CURRENT.set(s)
    assert current() is s
    s.ended = True
    assert current() is None
    CURRENT.reset(token)


def test_part_names_beyond_the_limit_are_merged() -> None:
    s = span()
    for number in range(150):
        s.close(s.open(f"p{number}", number), number + 1)
    assert len(s.parts or {}) == 101
    assert (s.parts or {})["<other>"][0] == 50


def test_an_inserted_part_excludes_the_parts_nested_in_it() -> None:
    s = span()
    before = s.nested()
    inner = s.open("inner", 10, 3)
    s.close(inner, 30, 8)
    s.insert("render", 0, 50, 20, before)
    assert s.parts == {"inner": [1, 20, 5], "render": [1, 30, 15]}
    assert [(e.name, e.began, e.ended) for e in s.ensure_notes().events] == [
        ("inner", 10, 30), ("render", 0, 50)
    ]  # fmt: skip


def test_an_inserted_part_is_nested_in_the_enclosing_part() -> None:
    s = span()
    outer = s.open("outer", 0, 0)
    before = s.nested()
    s.close(s.open("inner", 10, 3), 30, 8)
    s.insert("render", 5, 50, 20, before)
    s.close(outer, 60, 30)
    assert s.parts == {"inner": [1, 20, 5], "render": [1, 25, 15], "outer": [1, 15, 10]}


def test_an_inserted_part_of_an_ended_request_records_nothing() -> None:
    s = span()
    s.ended = True
    s.insert("late", 0, 5, None, s.nested())
    assert s.parts is None and s.notes is None


def test_added_parts_are_summed_and_never_negative() -> None:
    s = span()
    s.add("query", 3, 50, 20)
    s.add("query", 1, -5, -1)
    assert s.parts == {"query": [4, 50, 20]}


class Buffering:
    """A collector that records later."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def settle(self, span: Span) -> None:
        self.calls.append("settle")

    def finish(self, span: Span) -> None:
        self.calls.append("finish")

    def add_events(self, span: Span) -> None:
        self.calls.append("add_events")


def test_buffering_collectors_are_called_when_a_request_settles_and_ends() -> None:
    s, collector = span(), Buffering()
    s.attach("c", collector)
    s.settle()
    s.finish()
    s.add_events()
    assert collector.calls == ["settle", "settle", "finish", "add_events"]


def test_the_collectors_of_a_request_finish_once() -> None:
    s, collector = span(), Buffering()
    s.attach("c", collector)
    s.finish()
    s.finish()
    assert collector.calls == ["settle", "finish"]


@pytest.mark.parametrize(
    ("attached", "fast"),
    [
        ([True], FAST_COLLECT), ([True, True], FAST_COLLECT), ([False], FAST_OFF),
        ([True, False], FAST_OFF), ([False, True], FAST_OFF), ([], FAST_ON),
    ],
)  # fmt: skip
def test_the_fast_path_is_left_to_requests_of_which_all_collectors_allow_it(
    attached: list[bool], fast: int
) -> None:
    s = span()
    for number, allows in enumerate(attached):
        s.attach(str(number), Buffering(), fast=allows)
    assert s.fast == fast


def test_parts_leave_the_fast_path_to_a_request_and_other_notes_do_not() -> None:
    s = span()
    s.close(s.open("a", 0), 10)
    s.insert("b", 10, 20, None, (0, 0))
    assert s.fast == FAST_ON
    s.ensure_notes()
    assert s.fast == FAST_OFF


def test_a_request_without_notes_has_nothing_to_settle() -> None:
    s = span()
    s.settle()
    s.finish()
    assert s.notes is None
