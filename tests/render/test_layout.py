"""Terminal layout: nothing is wider than the terminal, and what is cut ends in an ellipsis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.core.units import NBSP
from flask_knitperf.render.layout import Section, cut, document, table, wrap

WORDS = st.text("abc /.", max_size=60).map(str.strip)


@given(
    rows=st.lists(st.tuples(WORDS, st.sampled_from(["1", "1,240", "5.6 s"]), WORDS), max_size=5),
    width=st.integers(40, 120),
)
def test_no_line_of_a_table_is_wider_than_the_terminal(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    lines = table(("endpoint", "n", "line"), rows, width, flexible=(0, 2))
    assert all(len(line) <= width for line in lines)
    assert len(lines) == (len(rows) + 1 if rows else 0)


def test_only_flexible_columns_are_cut() -> None:
    lines = table(("a", "when", "b"), [("x" * 60, "24 Nov 03:12:05 UTC", "y" * 60)], 80, (0, 2))
    assert "24 Nov 03:12:05 UTC" in lines[1] and lines[1].count("…") == 2


def test_a_column_keeps_eight_characters_however_narrow_the_terminal() -> None:
    lines = table(("endpoint", "n"), [("x" * 30, "1,240")], 10)
    assert lines[1] == f"{'x' * 7}…  1,240"


def test_text_is_aligned_left_and_figures_right() -> None:
    assert table(("name", "n"), [("a", "1"), ("bcdef", "1,240")], 80) == [
        "name       n", "a          1", "bcdef  1,240",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("short", 5, "short"), ("a long text", 7, "a long…"), ("a long text", 8, "a long…"),
     ("data/in/prices.xlsx", 12, "…prices.xlsx"), ("SELECT a/b", 8, "SELECT…")],
)  # fmt: skip
def test_a_text_that_is_too_long_is_cut_with_an_ellipsis(
    text: str, width: int, expected: str
) -> None:
    assert cut(text, width) == expected


@given(text=st.text("abc/ ", max_size=80), width=st.integers(8, 60))
def test_a_cut_text_fits(text: str, width: int) -> None:
    assert len(cut(text, width)) <= width


def test_a_line_never_breaks_between_number_and_unit() -> None:
    lines = wrap(f"waited for 5.6{NBSP}s", 14)
    assert lines == ["waited for", f"  5.6{NBSP}s"]


def test_a_document_has_ordinary_spaces_and_no_empty_section() -> None:
    sections = (Section("", [f"5.6{NBSP}s"]), Section("NOTHING", []), Section("LINES", ["a", "b"]))
    assert document(sections) == "5.6 s\n\nLINES\n\na\nb\n"
