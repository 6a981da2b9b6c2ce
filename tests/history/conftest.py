"""One contract for both databases: an empty SQLite file, and an empty schema of PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flask_knitperf.history.databases import Connection, Database, PostgreSQL, SQLite
from flask_knitperf.history.schema import prepare

from .harness import Host, Run

_numbers = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database, closed afterwards."""
    opened = _new(request.param, request, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def another(database: Database) -> Iterator[Callable[[], Database]]:
    """Return a function that returns the same database, with a separate connection."""
    opened: list[Database] = []

    def open_again() -> Database:
        assert isinstance(database, SQLite | PostgreSQL)
        opened.append(
            SQLite(database.path) if isinstance(database, SQLite) else PostgreSQL(database.url)
        )
        return opened[-1]

    yield open_again
    for one in opened:
        one.close()


def _new(kind: str, request: pytest.FixtureRequest, folder: Path) -> Database:
    if kind == "sqlite":
        return SQLite(folder / "history.sqlite")
    url: str = request.getfixturevalue("postgres_url")
    name = f"history_{next(_numbers)}"
    with closing(PostgreSQL(url).open()) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        connection.execute(f"CREATE SCHEMA {name}")
    return PostgreSQL(f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}")


@pytest.fixture
def connection(database: Database) -> Connection:
    """A connection to a prepared database."""
    opened = database.connection()
    prepare(opened)
    return opened


@pytest.fixture
def host(database: Database, tmp_path: Path) -> Host:
    """Writers of one run."""
    state = tmp_path / "state"
    return Host(database, state, Run(state))
