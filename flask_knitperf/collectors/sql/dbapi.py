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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...core.errors import KnitPerfError
from ...core.host_exceptions import raise_if_of_host
from ...core.sampling import is_chosen
from .fastpath import UNCOMPARABLE, CountingCursorBase, PendingRows, add_rows, scope_of
from .fingerprint import as_text
from .request_queries import QUERY_COUNTER
from .written_tables import WRITTEN_TABLES

log = logging.getLogger("flask_knitperf")
_numbers = itertools.count(1)
_CPU_EVERY = 32
"""CPU time is sampled for this many iterated rows, then for one row in this many."""
_FLUSH_ROWS = 500
"""Number of iterated rows after which their times are added to the statement."""
_READS_ITS_CALLER = {"duckdb"}
"""Drivers that look into the frame of their caller, where they must find the application's."""
_MISSING: Any = object()
"""Default of an argument that was not passed."""


def new_database() -> int:
    """Return the number of a new database, or of a new way to connect to one."""
    return next(_numbers)


class CountingCursor(CountingCursorBase):
    """Wraps a DB-API cursor: rows are counted and timed as they are fetched. See its base."""

    __slots__ = ("__weakref__",)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance reports the driver's type
        return type(self._cursor)

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self._cursor)
        return rows if self._pending is None else _rows(rows, self._pending)

    def __next__(self) -> Any:
        rows = self._cursor if self._pending is None else _rows(self._cursor, self._pending)
        return next(rows)

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(f"cannot pickle {type(self._cursor).__name__!r} object")


