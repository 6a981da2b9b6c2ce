"""Instrumentation of SQLAlchemy engines through their events; 2.0 and 2.1, sync and async.

SQLite does the work of a query while its rows are fetched, for which there is no event, so
:mod:`.fetch_strategies` counts and times them. The number of changed rows is read only where SQLAlchemy
reads it itself.

A forked child must not use its parent's connections: two processes on one socket receive each other's
results. So a child starts with an empty pool, without closing the connections of the old one, which
belong to the parent.
"""

from __future__ import annotations

import functools
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any

from ...core.errors import KnitPerfError
from ...core.host_exceptions import SuppressOwn, raise_if_of_host
from ...core.locks import create_lock
from ...recording.recorder import Recorder
from .connection_writes import ALL_TABLES, ConnectionWrites
from .dbapi import TimedCursor, new_database
from .fastpath import EngineListenerBase
from .pool import PoolListener
from .request_queries import QUERY_COUNTER
from .written_tables import WRITTEN_TABLES

log = logging.getLogger("flask_knitperf")

_LISTENERS: weakref.WeakKeyDictionary[Any, EngineListener] = weakref.WeakKeyDictionary()
_LOCK = create_lock()
_UNCOMMITTED = "_knitperf_changed"
"""Key in ``Connection.info`` of its :class:`.ConnectionWrites`."""
_ENDS = ("do_commit", "do_commit_twophase", "do_rollback", "do_rollback_twophase")
"""Methods of a dialect that end a transaction."""


