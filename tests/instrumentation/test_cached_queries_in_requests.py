"""Rows that depend on the current request are not cached for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flask
import pytest
import sqlalchemy as sa

from flask_knitperf import KnitPerf
from flask_knitperf.collectors.sql import sqlalchemy as watched


class Local(sa.types.TypeDecorator[str]):
    """A column in the zone of the user."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> str:
        return f"{value}@{flask.g.zone}"


@pytest.mark.parametrize("kind", [Local, sa.Text])
def test_a_type_that_reads_the_request_is_for_that_request(tmp_path: Path, kind: Any) -> None:
    app = flask.Flask("mill")
    app.config["TESTING"] = True
    perf = KnitPerf(app)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'mill.db'}")
    perf.queries.instrument(engine)
    table = sa.Table("visit", sa.MetaData(), sa.Column("at", kind))
    with engine.begin() as connection:
        connection.exec_driver_sql("create table visit (at text)")
        connection.exec_driver_sql("insert into visit values ('noon')")
    statement = sa.select(table.c.at)

    @app.get("/")
    def visits() -> str:
        flask.g.zone = flask.request.args["zone"]
        return str(perf.queries.cached(statement, engine)[0].at)

    client = app.test_client()
    zones = ["Berlin", "Tokyo", "Berlin", "Tokyo"]
    answers = [client.get("/", query_string={"zone": zone}).text for zone in zones]
    assert answers == [f"noon@{zone}" if kind is Local else "noon" for zone in zones]
    statistics = perf.cache.get_cache_statistics()["total"]
    assert (statistics["hits"] == 0) == (kind is Local)
    watched.uninstrument(engine)
    engine.dispose()
    app.extensions["knitperf"].close()
