"""Cached results of queries on SQLite: served until a table is written, and the ways past the cache."""

from __future__ import annotations

import datetime as dt
import decimal
import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_knitperf import KnitPerfError, QueryOptimizer
from flask_knitperf.caching import query_cache, single_flight
from flask_knitperf.collectors.sql.written_tables import WRITTEN_TABLES
from tests.conftest import Mill
from tests.waiting import wait_for


class Base(DeclarativeBase):
    pass


class Yarn(Base):
    __tablename__ = "yarn"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    style: Mapped[int]


NAMES = (
    sa.select(Yarn.__table__.c.name).where(Yarn.__table__.c.id < 3).order_by(Yarn.__table__.c.id)
)
COUNT = "SELECT count(*) AS n FROM yarn WHERE id >= :least"


class Cached:
    """A cache of queries, and the number of statements that reached the database."""

    def __init__(self, queries: QueryOptimizer, engine: sa.Engine) -> None:
        self.queries, self.engine = queries, engine
        self.sent: list[str] = []
        sa.event.listen(engine, "after_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.sent.append(statement)

    def __call__(
        self, statement: Any, connection: Any = None, params: Any = None, **more: Any
    ) -> Any:
        chosen = self.engine if connection is None else connection
        return self.queries.cached(statement, chosen, params, **more)

    def hits(self, call: Callable[[], Any]) -> bool:
        """Return whether a call sends nothing, after an equal one."""
        call()
        before = len(self.sent)
        call()
        return len(self.sent) == before

    def why_not(self, statement: Any, connection: Any = None, params: Any = None) -> str:
        """Return why a call is not answered from the cache."""
        chosen = self.engine if connection is None else connection
        explanation = self.queries.explain_cached(statement, chosen, params)
        return explanation["bypassed"] or explanation["refused"] or ""

    @property
    def statistics(self) -> Any:
        return self.queries._caching().get_cache_statistics()["total"]


@pytest.fixture
def engine(database: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{database}")
    yield engine
    engine.dispose()


@pytest.fixture
def cached(engine: sa.Engine) -> Iterator[Cached]:
    queries = QueryOptimizer()
    queries.instrument(engine)
    yield Cached(queries, engine)
    queries.uninstrument(engine)


def change(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE yarn SET name = name || '!' WHERE id = 0"))


# -- hits ---------------------------------------------------------------------------------------------


def test_an_equal_query_is_answered_without_the_database(cached: Cached) -> None:
    assert cached.hits(lambda: cached(NAMES))
    assert [row.name for row in cached(NAMES)] == ["y0", "y1", "y2"]
    assert cached.statistics["hits"] == 2 and cached.statistics["cold"] == 1


def test_text_and_parameters_are_the_key(cached: Cached) -> None:
    assert cached.hits(lambda: cached(COUNT, None, {"least": 10}))
    assert cached(COUNT, None, {"least": 10}) == [(20,)]
    assert cached(COUNT, None, {"least": 20}) == [(10,)]
    assert cached("SELECT :a AS a", None, {"a": 1}) == [(1,)]
    assert cached("SELECT :a AS a", None, {"a": True}) == [(True,)]
    assert [type(cached("SELECT :a AS a", None, {"a": a})[0].a) for a in (1, 1.0, "1")] == [
        int, float, str,
    ]  # fmt: skip


def test_values_in_a_select_are_a_part_of_the_key(cached: Cached) -> None:
    table = Yarn.__table__

    def names(*ids: int) -> list[str]:
        query = sa.select(table.c.name).where(table.c.id.in_(ids)).order_by(table.c.id)
        return [row.name for row in cached(query)]

    assert cached.hits(lambda: names(1, 2))
    assert names(1, 2) == ["y1", "y2"] and names(2, 3) == ["y2", "y3"] and names(2) == ["y2"]


def test_one_text_with_other_types_of_results_is_another_query(cached: Cached) -> None:
    text = sa.text("SELECT '2026-11-30 10:00:00.000000' AS at")
    typed = text.columns(at=sa.DateTime)
    assert cached(text)[0].at == "2026-11-30 10:00:00.000000"
    assert cached(typed)[0].at == dt.datetime(2026, 11, 30, 10)  # noqa: DTZ001
    assert cached(text)[0].at == "2026-11-30 10:00:00.000000"


def test_another_database_is_another_key(cached: Cached, tmp_path: Path) -> None:
    other = cached.queries.instrument(sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}"))
    with other.begin() as connection:
        connection.execute(sa.text("CREATE TABLE yarn (id INTEGER, name TEXT)"))
    assert len(cached(NAMES)) == 3 and cached(NAMES, other) == []
    cached.queries.uninstrument(other)
    other.dispose()


def test_in_memory_databases_are_not_mixed_up(cached: Cached) -> None:
    connect = cached.queries.wrap_connect(sqlite3.connect)
    results = []
    for number in (1, 2):
        with closing(connect(":memory:")) as connection:
            connection.execute("CREATE TABLE yarn (id INTEGER)")
            connection.execute("INSERT INTO yarn VALUES (?)", (number,))
            connection.commit()
            results.append(cached("SELECT id FROM yarn", connection))
    assert results == [[(1,)], [(2,)]]


@pytest.mark.parametrize("way", ["engine", "connection", "session", "scoped_session", "driver"])
def test_every_kind_of_connection_is_served(cached: Cached, database: Path, way: str) -> None:
    from sqlalchemy.orm import scoped_session, sessionmaker

    connect = cached.queries.wrap_connect(sqlite3.connect)
    with closing(connect(database)) as driver, cached.engine.connect() as connection:
        sessions = scoped_session(sessionmaker(cached.engine))
        chosen = {
            "engine": cached.engine, "connection": connection, "session": sessions(),
            "scoped_session": sessions, "driver": driver,
        }[way]  # fmt: skip
        for _ in range(3):
            assert cached("SELECT name FROM yarn WHERE id = 1", chosen) == [("y1",)]
        assert cached.statistics["hits"] == 2
        sessions.remove()


def test_rows_have_names_and_mappings(cached: Cached) -> None:
    query = 'SELECT 1 AS a, 2 AS "b c", 3 AS a'
    assert cached(query)[0] == (1, 2, 3) and cached(query)[0].a == 1
    assert cached("SELECT 1 AS a, NULL AS b", mappings=True) == [{"a": 1, "b": None}]


def test_rows_belong_to_the_caller(cached: Cached) -> None:
    query = sa.select(sa.literal({"a": [1]}, sa.JSON).label("j"))
    first = cached(query)
    first[0].j["a"].append(2)
    first.append("more")
    second = cached(query, mappings=True)
    second[0]["j"]["a"].clear()
    assert cached(query) == [({"a": [1]},)] and cached.statistics["hits"] == 2


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (sa.Numeric(10, 4), decimal.Decimal("1.5000")), (sa.Uuid(), uuid.UUID(int=7)),
        (sa.LargeBinary(), b"\x00\xff"), (sa.Date(), dt.date(2026, 2, 28)), (sa.Boolean(), True),
        (sa.DateTime(), dt.datetime(2026, 2, 28, 1, 2, 3, 4)),  # noqa: DTZ001
        (sa.Interval(), dt.timedelta(1, 2, 3)),
        (sa.JSON(), [1, None, {"a": 1.5}]), (sa.Text(), None), (sa.PickleType(), {1, 2}),
    ],
)  # fmt: skip
def test_values_come_back_as_they_were(cached: Cached, kind: Any, value: Any) -> None:
    query = sa.select(sa.literal(value, kind).label("v"))
    with cached.engine.connect() as connection:
        expected = connection.execute(query).scalar_one()
    for _ in range(2):
        [(actual,)] = cached(query)
        assert actual == expected and type(actual) is type(expected)
        assert repr(actual) == repr(expected)
    assert cached.statistics["hits"] == 1


# -- invalidation -------------------------------------------------------------------------------------


def test_a_commit_invalidates_and_a_rollback_keeps_the_data_right(cached: Cached) -> None:
    cached(NAMES)
    with cached.engine.connect() as connection:
        connection.execute(sa.text("DELETE FROM yarn"))
        connection.rollback()
    assert len(cached(NAMES)) == 3
    change(cached.engine)
    assert cached(NAMES)[0].name == "y0!"


def test_a_write_of_another_table_keeps_results(cached: Cached) -> None:
    cached(NAMES)
    with cached.engine.begin() as connection:
        connection.execute(sa.text("UPDATE style SET name = 'x'"))
    cached(NAMES)
    assert cached.statistics["hits"] == 1


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE VIEW threads AS SELECT * FROM yarn", "ALTER TABLE style RENAME TO styles",
        "CREATE TRIGGER t AFTER UPDATE ON style BEGIN UPDATE yarn SET name = 'z'; END",
    ],
)  # fmt: skip
def test_a_change_of_the_schema_invalidates_all_results(cached: Cached, ddl: str) -> None:
    cached(NAMES)
    with cached.engine.begin() as connection:
        connection.execute(sa.text(ddl))
    cached(NAMES)
    assert cached.statistics["invalidated"] == 1


