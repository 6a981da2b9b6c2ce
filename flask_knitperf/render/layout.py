"""Layout of terminal text: paragraphs, tables and sections within a width in columns."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from ..core.units import plain

_GAP = "  "
_MIN_COLUMN = 8


class Section(NamedTuple):
    """Lines of text under a heading; without lines it is left out, without a heading it has none."""

    heading: str
    lines: list[str]


def document(sections: Iterable[Section]) -> str:
    """Return sections as text with ordinary spaces, an empty line between them."""
    parts = [
        "\n".join([heading, "", *lines] if heading else lines)
        for heading, lines in sections
        if lines
    ]
    return plain("\n\n".join(parts)) + "\n"


def wrap(text: str, width: int, first: str = "", then: str = "  ") -> list[str]:
    """Return a paragraph as lines; ``first`` and ``then`` indent its first line and the others."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=then, break_on_hyphens=False
    )


def cut(text: str, width: int) -> str:
    """Return a text that is cut with an ellipsis where it is too long; a path keeps its end."""
    if len(text) <= width:
        return text
    if "/" in text and " " not in text:
        return f"…{text[1 - width :]}"
    return f"{text[: width - 1].rstrip()}…"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int,
    flexible: Collection[int] = (0,),
) -> list[str]:
    """Return the lines of a table; without rows there are none.

    Args:
        head: column heads.
        rows: cells.
        width: columns of the terminal.
        flexible: positions of text columns. They are left-aligned, as the first column always is, and
            cut if the table is too wide, the widest first. Others are right-aligned and never cut.
    """
    body = [list(row) for row in rows]
    if not body:
        return []
    cells = [list(head), *body]
    sizes = [max(len(row[i]) for row in cells) for i in range(len(head))]
    while sum(sizes) + len(_GAP) * (len(head) - 1) > width:
        widest = max(flexible, key=lambda i: sizes[i])
        if sizes[widest] <= _MIN_COLUMN:
            break
        sizes[widest] -= 1
    lines = []
    for row in cells:
        fitted = [
            cut(cell, size).ljust(size) if i in flexible or i == 0 else cell.rjust(size)
            for i, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ]
        lines.append(_GAP.join(fitted).rstrip())
    return lines