class EngineListener(EngineListenerBase):
    """Event listeners of one engine.

    Args:
        engine: an ``Engine``, or the ``sync_engine`` of an async one.
        pool: listener of its pool.

    Attributes:
        database: number of the engine's database.
    """

    def __init__(self, engine: Any, pool: PoolListener) -> None:
        from .fetch_strategies import count_rows

        self.database = new_database()
        super().__init__(QUERY_COUNTER, self.database, TimedCursor, count_rows)
        self._engine = weakref.ref(engine)  # weak: listening must not keep the engine alive
        self.pool = pool
        self._original_ends: dict[str, Any] = {}
        self._listeners = (
            ("before_cursor_execute", self.before, True),
            ("after_cursor_execute", self.after, False),
            ("handle_error", self._on_error, False),
        )
        self._tracking = (
            ("begin", self._on_begin),
            ("begin_twophase", self._on_begin),
            ("before_cursor_execute", self._before_execute),
            ("after_cursor_execute", self._on_execute),
        )

    def install(self) -> None:
        """Register the listeners."""
        from sqlalchemy import event

        engine = self._engine()
        for name, listener, returns_value in self._listeners:
            event.listen(engine, name, listener, retval=returns_value)
        if WRITTEN_TABLES.has_subscribers:
            self.track_tables()

    def track_tables(self) -> None:
        """Publish written tables from now on."""
        from sqlalchemy import event

        engine = self._engine()
        if engine is None or event.contains(engine, "after_cursor_execute", self._on_execute):
            return
        for name, listener in self._tracking:
            event.listen(engine, name, listener)
        dialect = engine.dialect
        for name in _ENDS:  # there is no event after a commit
            self._original_ends[name] = vars(dialect).get(name)
            publishing = _publishing(getattr(dialect, name), is_prepared="twophase" in name)
            setattr(dialect, name, publishing)

    def uninstall(self) -> None:
        """Remove the listeners."""
        from sqlalchemy import event

        engine = self._engine()
        for name, listener, _ in self._listeners if engine is not None else ():
            if event.contains(engine, name, listener):
                event.remove(engine, name, listener)
        if engine is not None and event.contains(engine, "after_cursor_execute", self._on_execute):
            for name, tracker in self._tracking:
                event.remove(engine, name, tracker)
            for name, original in self._original_ends.items():
                delattr(engine.dialect, name)
                if original is not None:
                    setattr(engine.dialect, name, original)

    @staticmethod
    def _on_begin(connection: Any, *_: Any) -> None:
        with SuppressOwn(Exception):
            writes_of(connection, is_new=True)

    @staticmethod
    def _before_execute(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        try:
            WRITTEN_TABLES.before_execute(statement, writes_of(connection))
        except Exception as error:
            raise_if_of_host(error)
            log.exception("flask_knitperf: versions of tables failed; the statement is sent")

    @staticmethod
    def _on_execute(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        try:
            WRITTEN_TABLES.on_execute(statement, writes_of(connection))
        except Exception as error:
            raise_if_of_host(error)
            log.exception("flask_knitperf: versions of tables failed; the statement was sent")

    def _on_error(self, failure: Any) -> None:
        if failure.statement is not None:
            WRITTEN_TABLES.on_error(failure.statement, _tracked_writes(failure.connection))
        context = failure.execution_context
        execution = getattr(context, "_knitperf_execution", None)
        if execution is not None:
            context._knitperf_execution = None
            QUERY_COUNTER.try_end(
                execution, failure.statement, self._database,
                result=type(failure.original_exception).__name__,
            )  # fmt: skip


def _publishing(end: Callable[..., Any], *, is_prepared: bool) -> Callable[..., Any]:
    """Return a dialect's commit or rollback that publishes the tables its transaction has written.

    Args:
        end: the method of the dialect.
        is_prepared: whether it may end a transaction that another connection has prepared.
    """

    @functools.wraps(end)
    def published(connection: Any, *args: Any, **kwargs: Any) -> Any:
        writes = _tracked_writes(connection)
        if writes is None:
            return end(connection, *args, **kwargs)
        if is_prepared and not writes.tables:
            writes.tables.add(ALL_TABLES)
        WRITTEN_TABLES.before_end(writes)
        try:
            return end(connection, *args, **kwargs)
        finally:
            WRITTEN_TABLES.on_end(writes)

    return published


def writes_of(connection: Any, *, is_new: bool = False) -> ConnectionWrites:
    """Return the writes of a connection.

    Args:
        connection: of SQLAlchemy, or of its pool.
        is_new: whether its transaction has only begun, so that it has written nothing before.

    Raises:
        NotImplementedError: it is not in the pool yet.
    """
    info = connection.info
    writes: ConnectionWrites | None = info.get(_UNCOMMITTED)
    if writes is None:
        writes = info.setdefault(_UNCOMMITTED, WRITTEN_TABLES.writes(is_new=is_new))
    return writes


def _tracked_writes(connection: Any) -> ConnectionWrites | None:
    """Return the writes of a connection, ``None`` if they are not tracked. Never raises."""
    if connection is None or not WRITTEN_TABLES.has_subscribers:
        return None
    with SuppressOwn(Exception):  # the first connection of an engine is not in the pool yet
        return writes_of(connection)
    return None


def _listeners() -> list[EngineListener]:
    with _LOCK:
        return list(_LISTENERS.values())


def track_tables() -> None:
    """Have all engines publish written tables."""
    for listener in _listeners():
        listener.track_tables()


def instrument(engine: Any) -> None:
    """Register listeners on an engine; a second call has no effect.

    Args:
        engine: an ``Engine`` or an ``AsyncEngine``.

    Raises:
        KnitPerfError: it is neither.
    """
    engine = getattr(engine, "sync_engine", engine)
    if not (hasattr(engine, "dialect") and hasattr(engine, "pool")):
        raise KnitPerfError(
            f"{type(engine).__name__} is not an engine of SQLAlchemy; "
            "for other connections use perf.queries.wrap_connect"
        )
    with _LOCK:
        if engine not in _LISTENERS:
            listener = _LISTENERS[engine] = EngineListener(engine, _listen_to_pool(engine))
            listener.install()


def _listen_to_pool(engine: Any) -> PoolListener:
    """Return the listener of an engine's pool; engines that differ in options alone share one."""
    listeners = _LISTENERS.copy()
    for other, listener in listeners.items():
        if other.pool is engine.pool:
            return listener.pool
    while (proxied := getattr(engine, "_proxied", None)) is not None:
        engine = proxied  # the engine that Engine.execution_options was called on
    pools = [listener.pool for listener in listeners.values()]
    created = PoolListener(engine, {pool.name for pool in pools if not pool.disposed})
    created.install()
    return created


def uninstrument(engine: Any) -> None:
    """Remove the listeners of an engine."""
    with _LOCK:
        listener = _LISTENERS.pop(getattr(engine, "sync_engine", engine), None)
        shared = listener is not None and any(
            other.pool is listener.pool for other in _LISTENERS.copy().values()
        )
    if listener is not None:
        listener.uninstall()
        if not shared:
            listener.pool.uninstall()


def listener_of(engine: Any) -> EngineListener | None:
    """Return the listener of an engine, or of the one whose options it differs in; else ``None``."""
    while engine is not None:
        listener = _LISTENERS.get(engine)
        if listener is not None:
            return listener
        engine = getattr(engine, "_proxied", None)
    return None


def instrumented_engines() -> list[Any]:
    """Return the instrumented engines of this process."""
    with _LOCK:
        return list(_LISTENERS)


def record_pools(recorder: Recorder) -> None:
    """Record the gauges of this process's pools (a job of the housekeeper)."""
    for listener in _listeners():
        listener.pool.record_gauges(recorder)


def empty_pool(engine: Any) -> None:
    """Replace the pool of an engine after a fork, without closing its connections. Never raises.

    An in-memory SQLite database lives in its connection and is not shared, so its pool stays.
    """
    with SuppressOwn(Exception):  # a failure here must not reach the child
        engine = getattr(engine, "sync_engine", engine)
        database = str(engine.url.database or "")
        if engine.dialect.name != "sqlite" or (database and "memory" not in database):
            engine.dispose(close=False)


def _in_child() -> None:
    for engine, listener in list(_LISTENERS.items()):  # no other thread is here
        listener.pool.checkouts.clear()
        empty_pool(engine)
        listener.pool.disposed = False


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_in_child)
