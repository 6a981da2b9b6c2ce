"""A fast path of statements in a harness, in Python and in C."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from flask_knitperf.collectors.sql import fastpath
from flask_knitperf.collectors.sql.statements import add_parameters
from flask_knitperf.recording.span import Span
from tests.conftest import in_python

CURRENT: ContextVar[Any] = ContextVar("test_sql_fastpath", default=None)


def in_pure_python() -> Any:
    module = in_python(fastpath)
    assert not module.COMPILED
    return module


def in_c() -> Any:
    if not fastpath.COMPILED:
        pytest.skip("the classes in C are switched off, or were not built on this machine")
    return fastpath


class Clock:
    """A clock that advances by 100 ns per reading, its CPU time by 10 ns."""

    def __init__(self) -> None:
        self.now, self.used = 1_000, 0
        self.failing: BaseException | None = None

    def monotonic_ns(self) -> Any:
        if self.failing is not None:
            raise self.failing
        self.now += 100
        return self.now

    def runnable_ns(self) -> int:
        self.used += 10
        return self.used


class Recorder:
    """The part of a recorder that is used, and the failures that were reported to it."""

    def __init__(self) -> None:
        self.query_tracking, self.clock = 2, Clock()
        self.failures: list[BaseException] = []

    def failed(self, part: str, error: BaseException) -> None:
        assert part == "queries"
        self.failures.append(error)


class Cursor:
    """A cursor of a driver; rows of ``None`` stand for a statement that returns none."""

    def __init__(self, rowcount: Any = -1, rows: Any = ()) -> None:
        self.rowcount, self.rows = rowcount, list(rows or ())
        self.description = None if rows is None else [("a",)]
        self.failing: BaseException | None = None

    def fetchone(self) -> Any:
        if self.failing is not None:
            raise self.failing
        return self.rows.pop(0) if self.rows else None

    def fetchmany(self, size: int = 2, *, more: int = 0) -> Any:
        rows, self.rows = self.rows[: size + more], self.rows[size + more :]
        return rows

    def fetchall(self) -> Any:
        if self.failing is not None:
            raise self.failing
        rows, self.rows = self.rows, []
        return rows

    def close(self) -> str:
        return "closed"


class Harness:
    """Everything that counts the statements of one request, and the calls it made, in order."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.calls: list[Any] = []
        self.explains = SimpleNamespace(queued={})
        self.recorder = Recorder()
        self.span = Span(self.recorder, {}, 1_000)
        harness = self

        class Statement(module.StatementBase):  # type: ignore[misc]
            __slots__ = ("__weakref__",)

            def __init__(self, text: Any, call_site: str, database: int) -> None:
                self.text, self.call_site, self.database = text, call_site, database
                self.durations, self.results, self.parameter_hashes = [], [], []
                self.page_hashes = set()
                self.lazy_count = self.value_count = self.merged = self.text_hash = 0
                self.ended = self.awaits_rows = self.sender = self.setup_ns = 0

        class RequestQueries(module.RequestQueriesBase):  # type: ignore[misc]
            __slots__ = ("__weakref__",)

            def __init__(self) -> None:
                self.statements, self.calls, self.groups = {}, [], {}
                self.last = Statement("", "", -1)
                self.buffered = self.count = self.own_ns = self.cpu_ns = self.allow_depth = 0

            def find(self, text: Any, call_site: str, database: int) -> Any:
                harness.calls.append(("find", text, database))
                key = text, call_site, database
                self.last = self.statements.get(key) or Statement(*key)
                self.statements[key] = self.last
                return self.last

        class QueryCounter(module.QueryCounterBase):  # type: ignore[misc]
            def queries_of(self, span: Any) -> Any:
                harness.calls.append("queries_of")
                span.ensure_notes().queries = RequestQueries()
                return span.notes.queries

            def settle(self, span: Any) -> None:
                harness.calls.append("settle")
                span.notes.queries.buffered = 0

            def add_parameters(self, statement: Any, parameters: Any, /) -> None:
                harness.calls.append(("add_parameters", parameters))
                add_parameters(statement, parameters)

            def explain(self, span: Any, statement: Any, cursor: Any, parameters: Any) -> None:
                harness.calls.append(("explain", statement.text, parameters))

            def unreadable(self, error: BaseException) -> None:
                harness.calls.append(("unreadable", str(error)))

        class CountingCursor(module.CountingCursorBase):  # type: ignore[misc]
            __slots__ = ("__weakref__",)

        self.counting_cursor = CountingCursor
        self.counter = QueryCounter(CURRENT, self.caller, self.explains)
        self.listener = module.EngineListenerBase(self.counter, 3, OwnCursor, self.count_rows)

    def count_rows(self, context: Any, cursor: Any, pending: Any, description: Any) -> None:
        context.rows, context.description = self.counting_cursor(cursor, pending), description

    def caller(self, depth: int) -> str:
        self.calls.append("caller")
        try:
            return sys._getframe(depth + 1).f_code.co_name
        except ValueError:
            return ""

    @property
    def queries(self) -> Any:
        assert self.span.notes is not None
        return self.span.notes.queries

    @property
    def statement(self) -> Any:
        return self.queries.last

    def send(self, text: Any = "SELECT 1", parameters: Any = None, result: Any = 1) -> Any:
        return self.counter.end(self.counter.begin(), text, 3, parameters, result)

    def fetch(self, rows: int | Cursor = 5) -> tuple[Any, Cursor]:
        """Return a counting cursor, and the driver's cursor in it."""
        cursor = Cursor(-1, range(rows)) if isinstance(rows, int) else rows
        pending = self.counter.end_with_rows(self.counter.begin(), "SELECT 1", 3, None, cursor)
        return self.counting_cursor(cursor, pending), cursor


class OwnCursor(Cursor):
    """A cursor that counts by itself."""


def event(
    harness: Harness, listener: Callable[..., Any], cursor: Any, context: Any, many: Any = False
) -> Any:
    return listener(None, cursor, "SELECT 1", (1,), context, many)