def test_a_write_through_a_trigger_invalidates(cached: Cached) -> None:
    with cached.engine.begin() as connection:
        connection.execute(sa.text(
            "CREATE TRIGGER t AFTER UPDATE ON style BEGIN UPDATE yarn SET name = 'z'; END"
        ))  # fmt: skip
    cached(NAMES)
    with cached.engine.begin() as connection:
        connection.execute(sa.text("UPDATE style SET name = 'x' WHERE id = 1"))
    assert cached(NAMES)[0].name == "z"


def test_a_cascade_invalidates(cached: Cached) -> None:
    with cached.engine.begin() as connection:
        connection.execute(sa.text(
            "CREATE TABLE line (id INTEGER, s INTEGER REFERENCES style (id) ON DELETE CASCADE)"
        ))  # fmt: skip
        connection.execute(sa.text("INSERT INTO line VALUES (1, 1), (2, 2)"))
    assert cached("SELECT count(*) FROM line") == [(2,)]
    with cached.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.commit()
        connection.execute(sa.text("DELETE FROM style WHERE id = 1"))
        connection.commit()
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    assert cached("SELECT count(*) FROM line") == [(1,)]


def test_a_view_depends_on_its_tables(cached: Cached) -> None:
    with cached.engine.begin() as connection:
        connection.execute(sa.text("CREATE VIEW first AS SELECT name FROM yarn WHERE id = 0"))
        connection.execute(sa.text("CREATE VIEW second AS SELECT * FROM first"))
    assert cached("SELECT name FROM second") == [("y0",)]
    change(cached.engine)
    assert cached("SELECT name FROM second") == [("y0!",)]


