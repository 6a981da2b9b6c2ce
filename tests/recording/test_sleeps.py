"""Sleeps of a request's tasks have only the time in which nothing else of the request runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.recording import sleeps as module_of_sleeps
from flask_knitperf.recording.sleeps import EndedSleep, Sleeps, TakenTime
from tests.recording.harness import by_moments as moments
from tests.recording.harness import in_c, in_pure_python, starts_and_ends

Part = tuple[int, int, bool]
"""Start and duration of a part, and whether it is a sleep."""


@pytest.fixture(scope="module", params=[in_pure_python, in_c], ids=["python", "c"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param()


def exclusive(module: Any, parts: list[Part]) -> list[int]:
    """Return the exclusive time of each part, those of the sleeps last."""
    notes = module.NotesBase()
    before: dict[int, int] = {}
    times = []
    spans = [(began, took) for began, took, _ in parts]
    for now, is_end, number in starts_and_ends(spans):
        began, _, is_sleep = parts[number]
        if not is_end:
            before[number] = notes.nested_ns
            if is_sleep and notes.sleeps is None:
                notes.sleeps = Sleeps()
        elif is_sleep:
            own = notes.take(began, now, before[number])
            assert not notes.sleeps.add(EndedSleep(began, now, own, number))
        else:
            times.append(notes.take_work(began, now, before[number]))
    return [*times, *(sleep.own for sleep in (notes.sleeps.settle() if notes.sleeps else []))]


def by_moments(parts: list[Part]) -> list[int]:
    """Return the same, moment by moment: each belongs to the part that ends first, sleeps last."""
    ordered = sorted(parts, key=lambda part: (part[2], part[0] + part[1]))
    return moments((began, took) for began, took, _ in ordered)


@pytest.mark.parametrize(
    ("parts", "times"),
    [
        ([(0, 10, True), (20, 10, False)], [10, 10]),
        ([(0, 90, True), (0, 100, False)], [100, 0]),
        ([(0, 90, True), (90, 30, False), (1, 99, False)], [99, 20, 1]),
        ([(0, 50, False), (10, 20, True)], [50, 0]),
        ([(0, 10, True), (20, 50, True), (40, 50, False)], [50, 10, 20]),
        ([(0, 90, True), (55, 10, False), (50, 50, False)], [10, 40, 50]),
    ],
    ids=["apart", "beside", "staggered", "before the first sleep", "two sleeps", "nested"],
)
def test_what_works_has_the_time_of_the_sleeps_beside_it(
    module: Any, parts: list[Part], times: list[int]
) -> None:
    assert exclusive(module, parts) == times


PARTS = st.tuples(st.integers(0, 100), st.integers(0, 100), st.booleans())


@given(st.lists(PARTS, max_size=8))
def test_the_times_of_any_parts_are_those_of_their_moments(module: Any, parts: list[Part]) -> None:
    ends = [began + took for began, took, _ in parts]
    if len(set(ends)) == len(ends):  # of those that end at once the order is not defined
        assert exclusive(module, parts) == by_moments(parts)
    assert sum(exclusive(module, parts)) == sum(by_moments(parts))


def test_a_failure_in_the_division_is_not_lost(module: Any) -> None:
    notes = module.NotesBase()
    notes.sleeps = object()
    with pytest.raises(AttributeError):
        notes.take_work(0, 10, 0)


def test_of_many_stretches_the_earliest_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_sleeps, "MAX_STRETCHES", 3)
    taken = TakenTime()
    for number in range(5):
        taken.add(10 * number, 10 * number + 5)
    assert taken.within(0, 45) == 35  # [0, 25], [30, 35] and [40, 45]
    assert (taken.within(2, 12), taken.within(27, 29), taken.within(32, 42)) == (10, 0, 5)


def test_a_sleep_counts_once() -> None:
    sleeps, sleep = Sleeps(), EndedSleep(0, 10, 10, "a")
    assert sleeps.add(sleep) == [] and sleeps.settle() == [sleep] and sleeps.settle() == []


def test_of_many_sleeps_the_earliest_count_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_sleeps, "MAX_SLEEPS", 2)
    sleeps, three = Sleeps(), [EndedSleep(0, 10, 10, number) for number in range(3)]
    assert [sleeps.add(sleep) for sleep in three] == [[], [], three[:1]]
    assert sleeps.settle() == three[1:]
