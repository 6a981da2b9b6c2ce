"""SQLAlchemy's engines: Core, ORM, Flask-SQLAlchemy and async, each statement once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_knitperf import KnitPerfError
from flask_knitperf.collectors.sql import sqlalchemy
from flask_knitperf.collectors.sql.dbapi import wrap_connect

from .conftest import Asking, line_of


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
def engine(database: Path, asking: Asking) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"sqlite:///{database}")
    asking.mill.perf.queries.instrument(made)
    yield made
    asking.mill.perf.queries.uninstrument(made)
    made.dispose()


def test_core_statements_are_counted_with_line_and_rows(engine: sa.Engine, asking: Asking) -> None:
    def view() -> None:
        with engine.connect() as connection:
            chosen = sa.text("SELECT * FROM yarn WHERE style = :s")
            assert len(connection.execute(chosen, {"s": 3}).all()) == 3  # here

    asking.serve(view, times=2)
    [row] = asking.known["asked"]
    assert row["text"] == "SELECT * FROM yarn WHERE style = ?"
    assert (row["count"], row["rows_mean"]) == (2, 3.0)
    assert row["where"] == f"sql/test_sqlalchemy.py:{line_of(__file__, 'here')}"


def test_instrumenting_twice_counts_once_and_uninstrumenting_ends_it(
    engine: sa.Engine, asking: Asking
) -> None:
    assert asking.mill.perf.queries.instrument(engine) is engine

    def view() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    asking.serve(view)
    asking.mill.perf.queries.uninstrument(engine)
    asking.mill.perf.queries.uninstrument(engine)
    assert asking.mill.get("/ask").body == b"ok"
    assert asking.asked["SELECT ?"]["count"] == 1


def test_what_is_no_engine_is_refused_with_what_to_do(asking: Asking) -> None:
    with pytest.raises(KnitPerfError, match="wrap_connect"):
        asking.mill.perf.queries.instrument(sqlite3.connect)


def test_a_failed_statement_counts_and_raises_what_it_raised(
    engine: sa.Engine, asking: Asking
) -> None:
    def view() -> None:
        with engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
            connection.execute(sa.text("SELECT * FROM gone WHERE a = 'hunter2'"))

    asking.serve(view)
    row = asking.queries["SELECT * FROM gone WHERE a = ?"]
    assert (row["count"], row["failed"]) == (1, {"OperationalError": 1})


def test_many_sets_of_parameters_are_one_execution(engine: sa.Engine, asking: Asking) -> None:
    def view() -> None:
        with engine.begin() as connection:
            connection.execute(sa.insert(Style), [{"id": n, "name": "n"} for n in range(50, 60)])

    asking.serve(view)
    [row] = asking.known["asked"]
    assert (row["count"], row["rows_mean"]) == (1, 10.0)


@pytest.mark.parametrize(("way", "advice"), [("one", "joinedload"), ("many", "selectinload")])
def test_lazy_attributes_are_an_n_plus_one_at_their_line(
    engine: sa.Engine, asking: Asking, way: str, advice: str
) -> None:
    def view() -> None:
        with orm.Session(engine) as session:
            if way == "one":
                for yarn in session.scalars(sa.select(Yarn)).all():
                    assert yarn.made_of.name  # lazy one
            else:
                for style in session.scalars(sa.select(Style)).all():
                    assert len(style.yarns) == 3  # lazy many

    asking.serve(view, times=3)
    [again] = asking.known["repeated"]
    assert (again["kind"], again["requests"], again["per_request"]) == ("n_plus_one", 3, 10.0)
    assert again["where"] == f"sql/test_sqlalchemy.py:{line_of(__file__, f'lazy {way}')}"
    finding = asking.findings()["N_PLUS_ONE"]
    assert advice in finding["recommendation"]
    assert again["where"] in finding["text"]


def test_eager_loading_is_none(engine: sa.Engine, asking: Asking) -> None:
    def view() -> None:
        with orm.Session(engine) as session:
            for eager in (orm.joinedload, orm.selectinload):
                found = session.scalars(sa.select(Style).options(eager(Style.yarns))).unique().all()
                assert sum(len(style.yarns) for style in found) == 30
                session.expunge_all()

    asking.serve(view, times=3)
    assert asking.known["repeated"] == []


def test_a_connection_that_is_watched_itself_counts_once(database: Path, asking: Asking) -> None:
    engine = sa.create_engine("sqlite://", creator=lambda: wrap_connect(sqlite3.connect)(database))
    asking.mill.perf.queries.instrument(engine)

    def view() -> None:
        with engine.connect() as connection:
            assert len(connection.execute(sa.text("SELECT * FROM yarn")).all()) == 30

    asking.serve(view)
    row = asking.asked["SELECT * FROM yarn"]
    assert (row["count"], row["rows_mean"]) == (1, 30.0)
    asking.mill.perf.queries.uninstrument(engine)
    engine.dispose()


def test_engines_of_flask_sqlalchemy_are_found(database: Path, asking: Asking) -> None:
    from flask_sqlalchemy import SQLAlchemy

    app = asking.mill.app
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{database}"
    db = SQLAlchemy(app)
    asking.serve(lambda: db.session.execute(sa.text("SELECT * FROM style")).all())
    assert asking.asked["SELECT * FROM style"]["rows_mean"] == 10.0
    with app.app_context():
        sqlalchemy.uninstrument(db.engine)
        db.engine.dispose()


def test_an_async_engine_is_watched_through_its_sync_one(database: Path, asking: Asking) -> None:
    import asyncio

    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
    assert asking.mill.perf.queries.instrument(engine) is engine

    async def ask() -> int:
        async with engine.connect() as connection:
            return len((await connection.execute(sa.text("SELECT * FROM yarn"))).all())

    async def whole() -> int:
        try:
            return await ask()
        finally:
            await engine.dispose()

    asking.serve(lambda: asyncio.run(whole()))
    assert asking.asked["SELECT * FROM yarn"]["count"] == 1
    asking.mill.perf.queries.uninstrument(engine)


def test_rows_of_all_ways_of_fetching_are_those_of_the_database(
    engine: sa.Engine, asking: Asking
) -> None:
    got: list[Any] = []

    def view() -> None:
        with engine.connect() as connection:
            result = connection.execute(sa.text("SELECT id FROM yarn"))
            got.append(result.fetchone())
            got.extend(result.fetchmany(5))
            got.extend(result)
            for part in connection.execute(sa.text("SELECT id FROM yarn")).partitions(7):
                got.extend(part)

    asking.serve(view)
    assert [row[0] for row in got] == [*range(30)] * 2
    assert asking.asked["SELECT id FROM yarn"]["rows_mean"] == 30.0


def test_a_template_s_line_is_named(engine: sa.Engine, asking: Asking, tmp_path: Path) -> None:
    from flask import render_template

    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "yarns.html").write_text(
        "{# yarns #}\n<ul>\n{% for y in yarns %}\n{{ y.made_of.name }}\n{% endfor %}"
    )

    def view() -> str:
        with orm.Session(engine) as session:
            return render_template("yarns.html", yarns=session.scalars(sa.select(Yarn)).all())

    asking.serve(view, times=3)
    [again] = asking.known["repeated"]
    assert again["where"] == "templates/yarns.html:4"
