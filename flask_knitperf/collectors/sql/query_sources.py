"""Connections on which cached queries are run: those of SQLAlchemy and its sessions, and wrapped ones.

Each has an adapter that reads the state of the connection, identifies a statement, and runs it. A
statement that code of the application may change on its way, in an event of SQLAlchemy, is refused,
since it would be sent in another form than it is looked up.
"""

from __future__ import annotations

import itertools
import sys
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from typing import Any, NamedTuple

from ...core.errors import KnitPerfError
from .cacheable import is_relative
from .connection_writes import ConnectionWrites
from .dbapi import TimedConnection

MAX_STATEMENTS = 1000
"""Number of statements of SQLAlchemy whose texts are kept."""


Rows = tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]
"""Rows as they are cached: the names of their columns, and their values as plain tuples."""


def named(result: Rows) -> list[Any]:
    """Return rows as named tuples; one that cannot be an identifier is ``_`` and its position."""
    columns, rows = result
    kind: Any = _ROW_TYPES.get(columns)
    if kind is None:
        if len(_ROW_TYPES) >= MAX_STATEMENTS:
            _ROW_TYPES.clear()
        kind = _ROW_TYPES[columns] = namedtuple("Row", columns, rename=True)
    return list(map(kind._make, rows))


def mappings(result: Rows) -> list[dict[str, Any]]:
    """Return rows as dicts."""
    columns, rows = result
    return [dict(zip(columns, row, strict=True)) for row in rows]


_ROW_TYPES: dict[tuple[str, ...], Any] = {}


class Statement(NamedTuple):
    """A statement as it is looked up.

    Attributes:
        text: as it is sent.
        identity: what distinguishes it from others with that text.
        values: its parameters.
        refusal: why its result is not cached, empty if it may be.
    """

    text: str
    identity: tuple[Any, ...]
    values: Any
    refusal: str = ""


class WrappedSource:
    """A connection of :meth:`.QueryOptimizer.wrap_connect`.

    Args:
        connection: the wrapper.
    """

    has_unseen_settings = False

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.writes: ConnectionWrites = object.__getattribute__(connection, "_writes")
        self.database: int = object.__getattribute__(connection, "_database")
        self.driver: Any = object.__getattribute__(connection, "_real")
        name = type(self.driver).__module__.partition(".")[0]
        self.kind = _KINDS.get(name, name)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement of this package; return its rows."""
        return _run(self.driver, self.driver, statement)

    def identify(self, statement: Any, parameters: Any) -> Statement:
        """Return a statement as it is looked up.

        Raises:
            KnitPerfError: it is not a text.
        """
        if not isinstance(statement, str):
            raise KnitPerfError(
                f"a wrapped connection takes SQL as text, not {type(statement).__name__}"
            )
        return Statement(str(statement), (), parameters, _parameter_refusal(parameters))

    def execute(self, statement: Any, parameters: Any) -> Rows:
        """Run a statement; return its rows."""
        cursor = _plain_cursor(self.connection, self.driver)
        try:
            cursor.execute(*((statement,) if parameters is None else (statement, parameters)))
            columns = tuple(str(column[0]) for column in cursor.description or ())
            return columns, tuple(map(_plain, cursor.fetchall() if columns else ()))
        finally:
            cursor.close()


_KINDS = {"psycopg": "postgresql", "psycopg2": "postgresql", "sqlite3": "sqlite"}


def _plain_cursor(connection: Any, driver: Any) -> Any:
    """Return a cursor whose rows are tuples, whatever the rows of the connection are made by."""
    name = type(driver).__module__.partition(".")[0]
    if name == "psycopg":
        return connection.cursor(row_factory=sys.modules["psycopg.rows"].tuple_row)
    if name == "psycopg2":
        return connection.cursor(cursor_factory=sys.modules["psycopg2.extensions"].cursor)
    return connection.cursor()


def _run(connection: Any, driver: Any, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement of this package; return its rows.

    A transaction that is under way survives a failure, and none stays open that was not.

    Args:
        connection: whose cursor runs it, that of the pool or the driver's.
        driver: the driver's.
        statement: a query without parameters.
    """
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    is_within, is_outside = (status is not None and int(status) == number for number in (2, 0))
    cursor = _plain_cursor(driver, driver) if connection is driver else connection.cursor()
    try:
        if is_within:
            cursor.execute("SAVEPOINT knitperf_read")
        try:
            cursor.execute(statement)
            rows = [_plain(row) for row in cursor.fetchall()]
        except BaseException:
            if is_within:
                cursor.execute("ROLLBACK TO SAVEPOINT knitperf_read")
            raise
        if is_within:
            cursor.execute("RELEASE SAVEPOINT knitperf_read")
        return rows
    finally:
        cursor.close()
        if is_outside and not getattr(driver, "autocommit", True):
            connection.rollback()


