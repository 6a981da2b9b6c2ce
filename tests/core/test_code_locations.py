"""Code locations: bytecode offsets inside loops, on every Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from flask_knitperf.core import code_locations
from flask_knitperf.core.code_locations import loops


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


def test_disguised_code_of_this_package_is_recognised() -> None:
    disguised = compile("1", f"/site-packages/pandas/{code_locations.OURS_ELSEWHERE}", "eval")
    assert code_locations.is_ours(disguised) and not code_locations.is_own(disguised)
