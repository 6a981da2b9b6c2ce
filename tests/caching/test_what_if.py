"""Simulated caches: the hits and the saved time of really caching, exactly."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.caching.what_if import FORGET_AFTER_S, TTLS_S, Counts, Simulation

from .conftest import Cache

S = 1_000_000_000
Call = tuple[str, float, float, bool]
"""Key, seconds since the end of the call before, seconds that it takes, and whether it raises."""
GAPS = st.sampled_from([0.0, 0.5, 1.0, 4.5, 5.0, 15.0, 59.0, 60.0, 299.5, 300.0, 900.0, 3600.0])
TRACES = st.lists(
    st.tuples(
        st.sampled_from("abcd"), GAPS, st.sampled_from([0.0, 0.25, 1.0, 5.0, 16.0]),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=60,
)  # fmt: skip


def really_cached(ttl: float, trace: list[Call]) -> tuple[int, int, float]:
    """Return hits, misses and the seconds that the hits would have taken, with a real cache."""
    cache, saved = Cache(), 0.0
    now = cache.now

    def load(key: str) -> str:
        cache.now += took
        if fails:
            raise ValueError
        return key

    function = cache.cached(load, ttl=ttl)
    for key, gap, took, fails in trace:
        now += gap
        cache.now = now
        before = cache.counts(function)["hits"]
        try:
            function(key)
        except ValueError:
            assert fails
        saved += took * (cache.counts(function)["hits"] - before)
        now += took
    counts = cache.counts(function)
    return counts["hits"], counts["misses"], saved


def simulated(trace: list[Call]) -> Counts:
    simulation, now = Simulation(), 1000.0
    for key, gap, took, fails in trace:
        now += gap
        simulation.call(key, round(now * S), round((now + took) * S), stores=not fails)
        now += took
    return simulation.take()


@pytest.mark.slow
@given(TRACES)
def test_hits_and_saved_time_are_those_of_really_caching(trace: list[Call]) -> None:
    counts = simulated(trace)
    assert counts.judged.calls == len(trace)
    for ttl, row in zip(TTLS_S, counts.by_ttl, strict=True):
        hits, misses, saved = really_cached(ttl, trace)
        assert (row.hits.calls, row.hits.ns / S) == (hits, saved)
        assert counts.judged.calls - row.hits.calls == misses


def hits(simulation: Simulation) -> dict[float, int]:
    return {
        ttl: row.hits.calls for ttl, row in zip(TTLS_S, simulation.take().by_ttl, strict=True)
    }  # fmt: skip


def test_a_value_lives_from_the_end_of_its_load_and_the_end_of_its_life_is_a_miss() -> None:
    simulation = Simulation()
    simulation.call("k", 0, 2 * S)
    simulation.call("k", 7 * S - 1, 7 * S)
    assert hits(simulation)[5.0] == 1
    simulation.call("k", 7 * S, 8 * S)
    assert hits(simulation) == {5.0: 0, **dict.fromkeys(TTLS_S[1:], 1)}


def test_a_call_that_begins_before_the_load_of_its_key_ends_is_no_hit_and_no_load() -> None:
    simulation = Simulation()
    simulation.call("k", 0, 2 * S)
    simulation.call("k", 1 * S, 3 * S)  # it would have waited for the first one
    assert hits(simulation) == dict.fromkeys(TTLS_S, 0)
    simulation.call("k", 7 * S, 8 * S)  # the value is that of the first one
    assert hits(simulation)[5.0] == 0


def test_the_first_call_that_raises_takes_no_room() -> None:
    simulation = Simulation(max_keys=1)
    simulation.call("a", 0, 1, stores=False)
    assert len(simulation) == 0
    simulation.call("b", 2, 3)
    counts = simulation.take()
    assert (counts.judged.calls, counts.beyond.calls) == (2, 0)


def test_calls_beyond_the_limit_of_keys_are_counted_with_their_time() -> None:
    simulation = Simulation(max_keys=2)
    for number, key in enumerate("abcabc"):
        simulation.call(key, 10 * number, 10 * number + 3)
    counts = simulation.take()
    assert (counts.judged.calls, counts.beyond) == (4, (2, 6))
    assert counts.by_ttl[0].hits == (2, 6)


def test_keys_that_were_not_loaded_for_long_make_room_once_there_is_none() -> None:
    simulation, late = Simulation(max_keys=2), round((FORGET_AFTER_S + 1) * S)
    simulation.call("a", 0, 1)
    assert simulation.forget(late) == 0  # there is room
    simulation.call("b", late, late + 1)
    assert simulation.forget(late + 2) == 1
    assert list(simulation.entries) == ["b"]


def test_no_function_takes_the_room_of_all() -> None:
    room = iter([True, False])
    simulation = Simulation(claim_room=lambda: next(room))
    simulation.call("a", 0, 1)
    simulation.call("b", 0, 1)
    assert simulation.take().beyond.calls == 1


# -- stale answers -----------------------------------------------------------------------------------


def call(
    simulation: Simulation, key: str, at: int, digest: bytes, *, unhashed: float = 0.0
) -> None:
    """Call without taking time, and compare the result."""
    outcome = simulation.call(key, at, at)
    simulation.compare(key, at, outcome, digest, unhashed=unhashed)


def test_a_hit_is_stale_where_its_answer_is_not_that_of_the_load() -> None:
    simulation = Simulation()
    for at, digest in ((0, b"1"), (1, b"1"), (10, b"2"), (12, b"2"), (20, b"2")):
        call(simulation, "k", at * S, digest)
    counts = simulation.take()
    rows = {ttl: (row.compared, row.stale) for ttl, row in zip(TTLS_S, counts.by_ttl, strict=True)}
    assert rows[5.0] == (2, 0)  # at 1 and 12; 10 and 20 are loads
    assert rows[15.0] == (3, 2)  # at 1, 10, 12; 20 is a load
    assert rows[math.inf] == (4, 3)


def test_without_both_digests_nothing_is_compared() -> None:
    simulation = Simulation()
    simulation.call("k", 0, 0)
    call(simulation, "k", 1, b"1")
    call(simulation, "j", 0, b"1")
    simulation.call("j", 1, 1)
    assert all(row.compared == 0 for row in simulation.take().by_ttl)


def test_comparisons_of_one_load_count_less_the_fewer_loads_are_hashed() -> None:
    simulation = Simulation()
    for key in "ab":
        for at in range(4):
            call(simulation, key, at, b"1", unhashed=1.0)
    row = simulation.take().by_ttl[-1]
    assert (row.compared, row.weight) == (6, 18)  # 6 squared by 18 is 2: the two loads
    simulation.start_comparisons()
    call(simulation, "a", 9, b"1", unhashed=1.0), call(simulation, "a", 10, b"1", unhashed=0.5)
    assert simulation.take().by_ttl[-1].weight == 1 + 2
    call(simulation, "a", 11, b"1")
    assert simulation.take().by_ttl[-1].weight == 1


def test_a_load_whose_result_was_hashed_late_does_not_pass_for_a_later_one() -> None:
    simulation = Simulation()
    first = simulation.call("k", 0, 0)
    simulation.call("k", 6 * S, 6 * S)  # while the first result is hashed
    simulation.compare("k", 0, first, b"1")
    call(simulation, "k", 7 * S, b"2")
    rows = dict(zip(TTLS_S, simulation.take().by_ttl, strict=True))
    assert (rows[5.0].compared, rows[15.0].compared, rows[15.0].stale) == (0, 1, 1)


@pytest.mark.slow
def test_no_call_is_lost_or_counted_twice_by_threads() -> None:
    simulation, number = Simulation(max_keys=50), 20_000
    taken: list[Counts] = []

    def work(first: int) -> None:
        for at in range(first, first + number):
            simulation.call(at % 60, at, at + 1)

    threads = [threading.Thread(target=work, args=(n * number,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken.append(simulation.take())
    taken.append(simulation.take())
    assert sum(counts.judged.calls + counts.beyond.calls for counts in taken) == 4 * number
    total: Any = [sum(counts.by_ttl[0].hits.calls for counts in taken)]
    assert 0 < total[0] <= 4 * number
