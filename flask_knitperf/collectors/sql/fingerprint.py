"""Fingerprint of an SQL statement: its text without literals.

Two properties hold. Statements that differ in values only have one fingerprint: a value is ``?``,
whatever the driver's placeholders look like; a list of values is one ``?`` of any length; comments and
line breaks are removed. And no literal remains in a fingerprint, since fingerprints are stored and
shown. Where dialects read a text differently (a backslash before a quote is an escape in MySQL but not
in SQLite; text in double quotes is a name in PostgreSQL and may be a value in the other two; ``#``
starts a comment or is an operator), the reading that hides more is taken.

Computing a fingerprint takes tens of microseconds, so it is cached by the hash of the text: a look-up
takes a fifth of a microsecond, and no text is stored.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import Any, NamedTuple

from ...core.host_exceptions import raise_if_of_host
from ...metrics.catalogue import MAX_FINGERPRINT_TEXT
from .comments import without_comments

MAX_READ_CHARS = 20_000
"""Number of characters read of a statement; the rest does not change its fingerprint."""
MAX_CACHED = 4000
"""Number of texts whose fingerprints are cached."""
READS, WRITES, OTHERS = "read", "write", "other"
_KINDS = {
    **dict.fromkeys(("select", "with", "values", "show", "table"), READS),
    **dict.fromkeys(("insert", "update", "delete", "replace", "merge", "copy"), WRITES),
}
_WRITES_IN_WITH = re.compile(r"[()]\s*(insert|update|delete|merge)\b")
_VOLATILE = re.compile(
    r"\b(nextval|setval|currval|lastval|last_insert_id|random|rand|newid|uuid\w*|gen_random_uuid"
    r"|clock_timestamp|pg_sleep|sleep|pg_(try_)?advisory\w*|get_lock|release_lock) ?\("
)
"""Functions with a different result at each call, or with a side effect: a repeat is not a duplicate."""

_TOKENS = re.compile(
    r"""
    (?P<ignored> --[^\n]* | \#(?!(?:>>?|-)\s*['%$?])[^\n]* | /\*.*?(?:\*/|\Z) | \s+ )
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
"""Texts that dialects read differently, so that a quote may open or close elsewhere."""
_HIDES_MORE = re.compile(r"\$|--|\#|/\*")
_CASTS = re.compile(
    r"\?(?:\s*::\s*[A-Za-z_]\w*(?: (?:varying|precision|(?:with|without) time zone))?"
    r"(?:\s*\(\?(?:,\s*\?)*\))?(?:\[\])*)+",
    re.IGNORECASE,
)
_UNCLOSED = re.compile(r"\(\s*\?(?:\s*,\s*\?)*(?:\s*,)?[^(),]*\Z")
_SAVEPOINT = re.compile(
    r"(?:savepoint|release(?: savepoint)?|rollback(?: transaction)? to(?: savepoint)?)\b"
)
_SECRETS = (
    re.compile(r"(?:set|pragma)\b.*?(?==| to |\()", re.DOTALL),
    re.compile(r"(?:alter|create|grant|set)\b.*?(?=\bidentified\b|\bpassword\b)", re.DOTALL),
)
"""Starts of statements that are followed by values without quotes."""
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


class Fingerprint(NamedTuple):
    """A statement without its values.

    Attributes:
        id: ten hexadecimal digits, the same in every process.
        text: ``?`` for each value; long texts are cut.
        kind: :data:`READS`, :data:`WRITES` or :data:`OTHERS`.
        has_offset: whether it may fetch its rows in pages, by ``OFFSET``.
        has_limit: whether it may fetch them in pages, by a range with a ``LIMIT``.
        has_list: whether it compares with a list of values.
        has_array: whether it may compare with one value that contains many.
        has_range: whether it compares with a lower and an upper bound.
    """

    id: str
    text: str
    kind: str
    has_offset: bool
    has_limit: bool
    has_list: bool
    has_array: bool
    has_range: bool


def fingerprint(statement: str) -> Fingerprint:
    """Return the fingerprint of a statement; any text has one."""
    read = statement[:MAX_READ_CHARS]
    if any(read.count(quote) % 2 for quote in "'\"`"):  # one is open, or within another
        read = _hidden(read, to_end=True)
    elif _AMBIGUOUS.search(read):
        read = _hidden(read)
    tokens: list[str] = []
    for match in _TOKENS.finditer(read):
        kind, text = match.lastgroup, match.group()
        if match["ignored"] is not None:
            tokens.append(" ")
        elif match["value"] is not None:
            tokens.append("?")
        elif kind == "quoted":
            tokens.append(text if _is_name(read, match.start(), match.end()) else "?")
        else:
            tokens.append(text)
    text = _SPACES.sub(" ", "".join(tokens)).strip().rstrip("; ")
    text = _SIGNED.sub(r"\1", _BEFORE_BRACKET.sub(lambda m: "(" if m[0][0] == "(" else "", text))
    text = _LISTS.sub("(?)", _CASTS.sub("?", text))
    if len(statement) > MAX_READ_CHARS:
        text = _UNCLOSED.sub("(?) …", text)
    text = _without_bare_values(text)
    lowered = text.lower()
    bounds = len(_BOUND.findall(lowered))
    return Fingerprint(
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=5).hexdigest(),
        text if len(text) <= MAX_FINGERPRINT_TEXT else f"{text[: MAX_FINGERPRINT_TEXT - 2]} …",
        _kind(lowered),
        has_offset=bool(_OFFSET.search(lowered)),
        has_limit=bool(_LIMIT.search(lowered)) and bounds > 0,
        has_list=bool(_IN.search(lowered)),
        has_array=bool(_ARRAY.search(lowered)),
        has_range=" between ? and ?" in lowered or bounds > 1,
    )


