"""Sampled stacks: tries add up, are bounded, and survive being written down."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.core.stacks import NORMAL, SLOW, Place, Trie, merge, pack, together, unpack

places = st.sampled_from([Place("a.py", n, f"f{n}", n % 2 == 0) for n in range(6)])
samples = st.lists(
    st.tuples(st.lists(places, max_size=5), st.integers(0, 10**6), st.integers(0, 10**6)),
    max_size=20,
)


def made(found: list[tuple[list[Place], int, int]]) -> Trie:
    trie = Trie()
    for path, running, waiting in found:
        trie.add(path, running * 1000, waiting * 1000)
    return trie


def content(trie: Trie) -> dict[Any, tuple[int, int, int]]:
    return {path: (node.running, node.waiting, node.count) for path, node in trie.stacks()}


@given(samples)
def test_a_trie_holds_every_sample_by_its_stack(found: list[Any]) -> None:
    expected: dict[Any, list[int]] = {}
    for path, running, waiting in found:
        row = expected.setdefault(tuple(path), [0, 0, 0])
        for place, more in enumerate((running * 1000, waiting * 1000, 1)):
            row[place] += more
    trie = made(found)
    assert content(trie) == {path: tuple(row) for path, row in expected.items()}
    assert trie.total == sum(running + waiting for _, running, waiting in found) * 1000


@given(samples, samples)
def test_merging_is_adding_all_samples_to_one(a: list[Any], b: list[Any]) -> None:
    assert content(merge([made(a), made(b)])) == content(made([*a, *b]))


@given(st.lists(samples.filter(bool), max_size=3))
def test_what_is_written_down_is_read_back(each: list[list[Any]]) -> None:
    documents = [pack({("e", "GET"): {NORMAL: made(found), SLOW: Trie()}}) for found in each]
    everything = [sample for found in each for sample in found if sample[0]]
    back = unpack([*documents])
    below = {path: row for path, row in content(made(everything)).items() if path}
    read = content(back["e", "GET"][NORMAL]) if each else {}
    assert {path: row for path, row in read.items() if path} == below
    assert unpack([together(documents)]).keys() == back.keys()


def test_a_full_trie_ends_a_stack_where_it_is_known_and_counts_that() -> None:
    trie = Trie()
    deep = [Place("a.py", n, "f", True) for n in range(9)]
    trie.add(deep[:3], 5, 5, room=3)
    trie.add(deep, 7, 0, room=3)
    assert (trie.size, trie.cut) == (3, 1)
    assert content(trie) == {tuple(deep[:3]): (12, 5, 2)}


def _ONE(row: list[int]) -> list[Any]:  # noqa: N802
    return ["e", "GET", "slow", [0, row]]


@pytest.mark.parametrize(
    "broken",
    [{}, {"places": 1, "stacks": []}, {"places": [], "stacks": [_ONE([-1, 5, 1, 1, 1])]},
     {"places": [["a", 1, "f", True]], "stacks": [_ONE([7, 0, 1, 1, 1])]},
     {"places": [["a", 1]], "stacks": []}, {"places": [], "stacks": [["e"]]}],
)  # fmt: skip
def test_a_document_that_is_not_sound_is_left_out_whole(broken: Any) -> None:
    sound = pack({("e", "GET"): {NORMAL: made([([Place("a.py", 1, "f", True)], 1, 0)])}})
    damaged: list[str] = []
    assert unpack([broken, sound], damaged).keys() == {("e", "GET")}
    assert len(damaged) == 1
    assert unpack([broken]) == {}


def test_own_code_is_shown_by_its_line_and_a_library_by_its_function() -> None:
    assert Place("mill/a.py", 7, "f", True).shown() == "mill/a.py:7"
    assert Place("pandas/io.py", 0, "read", False).shown() == "read (pandas/io.py)"
