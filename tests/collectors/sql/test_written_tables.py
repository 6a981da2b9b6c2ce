"""Tables: what is written by whatever way has another version, once others can see it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from flask_knitperf.collectors.sql import sqlalchemy
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.collectors.sql.written_tables import EVERYTHING, TABLES, names, written
from flask_knitperf.storage.versions import Versions
from tests.conftest import Mill

ASK = "SELECT name FROM yarn WHERE id = ?"
INSERT = "INSERT INTO yarn (name) VALUES ('a')"


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("INSERT INTO yarn (a) VALUES (1)", "yarn"),
        ('insert or ignore into main."Yarn" select * from x', "yarn"),
        ("REPLACE INTO yarn VALUES (1)", "yarn"),
        ("UPDATE ONLY public.yarn SET a = 1", "yarn"),
        ('UPDATE "Big Yarn" SET a = 1', "big yarn"),
        ("UPDATE `yarn` SET a = 1 -- of style", "yarn"),
        ("delete from [yarn] where a = ?", "yarn"),
        ("WITH n AS (DELETE FROM yarn RETURNING *) INSERT INTO log SELECT * FROM n", "log yarn"),
        ("with n as (select 'it''s' from x) delete from yarn", "yarn"),
        ("COPY yarn FROM STDIN", "yarn"),
        ("TRUNCATE TABLE yarn", "yarn"),
        ("CREATE TEMPORARY TABLE IF NOT EXISTS yarn (a int)", "yarn"),
        ("ALTER TABLE yarn ADD COLUMN b", "yarn"),
        ("DROP TABLE yarn", "yarn"),
        ("CREATE OR REPLACE VIEW yarn AS SELECT 1", "yarn"),
        # several tables: all words, for no table may be missed
        ("TRUNCATE yarn, style", "truncate yarn style"),
        ("UPDATE yarn y, style SET a = b", "update yarn y style set a b"),
        ("UPDATE yarn INNER JOIN style SET a = b", "update yarn inner join style set a b"),
        # it cannot be told what
        ("CALL refresh()", EVERYTHING),
        ("DO $$ begin delete from yarn; end $$", EVERYTHING),
        ("EXECUTE prepared(1)", EVERYTHING),
        ("EXPLAIN ANALYZE DELETE FROM yarn", EVERYTHING),
        ("REFRESH MATERIALIZED VIEW m", EVERYTHING),
        ("DELETE y FROM yarn y JOIN s", EVERYTHING),
        ("select 1; drop table yarn", EVERYTHING),
        ("commit", EVERYTHING),
        # nothing
        ("SELECT * FROM yarn FOR UPDATE", ""),
        ("SELECT 'insert into yarn; delete from yarn'", ""),
        ("WITH n AS (SELECT 1) SELECT * FROM n", ""),
        ("PRAGMA foreign_keys = 1", ""),
        ("SET search_path TO a", ""),
        ("SAVEPOINT a", ""),
        ("CREATE UNIQUE INDEX i ON yarn (a)", ""),
        ("EXPLAIN SELECT 1", ""),
        ("SELECT nextval('s')", ""),
    ],
)
def test_what_a_statement_writes_is_read_off_its_text(statement: str, tables: str) -> None:
    assert written(statement) == set(tables.split())


def test_a_statement_names_whatever_it_may_read() -> None:
    found = names('SELECT y.name FROM public.yarn y JOIN "Big Style" s ON s.id = y.style')
    assert {"yarn", "big", "style"} <= found
    assert names("SELECT " + ", ".join(str(n) for n in range(5000))) == {EVERYTHING}
    assert names("x" * 1_000_000) == {EVERYTHING} == names("")


@pytest.fixture(autouse=True)
def nobody_wants_them() -> Iterator[None]:
    yield
    TABLES.wanted = False
    TABLES._told.clear()


@pytest.fixture
def asking(quiet: Mill) -> Iterator[Callable[[], Any]]:
    """Return what tells the versions of a question."""
    with quiet.app.app_context():
        quiet.perf.queries.table_versions(ASK)
        yield lambda: quiet.perf.queries.table_versions(ASK)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "mill.db")) as connection:
        connection.execute("CREATE TABLE yarn (id INTEGER PRIMARY KEY, name TEXT)")
    return tmp_path / "mill.db"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"sqlite:///{path}")
    sqlalchemy.instrument(made)
    yield made
    sqlalchemy.uninstrument(made)
    made.dispose()


class Told:
    """What others could see each time that versions changed."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[int] = []
        change = Versions.changed

        def changed(versions: Versions, tables: Any) -> None:
            with closing(sqlite3.connect(path)) as connection:
                self.seen += connection.execute("SELECT count(*) FROM yarn").fetchone()
            change(versions, tables)

        monkeypatch.setattr(Versions, "changed", changed)


