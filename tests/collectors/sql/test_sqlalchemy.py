"""Engines of SQLAlchemy: Core, ORM, Flask-SQLAlchemy and async; every statement counts once."""

from __future__ import annotations

import contextvars
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_knitperf import KnitPerfError
from flask_knitperf.collectors.sql import sqlalchemy
from flask_knitperf.collectors.sql.dbapi import wrap_connect

from .conftest import QueryApplication, line_of


class Base(orm.DeclarativeBase):
    pass


class Style(Base):
    __tablename__ = "style"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    yarns: orm.Mapped[list[Yarn]] = orm.relationship(back_populates="made_of")


class Yarn(Base):
    __tablename__ = "yarn"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    style: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("style.id"))
    made_of: orm.Mapped[Style] = orm.relationship(back_populates="yarns")


@pytest.fixture
def engine(database: Path, application: QueryApplication) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{database}")
    application.mill.perf.queries.instrument(engine)
    yield engine
    application.mill.perf.queries.uninstrument(engine)
    engine.dispose()


def test_core_statements_are_counted_with_line_and_rows(
    engine: sa.Engine, application: QueryApplication
) -> None:
    def view() -> None:
        with engine.connect() as connection:
            query = sa.text("SELECT * FROM yarn WHERE style = :s")
            assert len(connection.execute(query, {"s": 3}).all()) == 3  # here

    application.serve(view, times=2)
    [row] = application.report["asked"]
    assert row["text"] == "SELECT * FROM yarn WHERE style = ?"
    assert (row["count"], row["rows_mean"]) == (2, 3.0)
    assert row["where"] == f"sql/test_sqlalchemy.py:{line_of(__file__, 'here')}"


def test_instrumenting_twice_counts_once_and_uninstrumenting_ends_it(
    engine: sa.Engine, application: QueryApplication
) -> None:
    assert application.mill.perf.queries.instrument(engine) is engine

    def view() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    application.serve(view)
    application.mill.perf.queries.uninstrument(engine)
    application.mill.perf.queries.uninstrument(engine)
    assert application.mill.get("/ask").body == b"ok"
    assert application.statements["SELECT ?"]["count"] == 1


def test_an_object_that_is_not_an_engine_is_refused_with_advice(
    application: QueryApplication,
) -> None:
    with pytest.raises(KnitPerfError, match="wrap_connect"):
        application.mill.perf.queries.instrument(sqlite3.connect)


def test_a_failed_statement_counts_and_raises_its_error(
    engine: sa.Engine, application: QueryApplication
) -> None:
    def view() -> None:
        with engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
            connection.execute(sa.text("SELECT * FROM gone WHERE a = 'hunter2'"))

    application.serve(view)
    row = application.queries["SELECT * FROM gone WHERE a = ?"]
    assert (row["count"], row["failed"]) == (1, {"OperationalError": 1})


def test_several_sets_of_parameters_are_one_execution(
    engine: sa.Engine, application: QueryApplication
) -> None:
    def view() -> None:
        with engine.begin() as connection:
            connection.execute(sa.insert(Style), [{"id": n, "name": "n"} for n in range(50, 60)])

            connection.execute(
                sa.delete(Style).where(Style.id == sa.bindparam("n")),
                [{"n": n} for n in range(50, 60)],
            )

    application.serve(view)
    assert application.statements["DELETE FROM style WHERE style.id = ?"]["rows_mean"] == 10.0
    assert [row["count"] for row in application.report["asked"]] == [1, 1]


def test_the_cursor_of_events_context_and_result_is_the_drivers(
    engine: sa.Engine, application: QueryApplication
) -> None:
    cursors: list[Any] = []
    sa.event.listen(engine, "after_cursor_execute", lambda _, cursor, *__: cursors.append(cursor))

    def view() -> None:
        with engine.connect() as connection:
            for options in ({}, {"stream_results": True}, {"yield_per": 2}):
                result = connection.execute(sa.select(Style), execution_options=options)
                assert result.context.cursor is cursors[-1] is result.cursor
                assert len(result.all()) == 10 and result.context.cursor is cursors[-1]

    application.serve(view)
    assert [type(cursor) for cursor in cursors] == [sqlite3.Cursor] * 3
    assert application.report["asked"][0]["rows_mean"] == 10.0


