"""What single requests leave behind, weighed between two of them."""

from __future__ import annotations

import gc
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.collectors.memory import retained_bytes
from flask_knitperf.collectors.memory.allocators import Used
from flask_knitperf.collectors.memory.retained_bytes import (
    ENOUGH,
    EVERY,
    NEVER,
    SURVEY,
    RetainedBytesMeter,
)
from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.recording.span import Span


class Mill:
    """Serves requests to a weigher; each endpoint leaves what a function says.

    Attributes:
        used: what is allocated.
        woken: how often the weigher asked to see the next request.
    """

    def __init__(self) -> None:
        self.used, self.woken, self.turn, self.looked = Used(1_000_000, 500_000), 0, 0, 0
        self.weigher = RetainedBytesMeter(self._name, self._wake, self._quiet, lambda: self.used)
        self.leaves: dict[str, Callable[[int], Used]] = {}
        self.alone = True
        self.flying = False

    def _name(self, span: Any) -> tuple[str, str]:
        return span.environ["PATH_INFO"].strip("/").partition("/")[0], "GET"

    def _wake(self) -> None:
        self.woken += 1

    def _quiet(self) -> int | None:
        return None if self.flying else self.turn

    def keep(self, large: int, small: int = 0) -> None:
        self.used = Used(self.used.large + large, self.used.small + small)

    def weighs_one(self) -> Used:
        """Return what the only pair left."""
        [[pair]] = self.weigher._pairs.values()
        return pair.left

    def serve(self, name: str, *, ends: bool = True) -> None:
        self.turn += 1
        span = Span(None, {"PATH_INFO": f"/{name}"}, 0)
        if self.turn >= self.weigher.due:
            self.looked += 1
            self.weigher.look(span, self.turn, alone=self.alone)
        leaves = self.leaves.get(name.partition("/")[0])
        if leaves is not None:
            left = leaves(self.turn)
            self.used = Used(self.used.large + left.large, self.used.small + left.small)
        span.ended = ends

    def left(self) -> dict[str, tuple[float, float]]:
        return {name: (one.large, one.small) for (name, _), one in self.weigher.left().items()}


