"""Pools: waiting, holding, opening, timeouts, invalidations and leaks are those that happened."""

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
from flask_knitperf.collectors.sql.pool import LEAKED_NS, name_of
from flask_knitperf.core.units import plain
from flask_knitperf.metrics.catalogue import POOL_HOLD, POOL_LIMIT
from flask_knitperf.metrics.histogram import Histogram
from flask_knitperf.metrics.instruments import Key
from flask_knitperf.metrics.table import Series, Table
from flask_knitperf.metrics.totals import Totals
from flask_knitperf.render import terminal_queries
from tests.conftest import Mill
from tests.reports.test_schemas import check

from .conftest import Asking, line_of

SELECT = sa.text("SELECT 1")


@pytest.fixture
def engine(database: Path, timed: Mill) -> Iterator[sa.Engine]:
    """Return an engine whose pool has room for two; nobody waits longer than a moment."""
    made = sa.create_engine(
        f"sqlite:///{database}", pool_size=1, max_overflow=1, pool_timeout=0.2,
        poolclass=sa.QueuePool, connect_args={"check_same_thread": False},
    )  # fmt: skip
    timed.perf.queries.instrument(made)
    yield made
    sqlalchemy.uninstrument(made)
    made.dispose()


@pytest.fixture
def asking(timed: Mill) -> Asking:
    return Asking(timed)


def pool(asking: Asking) -> dict[str, Any]:
    document = asking.mill.session.documents.queries("run")
    check("queries-1", document)
    [row] = document["pools"]
    return dict(row)


def test_holding_is_from_checkout_to_checkin(engine: sa.Engine, asking: Asking, time: Any) -> None:
    def view() -> None:
        with engine.connect() as connection:
            connection.execute(SELECT)
            time.pass_(0.05)

    asking.serve(view, times=3)
    row = pool(asking)
    assert (row["checkouts"], row["hold"]["count"], row["opened"]) == (3, 3, 1)
    assert row["hold"]["p50_ms"] == pytest.approx(50, rel=0.01)
    assert (row["in_use_max"], row["size"], row["limit"]) == (1, 1, 2)
    assert (row["timeouts"], row["leaks"], row["invalidated"]) == (0, [], {})


def test_opening_is_told_from_waiting(engine: sa.Engine, asking: Asking, time: Any) -> None:
    @sa.event.listens_for(engine, "do_connect")
    def slowly(*_: Any) -> None:
        time.pass_(0.2)

    asking.serve(lambda: engine.connect().close(), times=3)
    row = pool(asking)
    assert (row["opened"], row["opened_ms"]) == (1, 200.0)
    assert (row["wait"]["count"], row["waited_share"]) == (2, 0.0)
    assert asking.mill.parts("ask")["pool"]["count"] == 1


def test_waiting_for_a_connection_is_a_part_of_its_request(
    engine: sa.Engine, asking: Asking, time: Any
) -> None:
    held, waits = engine.connect(), threading.Event()
    engine.connect().close()  # the one beyond the size, which is closed and not kept
    more = engine.connect()
    get = engine.pool._pool.get

    def slow_get(*args: Any) -> Any:
        time.pass_(0.3)
        held.close() if not waits.is_set() else None
        waits.set()
        return get(*args)

    engine.pool._pool.get = slow_get
    asking.serve(lambda: engine.connect().close())
    more.close()
    row = pool(asking)
    assert (row["wait"]["count"], row["waited_share"]) == (1, 1.0)
    assert row["wait"]["max_ms"] == pytest.approx(300, rel=0.01)
    part = asking.mill.parts("ask")["pool"]
    assert (part["count"], part["ms"]) == (1, pytest.approx(300, rel=0.01))


def test_who_gets_none_in_time_counts_and_is_told_so(engine: sa.Engine, asking: Asking) -> None:
    held = [engine.connect(), engine.connect()]

    def view() -> None:
        with pytest.raises(sa.exc.TimeoutError):
            engine.connect()

    asking.serve(view)
    for each in held:
        each.close()
    assert pool(asking)["timeouts"] == 1
    assert "1 timeout" in page(asking)


