"""Hits of an application's cached functions and views are verified with a copy of their request."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import flask
import pytest
import sqlalchemy as sa
from flask import request, session

from flask_knitperf import KnitPerf
from flask_knitperf.caching.dependencies import Table
from flask_knitperf.recording.span import CURRENT


class Mill:
    """An application that verifies each hit."""

    def __init__(self) -> None:
        self.app = flask.Flask("mill")
        self.app.config.update(TESTING=True, SECRET_KEY="x" * 16, KNITPERF_CACHE_VERIFY=1)
        self.perf = KnitPerf(self.app)
        verification: Any = self.perf.cache._verification
        verification._began -= 10_000  # so that it may take some time
        self.client = self.app.test_client()

    def get(self, path: str = "/", **options: Any) -> str:
        return self.client.get(path, **options).text

    @property
    def total(self) -> Any:
        return self.perf.cache.get_cache_statistics()["total"]

    def findings(self) -> list[tuple[str, str]]:
        return [
            (row["type"], row["recommendation"]) for row in self.perf.report()["bottlenecks"]
        ]  # fmt: skip


@pytest.fixture
def mill() -> Iterator[Mill]:
    mill = Mill()
    yield mill
    mill.app.extensions["knitperf"].close()


def test_a_function_of_a_view_is_loaded_again_after_the_response(mill: Mill) -> None:
    calls: list[bool] = []

    @mill.perf.cache.cached
    def total(style: str) -> str:
        calls.append(CURRENT.get() is not None)
        return style

    mill.app.add_url_rule("/<style>", "total", total)
    assert [mill.get("/a") for _ in range(4)] == ["a"] * 4
    assert calls[:2] == [True, False] and mill.total["verified"] >= 1
    assert (mill.total["hits"], mill.total["misses"], mill.total["bypassed"]) == (3, 1, 0)


def test_the_copy_has_the_url_and_the_session_of_the_hit(mill: Mill) -> None:
    seen: list[Any] = []

    @mill.perf.cache.cached(vary=("user", "url"))
    def page() -> str:
        seen.append((request.args["style"], session["user_id"]))
        return "".join(seen[-1])

    def view() -> str:
        session["user_id"] = request.args["user"]
        return page()

    mill.app.add_url_rule("/", "page", view)
    for style, user in ("ax", "by", "ax", "by", "ax", "by", "ax"):
        assert mill.get(f"/?style={style}&user={user}") == style + user
    assert set(seen) == {("a", "x"), ("b", "y")} and len(seen) > 2
    assert mill.total["verified"] > 2 and mill.total["differed"] == 0


def test_a_view_that_changes_for_ever_is_a_finding(mill: Mill) -> None:
    stock = [1]
    mill.app.add_url_rule("/", "stock", mill.perf.cache.cached(lambda: flask.jsonify(kg=stock[0])))
    mill.get(), mill.get()
    stock[0] = 2
    for _ in range(3):
        mill.get()
    assert mill.get() == '{"kg":2}\n'
    assert mill.findings() == [
        ("CACHE_STALE", "Set a ttl, or call invalidate() where its source changes.")
    ]


def test_a_view_that_is_the_same_is_not(mill: Mill) -> None:
    mill.app.add_url_rule("/", "stock", mill.perf.cache.cached(lambda: flask.jsonify(kg=1)))
    for _ in range(5):
        mill.get()
    assert mill.total["verified"] >= 3 and mill.total["differed"] == 0 and not mill.findings()


@pytest.mark.parametrize("raw", [False, True])
def test_a_table_that_depends_lacks_is_named(mill: Mill, tmp_path: Path, raw: bool) -> None:
    path = tmp_path / "mill.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    mill.perf.queries.instrument(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table yarn (kg int)")
        connection.exec_driver_sql("create table orders (kg int)")
        connection.exec_driver_sql("insert into yarn values (1)")

    @mill.perf.cache.cached(depends=Table("orders"))
    def weight() -> str:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("select sum(kg) from yarn").all()
            rows += connection.exec_driver_sql("select sum(kg) from orders").all()
            return str(rows)

    mill.app.add_url_rule("/", "weight", weight)
    mill.get(), mill.get()
    if raw:
        with sqlite3.connect(path) as other:
            other.execute("update yarn set kg = 2")
        other.close()
    else:
        with engine.begin() as connection:
            connection.exec_driver_sql("update yarn set kg = 2")
    for _ in range(3):
        mill.get()
    mill.perf.queries.uninstrument(engine)
    engine.dispose()
    assert (
        "CACHE_STALE",
        'Add Table("yarn") to its depends, or set depends="auto".',
    ) in mill.findings()


def test_a_coroutine_function_is_verified(mill: Mill) -> None:
    stock = [1]

    @mill.perf.cache.cached
    async def kg() -> str:
        return str(stock[0])

    mill.app.add_url_rule("/", "kg", kg)
    mill.get(), mill.get()
    stock[0] = 2
    for _ in range(3):
        mill.get()
    assert mill.get() == "2" and mill.total["differed"] == 1


def test_the_ends_of_requests_run_for_the_copy_in_its_context(mill: Mill) -> None:
    ends: list[str] = []
    mill.app.teardown_request(lambda _: ends.append(request.path))
    mill.app.add_url_rule("/", "stock", mill.perf.cache.cached(lambda: "1"))
    for _ in range(3):
        mill.get()
    assert len(ends) == 3 + mill.total["verified"] > 3 and not flask.has_request_context()


def test_an_error_of_the_end_of_the_copy_harms_no_request(mill: Mill) -> None:
    fail: list[int] = []

    @mill.app.teardown_request
    def end(_: Any) -> None:
        if fail:
            raise RuntimeError("end")

    mill.app.add_url_rule("/", "stock", mill.perf.cache.cached(lambda: "1"))
    mill.get(), mill.get()
    jobs = mill.app.extensions["knitperf"].recorder.after_response
    run = jobs.run

    def failing(**options: Any) -> None:
        fail.append(1)
        run(**options)
        fail.clear()

    jobs.run = failing
    assert [mill.get() for _ in range(3)] == ["1"] * 3


def test_a_response_whose_end_is_not_seen_is_not_delayed(mill: Mill) -> None:
    loads: list[int] = []
    cached = mill.perf.cache.cached(lambda: loads.append(1) or "1")
    mill.app.add_url_rule("/", "stock", lambda: "2")

    class Bare:
        """A plain WSGI response: a list."""

        def __call__(self, environ: Any, start: Any) -> Any:
            start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1")])
            return [b"1"]

    application = mill.app.wsgi_app

    def bare(environ: Any, start: Any) -> Any:
        if environ["PATH_INFO"] == "/":
            return application(environ, start)
        with mill.app.request_context(environ):
            cached()
        return Bare()(environ, start)

    mill.app.wsgi_app = bare  # type: ignore[method-assign]
    for _ in range(4):
        mill.get("/bare")
    assert len(loads) == 1
    mill.get(), mill.get()
    assert len(loads) >= 2


@pytest.mark.parametrize("nested", [1, 2])
def test_an_inner_function_that_is_out_of_date_is_named_in_place_of_the_outer_one(
    mill: Mill, nested: int
) -> None:
    stock = [1]
    cached = mill.perf.cache.cached

    @cached(namespace="inner", depends=())
    def inner() -> int:
        return stock[0]

    @cached(namespace="middle", depends=())
    def middle() -> int:
        return inner()

    @cached(namespace="outer", depends=())
    def outer() -> str:
        return str(inner() if nested == 1 else middle())

    mill.app.add_url_rule("/", "stock", outer)
    mill.get(), mill.get()
    stock[0] = 2
    for _ in range(4):
        mill.get()
    rows = mill.perf.cache.get_cache_statistics()["namespaces"]
    assert mill.get() == "2"
    assert (rows["outer"]["differed"], rows["inner"]["differed"]) == (0, 1)
    assert rows["inner"]["bypassed"] == 0
    assert ".inner" in mill.perf.report()["bottlenecks"][0]["text"]


def test_what_is_on_g_and_in_context_variables_is_that_of_the_hit(mill: Mill) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="none")
    closed: list[str] = []

    class Connection:
        """A connection, which the end of the request closes."""

        def cursor(self) -> None: ...

        def close(self) -> None:
            closed.append("closed")

    @mill.app.before_request
    def begin() -> None:
        flask.g.user = request.args["user"]
        flask.g.db = Connection()
        tenant.set(request.args["user"].upper())

    @mill.app.teardown_request
    def end(_: Any) -> None:
        flask.g.pop("db").close()  # it raises in the copy, which has none

    @mill.perf.cache.cached(vary=[lambda: flask.g.user, tenant.get])
    def page() -> str:
        return flask.g.user + tenant.get() + str(stock[0])

    stock = [1]
    mill.app.add_url_rule("/", "page", page)
    for user in ("a", "b", "a", "b"):
        mill.get(f"/?user={user}")
    assert mill.total["verified"] >= 1 and mill.total["differed"] == 0
    stock[0] = 2
    for user in "abab":
        mill.get(f"/?user={user}")
    assert mill.total["differed"] >= 1 and [mill.get("/?user=a"), mill.get("/?user=b")] == [
        "aA2",
        "bB2",
    ]
    assert len(closed) == mill.total["hits"] + mill.total["misses"]


def test_a_dependency_that_is_checked_once_a_second_is_no_fault(mill: Mill, tmp_path: Path) -> None:
    path = tmp_path / "rates"
    path.write_text("1")
    os.utime(path, (1, 1))
    time.sleep(2.1)  # until its state counts

    @mill.perf.cache.cached
    def rates() -> str:
        return path.read_text()

    mill.app.add_url_rule("/", "rates", rates)
    mill.get(), mill.get()
    path.write_text("2")
    mill.get(), mill.get()
    assert mill.total["hits"] > 0 and mill.total["differed"] == 0 and not mill.findings()


@pytest.mark.parametrize(("testing", "every"), [(True, 0), (False, 1000)])
def test_a_test_of_an_application_sees_no_load_by_chance(
    testing: bool, every: int, tmp_path: Path
) -> None:
    app = flask.Flask("mill")
    app.config.update(TESTING=testing, KNITPERF_STATE_DIR=str(tmp_path / "state"))
    perf = KnitPerf(app)
    assert perf.cache._verified_one_in() == every
    app.extensions["knitperf"].close()
