"""Instrumentation of DB-API connections: wrappers that time what they execute and fetch.

The wrappers delegate everything else to the driver's objects, so one implementation serves all drivers;
``isinstance`` reports the type of the driver's object. Rows are counted as they are fetched, since
SQLite does its work then; where a driver has fetched all rows already (``rowcount`` is known), fetching
is not timed.

Names are those of PEP 249, https://peps.python.org/pep-0249/.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from ...core.code_locations import call_from
from ...core.errors import KnitPerfError
from .connection_writes import ConnectionWrites
from .fastpath import UNCOMPARABLE, CountingCursorBase, ExecutorBase, PendingRows
from .fingerprint import as_text
from .request_queries import QUERY_COUNTER
from .transactions import PREPARED_ENDS, end_prepared, track_tables, transaction
from .written_tables import WRITTEN_TABLES

log = logging.getLogger("flask_knitperf")
_numbers = itertools.count(1)
_noted: weakref.WeakSet[type] = weakref.WeakSet()  # classes that are logged as not timed
_READS_ITS_CALLER = {"duckdb"}
"""Drivers that look into the frame of their caller, where they must find the application's."""


def new_database() -> int:
    """Return the number of a new database, or of a new way to connect to one."""
    return next(_numbers)


class TimedCursor(CountingCursorBase, ExecutorBase):
    """Wraps a DB-API cursor: executions are timed, and rows as they are fetched; the rest is delegated.

    Args:
        cursor: the driver's.
        connection: the wrapper of its connection.
        database: number of the database.
        pending: see :class:`.CountingCursorBase`.
    """

    __slots__ = ("__weakref__", "_connection", "_database")
    _counter = QUERY_COUNTER
    _connection: TimedConnection
    _database: int

    def __init__(
        self,
        cursor: Any,
        connection: TimedConnection,
        database: int,
        pending: PendingRows | None = None,
    ) -> None:
        super().__init__(cursor, pending)
        _set_connection(self, connection)
        _set_database(self, database)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance reports the driver's type
        return type(self._real)

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(f"cannot pickle {type(self._real).__name__!r} object")

    @property
    def connection(self) -> TimedConnection:
        """The wrapper of its connection."""
        return self._connection

    def __enter__(self) -> Any:
        return _enter(self, self._real)

    def __exit__(self, *failure: Any) -> Any:
        return self._real.__exit__(*failure)

    def _ended(
        self, name: str, execution: Any, result: Any, error: BaseException | None,
        args: tuple[Any, ...], kwargs: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        real, pending, tracked = self._real, None, WRITTEN_TABLES.has_subscribers
        is_usual = name == "execute" and error is None and not (kwargs or tracked)
        if execution is not None and is_usual and args and type(args[0]) is str:
            parameters = args[1] if len(args) > 1 else None
            pending = QUERY_COUNTER.end_with_rows(
                execution, args[0], self._database, parameters, real
            )
        elif execution is not None or tracked:
            pending = _end(self._connection, name, execution, real, real, error, args, kwargs or {})
        if pending is not self._pending:
            _set_pending(self, pending)
        return self if result is real else result


def _enter(wrapper: Any, real: Any) -> Any:
    """Enter an object of the driver; return the wrapper where the driver returns the object."""
    if not hasattr(real, "__enter__"):
        kind = f"{type(real).__module__}.{type(real).__qualname__}"
        raise TypeError(f"{kind!r} object does not support the context manager protocol")
    entered = real.__enter__()
    return wrapper if entered is real else entered


class TimedServerCursor(TimedCursor):
    """Wraps a cursor on the server, which may have a description only once a row was fetched."""

    __slots__ = ()

    def _ended(
        self, name: str, execution: Any, result: Any, error: BaseException | None,
        args: tuple[Any, ...], kwargs: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        real = self._real
        if execution is None or error is not None or real.description is not None:
            return super()._ended(name, execution, result, error, args, kwargs)
        pending = _end(
            self._connection, name, execution, real, _ROWS_TO_COME, error, args, kwargs or {}
        )
        _set_pending(self, pending)
        return self if result is real else result


class _RowsToCome(NamedTuple):
    rowcount: int = -1
    description: tuple[str, ...] = ()


_ROWS_TO_COME = _RowsToCome()
_set_pending: Any = CountingCursorBase.__dict__["_pending"].__set__
_set_connection: Any = TimedCursor.__dict__["_connection"].__set__
_set_database: Any = TimedCursor.__dict__["_database"].__set__


def _end(
    connection: TimedConnection, name: str, execution: Any, real: Any, cursor: Any,
    error: BaseException | None, args: tuple[Any, ...], kwargs: dict[str, Any],
) -> PendingRows | None:  # fmt: skip
    """End an execution, and publish the tables that were written; return the rows to be counted.

    Args:
        connection: the wrapper.
        name: of the method that executed.
        execution: ``None`` if it is not counted.
        real: the driver's object that executed.
        cursor: the driver's cursor.
        error: that was raised.
        args: of the method.
        kwargs: of the method.
    """
    statement = args[0] if args else _statement_of(kwargs)
    if type(statement) is not str:
        plain = name == "execute" and error is None and len(args) == 1 and not kwargs
        statement = (plain and _sent_by_psycopg2(statement, real)) or as_text(statement, real)
    database = connection._database
    if error is not None:
        WRITTEN_TABLES.on_error(statement, connection._writes)
        if execution is not None:
            failure = type(error).__name__
            QUERY_COUNTER.try_end(execution, statement, database, result=failure)
        return None
    if WRITTEN_TABLES.has_subscribers:
        track_tables(connection, statement)
    if execution is None:
        return None
    if name != "execute":
        parameters = UNCOMPARABLE
    else:
        parameters = args[1] if len(args) > 1 else _parameters_of(kwargs) if kwargs else None
    return QUERY_COUNTER.end_with_rows(execution, statement, database, parameters, cursor)


def _sent_by_psycopg2(statement: Any, cursor: Any) -> str | None:
    """Return the text of a composed statement without parameters, which psycopg2 keeps once it is sent.

    It may contain thousands of rows, whose rendering takes as long as the statement itself.
    """
    sent = getattr(cursor, "query", None) if hasattr(statement, "as_string") else None
    if not isinstance(sent, bytes) or getattr(cursor, "name", None):  # that of a name has DECLARE
        return None
    return sent.decode("utf-8", "backslashreplace")


def _statement_of(kwargs: dict[str, Any]) -> Any:
    """Return the statement among keyword arguments, under any driver's name."""
    return next((kwargs[name] for name in _STATEMENTS if name in kwargs), "")


def _parameters_of(kwargs: dict[str, Any]) -> Any:
    """Return the parameters among keyword arguments, under any driver's name; ``None`` for none."""
    for name in _PARAMETERS:
        if name in kwargs:
            return kwargs[name]
    return UNCOMPARABLE if kwargs.keys() - _OPTIONS - _STATEMENTS else None


_STATEMENTS = {"query", "sql", "statement", "operation"}
_PARAMETERS = ("params", "args", "parameters", "vars", "seq_of_parameters")
_OPTIONS = {"prepare", "binary"}


class TimedConnection(ExecutorBase):
    """Wraps a DB-API connection: executions are timed, everything else is delegated.

    Args:
        connection: the driver's.
        database: number of the database.
    """

    __slots__ = ("__weakref__", "_database", "_real", "_writes")
    _counter = QUERY_COUNTER
    _database: int
    _real: Any
    _writes: ConnectionWrites

    def __init__(self, connection: Any, database: int) -> None:
        object.__setattr__(self, "_real", connection)
        object.__setattr__(self, "_database", database)
        writes = WRITTEN_TABLES.writes(is_new=WRITTEN_TABLES.has_subscribers)
        object.__setattr__(self, "_writes", writes)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance reports the driver's type
        return type(self._real)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if name == "transaction":
            return functools.partial(transaction, self, attribute)
        if name in PREPARED_ENDS:
            return functools.partial(end_prepared, self, attribute)
        return attribute

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._real, name)

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(f"cannot pickle {type(self._real).__name__!r} object")

    def __enter__(self) -> Any:
        return _enter(self, self._real)

    def __exit__(self, *failure: Any) -> Any:
        WRITTEN_TABLES.before_end(self._writes)
        try:
            return call_from(1, self._real.__exit__, failure, {})
        finally:
            WRITTEN_TABLES.on_end(self._writes)

    def commit(self, *args: Any, **kwargs: Any) -> Any:
        """Commit the transaction."""
        WRITTEN_TABLES.before_end(self._writes)
        try:
            return call_from(1, self._real.commit, args, kwargs)
        finally:
            WRITTEN_TABLES.on_end(self._writes)

    def rollback(self, *args: Any, **kwargs: Any) -> Any:
        """Roll the transaction back."""
        try:
            return call_from(1, self._real.rollback, args, kwargs)
        finally:
            WRITTEN_TABLES.on_end(self._writes)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Create a cursor."""
        cursor = self._real.cursor(*args, **kwargs)
        if not hasattr(cursor, "execute"):
            return cursor
        wrapper = TimedServerCursor if (args or kwargs) and _is_named(cursor) else TimedCursor
        return wrapper(cursor, self, self._database)

    def backup(self, target: Any, **options: Any) -> Any:
        """Copy the database into another connection (SQLite), which may be wrapped too."""
        if issubclass(type(target), TimedConnection):
            target = object.__getattribute__(target, "_real")
        return self._real.backup(target, **options)

    def _ended(
        self, name: str, execution: Any, result: Any, error: BaseException | None,
        args: tuple[Any, ...], kwargs: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        pending = None
        if execution is not None or WRITTEN_TABLES.has_subscribers:
            pending = _end(self, name, execution, self._real, result, error, args, kwargs or {})
        if error is not None or not hasattr(result, "execute"):  # TDengine's number of rows
            return result
        return TimedCursor(result, self, self._database, pending)


class CallableTimedConnection(TimedConnection):
    """Wraps a connection that can be called, as those of SQLite can."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the driver's connection."""
        return self._real(*args, **kwargs)


def _is_named(cursor: Any) -> bool:
    """Return whether a cursor is one on the server (psycopg2)."""
    return bool(getattr(cursor, "name", None)) and hasattr(cursor, "itersize")


def _reason_not_timed(connection: Any) -> str:
    """Return why a connection cannot be wrapped, empty if it can."""
    modules = (base.__module__.lstrip("_").partition(".")[0] for base in type(connection).__mro__)
    if not _READS_ITS_CALLER.isdisjoint(modules):
        return "is not timed: it looks for DataFrames in the frame of its caller"
    is_async = hasattr(connection, "__await__") or (
        hasattr(connection, "__aenter__") and not hasattr(connection, "__enter__")
    )
    if is_async or inspect.iscoroutinefunction(getattr(connection, "execute", None)):
        return "is asynchronous and not timed; instrument its engine"
    return "" if hasattr(connection, "cursor") else "is not timed: it has no method cursor()"


def wrap_connect(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that connects like the original and wraps the connection.

    Args:
        connect: ``sqlite3.connect``, ``psycopg.connect`` or any function that returns a DB-API
            connection. For connections of a pool see the documentation: a pool takes back its own
            objects only.

    Raises:
        KnitPerfError: ``connect`` is not a function that connects, or is a method of a pool that would
            refuse wrapped connections.
    """
    is_connection = hasattr(connect, "cursor") and not isinstance(connect, type)
    if is_connection or not callable(connect):
        raise KnitPerfError(
            "wrap_connect takes the function that connects, such as sqlite3.connect, and not an object "
            f"of type {type(connect).__name__}"
        )
    method = connect
    while isinstance(method, functools.partial):
        method = method.func
    if hasattr(getattr(method, "__self__", None), "putconn"):
        raise KnitPerfError(
            "a pool takes back its own connections only: keep the one that getconn() returns, wrap it "
            "with watch = perf.queries.wrap_connect(lambda connection: connection), and pass the "
            "original to putconn()"
        )
    database = new_database()

    @functools.wraps(connect)
    def timed_connect(*args: Any, **kwargs: Any) -> Any:
        connection = call_from(1, connect, args, kwargs)
        kind = type(connection)
        if issubclass(kind, TimedConnection):
            return connection
        reason = _reason_not_timed(connection)
        if reason:
            if kind not in _noted:
                _noted.add(kind)
                name = f"{kind.__module__}.{kind.__qualname__}"
                log.warning("flask_knitperf: %s %s", name, reason)
            return connection
        wrapper = CallableTimedConnection if callable(connection) else TimedConnection
        return wrapper(connection, database)

    return timed_connect
