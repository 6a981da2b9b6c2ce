"""Cached values follow the tables and the files that their loads read, in an application."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import flask
import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from flask_knitperf import CacheOptimizer, KnitPerf, QueryOptimizer
from flask_knitperf.caching import file_state
from flask_knitperf.collectors.sql import sqlalchemy
from flask_knitperf.collectors.sql.written_tables import WRITTEN_TABLES

COUNT = "SELECT count(*) FROM yarn"


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_state, "MIN_AGE_S", -1.0)  # a test writes its files just before


class Mill:
    """An application with a cache and an instrumented engine, whose loads are counted."""

    def __init__(self, path: Path) -> None:
        self.app = flask.Flask("mill")
        self.app.config.update(TESTING=True, KNITPERF_REUSE_READS=True)
        self.perf = KnitPerf(self.app)
        self.loads = 0
        self.engine = sa.create_engine(f"sqlite:///{path}")
        with self.engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE yarn (name TEXT)"))
            connection.execute(sa.text("CREATE TABLE style (name TEXT)"))
        self.perf.queries.instrument(self.engine)
        self.perf.cache.cached(lambda: 0)()  # from now on writes are published

    def cached(self, load: Callable[..., Any], **options: Any) -> Any:
        def counted() -> Any:
            self.loads += 1
            return load()

        return self.perf.cache.cached(counted, **options)

    def count(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(sa.text(COUNT)).scalar_one())

    def write(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def refusal(self, function: Any) -> str:
        return self.perf.cache.explain(function)["refused"] or ""


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    mill = Mill(tmp_path / "mill.db")
    with mill.app.app_context():
        yield mill
    sqlalchemy.uninstrument(mill.engine)
    mill.engine.dispose()
    mill.app.extensions["knitperf"].close()
    WRITTEN_TABLES.has_subscribers = False
    WRITTEN_TABLES._subscribers.clear()


def test_a_write_invalidates_the_values_of_its_table_at_once(mill: Mill) -> None:
    count = mill.cached(mill.count)
    mill.count()  # the pool has a connection: the load opens no file
    assert [count(), count()] == [0, 0] and mill.loads == 1
    assert "table yarn" in mill.perf.cache.explain(count)["depends_on"]
    mill.write("INSERT INTO style VALUES ('12/1A')")
    assert count() == 0 and mill.loads == 1
    mill.write("INSERT INTO yarn VALUES ('merino')")
    assert [count(), count()] == [1, 1] and mill.loads == 2
    assert mill.perf.cache.explain(count)["last_miss"] == "invalidated"


def test_the_tables_of_an_inner_call(mill: Mill) -> None:
    inner = mill.cached(mill.count)
    outer = mill.cached(lambda: inner() + 100)
    inner()
    assert outer() == 100
    mill.write("DELETE FROM yarn")
    mill.write("INSERT INTO yarn VALUES ('merino')")
    assert outer() == 101


def test_a_wrapped_connection(mill: Mill, tmp_path: Path) -> None:
    connect = mill.perf.queries.wrap_connect(sqlite3.connect)
    with closing(connect(tmp_path / "mill.db")) as connection:
        count = mill.cached(lambda: connection.execute(COUNT).fetchone()[0])
        assert [count(), count()] == [0, 0] and mill.loads == 1
        connection.execute("INSERT INTO yarn VALUES ('merino')")
        assert [count(), count()] == [1, 1] and mill.loads == 3  # it may be rolled back
        assert "its transaction has written" in mill.refusal(count)
        connection.rollback()
        assert [count(), count()] == [0, 0] and mill.loads == 4
        connection.execute("INSERT INTO yarn VALUES ('merino')")
        connection.commit()
        assert [count(), count()] == [1, 1] and mill.loads == 5


def test_a_connection_in_autocommit_mode(mill: Mill, tmp_path: Path) -> None:
    connect = mill.perf.queries.wrap_connect(sqlite3.connect)
    with closing(connect(tmp_path / "mill.db", isolation_level=None)) as connection:
        count = mill.cached(lambda: connection.execute(COUNT).fetchone()[0])
        for number in range(3):
            assert [count(), count()] == [number, number] and mill.loads == number + 1
            connection.execute("INSERT INTO yarn VALUES ('merino')")


def test_an_engine_that_reads_what_its_transaction_has_written(mill: Mill) -> None:
    with mill.engine.connect() as connection:
        count = mill.cached(lambda: connection.execute(sa.text(COUNT)).scalar_one())
        connection.execute(sa.text("INSERT INTO yarn VALUES ('merino')"))
        assert [count(), count()] == [1, 1] and mill.loads == 2
        connection.rollback()
        assert [count(), count()] == [0, 0] and mill.loads == 3


@pytest.mark.parametrize(
    ("statement", "reason"),
    [("INSERT INTO yarn VALUES ('a')", "writes to a database"),
     ("SELECT random()", "another result each time"),
     ("SELECT " + ", ".join(map(str, range(1200))), "too long")],
)  # fmt: skip
def test_a_load_without_a_repeatable_result_is_refused(
    mill: Mill, statement: str, reason: str
) -> None:
    load = mill.cached(lambda: mill.write(statement))
    load(), load()
    assert mill.loads == 2 and reason in mill.refusal(load)
    report = mill.perf.cache.get_cache_statistics()
    assert report["total"]["refused"] == 2


def test_a_write_during_the_load_prevents_caching(mill: Mill) -> None:
    def slow() -> int:
        count = mill.count()
        if mill.loads == 1:
            thread = threading.Thread(target=mill.write, args=("INSERT INTO yarn VALUES ('a')",))
            thread.start()
            thread.join()
        return count

    count = mill.cached(slow, depends="auto")
    assert [count(), count(), count()] == [0, 1, 1]


def test_a_load_with_declared_dependencies_may_write(mill: Mill) -> None:
    load = mill.cached(lambda: mill.write("INSERT INTO yarn VALUES ('a')"), depends=())
    load(), load()
    assert mill.loads == 1


def test_a_failing_query_that_the_load_catches(mill: Mill) -> None:
    def prices() -> int:
        try:
            with mill.engine.connect() as connection:
                return int(connection.execute(sa.text("SELECT count(*) FROM price")).scalar_one())
        except sa.exc.OperationalError:
            return -1

    mill.count()
    load = mill.cached(prices)
    assert [load(), load()] == [-1, -1]
    mill.write("CREATE TABLE price (value)")
    assert load() == 0


def test_a_query_without_an_application(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'mill.db'}", poolclass=NullPool)
    cache, loads = CacheOptimizer(), []
    QueryOptimizer().instrument(engine)

    @cache.cached
    def tables() -> int:
        loads.append(1)
        with engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM yarn")).scalar_one())

    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE yarn (name)"))
    assert [tables(), tables()] == [0, 0] and len(loads) == 1
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO yarn VALUES ('a')"))
    assert tables() == 1
    sqlalchemy.uninstrument(engine)
    WRITTEN_TABLES.has_subscribers = False
    WRITTEN_TABLES._subscribers.clear()


READERS: dict[str, tuple[str, Callable[[Path], pd.DataFrame]]] = {
    "to_csv": ("a.csv", pd.read_csv),
    "to_parquet": ("a.parquet", pd.read_parquet),
    "to_excel": ("a.xlsx", pd.read_excel),
    "to_pickle": ("a.pickle", pd.read_pickle),
}


@pytest.mark.parametrize("writer", READERS)
@pytest.mark.parametrize("is_reused", [False, True])
def test_a_file_that_pandas_reads(mill: Mill, tmp_path: Path, writer: str, is_reused: bool) -> None:
    name, _ = READERS[writer]

    def write(kilograms: float) -> None:
        getattr(pd.DataFrame({"kg": [kilograms]}), writer)(tmp_path / f"new-{name}")
        (tmp_path / f"new-{name}").replace(tmp_path / name)

    @mill.app.get("/")
    def total() -> str:
        reader = getattr(pd, READERS[writer][1].__name__)
        if is_reused:
            reader(tmp_path / name)  # the load below is answered from the cache of reads
        return str(load())

    def read() -> float:
        return float(getattr(pd, READERS[writer][1].__name__)(tmp_path / name)["kg"].sum())

    load = mill.cached(read)
    write(1.0)
    visit = mill.app.test_client().get
    assert [visit("/").text, visit("/").text] == ["1.0", "1.0"] and mill.loads == 1
    write(2.0)
    cache = load.__knitperf_cache__
    for entry in cache.region.entries.values():
        entry.check_again(0.0)  # a second later
    assert visit("/").text == "2.0"


def test_a_request_that_loads_nothing_reads_for_itself(mill: Mill, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("note")
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        assert go_on.wait(20)
        return 1

    load = mill.cached(slow)
    other = mill.cached(lambda: 2)
    mill.app.add_url_rule("/slow", "slow", lambda: str(load()))
    mill.app.add_url_rule("/", "read", lambda: (tmp_path / "note").read_text() + str(other()))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(mill.app.test_client().get, "/slow")
        assert begun.wait(20)
        assert [mill.app.test_client().get("/").text for _ in range(2)] == ["note2", "note2"]
        go_on.set()
        assert answer.result(20).text == "1"
    depends_on = mill.perf.cache.explain(load)["depends_on"]
    assert not [one for one in depends_on if one.startswith("file")]
    assert load.__knitperf_cache__.region.entries.popitem()[1].slots == (
        load.__knitperf_cache__._slots
    )


def test_a_folder_of_parquet_files(mill: Mill, tmp_path: Path) -> None:
    folder = tmp_path / "orders"
    pd.DataFrame({"kg": [1.0, 2.0], "year": [2025, 2026]}).to_parquet(
        folder, partition_cols=["year"]
    )

    @mill.app.get("/")
    def total() -> str:
        return str(load())

    load = mill.cached(lambda: float(pd.read_parquet(folder)["kg"].sum()))
    visit = mill.app.test_client().get
    assert visit("/").text == "3.0"
    pd.DataFrame({"kg": [5.0]}).to_parquet(folder / "year=2025" / "more.parquet")
    for entry in load.__knitperf_cache__.region.entries.values():
        entry.check_again(0.0)
    assert visit("/").text == "8.0"
