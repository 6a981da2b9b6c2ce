"""Warnings of SQLite's driver about a wrapped connection name the line that they name without it."""

from __future__ import annotations

import datetime as dt
import sqlite3
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.collectors.sql.dbapi import wrap_connect

from .conftest import QueryApplication

DAY = dt.date(2026, 1, 1)


class Old:
    """A value whose adapter and converter are deprecated, as SQLite's for dates are."""


def _adapt(_: Any) -> str:
    warnings.warn("adapter", DeprecationWarning, stacklevel=2)
    return "old"


def _convert(_: bytes) -> str:
    warnings.warn("converter", DeprecationWarning, stacklevel=2)
    return "old"


def _ways(connection: Any) -> None:
    """Execute and fetch in every way that may warn."""
    cursor = connection.cursor()
    connection.execute("CREATE TABLE t (a old)")
    connection.execute("INSERT INTO t VALUES (?)", (Old(),))
    connection.executemany("INSERT INTO t VALUES (?)", [(Old(),), (Old(),)])
    cursor.execute(
        "INSERT INTO t VALUES (?)",
        (Old(),),
    )
    cursor.executemany("INSERT INTO t VALUES (?)", iter([[Old()]]))
    assert len(cursor.execute("SELECT a FROM t").fetchall()) == 5
    cursor.execute("SELECT a FROM t").fetchone()
    cursor.execute("SELECT a FROM t").fetchmany(2)
    next(cursor)
    for _ in cursor:
        pass
    for (value,) in connection.execute("SELECT a FROM t"):
        assert value == "old"
    if sys.version_info >= (3, 12):
        cursor.execute("SELECT ?", (DAY,))
        cursor.execute("SELECT :a", (1,))
        connection.execute("SELECT :a", (1,))


def _caught(connect: Callable[..., Any], use: Callable[[Any], None]) -> list[tuple[Any, ...]]:
    connection = connect(":memory:", detect_types=sqlite3.PARSE_DECLTYPES)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            use(connection)
    finally:
        connection.close()
    return [(w.category, str(w.message), w.filename, w.lineno) for w in caught]


@pytest.fixture(autouse=True)
def _types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sqlite3.converters, "OLD", _convert)
    monkeypatch.setitem(sqlite3.adapters, (Old, sqlite3.PrepareProtocol), _adapt)


def test_warnings_name_the_line_that_they_name_without_us(application: QueryApplication) -> None:
    plain = _caught(sqlite3.connect, _ways)
    assert len(plain) > 20 and {name for _, _, name, _ in plain} == {__file__}
    watched: list[Any] = []
    application.serve(lambda: watched.append(_caught(wrap_connect(sqlite3.connect), _ways)))
    assert watched == [plain]
    assert _caught(wrap_connect(sqlite3.connect), _ways) == plain  # outside of a request


def test_a_warning_while_connecting_names_the_line_that_connects() -> None:
    def connect(_: str) -> Any:
        warnings.warn("old", DeprecationWarning, stacklevel=2)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrap_connect(connect)(":memory:")
    assert [w.filename for w in caught] == [__file__]


def test_a_warning_that_is_an_error_is_that_of_the_statement(
    application: QueryApplication,
) -> None:
    def view() -> None:
        connection = wrap_connect(sqlite3.connect)(":memory:")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(DeprecationWarning):
                connection.execute("SELECT ?", (Old(),))
        connection.close()

    application.serve(view)
    assert application.queries["SELECT ?"]["failed"] == {"DeprecationWarning": 1}
