"""Statements whose results may be cached, and those that are refused."""

from __future__ import annotations

import re

import pytest

from flask_knitperf.collectors.sql.cacheable import (
    MAX_CHARS,
    definition_refusal,
    facts_of,
    is_relative,
)

CACHEABLE = [
    "SELECT a, count(*) FROM yarn WHERE id = :id GROUP BY a HAVING sum(b) > 3 ORDER BY a LIMIT 10",
    "SELECT y.user, y.now FROM yarn y",
    "SELECT a FROM yarn WHERE id = %(user)s AND b IN (__[POSTCOMPILE_b_1]) LIMIT %(param_1)s",
    "WITH q (a) AS (SELECT 1) SELECT * FROM q",
    "WITH RECURSIVE q AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM q) SELECT * FROM q",
    "SELECT a ->> 'x' FROM yarn WHERE tags @> ARRAY[1] AND b::numeric(10, 2) > 0",
    "SELECT CAST(a AS NUMERIC(10, 2)), CAST(b AS VARCHAR(3)) FROM yarn",
    "SELECT x.a FROM (SELECT a FROM yarn) AS x (a) WHERE EXISTS (SELECT 1 FROM style)",
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM yarn",
    "SELECT a FROM yarn WHERE b = 'it''s -- no /* comment ( */'",
    "SELECT a FROM yarn /* a comment; random() */ -- FOR UPDATE",
    'SELECT "now" FROM "Big Yarn"',
    "VALUES (1), (2)",
    "TABLE yarn",
    "(SELECT a FROM yarn) UNION (SELECT a FROM style)",
]


@pytest.mark.parametrize("statement", CACHEABLE)
def test_a_query_of_known_parts_may_be_cached(statement: str) -> None:
    assert facts_of(statement).refusal == ""


REFUSED = {
    "SELECT now()": r"calls now\(\)",
    "SELECT a, random() FROM yarn": r"calls random\(\)",
    "SELECT a FROM yarn ORDER BY RANDOM ()": r"calls random\(\)",
    "SELECT nextval('s')": r"calls nextval\(\)",
    "SELECT pg_sleep(1)": "system catalog",
    "SELECT set_config('a.b', 'c', true)": r"calls set_config\(\)",
    "SELECT current_setting('app.tenant')": r"calls current_setting\(\)",
    "SELECT charge_customer(3)": r"calls charge_customer\(\)",
    "SELECT shop.lower(a) FROM yarn": r"calls lower\(\)",
    'SELECT "my f"(a) FROM yarn': r"calls my f\(\)",
    "SELECT * FROM orders_of(3) AS o": r"calls orders_of\(\)",
    "SELECT a FROM yarn WHERE d > CURRENT_DATE": "CURRENT_DATE",
    "SELECT Current_User": "CURRENT_USER",
    "SELECT user": "USER",
    "SELECT date('now')": "depends on the time",
    "SELECT a FROM yarn WHERE d > 'today'::date": "depends on the time",
    "SELECT strftime('%Y')": "depends on the time",
    "SELECT a FROM yarn FOR UPDATE": "locks rows",
    "SELECT a FROM yarn y FOR  NO KEY UPDATE OF y SKIP LOCKED": "locks rows",
    "SELECT a FROM yarn FOR SHARE": "locks rows",
    "SELECT a FROM yarn LOCK IN SHARE MODE": "locks rows",
    "SELECT a INTO b FROM yarn": "writes",
    "WITH d AS (DELETE FROM yarn RETURNING *) SELECT * FROM d": "writes",
    "INSERT INTO yarn VALUES (1) RETURNING id": "writes",
    "UPDATE yarn SET a = 1": "writes",
    "CALL refresh()": "writes",
    "SELECT 1; SELECT 2": "writes",
    "EXPLAIN SELECT 1": "not a SELECT",
    "PRAGMA user_version": "not a SELECT",
    "SHOW search_path": "not a SELECT",
    "SELECT relname FROM pg_class": "system catalog",
    "SELECT * FROM information_schema.tables": "system catalog",
    "SELECT sql FROM sqlite_master": "system catalog",
    "SELECT @total := @total + a FROM yarn": "contains @T",
    "SELECT a FROM yarn TABLESAMPLE SYSTEM (1)": "TABLESAMPLE",
    r"SELECT U&'d\0061t' FROM yarn": "",
    "SELECT 'a": "",
    r"SELECT 'a\' FROM yarn": "more than one way",
    "SELECT /*+ SeqScan(yarn) */ a FROM yarn": "more than one way",
    "": "",
    "SELECT " + "a, " * 2000 + "a FROM yarn": "too long",
    "SELECT '" + "a" * MAX_CHARS + "'": "too long",
}


@pytest.mark.parametrize("statement", REFUSED)
def test_a_query_with_another_part_is_refused_with_the_reason(statement: str) -> None:
    refusal = facts_of(statement).refusal
    assert refusal and re.search(REFUSED[statement], refusal)


def test_a_function_of_the_application_may_be_declared_pure() -> None:
    assert facts_of("SELECT weight_of(a) FROM yarn", frozenset({"weight_of"})).refusal == ""


def test_a_view_is_refused_for_what_its_definition_contains() -> None:
    assert definition_refusal("SELECT a FROM yarn") == ""
    assert "now()" in definition_refusal("SELECT a, now() AS t FROM yarn -- comment")


@pytest.mark.parametrize("value", ["now", " Today ", "YESTERDAY"])
def test_texts_that_stand_for_the_present_are_relative(value: str) -> None:
    assert is_relative(value) and not is_relative(f"{value}!") and not is_relative(3)
