"""Pools: waits, holds, openings, timeouts, invalidations and leaks are counted exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_knitperf import KnitPerf, KnitPerfError
from flask_knitperf.analysis.pools import pools
from flask_knitperf.collectors.sql import sqlalchemy
from flask_knitperf.collectors.sql.pool import LEAK_AFTER_NS, pool_name
from flask_knitperf.core.units import plain
from flask_knitperf.render import terminal_queries
from tests.analysis.tables import Mill as Tables
from tests.conftest import Mill
from tests.reports.test_schemas import check
from tests.web.clients import debug_code

from .conftest import QueryApplication, line_of

SELECT = sa.text("SELECT 1")


@pytest.fixture
def engine(database: Path, timed: Mill) -> Iterator[sa.Engine]:
    """An engine whose pool has two connections and a short timeout."""
    engine = sa.create_engine(
        f"sqlite:///{database}", pool_size=1, max_overflow=1, pool_timeout=0.2,
        poolclass=sa.QueuePool, connect_args={"check_same_thread": False},
    )  # fmt: skip
    timed.perf.queries.instrument(engine)
    yield engine
    sqlalchemy.uninstrument(engine)
    engine.dispose()


@pytest.fixture
def application(timed: Mill) -> QueryApplication:
    return QueryApplication(timed)


def pool(application: QueryApplication) -> dict[str, Any]:
    document = application.mill.session.documents.queries("run")
    check("queries-1", document)
    [row] = document["pools"]
    return dict(row)


def test_the_hold_time_is_from_checkout_to_checkin(
    engine: sa.Engine, application: QueryApplication, time: Any
) -> None:
    def view() -> None:
        with engine.connect() as connection:
            connection.execute(SELECT)
            time.pass_(0.05)

    application.serve(view, times=3)
    row = pool(application)
    assert (row["checkouts"], row["hold"]["count"], row["opened"]) == (3, 3, 1)
    assert row["hold"]["p50_ms"] == pytest.approx(50, rel=0.01)
    assert (row["in_use_max"], row["size"], row["limit"]) == (1, 1, 2)
    assert (row["timeouts"], row["leaks"], row["invalidated"]) == (0, [], {})


def test_opening_is_separate_from_waiting(
    engine: sa.Engine, application: QueryApplication, time: Any
) -> None:
    @sa.event.listens_for(engine, "do_connect")
    def slowly(*_: Any) -> None:
        time.pass_(0.2)

    application.serve(lambda: engine.connect().close(), times=3)
    row = pool(application)
    assert (row["opened"], row["opened_ms"]) == (1, 200.0)
    assert (row["wait"]["count"], row["waited_share"]) == (2, 0.0)
    assert application.mill.parts("ask")["pool"]["count"] == 1


def test_waiting_for_a_connection_is_a_part_of_its_request(
    engine: sa.Engine, application: QueryApplication, time: Any
) -> None:
    first, waits = engine.connect(), threading.Event()
    engine.connect().close()  # an overflow connection, which is closed and not pooled
    second = engine.connect()
    get = engine.pool._pool.get

    def slow_get(*args: Any) -> Any:
        time.pass_(0.3)
        first.close() if not waits.is_set() else None
        waits.set()
        return get(*args)

    engine.pool._pool.get = slow_get
    application.serve(lambda: engine.connect().close())
    second.close()
    row = pool(application)
    assert (row["wait"]["count"], row["waited_share"]) == (1, 1.0)
    assert row["wait"]["max_ms"] == pytest.approx(300, rel=0.01)
    part = application.mill.parts("ask")["pool"]
    assert (part["count"], part["ms"]) == (1, pytest.approx(300, rel=0.01))


def test_a_checkout_timeout_is_counted_and_reported(
    engine: sa.Engine, application: QueryApplication
) -> None:
    connections = [engine.connect(), engine.connect()]

    def view() -> None:
        with pytest.raises(sa.exc.TimeoutError):
            engine.connect()

    application.serve(view)
    for connection in connections:
        connection.close()
    assert pool(application)["timeouts"] == 1
    assert "1 timeout" in page(application)


def test_invalidated_connections_count_by_reason(
    engine: sa.Engine, application: QueryApplication
) -> None:
    def view() -> None:
        with engine.connect() as connection:
            connection.invalidate()
        with engine.connect() as connection:
            connection.invalidate(ValueError("hunter2"))

    application.serve(view)
    row = pool(application)
    assert row["invalidated"] == {"ValueError": 1, "requested": 1}
    assert "hunter2" not in str(row)


def test_a_connection_without_checkin_has_leaked_at_its_line(
    engine: sa.Engine, application: QueryApplication, time: Any
) -> None:
    connections: list[Any] = []

    def take() -> None:
        connections.append(engine.connect())  # leaks

    def view() -> None:
        take()  # calls

    application.serve(view)
    assert pool(application)["leaks"] == []
    time.pass_(LEAK_AFTER_NS / 1e9 + 1)
    for _ in range(2):
        application.mill.session.jobs.record_pools()
    where = f"sql/test_pool.py:{line_of(__file__, 'leaks')}"
    [leak] = pool(application)["leaks"]
    above = f"sql/test_pool.py:{line_of(__file__, 'calls')} in view"
    assert (leak["where"], leak["count"]) == (where, 1)
    assert leak["stack"][:2] == [f"{where} in take", above] and len(leak["stack"]) <= 12
    assert f"called by {above}" in page(application)
    assert f"called by {above}" in terminal_queries.queries(
        application.mill.session.documents.queries("run")
    )
    assert f"1 connection not returned to the pool, checked out at {where}" in page(application)
    assert f"1 connection not returned to the pool, checked out at {where}" in " ".join(
        terminal_queries.queries(application.mill.session.documents.queries("run")).split()
    )
    connections[0].close()
    assert pool(application)["hold"]["count"] == 1


def page(application: QueryApplication) -> str:
    mill = application.mill
    mill.app.debug = True
    headers = {"Accept": "text/html", "Authorization": f"Bearer {debug_code(mill)}"}
    answer = mill.app.test_client().get("/perf/queries?window=run", headers=headers)
    return plain(answer.text)


def test_outside_a_request_nothing_counts(engine: sa.Engine, application: QueryApplication) -> None:
    with engine.connect() as connection:
        connection.execute(SELECT)
        connection.invalidate()
    application.mill.get("/")
    assert application.mill.session.documents.queries("run")["pools"] == []


def test_a_disposed_pool_is_instrumented_and_restored(
    engine: sa.Engine, application: QueryApplication
) -> None:
    engine.dispose()
    application.serve(lambda: engine.connect().close())
    assert pool(application)["checkouts"] == 1
    sqlalchemy.uninstrument(engine)
    assert "connect" not in vars(engine.pool)
    assert application.mill.get("/ask").body == b"ok"
    assert pool(application)["checkouts"] == 1


@pytest.mark.parametrize(("url", "name"), [
    ("sqlite://", "sqlite:///:memory:"),
    ("sqlite:///mill.db", "sqlite:///mill.db"),
    ("sqlite:////var/mill/mill.db", "sqlite:///mill/mill.db~c06dc2"),
    ("postgresql+psycopg://user:hunter2@db.example:5432/mill", "postgresql://db.example:5432/mill"),
    ("postgresql+psycopg://user:hunter2@db.example/mill", "postgresql://db.example/mill"),
    ("postgresql+psycopg://u@/mill?host=db.example&password=hunter2", "postgresql://db.example/mill"),
    ("postgresql+psycopg://u@/mill?host=a&host=b", "postgresql://a,b/mill"),
])  # fmt: skip
def test_the_name_of_a_pool_has_no_user_and_no_password(url: str, name: str) -> None:
    assert pool_name(sa.create_engine(url)) == name


def test_files_of_equal_names_in_other_folders_have_pools_of_other_names() -> None:
    urls = [f"sqlite:////{folder}/data/mill.db" for folder in ("a", "b", "srv/a", "srv/b")]
    assert len({pool_name(sa.create_engine(url)) for url in urls}) == 4


def test_pools_of_engines_of_one_database_are_distinguished(
    application: QueryApplication, database: Path
) -> None:
    url = f"sqlite:///{database}"
    engines = [
        sa.create_engine(url, poolclass=sa.QueuePool, pool_size=size, pool_logging_name=label)
        for size, label in ((2, None), (7, None), (3, "reports"))
    ]
    for engine in engines:
        sqlalchemy.instrument(engine)
    application.serve(lambda: [engine.connect().close() for engine in engines])
    rows = {row["pool"]: row for row in application.mill.session.documents.queries("run")["pools"]}
    name = pool_name(engines[0])
    assert {name: rows[name]["size"] for name in rows} == {
        name: 2, f"{name} (2)": 7, f"{name} [reports]": 3
    }  # fmt: skip
    assert {row["checkouts"] for row in rows.values()} == {1}
    for engine in engines:
        sqlalchemy.uninstrument(engine)
        engine.dispose()


def test_an_engine_for_each_request_has_one_row(
    application: QueryApplication, database: Path
) -> None:
    engines = []  # in cycles, so they live on for a while

    def view() -> None:
        engine = sa.create_engine(f"sqlite:///{database}")
        engines.append(engine)
        sqlalchemy.instrument(engine)
        engine.connect().close()
        engine.dispose()

    application.serve(view, times=3)
    assert pool(application)["checkouts"] == 3
    for engine in engines:
        sqlalchemy.uninstrument(engine)


def test_the_number_of_names_of_one_database_is_bounded() -> None:
    engine = sa.create_engine("sqlite:///mill.db")
    taken: list[str] = []
    for _ in range(20):
        taken.append(pool_name(engine, taken))
    assert len(set(taken)) == 9 and taken[-1] == "sqlite:///mill.db (9)"


def test_engines_that_differ_in_their_options_share_a_pool(
    engine: sa.Engine, application: QueryApplication
) -> None:
    reading = engine.execution_options(isolation_level="AUTOCOMMIT")
    deferred = reading.execution_options(logging_token="a")
    sqlalchemy.instrument(deferred)
    sqlalchemy.uninstrument(deferred)
    sqlalchemy.instrument(reading)
    application.serve(lambda: [one.connect().close() for one in (engine, reading)])
    assert pool(application)["checkouts"] == 2
    sqlalchemy.uninstrument(reading)


def test_an_engine_with_options_may_be_the_only_one_that_is_watched(
    application: QueryApplication, database: Path
) -> None:
    engine = sa.create_engine(f"sqlite:///{database}")
    reading = engine.execution_options(isolation_level="AUTOCOMMIT")
    sqlalchemy.instrument(reading)
    application.serve(lambda: reading.connect().close())
    assert pool(application)["checkouts"] == 1
    sqlalchemy.uninstrument(reading)
    assert "connect" not in vars(engine.pool)
    engine.dispose()


def test_a_pool_of_the_application_that_fails_to_report_its_size_fails_nothing_else(
    application: QueryApplication, database: Path
) -> None:
    class Pool(sa.QueuePool):
        def size(self) -> int:
            raise RuntimeError("of the application")

    engine = sa.create_engine(f"sqlite:///{database}", poolclass=Pool)
    sqlalchemy.instrument(engine)
    application.serve(lambda: engine.connect().close())
    row = pool(application)
    assert (row["checkouts"], row["size"], row["limit"]) == (1, None, None)
    assert application.mill.session.recorder.failures == {"pools": 1}
    sqlalchemy.uninstrument(engine)
    del Pool.size
    engine.dispose()


def test_an_engine_whose_url_is_of_another_kind_is_watched() -> None:
    class Url:
        # SQLAlchemy's own tests have mocks there
        host, port, database = Path("db.mill"), None, None

    engine = sa.create_engine("sqlite://")
    engine.url = Url()  # type: ignore[assignment]
    assert pool_name(engine) == "sqlite://db.mill/:memory:"
    sqlalchemy.instrument(engine)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("options", "size", "limit"),
    [({"pool_size": 2, "max_overflow": 3}, 2, 5), ({"pool_size": 2, "max_overflow": -1}, 2, None),
     ({"pool_size": 0}, 0, None), ({"pool_size": 2, "max_overflow": 0}, 2, 2)],
)  # fmt: skip
def test_a_pool_without_a_limit_has_none(
    application: QueryApplication, database: Path, options: dict[str, int], size: int,
    limit: int | None,
) -> None:  # fmt: skip
    engine = sa.create_engine(f"sqlite:///{database}", poolclass=sa.QueuePool, **options)
    sqlalchemy.instrument(engine)
    application.serve(lambda: engine.connect().close())
    sqlalchemy.record_pools(application.mill.session.recorder)
    row = pool(application)
    assert (row["size"], row["limit"]) == (size, limit)
    sqlalchemy.uninstrument(engine)
    engine.dispose()


@pytest.mark.parametrize("name", ["_on_checkout", "_on_checkin", "_on_invalidate", "_record_wait"])
def test_a_failure_of_ours_does_not_reach_the_application(
    engine: sa.Engine, application: QueryApplication, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("ours")

    def view() -> None:
        with engine.connect() as connection:
            monkeypatch.setattr(application.mill.session.recorder, "series", broken)
            connection.invalidate()
            monkeypatch.undo()
        monkeypatch.setattr(application.mill.session.recorder, "series", broken)
        engine.connect().close()
        monkeypatch.undo()

    assert callable(getattr(sqlalchemy._LISTENERS[engine].pool, name))
    application.serve(view)
    assert "pools failed" in application.mill.degraded()


# -- advice --------------------------------------------------------------------------------------------


def advised(
    application: QueryApplication, time: Any, engine: sa.Engine, rate: float, hold_s: float
) -> Any:
    """Serve requests that hold a connection, at a rate for ten seconds."""
    count = round(rate * 10)

    def view() -> None:
        with engine.connect():
            time.pass_(hold_s)

    application.mill.app.add_url_rule("/hold", "hold", lambda: (view(), "ok")[1])
    for _ in range(count):
        application.mill.get("/hold")
        time.pass_(max(0.0, 1 / rate - hold_s))
    return application.mill.perf.queries


def test_the_size_follows_from_littles_law(
    engine: sa.Engine, application: QueryApplication, time: Any
) -> None:
    queries = advised(application, time, engine, rate=10, hold_s=0.08)
    with application.mill.app.app_context():
        [advice] = queries.pool_advice("run")
    assert advice["checkouts_per_s"] == pytest.approx(10, rel=0.05)
    assert advice["held_ms"] == pytest.approx(80, rel=0.01)
    assert advice["in_use"] == pytest.approx(0.8, rel=0.05)
    assert advice["need"] == 3  # 0.8 and two square roots of it
    assert advice["seen"] == advice["size"] == 1  # requests came one after another
    assert "no worker ever had more than 1 checked out at once" in advice["text"]
    assert "holds it for 80.0 ms, so 0.8" in advice["text"]
    assert advice["text"] in " ".join(
        terminal_queries.queries(application.mill.session.documents.queries("run")).split()
    )
    assert plain(advice["text"]) in page(application)


def test_few_checkouts_yield_no_advice(
    engine: sa.Engine, application: QueryApplication, time: Any
) -> None:
    advised(application, time, engine, rate=1, hold_s=0.08)
    assert pool(application)["advice"] is None


@pytest.mark.parametrize(("name", "workers", "cores", "out", "limit", "size", "text"), [
    ("postgresql:///mill", 1, 2, 15, 15, 8, "a pool of 8 is enough"),
    ("postgresql:///mill", 1, 2, None, None, 8, "a pool of 8 is enough"),
    ("postgresql:///mill", 1, 2, 6, 15, 6, "no worker ever had more than 6 checked out at once"),
    ("postgresql:///mill", 1, 2, 6, 6, 8, "a pool of 8 is enough"),
    ("postgresql://localhost/mill", 4, 1, None, None, 2, "1 core 8 connections are plenty, which is 2"),
    ("postgresql://localhost/mill", 16, 1, None, None, 1, "which is 1 for each worker"),
    ("postgresql://db.example/mill", 4, 1, None, None, 3, "a pool of 3 is enough"),
])  # fmt: skip
def test_the_advice_is_bounded_by_need_and_cores(
    name: str, workers: int, cores: int, out: int | None, limit: int | None, size: int, text: str
) -> None:
    mill = Tables()
    for meter, values in {
        "pool_hold": [400_000_000] * 100, "pool_wait": [1000] * 100,
        "pool_in_use": [] if out is None else [out],
    }.items():  # fmt: skip
        for value in values:
            mill.series(meter, name).data.add(value)
    if limit is not None:
        mill.gauge("pool_limit", name, w=limit)
    [row] = pools(mill.readings, 10.0, workers, cores)
    assert row.advice is not None and row.advice.size == size and text in row.advice.text


def test_without_an_application_there_is_no_advice() -> None:
    with pytest.raises(KnitPerfError, match="no application is current"):
        KnitPerf().queries.pool_advice()


def test_a_worker_records_the_gauges_of_its_pools(
    make_app: Callable[..., Mill], database: Path
) -> None:
    mill = make_app()
    engine = mill.perf.queries.create_engine(f"sqlite:///{database}")
    QueryApplication(mill).serve(lambda: engine.connect().close())
    mill.session.jobs.record_pools()
    mill.session.recorder.worker.fold()
    [row] = mill.session.documents.queries("run")["pools"]
    assert (row["size"], row["limit"]) == (5, 15)
    sqlalchemy.uninstrument(engine)
    engine.dispose()
