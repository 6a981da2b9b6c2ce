"""A small database, and an application whose views query it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Mill


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An SQLite file with 30 yarns and 10 styles."""
    path = tmp_path / "mill.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE yarn (id INTEGER PRIMARY KEY, name TEXT, style INTEGER)")
        connection.execute("CREATE TABLE style (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO style VALUES (?, ?)", [(n, f"s{n}") for n in range(10)])
        connection.executemany(
            "INSERT INTO yarn VALUES (?, ?, ?)", [(n, f"y{n}", n % 10) for n in range(30)]
        )
    return path


class QueryApplication:
    """An application with one view that queries a database, and the report on it."""

    def __init__(self, mill: Mill) -> None:
        self.mill = mill

    def serve(self, view: Callable[[], Any], times: int = 1) -> None:
        """Serve a view several times."""
        self.mill.app.add_url_rule("/ask", "ask", lambda: str(view())[:0] + "ok")
        for _ in range(times):
            assert self.mill.get("/ask").body == b"ok"

    @property
    def report(self) -> dict[str, Any]:
        """Part of the report on the queries of the view."""
        return dict(self.mill.row("ask")["queries"])

    @property
    def statements(self) -> dict[str, dict[str, Any]]:
        """Statements of the view by text."""
        return {row["text"]: row for row in self.report["asked"]}

    @property
    def queries(self) -> dict[str, dict[str, Any]]:
        """Statements of ``/perf/queries`` by text."""
        return {row["text"]: row for row in self.mill.session.documents.queries("run")["queries"]}

    def findings(self) -> dict[str, dict[str, Any]]:
        """Return the findings by type."""
        return {finding["type"]: finding for finding in self.mill.report()["bottlenecks"]}


@pytest.fixture
def application(quiet: Mill) -> QueryApplication:
    """An application whose view queries a database."""
    return QueryApplication(quiet)


def line_of(file: str, mark: str) -> int:
    """Return the number of the line that ends with a mark."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))
