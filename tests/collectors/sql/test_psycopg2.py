"""psycopg2: composed statements, and connections of its pools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.core.errors import KnitPerfError

from .conftest import QueryApplication

psycopg2 = pytest.importorskip("psycopg2")
pytestmark = pytest.mark.slow


@pytest.fixture
def pool(postgres_url: str) -> Iterator[Any]:
    from psycopg2.pool import SimpleConnectionPool

    opened = SimpleConnectionPool(1, 1, postgres_url)
    yield opened
    opened.closeall()


def test_composed_statements_are_distinguished_by_their_text(
    application: QueryApplication, postgres_url: str
) -> None:
    from psycopg2 import sql

    def query() -> None:
        with closing(wrap_connect(psycopg2.connect)(postgres_url)) as connection:
            cursor = connection.cursor()
            for name in ("pg_class", "pg_type"):
                statement = sql.SQL("SELECT {} FROM {} LIMIT 1")
                cursor.execute(statement.format(sql.Literal("secret"), sql.Identifier(name)))
                assert cursor.fetchall() == [("secret",)]
            with pytest.raises(psycopg2.Error):
                cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("missing")))

    application.serve(query)
    assert set(application.statements) == {
        'SELECT ? FROM "pg_class" LIMIT ?', 'SELECT ? FROM "pg_type" LIMIT ?',
        'SELECT * FROM "missing"',
    }  # fmt: skip


@pytest.mark.parametrize("name", [None, "on_the_server"])
def test_a_composed_statement_without_parameters_is_rendered_once(
    application: QueryApplication, postgres_url: str, name: str | None
) -> None:
    from psycopg2 import sql

    rendered: list[str] = []

    class Counted(sql.Literal):
        def as_string(self, context: Any) -> str:
            rendered.append(super().as_string(context))
            return rendered[-1]

    def query() -> None:
        with closing(wrap_connect(psycopg2.connect)(postgres_url)) as connection:
            cursor = connection.cursor(name)
            cursor.execute(sql.Composed([sql.SQL("SELECT 'é', "), Counted("secret")]))
            assert cursor.fetchall() == [("é", "secret")]

    application.serve(query)
    assert set(application.statements) == {"SELECT ?, ?"}
    assert rendered == ["'secret'"] * (1 if name is None else 2)


@pytest.mark.parametrize("fetch", [
    lambda cursor: cursor.fetchall(), list,
    lambda cursor: [*cursor.fetchmany(2), cursor.fetchone()],
])  # fmt: skip
def test_rows_of_a_cursor_on_the_server_are_counted_as_they_are_fetched(
    application: QueryApplication, postgres_url: str, fetch: Callable[[Any], Any]
) -> None:
    def query() -> None:
        with closing(wrap_connect(psycopg2.connect)(postgres_url)) as connection:
            cursor = connection.cursor("rows", scrollable=False)
            cursor.execute("SELECT g FROM generate_series(1, 3) g")
            assert len(fetch(cursor)) == 3
            with pytest.raises(psycopg2.Error):
                cursor.execute("SELECT 2")

    application.serve(query)
    assert application.statements["SELECT g FROM generate_series(?) g"]["rows_mean"] == 3


def test_a_connection_of_a_pool_is_wrapped_and_the_original_returned(
    application: QueryApplication, pool: Any
) -> None:
    watch = wrap_connect(lambda connection: connection)

    def query() -> None:
        taken = pool.getconn()
        try:
            watch(taken).cursor().execute("SELECT 1")
        finally:
            pool.putconn(taken)

    application.serve(query, 3)
    assert application.statements["SELECT ?"]["count"] == 3
    with pytest.raises(KnitPerfError, match="keep the one that getconn"):
        wrap_connect(pool.getconn)
