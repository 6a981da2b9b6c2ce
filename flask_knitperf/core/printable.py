"""Escaping of names that come from the application, where they leave in pages, JSON and a terminal.

A function, file, section, SQL identifier, exception or release may have a name that an output cannot
show as it is: half a surrogate pair (which is also what a byte of a file name outside of UTF-8 turns
to) cannot be encoded, a control character is a command to a terminal, and a bidirectional control
reorders the text around it. Measurements keep such names as they are; documents show them escaped, in
the notation of Python's string literals.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar, cast

_T = TypeVar("_T")
_NUMBERS = frozenset((float, int, bool, type(None)))  # most items of a document: no call for them
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(  # a browser replaces or refuses them
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
_UNPRINTABLE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # controls
    "\xad\u034f\u180e\u200b\u2060-\u2064\ufeff\ufff0-\ufffb"  # invisible
    "\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters that show nothing
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # formats of shorthand and music
    "\U000e0000-\U000e0fff"  # tags
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # bidirectional controls
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff"  # halves of surrogate pairs
    f"{_NONCHARACTERS}]"
)


def printable(value: _T) -> _T:
    """Return a JSON value with all texts in it escaped, keys included; it is not mutated.

    Escaped texts stay the same when they are escaped again.
    """
    return cast("_T", _printable(value))


def printable_lines(text: str) -> str:
    """Return a text escaped except for its line breaks."""
    return "\n".join(map(_text, text.split("\n")))


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value if str.isascii(value) and str.isprintable(value) else _text(value)
    if isinstance(value, dict):
        return {
            _printable(key): item if type(item) in _NUMBERS else _printable(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [item if type(item) in _NUMBERS else _printable(item) for item in value]
    return value


def _text(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
