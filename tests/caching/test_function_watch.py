"""Watch over a function that is not cached: keys, results, obstacles; the call stays as it is."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flask_knitperf.caching.dependencies import RUNNING
from flask_knitperf.caching.function_watch import OBSERVE_EVERY, FunctionWatch, Obstacle
from flask_knitperf.caching.load_reads import NO_OBSERVER
from flask_knitperf.caching.observed_call import ObservedCall, end_abandoned
from flask_knitperf.metrics.catalogue import WhatIfObstacle

MS = 1_000_000


class Watched:
    """A function and its watch, called at moments of the test; times are milliseconds."""

    def __init__(self, function: Callable[..., Any], share: float = 0.005, **options: Any) -> None:
        self.function = function
        self.now = 1000
        self.watch = FunctionWatch(
            function, "f", "f.py:1", share=share, observer=NO_OBSERVER, draw=lambda: 0.5, **options
        )

    def __call__(self, *args: Any, took: int = 10, **kwargs: Any) -> Any:
        call = self.watch.begin(args, kwargs)
        began, self.now = self.now * MS, self.now + took
        try:
            result = self.function(*args, **kwargs)
        except Exception:
            if call is not None:
                self.watch.fail(call, began, self.now * MS)
            raise
        if call is not None:
            self.watch.end(call, began, self.now * MS, result)
        return result

    def taken(self) -> tuple[int, int, int]:
        """Return judged calls, hits for ever, and calls without a key."""
        counts, unkeyed, _ = self.watch.take()
        return counts.judged.calls, counts.by_ttl[-1].hits.calls, unkeyed

    def obstacles(self) -> dict[str, str]:
        """Return the reasons by kind."""
        _, _, obstacles = self.watch.take()
        return {obstacle.kind.value: obstacle.reason for obstacle in obstacles}


def explode(style: str, quantity: int = 1) -> Any:
    return {"style": style, "quantity": quantity}


def test_all_spellings_of_a_call_are_one_key() -> None:
    watched = Watched(explode)
    watched("a"), watched("a", 1), watched(style="a", quantity=1), watched("a", 2)
    assert watched.taken() == (4, 2, 0)


def test_one_and_true_are_two_keys() -> None:
    watched = Watched(explode)
    watched("a", 1), watched("a", True)
    assert watched.taken() == (2, 0, 0)


def test_the_key_is_that_of_the_arguments_before_the_call_changes_them() -> None:
    def drain(items: list[int]) -> int:
        total = sum(items)
        items.clear()
        return total

    watched = Watched(drain)
    watched([1, 2]), watched([1, 2]), watched([])
    assert watched.taken() == (3, 1, 0)


def test_a_call_without_a_key_is_counted_with_the_reason() -> None:
    watched = Watched(lambda value: 1)
    watched(object()), watched(2)
    counts, unkeyed, obstacles = watched.watch.take()
    assert (counts.judged.calls, unkeyed) == (1, 1)
    [(obstacle, calls)] = obstacles.items()
    assert obstacle.kind is WhatIfObstacle.UNKEYED and calls == 2
    assert "argument 'value'" in obstacle.reason and "Pass ignore=" in obstacle.reason


def test_a_call_that_the_function_refuses_raises_its_own_error() -> None:
    watched = Watched(explode)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'style'"):
        watched()
    assert watched.taken() == (0, 0, 0)


def test_a_function_whose_arguments_take_long_to_hash_is_watched_no_longer() -> None:
    ticks = iter(range(0, 10**12, 20 * MS))
    watched = Watched(len, clock=lambda: next(ticks))
    for _ in range(5):
        watched([1.5])
    assert watched.taken()[2] == 3  # the second one was timed, and had a key
    watched([1.5])
    assert watched.obstacles() == {"unkeyed": "hashing its arguments takes too long"}


def test_an_error_is_a_miss_and_not_stored() -> None:
    def fail(number: int) -> int:
        if number < 3:
            raise ValueError
        return number

    watched = Watched(fail)
    for number in (1, 1, 5, 5):
        try:
            watched(number)
        except ValueError:
            assert number == 1
    assert watched.taken() == (4, 1, 0)


def test_a_result_of_one_caller_is_refused_with_the_reason() -> None:
    watched = Watched(lambda: iter("ab"))
    watched(), watched()
    _, _, obstacles = watched.watch.take()
    [(obstacle, calls)] = obstacles.items()
    assert (obstacle.kind, calls) == (WhatIfObstacle.REFUSED, 2)
    assert "is used up by its first reader" in obstacle.reason


@pytest.mark.parametrize("value", [0, "", False, [], {}, 0.0])
def test_a_falsy_result_is_a_value(value: Any) -> None:
    watched = Watched(lambda: value)
    watched(), watched()
    assert watched.taken()[1] == 1 and watched.obstacles() == {}


def test_a_function_that_always_returns_none_is_no_candidate() -> None:
    watched = Watched(lambda number: number)
    watched(None), watched(None)
    assert watched.obstacles() == {"nothing": "all of its results are None"}
    watched(None), watched(3)
    assert watched.obstacles() == {}


# -- results -----------------------------------------------------------------------------------------


def compared(watched: Watched) -> tuple[int, int]:
    """Return the compared and the stale hits of the cache without a TTL."""
    counts, _, _ = watched.watch.take()
    return counts.by_ttl[-1].compared, counts.by_ttl[-1].stale


def test_another_answer_than_that_of_the_load_is_stale() -> None:
    state = {"answer": 1}
    watched = Watched(lambda: dict(state))
    for answer in (1, 1, 2, 2, 1):
        state["answer"] = answer
        watched(took=1000)
    assert compared(watched) == (4, 2)


def test_a_result_that_its_caller_changes_afterwards_is_compared_as_it_was_returned() -> None:
    watched = Watched(lambda: [1, 2])
    for _ in range(3):
        watched(took=1000).append(9)
    assert compared(watched) == (2, 0)


def test_a_share_of_zero_hashes_nothing() -> None:
    watched = Watched(lambda: [1], share=0.0)
    watched(took=1000), watched(took=1000)
    assert compared(watched) == (0, 0)


def test_results_that_cannot_be_compared_are_reported_as_such() -> None:
    class Order:
        pass

    watched = Watched(Order)
    watched(took=1000), watched(took=1000)
    assert watched.obstacles() == {
        "uncompared": "its results cannot be compared: a test_results_that_cannot_be_compared_are_"
        "reported_as_such.<locals>.Order has no content that could be a key"
    }


# -- observed calls ----------------------------------------------------------------------------------


def test_a_function_that_writes_a_file_is_named_for_ever(tmp_path: Path) -> None:
    def save(number: int) -> int:
        if number == 1:
            (tmp_path / "order").write_text("x")
        return number

    watched = Watched(save)
    watched(1)
    expected = {"changes": "it writes to a file, which a call from the cache would not"}
    assert watched.obstacles() == expected
    for _ in range(5):
        watched(2)
    [(_, calls)] = watched.watch.take()[2].items()
    assert calls == 5  # of the window, whichever call has shown it
    assert not RUNNING


def test_about_one_call_in_many_is_observed(tmp_path: Path) -> None:
    written: list[int] = []

    def save(number: int) -> int:
        if RUNNING:
            written.append(number)
        return number

    watched = Watched(save)
    for number in range(4 + 20 * (OBSERVE_EVERY + 1)):
        watched(number)
    assert len(written) == 4 + 20


def test_an_observed_call_that_raises_is_ended() -> None:
    watched = Watched(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        watched()
    assert not RUNNING


def test_an_observed_call_that_is_abandoned_is_ended_when_it_is_freed() -> None:
    watched = Watched(explode)
    assert watched.watch.begin(("a",), {}) is not None
    gc.collect()
    assert not RUNNING


def test_an_observed_call_that_was_interrupted_while_it_ended_is_ended_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(explode)
    monkeypatch.setattr(ObservedCall, "__del__", lambda _: None)
    kept = watched.watch.begin(("a",), {})
    assert watched.watch.begin(("b",), {}) is not None
    gc.collect()
    assert len(RUNNING) == 2
    end_abandoned()
    assert len(RUNNING) == 1 and kept is not None
    del kept
    end_abandoned()
    assert not RUNNING


# -- memory ------------------------------------------------------------------------------------------


def test_long_arguments_are_not_kept() -> None:
    watched = Watched(len)
    watched("a" * 100_000), watched("a" * 100_000), watched("b" * 100_000)
    assert watched.taken() == (3, 1, 0)
    assert max(len(repr(key)) for key in watched.watch.simulation.entries) < 200


class Loom:
    """A class whose instances have a method that is watched."""

    def setting(self, name: str) -> str:
        return name


def test_instances_are_keys_by_identity_and_their_keys_end_with_them() -> None:
    watched = Watched(Loom.setting)
    first, second = Loom(), Loom()
    for loom in (first, second, first):
        watched(loom, "a"), watched(loom, "b" * 2000)
    assert watched.taken() == (6, 2, 0)
    del loom, first
    gc.collect()
    watched.watch.tidy(0)
    assert len(watched.watch.simulation) == 2
    watched(second, "a")
    assert watched.taken() == (1, 1, 0)


def test_obstacles_are_bounded() -> None:
    watched = Watched(lambda value: 1)
    for number in range(50):
        watched.watch._note(Obstacle(WhatIfObstacle.CHANGES, f"reason {number}"))
    watched(1)
    assert len(watched.watch.take()[2]) == 8


@pytest.mark.parametrize(
    "value", [list(range(2000)), dict.fromkeys(range(2000)), np.zeros(2_000_000)],
    ids=["list", "dict", "array"],
)  # fmt: skip
def test_large_arguments_are_never_hashed(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows_of(rows: Any) -> int:
        return len(rows)

    watch = FunctionWatch(rows_of, "f", "f.py:1", share=0.005, observer=NO_OBSERVER)
    monkeypatch.setattr(watch._keys, "encode", lambda *_: pytest.fail("it was hashed"))
    assert watch.begin((value,), {}) is None
    assert watch.begin((value,), {}) is None and watch._is_stopped