def test_invalidated_connections_count_by_what_was_wrong(engine: sa.Engine, asking: Asking) -> None:
    def view() -> None:
        with engine.connect() as connection:
            connection.invalidate()
        with engine.connect() as connection:
            connection.invalidate(ValueError("hunter2"))

    asking.serve(view)
    row = pool(asking)
    assert row["invalidated"] == {"ValueError": 1, "asked for": 1}
    assert "hunter2" not in str(row)


def test_a_connection_that_does_not_come_back_has_leaked_at_its_line(
    engine: sa.Engine, asking: Asking, time: Any
) -> None:
    held: list[Any] = []

    def take() -> None:
        held.append(engine.connect())  # leaks

    def view() -> None:
        take()  # calls

    asking.serve(view)
    assert pool(asking)["leaks"] == []
    time.pass_(LEAKED_NS / 1e9 + 1)
    for _ in range(2):
        asking.mill.session.jobs.record_pools()
    where = f"sql/test_pool.py:{line_of(__file__, 'leaks')}"
    [leak] = pool(asking)["leaks"]
    above = f"sql/test_pool.py:{line_of(__file__, 'calls')} in view"
    assert (leak["where"], leak["count"]) == (where, 1)
    assert leak["stack"][:2] == [f"{where} in take", above] and len(leak["stack"]) <= 12
    assert f"called by {above}" in page(asking)
    assert f"called by {above}" in terminal_queries.queries(
        asking.mill.session.documents.queries("run")
    )
    assert f"1 connection not returned to the pool, checked out at {where}" in page(asking)
    assert f"1 connection not returned to the pool, checked out at {where}" in " ".join(
        terminal_queries.queries(asking.mill.session.documents.queries("run")).split()
    )
    held[0].close()
    assert pool(asking)["hold"]["count"] == 1


def page(asking: Asking) -> str:
    asking.mill.app.debug = True
    answer = asking.mill.app.test_client().get(
        "/perf/queries?window=run", headers={"Accept": "text/html"}
    )
    return plain(answer.text)


def test_outside_of_requests_nothing_counts(engine: sa.Engine, asking: Asking) -> None:
    with engine.connect() as connection:
        connection.execute(SELECT)
        connection.invalidate()
    asking.mill.get("/")
    assert asking.mill.session.documents.queries("run")["pools"] == []


def test_a_pool_that_was_renewed_is_watched_and_let_go_as_it_was(
    engine: sa.Engine, asking: Asking
) -> None:
    engine.dispose()
    asking.serve(lambda: engine.connect().close())
    assert pool(asking)["checkouts"] == 1
    sqlalchemy.uninstrument(engine)
    assert "connect" not in vars(engine.pool)
    assert asking.mill.get("/ask").body == b"ok"
    assert pool(asking)["checkouts"] == 1


@pytest.mark.parametrize(("url", "name"), [
    ("sqlite://", "sqlite:///:memory:"),
    ("sqlite:////var/mill/mill.db", "sqlite:///mill.db"),
    ("postgresql+psycopg://user:hunter2@db.example:5432/mill", "postgresql://db.example/mill"),
])  # fmt: skip
def test_a_pool_s_name_has_no_user_and_no_password(url: str, name: str) -> None:
    assert name_of(sa.create_engine(url)) == name


