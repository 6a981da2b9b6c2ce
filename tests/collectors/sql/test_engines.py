"""Engines: sound by default, and of one process alone."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool, QueuePool

from benchmarks.harness.postgres import Postgres
from flask_knitperf.collectors.sql import sqlalchemy
from flask_knitperf.collectors.sql.engines import create_engine
from tests.conftest import Mill

from .conftest import Asking

CHILDREN = 4


@pytest.fixture
def made(quiet: Mill) -> Any:
    """Return a maker of engines that are forgotten afterwards."""
    engines: list[sa.Engine] = []

    def make(url: str, **options: Any) -> sa.Engine:
        engines.append(quiet.perf.queries.create_engine(url, **options))
        return engines[-1]

    yield make
    for engine in engines:
        sqlalchemy.uninstrument(engine)
        engine.dispose()


def pool_of(engine: sa.Engine) -> dict[str, Any]:
    pool: Any = engine.pool
    return {"pre_ping": pool._pre_ping, "recycle": pool._recycle, "timeout": pool._timeout,
            "lifo": pool._pool.use_lifo}  # fmt: skip


def test_an_engine_has_defaults_that_hold_in_production(
    made: Callable[..., sa.Engine], tmp_path: Path
) -> None:
    engine = made(f"sqlite:///{tmp_path / 'mill.db'}")
    assert pool_of(engine) == {"pre_ping": True, "recycle": 1800, "timeout": 10, "lifo": True}
    engine = made(f"sqlite:///{tmp_path / 'mill.db'}", pool_recycle=60, pool_use_lifo=False)
    assert pool_of(engine) == {"pre_ping": True, "recycle": 60, "timeout": 10, "lifo": False}


@pytest.mark.parametrize("options", [{}, {"poolclass": NullPool}])
def test_pools_of_other_kinds_are_made_too(
    made: Callable[..., sa.Engine], options: dict[str, Any]
) -> None:
    engine = made("sqlite://", **options)
    assert not isinstance(engine.pool, QueuePool)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def test_its_statements_are_watched(made: Callable[..., sa.Engine], quiet: Mill) -> None:
    engine, asking = made("sqlite://"), Asking(quiet)

    def view() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    asking.serve(view)
    assert asking.asked["SELECT ?"]["count"] == 1


def test_who_connects_in_vain_is_told_in_time(made: Callable[..., sa.Engine]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://x@127.0.0.1:{silent.getsockname()[1]}/x"
        engine = made(url, connect_args={"connect_timeout": 2, "application_name": "mill"})
        with pytest.raises(sa.exc.OperationalError):
            engine.connect()
    given: list[dict[str, Any]] = []
    engine = made(url, connect_args={"application_name": "mill"})

    @sa.event.listens_for(engine, "do_connect")
    def noted(_d: Any, _r: Any, _a: Any, options: dict[str, Any]) -> Any:
        given.append(options)
        raise sa.exc.TimeoutError

    with pytest.raises(sa.exc.TimeoutError):
        engine.connect()
    assert (given[0]["connect_timeout"], given[0]["application_name"]) == (10, "mill")


# -- forks ---------------------------------------------------------------------------------------------


def _answers(engine: sa.Engine, number: int) -> bool:
    """Return whether a process gets its own answers, 200 of them, while others ask."""
    for turn in range(200):
        with engine.connect() as connection:
            asked = number * 1000 + turn
            if (
                connection.execute(sa.text("SELECT :n, pg_sleep(0.0005)"), {"n": asked}).first()[0]
                != asked
            ):
                return False
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_children_of_a_parent_with_a_live_engine_get_their_own_answers(
    made: Callable[..., sa.Engine], postgres_url: str
) -> None:
    engine = made(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as held:
        held.execute(sa.text("SELECT 1"))
    children = []
    for number in range(1, CHILDREN + 1):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                os._exit(0 if _answers(engine, number) else 1)
            except BaseException:
                traceback.print_exc()
                os._exit(2)
        children.append(child)
    assert _answers(engine, 0)
    ends = time.monotonic() + 60
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [
        0
    ] * CHILDREN
    assert time.monotonic() < ends
    assert engine.pool.checkedin() == 1  # the parent's own, which no child has closed


@pytest.mark.slow
def test_an_application_that_was_made_before_the_fork_has_its_engines_renewed(
    quiet: Mill, postgres_url: str
) -> None:
    from flask_sqlalchemy import SQLAlchemy

    app = quiet.app
    app.config["SQLALCHEMY_DATABASE_URI"] = postgres_url.replace(
        "postgresql://", "postgresql+psycopg://"
    )
    db = SQLAlchemy(app)

    def backend() -> int:
        return int(db.session.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())

    app.add_url_rule("/backend", "backend", lambda: str(backend()))
    with app.app_context():
        before = backend()
        db.session.remove()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os.write(write, quiet.get("/backend").body)
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 100)) != before
    os.close(read), os.close(write)
    assert int(quiet.get("/backend").body) == before
    with app.app_context():
        sqlalchemy.uninstrument(db.engine)
        db.engine.dispose()


def test_what_fails_while_a_child_begins_is_not_the_child_s() -> None:
    sqlalchemy.renew(object())


def test_the_function_is_the_module_s_too(quiet: Mill) -> None:
    engine = create_engine("sqlite://")
    assert engine in sqlalchemy._WATCHERS
    quiet.perf.queries.uninstrument(engine)


# -- a server that dies --------------------------------------------------------------------------------


@pytest.mark.slow
def test_when_the_database_is_killed_the_application_sees_its_own_errors_alone(
    made: Callable[..., sa.Engine], make_app: Callable[..., Mill], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    server = Postgres(tmp_path / "data")
    engine = made(server.url.replace("postgresql://", "postgresql+psycopg://"), pool_timeout=2)
    mill = make_app()
    said: list[str] = []

    def view() -> str:
        try:
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT :n, pg_sleep(0.002)"), {"n": 1}).all()
        except (sa.exc.DBAPIError, sa.exc.TimeoutError):
            return "database"
        return "fine"

    mill.app.add_url_rule("/db", "view", view)
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            answer = mill.get("/db")
            said.append(answer.body.decode() if answer.code == 200 else str(answer.code))

    def until(wanted: str) -> None:
        begin, ends = len(said), time.monotonic() + 60
        while wanted not in said[begin:]:
            assert time.monotonic() < ends, f"never {wanted}: {said[-5:]}"
            time.sleep(0.02)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    try:
        for _ in range(2):
            until("fine")
            server.kill()
            until("database")
            server.start()
            until("fine")
    finally:
        stop.set()
        for each in clients:
            each.join()
        server.kill()
    assert set(said) == {"fine", "database"}
    mill.session.jobs.fold()
    row = mill.row("view")
    assert row["count"] == len(said)
    assert sum(each["count"] for each in mill.session.documents.queries("run")["queries"]) <= len(
        said
    )
    assert mill.session.recorder.failures == {}
    assert not [record for record in caplog.records if record.name == "flask_knitperf"]
