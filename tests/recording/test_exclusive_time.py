"""Division of a request's time among its parts: one contract, tested in Python and in C."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.recording import fastpath
from tests.recording.harness import by_moments as moments
from tests.recording.harness import in_c, in_pure_python, starts_and_ends

MAX = fastpath.MAX_INTERVALS


@pytest.fixture(scope="module", params=[in_pure_python, in_c], ids=["python", "c"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param()


def exclusive(module: Any, parts: list[tuple[int, int]]) -> list[int]:
    """Return the exclusive time of each part, in the order in which they end.

    Args:
        module: with the implementation.
        parts: start and duration of each.
    """
    notes = module.NotesBase()
    before: dict[int, int] = {}
    times = []
    for now, is_end, number in starts_and_ends(parts):
        if is_end:
            times.append(notes.take(parts[number][0], now, before[number]))
        else:
            before[number] = notes.nested_ns
    assert notes.nested_ns == sum(times)
    return times


def by_moments(parts: list[tuple[int, int]]) -> list[int]:
    """Return the same, moment by moment: each belongs to the part that ends first."""
    return moments(sorted(parts, key=lambda part: part[0] + part[1]))


@pytest.mark.parametrize(
    ("parts", "times"),
    [
        ([(0, 10), (20, 10)], [10, 10]),
        ([(0, 30), (10, 10)], [10, 20]),
        ([(0, 100), (90, 30)], [100, 20]),
        ([(0, 50), (10, 50), (20, 50)], [50, 10, 10]),
        ([(0, 10), (0, 10), (0, 10)], [10, 0, 0]),
        ([(0, 50), (40, 100), (60, 10)], [50, 10, 80]),
        ([(0, 5), (10, 40), (30, 70), (60, 10), (75, 10)], [5, 40, 10, 10, 30]),
    ],
    ids=["sequence", "nested", "staggered", "chain", "same", "nested in a staggered one", "all"],
)
def test_a_moment_belongs_to_the_part_that_ends_first(
    module: Any, parts: list[tuple[int, int]], times: list[int]
) -> None:
    assert exclusive(module, parts) == times


PARTS = st.tuples(st.integers(0, 100), st.integers(0, 100))


@given(st.lists(PARTS, max_size=MAX))
def test_the_times_of_any_parts_are_those_of_their_moments(
    module: Any, parts: list[tuple[int, int]]
) -> None:
    ends = [began + took for began, took in parts]
    if len(set(ends)) == len(ends):  # of those that end at once the order is not defined
        assert exclusive(module, parts) == by_moments(parts)
    assert sum(exclusive(module, parts)) == sum(by_moments(parts))


@given(st.lists(PARTS, min_size=MAX, max_size=60))
def test_times_are_never_negative_and_their_sum_is_never_more_than_the_time_with_a_part(
    module: Any, parts: list[tuple[int, int]]
) -> None:
    times = exclusive(module, parts)
    assert min(times) >= 0 and sum(times) <= sum(by_moments(parts))


def test_a_part_beside_many_others_loses_no_more_than_an_interval_that_is_forgotten(
    module: Any,
) -> None:
    short = [(10 * number, 5) for number in range(3 * MAX)]
    *_, beside = exclusive(module, [*short, (2, 10 * 3 * MAX)])
    assert beside == by_moments([*short, (2, 10 * 3 * MAX)])[-1] - 2


def test_a_clock_that_another_thread_has_read_later_takes_nothing_twice(module: Any) -> None:
    notes = module.NotesBase()
    assert [notes.take(0, 100, 0), notes.take(50, 90, 0), notes.take(80, 120, 0)] == [100, 0, 20]
    assert notes.nested_ns == 120


def test_cpu_time_that_a_nested_part_has_used_is_not_that_of_the_outer_one(module: Any) -> None:
    notes = module.NotesBase()
    assert [notes.take_cpu(30, 0), notes.take_cpu(50, 0), notes.take_cpu(10, 0)] == [30, 20, 0]
    assert notes.nested_cpu_ns == 50
