"""Fingerprints: equal where only values differ, different otherwise, and without any literal."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.collectors.sql.fingerprint import (
    MAX_READ_CHARS,
    FingerprintCache,
    as_text,
    fingerprint,
)
from flask_knitperf.metrics.catalogue import MAX_FINGERPRINT_TEXT

SECRET = "hunter2"

LITERALS = [
    f"'{SECRET}'", f"'it''s {SECRET}'", f"'{SECRET}", f"'it\\'s {SECRET}'", f"'a\\\\' || '{SECRET}'",
    f'"{SECRET}"', f"E'{SECRET}\\'s'", f"N'{SECRET}'", f"U&'{SECRET}'", f"x'{SECRET}'", f"b'{SECRET}'",
    f"$${SECRET}$$", f"$tag${SECRET} $$ {SECRET}$tag$", f"$${SECRET}", f"q'[it's {SECRET}]'",
    f"E'it\\'s', $$don't show {SECRET}$$", f"$étiquette$ {SECRET} $étiquette$", f"'''a'b {SECRET}'c'''",
    f'"""a "{SECRET}" b"""', f"5--'b\n{SECRET}'", f"5 # 'x\n{SECRET}'", f"1 /* a /* b */ {SECRET} */",
    f"1#{SECRET}", f"1 #- {SECRET}", f"1 #> {SECRET}", f"1 ## {SECRET}", f"`x '{SECRET}'",
    f"[it's] || '{SECRET}' || [it's]", f"[a`b] || '{SECRET}'",
    f"-- {SECRET}\n 1", f"/* {SECRET} */ 1", f"/* {SECRET}", f"# {SECRET}\n 1", f"'{SECRET}' '{SECRET}'",
]  # fmt: skip


@pytest.mark.parametrize("literal", LITERALS)
def test_no_literal_and_no_comment_is_left(literal: str) -> None:
    for statement in (
        f"SELECT a FROM t WHERE b = {literal}",
        f"SELECT a FROM t WHERE b = {literal} AND c = '{SECRET}'",
        f"INSERT INTO t VALUES (1, {literal}, 'x')",
        f"SELECT {literal}",
    ):
        assert SECRET not in fingerprint(statement).text


@pytest.mark.parametrize("statement", [
    f'SELECT a FROM t WHERE a IS NOT DISTINCT FROM "{SECRET}"',
    f'SELECT EXTRACT(YEAR FROM "{SECRET}")', f"SELECT TRIM(LEADING 'x' FROM \"{SECRET}\")",
    f'CREATE USER u IDENTIFIED BY "{SECRET}"', f"ALTER USER u PASSWORD {SECRET}",
    f"PRAGMA key = {SECRET}", f"PRAGMA key({SECRET})", f"SET app.token = {SECRET}",
    f"SET app.token TO {SECRET}", f"SAVEPOINT {SECRET}", f"RELEASE SAVEPOINT {SECRET}",
    f"ROLLBACK TO {SECRET}", f"SELECT `x FROM t WHERE a = '{SECRET}'",
    f"SELECT 1 FROM s WHERE [Buyer's city] = '{SECRET}' AND [Buyer's name] = 'x'",
])  # fmt: skip
def test_values_without_quotes_and_names_that_may_be_values_are_not_left(statement: str) -> None:
    assert SECRET not in fingerprint(statement).text


@pytest.mark.parametrize(
    "unit", ["[", "(?", "'", "--", "/*", "#", "?::a", "= - ", " limit ?", "`", '"', "$a$"]
)
def test_no_text_takes_long(unit: str) -> None:
    text = unit * (MAX_READ_CHARS // len(unit))
    started = time.process_time()
    fingerprint(text)
    assert time.process_time() - started < 5  # a quadratic one takes minutes


def test_casts_of_placeholders_and_lengths_of_lists_do_not_matter() -> None:
    one = "SELECT a FROM t WHERE id IN (%(a)s::INTEGER)"
    other = "SELECT a FROM t WHERE id IN (%(a)s::INTEGER, %(b)s::INTEGER)"
    assert fingerprint(one) == fingerprint(other)
    long = [
        f"SELECT a FROM t WHERE id IN ({', '.join('1234' for _ in range(n))})" for n in (5000, 6001)
    ]
    assert fingerprint(long[0]) == fingerprint(long[1])
    assert (
        fingerprint("SELECT ?::TIMESTAMP WITHOUT TIME ZONE, b::text FROM t").text
        == "SELECT ?, b::text FROM t"
    )


@pytest.mark.parametrize(
    "call", ["nextval('s')", "random()", "pg_advisory_lock(7)", "gen_random_uuid()"]
)
def test_a_volatile_function_is_not_a_read(call: str) -> None:
    assert fingerprint(f"SELECT {call}").kind == "other"


@given(st.text(alphabet=string.printable, max_size=40), st.sampled_from("'\""), st.booleans())
def test_text_in_quotes_is_never_left(value: str, quote: str, escaped: bool) -> None:
    secret = (
        "zq" + value.replace("\\", "").replace("-", "").replace("/", "").replace("#", "") + "zq"
    )
    literal = secret.replace(quote, ("\\" if escaped else quote) + quote)
    statement = f"SELECT a FROM t WHERE b = {quote}{literal}{quote} LIMIT 3"
    assert "zq" not in fingerprint(statement).text


@pytest.mark.parametrize("number", [
    "1", "-1", "+1", "1.5", "1.", ".5", "1e10", "1.5E-3", "0xFF", "1_000_000", "12345678901234567890",
])  # fmt: skip
def test_every_number_is_a_value(number: str) -> None:
    assert fingerprint(f"SELECT a FROM t WHERE b = {number}").text == "SELECT a FROM t WHERE b = ?"


@pytest.mark.parametrize("placeholder", ["?", "%s", ":id", "%(id)s", "$1", "?1"])
def test_placeholders_of_all_drivers_are_equal(placeholder: str) -> None:
    text = fingerprint(f"SELECT a FROM t1 WHERE id = {placeholder}").text
    assert text == "SELECT a FROM t1 WHERE id = ?"


@pytest.mark.parametrize(("one", "other"), [
    ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (1, 2, 3)"),
    ("INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (2, 'b'), (3, 'c')"),
    ("SELECT a\n  FROM t;", "select a from t".replace("select", "SELECT").replace("from", "FROM")),
    ("SELECT a FROM t -- first", "SELECT a FROM t -- second"),
    ("SELECT f( 1 )", "SELECT f(2)"),
])  # fmt: skip
def test_statements_that_differ_in_values_only_have_one_fingerprint(one: str, other: str) -> None:
    assert fingerprint(one) == fingerprint(other)._replace(has_list=fingerprint(one).has_list)


@pytest.mark.parametrize(("one", "other"), [
    ("SELECT a FROM t WHERE b = 1", "SELECT a FROM u WHERE b = 1"),
    ('SELECT a FROM "t"', 'SELECT a FROM "u"'),
    ('SELECT "t"."a" FROM t', 'SELECT "t"."b" FROM t'),
    ("SELECT a FROM t1", "SELECT a FROM t2"),
    ("SELECT a FROM `t`", "SELECT a FROM `u`"),
    ("SELECT a::text FROM t", "SELECT a::int FROM t"),
    ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b > 1"),
])  # fmt: skip
def test_statements_that_differ_in_more_have_different_fingerprints(one: str, other: str) -> None:
    assert fingerprint(one).id != fingerprint(other).id


@pytest.mark.parametrize(("statement", "kind"), [
    ("SELECT 1", "read"), (" ( select 1 ) union select 2", "read"), ("VALUES (1)", "read"),
    ("WITH a AS (SELECT 1) SELECT * FROM a", "read"),
    ("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", "write"),
    ("WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", "write"),
    ("update t set a = 1", "write"), ("DELETE FROM t", "write"), ("COMMIT", "other"), ("", "other"),
    ("PRAGMA foreign_keys", "other"), ("?", "other"),
])  # fmt: skip
def test_the_kind_of_a_statement_is_recognised(statement: str, kind: str) -> None:
    assert fingerprint(statement).kind == kind


@pytest.mark.parametrize(("statement", "features"), [
    ("SELECT a FROM t LIMIT 10 OFFSET 20", "has_offset"),
    ("SELECT a FROM t LIMIT 20, 10", "has_offset"),
    ("SELECT a FROM t OFFSET 5 ROWS FETCH NEXT 9 ROWS ONLY", "has_offset"),
    ("SELECT a FROM t WHERE id > 7 ORDER BY id LIMIT 10", "has_limit"),
    ("SELECT a FROM t WHERE id = 7 LIMIT 1", ""),
    ("SELECT a FROM t WHERE id IN (1, 2)", "has_list"),
    ("SELECT a FROM t WHERE id = ANY(%s)", "has_array"),
    ("SELECT a FROM t WHERE id = ANY (%(a)s::INTEGER[])", "has_array"),
    ("SELECT a FROM t WHERE id IN (SELECT value FROM json_each(?))", "has_list has_array"),
    ("SELECT a FROM t WHERE id IN (%(a)s::INTEGER, %(b)s::INTEGER)", "has_list"),
    ("SELECT a FROM t WHERE (a, b) IN (VALUES (?, ?), (?, ?))", "has_list"),
    ("SELECT a FROM t WHERE (a, b) IN ((?, ?), (?, ?))", "has_list"),
    ("SELECT a FROM t WHERE (a, b) > (?, ?) ORDER BY a LIMIT 100", "has_limit"),
    ("SELECT a FROM t WHERE ? < id LIMIT 100", "has_limit"),
    ("SELECT TOP (?) a FROM t WHERE id > ?", "has_limit"),
    ("SELECT f(1, 2) FROM t", ""),
    ("SELECT a FROM t WHERE id BETWEEN 1 AND 2", "has_range"),
    ("SELECT a FROM t WHERE id >= 1 AND id < 2", "has_range"),
])  # fmt: skip
def test_pages_lists_and_ranges_are_recognised(statement: str, features: str) -> None:
    outline = fingerprint(statement)
    names = ("has_offset", "has_limit", "has_list", "has_array", "has_range")
    assert [name for name in names if getattr(outline, name)] == features.split()


@given(st.text(max_size=300))
def test_any_text_has_a_fingerprint(text: str) -> None:
    outline = fingerprint(text)
    assert fingerprint(text) == outline and len(outline.text) <= MAX_FINGERPRINT_TEXT


@given(st.text(alphabet="aA1'\"\\$-/*#? (),.;\n", max_size=60))
def test_a_fingerprint_without_quotes_is_stable(text: str) -> None:
    outline = fingerprint(text).text
    if not set(outline) & set("'\"\\$#[`"):
        assert fingerprint(outline).text.count("'") == 0


def test_long_statements_are_cut_and_still_distinguished() -> None:
    columns = ", ".join(f"column_number_{n}" for n in range(200))
    one, other = fingerprint(f"SELECT {columns} FROM t"), fingerprint(f"SELECT {columns} FROM u")
    assert len(one.text) == MAX_FINGERPRINT_TEXT and one.text.endswith("…")
    assert one.text == other.text and one.id != other.id


def test_the_unread_rest_of_a_statement_is_not_shown() -> None:
    text = fingerprint("SELECT " + "a, " * MAX_READ_CHARS + f"'{SECRET}'").text
    assert SECRET not in text


def test_a_text_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from flask_knitperf.collectors.sql import fingerprint as module

    read: list[str] = []
    monkeypatch.setattr(
        module, "fingerprint", lambda text: (read.append(text), fingerprint(text))[1]
    )
    cache = FingerprintCache()
    assert cache.of("SELECT 1") is cache.of("SELECT 1") is cache.of("SELECT 2")
    assert read == ["SELECT 1", "SELECT 2"]


def test_the_number_of_cached_texts_is_bounded() -> None:
    cache = FingerprintCache(limit=10)
    for number in range(100):
        cache.of(f"SELECT a{number}")
    assert len(cache._by_text) == 10 and len(cache._by_id) <= 10


def test_statements_may_be_bytes_or_objects_of_a_driver() -> None:
    from psycopg import sql

    composed = sql.SQL("SELECT {} FROM t WHERE a = {}").format(
        sql.Identifier("b"), sql.Literal(SECRET)
    )
    assert as_text(b"SELECT 1") == "SELECT 1"
    assert FingerprintCache().of(composed).text == "SELECT ? FROM t WHERE a = ?"
    assert as_text(5) == "5"