class Cursor(sqlite3.Cursor):
    """A cursor that notes of which statements the number of rows is read."""

    reads: ClassVar[list[str]] = []
    statement = ""

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        self.statement = sql
        return super().execute(sql, parameters)

    @property
    def rowcount(self) -> int:  # type: ignore[override]
        self.reads.append(self.statement)
        return super().rowcount


class Connection(sqlite3.Connection):
    """A connection with such cursors."""

    def cursor(self, factory: Any = Cursor) -> Any:
        return super().cursor(factory)


def test_the_row_count_is_read_only_of_statements_of_which_sqlalchemy_reads_it(
    database: Path, application: QueryApplication
) -> None:
    engine = sa.create_engine(f"sqlite:///{database}", connect_args={"factory": Connection})

    def view() -> None:
        with engine.connect() as connection:
            connection.execute(sa.select(Style)).all()
            connection.execute(sa.text("SELECT 1")).all()
            connection.execute(sa.insert(Style), {"id": 90, "name": "n"})
            connection.execute(sa.update(Style).values(name="m").where(Style.id == 90))
            connection.execute(sa.text("DELETE FROM style WHERE id = 90"))

    view()
    Cursor.reads.clear()
    view()
    unwatched = Cursor.reads.copy()
    application.mill.perf.queries.instrument(engine)
    Cursor.reads.clear()
    application.serve(view)
    assert Cursor.reads == unwatched and len(unwatched) == 2
    means = sorted((text.split()[0], row["rows_mean"] or 0)
                   for text, row in application.statements.items())  # fmt: skip
    assert means == [("DELETE", 1), ("INSERT", 0), ("SELECT", 1), ("SELECT", 10), ("UPDATE", 1)]
    application.mill.perf.queries.uninstrument(engine)
    engine.dispose()


@pytest.mark.parametrize(("way", "advice"), [("one", "joinedload"), ("many", "selectinload")])
def test_lazy_attributes_are_an_n_plus_one_at_their_line(
    engine: sa.Engine, application: QueryApplication, way: str, advice: str
) -> None:
    def view() -> None:
        with orm.Session(engine) as session:
            if way == "one":
                for yarn in session.scalars(sa.select(Yarn)).all():
                    assert yarn.made_of.name  # lazy one
            else:
                for style in session.scalars(sa.select(Style)).all():
                    assert len(style.yarns) == 3  # lazy many

    application.serve(view, times=3)
    [repeat] = application.report["repeated"]
    assert (repeat["kind"], repeat["requests"], repeat["per_request"]) == ("n_plus_one", 3, 10.0)
    assert repeat["where"] == f"sql/test_sqlalchemy.py:{line_of(__file__, f'lazy {way}')}"
    finding = application.findings()["N_PLUS_ONE"]
    assert advice in finding["recommendation"]
    assert repeat["where"] in finding["text"]
    row = application.mill.row("ask")
    assert (
        repeat["time_spent_s"]
        < repeat["avoidable_s"]
        <= row["time_spent_s"] + 0.001  # both are rounded
    )  # the ORM's work too
    [cause] = finding["why"]
    assert finding["saving"]["share"] == pytest.approx(cause["share"], abs=2e-4)  # one is cut
    assert finding["severity"] == "WARNING"


def test_eager_loading_is_not_an_n_plus_one(
    engine: sa.Engine, application: QueryApplication
) -> None:
    def view() -> None:
        with orm.Session(engine) as session:
            for eager in (orm.joinedload, orm.selectinload):
                query = sa.select(Style).options(eager(Style.yarns))
                styles = session.scalars(query).unique().all()
                assert sum(len(style.yarns) for style in styles) == 30
                session.expunge_all()

    application.serve(view, times=3)
    assert application.report["repeated"] == []


def test_a_wrapped_connection_of_an_engine_counts_once(
    database: Path, application: QueryApplication
) -> None:
    engine = sa.create_engine("sqlite://", creator=lambda: wrap_connect(sqlite3.connect)(database))
    application.mill.perf.queries.instrument(engine)

    def view() -> None:
        with engine.connect() as connection:
            assert len(connection.execute(sa.text("SELECT * FROM yarn")).all()) == 30

    application.serve(view)
    row = application.statements["SELECT * FROM yarn"]
    assert (row["count"], row["rows_mean"]) == (1, 30.0)
    application.mill.perf.queries.uninstrument(engine)
    engine.dispose()


