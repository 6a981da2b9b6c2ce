"""SQLAlchemy: every statement of an engine, by the engine's own events; of 2.0 and 2.1, sync and async.

SQLite does the work of a query while its rows are fetched, and no event tells of that. Where the
driver cannot say how many rows a result has, its cursor is therefore put into one that counts rows and
takes the time of fetching (:class:`.dbapi.Fetching`).
"""

from __future__ import annotations

import weakref
from typing import Any

from ..core.errors import KnitPerfError
from ..core.locks import Lock
from .asked import ASKED
from .calls import begin, digest, end
from .dbapi import Cursor, Fetching, new_database
from .explain import EXPLAINS

_KEY = "_knitperf_call"
_WATCHERS: weakref.WeakKeyDictionary[Any, Watcher] = weakref.WeakKeyDictionary()
_TURN = Lock()


class Watcher:
    """The listeners of one engine.

    Args:
        engine: an ``Engine``, or the ``sync_engine`` of an async one.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._database = new_database()
        self._listeners = (
            ("before_cursor_execute", self._before),
            ("after_cursor_execute", self._after),
            ("handle_error", self._failed),
        )

    def listen(self) -> None:
        """Begin to watch."""
        from sqlalchemy import event

        for name, listener in self._listeners:
            event.listen(self.engine, name, listener)

    def remove(self) -> None:
        """Watch no more."""
        from sqlalchemy import event

        for name, listener in self._listeners:
            if event.contains(self.engine, name, listener):
                event.remove(self.engine, name, listener)

    def _before(
        self, _conn: Any, cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        if type(cursor) is Cursor:  # of a connection that is watched itself
            return
        began = begin(statement, self._database)
        if began is not None:
            context.__dict__[_KEY] = began

    def _after(
        self, _conn: Any, cursor: Any, _statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        began = context.__dict__.pop(_KEY, None)
        if began is None:
            return
        span, call = began
        end(span, call)
        if not many:
            digest(call, parameters)
            options = context.execution_options.get("_sa_orm_load_options")
            call.lazy = options is not None and options._lazy_loaded_from is not None
            if EXPLAINS.wanted and span.owner.explained_ns:
                EXPLAINS.explain(span, call, getattr(cursor, "connection", None), parameters)
        rows = cursor.rowcount
        if rows >= 0:
            call.rows = rows
        elif cursor.description is not None:
            call.rows = 0
            context.cursor = Fetching(cursor, span, call)
        ASKED.add(span, call)

    def _failed(self, failure: Any) -> None:
        context = failure.execution_context
        began = None if context is None else context.__dict__.pop(_KEY, None)
        if began is not None:
            span, call = began
            end(span, call)
            call.error = type(failure.original_exception).__name__
            ASKED.add(span, call)


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


def uninstrument(engine: Any) -> None:
    """Watch an engine no more."""
    with _TURN:
        watcher = _WATCHERS.pop(getattr(engine, "sync_engine", engine), None)
    if watcher is not None:
        watcher.remove()
