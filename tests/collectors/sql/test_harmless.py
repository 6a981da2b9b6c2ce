"""Transparency: an application gets the results that it would get without instrumentation."""

from __future__ import annotations

import copy
import gc
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa

from flask_knitperf.collectors.sql import explain, sqlalchemy
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.collectors.sql.explain import plan_of
from flask_knitperf.core import code_locations
from tests.conftest import Mill

from .conftest import QueryApplication

ALL = "SELECT id, name FROM yarn"


@pytest.fixture
def connection(database: Path) -> Iterator[Any]:
    connect = wrap_connect(sqlite3.connect)
    with closing(connect(database, check_same_thread=False, isolation_level=None)) as wrapped:
        yield wrapped


class DriverValue:
    """A value that only a driver can convert: it has no hash and no ``repr``."""

    def __conform__(self, _: Any) -> str:
        return "odd"

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Row:
    """A sequence with a length and items only."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize(("statement", "parameters", "row"), [
    ("SELECT ?", (memoryview(bytearray(b"abc")),), (b"abc",)),
    ("SELECT ?, ?", np.array([1.0, 2.0]), (1.0, 2.0)),
    ("SELECT ?", (DriverValue(),), ("odd",)),
    ("SELECT ?, ?", Row(), (0, 1)),
    ("SELECT ?", [bytearray(b"x")], (b"x",)),
    ("SELECT 1", (), (1,)),
])  # fmt: skip
def test_parameters_of_any_type_reach_the_driver(
    connection: Any,
    application: QueryApplication,
    statement: str,
    parameters: Any,
    row: tuple[Any, ...],
) -> None:
    rows: list[Any] = []

    def view() -> None:
        rows.append(connection.execute(statement, parameters).fetchone())
        rows.append(connection.cursor().execute(statement, parameters).fetchone())

    application.serve(view)
    assert rows == [row, row]
    assert sum(row["count"] for row in application.report["asked"]) == 2
    assert "queries failed" not in application.mill.degraded()


def test_a_row_with_an_unhashable_value_is_written(
    database: Path, application: QueryApplication
) -> None:
    engine = sa.create_engine(f"sqlite:///{database}")
    application.mill.perf.queries.instrument(engine)

    def view() -> None:
        with engine.begin() as connection:
            parameters = {"n": memoryview(bytearray(b"a"))}
            connection.execute(sa.text("INSERT INTO yarn (id, name) VALUES (99, :n)"), parameters)

    application.serve(view)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM yarn WHERE id = 99")).scalar() == 1
    sqlalchemy.uninstrument(engine)
    engine.dispose()


@pytest.mark.parametrize(
    "broken",
    [
        "collectors.sql.request_queries.RequestQueries.find",
        "collectors.sql.request_queries.QUERY_COUNTER.add_parameters",
        "core.code_locations.is_own",
    ],
)  # fmt: skip
def test_a_failure_of_ours_is_counted_and_reported(
    connection: Any, application: QueryApplication, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(f"flask_knitperf.{broken}", fail)
    code_locations._call_sites.clear()

    def view() -> None:
        assert len(connection.execute(ALL).fetchall()) == 30
        assert len(list(connection.execute(ALL))) == 30
        assert len(connection.execute("SELECT * FROM yarn WHERE id < ?", [9]).fetchall()) == 9
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("SELECT * FROM gone")
        with pytest.raises(sqlite3.OperationalError):
            connection.cursor().execute("SELECT * FROM gone")

    application.serve(view)
    assert "queries failed" in application.mill.degraded()


def test_a_statement_without_a_text_is_executed(application: QueryApplication) -> None:
    class Composed:
        def as_string(self, _: Any) -> str:
            raise RuntimeError("cannot adapt")

    class Cursor:
        rowcount, description = 1, None

        def execute(self, *_: Any, **__: Any) -> Cursor:
            return self

    class Connection:
        def cursor(self) -> Cursor:
            return Cursor()

    connection = wrap_connect(Connection)()
    application.serve(lambda: connection.cursor().execute(Composed()))
    assert "(Composed)" in application.statements


def test_many_sets_of_parameters_count_where_the_driver_returns_nothing(
    application: QueryApplication,
) -> None:
    class Cursor:
        rowcount, description = 2, None

        def executemany(self, *_: Any) -> None: ...

        execute = executemany

    class Connection:
        def cursor(self) -> Cursor:
            return Cursor()

    connection = wrap_connect(Connection)()
    application.serve(lambda: connection.cursor().executemany("DELETE FROM t", [(1,), (2,)]))
    assert application.statements["DELETE FROM t"]["rows_mean"] == 2.0
    assert "queries failed" not in application.mill.degraded()


def test_positional_and_keyword_arguments_reach_the_driver(application: QueryApplication) -> None:
    calls: list[Any] = []

    class Cursor:
        rowcount, description = 1, None

        def execute(self, query: str, args: Any = None, prepare: bool = False) -> Cursor:
            calls.append((query, args, prepare))
            return self

    class Connection:
        def cursor(self) -> Cursor:
            return Cursor()

    connection = wrap_connect(Connection)()

    def view() -> None:
        cursor = connection.cursor()
        for number in range(6):
            assert cursor.execute("SELECT %s", args=(number,)) is cursor
        cursor.execute(query="SELECT 1")
        cursor.execute("SELECT 2", None, prepare=True)
        with pytest.raises(TypeError):
            cursor.execute()

    application.serve(view)
    assert calls[5:] == [
        ("SELECT %s", (5,), False),
        ("SELECT 1", None, False),
        ("SELECT 2", None, True),
    ]
    assert [repeat["kind"] for repeat in application.report["repeated"]] == ["n_plus_one"]
    assert sum(row["count"] for row in application.report["asked"]) == 9


def test_a_cursor_of_an_engine_behaves_like_the_driver_s(
    database: Path, application: QueryApplication
) -> None:
    engine = application.mill.perf.queries.create_engine(f"sqlite:///{database}")

    def view() -> None:
        with engine.connect() as connection:
            result: Any = connection.execute(sa.text(ALL))
            assert isinstance(result.cursor, sqlite3.Cursor)
            result.cursor.arraysize = 5
            assert len(result.cursor.fetchmany()) == 5

    application.serve(view)
    sqlalchemy.uninstrument(engine)
    engine.dispose()


def test_a_backup_into_a_wrapped_connection_works(connection: Any) -> None:
    with closing(wrap_connect(sqlite3.connect)(":memory:")) as other:
        connection.backup(other)
        assert other.execute("SELECT count(*) FROM yarn").fetchone() == (30,)


def test_a_connection_cannot_be_copied(connection: Any) -> None:
    with pytest.raises(TypeError):
        copy.copy(connection)


def test_a_connection_that_is_awaited_is_left_alone(application: QueryApplication) -> None:
    import asyncio

    import aiosqlite

    async def query() -> Any:
        connect = wrap_connect(aiosqlite.connect)
        async with connect(":memory:") as connection, connection.execute("SELECT 5") as cursor:
            return await cursor.fetchone()

    rows: list[Any] = []
    application.serve(lambda: rows.append(asyncio.run(query())))
    assert rows == [(5,)]


@pytest.mark.parametrize("fetch", [lambda cursor: cursor.fetchall(), list])
def test_a_statement_that_fails_while_fetching_counts_as_failed(
    connection: Any, application: QueryApplication, fetch: Callable[[Any], Any]
) -> None:
    connection.create_function("boom", 1, lambda n: 1 // (10 - n))

    def view() -> None:
        cursor = connection.execute("SELECT boom(id) FROM yarn")
        with pytest.raises(sqlite3.OperationalError):
            fetch(cursor)

    application.serve(view)
    assert application.queries["SELECT boom(id) FROM yarn"]["failed"] == {"OperationalError": 1}


def test_rows_that_a_write_returns_are_counted(
    connection: Any, application: QueryApplication
) -> None:
    statement = "INSERT INTO style (name) VALUES (?), (?) RETURNING id"
    application.serve(lambda: connection.execute(statement, ("a", "b")).fetchall())
    assert (
        application.statements["INSERT INTO style (name) VALUES (?) RETURNING id"]["rows_mean"]
        == 2.0
    )


def test_threads_of_one_request_do_not_take_longer_than_it(
    database: Path, application: QueryApplication
) -> None:
    import contextvars

    spans: list[Any] = []
    slow = "SELECT count(*) FROM yarn a, yarn b, yarn c, yarn d"

    def query() -> None:
        connect = wrap_connect(sqlite3.connect)
        with closing(connect(database)) as connection:
            connection.execute(slow).fetchall()

    def view() -> None:
        spans.append(application.mill.session.recorder.span())
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(query,)) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    application.serve(view)
    [span] = spans
    assert span.parts["sql"][0] == 6
    assert span.parts["sql"][1] <= span.wall


def test_savepoints_have_one_fingerprint(database: Path, application: QueryApplication) -> None:
    engine = application.mill.perf.queries.create_engine(f"sqlite:///{database}")

    def view() -> None:
        with engine.begin() as connection:
            for _ in range(20):
                with connection.begin_nested():
                    pass

    application.serve(view)
    assert set(application.queries) == {"SAVEPOINT ?", "RELEASE SAVEPOINT ?"}
    sqlalchemy.uninstrument(engine)
    engine.dispose()


# -- memory --------------------------------------------------------------------------------------------


def test_instrumentation_does_not_keep_an_engine_alive(application: QueryApplication) -> None:
    engine = application.mill.perf.queries.instrument(sa.create_engine("sqlite://"))
    reference = weakref.ref(engine)
    engine.dispose()
    del engine
    gc.collect()
    assert reference() is None


def test_long_texts_are_not_kept_until_the_request_ends(
    connection: Any, application: QueryApplication
) -> None:
    spans: list[Any] = []

    def view() -> None:
        for number in range(6):
            connection.execute(f"SELECT {number}, '{'x' * 50_000}'").fetchall()
        spans.append(application.mill.session.recorder.span())
        statements = spans[0].notes.queries.statements.values()
        assert [len(statement.text) for statement in statements] == [0] * 6

    application.serve(view)
    [again] = application.report["repeated"]
    assert (again["kind"], again["text"]) == ("n_plus_one", "SELECT ?, ?")
    [event] = spans[0].notes.events
    assert event.as_dict()["shape"] == "SELECT ?, ?" and event.as_dict()["calls"] == 6


def test_a_database_in_memory_survives_a_fork(application: QueryApplication) -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool,
                              connect_args={"check_same_thread": False})  # fmt: skip
    application.mill.perf.queries.instrument(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t AS SELECT 7 AS a"))
    child = os.fork()
    if child == 0:
        try:
            with engine.connect() as connection:
                os._exit(int(connection.execute(sa.text("SELECT a FROM t")).scalar_one()))
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    sqlalchemy.uninstrument(engine)
    engine.dispose()


# -- plans ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lock_that_a_statement_takes_is_not_taken_again(postgres_url: str) -> None:
    with closing(psycopg.connect(postgres_url, autocommit=True)) as one:
        one.execute("SELECT pg_advisory_lock(7)")
        assert plan_of(one, "SELECT pg_advisory_lock(7)", (), reads=True) is not None
        one.execute("SELECT pg_advisory_unlock(7)")
        with closing(psycopg.connect(postgres_url, autocommit=True)) as other:
            assert other.execute("SELECT pg_try_advisory_lock(7)").fetchone() == (True,)


@pytest.mark.parametrize("statement", [
    "EXPLAIN SELECT 1", "PRAGMA user_version", "CREATE TABLE a (b)", "SAVEPOINT a",
])  # fmt: skip
def test_a_statement_without_a_plan_is_not_explained(statement: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert plan_of(connection, statement, (), reads=True) is None


@pytest.mark.parametrize("statement", [
    "SELECT * FROM t WHERE a = 1 UNION SELECT * FROM t WHERE b = 2",
    "SELECT * FROM t WHERE a = b",
    "SELECT * FROM t WHERE a = 4 COLLATE nocase",
    "SELECT * FROM t NOT INDEXED WHERE a = 4",
    "SELECT * FROM main.t WHERE a = 4",
    f"SELECT * FROM t WHERE a = 4 AND b <> '{'x' * 20_000}'",
])  # fmt: skip
def test_no_index_is_proposed_where_it_might_not_help(statement: str) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a INTEGER, b INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, n) for n in range(2000)])
        plan = plan_of(connection, statement, (), reads=True)
        assert plan is not None and plan.scans == ()


def test_an_insert_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: Any) -> None:
        raise AssertionError("nothing is scanned")

    monkeypatch.setattr(explain, "tables", parse)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a)")
        assert plan_of(connection, "INSERT INTO t VALUES (1)", (), reads=False) is not None


@pytest.mark.slow
@pytest.mark.parametrize("how", ["in", "any"])
def test_chunks_of_an_engine_on_postgres_are_not_an_n_plus_one(
    application: QueryApplication, postgres_url: str, how: str
) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    engine = application.mill.perf.queries.create_engine(url)
    table = sa.table("pg_class", sa.column("oid", sa.Integer))

    def view() -> None:
        with engine.connect() as connection:
            for start in range(0, 600, 100):
                ids = [*range(start, start + 100)]
                condition: Any = table.c.oid.in_(ids)
                if how == "any":
                    condition = table.c.oid == sa.any_(sa.cast(ids, sa.ARRAY(sa.Integer)))
                connection.execute(sa.select(table.c.oid).where(condition)).all()

    application.serve(view)
    assert application.report["repeated"] == []
    assert len(application.queries) == 1
    sqlalchemy.uninstrument(engine)
    engine.dispose()


def test_applications_of_one_process_have_separate_settings(
    make_app: Callable[..., Mill], connection: Any, application: QueryApplication
) -> None:
    other = QueryApplication(make_app(TESTING=True, KNITPERF_QUERIES=False, name="other"))
    other.serve(lambda: connection.execute(ALL).fetchall())
    application.serve(lambda: connection.execute(ALL).fetchall())
    assert other.mill.session.documents.queries("run")["queries"] == []
    assert application.statements[ALL]["count"] == 1
