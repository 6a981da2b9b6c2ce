"""The language of the project: no banned word or form, and a checker that notices each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import prose


def violations(source: str, name: str = "module.py") -> list[str]:
    return [violation.text for violation in prose.of_file(name, source)]


@pytest.mark.slow
def test_the_tree_is_free_of_banned_words_and_forms() -> None:
    assert [f"{v.path}:{v.line}: {v.text!r} -> {v.better}" for v in prose.check()] == []


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("found = 1", "found"),
        ("def f(given): ...", "given"),
        ("class Asked: ...", "Asked"),
        ("self.held = 1", "held"),
        ("for each in rows: ...", "each"),
        ("def test_nobody_is_told(): ...", "test_nobody_is_told"),
        ('"""What a row holds."""', "What ..."),
        ('def f():\n    """Return what was read."""', "Return what"),
        ("x = 1  # somebody else's", "somebody"),
        ('raise ValueError("the table is no table")', "is no"),
        ('log("it is dear to read")', "dear"),
        ('text = f"{name} tells {count}"', "tells"),
    ],
)
def test_a_banned_form_in_python_is_listed(source: str, text: str) -> None:
    assert text in violations(source)


@pytest.mark.parametrize(
    ("name", "source", "text"),
    [
        ("page.md", "Nobody reads it.", "Nobody"),
        ("page.html", "<p>so many rows</p>", "so many"),
        ("module.c", "/* the begin of a span */", "the begin"),
        ("style.css", "/* put together */", "put together"),
    ],
)
def test_a_banned_form_in_other_files_is_listed(name: str, source: str, text: str) -> None:
    assert violations(source, name) == [text]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("module.py", '"""Number of rows; there is no header."""\nrows = found_rows(1)'),
        ("module.py", 'x = data["given"]  # a key of a payload'),
        ("page.md", "```python\nfound = nobody\n```\nUse `told` [here](asked.md)."),
        ("page.html", "<p>{{ told }}</p>"),
        ("module.c", "int found = 1;"),
    ],
)
def test_code_and_plain_prose_are_not_listed(name: str, source: str) -> None:
    assert violations(source, name) == []


def test_every_exception_names_an_existing_place() -> None:
    for place, _ in prose.EXCEPTIONS:
        assert (prose.ROOT / place).exists(), place


def test_the_checker_covers_every_kind_of_source(tmp_path: Path) -> None:
    suffixes = {Path(path).suffix for path in prose.tracked()}
    assert {".py", ".c", ".h", ".html", ".md", ".css"} <= suffixes