def test_engines_of_flask_sqlalchemy_are_instrumented(
    database: Path, application: QueryApplication
) -> None:
    from flask_sqlalchemy import SQLAlchemy

    app = application.mill.app
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{database}"
    db = SQLAlchemy(app)
    application.serve(lambda: db.session.execute(sa.text("SELECT * FROM style")).all())
    assert application.statements["SELECT * FROM style"]["rows_mean"] == 10.0
    with app.app_context():
        sqlalchemy.uninstrument(db.engine)
        db.engine.dispose()


def test_an_async_engine_is_instrumented_through_its_sync_engine(
    database: Path, application: QueryApplication
) -> None:
    import asyncio

    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
    assert application.mill.perf.queries.instrument(engine) is engine

    async def query() -> int:
        async with engine.connect() as connection:
            return len((await connection.execute(sa.text("SELECT * FROM yarn"))).all())

    async def query_and_dispose() -> int:
        try:
            return await query()
        finally:
            await engine.dispose()

    application.serve(lambda: asyncio.run(query_and_dispose()))
    assert application.statements["SELECT * FROM yarn"]["count"] == 1
    application.mill.perf.queries.uninstrument(engine)


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("options", [{}, {"stream_results": True}, {"yield_per": 10}])
def test_rows_of_a_cursor_on_the_server_are_counted_and_the_cursor_is_the_drivers(
    application: QueryApplication, postgres_url: str, driver: str, options: dict[str, Any]
) -> None:
    url = postgres_url.replace("postgresql://", f"postgresql+{driver}://")
    engine = application.mill.perf.queries.create_engine(url)
    cursors: list[Any] = []
    sa.event.listen(engine, "after_cursor_execute", lambda _, cursor, *__: cursors.append(cursor))
    numbers = sa.select(sa.func.generate_series(1, 50))

    def view() -> None:
        with engine.connect() as connection:
            for statement in (numbers, sa.text("SELECT generate_series(1, 50)")):
                result = connection.execute(statement, execution_options=options)
                assert result.context.cursor is cursors[-1] is result.cursor
                assert [row[0] for row in result] == [*range(1, 51)]
            connection.execute(sa.text("CREATE TEMPORARY TABLE t AS SELECT 1 AS a"))
            connection.execute(sa.text("UPDATE t SET a = 2"))
            connection.execute(sa.text("INSERT INTO t VALUES (3) RETURNING a")).one()

    application.serve(view)
    means = {text.split()[0]: row["rows_mean"] for text, row in application.statements.items()}
    assert (means["SELECT"], means["UPDATE"], means["INSERT"]) == (50.0, 1.0, 1.0)
    application.mill.perf.queries.uninstrument(engine)
    engine.dispose()


def fetch_in_steps(result: Any) -> list[Any]:
    return [result.fetchone(), *result.fetchmany(6), *result.fetchmany(), *result.fetchall()]


