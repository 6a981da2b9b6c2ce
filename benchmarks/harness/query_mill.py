"""A process that reads and changes rows of a PostgreSQL database in every way, and notes what it saw.

Reads go through the cache of queries. Changes are made by the core and the sessions of SQLAlchemy, by
text, by the driver's cursor in a transaction and in autocommit mode, in two phases, through a view, and
by a trigger; they are committed, rolled back, rolled back to a savepoint, or end in an error.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session

from flask_knitperf import KnitPerf

from .query_oracle import Answer, Change

ROWS = 5
WRITES = 0.12
"""Share of operations that change something."""
PAUSE_S = 0.006
SCHEMA = """
CREATE TABLE yarn (id int PRIMARY KEY, value int NOT NULL, token text NOT NULL);
CREATE TABLE audit (id int PRIMARY KEY, value int NOT NULL, token text NOT NULL);
CREATE VIEW thread AS SELECT id, value, token FROM yarn;
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE audit SET value = NEW.value, token = NEW.token WHERE id = NEW.id;
  RETURN NEW;
END $$;
CREATE TRIGGER followed AFTER UPDATE ON yarn FOR EACH ROW EXECUTE FUNCTION follow();
"""
YARN = sa.table("yarn", sa.column("id"), sa.column("value"), sa.column("token"))
TEXT = "SELECT value, token FROM yarn WHERE id = :id"
DRIVER_TEXT = "SELECT value, token FROM yarn WHERE id = %s"
CHANGE = "UPDATE {} SET value = value + 1, token = {} WHERE id = {} RETURNING value"


def create_schema(url: str) -> None:
    """Create the tables of the mill."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        for table in ("yarn", "audit"):
            connection.execute(
                f"INSERT INTO {table} SELECT n, 0, '' FROM generate_series(0, {ROWS - 1}) n"
            )


class UndoneError(Exception):
    """Raised to roll a transaction back."""


