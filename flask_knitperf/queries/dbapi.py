"""Any DB-API connection: a connection and cursors that take the time of what they send and fetch.

They stand in front of the driver's own and hand on everything else, so one way serves all drivers; to
``isinstance`` they are what they stand for. Rows are counted as they are fetched, for SQLite does its
work then; where a driver has all rows in hand (``rowcount`` says how many), fetching is not timed.

PEP 249 is the source of names: https://peps.python.org/pep-0249/.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

from ..core.span import Span
from .asked import ASKED
from .calls import Call, begin, digest, end, fetched
from .explain import EXPLAINS

log = logging.getLogger("flask_knitperf")
_numbers = itertools.count(1)
_CLOSELY = 32
"""CPU is read for so many rows that are iterated, then for one in so many."""
_FLUSHED = 500
"""Rows after which what they took is counted."""


def new_database() -> int:
    """Return a number for one more database, or one more way to it."""
    return next(_numbers)


class Fetching:
    """A DB-API cursor whose rows are counted and timed as they are fetched.

    Args:
        cursor: the driver's.
        span: the request that sent its statement, ``None`` where nothing is to be counted.
        call: that statement.
    """

    __slots__ = ("__weakref__", "_cursor", "_now")

    def __init__(self, cursor: Any, span: Span | None, call: Call | None) -> None:
        object.__setattr__(self, "_cursor", cursor)
        object.__setattr__(self, "_now", [span, call])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)

    def __iter__(self) -> Iterator[Any]:
        span, call = self._now
        rows = iter(self._cursor)
        return rows if span is None else _rows(rows, span, call)

    def __next__(self) -> Any:
        span, call = self._now
        return next(self._cursor) if span is None else next(_rows(self._cursor, span, call))

    def fetchone(self) -> Any:
        """Give the next row, ``None`` behind the last."""
        span, call = self._now
        if span is None:
            return self._cursor.fetchone()
        began = _clocks(span)
        row = self._cursor.fetchone()
        _count(span, call, began, row is not None)
        return row

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Give the next rows."""
        span, call = self._now
        if span is None:
            return self._cursor.fetchmany(*args, **kwargs)
        began = _clocks(span)
        rows = self._cursor.fetchmany(*args, **kwargs)
        _count(span, call, began, len(rows))
        return rows

    def fetchall(self) -> Any:
        """Give the rows that are left."""
        span, call = self._now
        if span is None:
            return self._cursor.fetchall()
        began = _clocks(span)
        rows = self._cursor.fetchall()
        _count(span, call, began, len(rows))
        return rows


def _clocks(span: Span) -> tuple[int, int | None]:
    clock = span.owner.clock
    return clock.monotonic_ns(), None if span.cpu_began is None else clock.wanted_ns()


def _count(span: Span, call: Call, began: tuple[int, int | None], rows: int) -> None:
    clock = span.owner.clock
    took = clock.monotonic_ns() - began[0]
    used = 0 if began[1] is None else clock.wanted_ns() - began[1]
    fetched(span, call, took, used, rows)


