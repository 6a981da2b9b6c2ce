"""Cached results of queries on PostgreSQL: sessions, isolation, the catalog, several processes."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import class_row, dict_row

from benchmarks.harness.query_mill import Mill, create_schema
from benchmarks.harness.query_oracle import judge
from benchmarks.rows.query_cache import in_processes
from flask_knitperf import QueryOptimizer

pytestmark = pytest.mark.slow
SCHEMA = """
DROP SCHEMA IF EXISTS public CASCADE;
DROP SCHEMA IF EXISTS other CASCADE;
CREATE SCHEMA public;
CREATE SCHEMA other;
CREATE TABLE public.yarn (id int PRIMARY KEY, name text);
CREATE TABLE other.yarn (id int PRIMARY KEY, name text);
INSERT INTO public.yarn VALUES (1, 'public'), (2, 'second');
INSERT INTO other.yarn VALUES (1, 'other');
"""
NAME = "SELECT name FROM yarn WHERE id = 1"


class Cached:
    """A cache of queries on PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.queries = QueryOptimizer()
        self.address = "postgresql+psycopg://" + url.partition("://")[2]
        self.engines: list[sa.Engine] = []
        self.engine = self.connect_to(self.address)

    def connect_to(self, address: str, **options: Any) -> sa.Engine:
        engine = self.queries.instrument(sa.create_engine(address, **options))
        self.engines.append(engine)
        return engine

    def __call__(self, query: Any = NAME, connection: Any = None, params: Any = None) -> Any:
        chosen = self.engine if connection is None else connection
        return self.queries.cached(query, chosen, params)

    def name(self, connection: Any = None) -> str:
        [(name,)] = self(NAME, connection)
        return str(name)

    def why_not(self, query: Any = NAME, connection: Any = None) -> str:
        chosen = self.engine if connection is None else connection
        explanation = self.queries.explain_cached(query, chosen)
        return explanation["bypassed"] or explanation["refused"] or ""

    def tables(self, query: str) -> list[str]:
        return self.queries.explain_cached(query, self.engine)["tables"]

    def run(self, statement: str) -> None:
        """Execute a statement on the watched engine, and commit it."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    @property
    def hits(self) -> int:
        return self.queries._caching().get_cache_statistics()["total"]["hits"]


@pytest.fixture
def cached(postgres_url: str) -> Iterator[Cached]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    cached = Cached(postgres_url)
    yield cached
    for engine in cached.engines:
        cached.queries.uninstrument(engine)
        engine.dispose()


# -- the session --------------------------------------------------------------------------------------


def test_another_search_path_is_another_key(cached: Cached) -> None:
    with cached.engine.connect() as connection:
        assert [cached.name(connection) for _ in range(2)] == ["public"] * 2
        connection.exec_driver_sql("SET search_path TO other")
        assert cached.name(connection) == "other"
        connection.rollback()  # takes the setting back
        assert cached.name(connection) == "public"
        connection.exec_driver_sql("SET LOCAL search_path TO other")
        assert cached.name(connection) == "other"
        connection.commit()
        assert cached.name(connection) == "public"
        connection.exec_driver_sql("SELECT set_config('search_path', 'other', false)")
        connection.commit()
        assert cached.name(connection) == "other"
        connection.exec_driver_sql("RESET search_path")
        connection.commit()
        assert cached.name(connection) == "public"
    assert cached.hits >= 2


def test_a_search_path_of_the_address_is_a_part_of_the_key(cached: Cached) -> None:
    other = cached.connect_to(cached.address, connect_args={"options": "-csearch_path=other"})
    assert [cached.name(engine) for engine in (None, other, None, other)] == ["public", "other"] * 2
    assert cached.hits == 2


def test_a_search_path_that_is_set_at_each_checkout_is_a_part_of_the_key(cached: Cached) -> None:
    path = ["public"]

    def choose(connection: Any, *_: Any) -> None:
        connection.execute(f"SET search_path TO {path[0]}")
        connection.commit()

    sa.event.listen(cached.engine, "checkout", choose)
    names = []
    for path[0] in ("public", "other", "public", "other"):
        names.append(cached.name())
    assert names == ["public", "other"] * 2 and cached.hits == 2


def test_another_role_is_another_key(cached: Cached) -> None:
    cached.run("DROP ROLE IF EXISTS reader")
    cached.run("CREATE ROLE reader")
    with cached.engine.connect() as connection:
        assert cached.name(connection) == "public"
        connection.exec_driver_sql("SET ROLE reader")
        with pytest.raises(sa.exc.ProgrammingError, match="yarn"):
            cached.name(connection)
    assert cached.name() == "public"


def test_another_time_zone_is_another_key(cached: Cached) -> None:
    query = "SELECT to_char(timestamptz '2026-11-30 12:00+00', 'HH24') AS h"
    with cached.engine.connect() as connection:
        for zone, hour in (("UTC", "12"), ("Asia/Tokyo", "21"), ("UTC", "12")):
            connection.exec_driver_sql(f"SET TIME ZONE '{zone}'")
            connection.commit()
            assert cached(query, connection) == [(hour,)]


def test_a_translated_schema_is_another_key(cached: Cached) -> None:
    columns = sa.Column("name", sa.Text), sa.Column("id", sa.Integer)
    table = sa.Table("yarn", sa.MetaData(), *columns, schema="mill")
    query = sa.select(table.c.name).where(table.c.id == 1)
    names = []
    for schema in ("public", "other", "public", "other"):
        engine = cached.engine.execution_options(schema_translate_map={"mill": schema})
        names += [row.name for row in cached(query, engine)]
    assert names == ["public", "other"] * 2 and cached.hits == 2


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_with_one_snapshot_bypasses_the_cache(cached: Cached, level: str) -> None:
    cached.name()
    with cached.engine.execution_options(isolation_level=level).connect() as connection:
        assert cached.name(connection) == "public"
        cached.run("UPDATE public.yarn SET name = 'newer' WHERE id = 1")
        assert cached.name() == "newer"
        assert cached.name(connection) == "public"
        assert cached.why_not(NAME, connection) == f"its isolation level is {level}"
    assert cached.name() == "newer"


@pytest.mark.parametrize(
    "begin",
    [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET default_transaction_isolation = 'repeatable read'",
    ],
)
def test_an_isolation_level_that_a_statement_sets_is_noticed(cached: Cached, begin: str) -> None:
    with cached.engine.connect() as connection:
        cached.name(connection)
        connection.rollback()
        connection.exec_driver_sql(begin)
        assert "isolation level" in cached.why_not(NAME, connection)
        connection.exec_driver_sql("RESET default_transaction_isolation")
        connection.commit()
        assert cached.why_not(NAME, connection) == ""


def test_autocommit_mode_is_served_at_any_isolation_level(cached: Cached) -> None:
    options = "-cdefault_transaction_isolation=serializable"
    engine = cached.connect_to(
        cached.address, isolation_level="AUTOCOMMIT", connect_args={"options": options}
    )
    assert [cached.name(engine) for _ in range(3)] == ["public"] * 3 and cached.hits == 2


def test_a_failed_transaction_raises_as_without_a_cache(cached: Cached) -> None:
    cached.name()
    with cached.engine.connect() as connection:
        with pytest.raises(sa.exc.ProgrammingError):
            connection.exec_driver_sql("SELECT nosuch FROM yarn")
        with pytest.raises(sa.exc.InternalError, match="aborted"):
            cached.name(connection)
        connection.rollback()
        assert cached.name(connection) == "public"


def test_reading_the_catalog_does_not_disturb_a_transaction(cached: Cached) -> None:
    with closing(cached.queries.wrap_connect(psycopg.connect)(cached.url)) as connection:
        connection.execute("SET LOCAL application_name = 'mill'")
        assert cached("SELECT id FROM yarn ORDER BY id", connection) == [(1,), (2,)]
        shown = connection.execute("SHOW application_name").fetchone()
        assert shown == ("mill",)
        connection.rollback()
        cached("SELECT id FROM yarn", connection)
        assert connection.info.transaction_status.name == "INTRANS"  # that of the query itself
        connection.rollback()
        cached("SELECT id FROM yarn", connection)
        assert connection.info.transaction_status.name == "IDLE"  # it was a hit


@pytest.mark.parametrize("factory", [dict_row, class_row(dict)])
def test_a_row_factory_of_the_driver_does_not_matter(cached: Cached, factory: Any) -> None:
    connect = cached.queries.wrap_connect(psycopg.connect)
    with closing(connect(cached.url, row_factory=factory)) as connection:
        for _ in range(2):
            assert cached("SELECT id, name FROM yarn WHERE id = 1", connection) == [(1, "public")]
    assert cached.hits == 1


def test_psycopg2_is_served_too(cached: Cached) -> None:
    import psycopg2
    import psycopg2.extras

    connect = cached.queries.wrap_connect(psycopg2.connect)
    factory = psycopg2.extras.RealDictCursor
    with closing(connect(cached.url, cursor_factory=factory)) as connection:
        for _ in range(3):
            assert cached("SELECT name FROM yarn WHERE id = %s", connection, (1,)) == [("public",)]
        assert cached.hits == 2
        connection.rollback()
        connection.set_session(isolation_level="REPEATABLE READ")
        assert "REPEATABLE READ" in cached.why_not(NAME, connection)


def test_a_server_that_is_a_copy_is_not_cached(cached: Cached, monkeypatch: Any) -> None:
    from flask_knitperf.collectors.sql import query_sessions

    monkeypatch.setattr(
        query_sessions, "_POSTGRES_SESSION",
        query_sessions._POSTGRES_SESSION.replace("pg_is_in_recovery()", "true"),
    )  # fmt: skip
    assert "a copy, which lags behind" in cached.why_not()


# -- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("numeric '1.500'", decimal.Decimal), ("uuid '00000000-0000-0000-0000-000000000007'", uuid.UUID),
        ("timestamptz '2026-11-30 12:00+01'", dt.datetime), ("bytea '\\x00ff'", bytes),
        ("jsonb '{\"a\": [1, null]}'", dict), ("ARRAY[1, NULL, 3]", list), ("float8 'NaN'", float),
        ("interval '1 day 2 seconds'", dt.timedelta), ("int4range(1, 5)", object),
        ("NULL", type(None)),
        ("inet '10.0.0.1'", object), ("time '01:02:03'", dt.time),
        ("'Infinity'::numeric", decimal.Decimal),
    ],
)  # fmt: skip
def test_values_come_back_as_they_were(cached: Cached, expression: str, kind: type) -> None:
    query = f"SELECT v FROM (VALUES ({expression})) AS t (v)"
    query = query.replace(":", "\\:")
    with cached.engine.connect() as connection:
        expected = connection.execute(sa.text(query)).scalar_one()
    for _ in range(2):
        [(actual,)] = cached(query)
        assert repr(actual) == repr(expected) and type(actual) is type(expected)
        assert isinstance(actual, kind)


# -- the catalog --------------------------------------------------------------------------------------


def test_a_view_of_a_view_depends_on_the_table(cached: Cached) -> None:
    cached.run("CREATE VIEW first AS SELECT * FROM yarn")
    cached.run("CREATE VIEW second AS SELECT name FROM first WHERE id = 1")
    assert cached("SELECT * FROM second") == [("public",)] == cached("SELECT * FROM second")
    assert cached.hits == 1 and {"yarn", "first", "second"} <= set(
        cached.tables("SELECT 1 FROM second")
    )
    cached.run("UPDATE yarn SET name = 'newer' WHERE id = 1")
    assert cached("SELECT * FROM second") == [("newer",)]


def test_a_write_through_a_view_is_one_of_the_table(cached: Cached) -> None:
    cached.run("CREATE VIEW first AS SELECT * FROM yarn")
    cached.name()
    cached.run("UPDATE first SET name = 'newer' WHERE id = 1")
    assert cached.name() == "newer"


def test_a_cascade_over_two_tables_is_a_write_of_the_last(cached: Cached) -> None:
    cached.run("CREATE TABLE line (id int PRIMARY KEY, y int REFERENCES yarn ON DELETE CASCADE)")
    cached.run("CREATE TABLE part (id int, l int REFERENCES line ON DELETE CASCADE)")
    cached.run("INSERT INTO line VALUES (1, 2)")
    cached.run("INSERT INTO part VALUES (1, 1)")
    assert cached("SELECT count(*) FROM part") == [(1,)]
    cached.run("DELETE FROM yarn WHERE id = 2")
    assert cached("SELECT count(*) FROM part") == [(0,)]


def test_a_partition_is_a_part_of_its_parent(cached: Cached) -> None:
    cached.run("CREATE TABLE orders (y int, n int) PARTITION BY LIST (y)")
    cached.run("CREATE TABLE orders_26 PARTITION OF orders FOR VALUES IN (26)")
    for first, second in (("orders", "orders_26"), ("orders_26", "orders")):
        before = cached(f"SELECT count(*) FROM {first}")[0][0]
        cached.run(f"INSERT INTO {second} VALUES (26, 1)")
        assert cached(f"SELECT count(*) FROM {first}") == [(before + 1,)]


@pytest.mark.parametrize(
    "body", ["UPDATE yarn SET name = 'newer' WHERE id = 1", "PERFORM rename()"]
)
def test_a_trigger_on_another_table_is_a_write_of_what_it_writes(cached: Cached, body: str) -> None:
    cached.run("CREATE TABLE style (id int)")
    cached.run("CREATE FUNCTION rename() RETURNS void LANGUAGE sql AS"
               " $$ UPDATE yarn SET name = 'newer' WHERE id = 1 $$")  # fmt: skip
    cached.run("CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS"
               f" $$ BEGIN {body}; RETURN NEW; END $$")  # fmt: skip
    cached.run("CREATE TRIGGER t AFTER INSERT ON style FOR EACH ROW EXECUTE FUNCTION follow()")
    cached.name()
    cached.run("INSERT INTO style VALUES (1)")
    assert cached.name() == "newer"


def test_a_trigger_that_sets_its_own_row_adds_no_dependency(cached: Cached) -> None:
    cached.run("CREATE TABLE style (id int, changed timestamptz)")
    cached.run("CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
               " $$ BEGIN NEW.changed := now(); RETURN NEW; END $$")  # fmt: skip
    cached.run("CREATE TRIGGER t BEFORE UPDATE ON style FOR EACH ROW EXECUTE FUNCTION touch()")
    assert cached.tables(NAME) == ["yarn"]


@pytest.mark.parametrize(
    ("ddl", "query", "reason"),
    [
        ("ALTER TABLE yarn ENABLE ROW LEVEL SECURITY", NAME, "yarn has row-level security"),
        (
            "CREATE VIEW v AS SELECT current_user AS u, id FROM yarn",
            "SELECT u FROM v",
            "the view v",
        ),
        ("CREATE SEQUENCE s", "SELECT last_value FROM s", "s is a sequence"),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT f()",
            "it calls f()",
        ),
    ],
)
def test_relations_whose_rows_depend_on_more_are_refused(
    cached: Cached, ddl: str, query: str, reason: str
) -> None:
    cached.name()
    cached.run(ddl)
    assert cached.why_not(query).startswith(reason)


def test_a_temporary_table_hides_others_of_its_name(cached: Cached) -> None:
    cached.name()
    with cached.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE yarn AS SELECT 1 AS id, 'mine' AS name")
        connection.commit()
        assert cached.name(connection) == "mine"
        assert "temporary tables" in cached.why_not(NAME, connection)
        connection.invalidate()
    assert cached.name() == "public"


# -- transactions -------------------------------------------------------------------------------------


def test_a_savepoint_of_psycopg_does_not_end_its_transaction(cached: Cached) -> None:
    connect = cached.queries.wrap_connect(psycopg.connect)
    with closing(connect(cached.url, autocommit=True)) as connection:
        assert cached.name(connection) == "public"
        with connection.transaction(force_rollback=True):
            with connection.transaction():
                connection.execute("UPDATE yarn SET name = 'never' WHERE id = 1")
            assert cached.name(connection) == "never"
            assert cached.name() == "public"
        assert cached.name(connection) == "public"


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_two_phases_publish_at_the_second(two_phase_url: str, end: str) -> None:
    with psycopg.connect(two_phase_url, autocommit=True) as plain:
        plain.execute(SCHEMA)
    cached = Cached(two_phase_url)
    with cached.engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.exec_driver_sql("UPDATE yarn SET name = 'newer' WHERE id = 1")
        transaction.prepare()
        assert cached.name() == "public" == cached.name()
        getattr(transaction, end)()
    assert cached.name() == ("newer" if end == "commit" else "public")
    cached.engine.dispose()


def test_a_transaction_that_another_connection_has_prepared_is_a_write_of_everything(
    two_phase_url: str,
) -> None:
    with psycopg.connect(two_phase_url, autocommit=True) as plain:
        plain.execute(SCHEMA)
        cached = Cached(two_phase_url)
        plain.execute("BEGIN")
        plain.execute("UPDATE yarn SET name = 'newer' WHERE id = 1")
        plain.execute("PREPARE TRANSACTION 'elsewhere'")
    cached.name()
    with cached.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("COMMIT PREPARED 'elsewhere'")
    assert cached.name() == "newer"
    cached.engine.dispose()


@pytest.fixture(scope="module")
def two_phase_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server that prepares transactions."""
    import tempfile

    from benchmarks.harness.postgres import Postgres

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_RUNTIME_DIR", folder)
        with Postgres(Path(folder) / "data") as server:
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET max_prepared_transactions = 10")
            server.kill()
            server.start()
            yield server.url


# -- several processes --------------------------------------------------------------------------------


def test_no_answer_of_several_processes_is_stale_or_of_rolled_back_data(
    two_phase_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(two_phase_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    create_schema(two_phase_url)

    def work(number: int) -> Any:
        mill = Mill(two_phase_url, tmp_path / "state", number)
        mill.wait_until_published()
        clerks = mill.run_beside(250)
        hits = mill.perf.cache.get_cache_statistics()["total"]["hits"]
        mill.close()
        return [(clerk.changes, clerk.answers, clerk.wrong) for clerk in clerks], hits

    results = in_processes(work, 3, tmp_path)
    traces = [trace for traces, _ in results for trace in traces]
    changes = [change for trace in traces for change in trace[0]]
    answers = [answer for trace in traces for answer in trace[1]]
    verdict = judge(changes, answers)
    assert (verdict.stale, verdict.rolled_back, verdict.early) == ({}, {}, {})
    assert not [text for trace in traces for text in trace[2]]
    assert len(changes) > 20 and sum(hits for _, hits in results) > 10