@pytest.fixture
def told(path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(path, monkeypatch)


# -- engines -----------------------------------------------------------------------------------------


def test_an_engine_tells_when_a_statement_ran_and_once_more_when_it_is_committed(
    asking: Callable[[], Any], engine: sa.Engine, told: Told
) -> None:
    before = asking()
    with engine.begin() as connection:
        connection.execute(sa.text(INSERT))
        during = asking()
        assert during != before and told.seen == [0]
    assert asking() not in (before, during) and told.seen == [0, 1]


def test_what_is_only_read_changes_nothing(asking: Callable[[], Any], engine: sa.Engine) -> None:
    before = asking()
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT * FROM yarn")).all()
        connection.execute(sa.text("CREATE TABLE other (a INTEGER)"))
        connection.execute(sa.text("INSERT INTO other VALUES (1)"))
    assert asking() == before


def test_each_statement_of_an_engine_that_commits_by_itself_tells(
    asking: Callable[[], Any], engine: sa.Engine, told: Told
) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(INSERT))
        assert told.seen == [1]


def test_commits_in_two_phases_tell_too(asking: Callable[[], Any], path: Path) -> None:
    def commit(connection: Any, _: str) -> None:
        connection.commit()

    engine = sa.create_engine(f"sqlite:///{path}")
    engine.dialect.do_commit_twophase = commit  # type: ignore[method-assign,assignment]
    sqlalchemy.instrument(engine)
    with engine.connect() as connection:
        connection.execute(sa.text(INSERT))
        before = asking()
        engine.dialect.do_commit_twophase(connection, "x")
        assert asking() != before
    sqlalchemy.uninstrument(engine)
    assert engine.dialect.do_commit_twophase is commit
    engine.dispose()