@pytest.mark.parametrize("options", [{}, {"stream_results": True}])
def test_an_error_while_rows_are_fetched_is_that_of_sqlalchemy_and_counts(
    engine: sa.Engine, application: QueryApplication, options: dict[str, Any]
) -> None:
    @sa.event.listens_for(engine, "connect")
    def add_function(connection: Any, _: Any) -> None:
        connection.create_function("boom", 1, lambda n: 1 // (10 - n))

    def view() -> None:
        with engine.connect() as connection:
            result = connection.execution_options(**options).execute(
                sa.select(sa.func.boom(Yarn.id))
            )
            with pytest.raises(sa.exc.OperationalError):
                result.all()

    application.serve(view)
    [row] = application.queries.values()
    assert row["failed"] == {"OperationalError": 1}


def test_every_way_of_fetching_returns_the_rows(
    engine: sa.Engine, application: QueryApplication
) -> None:
    rows: list[Any] = []

    def view() -> None:
        with engine.connect() as connection:
            result = connection.execute(sa.text("SELECT id FROM yarn"))
            rows.append(result.fetchone())
            rows.extend(result.fetchmany(5))
            rows.extend(result)
            for part in connection.execute(sa.text("SELECT id FROM yarn")).partitions(7):
                rows.extend(part)
            rows.extend(connection.execute(sa.text("SELECT id FROM yarn")).yield_per(4))
            streaming = connection.execution_options(stream_results=True, max_row_buffer=3)
            statement = sa.select(Yarn.id)
            for fetch in (list, fetch_in_steps, lambda result: result.yield_per(4).all()):
                rows.extend(fetch(streaming.execute(statement)))

    application.serve(view)
    assert [row[0] for row in rows] == [*range(30)] * 6
    assert application.statements["SELECT yarn.id FROM yarn"]["rows_mean"] == 30.0
    assert application.statements["SELECT id FROM yarn"]["rows_mean"] == 30.0


def test_the_call_site_may_be_a_line_of_a_template(
    engine: sa.Engine, application: QueryApplication, tmp_path: Path
) -> None:
    from flask import render_template

    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "yarns.html").write_text(
        "{# yarns #}\n<ul>\n{% for y in yarns %}\n{{ y.made_of.name }}\n{% endfor %}"
    )

    def view() -> str:
        with orm.Session(engine) as session:
            return render_template("yarns.html", yarns=session.scalars(sa.select(Yarn)).all())

    application.serve(view, times=3)
    [repeat] = application.report["repeated"]
    assert repeat["where"] == "templates/yarns.html:4"


def test_connections_of_the_driver_that_an_engine_hands_out_can_be_wrapped(
    application: QueryApplication, database: Path
) -> None:
    engine = sa.create_engine(f"sqlite:///{database}")
    sqlalchemy.instrument(engine)
    connect = wrap_connect(engine.raw_connection)

    def view() -> None:
        with closing(connect()) as connection:
            assert len(connection.cursor().execute("SELECT id FROM style").fetchall()) == 10
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1")).all()

    application.serve(view)
    counts = {text: row["count"] for text, row in application.queries.items()}
    assert counts == {"SELECT id FROM style": 1, "SELECT ?": 1}
    sqlalchemy.uninstrument(engine)
    engine.dispose()


# -- the price of repeats ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_request_with_thousands_of_queries_has_the_price_of_all(
    engine: sa.Engine, application: QueryApplication
) -> None:
    def view() -> None:
        query = sa.text("SELECT name FROM yarn WHERE id = :id")
        with engine.connect() as connection:
            for number in range(2500):
                connection.execute(query, {"id": number}).first()

    application.serve(view, times=3)
    [repeat] = application.report["repeated"]
    assert repeat["per_request"] == 2500
    row = application.mill.row("ask")
    assert (
        repeat["time_spent_s"] < repeat["avoidable_s"] <= row["time_spent_s"] + 0.001
    )  # both are rounded


def test_queries_of_several_threads_are_never_priced_above_the_time_of_their_requests(
    engine: sa.Engine, application: QueryApplication
) -> None:
    def query_rows() -> None:
        query = sa.text("SELECT name FROM yarn WHERE id = :id")
        with engine.connect() as connection:
            for number in range(50):
                connection.execute(query, {"id": number}).first()

    def view() -> None:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(contextvars.copy_context().run, query_rows)

    application.serve(view, times=3)
    finding = application.findings()["N_PLUS_ONE"]
    assert 0 < finding["saving"]["share"] <= 1
    assert finding["saving"]["seconds"] <= finding["time_spent_s"]
    assert sum(cause["share"] for cause in finding["why"]) <= 1


def test_rows_that_are_never_fetched_or_fetched_late_have_a_price(
    engine: sa.Engine, application: QueryApplication
) -> None:
    def view() -> None:
        query = sa.text("SELECT name FROM yarn WHERE id = :id")
        with engine.connect() as connection:
            results = [connection.execute(query, {"id": number}) for number in range(20)]
            for result in results[5:]:
                result.all()

    application.serve(view, times=3)
    finding = application.findings()["N_PLUS_ONE"]
    assert 0 < finding["saving"]["seconds"] <= finding["time_spent_s"]
