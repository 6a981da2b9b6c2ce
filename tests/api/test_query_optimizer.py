"""``QueryOptimizer``: the engine on which indexes are created."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf import KnitPerfError, QueryOptimizer
from flask_knitperf.collectors.sql.index_creation import create_indexes, only_engine


def test_indexes_need_exactly_one_watched_engine() -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    optimizer = QueryOptimizer()
    with pytest.raises(KnitPerfError, match="there are 0 instrumented engines; pass engine="):
        only_engine()
    engines = [optimizer.instrument(sqlalchemy.create_engine("sqlite://")) for _ in range(2)]
    with pytest.raises(KnitPerfError, match="there are 2 instrumented engines"):
        only_engine()
    optimizer.uninstrument(engines[0])
    assert only_engine() is engines[1]
    optimizer.uninstrument(engines[1])
    for engine in engines:
        engine.dispose()


def test_the_engine_of_the_constructor_is_used(quiet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE yarns (lot TEXT)")
    row = {"plan": {"missing": [{"index": "CREATE INDEX ix_yarns_lot ON yarns (lot)"}]}}
    document = {"queries": [{"plan": None}, row, row]}
    monkeypatch.setattr(quiet.session.documents, "queries", lambda window: document)
    optimizer = QueryOptimizer(engine, resolve=lambda: quiet.session)
    sql = "CREATE INDEX IF NOT EXISTS ix_yarns_lot ON yarns (lot)"
    assert optimizer.create_missing_indexes(apply=True) == [sql]
    assert [index["name"] for index in sqlalchemy.inspect(engine).get_indexes("yarns")] == [
        "ix_yarns_lot"
    ]
    engine.dispose()


def test_an_asynchronous_engine_is_refused() -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    pytest.importorskip("aiosqlite", reason="aiosqlite is not installed")
    from sqlalchemy.ext.asyncio import create_async_engine

    assert sqlalchemy is not None
    engine = create_async_engine("sqlite+aiosqlite://")
    with pytest.raises(KnitPerfError, match="asynchronous"):
        create_indexes(engine.sync_engine, ["CREATE INDEX i ON t (c)"])