@pytest.fixture(autouse=True)
def nothing_is_collected() -> Any:
    """No collection comes between two readings by accident."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def mill() -> Mill:
    made = Mill()
    made.weigher.start()
    return made


def test_nothing_is_looked_at_before_somebody_asks() -> None:
    idle = Mill()
    for _ in range(200):
        idle.serve("stock")
    assert (idle.looked, idle.weigher.due) == (0, NEVER)


def test_asking_wakes_the_profile_once(mill: Mill) -> None:
    mill.weigher.start()
    assert mill.woken == 1


def test_the_survey_weighs_about_one_request_in_six(mill: Mill) -> None:
    for _ in range(800):
        mill.serve("stock")
    assert mill.weigher._taken == pytest.approx(800 / EVERY, rel=0.2)


def test_what_requests_leave_is_told_by_heap_and_endpoint(mill: Mill) -> None:
    mill.leaves = {"notes": lambda _: Used(2_048, 0), "tags": lambda _: Used(0, 300)}
    for turn in range(4 * SURVEY * EVERY):
        mill.serve(("notes", "stock", "tags")[turn % 3])
    notes, tags = mill.left()["notes"], mill.left()["tags"]
    assert notes == (pytest.approx(2_048, rel=0.02), 0)
    assert tags == (0, pytest.approx(300, rel=0.05))


def test_the_focus_weighs_every_request_of_who_leaves_something(mill: Mill) -> None:
    mill.leaves = {"notes": lambda _: Used(2_048, 0)}
    while mill.weigher._taken < SURVEY:
        mill.serve("notes/17" if mill.turn % 5 == 0 else "stock")
    mill.serve("stock"), mill.serve("stock")
    before = len(mill.weigher._pairs["notes", "GET"])
    for _ in range(11):
        mill.serve("notes/4"), mill.serve("stock"), mill.serve("stock")
    assert (
        len(mill.weigher._pairs["notes", "GET"]) >= before + 9
    )  # a survey's pair may be under way


def test_who_came_too_seldom_in_the_survey_is_looked_at_in_the_focus(mill: Mill) -> None:
    mill.leaves = {"rare": lambda _: Used(2_048, 0)}
    while len(mill.weigher._pairs.get(("rare", "GET"), ())) < 1:
        mill.serve("rare/7"), mill.serve("stock"), mill.serve("stock")
    while mill.weigher._taken < SURVEY:
        mill.serve("stock")
    for _ in range(2 * ENOUGH):
        mill.serve("rare/8"), mill.serve("stock"), mill.serve("stock")
    assert mill.left()["rare"][0] == pytest.approx(2_048)


def test_a_request_beside_others_is_not_weighed(mill: Mill) -> None:
    mill.alone = False
    for _ in range(500):
        mill.serve("notes")
    assert not mill.weigher.weighs


@pytest.mark.parametrize("after", [1, 2])
def test_a_pair_that_another_request_came_into_does_not_count(mill: Mill, after: int) -> None:
    for number in range(3):
        mill.serve("notes")
        mill.turn += number + 1 == after  # one that nobody looked at
    assert not mill.weigher.weighs


def test_a_request_that_has_not_ended_is_not_weighed(mill: Mill) -> None:
    mill.serve("notes", ends=False)
    mill.serve("stock")
    mill.serve("stock")
    assert not mill.weigher.weighs


def test_a_pair_in_which_garbage_grew_old_does_not_count(mill: Mill) -> None:
    WATCH.hold()
    try:
        mill.serve("notes")
        gc.collect(1)
        mill.serve("stock")
        mill.serve("stock")
    finally:
        WATCH.let_go()
    assert not mill.weigher.weighs


def test_an_endpoint_that_was_weighed_a_few_times_only_is_not_told(mill: Mill) -> None:
    mill.leaves = {"notes": lambda _: Used(2_048, 0)}
    for _ in range(EVERY * (ENOUGH - 1)):
        mill.serve("notes")
    assert mill.left() == {}


def test_a_buffer_that_is_emptied_at_times_leaves_nothing(mill: Mill) -> None:
    kept = [0]

    def batch(_: int) -> Used:
        kept[0] += 1
        if kept[0] % 40 == 0:
            return Used(-39 * 3_000, 0)
        return Used(3_000, 0)

    mill.leaves = {"outbox": batch}
    for _ in range(SURVEY * EVERY + 400):
        mill.serve("outbox")
    assert mill.left()["outbox"] == (0, 0)


def test_a_cache_that_is_filled_by_some_requests_leaves_nothing(mill: Mill) -> None:
    mill.leaves = {"cached": lambda turn: Used(5_000 if turn % 3 == 0 else 0, 0)}
    for _ in range(4 * SURVEY * EVERY):
        mill.serve("cached")
    assert mill.left()["cached"] == (0, 0)


def test_what_comes_between_at_times_does_not_hide_a_leak(mill: Mill) -> None:
    def noisy(turn: int) -> Used:
        return Used(2_048 + (9_000 if turn % 29 == 0 else 0) - (9_000 if turn % 31 == 0 else 0), 0)

    mill.leaves = {"notes": noisy}
    for _ in range(SURVEY * EVERY + 1_000):
        mill.serve("notes")
    assert mill.left()["notes"][0] == pytest.approx(2_048)


@pytest.mark.parametrize("seed", [1, 4, 5, 6])
def test_a_batch_that_is_emptied_by_requests_in_between_does_not_hide_a_leak(
    mill: Mill, seed: int
) -> None:
    kept = [0]

    def batch(_: int) -> Used:
        kept[0] += 1
        return Used(3_000 if kept[0] % 40 else -39 * 3_000, 0)

    mill.leaves = {"notes": lambda _: Used(2_048, 0), "outbox": batch}
    rng = random.Random(seed)
    for _ in range(9_000):
        mill.serve(rng.choice(("notes", "outbox", "stock", "tags", "orders")))
    assert mill.left()["notes"] == (pytest.approx(2_048, rel=0.03), 0)
    assert mill.left()["outbox"] == (0, 0)


def weighed(mill: Mill, name: str, *left: int, after: str) -> None:
    pairs = mill.weigher._pairs.setdefault((name, "GET"), deque())
    pairs.extend(retained_bytes._Pair(Used(each, 0), (after, "GET")) for each in left)


def test_a_batch_that_is_only_emptied_in_between_leaves_nothing(mill: Mill) -> None:
    weighed(mill, "outbox", *[3_000] * ENOUGH, after="stock")
    weighed(mill, "stock", *[0] * 50, after="tags")
    weighed(mill, "stock", *[3_000] * 30, after="outbox")
    assert mill.left()["outbox"][0] == pytest.approx(3_000, rel=0.05)
    weighed(mill, "stock", *[-117_000] * 4, after="outbox")
    assert mill.left()["outbox"] == (0, 0)


def test_where_all_requests_in_between_jump_all_pairs_count(mill: Mill) -> None:
    weighed(mill, "notes", *[2_048] * ENOUGH, after="jumps")
    weighed(mill, "jumps", *[40_000, -40_000] * 50, after="stock")
    assert mill.left()["notes"][0] == pytest.approx(2_048, rel=0.05)
    weighed(mill, "notes", *[-90_000] * 8, after="jumps")
    assert mill.left()["notes"] == (0, 0)


# -- what is no request ----------------------------------------------------------------------------


def test_what_a_job_of_ours_leaves_between_two_readings_is_taken_off(mill: Mill) -> None:
    mill.leaves = {"notes": lambda _: Used(2_048, 100)}
    mill.serve("notes")
    assert mill.weigher.beside(lambda: mill.keep(98_000, 500)) is None
    mill.serve("stock")
    mill.weigher.beside(lambda: mill.keep(-20_000))
    mill.serve("stock")
    assert mill.weighs_one() == Used(2_048, 100)


def test_a_pair_with_a_request_beside_a_job_does_not_count(mill: Mill) -> None:
    def job() -> None:
        mill.serve("stock")

    mill.serve("notes")
    mill.weigher.beside(job)
    mill.serve("stock")
    assert not mill.weigher.weighs


def test_a_job_that_began_while_a_request_ran_spoils_its_pair(mill: Mill) -> None:
    mill.serve("notes")
    mill.flying = True
    mill.weigher.beside(lambda: None)
    mill.flying = False
    mill.serve("stock"), mill.serve("stock")
    assert not mill.weigher.weighs


def test_nothing_is_weighed_from_within_a_job_or_into_one(mill: Mill) -> None:
    mill.weigher.beside(lambda: mill.serve("notes"))
    assert mill.weigher.held is None
    mill.serve("notes"), mill.serve("stock")
    mill.weigher.beside(lambda: mill.serve("stock"))
    assert not mill.weigher.weighs


def test_a_job_that_fails_is_over_too(mill: Mill) -> None:
    mill.serve("notes")
    with pytest.raises(ZeroDivisionError):
        mill.weigher.beside(lambda: 1 // 0)
    mill.serve("stock"), mill.serve("stock")
    assert mill.weighs_one() == Used(0, 0)


def test_a_job_is_just_run_while_nothing_is_weighed(mill: Mill) -> None:
    mill.weigher.stop()
    mill.used = None  # type: ignore[assignment]
    assert mill.weigher.beside(lambda: 7) == 7


def test_a_pair_in_which_something_else_was_served_does_not_count(mill: Mill) -> None:
    mill.serve("notes")
    mill.weigher.spoil()
    mill.serve("stock"), mill.serve("stock")
    assert not mill.weigher.weighs
    while not mill.weigher.weighs:  # the next one does
        mill.serve("notes")


# --------------------------------------------------------------------------------------------------


def test_what_requests_of_all_endpoints_leave_alike_is_no_endpoint_s(mill: Mill) -> None:
    names = ("notes", "stock", "tags", "orders", "styles")
    mill.leaves = {name: lambda _: Used(0, 200) for name in names}
    mill.leaves["notes"] = lambda _: Used(2_048, 200)
    for turn in range(8 * SURVEY * EVERY):
        mill.serve(names[turn % 5])
    assert mill.left()["notes"] == (pytest.approx(2_048, rel=0.02), 0)
    assert "stock" not in mill.left()  # the focus was on the notes alone


def test_with_few_endpoints_nothing_is_taken_for_what_all_leave(mill: Mill) -> None:
    mill.leaves = {"notes": lambda _: Used(2_048, 0)}
    for _ in range(4 * SURVEY * EVERY):
        mill.serve("notes")
    assert mill.left()["notes"] == (2_048, 0)


def test_what_is_kept_of_the_latest_request_alone_is_not_left_behind(mill: Mill) -> None:
    last = {"large": 800, "stock": 0, "notes": 100}
    rng, kept = random.Random(3), 0
    for _ in range(5_000):
        name = rng.choice(list(last))
        mill.used = Used(mill.used.large - kept, 0)
        kept = last[name]
        mill.leaves = {name: lambda _: Used(kept + (500 if name == "notes" else 0), 0)}  # noqa: B023
        mill.serve(name)
    assert mill.left().get("large", (0, 0)) == (0, 0)
    assert mill.left()["notes"][0] == pytest.approx(500, abs=60)


def test_two_requests_of_one_endpoint_in_a_row_leave_half_each(mill: Mill) -> None:
    mill.leaves = {"notes": lambda _: Used(2_048, 64)}
    for _ in range(4 * SURVEY * EVERY):
        mill.serve("notes")
    assert {one.left.large for one in mill.weigher._pairs["notes", "GET"]} == {2_048}


def test_stopping_forgets_what_was_weighed(mill: Mill) -> None:
    for _ in range(100):
        mill.serve("notes")
    mill.weigher.stop()
    assert (mill.weigher.due, mill.weigher.weighs) == (NEVER, False)


def test_where_the_c_library_does_not_tell_weighing_ends_at_once() -> None:
    mill = Mill()
    mill.used = None  # type: ignore[assignment]
    mill.weigher.start()
    mill.serve("notes")
    assert mill.weigher.due == NEVER


def test_endpoints_beyond_some_hundreds_are_passed_over(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retained_bytes, "_ENDPOINTS", 3)
    for turn in range(200):
        mill.serve(f"endpoint-{'abcdefghij'[turn // EVERY % 10]}")
    assert len(mill.weigher._pairs) == 3
