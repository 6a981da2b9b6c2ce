"""Comments of SQL statements, which do not change what a statement does.

Tools add there what differs from one execution to the next, such as ``traceparent``. Dialects disagree
on what is a comment, and the dialect is not known here, so a comment is removed where every dialect that
accepts the statement reads it as one. Hints and what MySQL executes (``/*+``, ``--+``, ``/*!``,
``/*M!``) are kept.
"""

from __future__ import annotations

import re

_LEADING = re.compile(
    r"\s+ | (?:--(?!\+)|\#)[^\n]*(?:\n|\Z) | /\*(?![+!]|M!)(?:(?!/\*).)*?(?:\*/|\Z)",
    re.VERBOSE | re.DOTALL,
)
"""A comment or spaces before a statement: there is nothing yet that could be an operand."""
_UNCLEAR = re.compile(
    r"\\['\"`]|\b[nN]?[qQ]'|'''|\"\"\"|\[[^\]]{0,200}['\"`]|\$\w*\$"  # strings
    r"|\#|--(?![\s+]|\Z)[^\n]{0,300}['\"`]|/\*(?:(?!\*/).)*/\*",  # comments in some dialects
    re.DOTALL,
)
"""Texts in which dialects see strings or comments at different places."""
_PIECES = re.compile(
    r"""
    '[^']*' | "[^"]*" | `[^`]*` | \[[^\]]*\]                          # strings and names
  | /\*(?:[+!]|M!).*?\*/ | --\+[^\n]*                                   # hints
  | (?P<comment> /\*.*?(?:\*/|\Z) | --(?=\s|\Z)[^\n]* )
  | (?P<open> ['"`] )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_MARKS = re.compile(r"/\*|\*/")
_NOT_COMMENTS = ("!", "+", "M!")
"""Characters after ``/*`` of what MySQL and MariaDB execute, and of a hint."""
_AROUND = "; \t\r\n"
_MAX_TRAILING = 10
"""Number of blocks removed at the end of a statement."""
_MAX_SEARCHED_CHARS = 20_000
"""Of longer statements only leading comments and trailing blocks are removed."""


def without_comments(text: str) -> str:
    """Return a statement without its comments, and without spaces and semicolons around it."""
    if "/*" not in text and "--" not in text and "#" not in text:
        return text.lstrip().rstrip(_AROUND)
    position = 0
    while match := _LEADING.match(text, position):
        position = match.end()
    text = _without_trailing(text[position:].rstrip(_AROUND))
    marked = "/*" in text or "--" in text
    return _without_inner(text) if marked and len(text) <= _MAX_SEARCHED_CHARS else text


def _without_trailing(text: str) -> str:
    """Return a statement without the blocks at its end."""
    for _ in range(_MAX_TRAILING):
        if not text.endswith("*/"):
            break
        start = _start_of_block(text)
        in_string = any(text.count(quote, 0, start) % 2 for quote in "'\"`")
        if start < 0 or in_string or text.startswith(_NOT_COMMENTS, start + 2):
            break
        text = text[:start].rstrip(_AROUND)
    return text


def _start_of_block(text: str) -> int:
    """Return the start of the block that ends a text, -1 if its end is not that of a block."""
    start = text.rfind("/*")
    if start < 0 or text.find("*/", start + 2) == len(text) - 2:
        return start
    depth = 0
    for match in reversed(list(_BLOCK_MARKS.finditer(text))):
        depth += 1 if match[0] == "*/" else -1
        if depth == 0:
            return match.start()  # blocks in blocks
    return -1


def _without_inner(text: str) -> str:
    """Return a statement without any of its comments, or as it is if dialects read it differently."""
    if _UNCLEAR.search(text):
        return text
    pieces: list[str] = []
    position = 0
    for match in _PIECES.finditer(text):
        if match["open"] is not None:
            return text
        if match["comment"] is not None:
            pieces += text[position : match.start()], " "
            position = match.end()
    return "".join((*pieces, text[position:])).rstrip(_AROUND)
