"""Shapes: alike where only values differ, told apart where more does, and never with a literal."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.collectors.sql.fingerprint import LONGEST, READ, Shapes, as_text, shape

SECRET = "hunter2"

LITERALS = [
    f"'{SECRET}'", f"'it''s {SECRET}'", f"'{SECRET}", f"'it\\'s {SECRET}'", f"'a\\\\' || '{SECRET}'",
    f'"{SECRET}"', f"E'{SECRET}\\'s'", f"N'{SECRET}'", f"U&'{SECRET}'", f"x'{SECRET}'", f"b'{SECRET}'",
    f"$${SECRET}$$", f"$tag${SECRET} $$ {SECRET}$tag$", f"$${SECRET}", f"q'[it's {SECRET}]'",
    f"E'it\\'s', $$don't tell {SECRET}$$", f"$étiquette$ {SECRET} $étiquette$", f"'''a'b {SECRET}'c'''",
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
        assert SECRET not in shape(statement).text


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
    assert SECRET not in shape(statement).text


@pytest.mark.parametrize(
    "unit", ["[", "(?", "'", "--", "/*", "#", "?::a", "= - ", " limit ?", "`", '"', "$a$"]
)
def test_no_text_takes_long_to_read(unit: str) -> None:
    text = unit * (READ // len(unit))
    began = time.process_time()
    shape(text)
    assert time.process_time() - began < 5  # a quadratic one takes minutes


def test_casts_of_placeholders_and_lengths_of_lists_do_not_tell_shapes_apart() -> None:
    one = "SELECT a FROM t WHERE id IN (%(a)s::INTEGER)"
    other = "SELECT a FROM t WHERE id IN (%(a)s::INTEGER, %(b)s::INTEGER)"
    assert shape(one) == shape(other)
    long = [
        f"SELECT a FROM t WHERE id IN ({', '.join('1234' for _ in range(n))})" for n in (5000, 6001)
    ]
    assert shape(long[0]) == shape(long[1])
    assert (
        shape("SELECT ?::TIMESTAMP WITHOUT TIME ZONE, b::text FROM t").text
        == "SELECT ?, b::text FROM t"
    )


@pytest.mark.parametrize(
    "call", ["nextval('s')", "random()", "pg_advisory_lock(7)", "gen_random_uuid()"]
)
def test_what_answers_differently_each_time_is_no_read(call: str) -> None:
    assert shape(f"SELECT {call}").kind == "other"


@given(st.text(alphabet=string.printable, max_size=40), st.sampled_from("'\""), st.booleans())
def test_what_stands_in_quotes_is_never_left(value: str, quote: str, escaped: bool) -> None:
    secret = (
        "zq" + value.replace("\\", "").replace("-", "").replace("/", "").replace("#", "") + "zq"
    )
    written = secret.replace(quote, ("\\" if escaped else quote) + quote)
    statement = f"SELECT a FROM t WHERE b = {quote}{written}{quote} LIMIT 3"
    assert "zq" not in shape(statement).text


@pytest.mark.parametrize("number", [
    "1", "-1", "+1", "1.5", "1.", ".5", "1e10", "1.5E-3", "0xFF", "1_000_000", "12345678901234567890",
])  # fmt: skip
def test_every_number_is_a_value(number: str) -> None:
    assert shape(f"SELECT a FROM t WHERE b = {number}").text == "SELECT a FROM t WHERE b = ?"


@pytest.mark.parametrize("placeholder", ["?", "%s", ":id", "%(id)s", "$1", "?1"])
def test_placeholders_of_all_drivers_are_alike(placeholder: str) -> None:
    made = shape(f"SELECT a FROM t1 WHERE id = {placeholder}")
    assert made.text == "SELECT a FROM t1 WHERE id = ?"


@pytest.mark.parametrize(("one", "other"), [
    ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (1, 2, 3)"),
    ("INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (2, 'b'), (3, 'c')"),
    ("SELECT a\n  FROM t;", "select a from t".replace("select", "SELECT").replace("from", "FROM")),
    ("SELECT a FROM t -- first", "SELECT a FROM t -- second"),
    ("SELECT f( 1 )", "SELECT f(2)"),
])  # fmt: skip
def test_what_differs_in_values_only_is_one(one: str, other: str) -> None:
    assert shape(one) == shape(other)._replace(listed=shape(one).listed)


@pytest.mark.parametrize(("one", "other"), [
    ("SELECT a FROM t WHERE b = 1", "SELECT a FROM u WHERE b = 1"),
    ('SELECT a FROM "t"', 'SELECT a FROM "u"'),
    ('SELECT "t"."a" FROM t', 'SELECT "t"."b" FROM t'),
    ("SELECT a FROM t1", "SELECT a FROM t2"),
    ("SELECT a FROM `t`", "SELECT a FROM `u`"),
    ("SELECT a::text FROM t", "SELECT a::int FROM t"),
    ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b > 1"),
])  # fmt: skip
def test_what_differs_in_more_is_told_apart(one: str, other: str) -> None:
    assert shape(one).id != shape(other).id


@pytest.mark.parametrize(("statement", "kind"), [
    ("SELECT 1", "read"), (" ( select 1 ) union select 2", "read"), ("VALUES (1)", "read"),
    ("WITH a AS (SELECT 1) SELECT * FROM a", "read"),
    ("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", "write"),
    ("WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", "write"),
    ("update t set a = 1", "write"), ("DELETE FROM t", "write"), ("COMMIT", "other"), ("", "other"),
    ("PRAGMA foreign_keys", "other"), ("?", "other"),
])  # fmt: skip
def test_its_kind_is_known(statement: str, kind: str) -> None:
    assert shape(statement).kind == kind


@pytest.mark.parametrize(("statement", "known"), [
    ("SELECT a FROM t LIMIT 10 OFFSET 20", "offset"),
    ("SELECT a FROM t LIMIT 20, 10", "offset"),
    ("SELECT a FROM t OFFSET 5 ROWS FETCH NEXT 9 ROWS ONLY", "offset"),
    ("SELECT a FROM t WHERE id > 7 ORDER BY id LIMIT 10", "limited"),
    ("SELECT a FROM t WHERE id = 7 LIMIT 1", ""),
    ("SELECT a FROM t WHERE id IN (1, 2)", "listed"),
    ("SELECT a FROM t WHERE id = ANY(%s)", "arrayed"),
    ("SELECT a FROM t WHERE id = ANY (%(a)s::INTEGER[])", "arrayed"),
    ("SELECT a FROM t WHERE id IN (SELECT value FROM json_each(?))", "listed arrayed"),
    ("SELECT a FROM t WHERE id IN (%(a)s::INTEGER, %(b)s::INTEGER)", "listed"),
    ("SELECT a FROM t WHERE (a, b) IN (VALUES (?, ?), (?, ?))", "listed"),
    ("SELECT a FROM t WHERE (a, b) IN ((?, ?), (?, ?))", "listed"),
    ("SELECT a FROM t WHERE (a, b) > (?, ?) ORDER BY a LIMIT 100", "limited"),
    ("SELECT a FROM t WHERE ? < id LIMIT 100", "limited"),
    ("SELECT TOP (?) a FROM t WHERE id > ?", "limited"),
    ("SELECT f(1, 2) FROM t", ""),
    ("SELECT a FROM t WHERE id BETWEEN 1 AND 2", "ranged"),
    ("SELECT a FROM t WHERE id >= 1 AND id < 2", "ranged"),
])  # fmt: skip
def test_pages_lists_and_ranges_are_known(statement: str, known: str) -> None:
    made = shape(statement)
    names = ("offset", "limited", "listed", "arrayed", "ranged")
    assert [name for name in names if getattr(made, name)] == known.split()


@given(st.text(max_size=300))
def test_any_text_has_a_shape(text: str) -> None:
    made = shape(text)
    assert shape(text) == made and len(made.text) <= LONGEST


@given(st.text(alphabet="aA1'\"\\$-/*#? (),.;\n", max_size=60))
def test_a_shape_is_its_own_shape_where_quotes_are_gone(text: str) -> None:
    made = shape(text).text
    if not set(made) & set("'\"\\$#[`"):
        assert shape(made).text.count("'") == 0


def test_long_statements_are_cut_and_still_told_apart() -> None:
    columns = ", ".join(f"column_number_{n}" for n in range(200))
    one, other = shape(f"SELECT {columns} FROM t"), shape(f"SELECT {columns} FROM u")
    assert len(one.text) == LONGEST and one.text.endswith("…")
    assert one.text == other.text and one.id != other.id


def test_what_is_behind_the_part_that_is_read_shows_nothing() -> None:
    made = shape("SELECT " + "a, " * READ + f"'{SECRET}'")
    assert SECRET not in made.text


def test_a_text_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from flask_knitperf.collectors.sql import fingerprint

    read: list[str] = []
    monkeypatch.setattr(fingerprint, "shape", lambda text: (read.append(text), shape(text))[1])
    shapes = Shapes()
    assert shapes.of("SELECT 1") is shapes.of("SELECT 1") is shapes.of("SELECT 2")
    assert read == ["SELECT 1", "SELECT 2"]


def test_texts_that_are_remembered_are_bounded() -> None:
    shapes = Shapes(limit=10)
    for number in range(100):
        shapes.of(f"SELECT a{number}")
    assert len(shapes._known) == 10 and len(shapes._shapes) <= 10


def test_statements_may_be_bytes_or_objects_of_a_driver() -> None:
    from psycopg import sql

    composed = sql.SQL("SELECT {} FROM t WHERE a = {}").format(
        sql.Identifier("b"), sql.Literal(SECRET)
    )
    assert as_text(b"SELECT 1") == "SELECT 1"
    assert Shapes().of(composed).text == "SELECT ? FROM t WHERE a = ?"
    assert as_text(5) == "5"
