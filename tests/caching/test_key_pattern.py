"""Patterns of cache keys: structure, types, and words of the source; nothing that users sent."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given

from flask_knitperf.caching.key_pattern import MAX_PATTERN, Words, pattern_of, words_in_source

KNOWN = (frozenset({"yarn", "lbs"}), frozenset({"intelligence", "INTELLIGENCE", "x"}))


class Lot(NamedTuple):
    code: str
    number: int


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("yarn:17", "yarn:#"),
        ("yarn:17:lbs", "yarn:#:lbs"),
        ("intelligence/3", "intelligence/#"),
        ("INTELLIGENCE/3", "INTELLIGENCE/#"),
        ("yarn:anna@mill.example", "yarn:*@*.*"),
        ("9f86d081884c7d65", "*"),
        ("x9", "*"),  # a single letter is a part of a digest as often as a word
        ("user:हिन्दी", "*:*"),
        ("user:🙂$%&", "*:*"),
        ("yarn:9f86d081884c7d65", "yarn:*"),
        ("", ""),
        (("yarn", 3), "('yarn', #)"),
        (("yarn", "3"), "('yarn', '#')"),
        (("yarn", ("anna", 2.5), None, True), "('yarn', ('*', #.#), None, True)"),
        (Lot("A", 3), "('*', #)"),
        ((((1,),),), "((<tuple>))"),
        (17, "#"),
        (True, "True"),
        (2.5, "#.#"),
        (None, "None"),
        (b"secret", "<bytes>"),
        (dt.date(2026, 1, 2), "<date>"),
        (tuple(range(12)), "(#, #, #, #, #, #, #, #, …)"),
    ],
)  # fmt: skip
def test_a_pattern_keeps_structure_types_and_known_words(key: Any, pattern: str) -> None:
    assert pattern_of(key, KNOWN) == pattern


@given(st.text(max_size=400))
def test_no_unknown_word_is_in_a_pattern(text: str) -> None:
    pattern = pattern_of(text, ())
    assert not any(character.isalpha() or character.isdigit() for character in pattern)
    assert len(pattern) <= MAX_PATTERN


def test_a_key_of_the_host_is_sought_nothing() -> None:
    class Key(tuple[int, ...]):
        __slots__ = ()

        def __iter__(self) -> Any:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

        def __str__(self) -> str:
            raise AssertionError

        __repr__ = __getitem__ = __str__  # type: ignore[assignment]

    assert pattern_of(Key((1, 2)), KNOWN) == "(#, #)"


def test_words_are_those_of_the_texts_of_running_functions() -> None:
    scope = "secret"

    def key() -> Words:
        assert f"yarn:{scope}:lbs" == "yarn:secret:lbs"
        return words_in_source()

    assert pattern_of(f"yarn:lbs:secret:{TENANT}", key()) == "yarn:lbs:secret:*"


def test_words_of_callers_count_too() -> None:
    def inner() -> Words:
        return words_in_source()

    def outer() -> tuple[str, Words]:
        return "needles", inner()

    assert pattern_of("needles", outer()[1]) == "needles"


TENANT = "kyzclawoK"[::-1]


def test_values_of_a_module_are_not_words_of_its_source() -> None:
    assert pattern_of(TENANT, words_in_source()) == "*"
