"""Written tables: every way of writing changes their versions, once others can see the change."""

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
from flask_knitperf.collectors.sql.connection_writes import ALL_TABLES, SCHEMA
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.collectors.sql.written_tables import (
    WRITTEN_TABLES,
    effects_of,
    names,
    written,
)
from flask_knitperf.storage.versions import Versions, is_being_written
from tests.conftest import Mill

QUERY = "SELECT name FROM yarn WHERE id = ?"
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
        # several tables: all words, so that no table is missed
        ("TRUNCATE yarn, style", "truncate yarn style"),
        ("UPDATE yarn y, style SET a = b", "update yarn y style set a b"),
        ("UPDATE yarn INNER JOIN style SET a = b", "update yarn inner join style set a b"),
        # not recognisable
        ("CALL refresh()", ALL_TABLES),
        ("DO $$ begin delete from yarn; end $$", ALL_TABLES),
        ("EXECUTE prepared(1)", ALL_TABLES),
        ("EXPLAIN ANALYZE DELETE FROM yarn", ALL_TABLES),
        ("REFRESH MATERIALIZED VIEW m", ALL_TABLES),
        ("DELETE y FROM yarn y JOIN s", ALL_TABLES),
        ("select 1; drop table yarn", ALL_TABLES),
        ("SELECT * INTO log FROM yarn", ALL_TABLES),
        ("PREPARE TRANSACTION 'x'", ALL_TABLES),
        ("commit", ALL_TABLES),
        # nothing
        ("SELECT * FROM yarn FOR UPDATE", ""),
        ("SELECT 'insert into yarn; delete from yarn'", ""),
        ("SELECT a FROM yarn WHERE b = 'into'", ""),
        ("WITH n AS (SELECT 1) SELECT * FROM n", ""),
        ("PRAGMA foreign_keys = 1", ""),
        ("SET search_path TO a", ""),
        ("SAVEPOINT a", ""),
        ("CREATE UNIQUE INDEX i ON yarn (a)", ""),
        ("EXPLAIN SELECT 1", ""),
        ("SELECT nextval('s')", ""),
    ],
)
def test_written_tables_are_parsed_from_the_text(statement: str, tables: str) -> None:
    assert written(statement) == set(tables.split())


def test_the_names_in_a_statement_include_the_tables_it_reads() -> None:
    words = names('SELECT y.name FROM public.yarn y JOIN "Big Style" s ON s.id = y.style')
    assert {"yarn", "big", "style"} <= words
    assert names("SELECT " + ", ".join(str(n) for n in range(5000))) == {ALL_TABLES}
    assert names("x" * 1_000_000) == {ALL_TABLES} == names("")


def unsubscribe_all() -> None:
    WRITTEN_TABLES.has_subscribers = False
    WRITTEN_TABLES._subscribers.clear()


@pytest.fixture(autouse=True)
def no_subscribers() -> Iterator[None]:
    yield
    unsubscribe_all()


@pytest.fixture
def version(quiet: Mill) -> Iterator[Callable[[], Any]]:
    """A function that returns the table versions of a query."""
    with quiet.app.app_context():
        quiet.perf.queries.table_versions(QUERY)
        yield lambda: quiet.perf.queries.table_versions(QUERY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "mill.db")) as connection:
        connection.execute("CREATE TABLE yarn (id INTEGER PRIMARY KEY, name TEXT)")
    return tmp_path / "mill.db"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{path}")
    sqlalchemy.instrument(engine)
    yield engine
    sqlalchemy.uninstrument(engine)
    engine.dispose()


