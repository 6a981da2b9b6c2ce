"""Sampled stacks: tries add up, are bounded, and survive encoding."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.metrics.stack_trie import (
    NORMAL,
    SLOW,
    UNSEEN,
    Sampled,
    StackFrame,
    Trie,
    decode,
    merge,
    merge_documents,
    pack,
    unpack,
)

places = st.sampled_from([StackFrame("a.py", n, f"f{n}", n % 2 == 0) for n in range(6)])
samples = st.lists(
    st.tuples(st.lists(places, max_size=5), st.integers(0, 10**6), st.integers(0, 10**6)),
    max_size=20,
)


def trie_of(samples: list[tuple[list[StackFrame], int, int]]) -> Trie:
    trie = Trie()
    for path, running, waiting in samples:
        trie.add(path, running * 1000, waiting * 1000)
    return trie


def content(trie: Trie) -> dict[Any, tuple[int, int, int]]:
    return {path: (node.running, node.waiting, node.count) for path, node in trie.stacks()}


@given(samples)
def test_a_trie_holds_every_sample_by_its_stack(samples: list[Any]) -> None:
    expected: dict[Any, list[int]] = {}
    for path, running, waiting in samples:
        row = expected.setdefault(tuple(path), [0, 0, 0])
        for place, more in enumerate((running * 1000, waiting * 1000, 1)):
            row[place] += more
    trie = trie_of(samples)
    assert content(trie) == {path: tuple(row) for path, row in expected.items()}
    assert trie.total == sum(running + waiting for _, running, waiting in samples) * 1000


@given(samples, samples)
def test_merging_is_adding_all_samples_to_one(a: list[Any], b: list[Any]) -> None:
    assert content(merge([trie_of(a), trie_of(b)])) == content(trie_of([*a, *b]))


@given(st.lists(samples.filter(bool), max_size=3))
def test_encoding_round_trips(groups: list[list[Any]]) -> None:
    documents = [
        pack({("e", "GET"): {NORMAL: trie_of(samples), SLOW: Trie()}}) for samples in groups
    ]
    everything = [sample for samples in groups for sample in samples if sample[0]]
    back = unpack([*documents])
    below = {path: row for path, row in content(trie_of(everything)).items() if path}
    read = content(back["e", "GET"][NORMAL]) if groups else {}
    assert {path: row for path, row in read.items() if path} == below
    assert unpack([merge_documents(documents)]).keys() == back.keys()


def test_a_full_trie_ends_a_stack_where_it_is_known_and_counts_that() -> None:
    trie = Trie()
    deep = [StackFrame("a.py", n, "f", True) for n in range(9)]
    trie.add(deep[:3], 5, 5, room=3)
    trie.add(deep, 7, 0, room=3)
    assert (trie.size, trie.cut) == (3, 1)
    assert content(trie) == {tuple(deep[:3]): (12, 5, 2)}


def _ONE(row: list[int]) -> list[Any]:  # noqa: N802
    return ["e", "GET", "slow", [[0, 0, 0, 0, 0, 0], row]]


@pytest.mark.parametrize(
    "broken",
    [{}, {"places": 1, "stacks": []}, {"places": [], "stacks": [_ONE([-1, 5, 1, 1, 1, 0])]},
     {"places": [["a", 1, "f", True, []]], "stacks": [_ONE([7, 0, 1, 1, 1, 0])]},
     {"places": [["a", 1]], "stacks": []}, {"places": [], "stacks": [["e"]]}],
)  # fmt: skip
def test_a_document_that_is_not_sound_is_left_out_whole(broken: Any) -> None:
    sound = pack({("e", "GET"): {NORMAL: trie_of([([StackFrame("a.py", 1, "f", True)], 1, 0)])}})
    damaged: list[str] = []
    assert unpack([broken, sound], damaged).keys() == {("e", "GET")}
    assert len(damaged) == 1
    assert unpack([broken]) == {}


def test_own_code_is_shown_by_its_line_and_a_library_by_its_function() -> None:
    assert StackFrame("mill/a.py", 7, "f", True).shown() == "mill/a.py:7"
    assert StackFrame("pandas/io.py", 0, "read", False).shown() == "read (pandas/io.py)"


# -- agreeing with the clocks --------------------------------------------------------------------------


COMPUTES, WAITS = (StackFrame("a.py", 1, "f", True),), (StackFrame("a.py", 2, "f", True),)
RELEASES = (StackFrame("b.py", 3, "g", True),)


def taken(*requests: tuple[Sampled, int]) -> Trie:
    trie = Trie()
    for request, wall in requests:
        trie.add_request(request, wall)
    return trie


def times(trie: Trie) -> dict[Any, tuple[int, int]]:
    return {path: (node.running, node.waiting) for path, node in trie.stacks()}


def test_without_a_clock_stacks_stay_as_they_were_sampled() -> None:
    trie = taken((Sampled({COMPUTES: [60, 0, 1, 0], WAITS: [0, 40, 1, 0]}), 100))
    assert content(trie.calibrated()) == content(trie)


def test_running_and_waiting_are_scaled_to_the_clocks() -> None:
    """Half of the samples ran, but the threads were on a core for 80 of 100."""
    request = Sampled({COMPUTES: [50, 0, 10, 0], WAITS: [0, 50, 10, 0]}, runnable_ns=80)
    agreed = taken((request, 100)).calibrated()
    assert times(agreed) == {COMPUTES: (80, 0), WAITS: (0, 20)}
    assert agreed.total == 100


def test_a_request_counts_by_its_samples_and_not_by_how_long_it_took() -> None:
    first = Sampled({COMPUTES: [50, 0, 10, 0]}, runnable_ns=1000)
    second = Sampled({WAITS: [0, 50, 10, 0]}, runnable_ns=0)
    assert times(taken((first, 1000), (second, 10)).calibrated()) == {
        COMPUTES: (50, 0),
        WAITS: (0, 50),
    }


def test_a_request_that_no_clock_measured_is_scaled_by_the_factors_of_the_others() -> None:
    measured = Sampled({COMPUTES: [20, 0, 10, 0], WAITS: [0, 20, 10, 0]}, runnable_ns=30)
    other = Sampled({COMPUTES: [30, 0, 1, 0], WAITS: [0, 30, 1, 0]})
    assert times(taken((measured, 40), (other, 60)).calibrated()) == {
        COMPUTES: (75, 0),
        WAITS: (0, 25),
    }


def test_measured_requests_of_another_kind_change_nothing_for_those_that_were_not() -> None:
    """The slow ones wait, all of them are measured; the others compute, and hardly any is."""
    slow = Sampled({WAITS: [0, 900, 180, 0], COMPUTES: [100, 0, 20, 0]}, runnable_ns=100)
    quick = Sampled({RELEASES: [2000, 0, 400, 0]})
    trie = taken((slow, 1000), (quick, 2000))
    assert content(trie.calibrated()) == content(trie)


@pytest.mark.parametrize(("ran", "waited"), [(9, 11), (11, 9)])
def test_few_samples_of_either_kind_are_not_scaled(ran: int, waited: int) -> None:
    stacks = {COMPUTES: [5 * ran, 0, ran, 0], WAITS: [0, 5 * waited, waited, 0]}
    trie = taken((Sampled(stacks, runnable_ns=80), 100))
    assert content(trie.calibrated()) == content(trie)


def test_what_was_missed_counts_for_what_held_the_lock() -> None:
    stacks = {COMPUTES: [40, 0, 1, 40], RELEASES: [40, 0, 1, 0], WAITS: [0, 10, 1, 0]}
    agreed = taken((Sampled(stacks, missed=10), 100)).calibrated()
    assert times(agreed) == {COMPUTES: (50, 0), RELEASES: (40, 0), WAITS: (0, 10)}


def test_what_was_hardly_ever_seen_does_not_get_all_that_was_missed() -> None:
    stacks = {COMPUTES: [6, 0, 1, 6], RELEASES: [12, 0, 1, 0]}
    assert times(taken((Sampled(stacks, missed=30), 60)).calibrated()) == {
        COMPUTES: (6 + 12 + 3, 0), RELEASES: (12 + 6, 0), (UNSEEN,): (9, 0),
    }  # fmt: skip


def test_if_nothing_was_seen_to_hold_the_lock_what_was_missed_counts_for_what_ran() -> None:
    stacks = {COMPUTES: [30, 0, 1, 0], RELEASES: [10, 0, 1, 0]}
    assert times(taken((Sampled(stacks, missed=20), 60)).calibrated()) == {
        COMPUTES: (45, 0), RELEASES: (15, 0),
    }  # fmt: skip


def test_if_nothing_was_seen_to_run_what_was_missed_is_shown_as_such() -> None:
    agreed = taken((Sampled({WAITS: [0, 30, 1, 0]}, missed=20), 60)).calibrated()
    assert times(agreed) == {WAITS: (0, 30), (UNSEEN,): (20, 0)}
    assert UNSEEN.shown() == "computing that no sample saw"


@pytest.mark.parametrize("wanted", [0, 50, 100])
@pytest.mark.parametrize("stacks", [{}, {COMPUTES: [50, 0, 30, 0]}, {WAITS: [0, 50, 30, 0]}])
def test_where_one_kind_was_not_sampled_nothing_is_scaled(
    stacks: dict[Any, list[int]], wanted: int
) -> None:
    trie = taken((Sampled(stacks, runnable_ns=wanted), 100))
    assert content(trie.calibrated()) == content(trie)


def test_stacks_of_one_request_take_no_longer_than_it_did() -> None:
    stacks = {COMPUTES: [30, 0, 10, 0], WAITS: [0, 30, 10, 0]}
    assert times(taken((Sampled(stacks), 40)).calibrated(40)) == {COMPUTES: (20, 0), WAITS: (0, 20)}
    assert times(taken((Sampled(stacks), 80)).calibrated(80)) == {COMPUTES: (30, 0), WAITS: (0, 30)}
    wanted = Sampled(stacks, runnable_ns=10)
    assert times(taken((wanted, 40)).calibrated(40)) == {COMPUTES: (10, 0), WAITS: (0, 30)}


def test_clock_times_survive_encoding_and_merging() -> None:
    stacks = {COMPUTES: [40_000, 0, 40, 9_000], WAITS: [0, 30_000, 30, 0]}
    trie = taken((Sampled(stacks, missed=5_000, runnable_ns=60_000), 75_000))
    document = pack({("e", "GET"): {NORMAL: trie}})
    twice = unpack([document, document])["e", "GET"][NORMAL]
    assert (twice.measured, twice.missed, twice.known) == (140, 10_000, 150_000)
    assert (twice.seen, twice.ran) == (90_000, 120_000)
    assert times(twice.calibrated()) == {COMPUTES: (120_000, 0), WAITS: (0, 30_000)}


@pytest.mark.parametrize(
    "sums",
    [[0, 0, 0], [0, 0, 0, 1, 2, 0], [0, 0, 0, 1, 0, 2], [0, 0, -1, 0, 0, 0], [0, 0, 0, 0, -1, 0],
     [0, 0, 0, float("nan"), 0, 0], [0, 0, None, 0, 0, 0]],
)  # fmt: skip
def test_sums_that_cannot_be_are_damage(sums: list[Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode([sums], [])


@given(samples, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 10**9))
def test_agreeing_neither_makes_nor_loses_time(
    samples: list[Any], missed: int, wanted: int, wall: int
) -> None:
    stacks = {tuple(path): [ran, waited, 5, ran // 2] for path, ran, waited in samples}
    trie = taken((Sampled(stacks, missed, min(wanted, wall)), wall))
    agreed = trie.calibrated()
    assert abs(agreed.total - (trie.total + missed)) <= 2 * len(stacks) + 2
    assert all(node.running >= 0 and node.waiting >= 0 for _, node in agreed.stacks())