def _without_bare_values(text: str) -> str:
    """Return a text without values that need no quotes: names of savepoints, settings, passwords."""
    lowered = text.lower()
    if match := _SAVEPOINT.match(lowered):
        return f"{text[: match.end()]} ?"
    for start in _SECRETS:
        if match := start.match(lowered):
            return f"{text[: match.end()].rstrip()} ?"
    return text


def _kind(lowered: str) -> str:
    word = _FIRST_WORD.match(lowered)
    kind = OTHERS if word is None else _KINDS.get(word[1], OTHERS)
    if kind == READS and word and word[1] == "with" and _WRITES_IN_WITH.search(lowered):
        return WRITES
    return OTHERS if kind == READS and _VOLATILE.search(lowered) else kind


def _is_name(text: str, start: int, end: int) -> bool:
    """Return whether text in double quotes is a name in every dialect."""
    if text[end : end + 1] == "." or text[start - 1 : start] == ".":
        return True
    before = text[max(0, start - 400) : start].rstrip().lower()
    word = _LAST_WORD.search(before)
    if word is None or word[1] not in _NAMES_FOLLOW or before.endswith("distinct from"):
        return False
    opened = before.rpartition("(")[2]  # EXTRACT(YEAR FROM "…"), TRIM(… FROM "…")
    return not ("(" in before and ")" not in opened and "select" not in opened)


def _hidden(text: str, *, to_end: bool = False) -> str:
    """Return a text with one value in place of everything that may be inside quotes.

    Args:
        text: of the statement.
        to_end: whether a quote may be open at its end.
    """
    positions = [
        position for mark in ("'", '"', "`", "--", "#", "/*") if (position := text.find(mark)) >= 0
    ]
    last = max(text.rfind(quote) for quote in "'\"`")
    rest = text[last + 1 :]
    if to_end or last < 0 or _HIDES_MORE.search(rest):
        rest = ""
    return f"{text[: min(positions)]} ? {rest}"


class FingerprintCache:
    """Fingerprints of recent statements, by the hash of their text.

    Args:
        limit: number of texts.
    """

    def __init__(self, limit: int = MAX_CACHED) -> None:
        self._by_text: OrderedDict[tuple[int, int], Fingerprint] = OrderedDict()
        self._by_id: dict[str, Fingerprint] = {}
        self._limit = limit

    def of(self, statement: Any) -> Fingerprint:
        """Return the fingerprint of a statement: text, bytes, or an object of a driver."""
        text = as_text(statement)
        cached = self._by_text.get((hash(text), len(text)))
        return self._compute(text) if cached is None else cached

    def _compute(self, text: str) -> Fingerprint:
        plain = without_comments(text)
        known = None if plain == text else self._by_text.get((hash(plain), len(plain)))
        computed = fingerprint(plain) if known is None else known
        if len(self._by_id) >= self._limit:
            self._by_id.clear()
        computed = self._by_id.setdefault(computed.id, computed)  # equal ones share one object
        for kept in {plain, text}:
            while len(self._by_text) >= self._limit:
                try:
                    self._by_text.popitem(last=False)
                except KeyError as error:  # another thread came first
                    raise_if_of_host(error)
                    break
            self._by_text[hash(kept), len(kept)] = computed
        return computed


def as_text(statement: Any, context: Any = None) -> str:
    """Return a statement as text: bytes are decoded, composed objects of psycopg are rendered.

    Args:
        statement: as it was sent.
        context: cursor or connection of the driver that sent it.
    """
    if type(statement) is str:
        return statement
    if isinstance(statement, str):  # what the driver sends, not what str() returns: an Enum's name
        return str.__str__(statement)
    if isinstance(statement, bytes | bytearray | memoryview):
        return bytes(statement).decode("utf-8", "replace")
    render = getattr(statement, "as_string", None)
    try:
        return str(render(context) if render is not None else statement)
    except Exception as error:  # a value that only its connection can render
        raise_if_of_host(error)
        return f"({type(statement).__name__})"


FINGERPRINTS = FingerprintCache()