@pytest.mark.parametrize("name", ["_taken", "_back", "_invalid", "_waited"])
def test_a_failure_of_ours_is_not_the_application_s(
    engine: sa.Engine, asking: Asking, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("ours")

    def view() -> None:
        with engine.connect() as connection:
            monkeypatch.setattr(asking.mill.session.recorder, "series", broken)
            connection.invalidate()
            monkeypatch.undo()
        monkeypatch.setattr(asking.mill.session.recorder, "series", broken)
        held = engine.connect()
        held.close()
        monkeypatch.undo()

    assert callable(getattr(sqlalchemy._WATCHERS[engine].pool, name))
    asking.serve(view)
    assert "pools failed" in asking.mill.degraded()


# -- advice --------------------------------------------------------------------------------------------


def advised(asking: Asking, time: Any, engine: sa.Engine, rate: float, held: float) -> Any:
    """Serve requests that hold a connection, at a rate for ten seconds; return the advice."""
    count = round(rate * 10)

    def view() -> None:
        with engine.connect():
            time.pass_(held)

    asking.mill.app.add_url_rule("/hold", "hold", lambda: (view(), "ok")[1])
    for _ in range(count):
        asking.mill.get("/hold")
        time.pass_(max(0.0, 1 / rate - held))
    return asking.mill.perf.queries


def test_the_size_follows_from_littles_law(engine: sa.Engine, asking: Asking, time: Any) -> None:
    queries = advised(asking, time, engine, rate=10, held=0.08)
    with asking.mill.app.app_context():
        [advice] = queries.pool_advice("run")
    assert advice["checkouts_per_s"] == pytest.approx(10, rel=0.05)
    assert advice["held_ms"] == pytest.approx(80, rel=0.01)
    assert advice["in_use"] == pytest.approx(0.8, rel=0.05)
    assert advice["need"] == 3  # 0.8 and two square roots of it
    assert advice["seen"] == advice["size"] == 1  # requests came one after another
    assert "no worker ever had more than 1 out at once" in advice["text"]
    assert "holds it for 80.0 ms, so 0.8" in advice["text"]
    assert advice["text"] in " ".join(
        terminal_queries.queries(asking.mill.session.documents.queries("run")).split()
    )
    assert plain(advice["text"]) in page(asking)


def test_few_checkouts_are_no_ground_for_advice(
    engine: sa.Engine, asking: Asking, time: Any
) -> None:
    advised(asking, time, engine, rate=1, held=0.08)
    assert pool(asking)["advice"] is None


@pytest.mark.parametrize(("name", "workers", "cores", "out", "limit", "size", "said"), [
    ("postgresql:///mill", 1, 2, 15, 15, 8, "a pool of 8 is enough"),
    ("postgresql:///mill", 1, 2, None, None, 8, "a pool of 8 is enough"),
    ("postgresql:///mill", 1, 2, 6, 15, 6, "no worker ever had more than 6 out at once"),
    ("postgresql:///mill", 1, 2, 6, 6, 8, "a pool of 8 is enough"),
    ("postgresql://localhost/mill", 4, 1, None, None, 2, "1 core 8 connections are plenty, which is 2"),
    ("postgresql://localhost/mill", 16, 1, None, None, 1, "which is 1 for each worker"),
    ("postgresql://db.example/mill", 4, 1, None, None, 3, "a pool of 3 is enough"),
])  # fmt: skip
def test_no_more_is_advised_than_is_of_use(
    name: str, workers: int, cores: int, out: int | None, limit: int | None, size: int, said: str
) -> None:
    table = Table()
    series = {
        "pool_hold": [400_000_000] * 100, "pool_wait": [1000] * 100,
        "pool_in_use": [] if out is None else [out],
    }  # fmt: skip
    table.series = {
        Key(meter, (name,)): Series(
            POOL_HOLD.kind, POOL_HOLD.unit, POOL_HOLD.merge, Histogram.of(values)
        )
        for meter, values in series.items() if values
    }  # fmt: skip
    if limit is not None:
        key = Key("pool_limit", (name,))
        table.series[key] = Series(
            POOL_LIMIT.kind, POOL_LIMIT.unit, POOL_LIMIT.merge, Histogram(), {"w": limit}
        )
    [row] = pools(Totals.of(table), 10.0, workers, cores)
    assert row.advice is not None and row.advice.size == size and said in row.advice.text


def test_without_an_application_there_is_no_advice() -> None:
    with pytest.raises(KnitPerfError, match="no application is current"):
        KnitPerf().queries.pool_advice()


def test_a_worker_says_how_its_pools_are_by_itself(
    make_app: Callable[..., Mill], database: Path
) -> None:
    mill = make_app()
    engine = mill.perf.queries.create_engine(f"sqlite:///{database}")
    Asking(mill).serve(lambda: engine.connect().close())
    mill.session.jobs.record_pools()
    mill.session.recorder.worker.fold()
    [row] = mill.session.documents.queries("run")["pools"]
    assert (row["size"], row["limit"]) == (5, 15)
    sqlalchemy.uninstrument(engine)
    engine.dispose()
