"""Escaping of names: everything that an output cannot show, and nothing else."""

from __future__ import annotations

import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.core.printable import printable, printable_lines

JOINERS = "\u200c\u200d"
texts = st.text(st.characters(), max_size=30)


def test_what_an_output_cannot_show_is_escaped_as_in_a_string_literal() -> None:
    assert printable("a\x1b[31m\x07\x9b\u202e\ud834\udce9\n") == (
        r"a\x1b[31m\x07\x9b\u202e\ud834\udce9\n"
    )


def test_names_of_all_scripts_stay_as_they_are() -> None:
    for name in ("Größe", "糸", "می‌خواهم", "👩‍🔧", "no-break\xa0space", r"C:\yarn"):
        assert printable(name) == name


def test_every_control_surrogate_and_bidirectional_character_is_escaped() -> None:
    left = {
        character for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF",
                                                    "LRI", "RLI", "FSI", "PDI")
        if printable(character) == character
    }  # fmt: skip
    assert not left


def test_every_invisible_character_is_escaped_but_for_joiners_and_emoji_variants() -> None:
    others = "\u034f\u115f\u1160\u17b4\u3164\uffa0\ufff0\U000e0100\ufdd0\ufffe\uffff\U0010ffff"
    left = {
        character for character in map(chr, range(sys.maxunicode + 1))
        if (unicodedata.category(character) == "Cf" or character in others)
        and printable(character) == character
    }  # fmt: skip
    shown = ("SIGN", "ABBREVIATION MARK", "END OF AYAH", "POUND MARK", "PIASTRE MARK", "EGYPTIAN",
             "FOOTNOTE MARKER", "NUMBER MARK ABOVE")  # fmt: skip
    assert {
        character for character in left
        if not any(word in unicodedata.name(character) for word in shown)
    } == set(JOINERS)  # fmt: skip
    assert printable("❤\ufe0f") == "❤\ufe0f"


@given(texts)
def test_an_escaped_text_can_be_encoded_and_stays_the_same(text: str) -> None:
    once = printable(text)
    assert once.encode().decode() == once == printable(once)


def test_documents_are_escaped_with_their_keys_and_not_mutated() -> None:
    document = {"a\x07": ["\ud834", {"b": "\x1b"}], "n": 1.5, "none": None}
    assert printable(document) == {r"a\x07": [r"\ud834", {"b": r"\x1b"}], "n": 1.5, "none": None}
    assert printable(b"\x07") == b"\x07"
    assert document["a\x07"] == ["\ud834", {"b": "\x1b"}]


def test_lines_of_a_text_stay_lines() -> None:
    assert printable_lines("first\nsecond\r\x1b") == "first\nsecond\\r\\x1b"
