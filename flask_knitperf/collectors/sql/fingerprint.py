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

from ...metrics.catalogue import MAX_FINGERPRINT_TEXT

LONGEST = MAX_FINGERPRINT_TEXT
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
_WRITES_IN_WITH = re.compile(r"[()]\s*(insert|update|delete|merge)\b")
_UNSTEADY = re.compile(
    r"\b(nextval|setval|currval|lastval|last_insert_id|random|rand|newid|uuid\w*|gen_random_uuid"
    r"|clock_timestamp|pg_sleep|sleep|pg_(try_)?advisory\w*|get_lock|release_lock) ?\("
)
"""What answers differently each time, or does something: asking it again is no repetition."""

_TOKENS = re.compile(
    r"""
    (?P<gone>   --[^\n]* | \#(?!(?:>>?|-)\s*['%$?])[^\n]* | /\*.*?(?:\*/|\Z) | \s+ )
  | (?P<value>
        \$(?P<tag>[^\W\d]\w*)?\$ .*? (?: \$(?(tag)(?P=tag))\$ | \Z )      # dollar quotes
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
_AMBIGUOUS = re.compile(
    r"\\['\"]|\b[nN]?[qQ]'|'''|\"\"\"|\[[^\]]{0,200}['\"`]|(?:--|\#)[^\n]{0,300}['\"`]"
    r"|/\*(?:(?!\*/).)*/\*",
    re.DOTALL,
)
"""What dialects read in different ways, so that a quote may begin or end elsewhere."""
_HIDES_MORE = re.compile(r"\$|--|\#|/\*")
_CASTS = re.compile(
    r"\?(?:\s*::\s*[A-Za-z_]\w*(?: (?:varying|precision|(?:with|without) time zone))?"
    r"(?:\s*\(\?(?:,\s*\?)*\))?(?:\[\])*)+",
    re.IGNORECASE,
)
_UNCLOSED = re.compile(r"\(\s*\?(?:\s*,\s*\?)*(?:\s*,)?[^(),]*\Z")
_TOLD = re.compile(
    r"(?:savepoint|release(?: savepoint)?|rollback(?: transaction)? to(?: savepoint)?)\b"
)
_SECRETS = (
    re.compile(r"(?:set|pragma)\b.*?(?==| to |\()", re.DOTALL),
    re.compile(r"(?:alter|create|grant|set)\b.*?(?=\bidentified\b|\bpassword\b)", re.DOTALL),
)
"""Beginnings of statements behind which values stand that need no quotes."""
_FIRST_WORD = re.compile(r"[\s(]*([a-z]+)")
_LAST_WORD = re.compile(r"(\w+)\Z")
_BOUND = re.compile(r"[<>]=? ?\(?\?|\?\)? ?[<>]")
_LIMIT = re.compile(r" limit \?|\btop ?\(?\?| fetch (?:first|next) ")
_ARRAY = re.compile(
    r"\b(?:any|all|unnest|json_each|jsonb?_array_elements\w*|string_to_array|openjson)"
    r" ?\((?:cast\()?\?"
)
_IN = re.compile(r"\bin ?\(")
_OFFSET = re.compile(r" offset \?| limit \?, ?\?| fetch (?:first|next) \? ")
_NAMES_FOLLOW = frozenset({
    "from", "join", "into", "update", "table",
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
        arrayed: it may do so by one value that holds many.
        ranged: it asks for what lies between two values.
    """

    id: str
    text: str
    kind: str
    offset: bool
    limited: bool
    listed: bool
    arrayed: bool
    ranged: bool


def shape(statement: str) -> Shape:
    """Return the shape of a statement; any text has one."""
    read = statement[:READ]
    if any(read.count(quote) % 2 for quote in "'\"`"):  # one is open, or stands within another
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
    text = _LISTS.sub("(?)", _CASTS.sub("?", text))
    if len(statement) > READ:
        text = _UNCLOSED.sub("(?) …", text)
    text = _without_bare_values(text)
    lowered = text.lower()
    bounds = len(_BOUND.findall(lowered))
    return Shape(
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=5).hexdigest(),
        text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …",
        _kind(lowered),
        offset=bool(_OFFSET.search(lowered)),
        limited=bool(_LIMIT.search(lowered)) and bounds > 0,
        listed=bool(_IN.search(lowered)),
        arrayed=bool(_ARRAY.search(lowered)),
        ranged=" between ? and ?" in lowered or bounds > 1,
    )


def _without_bare_values(text: str) -> str:
    """Return a text without what is a value though it is not quoted: names of savepoints, settings."""
    lowered = text.lower()
    if found := _TOLD.match(lowered):
        return f"{text[: found.end()]} ?"
    for begins in _SECRETS:
        if found := begins.match(lowered):
            return f"{text[: found.end()].rstrip()} ?"
    return text


def _kind(lowered: str) -> str:
    word = _FIRST_WORD.match(lowered)
    found = OTHERS if word is None else _KINDS.get(word[1], OTHERS)
    if found == READS and word and word[1] == "with" and _WRITES_IN_WITH.search(lowered):
        return WRITES
    return OTHERS if found == READS and _UNSTEADY.search(lowered) else found


def _is_name(text: str, start: int, end: int) -> bool:
    """Return whether what stands in double quotes can only be a name, in every dialect."""
    if text[end : end + 1] == "." or text[start - 1 : start] == ".":
        return True
    before = text[max(0, start - 400) : start].rstrip().lower()
    word = _LAST_WORD.search(before)
    if word is None or word[1] not in _NAMES_FOLLOW or before.endswith("distinct from"):
        return False
    opened = before.rpartition("(")[2]  # EXTRACT(YEAR FROM "…"), TRIM(… FROM "…")
    return not ("(" in before and ")" not in opened and "select" not in opened)


def _hidden(text: str, *, to_end: bool = False) -> str:
    """Return a text in which all that its quotes may hold, read this way or that, is one value."""
    places = [place for mark in ("'", '"', "`", "--", "#", "/*") if (place := text.find(mark)) >= 0]
    last = max(text.rfind(quote) for quote in "'\"`")
    rest = text[last + 1 :]
    if to_end or last < 0 or _HIDES_MORE.search(rest):
        rest = ""
    return f"{text[: min(places)]} ? {rest}"


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
    try:
        return str(composed(None) if composed is not None else statement)
    except Exception:  # a value of a kind that only its connection knows how to write
        return f"({type(statement).__name__})"


SHAPES = Shapes()
