"""Comments do not belong to a statement; what only looks like one does."""

from __future__ import annotations

import pytest

from flask_knitperf.collectors.sql.comments import without_comments
from flask_knitperf.collectors.sql.fingerprint import FingerprintCache
from flask_knitperf.collectors.sql.written_tables import written

BASE = "SELECT v FROM t WHERE id = ?"


@pytest.mark.parametrize(
    "commented",
    [
        f"{BASE} /*traceparent='00-1-01'*/",
        f"/*traceparent='00-1-01'*/{BASE};",
        f"{BASE} -- traceparent='00-1-01'",
        f"{BASE}\n--\n-- a\n",
        f"-- it's \"a\n{BASE}",
        f"--traceparent='00-1-01'\r\n{BASE}",
        f"# it's a\n{BASE}",  # MySQL
        f"/* a */ /* b */ -- c\n{BASE} /**/ /*/ d */ -- e",
        f"{BASE} /* a /* b */ c */",  # nested: PostgreSQL
        f"{BASE} /* never closed",  # SQLite
        f"-- /* a\n{BASE} -- */",
        f"/* -- */ {BASE} /* 100% ? :a \udc80 \0 */",
    ],
)
def test_comments_around_a_statement_are_removed(commented: str) -> None:
    assert without_comments(commented) == BASE


@pytest.mark.parametrize(
    ("commented", "without"),
    [
        ("SELECT v FROM t/*a*/WHERE id = ?", "SELECT v FROM t WHERE id = ?"),
        ("SELECT /* a */ 1, 2 -- b */", "SELECT   1, 2"),
        ("SELECT v -- it's\nFROM t", "SELECT v  \nFROM t"),
        ("SELECT '/* a', 1 -- */", "SELECT '/* a', 1"),
        ("SELECT 'it''s' /* it's */, '-- b'", "SELECT 'it''s'  , '-- b'"),
        ("SELECT 'a\\' /* b */", "SELECT 'a\\'"),
        ("SELECT $$ -- a $$ /* b */", "SELECT $$ -- a $$"),
        ("SELECT /*+ INDEX(i) */ v FROM t /* b */ , u", "SELECT /*+ INDEX(i) */ v FROM t   , u"),
    ],
)
def test_comments_within_a_statement_are_removed(commented: str, without: str) -> None:
    assert without_comments(commented) == without


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '/* a */'", "SELECT '-- a'", 'SELECT "-- a", "/* b */"', "SELECT `-- a` FROM t",
        "SELECT [-- a] FROM t", "SELECT 'it''s -- a'", "SELECT 'it\\'s -- a'", "SELECT $$ -- a $$",
        "SELECT $x$ /* a */ $x$", "SELECT q'[it's -- a]' FROM dual", "SELECT 'a' || ' -- \\' || 'b'",
        "SELECT 5--1", "SELECT ----1", "SELECT 5 # 1", "SELECT a #>> '{b}' -- c", "SELECT * FROM #a",
        "/*+ a */ SELECT 1", "SELECT 1 /*! + 1 */", "/*M!100 + 1 */ SELECT 1", "SELECT --+ a\n 1",
        "SELECT 1 /*+ a */", "SELECT '/* a", "SELECT 1 -- 'a\n, 'b",
    ],
)  # fmt: skip
def test_text_that_some_dialect_reads_otherwise_is_kept(text: str) -> None:
    assert without_comments(text) == text


def test_a_comment_hides_neither_the_kind_of_a_statement_nor_its_table() -> None:
    cache = FingerprintCache()
    plain = cache.of("UPDATE yarn SET a = 1")
    assert cache.of("-- it's of 'style'\nUPDATE yarn SET a = 2") is plain
    assert cache.of(f"/* {'x' * 30_000} */ UPDATE yarn SET a = 3") is plain
    assert written("-- it's\nUPDATE yarn SET a = 1") == written("UPDATE yarn SET a = 1")


def test_a_statement_of_comments_alone_is_empty() -> None:
    for text in ("-- a", "/* a */", "#", ";", "/* a */;-- b"):
        assert without_comments(text).strip("; ") in ("", "-- b")
    assert FingerprintCache().of("/* a */").text == ""


def test_long_statements_lose_the_comments_around_them() -> None:
    columns = ", ".join(f"c{number}" for number in range(20_000))
    text = f"SELECT {columns} FROM t"
    assert without_comments(f"-- a\n{text} /* b */") == text
    assert without_comments("SELECT 1" + "/* a */" * 50_000).startswith("SELECT 1")
