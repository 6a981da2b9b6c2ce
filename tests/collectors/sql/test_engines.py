"""Engines: safe defaults, and separate connections in each process."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool, QueuePool

from benchmarks.harness.postgres import Postgres
from flask_knitperf.collectors.sql import sqlalchemy
from flask_knitperf.collectors.sql.engines import create_engine
from tests.conftest import Mill

from .conftest import QueryApplication

CHILDREN = 4


@pytest.fixture
def make_engine(quiet: Mill) -> Any:
    """A function that creates engines, which are disposed afterwards."""
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


def test_an_engine_has_defaults_that_are_safe_in_production(
    make_engine: Callable[..., sa.Engine], tmp_path: Path
) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'mill.db'}")
    assert pool_of(engine) == {"pre_ping": True, "recycle": 1800, "timeout": 10, "lifo": True}
    engine = make_engine(f"sqlite:///{tmp_path / 'mill.db'}", pool_recycle=60, pool_use_lifo=False)
    assert pool_of(engine) == {"pre_ping": True, "recycle": 60, "timeout": 10, "lifo": False}


@pytest.mark.parametrize("options", [{}, {"poolclass": NullPool}])
def test_pools_of_other_kinds_are_supported(
    make_engine: Callable[..., sa.Engine], options: dict[str, Any]
) -> None:
    engine = make_engine("sqlite://", **options)
    assert not isinstance(engine.pool, QueuePool)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def test_its_statements_are_counted(make_engine: Callable[..., sa.Engine], quiet: Mill) -> None:
    engine, application = make_engine("sqlite://"), QueryApplication(quiet)

    def view() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    application.serve(view)
    assert application.statements["SELECT ?"]["count"] == 1


@pytest.mark.slow
def test_connecting_to_a_silent_server_times_out(make_engine: Callable[..., sa.Engine]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://x@127.0.0.1:{silent.getsockname()[1]}/x"
        engine = make_engine(url, connect_args={"connect_timeout": 2, "application_name": "mill"})
        with pytest.raises(sa.exc.OperationalError):
            engine.connect()
    arguments: list[dict[str, Any]] = []
    engine = make_engine(url, connect_args={"application_name": "mill"})

    @sa.event.listens_for(engine, "do_connect")
    def capture(_d: Any, _r: Any, _a: Any, options: dict[str, Any]) -> Any:
        arguments.append(options)
        raise sa.exc.TimeoutError

    with pytest.raises(sa.exc.TimeoutError):
        engine.connect()
    assert (arguments[0]["connect_timeout"], arguments[0]["application_name"]) == (10, "mill")


# -- forks ---------------------------------------------------------------------------------------------


def _results_match(engine: sa.Engine, number: int) -> bool:
    """Return whether 200 queries of a process get their results while other processes query."""
    for step in range(200):
        with engine.connect() as connection:
            value = number * 1000 + step
            if (
                connection.execute(sa.text("SELECT :n, pg_sleep(0.0005)"), {"n": value}).first()[0]
                != value
            ):
                return False
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_children_of_a_parent_with_a_live_engine_get_their_results(
    make_engine: Callable[..., sa.Engine], postgres_url: str
) -> None:
    engine = make_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    children = []
    for number in range(1, CHILDREN + 1):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                os._exit(0 if _results_match(engine, number) else 1)
            except BaseException:
                traceback.print_exc()
                os._exit(2)
        children.append(child)
    assert _results_match(engine, 0)
    ends = time.monotonic() + 60
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [
        0
    ] * CHILDREN
    assert time.monotonic() < ends
    assert engine.pool.checkedin() == 1  # the parent's connection: no child has closed it


@pytest.mark.slow
def test_engines_of_an_application_created_before_the_fork_get_empty_pools(
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


def test_a_failure_after_the_fork_does_not_reach_the_child() -> None:
    sqlalchemy.empty_pool(object())


def test_the_function_of_the_module_instruments_too(quiet: Mill) -> None:
    engine = create_engine("sqlite://")
    assert engine in sqlalchemy._LISTENERS
    quiet.perf.queries.uninstrument(engine)


# -- a server that dies --------------------------------------------------------------------------------


@pytest.fixture
def postgres_folder() -> Iterator[Path]:
    """A folder outside of pytest's, which each new process of pytest closes to other users."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.slow
def test_when_the_database_is_killed_the_application_sees_only_its_errors(
    make_engine: Callable[..., sa.Engine], make_app: Callable[..., Mill], postgres_folder: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(postgres_folder))
    server = Postgres(postgres_folder / "data")
    engine = make_engine(
        server.url.replace("postgresql://", "postgresql+psycopg://"), pool_timeout=2
    )
    mill = make_app()
    responses: list[str] = []

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
            responses.append(answer.body.decode() if answer.code == 200 else str(answer.code))
            if answer.body == b"database":
                time.sleep(0.02)  # a server that is down refuses thousands of connections a second

    def wait_for(expected: str) -> None:
        start, deadline = len(responses), time.monotonic() + 60
        while expected not in responses[start:]:
            assert time.monotonic() < deadline, f"never {expected}: {responses[-5:]}"
            time.sleep(0.02)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        for _ in range(2):
            wait_for("fine")
            server.kill()
            wait_for("database")
            server.start()
            wait_for("fine")
    finally:
        stop.set()
        for thread in clients:
            thread.join()
        server.kill()
    assert set(responses) == {"fine", "database"}
    mill.session.jobs.fold()
    row = mill.row("view")
    assert row["count"] == len(responses)
    assert sum(row["count"] for row in mill.session.documents.queries("run")["queries"]) <= len(
        responses
    )
    assert mill.session.recorder.failures == {}
    assert not [record for record in caplog.records if record.name == "flask_knitperf"]
