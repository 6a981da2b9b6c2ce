"""The mill on a real PostgreSQL server: the same answers as on SQLite."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo_app.mill import generate, postgres
from demo_app.settings import DemoError, Settings
from flask_knitperf.collectors.sql.sqlalchemy import uninstrument
from tests.demo.conftest import SMALL, MakeApp


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def make_there(make_app: MakeApp, url: str) -> Iterator[MakeApp]:
    """Makes applications on the server, and lets their connections go."""
    apps: list[Any] = []

    def make(**config: Any) -> Any:
        apps.append(make_app(**config, DEMO_DATABASE_URL=url))
        return apps[-1]

    yield make
    for app in apps:
        engine = app.extensions["demo_app"].mill.engine
        uninstrument(engine)
        engine.dispose()
        if "knitperf" in app.extensions:
            app.extensions["knitperf"].close()


def answers(app: Any) -> list[tuple[int, bytes]]:
    """Return the responses of every view that uses the database."""
    places = app.extensions["demo_app"].plan.places
    balance = places["slow_sql"].rule.partition("<")[0]
    client, responses = app.test_client(), []
    for path in (places["n_plus_one"].url, balance + "C007", balance + "nobody"):
        answer = client.get(path)
        responses.append((answer.status_code, answer.data))
    return responses


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True])
def test_answers_are_those_of_sqlite(make_app: MakeApp, make_there: MakeApp, fixed: bool) -> None:
    there = make_there(fixed=fixed)
    assert answers(there) == answers(make_app(fixed=fixed))
    assert [code for code, _ in answers(there)] == [200, 200, 404]


@pytest.mark.slow
def test_orders_are_taken_and_cancelled_once_or_again(make_there: MakeApp) -> None:
    app = make_there()
    places, client = app.extensions["demo_app"].plan.places, app.test_client()
    for pounds in (10.0, 20.5):
        order = {"order": "W1", "style": "S", "pounds": pounds}
        assert client.post(places["create"].url, json=order).status_code == 201
    path = places["cancel"].rule.partition("<")[0] + "W1"
    assert [client.delete(path).status_code for _ in range(2)] == [200, 200]
    with app.app_context():
        opened = app.extensions["demo_app"].mill.open_database()
        mine = ("W1",)
        taken = opened.execute("SELECT pounds FROM web_orders WHERE order_no = ?", mine)
        assert taken.fetchall() == [(20.5,)]
        cancelled = opened.execute("SELECT COUNT(*) FROM cancellations WHERE order_no = ?", mine)
        assert cancelled.fetchone() == (1,)
        opened.close()


@pytest.mark.slow
def test_its_pool_and_its_statements_are_recorded(make_there: MakeApp) -> None:
    app = make_there(fixed=True, DEMO_BARE="0", DEMO_POOL_SIZE=3, TESTING=True)
    path = app.extensions["demo_app"].plan.places["n_plus_one"].url
    for _ in range(3):
        assert app.test_client().get(path).status_code == 200
    document = app.extensions["knitperf"].documents.queries("run")
    [pool] = document["pools"]
    assert pool["checkouts"] == 3 and pool["opened"] == 1 and pool["leaks"] == []
    [joined] = [row for row in document["queries"] if "JOIN" in row["text"]]
    assert (joined["count"], joined["errors"]) == (3, 0) and joined["rows_mean"] > 0
    assert app.extensions["demo_app"].mill.engine.pool.size() == 3


@pytest.mark.slow
def test_of_many_processes_that_come_at_once_one_copies(tmp_path: Path, url: str) -> None:
    file = generate(tmp_path / "mill", SMALL, 5) / "mill.sqlite3"
    rows: list[str] = []
    threads = [
        threading.Thread(target=lambda: rows.append(postgres.load(url, file))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows == [postgres.schema_of(file)] * 6


def test_an_unreachable_server_is_reported_in_one_sentence(make_app: MakeApp) -> None:
    with pytest.raises(DemoError, match=r"PostgreSQL .*localhost, database mill.* cannot be used"):
        make_app(DEMO_DATABASE_URL="postgresql://me:secret@localhost:1/mill?connect_timeout=2")


def test_a_password_is_in_no_message(make_app: MakeApp) -> None:
    with pytest.raises(DemoError) as raised:
        make_app(DEMO_DATABASE_URL="postgresql://me:secret@localhost:1/mill?connect_timeout=2")
    assert "secret" not in str(raised.value) and raised.value.__cause__ is None


def test_an_address_of_another_database_is_refused() -> None:
    with pytest.raises(DemoError, match="must begin with postgresql"):
        Settings.read({"DEMO_DATABASE_URL": "mysql://localhost/mill"}, {})


@pytest.mark.slow
def test_a_half_copied_database_is_not_there(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = generate(tmp_path / "mill", SMALL, 6) / "mill.sqlite3"
    with monkeypatch.context() as patched:
        patched.setattr(postgres, "_TYPES", {"TEXT": "text", "INTEGER": "bigint"})
        with pytest.raises(KeyError):
            postgres.load(url, file)
    schema = postgres.load(url, file)
    with psycopg.connect(url) as opened:
        row = opened.execute(f"SELECT COUNT(*) FROM {schema}.order_lines").fetchone()
    assert row is not None and row[0] > 0
