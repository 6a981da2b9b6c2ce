"""Whether the result of a statement may be cached, read from its text.

A statement is refused unless everything in it is understood: a result that differs at each call, locks
rows, depends on the user or changes the database must never come from a cache. Functions are refused
unless they are listed here as depending on their arguments alone.

Words are read rather than grammar: each word of a statement counts as a table that it may read, which
costs an invalidation too many and never misses a table.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .comments import without_comments
from .connection_writes import ALL_TABLES
from .fingerprint import FINGERPRINTS, MAX_CACHED, READS
from .written_tables import names, written

MAX_CHARS = 20_000
"""Length above which a statement is not read."""

VOLATILE_WORDS = frozenset({
    "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_user",
    "session_user", "system_user", "current_role", "current_catalog", "current_schema", "user",
    "sysdate", "systimestamp",
})  # fmt: skip
"""Words without parentheses that stand for the time, the user or the session."""

PURE_FUNCTIONS = frozenset({
    # aggregates and windows
    "array_agg", "avg", "bit_and", "bit_or", "bool_and", "bool_or", "corr", "count", "covar_pop",
    "covar_samp", "cume_dist", "dense_rank", "every", "first_value", "group_concat", "json_agg",
    "json_group_array", "json_group_object", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "lag",
    "last_value", "lead", "max", "min", "mode", "nth_value", "ntile", "percent_rank", "percentile_cont",
    "percentile_disc", "rank", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "row_number",
    "stddev", "stddev_pop", "stddev_samp", "string_agg", "sum", "total", "var_pop", "var_samp",
    "variance", "grouping",
    # numbers
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "ceiling", "cos", "degrees", "div", "exp",
    "floor", "greatest", "least", "ln", "log", "log10", "log2", "mod", "pi", "pow", "power", "radians",
    "round", "sign", "sin", "sqrt", "tan", "trunc", "truncate", "width_bucket",
    # text
    "ascii", "btrim", "char_length", "character_length", "chr", "concat", "concat_ws", "glob", "hex",
    "initcap", "instr", "left", "length", "like", "lower", "lpad", "ltrim", "md5", "octet_length",
    "overlay", "position", "printf", "quote", "regexp_count", "regexp_like", "regexp_match",
    "regexp_replace", "regexp_substr", "repeat", "replace", "reverse", "right", "rpad", "rtrim",
    "split_part", "starts_with", "strpos", "substr", "substring", "translate", "trim", "unicode",
    "upper",
    # null, types, containers
    "array_append", "array_length", "array_position", "array_remove", "array_to_string", "cardinality",
    "coalesce", "ifnull", "iif", "json_array_elements", "json_build_array", "json_build_object",
    "json_each", "json_each_text", "json_extract", "json_object_keys", "jsonb_array_elements",
    "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array", "jsonb_build_object",
    "jsonb_each", "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text",
    "jsonb_object_keys", "json_array_length", "json_extract_path", "json_extract_path_text", "nullif",
    "num_nonnulls", "num_nulls", "nvl", "string_to_array", "typeof", "unnest",
    # dates, of their arguments and the time zone of the session, which is a part of the key
    "date_bin", "date_part", "date_trunc", "extract", "justify_days", "justify_hours",
    "justify_interval", "make_date", "make_interval", "make_time", "make_timestamp", "to_char",
    "to_date", "to_number", "to_timestamp", "generate_series", "year", "month", "day", "quarter", "hour",
    "minute", "second", "dayofweek", "dayofyear", "last_day", "datediff", "date_add", "date_sub",
})  # fmt: skip
"""Functions whose result depends on their arguments, the rows, and settings that are in the key."""

_SYNTAX = frozenset({
    "all", "and", "any", "array", "as", "between", "by", "case", "cast", "char", "character", "check",
    "cross", "cube", "decimal", "distinct", "else", "end", "escape", "except", "exists", "filter",
    "following", "from", "full", "group", "having", "ilike", "in", "inner", "interval", "intersect",
    "is", "join", "lateral", "limit", "materialized", "not", "null", "numeric", "offset", "on", "only",
    "or", "order", "outer", "over", "partition", "preceding", "range", "recursive", "rollup", "row",
    "rows",
    "select", "set", "sets", "similar", "some", "then", "time", "timestamp", "to", "union", "using",
    "values", "varchar", "varying", "when", "where", "window", "with", "within", "within group", "fetch",
    "first", "next", "float", "bit", "nchar", "varbit", "bpchar", "timestamptz", "timetz",
})  # fmt: skip
"""Words before a parenthesis that call nothing."""
KEYWORDS = _SYNTAX | PURE_FUNCTIONS
"""Words that name no table, unless the catalog has one of that name."""
_SYSTEM = re.compile(
    r"\b(?:pg_\w+|information_schema|sqlite_\w+|pragma_\w+|performance_schema|mysql\s*\.|sys\s*\.)",
    re.IGNORECASE,
)
_LOCKS = re.compile(
    r"\bfor\s+(?:no\s+key\s+)?(?:update|share)\b|\bfor\s+key\s+share\b|\block\s+in\s+share\b"
    r"|\bwith\s*\(\s*(?:updlock|xlock|holdlock|tablockx?|rowlock)",
    re.IGNORECASE,
)
_UNCLEAR = re.compile(
    r"\bu&\s*[\"']|\breturning\b|\btablesample\b|(?<![\w@>])@{1,2}[a-z_]|\boperator\s*\(|#(?![>-])",
    re.IGNORECASE,
)
_PLACEHOLDERS = re.compile(r"%\(\w*\)s|(?<![:\w]):\w+")
_STRINGS = re.compile(
    r"(?:\b[eE])'(?:[^'\\]|''|\\.)*'|'(?:[^'\\]|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL
)
_RELATIVE = re.compile(
    r"'\s*(?:now|today|tomorrow|yesterday|allballs)\b[^']*'|\b(?:date|time|datetime|strftime|julianday"
    r"|unixepoch)\s*\(", re.IGNORECASE,
)  # fmt: skip
_QUOTED = re.compile(r'"(?:[^"]|"")*"|`(?:[^`]|``)*`')
_CALLS = re.compile(r"([\w$]+|\"[^\"]*\"|`[^`]*`)\s*\(")
_WORDS = re.compile(r"(?<![\w$.:%@])[A-Za-z_][\w$]*(?!\s*\.)")
_NAMED = re.compile(r"\b(?:as|with|recursive)\s*$", re.IGNORECASE)


class Facts(NamedTuple):
    """A statement as a cache sees it.

    Attributes:
        refusal: why its result is not cached, empty if it may be.
        words: all words of it, in lower case: the tables that it reads are among them.
    """

    refusal: str
    words: frozenset[str]


_FACTS: dict[tuple[int, int, frozenset[str]], Facts] = {}
"""Facts of recent statements, by the hash of their text and its length; no text is stored."""


def facts_of(statement: str, pure: frozenset[str] = frozenset()) -> Facts:
    """Return the facts of a statement.

    Args:
        statement: as it is sent to the driver.
        pure: names of functions of the application whose results depend on their arguments alone.
    """
    key = hash(statement), len(statement), pure
    facts = _FACTS.get(key)
    if facts is None:
        words = names(statement)
        is_long = len(statement) > MAX_CHARS or ALL_TABLES in words
        refusal = "it is too long to be read" if is_long else _refusal(statement, pure)
        if len(_FACTS) >= MAX_CACHED:
            _FACTS.clear()
        facts = _FACTS[key] = Facts(refusal, words)
    return facts


def definition_refusal(definition: str, pure: frozenset[str] = frozenset()) -> str:
    """Return why results that a view is a part of are not cached, empty if they may be.

    Args:
        definition: its ``SELECT``.
        pure: see :func:`facts_of`.
    """
    return _of_text(without_comments(definition), pure)


def _refusal(statement: str, pure: frozenset[str]) -> str:
    fingerprint = FINGERPRINTS.of(statement)
    if written(statement) or fingerprint.kind not in (READS, "other"):
        return "it writes"
    text = without_comments(statement)
    first = text.lstrip(" \t\r\n(")[:6].lower()
    if first not in ("select", "values") and not first.startswith(("with", "table")):
        return "it is not a SELECT"
    return _of_text(text, pure)


def _of_text(text: str, pure: frozenset[str]) -> str:
    """Return why a query without comments is refused, empty if it is understood."""
    if _RELATIVE.search(text):
        return "it depends on the time"
    bare = _PLACEHOLDERS.sub("?", _STRINGS.sub("?", text))
    if "--" in bare or "/*" in bare or "'" in bare or "\\" in bare or ";" in bare.rstrip("; \n"):
        return "its text can be read in more than one way"
    unquoted = _QUOTED.sub('"', bare)
    if match := _LOCKS.search(unquoted):
        return f"it locks rows ({match[0].upper()})"
    if match := _UNCLEAR.search(unquoted):
        return f"it contains {match[0].strip().upper()}"
    if match := _SYSTEM.search(bare):
        return f"it reads a system catalog ({match[0]})"
    for word in _WORDS.findall(unquoted):
        if word.lower() in VOLATILE_WORDS:
            return f"{word.upper()} differs at each call, or by user"
    return _call(bare, pure)


def _call(bare: str, pure: frozenset[str]) -> str:
    """Return why a function that a query calls is refused, empty if there is none such."""
    for match in _CALLS.finditer(bare):
        name, before = match[1].strip('"`').lower(), bare[: match.start()].rstrip()
        is_qualified = before.endswith(".")
        if name in pure or name.isdigit():
            continue
        if not is_qualified and (name in _SYNTAX or name in PURE_FUNCTIONS):
            continue
        if _NAMED.search(before):  # a common table expression, an alias with columns, a type
            continue
        return f"it calls {name}(), which may differ at each call"
    return ""


_MOMENTS = frozenset({"now", "today", "tomorrow", "yesterday", "allballs"})


def is_relative(value: object) -> bool:
    """Return whether a parameter is a text that databases read as the present time."""
    return isinstance(value, str) and value.strip().lower() in _MOMENTS
