"""The shape of a statement: its text without literals, so that what differs in values only is one.

Two things must hold. Statements that an application would call the same have one shape: values are
``?``, whatever the driver's placeholders look like; lists of values are one ``?`` however long;
comments and line breaks are gone. And no literal is ever left in a shape, for shapes are stored and
shown. Where a text can be read in two ways (a backslash before a quote is an escape in MySQL and none
in SQLite; text in double quotes is a name in PostgreSQL and may be a value in the other two; ``#``
begins a comment or is an operator), the way that hides more is taken.

Reading a text takes some tens of microseconds, so a text that was seen before is looked up by its
hash: that is a fifth of a microsecond, and no text is held.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import Any, NamedTuple

LONGEST = 1000
"""Characters of a shape that are kept."""
READ = 20_000
"""Characters of a statement that are read; what is behind them does not tell shapes apart."""
REMEMBERED = 4000
"""Texts whose shape is known without reading them again."""
READS, WRITES, OTHERS = "read", "write", "other"
_KINDS = {
    **dict.fromkeys(("select", "with", "values", "show", "table"), READS),
    **dict.fromkeys(("insert", "update", "delete", "replace", "merge", "copy"), WRITES),
}
_WRITES_IN_WITH = re.compile(r"\)\s*(insert|update|delete|merge)\b")

_TOKENS = re.compile(
    r"""
    (?P<gone>   --[^\n]* | (?<![\w$])\#(?![>\-=\#])[^\n]* | /\*.*?(?:\*/|\Z) | \s+ )
  | (?P<value>
        \$(?P<tag>[A-Za-z_]\w*)?\$ .*? (?: \$(?(tag)(?P=tag))\$ | \Z )      # dollar quotes
      | (?:\b[eE])'(?: [^'\\] | '' | \\. )* (?: ' | \Z )                     # with escapes
      | (?:\b(?:[nNxXbB]|[uU]&))?'(?: [^'] | '' )* (?: ' | \Z )
      | %\(\w*\)s | %[sbt](?!\w) | \$\d+ | \?\d* | (?<![:\w]):(?!:)\w+       # placeholders
      | (?<![\w$.`"\]])(?: \d[\d_.]*(?:[eE][+-]?\d+)?\w* | \.\d[\d_]*(?:[eE][+-]?\d+)?\w* )
    )
  | (?P<quoted> "(?: [^"] | "" )* (?: " | \Z ) )
  | (?P<name>   `(?: [^`] | `` )* (?: ` | \Z ) | \[[A-Za-z_][\w $]*\] )
  | (?P<rest>   [\w$]+ | :: | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_LISTS = re.compile(r"\(\s*\?(?:\s*,\s*\?)*\s*\)(?:\s*,\s*\(\s*\?(?:\s*,\s*\?)*\s*\))*")
_SIGNED = re.compile(r"(?<=[=<>(,+*/-])(\s*)[+-]\s?(?=\?)")
_SPACES = re.compile(r"\s+")
_BEFORE_BRACKET = re.compile(r"\(\s+|\s+(?=[),])")
_AMBIGUOUS = re.compile(r"\\['\"]|\b[nN]?[qQ]'")
_FIRST_WORD = re.compile(r"[\s(]*([a-z]+)")
_LAST_WORD = re.compile(r"(\w+)\Z")
_BOUND = re.compile(r"[<>]=? ?\?")
_OFFSET = re.compile(r" offset \?| limit \?, ?\?| fetch (?:first|next) \? ")
_NAMES_FOLLOW = frozenset({
    "from", "join", "into", "update", "table", "as", "exists", "only", "by", "index", "view",
    "references", "column", "constraint", "savepoint",
})  # fmt: skip


class Shape(NamedTuple):
    """A statement without its values.

    Attributes:
        id: ten hexadecimal digits, the same in every process.
        text: to be read by people, ``?`` for each value; long ones are cut.
        kind: ``read``, ``write`` or ``other``.
        offset: it may take its rows in pages, by ``OFFSET``.
        limited: it may do so by a range with a ``LIMIT``.
        listed: it asks for a list of values.
        ranged: it asks for what lies between two values.
    """

    id: str
    text: str
    kind: str
    offset: bool
    limited: bool
    listed: bool
    ranged: bool


def shape(statement: str) -> Shape:
    """Return the shape of a statement; any text has one."""
    read = statement[:READ]
    if read.count("'") % 2 or read.count('"') % 2:  # one is open, or stands within the other
        read = _hidden(read, to_end=True)
    elif _AMBIGUOUS.search(read):
        read = _hidden(read)
    made: list[str] = []
    for match in _TOKENS.finditer(read):
        kind, text = match.lastgroup, match.group()
        if match["gone"] is not None:
            made.append(" ")
        elif match["value"] is not None:
            made.append("?")
        elif kind == "quoted":
            made.append(text if _is_name(read, match.start(), match.end()) else "?")
        else:
            made.append(text)
    text = _SPACES.sub(" ", "".join(made)).strip().rstrip("; ")
    text = _SIGNED.sub(r"\1", _BEFORE_BRACKET.sub(lambda m: "(" if m[0][0] == "(" else "", text))
    text, listed = _without_lists(text)
    lowered = text.lower()
    bounds = len(_BOUND.findall(lowered))
    return Shape(
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=5).hexdigest(),
        text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …",
        _kind(lowered),
        offset=bool(_OFFSET.search(lowered)),
        limited=" limit ?" in lowered and bounds > 0,
        listed=listed,
        ranged=" between ? and ?" in lowered or bounds > 1,
    )


def _without_lists(text: str) -> tuple[str, bool]:
    """Return a text in which every list of values is ``(?)``, and whether one follows IN or ANY."""
    listed = " any(?)" in text.lower()

    def short(match: re.Match[str]) -> str:
        nonlocal listed
        if not listed and "," in match.group():
            listed = (
                text[max(0, match.start() - 4) : match.start()].lower().rstrip().endswith(" in")
            )
        return "(?)"

    return _LISTS.sub(short, text), listed


def _kind(lowered: str) -> str:
    word = _FIRST_WORD.match(lowered)
    found = OTHERS if word is None else _KINDS.get(word[1], OTHERS)
    if found == READS and word and word[1] == "with" and _WRITES_IN_WITH.search(lowered):
        return WRITES
    return found


def _is_name(text: str, start: int, end: int) -> bool:
    """Return whether what stands in double quotes can only be a name, in every dialect."""
    if text[end : end + 1] == "." or text[start - 1 : start] == ".":
        return True
    word = _LAST_WORD.search(text[max(0, start - 40) : start].rstrip())
    return word is not None and word[1].lower() in _NAMES_FOLLOW


def _hidden(text: str, *, to_end: bool = False) -> str:
    """Return a text in which all that its quotes may hold, read this way or that, is one value."""
    first = min(place for quote in "'\"" if (place := text.find(quote)) >= 0)
    last = max(text.rfind(quote) for quote in "'\"")
    return f"{text[:first]} ? {'' if to_end or last == first else text[last + 1 :]}"


class Shapes:
    """Shapes of statements that were seen lately, by the hash of their text."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._known: OrderedDict[tuple[int, int], Shape] = OrderedDict()
        self._shapes: dict[str, Shape] = {}
        self._limit = limit

    def of(self, statement: Any) -> Shape:
        """Return the shape of a statement as a driver takes it: text, bytes, or an object of its own."""
        text = statement if isinstance(statement, str) else as_text(statement)
        key = hash(text), len(text)
        found = self._known.get(key)
        if found is None:
            made = shape(text)
            if len(self._shapes) >= self._limit:
                self._shapes.clear()
            found = self._shapes.setdefault(made.id, made)  # one object for all that are alike
            while len(self._known) >= self._limit:
                try:
                    self._known.popitem(last=False)
                except KeyError:  # another thread was quicker
                    break
            self._known[key] = found
        return found


def as_text(statement: Any) -> str:
    """Return a statement as text: bytes are decoded, and psycopg's composed ones say what they are."""
    if isinstance(statement, bytes | bytearray | memoryview):
        return bytes(statement).decode("utf-8", "replace")
    composed = getattr(statement, "as_string", None)
    return str(composed(None) if composed is not None else statement)


SHAPES = Shapes()