def _plain(row: Any) -> tuple[Any, ...]:
    """Return the values of a row, whatever a row factory has made of it."""
    return tuple(row.values()) if isinstance(row, dict) else tuple(row)


class AlchemySource:
    """A connection of SQLAlchemy, alone or that of a session.

    Args:
        connection: the connection.
        session: which runs the statements, ``None`` for the connection.

    Raises:
        KnitPerfError: its engine is not watched.
    """

    def __init__(self, connection: Any, session: Any = None) -> None:
        from .sqlalchemy import listener_of, writes_of

        listener = listener_of(connection.engine)
        if listener is None:
            raise KnitPerfError(
                "the engine is not watched, so its writes would be missed; call "
                "perf.queries.instrument(engine) where it is created"
            )
        self.connection, self._session = connection, session
        self.database = listener.database
        self.kind = connection.dialect.name
        self.writes: ConnectionWrites = writes_of(
            connection, is_new=not connection.in_transaction()
        )
        self.driver = connection.connection.driver_connection
        engine = connection.engine
        self.has_unseen_settings = _has_foreign(engine.pool.dispatch.checkout)
        events = connection.dispatch
        listeners = {
            "before_execute": events.before_execute,
            "before_cursor_execute": events.before_cursor_execute,
            "do_orm_execute": () if session is None else session.dispatch.do_orm_execute,
        }
        self._may_change = next((name for name in listeners if _has_foreign(listeners[name])), "")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement of this package; return its rows."""
        return _run(self.connection.connection, self.driver, statement)

    def identify(self, statement: Any, parameters: Any) -> Statement:
        """Return a statement as it is looked up.

        Raises:
            KnitPerfError: it selects objects, or is none of SQLAlchemy.
        """
        refusal = _parameter_refusal(parameters)
        if self._may_change:
            refusal = f"a listener to {self._may_change} may change the statement"
        elif self._session is not None and _has_changes(self._session):
            refusal = "its session has changes that it would flush"
        if isinstance(statement, str):
            return Statement(str(statement), ("driver",), parameters, refusal)
        _refuse_objects(statement)
        translated = self.connection.get_execution_options().get("schema_translate_map")
        cache_key = statement._generate_cache_key()
        if cache_key is None:
            text = str(statement.compile(dialect=self.connection.dialect))
            return Statement(text, (), parameters, "a part of it cannot be a key (cache_ok)")
        values = [parameter.effective_value for parameter in cache_key.bindparams]
        text, number = _known_statement(
            statement, cache_key.key, self.connection.dialect, translated
        )
        own = getattr(cache_key, "params", None)
        refusal = refusal or _parameter_refusal(values) or _parameter_refusal(own)
        identity = (number, dict(translated or {}), values, own)
        return Statement(text, identity, parameters, refusal)

    def execute(self, statement: Any, parameters: Any) -> Rows:
        """Run a statement; return its rows."""
        if isinstance(statement, str):
            result = self.connection.exec_driver_sql(statement, parameters)
        else:
            runner = self.connection if self._session is None else self._session
            result = runner.execute(statement, parameters)
        columns = tuple(map(str, result.keys()))
        return columns, tuple(map(tuple, result.fetchall()))


_STATEMENTS: dict[Any, tuple[str, int]] = {}
_numbers = itertools.count(1)


def _known_statement(
    statement: Any, key: Any, dialect: Any, translated: Any
) -> tuple[str, int]:  # fmt: skip
    """Return the text of a statement, and a number that statements equal in all but values share."""
    place = (key, dialect.name, dialect.driver, bool(translated))
    known = _STATEMENTS.get(place)
    if known is None:
        compiled = statement.compile(dialect=dialect, schema_translate_map=translated)
        if len(_STATEMENTS) >= MAX_STATEMENTS:
            _STATEMENTS.clear()
        known = _STATEMENTS.setdefault(place, (str(compiled), next(_numbers)))
    return known


def _refuse_objects(statement: Any) -> None:
    """Raise for a statement whose rows would hold objects of a session.

    Raises:
        KnitPerfError: it does, or is not a statement that SQLAlchemy selects with.
    """
    if not hasattr(statement, "_generate_cache_key") or not hasattr(statement, "compile"):
        raise KnitPerfError(
            f"a query is a select(), text() or a text, not {type(statement).__name__}"
        )
    for column in getattr(statement, "column_descriptions", ()):
        expression = column.get("expr")
        is_entity = expression is not None and expression is column.get("entity")
        if is_entity or hasattr(expression, "single_entity"):
            name = _class_name(expression)
            raise KnitPerfError(
                f"select() of {name} returns objects that belong to one session, which no cache may "
                f"share: select columns, such as select({name}.id), or select({name}.__table__)"
            )


def _class_name(expression: Any) -> str:
    """Return the name of the class of a mapped class or an alias of one."""
    from sqlalchemy import inspect

    mapper = getattr(inspect(expression, raiseerr=False), "mapper", None)
    return str(getattr(getattr(mapper, "class_", expression), "__name__", expression))


def _parameter_refusal(values: Any) -> str:
    items = values.values() if isinstance(values, Mapping) else values
    if isinstance(items, Sequence | ValuesView) and any(map(is_relative, items)):
        return "a parameter stands for the present time"
    return ""


def _has_changes(session: Any) -> bool:
    return bool(session.autoflush and (session.new or session.dirty or session.deleted))


def _has_foreign(listeners: Any) -> bool:
    """Return whether code of the application is among the listeners to an event."""
    for listener in listeners:
        owner = getattr(listener, "__self__", None)
        module = getattr(listener, "__module__", None) or type(owner).__module__
        if module.partition(".")[0] not in ("flask_knitperf", "sqlalchemy"):
            return True
    return False


def as_query(statement: Any, connection: Any) -> Any:
    """Return a query for its connection: SQLAlchemy takes SQL as a ``text()``."""
    if not isinstance(statement, str) or issubclass(type(connection), TimedConnection):
        return statement
    from sqlalchemy import text

    return text(statement)


@contextmanager
def source_of(connection: Any, statement: Any = None) -> Iterator[WrappedSource | AlchemySource]:
    """Open a connection for one query; one that the caller has opened stays as it is.

    Args:
        connection: a connection, session or engine of SQLAlchemy, or a wrapped DB-API connection.
        statement: by which a session chooses its engine.

    Raises:
        KnitPerfError: it is none of them, or is not watched.
    """
    if issubclass(type(connection), TimedConnection):
        yield WrappedSource(connection)
        return
    if hasattr(connection, "sync_engine") or hasattr(connection, "sync_session"):
        raise KnitPerfError(
            "an asynchronous connection or session runs it with run_sync: "
            "await session.run_sync(lambda session: perf.queries.cached(statement, session))"
        )
    if hasattr(connection, "registry") and callable(connection):  # scoped_session
        connection = connection()
    if hasattr(connection, "get_bind"):
        bind = {} if isinstance(statement, str) else {"clause": statement}
        yield AlchemySource(connection.connection(bind_arguments=bind), connection)
    elif hasattr(connection, "exec_driver_sql"):
        yield AlchemySource(connection)
    elif hasattr(connection, "dialect") and hasattr(connection, "connect"):
        with connection.connect() as opened:
            yield AlchemySource(opened)
    else:
        raise KnitPerfError(
            f"{type(connection).__name__} is not a watched connection: pass a session, connection or "
            "engine of SQLAlchemy, or a connection of perf.queries.wrap_connect"
        )