def test_a_view_with_a_random_part_is_refused(cached: Cached) -> None:
    with cached.engine.begin() as connection:
        connection.execute(sa.text("CREATE VIEW v AS SELECT random() AS n FROM yarn"))
        connection.execute(sa.text("CREATE VIEW w AS SELECT n FROM v"))
    assert "calls random()" in cached.why_not("SELECT n FROM w")


def test_results_expire(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(cached.queries._caching().queries.cache, "_clock", lambda: clock[0])
    cached(NAMES, ttl=5)
    with closing(sqlite3.connect(str(cached.engine.url.database))) as outside, outside:
        outside.execute("UPDATE yarn SET name = 'outside' WHERE id = 0")
    clock[0] += 4.9
    assert cached(NAMES, ttl=5)[0].name == "y0"
    clock[0] += 0.2
    assert cached(NAMES, ttl=5)[0].name == "outside"
    assert cached.statistics["expired"] == 1


def test_a_tag_and_the_namespace_invalidate(cached: Cached) -> None:
    cache = cached.queries._caching()
    for invalidate in (
        lambda: cache.invalidate(tag="season"), lambda: cache.invalidate("queries"),
        cached.queries.clear_cache, cache.clear,
    ):  # fmt: skip
        cached(NAMES, tags="season")
        before = cached.statistics["hits"]
        invalidate()
        cached(NAMES, tags="season")
        assert cached.statistics["hits"] == before


# -- transactions -------------------------------------------------------------------------------------


def test_a_transaction_that_has_written_sees_its_writes_and_hides_them(cached: Cached) -> None:
    cached(NAMES)
    with cached.engine.connect() as connection:
        connection.execute(sa.text("UPDATE yarn SET name = 'mine' WHERE id = 0"))
        assert cached(NAMES, connection)[0].name == "mine"
        assert cached.why_not(NAMES, connection) == "its transaction has written"
        connection.rollback()
    assert cached(NAMES)[0].name == "y0"


def test_a_savepoint_that_is_rolled_back_keeps_the_transaction_past_the_cache(
    cached: Cached,
) -> None:
    with cached.engine.connect() as connection:
        connection.execute(sa.text("UPDATE style SET name = 'x'"))
        with connection.begin_nested() as nested:
            connection.execute(sa.text("UPDATE yarn SET name = 'never' WHERE id = 0"))
            assert cached(NAMES, connection)[0].name == "never"
            nested.rollback()
        assert cached(NAMES, connection)[0].name == "y0"
        assert cached.why_not(NAMES, connection) == "its transaction has written"
        connection.commit()
    assert cached(NAMES)[0].name == "y0"


def test_an_unparsed_statement_counts_as_a_write_of_everything(cached: Cached) -> None:
    cached(NAMES)
    with cached.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
        assert cached.why_not(NAMES, connection) == ""
        connection.exec_driver_sql("WITH x AS (SELECT 1) DELETE FROM yarn WHERE id = 0")
        assert cached.why_not(NAMES, connection)
    assert len(cached(NAMES)) == 2


def test_a_session_with_changes_runs_its_queries(cached: Cached) -> None:
    query = sa.select(Yarn.name).where(Yarn.id < 3).order_by(Yarn.id)
    cached(query)
    with Session(cached.engine) as session:
        session.add(Yarn(id=-1, name="new", style=0))
        assert "would flush" in cached.why_not(query, session)
        assert cached(query, session)[0].name == "new"
        assert cached(query, session)[0].name == "new"
        session.rollback()
    assert cached(query)[0].name == "y0"


def test_a_transaction_of_sqlite_that_sees_older_data_runs_its_queries(cached: Cached) -> None:
    cached(NAMES)
    with cached.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("BEGIN")
        assert cached(NAMES, connection)[0].name == "y0"
        change(cached.engine)
        assert cached(NAMES)[0].name == "y0!"
        assert cached(NAMES, connection)[0].name == "y0"
        assert cached.why_not(NAMES, connection) == "its transaction may see older data"
        connection.rollback()
    assert cached(NAMES)[0].name == "y0!"


def test_a_temporary_table_hides_others_of_its_name(cached: Cached) -> None:
    cached("SELECT count(*) FROM yarn")
    with cached.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE yarn (id INTEGER)")
        connection.commit()
        assert cached("SELECT count(*) FROM yarn", connection) == [(0,)]
        assert "temporary" in cached.why_not("SELECT count(*) FROM yarn", connection)
        connection.exec_driver_sql("DROP TABLE temp.yarn")
        connection.commit()


def test_a_result_is_not_kept_if_a_table_is_written_while_the_query_runs(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate, changes = query_cache.QueryCache._moved, [lambda: change(cached.engine)]

    def moved(self: Any, *args: Any) -> str:
        if changes:
            changes.pop()()
        return isolate(self, *args)

    monkeypatch.setattr(query_cache.QueryCache, "_moved", moved)
    assert cached(NAMES)[0].name == "y0"
    assert cached(NAMES)[0].name == "y0!" and cached.statistics["hits"] == 0


def test_nothing_is_kept_while_a_commit_is_under_way(cached: Cached) -> None:
    cached(NAMES)
    versions = cached.queries._caching()._invalidation.versions
    versions.begin_writing(["yarn"])
    assert not cached.hits(lambda: cached(NAMES))
    versions.end_writing(["yarn"])
    assert cached.hits(lambda: cached(NAMES))


def test_tables_are_marked_while_they_are_committed(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = cached.queries._caching()._invalidation.versions
    cached(NAMES)
    marks: list[tuple[str, str]] = []
    monkeypatch.setattr(versions, "begin_writing", lambda names: marks.append(("begin", *names)))
    monkeypatch.setattr(versions, "end_writing", lambda names: marks.append(("end", *names)))
    change(cached.engine)
    assert marks == [("begin", "yarn"), ("end", "yarn")] * 2


def test_a_statement_that_fails_leaves_no_mark(cached: Cached) -> None:
    cached(NAMES)
    with pytest.raises(sa.exc.OperationalError), cached.engine.begin() as connection:
        connection.execute(sa.text("UPDATE yarn SET nosuch = 1"))
    assert cached.hits(lambda: cached(NAMES))


# -- refusals -----------------------------------------------------------------------------------------


def test_objects_of_a_session_are_refused_with_the_repair(cached: Cached) -> None:
    for query in (sa.select(Yarn), sa.select(Yarn.id, Yarn), sa.select(sa.orm.aliased(Yarn))):
        with pytest.raises(KnitPerfError, match=r"select columns, such as select\(Yarn\.id\)"):
            cached(query)
    assert cached(sa.select(Yarn.name).where(Yarn.id == 1)) == [("y1",)]


def test_an_unwatched_engine_is_refused(cached: Cached, database: Path) -> None:
    with (
        closing(sqlite3.connect(database)) as plain,
        pytest.raises(KnitPerfError, match="not a watched connection"),
    ):
        cached(NAMES, plain)
    engine = sa.create_engine(f"sqlite:///{database}")
    with pytest.raises(KnitPerfError, match=r"not watched.*instrument\(engine\)"):
        cached(NAMES, engine)
    engine.dispose()


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan"), True, "60", None])
def test_a_lifetime_that_is_none_is_refused(cached: Cached, ttl: Any) -> None:
    with pytest.raises(KnitPerfError, match="ttl must be a number of seconds above 0"):
        cached(NAMES, ttl=ttl)


def test_what_is_no_query_is_refused(cached: Cached) -> None:
    with pytest.raises(KnitPerfError, match="a query is a select"):
        cached(3)
    with pytest.raises(KnitPerfError, match="takes a query with its connection"):
        cached.queries.cached(len)


def test_a_volatile_query_runs_each_time_and_is_counted_with_its_reason(cached: Cached) -> None:
    assert not cached.hits(lambda: cached("SELECT random() AS n"))
    assert cached.statistics["refused"] == 2
    regions = cached.queries._caching().queries.cache.regions.values()
    reasons = {reason for region in regions for reason in region.refusals.reasons}
    assert reasons == {"it calls random(), which may differ at each call"}


def test_a_parameter_that_stands_for_the_present_is_refused(cached: Cached) -> None:
    assert "present" in cached.why_not("SELECT :a AS a", None, {"a": "now"})
    assert "present" in cached.why_not(sa.select(sa.literal("Today")))


def test_a_parameter_without_content_runs_the_query(cached: Cached) -> None:
    class Odd(int):
        def __init__(self, _: Any) -> None:
            self.lock = threading.Lock()

    assert cached(COUNT, None, {"least": Odd(10)}) == [(20,)]
    assert "no content" in cached.why_not(COUNT, None, {"least": Odd(10)})


@pytest.mark.parametrize("name", ["before_execute", "before_cursor_execute"])
def test_a_listener_that_may_change_statements_needs_vary(cached: Cached, name: str) -> None:
    def passing(*args: Any) -> Any:
        return args[1:4] if name == "before_execute" else args[2:4]

    sa.event.listen(cached.engine, name, passing, retval=True)
    assert f"listener to {name}" in cached.why_not(NAMES)
    assert cached.hits(lambda: cached(NAMES, vary="mill 1"))
    assert not cached.hits(lambda: cached(NAMES))
    sa.event.remove(cached.engine, name, passing)


def test_a_listener_of_sessions_that_may_change_statements_needs_vary(cached: Cached) -> None:
    class Tenant(Session):
        pass

    def limit(state: Any) -> None:
        state.statement = state.statement.where(Yarn.id == tenant[0])

    sa.event.listen(Tenant, "do_orm_execute", limit)
    query = sa.select(Yarn.name)
    answers = []
    for number in (1, 2, 1):
        tenant = [number]
        with Tenant(cached.engine) as session:
            answers.append(cached(query, session, vary=number))
            assert "do_orm_execute" in cached.why_not(query, session)
    assert answers == [[("y1",)], [("y2",)], [("y1",)]] and cached.statistics["hits"] == 1


def test_an_error_of_the_database_is_raised_each_time(cached: Cached) -> None:
    for _ in range(2):
        with pytest.raises(sa.exc.OperationalError, match="no such table: nosuch"):
            cached("SELECT * FROM nosuch")


def test_a_failure_of_ours_runs_the_query(
    cached: Cached, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flask_knitperf.collectors.sql.cached_queries.state_of", lambda _: 1 / 0)
    with caplog.at_level(logging.ERROR):
        assert len(cached(NAMES)) == 3
    assert "a query is not cached; it was run" in caplog.text


def test_bypass_runs_the_query(cached: Cached) -> None:
    cached(NAMES)
    with cached.queries._caching().bypass():
        assert not cached.hits(lambda: cached(NAMES))
    assert cached.hits(lambda: cached(NAMES))


# -- concurrency --------------------------------------------------------------------------------------


def test_of_several_equal_queries_one_runs(cached: Cached) -> None:
    cache = cached.queries._caching().queries.cache
    call = query_cache.QueryCall("q", b"key", (), 60.0)
    release, entered, loads = threading.Event(), threading.Event(), list[int]()

    def load() -> str:
        loads.append(1)
        entered.set()
        release.wait(10)
        return "rows"

    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(cache.answer(call, load, lambda: "")))
        for _ in range(4)
    ]
    threads[0].start()
    entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_for(lambda: len(single_flight._WAITING) == 3)
    release.set()
    for thread in threads:
        thread.join()
    assert results == ["rows"] * 4 and loads == [1]


def test_waiting_calls_run_the_query_themselves_where_it_fails(cached: Cached) -> None:
    cache = cached.queries._caching().queries.cache
    call = query_cache.QueryCall("q", b"key", (), 60.0)
    results: list[str] = []
    waiting = threading.Thread(
        target=lambda: results.append(cache.answer(call, lambda: "mine", lambda: ""))
    )

    def fail() -> Any:
        waiting.start()
        wait_for(lambda: len(single_flight._WAITING) == 1)
        raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        cache.answer(call, fail, lambda: "")
    waiting.join()
    assert results == ["mine"]


# -- a function that is cached itself -----------------------------------------------------------------


def test_a_cached_function_depends_on_the_queries_that_it_gets_from_the_cache(
    cached: Cached,
) -> None:
    cache = cached.queries._caching()

    @cache.cached
    def first_name() -> Any:
        return cached(NAMES)[0].name

    cached(NAMES)
    assert [first_name(), first_name()] == ["y0", "y0"]
    change(cached.engine)
    assert first_name() == "y0!"


# -- frames -------------------------------------------------------------------------------------------


def test_frames_of_read_sql_are_cached_and_belong_to_the_caller(cached: Cached) -> None:
    read_sql = cached.queries.cached(pd.read_sql)
    query = "SELECT id, name FROM yarn WHERE id < 3"
    frame = read_sql(query, cached.engine)
    frame["name"] = "mine"
    frame.loc[0, "id"] = 99
    again = read_sql(query, con=cached.engine)
    pd.testing.assert_frame_equal(again, pd.read_sql(query, cached.engine))
    assert cached.statistics["hits"] == 1
    change(cached.engine)
    assert read_sql(query, cached.engine)["name"][0] == "y0!"


def test_options_of_read_sql_are_a_part_of_the_key(cached: Cached) -> None:
    read_sql = cached.queries.cached(pd.read_sql)
    query, engine = sa.select(Yarn.id, Yarn.name), cached.engine
    frames = [
        read_sql(query, engine), read_sql(query, engine, index_col="id"),
        read_sql(query, engine, dtype={"id": "float32"}),
    ]  # fmt: skip
    assert [str(frame.dtypes.get("id")) for frame in frames] == ["int64", "None", "float32"]
    for frame, again in zip(frames, [
        read_sql(query, engine), read_sql(query, engine, index_col="id"),
        read_sql(query, engine, dtype={"id": "float32"}),
    ], strict=True):  # fmt: skip
        pd.testing.assert_frame_equal(frame, again)
    assert cached.statistics["hits"] == 3


def test_read_sql_sees_the_transaction_of_its_connection(cached: Cached) -> None:
    read_sql = cached.queries.cached(pd.read_sql)
    assert len(read_sql("SELECT id FROM yarn", cached.engine)) == 30
    with cached.engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text("DELETE FROM yarn"))
        assert len(read_sql("SELECT id FROM yarn", connection)) == 0
        transaction.rollback()
    assert len(read_sql("SELECT id FROM yarn", cached.engine)) == 30


def test_read_sql_passes_on_what_it_cannot_cache(cached: Cached, database: Path) -> None:
    read_sql = cached.queries.cached(pd.read_sql)
    chunks = read_sql("SELECT id FROM yarn", cached.engine, chunksize=10)
    assert [len(chunk) for chunk in chunks] == [10, 10, 10]
    assert len(read_sql("yarn", cached.engine)) == 30
    assert len(read_sql("SELECT id FROM yarn", f"sqlite:///{database}")) == 30
    assert cached.statistics["refused"] == 3
    with pytest.raises(TypeError, match="unexpected keyword"):
        read_sql("SELECT 1", cached.engine, nosuch=1)


def test_read_sql_takes_wrapped_connections(cached: Cached, database: Path) -> None:
    read_sql = cached.queries.cached(pd.read_sql_query)
    connect = cached.queries.wrap_connect(sqlite3.connect)
    with closing(connect(database)) as connection:
        for _ in range(2):
            frame = read_sql("SELECT id FROM yarn WHERE id > ?", connection, params=(27,))
            assert list(frame["id"]) == [28, 29]
    assert cached.statistics["hits"] == 1


# -- a block ------------------------------------------------------------------------------------------


def test_a_block_answers_the_selects_of_sessions(cached: Cached) -> None:
    query = sa.select(Yarn.id, Yarn.name).where(Yarn.id < 3).order_by(Yarn.id)
    with cached.queries.cached(ttl=30), Session(cached.engine) as session:
        assert cached.hits(lambda: session.execute(query).all())
        result = session.execute(query)
        assert result.mappings().first() == {"id": 0, "name": "y0"}
        assert session.scalars(sa.select(Yarn.name).where(Yarn.id == 2)).one() == "y2"
        assert [row.name for row in session.execute(query)] == ["y0", "y1", "y2"]
        change(cached.engine)
        assert session.execute(query).first() == (0, "y0!")


def test_rows_of_a_block_are_read_by_attributes_and_columns_too(cached: Cached) -> None:
    table = Yarn.__table__
    doubled = (Yarn.style * 2).label("doubled")
    query = sa.select(Yarn.id, Yarn.name, doubled).where(Yarn.id == 1)

    def read(session: Session) -> list[Any]:
        row = session.execute(query).one()
        mapping = session.execute(query).mappings().one()
        return [
            row._mapping[Yarn.name], row._mapping["name"], mapping[Yarn.id], mapping[doubled],
            session.scalars(query, {}).one(), session.execute(query).scalars(Yarn.name).one(),
            session.execute(query).columns(Yarn.name, "id").one(),
            session.execute(sa.select(table.c.id, table.c.name)).mappings().first()[table.c.name],
        ]  # fmt: skip

    with Session(cached.engine) as session:
        expected = read(session)
    with cached.queries.cached(ttl=30), Session(cached.engine) as session:
        assert cached.hits(lambda: read(session)) and read(session) == expected


def test_a_block_passes_objects_and_writes_on(cached: Cached) -> None:
    with cached.queries.cached(), Session(cached.engine) as session:
        yarn = session.get(Yarn, 1)
        assert yarn is not None
        assert session.scalars(sa.select(Yarn).where(Yarn.id == 1)).one() is yarn
        yarn.name = "mine"
        assert session.scalar(sa.select(Yarn.name).where(Yarn.id == 1)) == "mine"
        session.rollback()
        assert session.scalar(sa.select(Yarn.name).where(Yarn.id == 1)) == "y1"


def test_nothing_is_cached_outside_of_the_block(cached: Cached) -> None:
    query = sa.select(Yarn.id, Yarn.name)
    with Session(cached.engine) as session:
        with cached.queries.cached():
            session.execute(query).all()
        assert not cached.hits(lambda: session.execute(query).all())


# -- an application -----------------------------------------------------------------------------------


def test_the_report_has_a_row_for_each_statement(
    make_app: Callable[..., Mill], database: Path
) -> None:
    mill = make_app()
    engine = mill.perf.queries.instrument(sa.create_engine(f"sqlite:///{database}"))
    with mill.app.app_context():
        mill.perf.queries.cached(NAMES, engine)
        mill.session.recorder.versions._from = 0
        mill.perf.queries.cached(NAMES, engine)
        mill.perf.queries.cached(NAMES, engine)
        report = mill.perf.cache.get_cache_statistics()
    [name] = report["namespaces"]
    assert name.startswith("queries: SELECT yarn.name FROM yarn") and report["total"]["hits"] == 1
    mill.perf.queries.uninstrument(engine)
    engine.dispose()


def test_nothing_is_kept_until_all_workers_publish(
    make_app: Callable[..., Mill], database: Path
) -> None:
    mill = make_app()
    engine = mill.perf.queries.instrument(sa.create_engine(f"sqlite:///{database}"))
    with mill.app.app_context():
        for _ in range(3):
            mill.perf.queries.cached(NAMES, engine)
        assert mill.perf.cache.get_cache_statistics()["total"]["hits"] == 0
    mill.perf.queries.uninstrument(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"KNITPERF_QUERIES": False}, "KNITPERF_QUERIES is off"),
        ({"KNITPERF_ENABLED": False}, "no application that is enabled"),
    ],
)
def test_an_application_that_does_not_publish_caches_nothing(
    make_app: Callable[..., Mill], database: Path, config: dict[str, Any], reason: str
) -> None:
    mill = make_app(**config)
    engine = mill.perf.queries.instrument(sa.create_engine(f"sqlite:///{database}"))
    with mill.app.app_context():
        assert reason in str(mill.perf.queries.explain_cached(NAMES, engine)["refused"])
        assert len(mill.perf.queries.cached(NAMES, engine)) == 3
    mill.perf.queries.uninstrument(engine)
    engine.dispose()


def test_a_writer_that_is_killed_after_its_commit_leaves_nothing_stale(
    make_app: Callable[..., Mill], database: Path
) -> None:
    mill = make_app()
    engine = mill.perf.queries.instrument(sa.create_engine(f"sqlite:///{database}"))
    with mill.app.app_context():
        cached = mill.perf.queries.cached
        cached(NAMES, engine)
        mill.session.recorder.versions._from = 0
        cached(NAMES, engine)
        assert mill.perf.queries.explain_cached(NAMES, engine)["cached"]
    child = os.fork()
    if not child:
        WRITTEN_TABLES.on_end = lambda _: os._exit(0)  # type: ignore[method-assign]
        change(engine)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    with mill.app.app_context():
        assert [cached(NAMES, engine)[0].name for _ in range(2)] == ["y0!"] * 2
        assert not mill.perf.queries.explain_cached(NAMES, engine)["cached"]
    mill.perf.queries.uninstrument(engine)
    engine.dispose()