def _rows(rows: Iterator[Any], pending: PendingRows) -> Iterator[Any]:
    """Yield rows; all are timed, and the CPU time of a sample is scaled by its share of the time."""
    span = pending[0]
    clock, cpu_clock = span.owner.clock.monotonic_ns, span.owner.clock.runnable_ns
    wall = number = sampled_wall = cpu = flushed = 0
    sampled = span.cpu_began is not None
    error = ""
    try:
        while True:
            sample = sampled and (number < _CPU_EVERY or is_chosen(number, _CPU_EVERY))
            cpu_before = cpu_clock() if sample else 0
            began = clock()
            try:
                row = next(rows)
            except StopIteration:
                return
            except BaseException as failure:
                error = type(failure).__name__
                raise
            finally:
                duration = clock() - began
                wall += duration
                if sample:
                    cpu += cpu_clock() - cpu_before
                    sampled_wall += duration
            number += 1
            if number - flushed >= _FLUSH_ROWS:
                _flush(pending, wall, cpu * wall // max(1, sampled_wall), number - flushed)
                flushed, wall, cpu, sampled_wall = number, 0, 0, 0
            yield row
    finally:
        _flush(pending, wall, cpu * wall // max(1, sampled_wall), number - flushed, error)


def _flush(pending: PendingRows, wall: int, cpu: int, rows: int, error: str = "") -> None:
    """Add iterated rows to their statement. Never raises.

    Args:
        pending: the statement.
        wall: nanoseconds of fetching.
        cpu: CPU time of those, in nanoseconds.
        rows: number of rows.
        error: class of the error, if there was one.
    """
    span = pending[0]
    try:
        around = scope_of(span)
        if around is not None and not span.ended:
            around.nested_ns += wall
            around.nested_cpu_ns += cpu
            add_rows(*pending, wall, wall, cpu, rows, error)
    except Exception as failure:
        span.owner.failed("queries", failure)


class TimedCursor(CountingCursor):
    """Wraps a DB-API cursor: executions are timed, too.

    Args:
        cursor: the driver's.
        connection: the wrapper of its connection.
        database: number of the database.
        pending: see :class:`CountingCursor`.
    """

    __slots__ = ("_connection", "_database")
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

    @property
    def connection(self) -> TimedConnection:
        """The wrapper of its connection."""
        return self._connection

    def __enter__(self) -> Any:
        entered = self._cursor.__enter__()
        return self if entered is self._cursor else entered

    def __exit__(self, *failure: Any) -> Any:
        return self._cursor.__exit__(*failure)

    def execute(
        self, statement: Any = _MISSING, params: Any = _MISSING, /, *args: Any, **kwargs: Any
    ) -> Any:
        """Execute a statement."""
        cursor = self._cursor
        if self._pending is not None:
            _set_pending(self, None)
        execution = QUERY_COUNTER.begin()
        try:
            if kwargs or args or statement is _MISSING:
                positional = [arg for arg in (statement, params) if arg is not _MISSING]
                result = cursor.execute(*positional, *args, **kwargs)
            elif params is _MISSING:
                result = cursor.execute(statement)
            else:
                result = cursor.execute(statement, params)
        except BaseException as error:
            if execution is not None:
                text, name = _statement_of(statement, kwargs, cursor), type(error).__name__
                QUERY_COUNTER.try_end(execution, text, self._database, result=name)
            raise
        tracked = WRITTEN_TABLES.has_subscribers
        if type(statement) is not str and (tracked or execution is not None):
            statement = _statement_of(statement, kwargs, cursor)
        if tracked:
            _track_tables(self._connection, statement)
        if execution is not None:
            if params is _MISSING:
                params = _parameters_of(kwargs) if kwargs else None
            pending = QUERY_COUNTER.end_with_rows(
                execution, statement, self._database, params, cursor
            )
            if pending is not None:
                _set_pending(self, pending)
        return self if result is cursor else result

    def executemany(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Execute a statement with several sets of parameters; it counts once."""
        return self._execute_many(self._cursor.executemany, statement, args, kwargs)

    def executescript(self, script: str) -> Any:
        """Execute a script (SQLite); it counts as one statement."""
        return self._execute_many(self._cursor.executescript, script, (), {})

    def _execute_many(
        self, function: Callable[..., Any], statement: Any, args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:  # fmt: skip
        _set_pending(self, None)
        result = _execute(function, statement, args, kwargs, self._database)[0]
        if WRITTEN_TABLES.has_subscribers:
            _track_tables(self._connection, statement)
        return self if result is self._cursor else result


_set_pending: Any = CountingCursorBase.__dict__["_pending"].__set__
_set_connection: Any = TimedCursor.__dict__["_connection"].__set__
_set_database: Any = TimedCursor.__dict__["_database"].__set__


def _statement_of(statement: Any, kwargs: dict[str, Any], context: Any) -> str:
    """Return the text of a call's statement, which may be a keyword argument.

    Args:
        statement: the first argument, if there is one.
        kwargs: the keyword arguments.
        context: cursor or connection that composed statements of psycopg are rendered for.
    """
    if statement is _MISSING:
        statement = next((kwargs[name] for name in _STATEMENTS if name in kwargs), "")
    return as_text(statement, context)


def _parameters_of(kwargs: dict[str, Any]) -> Any:
    """Return the parameters among keyword arguments, under any driver's name; ``None`` for none."""
    for name in _PARAMETERS:
        if name in kwargs:
            return kwargs[name]
    return UNCOMPARABLE if kwargs.keys() - _OPTIONS - _STATEMENTS else None


_STATEMENTS = {"query", "sql", "statement", "operation"}
_PARAMETERS = ("params", "args", "parameters", "vars", "seq_of_parameters")
_OPTIONS = {"prepare", "binary"}


def _execute(
    function: Callable[..., Any], statement: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
    database: int, parameters: Any = UNCOMPARABLE,
) -> tuple[Any, PendingRows | None]:  # fmt: skip
    """Call a function that executes a statement; return its result, and the rows to be counted."""
    execution = QUERY_COUNTER.begin(3)
    if execution is None:
        return function(statement, *args, **kwargs), None
    context = getattr(function, "__self__", None)
    try:
        result = function(statement, *args, **kwargs)
    except BaseException as error:
        text = as_text(statement, context)
        QUERY_COUNTER.try_end(execution, text, database, result=type(error).__name__)
        raise
    text = as_text(statement, context)
    pending = QUERY_COUNTER.end_with_rows(execution, text, database, parameters, result)
    return result, pending


class TimedConnection:
    """Wraps a DB-API connection: executions are timed, everything else is delegated.

    Args:
        connection: the driver's.
        database: number of the database.
    """

    __slots__ = ("__weakref__", "_database", "_real", "_uncommitted")
    _database: int
    _real: Any
    _uncommitted: set[str]

    def __init__(self, connection: Any, database: int) -> None:
        object.__setattr__(self, "_real", connection)
        object.__setattr__(self, "_database", database)
        object.__setattr__(self, "_uncommitted", set())  # tables that are written but not committed

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance reports the driver's type
        return type(self._real)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if name == "transaction":
            return functools.partial(_transaction, self, attribute)
        return attribute

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
            WRITTEN_TABLES.on_commit(self._uncommitted)

    def commit(self, *args: Any, **kwargs: Any) -> Any:
        """Commit the transaction."""
        try:
            return self._real.commit(*args, **kwargs)
        finally:
            WRITTEN_TABLES.on_commit(self._uncommitted)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Create a cursor."""
        cursor = self._real.cursor(*args, **kwargs)
        if not hasattr(cursor, "execute"):
            return cursor
        return TimedCursor(cursor, self, self._database)

    def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Execute a statement in a new cursor (SQLite, psycopg)."""
        parameters = args[0] if args else _parameters_of(kwargs)
        return self._execute_in_cursor(self._real.execute, statement, args, kwargs, parameters)

    def executemany(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Execute a statement with several sets of parameters (SQLite)."""
        return self._execute_in_cursor(self._real.executemany, statement, args, kwargs)

    def executescript(self, script: str) -> Any:
        """Execute a script (SQLite)."""
        return self._execute_in_cursor(self._real.executescript, script, (), {})

    def backup(self, target: Any, **options: Any) -> Any:
        """Copy the database into another connection (SQLite), which may be wrapped too."""
        if issubclass(type(target), TimedConnection):
            target = object.__getattribute__(target, "_real")
        return self._real.backup(target, **options)

    def _execute_in_cursor(
        self, function: Callable[..., Any], statement: Any, args: tuple[Any, ...],
        kwargs: dict[str, Any], parameters: Any = UNCOMPARABLE,
    ) -> Any:  # fmt: skip
        database = self._database
        cursor, pending = _execute(function, statement, args, kwargs, database, parameters)
        if WRITTEN_TABLES.has_subscribers:
            _track_tables(self, statement)
        return TimedCursor(cursor, self, database, pending)


class CallableTimedConnection(TimedConnection):
    """Wraps a connection that can be called, as those of SQLite can."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the driver's connection."""
        return self._real(*args, **kwargs)


@contextmanager
def _transaction(
    connection: TimedConnection, begin: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Open a transaction of psycopg, which commits at its end."""
    try:
        with begin(*args, **kwargs) as transaction:
            yield transaction
    finally:
        WRITTEN_TABLES.on_commit(connection._uncommitted)


def _track_tables(connection: TimedConnection, statement: Any) -> None:
    """Publish the tables that a statement has written. Never raises."""
    try:
        WRITTEN_TABLES.on_execute(statement, connection._uncommitted)
    except Exception as error:
        raise_if_of_host(error)
        log.exception("flask_knitperf: versions of tables failed; the statement was sent")


def wrap_connect(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that connects like the original and wraps the connection.

    Args:
        connect: ``sqlite3.connect``, ``psycopg.connect`` or any function that returns a DB-API
            connection. For connections of a pool see the documentation: a pool takes back its own
            objects only.

    Raises:
        KnitPerfError: ``connect`` is a method of a pool that would refuse wrapped connections.
    """
    if hasattr(getattr(connect, "__self__", None), "putconn"):
        raise KnitPerfError(
            "a pool takes back its own connections only: keep the one that getconn() returns, wrap it "
            "with watch = perf.queries.wrap_connect(lambda connection: connection), and pass the "
            "original to putconn()"
        )
    database = new_database()

    @functools.wraps(connect)
    def timed_connect(*args: Any, **kwargs: Any) -> Any:
        connection = connect(*args, **kwargs)
        if issubclass(type(connection), TimedConnection) or not hasattr(connection, "cursor"):
            return connection
        if type(connection).__module__.lstrip("_").partition(".")[0] in _READS_ITS_CALLER:
            log.warning(
                "flask_knitperf: %s is not timed: it looks for DataFrames in the frame of its caller",
                type(connection).__qualname__,
            )
            return connection
        is_async = hasattr(connection, "__await__") or hasattr(connection, "__aenter__")
        if is_async or inspect.iscoroutinefunction(getattr(connection, "execute", None)):
            log.warning(
                "flask_knitperf: %s is asynchronous and not timed; instrument its engine",
                type(connection).__name__,
            )
            return connection
        wrapper = CallableTimedConnection if callable(connection) else TimedConnection
        return wrapper(connection, database)

    return timed_connect