class Mill:
    """One thread of a process.

    Args:
        url: of the database.
        state: the state directory that all processes share.
        number: of the thread, among all processes.
        other: another thread of its process, whose application it shares.

    Attributes:
        changes: that were committed.
        answers: of all reads.
        wrong: reads within a transaction that did not see what the transaction has to see.
    """

    def __init__(self, url: str, state: Path, number: int, other: Mill | None = None) -> None:
        self.url, self.number = url, number
        if other is None:
            self.app = Flask("mill")
            self.app.config.update(KNITPERF_STATE_DIR=str(state), KNITPERF_HISTORY=False)
            self.perf = KnitPerf(self.app)
            address = "postgresql+psycopg://" + url.partition("://")[2]
            self.engine = self.perf.queries.instrument(sa.create_engine(address))
        else:
            self.app, self.perf, self.engine = other.app, other.perf, other.engine
        self.connect = self.perf.queries.wrap_connect(psycopg.connect)
        self.raw = self.connect(url)
        self.single = self.connect(url, autocommit=True)
        self.read_sql = self.perf.queries.cached(pd.read_sql)
        self.changes: list[Change] = []
        self.answers: list[Answer] = []
        self.wrong: list[str] = []
        self._tokens = itertools.count()
        self._random = random.Random(number)

    def wait_until_published(self) -> None:
        """Wait until all processes publish their writes."""
        with self.app.app_context():
            self.perf.queries.cached("SELECT 1 AS one", self.engine)
            while not self.app.extensions["knitperf"].recorder.versions.hold:
                time.sleep(0.1)

    def run(self, count: int) -> None:
        """Do some operations."""
        reads = (self.by_core, self.by_session, self.by_text, self.by_driver, self.by_frame,
                 self.by_sum, self.by_view, self.by_audit, self.by_list)  # fmt: skip
        writes = (self.in_core, self.in_session, self.in_text, self.in_driver, self.in_autocommit,
                  self.in_view, self.to_savepoint, self.in_two_phases, self.in_autocommit_option,
                  self.in_nested_driver, self.at_repeatable_read, self.in_script)  # fmt: skip
        with self.app.app_context():
            for _ in range(count):
                kinds = writes if self._random.random() < WRITES else reads
                self._random.choice(kinds)()

    def run_beside(self, count: int) -> list[Mill]:
        """Do some operations in two threads; return both."""
        other = Mill(self.url, Path(), self.number + 1000, self)
        thread = threading.Thread(target=other.run, args=(count // 2,))
        thread.start()
        self.run(count - count // 2)
        thread.join()
        other.raw.close()
        other.single.close()
        return [self, other]

    def close(self) -> None:
        """Close all connections."""
        self.raw.close()
        self.single.close()
        self.engine.dispose()
        self.app.extensions["knitperf"].close()

    def _pause(self) -> None:
        """Leave others some time to read, which is when they may get what is not committed."""
        if self._random.random() < 0.6:
            time.sleep(self._random.random() * PAUSE_S)

    # -- reads -----------------------------------------------------------------------------------------

    def _row(self) -> int:
        return self._random.randrange(ROWS)

    def _answer(self, way: str, rows: tuple[int, ...], read: Callable[[], Any]) -> None:
        began = time.monotonic_ns()
        got = read()
        came = time.monotonic_ns()
        values = tuple(int(row[0]) for row in got)
        tokens = tuple(row[1] for row in got) if got and len(got[0]) > 1 else ()
        self.answers.append(Answer(way, rows, values, tokens, began, came))

    def by_core(self) -> None:
        """Read a row by a select() and an engine."""
        row = self._row()
        query = sa.select(YARN.c.value, YARN.c.token).where(YARN.c.id == row)
        self._answer("core", (row,), lambda: self.perf.queries.cached(query, self.engine))

    def by_session(self) -> None:
        """Read a row in a session."""
        row = self._row()
        query = sa.select(YARN.c.value, YARN.c.token).where(YARN.c.id == row)
        with Session(self.engine) as session:
            self._answer("session", (row,), lambda: self.perf.queries.cached(query, session))

    def by_text(self) -> None:
        """Read a row by text in a connection."""
        row = self._row()
        query = TEXT
        with self.engine.connect() as connection:
            self._answer(
                "text", (row,), lambda: self.perf.queries.cached(query, connection, {"id": row})
            )

    def by_driver(self) -> None:
        """Read a row by a wrapped connection of the driver."""
        row, query = self._row(), DRIVER_TEXT
        for way, connection in (("driver", self.raw), ("driver, autocommit", self.single)):
            self._answer(
                way, (row,),
                lambda connection=connection: self.perf.queries.cached(query, connection, (row,)),
            )  # fmt: skip
        self.raw.rollback()

    def by_frame(self) -> None:
        """Read a row as a frame."""
        row = self._row()
        query = sa.select(YARN.c.value, YARN.c.token).where(YARN.c.id == row)
        self._answer(
            "read_sql",
            (row,),
            lambda: list(self.read_sql(query, self.engine).itertuples(index=False)),
        )

    def by_sum(self) -> None:
        """Read the sum of all rows."""
        query = "SELECT sum(value) FROM yarn"
        self._answer(
            "sum", tuple(range(ROWS)), lambda: self.perf.queries.cached(query, self.engine)
        )

    def by_view(self) -> None:
        """Read a row through a view."""
        row, query = self._row(), "SELECT value, token FROM thread WHERE id = :id"
        self._answer(
            "view", (row,), lambda: self.perf.queries.cached(query, self.engine, {"id": row})
        )

    def by_audit(self) -> None:
        """Read a row that a trigger writes."""
        row, query = self._row(), "SELECT value, token FROM audit WHERE id = :id"
        self._answer(
            "trigger", (row,), lambda: self.perf.queries.cached(query, self.engine, {"id": row})
        )

    def by_list(self) -> None:
        """Read several rows by a list of keys."""
        rows = tuple(sorted(self._random.sample(range(ROWS), 3)))
        query = sa.select(YARN.c.value, YARN.c.token).where(YARN.c.id.in_(rows)).order_by(YARN.c.id)
        self._answer("list", rows, lambda: self.perf.queries.cached(query, self.engine))

    # -- changes --------------------------------------------------------------------------------------

    def _token(self) -> str:
        return f"{self.number}:{next(self._tokens)}"

    @contextmanager
    def _noting(self, changed: list[tuple[int, int, str]]) -> Iterator[None]:
        """Note changes as committed if the block ends without an error, and since when it may be."""
        began = time.monotonic_ns()
        yield
        ended = time.monotonic_ns()
        self.changes += [Change(*change, began, ended) for change in changed]

    def _rolls_back(self) -> bool:
        return self._random.random() < 0.35

    def _sees(self, way: str, query: Any, connection: Any, params: Any, value: int) -> None:
        for _ in range(2):  # what the first one has loaded must not be served to anyone
            [(seen, _)] = self.perf.queries.cached(query, connection, params)
            if seen != value:
                self.wrong.append(f"{way}: {seen} in place of {value}")
            self._pause()

    def _with_alchemy(
        self,
        way: str,
        change: Callable[[Any, int, str], int],
        commit: Callable[..., Any] | None = None,
    ) -> None:
        row, token = self._row(), self._token()
        with self.engine.connect() as connection:
            value = change(connection, row, token)
            self._sees(way, TEXT, connection, {"id": row}, value)
            if self._rolls_back():
                connection.rollback()
                return
            with self._noting([(row, value, token)]):
                (commit or connection.commit)()

    def in_core(self) -> None:
        """Change a row by update()."""

        def change(connection: Any, row: int, token: str) -> int:
            update = (
                YARN.update().where(YARN.c.id == row).values(value=YARN.c.value + 1, token=token)
            )
            return int(connection.execute(update.returning(YARN.c.value)).scalar_one())

        self._with_alchemy("core", change)

    def in_text(self) -> None:
        """Change a row by text within a common table expression."""

        def change(connection: Any, row: int, token: str) -> int:
            text = f"WITH c AS ({CHANGE.format('yarn', ':token', ':id')}) SELECT value FROM c"
            result = connection.execute(sa.text(text), {"token": token, "id": row})
            return int(result.scalar_one())

        self._with_alchemy("text", change)

    def in_view(self) -> None:
        """Change a row through a view, by the driver's placeholders."""

        def change(connection: Any, row: int, token: str) -> int:
            text = CHANGE.format("thread", "%s", "%s")
            return int(connection.exec_driver_sql(text, (token, row)).scalar_one())

        self._with_alchemy("view", change)

    def in_session(self) -> None:
        """Change a row in a session; an error rolls it back."""
        row, token = self._row(), self._token()
        with suppress(UndoneError), Session(self.engine) as session:
            update = (
                YARN.update().where(YARN.c.id == row).values(value=YARN.c.value + 1, token=token)
            )
            value = int(session.execute(update.returning(YARN.c.value)).scalar_one())
            self._sees("session", TEXT, session, {"id": row}, value)
            if self._rolls_back():
                raise UndoneError
            with self._noting([(row, value, token)]):
                session.commit()

    def in_driver(self) -> None:
        """Change a row by a wrapped connection."""
        row, token = self._row(), self._token()
        text = CHANGE.format("yarn", "%s", "%s")
        value = int(self.raw.execute(text, (token, row)).fetchone()[0])
        self._sees("driver", DRIVER_TEXT, self.raw, (row,), value)
        if self._rolls_back():
            self.raw.rollback()
            return
        with self._noting([(row, value, token)]):
            if self._random.random() < 0.5:
                self.raw.commit()
            else:
                self.raw.execute("COMMIT")

    def in_autocommit(self) -> None:
        """Change a row in the autocommit mode of the driver."""
        row, token, changed = self._row(), self._token(), list[tuple[int, int, str]]()
        with self._noting(changed):
            text = CHANGE.format("yarn", "%s", "%s")
            value = int(self.single.execute(text, (token, row)).fetchone()[0])
            changed.append((row, value, token))

    def in_autocommit_option(self) -> None:
        """Change a row in the autocommit mode of an engine."""
        row, token, changed = self._row(), self._token(), list[tuple[int, int, str]]()
        engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, self._noting(changed):
            text = CHANGE.format("yarn", "%s", "%s")
            value = int(connection.exec_driver_sql(text, (token, row)).scalar_one())
            changed.append((row, value, token))

    def in_nested_driver(self) -> None:
        """Change a row in a transaction of psycopg, and another one in one within it."""
        rows = sorted(self._random.sample(range(ROWS), 2))
        text, changed = CHANGE.format("yarn", "%s", "%s"), list[tuple[int, int, str]]()
        began = time.monotonic_ns()
        with suppress(UndoneError), self.single.transaction():
            for row, is_kept in zip(rows, (True, self._random.random() < 0.5), strict=True):
                token = self._token()
                with suppress(UndoneError), self.single.transaction():
                    value = int(self.single.execute(text, (token, row)).fetchone()[0])
                    if not is_kept:
                        raise UndoneError
                    changed.append((row, value, token))
                    self._pause()
            query = DRIVER_TEXT
            self._sees("nested", query, self.single, (rows[0],), changed[0][1])
            if self._rolls_back():
                changed.clear()
                raise UndoneError
        self.changes += [Change(*change, began, time.monotonic_ns()) for change in changed]

    def to_savepoint(self) -> None:
        """Change two rows, and take the second change back."""
        first, second = sorted(self._random.sample(range(ROWS), 2))
        token, text = self._token(), CHANGE.format("yarn", ":token", ":id")
        query = TEXT
        with self.engine.connect() as connection:
            kept = {"token": token, "id": first}
            value = int(connection.execute(sa.text(text), kept).scalar_one())
            nested = connection.begin_nested()
            undone = {"token": self._token(), "id": second}
            other = int(connection.execute(sa.text(text), undone).scalar_one())
            self._sees("savepoint", query, connection, {"id": second}, other)
            self._sees("before savepoint", query, connection, {"id": first}, value)
            nested.rollback()
            [(seen, _)] = self.perf.queries.cached(query, connection, {"id": second})
            if seen < other - 1:  # the row is free again, so that others may have changed it since
                self.wrong.append(f"after a savepoint: {seen} in place of {other - 1}")
            self._pause()
            with self._noting([(first, value, token)]):
                connection.commit()

    def in_two_phases(self) -> None:
        """Change a row in two phases."""
        row, token = self._row(), self._token()
        with self.engine.connect() as connection:
            transaction = connection.begin_twophase()
            text = CHANGE.format("yarn", ":token", ":id")
            value = int(connection.execute(sa.text(text), {"token": token, "id": row}).scalar_one())
            transaction.prepare()
            if self._rolls_back():
                transaction.rollback()
                return
            with self._noting([(row, value, token)]):
                transaction.commit()

    def in_script(self) -> None:
        """Change a row by a block of code, which names no table that could be recognised."""
        row, token, changed = self._row(), self._token(), list[tuple[int, int, str]]()
        change = CHANGE.format("yarn", f"'{token}'", row).partition(" RETURNING")[0]
        with self.engine.connect() as connection:
            connection.exec_driver_sql(f"DO $$ BEGIN {change}; END $$")
            query = sa.text(TEXT)
            value = int(connection.execute(query, {"id": row}).scalar_one())
            changed.append((row, value, token))
            with self._noting(changed):
                connection.commit()

    def at_repeatable_read(self) -> None:
        """Read a row twice from one snapshot, while others change it."""
        row, query = self._row(), sa.text(TEXT)
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with engine.connect() as connection:
            value = connection.execute(query, {"id": row}).scalar_one()
            time.sleep(PAUSE_S)
            self._sees("repeatable read", query, connection, {"id": row}, value)
