"""Code locations: bytecode offsets inside loops, on every Python."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from flask_knitperf.core import code_locations
from flask_knitperf.core.code_locations import call_from, caller, callers, loops


def looped(function: Callable[[Callable[[], None]], Any]) -> list[bool]:
    """Return for each call of a function's argument whether it is generator within a loop."""
    inside: list[bool] = []

    def here() -> None:
        frame: FrameType = sys._getframe(1)
        steps = loops(frame.f_code)
        inside.append(any(first <= frame.f_lasti <= last for first, last in steps))

    function(here)
    return inside


def in_for(here: Callable[[], None]) -> None:
    here()
    for _ in range(2):
        here()
    here()


def in_nested(here: Callable[[], None]) -> None:
    for _ in range(1):
        for _ in range(1):
            pass
        here()


def in_comprehension(here: Callable[[], None]) -> None:
    [here() for _ in range(2)]


def in_generator(here: Callable[[], None]) -> None:
    def generator() -> Iterator[int]:
        for number in range(2):
            here()
            yield number

    sum(generator())


def around_errors(here: Callable[[], None]) -> None:
    try:
        here()
        raise ValueError
    except ValueError:
        here()
    here()


def behind_a_loop_that_is_left(here: Callable[[], None]) -> None:
    for number in range(5):
        if number == 1:
            break
    else:
        here()
    here()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (in_for, [False, True, True, False]),
        (in_nested, [True]),
        (in_comprehension, [True, True]),
        (in_generator, [True, True]),
        (around_errors, [False, False, False]),
        (behind_a_loop_that_is_left, [False]),
    ],
)
def test_calls_inside_loops_are_recognised(
    function: Callable[..., Any], expected: list[bool]
) -> None:
    assert looped(function) == expected


def test_loops_are_listed_from_the_outside_and_one_that_is_continued_is_one_loop() -> None:
    def nested(rows: list[list[int]]) -> int:
        total = 0
        for row in rows:
            if not row:
                continue
            for number in row:
                if number > 3:
                    continue
                total += number
        return total

    (outer, outer_end), (inner, inner_end) = loops(nested.__code__)
    assert outer < inner < inner_end < outer_end


def test_disguised_code_of_this_package_is_recognised() -> None:
    disguised = compile("1", f"/site-packages/pandas/{code_locations.OURS_ELSEWHERE}", "eval")
    assert code_locations.is_ours(disguised) and not code_locations.is_own(disguised)


def test_the_cache_of_code_objects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_locations, "_own_by_id", {})
    monkeypatch.setattr(code_locations, "_MAX_CODE_OBJECTS", 2)
    codes = [compile("1", f"/srv/mill/{number}.py", "eval") for number in range(5)]
    assert all(code_locations.is_own(code) for code in codes)
    assert len(code_locations._own_by_id) <= 2


def test_the_cache_of_call_sites_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_locations, "_call_sites", {})
    monkeypatch.setattr(code_locations, "_MAX_CALL_SITES", 1)
    first, second = code_locations.caller(0), code_locations.caller(0)
    assert first == second and first.startswith("core/test_code_locations.py:")
    third = code_locations.caller(0)
    assert third != first and len(code_locations._call_sites) == 1


def test_the_search_for_application_code_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_locations, "_MAX_DEPTH", 0)
    assert code_locations.caller(0) == ""
    assert code_locations.callers(3, 0) == ()


def test_without_application_code_there_is_no_call_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_locations, "_call_sites", {})
    monkeypatch.setattr(code_locations, "is_own", lambda code: False)
    assert code_locations.caller(0) == ""
    assert code_locations.callers(3, 0) == ()


def test_callers_end_at_the_outermost_frame_or_the_requested_number() -> None:
    assert len(code_locations.callers(1, 0)) == 1
    (innermost, *_) = code_locations.callers(1_000, 0)
    assert innermost.endswith("in test_callers_end_at_the_outermost_frame_or_the_requested_number")


def test_a_stack_that_is_not_deep_enough_has_no_call_site() -> None:
    assert caller(10_000) == "" and callers(5, 10_000) == ()
    assert call_from(10_000, int, ("5",), {}) == 5


def test_a_call_passes_for_one_of_the_line_of_a_caller() -> None:
    def call() -> Any:
        return call_from(1, warnings.warn, ("old",), {"category": FutureWarning})

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    line = test_a_call_passes_for_one_of_the_line_of_a_caller.__code__.co_firstlineno + 6
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]
