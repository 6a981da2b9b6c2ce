"""SQLAlchemy: every statement of an engine, by the engine's own events; of 2.0 and 2.1, sync and async.

SQLite does the work of a query while its rows are fetched, and no event tells of that. Where the
driver cannot say how many rows a result has, its cursor is therefore put into one that counts rows and
takes the time of fetching (:class:`.dbapi.Fetching`).

A forked child must not use its parent's connections: two processes that speak over one socket get each
other's answers. So a child begins with an empty pool, and leaves the connections in the old one alone,
for they are its parent's.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any

from ...core.errors import KnitPerfError
from ...core.locks import Lock
from ...recording.recorder import Recorder
from .dbapi import Cursor, Fetching, new_database
from .fastpath import EngineListenerBase
from .pool import PoolWatcher
from .request_queries import ASKED
from .written_tables import TABLES

log = logging.getLogger("flask_knitperf")

_WATCHERS: weakref.WeakKeyDictionary[Any, Watcher] = weakref.WeakKeyDictionary()
_TURN = Lock()
_CHANGED = "_knitperf_changed"


class Watcher(EngineListenerBase):
    """The listeners of one engine.

    Args:
        engine: an ``Engine``, or the ``sync_engine`` of an async one.
    """

    def __init__(self, engine: Any) -> None:
        super().__init__(ASKED, new_database(), Cursor, Fetching)
        self._engine = weakref.ref(engine)  # who watches an engine does not keep it
        self.pool = PoolWatcher(engine)
        self._commits: dict[str, Any] = {}
        self._listeners = (
            ("before_cursor_execute", self.before, True),
            ("after_cursor_execute", self.after, False),
            ("handle_error", self._failed, False),
        )

    def listen(self) -> None:
        """Begin to watch."""
        from sqlalchemy import event

        engine = self._engine()
        for name, listener, answers in self._listeners:
            event.listen(engine, name, listener, retval=answers)
        if TABLES.wanted:
            self.watch_tables()

    def watch_tables(self) -> None:
        """Tell of tables that are changed, from now on; once."""
        from sqlalchemy import event

        engine = self._engine()
        if engine is None or event.contains(engine, "after_cursor_execute", self._ran):
            return
        event.listen(engine, "after_cursor_execute", self._ran)
        dialect = engine.dialect
        for name in ("do_commit", "do_commit_twophase"):  # no event comes after a commit
            self._commits[name] = vars(dialect).get(name)
            setattr(dialect, name, _telling(getattr(dialect, name)))

    def remove(self) -> None:
        """Watch no more."""
        from sqlalchemy import event

        engine = self._engine()
        for name, listener, _ in self._listeners if engine is not None else ():
            if event.contains(engine, name, listener):
                event.remove(engine, name, listener)
        if engine is not None and event.contains(engine, "after_cursor_execute", self._ran):
            event.remove(engine, "after_cursor_execute", self._ran)
            for name, before in self._commits.items():
                delattr(engine.dialect, name)
                if before is not None:
                    setattr(engine.dialect, name, before)

    def _ran(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        try:
            TABLES.executed(statement, connection.info.setdefault(_CHANGED, set()))
        except Exception:
            log.exception("flask_knitperf: versions of tables failed; the statement was sent")

    def _failed(self, failure: Any) -> None:
        context = failure.execution_context
        began = getattr(context, "_knitperf_execution", None)
        if began is not None:
            context._knitperf_execution = None
            ASKED.done(
                began, failure.statement, self._database,
                result=type(failure.original_exception).__name__,
            )  # fmt: skip


def _telling(commit: Callable[..., Any]) -> Callable[..., Any]:
    """Return a dialect's commit that tells of what was changed once that can be seen."""

    @functools.wraps(commit)
    def committed(connection: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return commit(connection, *args, **kwargs)
        finally:
            TABLES.committed(connection.info.get(_CHANGED, set()))

    return committed


def watch_tables() -> None:
    """Have all engines tell of tables that are changed."""
    for watcher in list(_WATCHERS.values()):
        watcher.watch_tables()


def instrument(engine: Any) -> None:
    """Watch an engine, once.

    Raises:
        KnitPerfError: it is none of SQLAlchemy's.
    """
    engine = getattr(engine, "sync_engine", engine)
    if not (hasattr(engine, "dialect") and hasattr(engine, "pool")):
        raise KnitPerfError(
            f"{type(engine).__name__} is no engine of SQLAlchemy; "
            "for other connections there is perf.queries.wrap_connect"
        )
    with _TURN:
        if engine not in _WATCHERS:
            watcher = _WATCHERS[engine] = Watcher(engine)
            watcher.listen()
            watcher.pool.listen()


def uninstrument(engine: Any) -> None:
    """Watch an engine no more."""
    with _TURN:
        watcher = _WATCHERS.pop(getattr(engine, "sync_engine", engine), None)
    if watcher is not None:
        watcher.remove()
        watcher.pool.remove()


def watched_engines() -> list[Any]:
    """Return the engines of this process that are watched and alive."""
    return list(_WATCHERS)


def look(recorder: Recorder) -> None:
    """Record how the pools of this process are (a housekeeper's job)."""
    for watcher in list(_WATCHERS.values()):
        watcher.pool.look(recorder)


def renew(engine: Any) -> None:
    """Begin with an empty pool, in a process that was forked off the one which filled it.

    A database in SQLite's memory is its connection: there is nothing to share, and much to lose.
    """
    with contextlib.suppress(Exception):  # nothing that goes wrong here is the child's
        engine = getattr(engine, "sync_engine", engine)
        database = str(engine.url.database or "")
        if engine.dialect.name != "sqlite" or (database and "memory" not in database):
            engine.dispose(close=False)


def _in_child() -> None:
    for engine, watcher in list(_WATCHERS.items()):
        watcher.pool.out.clear()
        renew(engine)


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_in_child)
