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
from contextlib import contextmanager
from typing import Any

from .fastpath import UNCOMPARABLE, CountingCursorBase, PendingRows, add_rows
from .request_queries import ASKED
from .written_tables import TABLES

log = logging.getLogger("flask_knitperf")
_numbers = itertools.count(1)
_CLOSELY = 32
"""CPU is read for so many rows that are iterated, then for one in so many."""
_NONE: Any = object()
_FLUSHED = 500
"""Rows after which what they took is counted."""


def new_database() -> int:
    """Return a number for one more database, or one more way to it."""
    return next(_numbers)


class Fetching(CountingCursorBase):
    """A DB-API cursor whose rows are counted and timed as they are fetched. See its base."""

    __slots__ = ("__weakref__",)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # to isinstance it is the driver's
        return type(self._cursor)

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self._cursor)
        return rows if self._pending is None else _rows(rows, self._pending)

    def __next__(self) -> Any:
        rows = self._cursor if self._pending is None else _rows(self._cursor, self._pending)
        return next(rows)

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(f"cannot pickle {type(self._cursor).__name__!r} object")


def _rows(rows: Iterator[Any], now: PendingRows) -> Iterator[Any]:
    """Give rows one by one: all are timed; their CPU is that of some of them, by their time."""
    span = now[0]
    clock, wanted = span.owner.clock.monotonic_ns, span.owner.clock.runnable_ns
    took = number = closely = used = counted = 0
    sampled = span.cpu_began is not None
    failed = ""
    try:
        while True:
            look = sampled and (number < _CLOSELY or not number % _CLOSELY)
            before = wanted() if look else 0
            began = clock()
            try:
                row = next(rows)
            except StopIteration:
                return
            except BaseException as error:
                failed = type(error).__name__
                raise
            finally:
                passed = clock() - began
                took += passed
                if look:
                    used += wanted() - before
                    closely += passed
            number += 1
            if number - counted >= _FLUSHED:
                _flush(now, took, used * took // max(1, closely), number - counted)
                counted, took, used, closely = number, 0, 0, 0
            yield row
    finally:
        _flush(now, took, used * took // max(1, closely), number - counted, failed)


def _flush(now: PendingRows, took: int, used: int, rows: int, error: str = "") -> None:
    """Count rows that were given one by one. Never raises."""
    span = now[0]
    try:
        stack = span.stack
        around: Any = stack[-1] if stack else span.notes
        if around is not None and not span.ended:
            around.nested_ns += took
            around.nested_cpu_ns += used
            add_rows(*now, took, took, used, rows, error)
    except Exception as failure:
        span.owner.failed("queries", failure)


class Cursor(Fetching):
    """A cursor that takes the time of what it sends.

    Args:
        cursor: the driver's.
        connection: the connection that it is of, as the application sees that.
        database: a number for where it leads.
        now: see :class:`Fetching`.
    """

    __slots__ = ("_connection", "_database")
    _connection: Connection
    _database: int

    def __init__(
        self, cursor: Any, connection: Connection, database: int, now: PendingRows | None = None
    ) -> None:
        super().__init__(cursor, now)
        _set_connection(self, connection)
        _set_database(self, database)

    @property
    def connection(self) -> Connection:
        """The connection that it is of."""
        return self._connection

    def __enter__(self) -> Any:
        entered = self._cursor.__enter__()
        return self if entered is self._cursor else entered

    def __exit__(self, *failure: Any) -> Any:
        return self._cursor.__exit__(*failure)

    def execute(
        self, statement: Any = _NONE, params: Any = _NONE, /, *args: Any, **kwargs: Any
    ) -> Any:
        """Send a statement."""
        cursor = self._cursor
        if self._pending is not None:
            _set_now(self, None)
        began = ASKED.begin()
        try:
            if kwargs or args or statement is _NONE:
                given = [each for each in (statement, params) if each is not _NONE]
                result = cursor.execute(*given, *args, **kwargs)
            elif params is _NONE:
                result = cursor.execute(statement)
            else:
                result = cursor.execute(statement, params)
        except BaseException as error:
            if began is not None:
                ASKED.done(
                    began, _named(statement, kwargs), self._database, result=type(error).__name__
                )
            raise
        if TABLES.wanted:
            _ran(self._connection, _named(statement, kwargs))
        if began is not None:
            if params is _NONE:
                params = _keyword(kwargs) if kwargs else None
            if statement is _NONE:
                statement = _named(statement, kwargs)
            now = ASKED.end_with_rows(began, statement, self._database, params, cursor)
            if now is not None:
                _set_now(self, now)
        return self if result is cursor else result

    def executemany(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement with many sets of parameters; it counts once."""
        return self._several(self._cursor.executemany, statement, args, kwargs)

    def executescript(self, script: str) -> Any:
        """Send several statements (SQLite); they count once, as they stand together."""
        return self._several(self._cursor.executescript, script, (), {})

    def _several(
        self, function: Callable[..., Any], statement: Any, args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:  # fmt: skip
        _set_now(self, None)
        result = _sent(function, statement, args, kwargs, self._database)[0]
        if TABLES.wanted:
            _ran(self._connection, statement)
        return self if result is self._cursor else result


_set_now: Any = CountingCursorBase.__dict__["_pending"].__set__
_set_connection: Any = Cursor.__dict__["_connection"].__set__
_set_database: Any = Cursor.__dict__["_database"].__set__


def _named(statement: Any, kwargs: dict[str, Any]) -> Any:
    """Return a statement, which may be given by a name."""
    if statement is not _NONE:
        return statement
    return next((kwargs[name] for name in _STATEMENTS if name in kwargs), "")


def _keyword(kwargs: dict[str, Any]) -> Any:
    """Return parameters that are given by a name, whatever a driver calls them; ``None`` for none."""
    for name in _PARAMETERS:
        if name in kwargs:
            return kwargs[name]
    return UNCOMPARABLE if kwargs.keys() - _OPTIONS - _STATEMENTS else None


_STATEMENTS = {"query", "sql", "statement", "operation"}
_PARAMETERS = ("params", "args", "parameters", "vars", "seq_of_parameters")
_OPTIONS = {"prepare", "binary"}


def _sent(
    function: Callable[..., Any], statement: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
    database: int, parameters: Any = UNCOMPARABLE,
) -> tuple[Any, PendingRows | None]:  # fmt: skip
    """Send what is no plain ``execute`` of a cursor; return its result, and what is to be fetched."""
    began = ASKED.begin(3)
    if began is None:
        return function(statement, *args, **kwargs), None
    try:
        result = function(statement, *args, **kwargs)
    except BaseException as error:
        ASKED.done(began, statement, database, result=type(error).__name__)
        raise
    return result, ASKED.end_with_rows(began, statement, database, parameters, result)


class Connection:
    """A connection whose statements are timed. Everything else is the driver's.

    Args:
        connection: the driver's.
        database: a number for where it leads.
    """

    __slots__ = ("__weakref__", "_changed", "_database", "_real")
    _changed: set[str]
    _database: int
    _real: Any

    def __init__(self, connection: Any, database: int) -> None:
        object.__setattr__(self, "_real", connection)
        object.__setattr__(self, "_database", database)
        object.__setattr__(self, "_changed", set())  # tables that are not committed yet

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # to isinstance it is the driver's
        return type(self._real)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return functools.partial(_transaction, self, found) if name == "transaction" else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._real, name)

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(f"cannot pickle {type(self._real).__name__!r} object")

    def __enter__(self) -> Any:
        entered = self._real.__enter__()
        return self if entered is self._real else entered

    def __exit__(self, *failure: Any) -> Any:
        try:
            return self._real.__exit__(*failure)
        finally:
            TABLES.committed(self._changed)

    def commit(self, *args: Any, **kwargs: Any) -> Any:
        """Commit what was changed."""
        try:
            return self._real.commit(*args, **kwargs)
        finally:
            TABLES.committed(self._changed)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Make a cursor."""
        made = self._real.cursor(*args, **kwargs)
        return Cursor(made, self, self._database) if hasattr(made, "execute") else made

    def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement in a cursor of its own (SQLite, psycopg)."""
        parameters = args[0] if args else _keyword(kwargs)
        return self._send(self._real.execute, statement, args, kwargs, parameters)

    def executemany(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement with many sets of parameters (SQLite)."""
        return self._send(self._real.executemany, statement, args, kwargs)

    def executescript(self, script: str) -> Any:
        """Send several statements (SQLite)."""
        return self._send(self._real.executescript, script, (), {})

    def backup(self, target: Any, **options: Any) -> Any:
        """Copy the database into another connection (SQLite), which may be watched too."""
        if type(target) is Connection:
            target = object.__getattribute__(target, "_real")
        return self._real.backup(target, **options)

    def _send(
        self, function: Callable[..., Any], statement: Any, args: tuple[Any, ...],
        kwargs: dict[str, Any], parameters: Any = UNCOMPARABLE,
    ) -> Any:  # fmt: skip
        database = self._database
        cursor, now = _sent(function, statement, args, kwargs, database, parameters)
        if TABLES.wanted:
            _ran(self, statement)
        return Cursor(cursor, self, database, now)


@contextmanager
def _transaction(
    connection: Connection, begin: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Enter a transaction of psycopg, which commits at its end."""
    try:
        with begin(*args, **kwargs) as entered:
            yield entered
    finally:
        TABLES.committed(connection._changed)


def _ran(connection: Connection, statement: Any) -> None:
    """Take note of a statement that may have changed tables. Never raises."""
    try:
        TABLES.executed(statement, connection._changed)
    except Exception:
        log.exception("flask_knitperf: versions of tables failed; the statement was sent")


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
        later = hasattr(made, "__await__") or hasattr(made, "__aenter__")
        if later or inspect.iscoroutinefunction(getattr(made, "execute", None)):
            log.warning(
                "flask_knitperf: %s is asynchronous and not watched; instrument its engine",
                type(made).__name__,
            )
            return made
        return Connection(made, database)

    return watched
