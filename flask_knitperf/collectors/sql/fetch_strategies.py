"""Strategies with which SQLAlchemy fetches the rows of a watched engine: they count and time them.

SQLite does the work of a query while its rows are fetched, and there is no event for that. The cursor
stays the driver's, because an application finds it in events, in the context and in the result; what is
replaced is the strategy that calls it, which SQLAlchemy keeps as an attribute of the context.
"""

from __future__ import annotations

import collections
from typing import Any

from sqlalchemy.engine.cursor import BufferedRowCursorFetchStrategy, CursorFetchStrategy
from sqlalchemy.engine.default import DefaultExecutionContext

from .fastpath import CountingCursorBase, PendingRows

_DEFAULT = DefaultExecutionContext.cursor_fetch_strategy


class CountingFetch(CountingCursorBase, CursorFetchStrategy):
    """Wraps the default strategy, which fetches from the cursor whatever the application fetches."""

    __slots__ = ("alternate_cursor_description",)

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        """Fetch rows in batches from now on."""
        options = {"max_row_buffer": num}
        result.cursor_strategy = CountingBuffer(
            dbapi_cursor, self._pending, options, 0, collections.deque()
        )


_set_description: Any = CountingFetch.__dict__["alternate_cursor_description"].__set__


class CountingBuffer(BufferedRowCursorFetchStrategy):
    """Fetches rows in batches, which are counted and timed.

    Args:
        cursor: the driver's.
        pending: of :meth:`.QueryCounterBase.end_with_rows`.
        arguments: further ones of the base class.
    """

    __slots__ = ("_arguments", "_counting")

    def __init__(self, cursor: Any, pending: PendingRows | None, *arguments: Any) -> None:
        self._counting = CountingCursorBase(cursor, pending)
        self._arguments = arguments
        if len(arguments) > 1:
            self._start()

    def _start(self) -> None:
        arguments, self._arguments = self._arguments, ()
        super().__init__(self._counting, *arguments)

    @property
    def alternate_cursor_description(self) -> None:  # type: ignore[override]
        """``None``: the description is the cursor's.

        SQLAlchemy reads this where it would create its own strategy, which fetches the first row.
        """
        if self._arguments:
            self._start()

    def _buffer_rows(self, result: Any, _cursor: Any) -> None:
        super()._buffer_rows(result, self._counting)

    def fetchmany(self, result: Any, _cursor: Any, size: int | None = None) -> Any:
        """Return the next rows."""
        return super().fetchmany(result, self._counting, size)

    def fetchall(self, result: Any, _cursor: Any) -> Any:
        """Return the remaining rows."""
        return super().fetchall(result, self._counting)


def count_rows(context: Any, cursor: Any, pending: PendingRows, description: Any) -> None:
    """Have the rows of an execution counted as they are fetched.

    Args:
        context: the execution context.
        cursor: the driver's.
        pending: of :meth:`.QueryCounterBase.end_with_rows`.
        description: of the cursor; SQLAlchemy need not read it again.
    """
    if context.cursor_fetch_strategy is not _DEFAULT:
        return
    if _is_buffered(context):
        strategy: Any = CountingBuffer(cursor, pending, context.execution_options)
    else:
        strategy = CountingFetch(_DEFAULT, pending)
        _set_description(strategy, description)
    context.cursor_fetch_strategy = strategy


def _is_buffered(context: Any) -> bool:
    """Return whether SQLAlchemy fetches rows in batches (``_setup_result_proxy`` of its context)."""
    if context._is_server_side:
        return True
    return bool(
        context.execution_options.get("stream_results") and not (context.is_crud or context.is_text)
    )
