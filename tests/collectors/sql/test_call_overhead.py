"""The overhead of calls: the smaller of its two estimates, by group."""

from __future__ import annotations

import pytest

from flask_knitperf.collectors.sql.call_overhead import (
    OVERHEAD_PER_SETUP,
    Call,
    GroupKey,
    add_overhead,
)
from flask_knitperf.collectors.sql.fastpath import DRIVER, ENGINE, LAZY, ORM
from flask_knitperf.collectors.sql.fingerprint import fingerprint
from flask_knitperf.collectors.sql.n_plus_one import StatementGroup, repeats
from flask_knitperf.collectors.sql.statements import Statement

KEY: GroupKey = (1, "f", "views.py:3")
OTHER: GroupKey = (1, "g", "views.py:4")


def group(count: int, setup: int, sender: int = LAZY, fetching: int = 0) -> StatementGroup:
    """Return calls of 10 ns, and of ``fetching`` for their rows."""
    statement = Statement("SELECT a FROM t WHERE id = ?", "views.py:3", 1)
    statement.durations = [10 + fetching] * count
    statement.results, statement.parameter_hashes = [1] * count, [*range(count)]
    statement.setup_ns, statement.sender = setup * count, sender
    of_request = StatementGroup(fingerprint("SELECT a FROM t WHERE id = ?"), "views.py:3")
    of_request.merge(statement)
    return of_request


def calls(count: int, step: int, key: GroupKey = KEY, start: int = 1_000) -> list[Call]:
    """Return calls of 10 ns each, and the steps between them."""
    began = [start + number * (10 + step) for number in range(count)]
    return [(key, moment, moment + 10) for moment in began]


def overhead(of_request: StatementGroup, of_calls: list[Call]) -> float:
    """Return the smaller estimate for one call."""
    add_overhead({KEY: of_request}, of_calls)
    return min(of_request.overhead_ns, of_request.between_ns) / of_request.count


@pytest.mark.parametrize("sender", [DRIVER, ENGINE, ORM, LAZY])
def test_a_loop_that_does_other_work_is_priced_by_the_set_up(sender: int) -> None:
    expected = pytest.approx(100 * OVERHEAD_PER_SETUP[sender])
    assert overhead(group(10, 100, sender), calls(10, 50_000)) == expected


def test_it_is_never_more_than_the_time_between_two_calls() -> None:
    assert overhead(group(10, 100), calls(10, 150)) == 150


def test_fetching_the_rows_is_in_their_time_already() -> None:
    assert overhead(group(10, 100, fetching=60), calls(10, 150)) == 90


def test_the_time_before_the_first_call_is_not_part_of_it() -> None:
    early: list[Call] = [(OTHER, 0, 10)]
    assert overhead(group(3, 100), early + calls(3, 200, start=10**9)) == 200


def test_of_two_loops_in_one_each_has_its_own() -> None:
    first, second = calls(5, 500), calls(5, 500, OTHER, start=1_110)
    both = sorted(first + second, key=lambda call: call[1])
    groups = {KEY: group(5, 100), OTHER: group(5, 20)}
    add_overhead(groups, both)
    assert (groups[KEY].between_ns, groups[OTHER].between_ns) == (5 * 390, 5 * 100)
    assert groups[KEY].overhead_ns == round(5 * 100 * OVERHEAD_PER_SETUP[LAZY])
    assert groups[OTHER].overhead_ns == round(5 * 20 * OVERHEAD_PER_SETUP[LAZY])


def test_calls_that_were_not_kept_are_priced_by_the_set_up() -> None:
    assert overhead(group(400, 100), []) == pytest.approx(100 * OVERHEAD_PER_SETUP[LAZY])


def test_calls_that_overlap_have_no_step_between_them() -> None:
    overlapping: list[Call] = [(KEY, 0, 100), (KEY, 5, 120), (KEY, 10, 130)]
    expected = pytest.approx(100 * OVERHEAD_PER_SETUP[LAZY])
    assert overhead(group(3, 100), overlapping) == expected


def test_a_sender_that_is_not_known_has_no_overhead() -> None:
    assert overhead(group(10, 0, 0), calls(10, 500)) == 0


def test_an_n_plus_one_saves_all_of_its_calls_but_one() -> None:
    of_request = group(10, 100)
    overhead(of_request, calls(10, 150))
    [repeat] = repeats([of_request])
    assert (repeat.total_ns, repeat.bound_ns) == (100, 9 * (10 + 150))
    assert repeat.avoidable_ns == 9 * (10 + round(100 * OVERHEAD_PER_SETUP[LAZY]))
