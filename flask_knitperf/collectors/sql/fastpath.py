"""The way of one statement, from its first line of ours to its last, in one piece.

Every query of an application pays for what stands here, so it stands here together and twice, as the
usual request does (:mod:`~flask_knitperf.recording.fastpath`): in Python, to be read and to run
anywhere, and in C (``_speedups.c``), built where there is a compiler. Whatever is not usual is left to
methods in Python, the same for both; the tests run on both.

The steps, in order: :meth:`QueryCounterBase.begin` looks up the request and the line that sends the
statement, and reads a clock. The statement runs. :meth:`QueryCounterBase.end` reads the clock again,
adds the time to the enclosing scope, looks up the earlier executions of the statement and appends a
duration, a result and a hash of the parameters; no parameter is kept. Where rows are still to come,
:class:`CountingCursorBase` wraps the cursor, counts the rows and adds the time of fetching.
:class:`EngineListenerBase` does this for an engine of SQLAlchemy, between two of its events.

Nothing here raises but what a driver raised.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ...recording.fastpath import COMPILED as CORE_COMPILED
from ...recording.recorder import QueryTracking
from ...recording.span import EVENTS

if TYPE_CHECKING:
    from ...recording.span import Notes, Part, Span

UNCOMPARABLE = object()
"""In the place of parameters: repeating this is no matter."""
MAX_KEPT_TEXT = 2000
"""Longer texts are not held until the request ends; their shapes are."""
MAX_BUFFERED = 2000
"""Statements of one request that are kept one by one until they are put together."""
FIELDS_PER_CALL = 5
"""Entries of one statement in :attr:`.request_queries.Asked.calls`, which holds no tuples: those would
have the garbage collector come more often."""
_HASHED = frozenset({int, str, float, bytes, bool, type(None)})

PendingRows = tuple["Span", Any, int]
"""The request that sent a statement, the statements like that, and its number among them."""


class ExecutionBase:
    """A statement that was begun.

    Attributes:
        span: the request.
        call_site: the line of own code that asks, empty where none does or nobody looked.
        scope: what is around the statement.
        nested_ns: what that had summed up then, wall and
        nested_cpu_ns: CPU.
        cpu_began: CPU of the thread then, ``None`` where that is not sampled.
        began: when, in nanoseconds on the recorder's clock.
    """

    __slots__ = (
        "began", "call_site", "cpu_began", "nested_cpu_ns", "nested_ns", "scope", "span",
    )  # fmt: skip

    def __init__(
        self, span: Any, call_site: str, scope: Any, cpu_began: int | None, began: int
    ) -> None:
        self.span: Span = span
        self.call_site = call_site
        self.scope: Part | Notes = scope
        self.nested_ns: int = scope.nested_ns
        self.nested_cpu_ns: int = scope.nested_cpu_ns
        self.cpu_began = cpu_began
        self.began = began


class StatementBase:
    """The statements of one text that one line of a request sent. See :class:`.statements.Sent`."""

    __slots__ = (
        "call_site", "database", "durations", "fingerprint", "lazy_count", "merged", "page_hashes",
        "parameter_hashes", "results", "text", "text_hash", "value_count",
    )  # fmt: skip
    database: int
    text_hash: int
    lazy_count: int
    value_count: int
    page_hashes: set[int]
    results: list[int | str]
    fingerprint: Any
    text: str
    durations: list[int]
    merged: int
    parameter_hashes: list[int | None]
    call_site: str


class RequestQueriesBase:
    """What one request has asked so far. See :class:`.request_queries.Asked`."""

    __slots__ = (
        "allow_depth",
        "buffered",
        "calls",
        "count",
        "cpu_ns",
        "groups",
        "last",
        "own_ns",
        "statements",
    )
    allow_depth: int
    calls: list[Any]
    count: int
    cpu_ns: int
    groups: dict[tuple[int, str, str], Any]
    last: Any
    own_ns: int
    statements: dict[tuple[str, str, int], Any]
    buffered: int

    if TYPE_CHECKING:

        def find(self, text: Any, where: str, database: int) -> Any:
            """Return the statements of a text, line and database, made if need be."""


class QueryCounterBase:
    """Counts what requests of this process ask. See :class:`.request_queries.Queries`.

    Args:
        current: where the request in progress is found.
        caller: tells the line of own code that led here, leaving out so many callers.
        explains: what has statements explained: its ``wanted`` says whether any waits for that.
    """

    def __init__(
        self, current: ContextVar[Any], caller: Callable[[int], str], explains: Any
    ) -> None:
        self._current, self._caller, self._explains = current, caller, explains

    def begin(self, depth: int = 1) -> ExecutionBase | None:
        """Begin a statement; return ``None`` where no request runs whose statements are counted.

        Args:
            depth: callers of this that cannot be the line that asks.
        """
        span = self._current.get()
        if span is None or span.ended:
            return None
        owner = span.owner
        try:
            if not owner.query_tracking:
                return None
            where = (
                self._caller(depth + 1)
                if owner.query_tracking == QueryTracking.COUNT_WITH_CALL_SITE
                else ""
            )
            stack = span.stack
            scope = stack[-1] if stack else span.notes or span.ensure_notes()
            clock = owner.clock
            cpu = None if span.cpu_began is None else clock.runnable_ns()
            return ExecutionBase(span, where, scope, cpu, clock.monotonic_ns())
        except Exception as error:
            owner.failed("queries", error)
            return None

    def end(
        self, began: ExecutionBase, text: Any, database: int, parameters: Any, result: int | str
    ) -> tuple[Any, int]:
        """End a statement; what is around it knows of it from now on.

        Args:
            began: of :meth:`begin`.
            text: the statement.
            database: a number for what it was sent to.
            parameters: what was sent with it, or :data:`UNCOMPARABLE`.
            result: the rows that it gave or changed, -1 where unknown; or the class of its error.

        Returns:
            The statements like it, and its number among them.

        Raises:
            Exception: anything; :meth:`end_with_rows` and
                :meth:`.request_queries.Queries.done` catch it.
        """
        span, scope = began.span, began.scope
        clock = span.owner.clock
        now = clock.monotonic_ns()
        wall = now - began.began
        notes = span.notes
        asked: RequestQueriesBase | None = None if notes is None else notes.queries
        if asked is None:
            asked = self.queries_of(span)
        asked.own_ns += wall - scope.nested_ns + began.nested_ns
        scope.nested_ns = began.nested_ns + wall
        if began.cpu_began is not None:
            used = clock.runnable_ns() - began.cpu_began
            asked.cpu_ns += used - scope.nested_cpu_ns + began.nested_cpu_ns
            scope.nested_cpu_ns = began.nested_cpu_ns + used
        sent, where = asked.last, began.call_site
        if (
            sent.text is not text
            or not text
            or sent.call_site is not where
            or sent.database != database
        ):
            sent = asked.find(text, where, database)
        place = len(sent.durations)
        sent.durations.append(wall)
        sent.results.append(result)
        if parameters is UNCOMPARABLE or asked.allow_depth:
            sent.parameter_hashes.append(None)
        elif type(parameters) is tuple and len(parameters) == 1 and type(parameters[0]) in _HASHED:
            sent.value_count += 1  # most are like this
            sent.parameter_hashes.append(hash(parameters))
        else:
            self.add_parameters(sent, parameters)
        if len(asked.calls) < FIELDS_PER_CALL * EVENTS:
            asked.calls.extend((sent, sent.results, place, began.began, now))
        asked.buffered += 1
        number = sent.merged + place
        if asked.buffered >= MAX_BUFFERED:
            self.settle(span)
        return sent, number

    def end_with_rows(
        self, began: ExecutionBase, statement: Any, database: int, parameters: Any, cursor: Any,
        lazy: bool = False,
    ) -> PendingRows | None:  # fmt: skip
        """Count a statement that succeeded; return what is to be counted when its rows are fetched.

        Args:
            began: of :meth:`begin`.
            statement: it.
            database: a number for what it was sent to.
            parameters: what was sent with it, or :data:`UNCOMPARABLE`.
            cursor: the driver's.
            lazy: an attribute of an ORM's object sent it.
        """
        try:
            rows = cursor.rowcount
            if type(rows) is not int:
                rows = -1
            sent, number = self.end(began, statement, database, parameters, rows)
            sent.lazy_count += lazy
            if self._explains.wanted and parameters is not UNCOMPARABLE:
                self.explain(began.span, sent, cursor, parameters)
            if rows <= 0 and cursor.description is not None:
                return began.span, sent, number
        except Exception as error:
            began.span.owner.failed("queries", error)
        return None

    if TYPE_CHECKING:

        def queries_of(self, span: Any) -> Any:
            """Return what a request has asked so far."""

        def settle(self, span: Any) -> None:
            """Put together what a request has asked so far."""

        def add_parameters(self, sent: Any, parameters: Any) -> None:
            """Have a statement judged by parameters of any kind."""

        def explain(self, span: Any, sent: Any, cursor: Any, parameters: Any) -> None:
            """Explain a statement, if its shape waits for that."""


class CountingCursorBase:
    """A DB-API cursor whose rows are counted and timed as they are fetched.

    What SQLAlchemy asks of every cursor is at hand here; see :class:`.dbapi.Fetching` for the rest.

    Args:
        cursor: the driver's.
        now: the request that sent its statement, the statements like that, and its number among them;
            ``None`` where nothing is counted.
    """

    __slots__ = ("_cursor", "_pending")
    _cursor: Any
    _pending: PendingRows | None

    def __init__(self, cursor: Any, now: PendingRows | None = None) -> None:
        _set_cursor(self, cursor)
        _set_pending(self, now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._cursor, name)

    @property
    def close(self) -> Any:
        """The cursor's own."""
        return self._cursor.close

    @property
    def description(self) -> Any:
        """The cursor's own."""
        return self._cursor.description

    def fetchone(self) -> Any:
        """Give the next row, ``None`` behind the last."""
        now = self._pending
        if now is None:
            return self._cursor.fetchone()
        return _fetch(now, self._cursor.fetchone, (), {}, True)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Give the next rows."""
        now, fetch = self._pending, self._cursor.fetchmany
        return fetch(*args, **kwargs) if now is None else _fetch(now, fetch, args, kwargs, False)

    def fetchall(self) -> Any:
        """Give the rows that are left."""
        now = self._pending
        if now is None:
            return self._cursor.fetchall()
        return _fetch(now, self._cursor.fetchall, (), {}, False)


_set_cursor: Any = CountingCursorBase.__dict__["_cursor"].__set__
_set_pending: Any = CountingCursorBase.__dict__["_pending"].__set__


def _fetch(
    now: PendingRows,
    fetch: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    single: bool,
) -> Any:
    """Fetch one row or several, and count them: their time without what ran inside it."""
    span, sent, number = now
    stack = span.stack
    scope: Any = stack[-1] if stack else span.notes
    inside = 0 if scope is None else scope.nested_ns
    clock = span.owner.clock
    cpu = None if span.cpu_began is None else clock.runnable_ns()
    began = clock.monotonic_ns()
    rows, error = None, ""
    try:
        rows = fetch(*args, **kwargs)
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        try:
            took = clock.monotonic_ns() - began
            used = 0 if cpu is None else clock.runnable_ns() - cpu
            if scope is not None and not span.ended:
                own = took - scope.nested_ns + inside
                scope.nested_ns = inside + took
                scope.nested_cpu_ns += used
                many = (rows is not None) if single else 0 if rows is None else len(rows)
                add_rows(span, sent, number, took, own, used, int(many), error)
        except Exception as failure:
            span.owner.failed("queries", failure)
    return rows


def add_rows(
    span: Any, sent: Any, number: int, took: int, own: int, used: int, rows: int, error: str = ""
) -> None:
    """Count rows that were fetched; what comes when they are put together is left out.

    Args:
        span: the request.
        sent: the statements like it.
        number: of the statement among those.
        took: nanoseconds of fetching.
        own: of those, what ran within nothing else.
        used: CPU of those.
        rows: how many there were.
        error: the class of what was raised.
    """
    place = number - sent.merged
    if span.ended or not 0 <= place < len(sent.durations):
        return
    results = sent.results
    before = results[place]
    if error:
        results[place] = error
        if place < len(sent.parameter_hashes):
            sent.parameter_hashes[place] = None
    elif isinstance(before, int):
        results[place] = rows if before < 0 else before + rows
    sent.durations[place] += took
    asked = span.notes.queries
    asked.own_ns += own
    asked.cpu_ns += used


class EngineListenerBase:
    """Counts the statements of an engine, between two of its events. See :class:`.sqlalchemy.Watcher`.

    Args:
        queries: what counts.
        database: a number for where the engine leads.
        watched: the class of cursors that count by themselves.
        fetching: the class of cursors whose rows are counted as they are fetched.
    """

    def __init__(self, queries: Any, database: int, watched: type, fetching: type) -> None:
        self._queries, self._database = queries, database
        self._watched, self._fetching = watched, fetching

    def before(
        self, _conn: Any, cursor: Any, statement: Any, parameters: Any, context: Any, _many: Any
    ) -> tuple[Any, Any]:
        """Begin a statement (``before_cursor_execute``); return it as it is."""
        if type(cursor) is not self._watched:
            began = self._queries.begin(2)
            if began is not None:
                context._knitperf_call = began
        return statement, parameters

    def after(
        self, _conn: Any, cursor: Any, statement: Any, parameters: Any, context: Any, many: Any
    ) -> None:
        """End it (``after_cursor_execute``)."""
        began = getattr(context, "_knitperf_call", None)
        if began is None:
            return
        context._knitperf_call = None
        lazy = _is_lazy(context)
        now = self._queries.end_with_rows(
            began, statement, self._database, UNCOMPARABLE if many else parameters, cursor, lazy
        )
        if now is not None:
            context.cursor = self._fetching(cursor, now)


def _is_lazy(context: Any) -> bool:
    """Return whether an attribute of an ORM's object sent a statement, as far as that can be told."""
    options = getattr(context, "execution_options", {}).get("_sa_orm_load_options")
    return getattr(options, "_lazy_loaded_from", None) is not None


COMPILED = False
"""Whether the classes above are those of ``_speedups.c``."""

if not TYPE_CHECKING and CORE_COMPILED and not os.environ.get("KNITPERF_PURE_PYTHON"):
    with contextlib.suppress(ImportError):
        from ._speedups import (  # noqa: F401
            CountingCursorBase,
            EngineListenerBase,
            ExecutionBase,
            QueryCounterBase,
            RequestQueriesBase,
            StatementBase,
            add_rows,
        )

        COMPILED = True