def test_engines_from_before_anybody_wanted_versions_tell_as_well(quiet: Mill, path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    sqlalchemy.instrument(engine)
    commit = engine.dialect.do_commit
    with quiet.app.app_context():
        before = quiet.perf.queries.table_versions(ASK)
        quiet.perf.queries.table_versions(ASK)
        with engine.begin() as connection:
            connection.execute(sa.text(INSERT))
        assert quiet.perf.queries.table_versions(ASK) != before
    sqlalchemy.uninstrument(engine)
    assert engine.dialect.do_commit == commit
    engine.dispose()


# -- connections -------------------------------------------------------------------------------------


def sqlite(path: Path, **options: Any) -> Any:
    return wrap_connect(sqlite3.connect)(path, **options)


def in_a_block(connection: Any) -> None:
    with connection:
        connection.execute(INSERT)


def by_cursor(connection: Any) -> None:
    connection.cursor().execute(INSERT)
    connection.commit()


def by_many(connection: Any) -> None:
    connection.cursor().executemany("INSERT INTO yarn (name) VALUES (?)", [("a",)])
    connection.commit()


def by_text(connection: Any) -> None:
    connection.execute("BEGIN")
    connection.execute(INSERT)
    connection.execute("COMMIT")


@pytest.mark.parametrize("way", [in_a_block, by_cursor, by_many, by_text])
def test_a_connection_tells_when_it_commits(
    asking: Callable[[], Any], path: Path, told: Told, way: Callable[[Any], None]
) -> None:
    before = asking()
    with closing(sqlite(path)) as connection:
        way(connection)
        assert asking() != before and told.seen == [0, 1]


def test_a_script_may_change_everything(asking: Callable[[], Any], path: Path) -> None:
    with closing(sqlite(path)) as connection:
        before = asking()
        connection.executescript(f"{INSERT}; SELECT 1")
        assert asking() != before


def test_a_commit_that_fails_may_have_happened(asking: Callable[[], Any]) -> None:
    class Cursor:
        rowcount, description = 1, None

        def execute(self, _: str) -> None:
            pass

    class Connection:
        def cursor(self) -> Cursor:
            return Cursor()

        def commit(self) -> None:
            raise OSError("the line is dead")

    connection = wrap_connect(Connection)()
    connection.cursor().execute(INSERT)
    before = asking()
    with suppress(OSError):
        connection.commit()
    assert asking() != before


def test_whatever_fails_of_ours_the_statement_was_sent(
    asking: Callable[[], Any], path: Path, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(*_: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(TABLES, "executed", fail)
    with closing(sqlite(path)) as connection:
        in_a_block(connection)
    with engine.begin() as open_one:
        open_one.execute(sa.text(INSERT))
    assert caplog.text.count("versions of tables failed") == 2
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("SELECT count(*) FROM yarn").fetchone() == (2,)


@pytest.mark.slow
def test_transactions_of_psycopg_tell_when_they_end(
    asking: Callable[[], Any], postgres_url: str
) -> None:
    with closing(wrap_connect(psycopg.connect)(postgres_url, autocommit=True)) as connection:
        connection.execute("CREATE TEMPORARY TABLE yarn (id int, name text)")
        with connection.transaction() as transaction:
            assert isinstance(transaction, psycopg.Transaction)
            connection.execute("INSERT INTO yarn VALUES (1, 'a')")
            during = asking()
        assert asking() != during
    with closing(sqlite3.connect(":memory:")) as plain:
        assert not hasattr(wrap_connect(lambda: plain)(), "transaction")


# -- an application ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", [INSERT, "SELECT random()", "SELECT " + "a, " * 2000 + "a", "CALL f()"]
)
def test_what_must_not_be_remembered_has_no_version(quiet: Mill, statement: str) -> None:
    with quiet.app.app_context():
        assert quiet.perf.queries.table_versions(statement) is None
        assert not quiet.perf.queries.tables_are_shared


def test_what_another_process_writes_is_told(make_app: Callable[..., Mill], path: Path) -> None:
    mill = make_app()
    with mill.app.app_context():
        queries = mill.perf.queries
        assert queries.table_versions(ASK) is None  # the others have to notice first
        mill.session.recorder.versions._from = 0
        before = queries.table_versions(ASK)
        assert (
            before is not None
            and queries.table_versions(ASK) == before
            and queries.tables_are_shared
        )
    child = os.fork()
    if not child:  # as a command would, that never takes a request
        TABLES.wanted = False
        TABLES._told.clear()
        make_app()
        with closing(sqlite(path)) as connection:
            in_a_block(connection)
        os._exit(0 if TABLES.wanted else 1)
    assert os.waitpid(child, 0)[1] == 0
    with mill.app.app_context():
        assert queries.table_versions(ASK) != before


def test_a_worker_heeds_what_another_one_wants(make_app: Callable[..., Mill]) -> None:
    mill = make_app()
    mill.session.jobs.enable_table_tracking()
    assert not TABLES.wanted
    Versions(lambda: Path(mill.app.config["KNITPERF_STATE_DIR"])).of([])
    mill.session.jobs.enable_table_tracking()
    assert TABLES.wanted and mill.session.recorder.versions in TABLES