class VisibleRows:
    """Numbers of rows that others could see each time that versions changed."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: list[int] = []
        change = Versions.changed

        def changed(versions: Versions, tables: Any) -> None:
            with closing(sqlite3.connect(path)) as connection:
                self.counts += connection.execute("SELECT count(*) FROM yarn").fetchone()
            change(versions, tables)

        monkeypatch.setattr(Versions, "changed", changed)


@pytest.fixture
def visible(path: Path, monkeypatch: pytest.MonkeyPatch) -> VisibleRows:
    return VisibleRows(path, monkeypatch)


# -- engines -----------------------------------------------------------------------------------------


def test_an_engine_publishes_at_execution_and_again_at_commit(
    version: Callable[[], Any], engine: sa.Engine, visible: VisibleRows
) -> None:
    before = version()
    with engine.begin() as connection:
        connection.execute(sa.text(INSERT))
        during = version()
        assert during != before and visible.counts == [0]
    assert version() not in (before, during) and visible.counts == [0, 1]


def test_reads_and_other_tables_change_no_version(
    version: Callable[[], Any], engine: sa.Engine
) -> None:
    before = version()
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT * FROM yarn")).all()
        connection.execute(sa.text("CREATE TABLE other (a INTEGER)"))
        connection.execute(sa.text("INSERT INTO other VALUES (1)"))
    assert version() == before


def test_an_engine_in_autocommit_mode_publishes_at_execution(
    version: Callable[[], Any], engine: sa.Engine, visible: VisibleRows
) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(INSERT))
        assert visible.counts == [1]


def test_two_phase_commits_publish_too(version: Callable[[], Any], path: Path) -> None:
    def commit(connection: Any, _: str) -> None:
        connection.commit()

    engine = sa.create_engine(f"sqlite:///{path}")
    engine.dialect.do_commit_twophase = commit  # type: ignore[method-assign,assignment]
    sqlalchemy.instrument(engine)
    with engine.connect() as connection:
        connection.execute(sa.text(INSERT))
        before = version()
        engine.dialect.do_commit_twophase(connection, "x")
        assert version() != before
    sqlalchemy.uninstrument(engine)
    assert engine.dialect.do_commit_twophase is commit
    engine.dispose()


def test_engines_instrumented_before_the_first_subscription_publish_too(
    quiet: Mill, path: Path
) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    sqlalchemy.instrument(engine)
    commit = engine.dialect.do_commit
    with quiet.app.app_context():
        before = quiet.perf.queries.table_versions(QUERY)
        quiet.perf.queries.table_versions(QUERY)
        with engine.begin() as connection:
            connection.execute(sa.text(INSERT))
        assert quiet.perf.queries.table_versions(QUERY) != before
    sqlalchemy.uninstrument(engine)
    assert engine.dialect.do_commit == commit
    engine.dispose()


@pytest.mark.parametrize("more", [(), ("SELECT 1",)])
def test_a_transaction_that_was_open_before_tracking_began_publishes_everything(
    quiet: Mill, engine: sa.Engine, more: tuple[str, ...]
) -> None:
    unsubscribe_all()
    with quiet.app.app_context(), engine.connect() as connection:
        connection.execute(sa.text(INSERT))
        quiet.perf.queries.table_versions(QUERY)
        before = quiet.perf.queries.table_versions(QUERY)
        for statement in more:
            connection.execute(sa.text(statement))
        connection.commit()
        assert quiet.perf.queries.table_versions(QUERY) != before


def test_a_commit_of_a_prepared_transaction_publishes_everything(
    version: Callable[[], Any],
) -> None:
    before = version()
    writes = WRITTEN_TABLES.writes(is_new=True)
    WRITTEN_TABLES.on_execute("COMMIT PREPARED 'elsewhere'", writes)
    assert version() != before and not writes.tables


def test_a_connection_that_is_lost_in_a_statement_leaves_no_mark(
    version: Callable[[], Any],
) -> None:
    writes = WRITTEN_TABLES.writes(is_new=True)
    WRITTEN_TABLES.before_execute(INSERT, writes)
    assert any(map(is_being_written, version()))
    del writes
    assert not any(map(is_being_written, version()))


def test_a_script_stops_no_cache_while_it_runs_but_while_it_is_committed(
    version: Callable[[], Any],
) -> None:
    writes = WRITTEN_TABLES.writes(is_new=True)
    WRITTEN_TABLES.before_execute("CALL refresh()", writes)
    assert not any(map(is_being_written, version()))
    WRITTEN_TABLES.on_execute("CALL refresh()", writes)
    WRITTEN_TABLES.before_end(writes)
    assert any(map(is_being_written, version()))
    WRITTEN_TABLES.on_end(writes)
    assert not any(map(is_being_written, version()))


def test_a_forked_child_leaves_the_marks_of_its_parent(version: Callable[[], Any]) -> None:
    writes = WRITTEN_TABLES.writes(is_new=True)
    WRITTEN_TABLES.before_execute(INSERT, writes)
    ended: list[Any] = []
    writes.end, writes.process = ended.append, writes.process + 1
    del writes
    assert not ended


def test_a_savepoint_of_a_driver_publishes_and_keeps_what_is_not_committed(
    version: Callable[[], Any],
) -> None:
    writes = WRITTEN_TABLES.writes(is_new=True)
    WRITTEN_TABLES.on_execute(INSERT, writes)
    WRITTEN_TABLES.before_end(writes)
    WRITTEN_TABLES.on_savepoint(writes)
    assert writes.tables == {"yarn"} and not any(map(is_being_written, version()))


@pytest.mark.parametrize(
    ("statement", "isolation", "settings", "temporary"),
    [
        ("SELECT 1", False, False, False), ("INSERT INTO yarn VALUES (1)", False, False, False),
        ("SAVEPOINT a", False, False, False), ("PRAGMA main.table_info(yarn)", False, False, False),
        ("SET search_path TO a", False, True, False), ("RESET ALL", False, True, False),
        ("SELECT set_config('a.b', 'c', true)", False, True, False),
        ("USE other", False, True, False), ("ATTACH 'a.db' AS a", False, True, False),
        ("PRAGMA read_uncommitted = 1", False, True, False), ("CALL f()", False, True, False),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", True, False, False),
        ("SET TRANSACTION SNAPSHOT 'x'", True, True, False),
        ("CREATE TEMP TABLE yarn (a int)", False, True, True),
        ("CREATE LOCAL TEMPORARY VIEW v AS SELECT 1", False, True, True),
        ("SELECT 1 INTO TEMP yarn", False, False, True),
        ("CREATE TABLE temperature (a int)", False, True, False),
    ],
)  # fmt: skip
def test_effects_on_the_session_are_parsed_from_the_text(
    statement: str, isolation: bool, settings: bool, temporary: bool
) -> None:
    assert effects_of(statement).session == (isolation, settings, temporary)


@pytest.mark.parametrize(
    ("statement", "defines"),
    [
        ("CREATE VIEW v AS SELECT 1", True), ("ALTER TABLE yarn ADD b int", True),
        ("DROP TABLE yarn", True), ("GRANT SELECT ON yarn TO a", True), ("CALL f()", True),
        ("CREATE TEMPORARY TABLE yarn (a int)", False), ("TRUNCATE yarn", False),
        ("UPDATE yarn SET a = 1", False), ("SELECT 1", False),
    ],
)  # fmt: skip
def test_a_change_of_the_schema_is_parsed_from_the_text(statement: str, defines: bool) -> None:
    assert (SCHEMA in effects_of(statement).tables) is defines


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
def test_a_connection_publishes_at_execution_and_again_at_commit(
    version: Callable[[], Any], path: Path, visible: VisibleRows, way: Callable[[Any], None]
) -> None:
    before = version()
    with closing(sqlite(path)) as connection:
        way(connection)
        assert version() != before and visible.counts == [0, 1]


def test_a_script_counts_as_writing_every_table(version: Callable[[], Any], path: Path) -> None:
    with closing(sqlite(path)) as connection:
        before = version()
        connection.executescript(f"{INSERT}; SELECT 1")
        assert version() != before


def test_a_failed_commit_publishes_too(version: Callable[[], Any]) -> None:
    class Cursor:
        rowcount, description = 1, None

        def execute(self, _: str) -> None:
            pass

    class Connection:
        def cursor(self) -> Cursor:
            return Cursor()

        def commit(self) -> None:
            raise OSError("connection lost")

    connection = wrap_connect(Connection)()
    connection.cursor().execute(INSERT)
    before = version()
    with suppress(OSError):
        connection.commit()
    assert version() != before


def test_a_failure_of_ours_does_not_prevent_a_statement(
    version: Callable[[], Any], path: Path, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(*_: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(WRITTEN_TABLES, "on_execute", fail)
    with closing(sqlite(path)) as connection:
        in_a_block(connection)
    with engine.begin() as transaction:
        transaction.execute(sa.text(INSERT))
    assert caplog.text.count("versions of tables failed") == 2
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("SELECT count(*) FROM yarn").fetchone() == (2,)


@pytest.mark.parametrize("name", ["_publish", "_begin", "_end"])
def test_a_failure_of_ours_does_not_prevent_a_commit(
    version: Callable[[], Any], path: Path, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:  # fmt: skip
    def fail(*_: Any) -> None:
        raise RuntimeError("ours")

    with closing(sqlite(path)) as connection, engine.connect() as alchemy:
        connection.execute(INSERT)
        with monkeypatch.context() as patched:
            patched.setattr(WRITTEN_TABLES, name, fail)
            connection.commit()
        alchemy.execute(sa.text(INSERT))
        with monkeypatch.context() as patched:
            patched.setattr(WRITTEN_TABLES, name, fail)
            alchemy.commit()
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("SELECT count(*) FROM yarn").fetchone() == (2,)


@pytest.mark.slow
def test_transactions_of_psycopg_publish_at_their_end(
    version: Callable[[], Any], postgres_url: str
) -> None:
    with closing(wrap_connect(psycopg.connect)(postgres_url, autocommit=True)) as connection:
        connection.execute("CREATE TEMPORARY TABLE yarn (id int, name text)")
        with connection.transaction() as transaction:
            assert isinstance(transaction, psycopg.Transaction)
            connection.execute("INSERT INTO yarn VALUES (1, 'a')")
            during = version()
        assert version() != during
    with closing(sqlite3.connect(":memory:")) as plain:
        assert not hasattr(wrap_connect(lambda: plain)(), "transaction")


# -- an application ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", [INSERT, "SELECT random()", "SELECT " + "a, " * 2000 + "a", "CALL f()"]
)
def test_a_query_that_must_not_be_cached_has_no_version(quiet: Mill, statement: str) -> None:
    with quiet.app.app_context():
        assert quiet.perf.queries.table_versions(statement) is None
        assert not quiet.perf.queries.tables_are_shared


def test_writes_of_another_process_change_the_version(
    make_app: Callable[..., Mill], path: Path
) -> None:
    mill = make_app()
    with mill.app.app_context():
        queries = mill.perf.queries
        assert queries.table_versions(QUERY) is None  # other processes have to subscribe first
        mill.session.recorder.versions._from = 0
        before = queries.table_versions(QUERY)
        assert (
            before is not None
            and queries.table_versions(QUERY) == before
            and queries.tables_are_shared
        )
    child = os.fork()
    if not child:  # like a command, which serves no request
        unsubscribe_all()
        make_app()
        with closing(sqlite(path)) as connection:
            in_a_block(connection)
        os._exit(0 if WRITTEN_TABLES.has_subscribers else 1)
    assert os.waitpid(child, 0)[1] == 0
    with mill.app.app_context():
        assert queries.table_versions(QUERY) != before


def test_a_worker_publishes_as_soon_as_another_subscribes(make_app: Callable[..., Mill]) -> None:
    mill = make_app()
    mill.session.jobs.enable_table_tracking()
    assert not WRITTEN_TABLES.has_subscribers
    Versions(lambda: Path(mill.app.config["KNITPERF_STATE_DIR"])).of([])
    mill.session.jobs.enable_table_tracking()
    assert WRITTEN_TABLES.has_subscribers
    assert mill.session.recorder.versions in WRITTEN_TABLES