def _rows(rows: Iterator[Any], span: Span, call: Call) -> Iterator[Any]:
    """Give rows one by one: all are timed; their CPU is that of some of them, by their time."""
    now, wanted = span.owner.clock.monotonic_ns, span.owner.clock.wanted_ns
    took = number = closely = used = counted = 0
    sampled = span.cpu_began is not None
    try:
        while True:
            look = sampled and (number < _CLOSELY or not number % _CLOSELY)
            before = wanted() if look else 0
            began = now()
            try:
                row = next(rows)
            except StopIteration:
                return
            finally:
                passed = now() - began
                took += passed
                if look:
                    used += wanted() - before
                    closely += passed
            number += 1
            if number - counted >= _FLUSHED:
                fetched(span, call, took, used * took // max(1, closely), number - counted)
                counted, took, used, closely = number, 0, 0, 0
            yield row
    finally:
        fetched(span, call, took, used * took // max(1, closely), number - counted)


class Cursor(Fetching):
    """A cursor that takes the time of what it sends.

    Args:
        cursor: the driver's.
        connection: the connection that it is of, as the application sees that.
        database: a number for where it leads.
        span: the request that sent its statement, if it has sent one.
        call: that statement.
    """

    __slots__ = ("_connection", "_database")

    def __init__(
        self, cursor: Any, connection: Connection, database: int, span: Span | None = None,
        call: Call | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cursor, span, call)
        object.__setattr__(self, "_connection", connection)
        object.__setattr__(self, "_database", database)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # to isinstance it is the driver's
        return type(self._cursor)

    @property
    def connection(self) -> Connection:
        """The connection that it is of."""
        held: Connection = self._connection
        return held

    def __enter__(self) -> Any:
        entered = self._cursor.__enter__()
        return self if entered is self._cursor else entered

    def __exit__(self, *failure: Any) -> Any:
        return self._cursor.__exit__(*failure)

    def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement."""
        cursor, now = self._cursor, self._now
        began = begin(statement, self._database)
        if began is None:
            now[0] = None
            result = cursor.execute(statement, *args, **kwargs)
        else:
            try:
                result = cursor.execute(statement, *args, **kwargs)
            except BaseException as error:
                now[0] = None
                _failed(began, error)
                raise
            now[0] = _sent(began, cursor, args[0] if args else kwargs.get("params"))
            now[1] = began[1]
        return self if result is cursor else result

    def executemany(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement with many sets of parameters; it counts once."""
        result = _run(self._cursor.executemany, self, self._database, statement, args, kwargs)
        return self if result is self._cursor else result

    def executescript(self, script: str) -> Any:
        """Send several statements (SQLite); they count once, as they stand together."""
        result = _run(self._cursor.executescript, self, self._database, script, (), {})
        return self if result is self._cursor else result


def _sent(
    began: tuple[Span, Call], cursor: Any, parameters: Any, *, many: bool = False
) -> Span | None:
    """End a call that succeeded; return its request if its rows are still to be fetched."""
    span, call = began
    end(span, call)
    if parameters:
        digest(call, parameters)
    call.rows = cursor.rowcount
    if EXPLAINS.wanted and span.owner.explained_ns and not many:
        EXPLAINS.explain(span, call, cursor.connection, parameters)
    ASKED.add(span, call)
    return span if call.rows < 0 and cursor.description is not None else None


def _failed(began: tuple[Span, Call], error: BaseException) -> None:
    span, call = began
    end(span, call)
    call.error = type(error).__name__
    ASKED.add(span, call)


def _run(
    function: Callable[..., Any], cursor: Cursor, database: int, statement: Any,
    args: tuple[Any, ...], kwargs: dict[str, Any],
) -> Any:  # fmt: skip
    """Send several statements, or one several times."""
    cursor._now[0] = None
    began = begin(statement, database, 3)
    if began is None:
        return function(statement, *args, **kwargs)
    try:
        result = function(statement, *args, **kwargs)
    except BaseException as error:
        _failed(began, error)
        raise
    _sent(began, cursor._cursor, None, many=True)
    return result


class Connection:
    """A connection whose statements are timed. Everything else is the driver's.

    Args:
        connection: the driver's.
        database: a number for where it leads.
    """

    __slots__ = ("__weakref__", "_database", "_real")

    def __init__(self, connection: Any, database: int) -> None:
        object.__setattr__(self, "_real", connection)
        object.__setattr__(self, "_database", database)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # to isinstance it is the driver's
        return type(self._real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._real, name)

    def __enter__(self) -> Any:
        entered = self._real.__enter__()
        return self if entered is self._real else entered

    def __exit__(self, *failure: Any) -> Any:
        return self._real.__exit__(*failure)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Make a cursor."""
        made = self._real.cursor(*args, **kwargs)
        return Cursor(made, self, self._database) if hasattr(made, "execute") else made

    def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement in a cursor of its own (SQLite, psycopg)."""
        parameters = args[0] if args else kwargs.get("params")
        return self._send(self._real.execute, statement, args, kwargs, parameters)

    def executemany(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement with many sets of parameters (SQLite)."""
        return self._send(self._real.executemany, statement, args, kwargs, None, many=True)

    def executescript(self, script: str) -> Any:
        """Send several statements (SQLite)."""
        return self._send(self._real.executescript, script, (), {}, None, many=True)

    def _send(
        self, function: Callable[..., Any], statement: Any, args: tuple[Any, ...],
        kwargs: dict[str, Any], parameters: Any, *, many: bool = False,
    ) -> Any:  # fmt: skip
        began = begin(statement, self._database, 3)
        if began is None:
            return Cursor(function(statement, *args, **kwargs), self, self._database)
        try:
            cursor = function(statement, *args, **kwargs)
        except BaseException as error:
            _failed(began, error)
            raise
        span = _sent(began, cursor, parameters, many=many)
        return Cursor(cursor, self, self._database, span, began[1])


def wrap_connect(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that connects as the given one does, and watches what its connections send.

    Args:
        connect: ``sqlite3.connect``, ``psycopg.connect`` or any function that returns a DB-API
            connection.
    """
    database = new_database()

    @functools.wraps(connect)
    def watched(*args: Any, **kwargs: Any) -> Any:
        made = connect(*args, **kwargs)
        if type(made) is Connection or not hasattr(made, "cursor"):
            return made
        if inspect.iscoroutinefunction(getattr(made, "execute", None)):
            log.warning(
                "flask_knitperf: %s is asynchronous and not watched; instrument its engine",
                type(made).__name__,
            )
            return made
        return Connection(made, database)

    return watched
