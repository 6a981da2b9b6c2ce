"""The mill's database in PostgreSQL, for who gives its address (`DEMO_DATABASE_URL`).

The SQLite files stay the only thing that is generated; what is in one is copied into a separate
own, once, by whichever process comes first. The views speak one dialect: `Connection` turns its `?`
into the style of psycopg, so the same statements run on both.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo_app.settings import DemoError

_TYPES = {"TEXT": "text", "INTEGER": "bigint", "REAL": "double precision"}


class Connection:
    """A connection of the pool that understands the demo's statements, `?` for each parameter.

    Args:
        opened: taken from the pool, in autocommit mode.
    """

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def execute(self, statement: str, parameters: tuple[Any, ...] = ()) -> Any:
        """Runs a statement; the cursor it returns has `fetchone` and `fetchall`."""
        return self._opened.execute(statement.replace("?", "%s"), parameters)

    def close(self) -> None:
        """Gives the connection back."""
        self._opened.close()


def driver() -> Any:
    """The `connect` of psycopg.

    Raises:
        DemoError: psycopg or SQLAlchemy, whose pool is used, is not installed.
    """
    try:
        import psycopg
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise DemoError(
            f"DEMO_DATABASE_URL needs psycopg and SQLAlchemy ({error}): "
            "pip install 'flask-knitperf[postgres,sqlalchemy]'."
        ) from None
    return psycopg.connect


def pool(url: str, size: int, opens: Callable[[], Any]) -> Any:
    """An engine of SQLAlchemy, of which the demo uses the pool.

    Args:
        url: the server.
        size: connections of one process; 0 leaves SQLAlchemy's own number.
        opens: opens a connection, looked up each time one is needed.
    """
    from sqlalchemy import create_engine, make_url

    sizes = {"pool_size": size, "max_overflow": 0} if size else {}
    there = make_url(url).set(drivername="postgresql+psycopg")
    return create_engine(
        there,
        creator=opens,
        pool_pre_ping=True,
        pool_use_lifo=True,
        use_native_hstore=False,
        **sizes,
    )


def schema_of(file: Path) -> str:
    """The schema that holds a database file: its name, and a mark of what it was objects from."""
    made_from = (file.parent / "manifest.json").read_bytes()
    return f"{file.stem}_{hashlib.blake2b(made_from, digest_size=6).hexdigest()}"


def load(url: str, file: Path) -> str:
    """Copies a database file into its schema, unless it is there already; returns the schema.

    Raises:
        DemoError: the server cannot be reached, or does not let us write.
    """
    connect, schema = driver(), schema_of(file)
    import psycopg

    try:
        with connect(url) as server, server.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (schema,))
            cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
            if cursor.fetchone() is None:
                with closing(sqlite3.connect(file)) as source:
                    _copy(source, cursor, schema)
    except psycopg.Error as error:
        where = urlsplit(url)
        place = (
            f"{where.hostname or 'its socket'}, database {where.path.strip('/') or 'by default'}"
        )
        reason = str(error).strip().splitlines()[0]
        raise DemoError(f"PostgreSQL ({place}) cannot be used: {reason}") from None
    return schema


def _copy(source: sqlite3.Connection, cursor: Any, schema: str) -> None:
    """Makes the schema with every table and index of a SQLite database, all or nothing."""
    cursor.execute(f"CREATE SCHEMA {schema}")
    cursor.execute(f"SET LOCAL search_path TO {schema}")
    objects = source.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ).fetchall()
    for table in [name for kind, name, _ in objects if kind == "table"]:
        columns = source.execute(f"PRAGMA table_info({table})").fetchall()
        parts = [f"{name} {_TYPES[kind]}" + " NOT NULL" * needed
                 for _, name, kind, needed, _, _ in columns]  # fmt: skip
        keys = ", ".join(name for _, name, _, _, _, key in columns if key)
        cursor.execute(f"CREATE TABLE {table} ({', '.join(parts)}, PRIMARY KEY ({keys}))")
        with cursor.copy(f"COPY {table} FROM STDIN") as rows:
            for row in source.execute(f"SELECT * FROM {table}"):
                rows.write_row(row)
    for _, _, statement in [row for row in objects if row[0] == "index"]:
        cursor.execute(statement)
