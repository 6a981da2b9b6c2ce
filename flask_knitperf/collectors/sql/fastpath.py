"""The fast path of a statement: everything that each query of an application costs.

Every query pays for this module, so the whole fast path stands here, and it exists twice, as the fast
path of a request does (:mod:`~flask_knitperf.recording.fastpath`): in Python, to be read and to run
anywhere, and in C (``_speedups.c``), built where there is a compiler. The rest is methods in Python,
the same for both implementations. The tests run on both; the functions have the same names in both.

The steps: :meth:`QueryCounterBase.begin` looks up the request and the line that sends the statement,
and reads a clock. The statement runs. :meth:`QueryCounterBase.end` reads the clock again, adds the time
to the request, looks up the earlier executions of the statement and appends a duration, a
result and a hash of the parameters; parameters are not kept. Where rows are still to come,
:class:`CountingCursorBase` wraps what fetches them, counts the rows and adds the time of fetching.
:class:`ExecutorBase` calls the methods of a driver that execute statements.
:class:`EngineListenerBase` does this for an engine of SQLAlchemy, between two of its events.

A driver may look at its caller, as Python's warnings do to name a line, and must find the application.
So no frame of ours is between them while a method of the driver runs: in C there is none, and in Python
there is one that passes for the application's (:func:`.call_from`).

Nothing here raises except what a driver raised: a failure of ours goes to :meth:`.Recorder.failed`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.code_locations import call_from
from ...core.sampling import is_chosen
from ...recording.fastpath import COMPILED as CORE_COMPILED
from ...recording.recorder import QueryTracking
from ...recording.span import EVENTS

if TYPE_CHECKING:
    from ...recording.span import Span

# Placeholder for parameters: repeats of the statement are not reported.
UNCOMPARABLE: Any = NotImplemented
MAX_KEPT_TEXT = 2000  # characters; of longer statements only the fingerprint is kept
MAX_BUFFERED = 2000  # executions buffered per request before they are aggregated
# Entries per execution in RequestQueriesBase.calls. The list holds no tuples, because those would make
# the garbage collector run more often.
FIELDS_PER_CALL = 5
_PLAIN_TYPES = frozenset({int, str, float, bytes, bool, type(None)})
_MAX_PAGE_HASHES = 2
# Values of StatementBase.sender: the code that sent the latest execution with rows. LAZY is an attribute
# of an ORM object.
DRIVER, ENGINE, ORM, LAZY = 1, 2, 3, 4
ALL_SAMPLED = 32  # rows; CPU time is read for those, then for one row in this many

PendingRows = tuple["Span", Any, int]
"""The request that sent a statement, the :class:`StatementBase`, and the number of the execution."""


class ExecutionBase:
    """One execution of a statement that has begun.

    Attributes:
        span: the request.
        call_site: line of the application's code that sends it, empty if there is none or call sites
            are not tracked.
        nested_ns: wall time that parts of the request have taken by its start, in nanoseconds.
        nested_cpu_ns: CPU time that they have taken by then, in nanoseconds.
        cpu_began: runnable time of the thread at the start in nanoseconds, ``None`` if not sampled.
        began: start in nanoseconds on the recorder's clock.
    """

    __slots__ = (
        "began", "call_site", "cpu_began", "nested_cpu_ns", "nested_ns", "span",
    )  # fmt: skip

    def __init__(
        self, span: Any, call_site: str, notes: Any, cpu_began: int | None, began: int
    ) -> None:
        self.span: Span = span
        self.call_site = call_site
        self.nested_ns: int = notes.nested_ns
        self.nested_cpu_ns: int = notes.nested_cpu_ns
        self.cpu_began = cpu_began
        self.began = began


class StatementBase:
    """The executions of one statement text sent from one line. See the subclass in ``statements``."""

    __slots__ = (
        "awaits_rows", "call_site", "database", "durations", "ended", "fingerprint", "lazy_count",
        "merged", "page_hashes", "parameter_hashes", "results", "sender", "setup_ns", "text",
        "text_hash", "value_count",
    )  # fmt: skip
    awaits_rows: int
    call_site: str
    database: int
    durations: list[int]
    ended: int
    fingerprint: Any
    lazy_count: int
    merged: int
    page_hashes: set[int]
    parameter_hashes: list[int | None]
    results: list[int | str]
    sender: int
    setup_ns: int
    text: str
    text_hash: int
    value_count: int


class RequestQueriesBase:
    """The queries of one request so far. See the subclass in ``request_queries``."""

    __slots__ = (
        "allow_depth", "buffered", "calls", "count", "cpu_ns", "groups", "last", "own_ns",
        "statements",
    )  # fmt: skip
    allow_depth: int
    buffered: int
    calls: list[Any]
    count: int
    cpu_ns: int
    groups: dict[tuple[int, str, str], Any]
    last: Any
    own_ns: int
    statements: dict[tuple[str, str, int], Any]

    if TYPE_CHECKING:

        def find(self, text: Any, call_site: str, database: int) -> Any:
            """Return the statement of a text, line and database; create it if necessary."""


class QueryCounterBase:
    """Counts the queries of the requests of this process. See the subclass in ``request_queries``.

    Args:
        current: variable that holds the current span.
        caller: returns the line of the application's code that called, given the number of frames to
            skip.
        explains: collects execution plans; ``queued`` is empty if no statement is to be explained.
    """

    def __init__(
        self, current: ContextVar[Any], caller: Callable[[int], str], explains: Any
    ) -> None:
        self._current, self._caller, self._explains = current, caller, explains

    def begin(self, depth: int = 1) -> ExecutionBase | None:
        """Start an execution; return ``None`` outside of requests whose queries are tracked.

        Args:
            depth: number of callers of this method that are not the call site.
        """
        span = self._current.get()
        if span is None or span.ended:
            return None
        owner = span.owner
        try:
            tracking = owner.query_tracking
            return self._start_execution(span, tracking, depth + 1) if tracking else None
        except Exception as error:
            owner.failed("queries", error)
            return None

    def _start_execution(self, span: Any, tracking: int, depth: int) -> ExecutionBase:
        with_call_site = tracking == QueryTracking.COUNT_WITH_CALL_SITE
        call_site = self._caller(depth + 1) if with_call_site else ""
        notes = span.notes or span.scope()
        clock = span.owner.clock
        cpu_began = None if span.cpu_began is None else clock.runnable_ns()
        return ExecutionBase(span, call_site, notes, cpu_began, clock.monotonic_ns())

    def end(
        self, execution: ExecutionBase, text: Any, database: int, parameters: Any, result: int | str
    ) -> tuple[Any, int]:
        """End an execution, and add its time to the request.

        Args:
            execution: of :meth:`begin`.
            text: the statement.
            database: id of the database.
            parameters: the parameters, or :data:`UNCOMPARABLE`.
            result: number of rows returned or changed, -1 if unknown; or the name of the error's class.

        Returns:
            The :class:`StatementBase`, and the number of this execution.

        Raises:
            Exception: anything; :meth:`end_with_rows` and
                :meth:`.request_queries.QueryCounter.try_end` catch it.
        """
        span = execution.span
        clock = span.owner.clock
        now = clock.monotonic_ns()
        cpu = None if execution.cpu_began is None else clock.runnable_ns()
        queries = _queries_of(self, span)
        wall = _add_time(execution, queries, now, cpu)
        statement = _find_statement(queries, text, execution.call_site, database)
        index = len(statement.durations)
        statement.durations.append(wall)
        statement.results.append(result)
        if parameters is UNCOMPARABLE or queries.allow_depth:
            statement.parameter_hashes.append(None)
        elif not _add_plain_parameters(statement, parameters):
            self.add_parameters(statement, parameters)
        _keep_call(queries, statement, index, execution.began, now)
        statement.ended = now
        queries.buffered += 1
        number = statement.merged + index
        if queries.buffered >= MAX_BUFFERED:
            self.settle(span)
        return statement, number

    def end_with_rows(
        self, execution: ExecutionBase, text: Any, database: int, parameters: Any, cursor: Any
    ) -> PendingRows | None:  # fmt: skip
        """End a successful execution; return the argument of a cursor that counts the rows.

        Args:
            execution: of :meth:`begin`.
            text: the statement.
            database: id of the database.
            parameters: the parameters, or :data:`UNCOMPARABLE`.
            cursor: the driver's cursor.

        Returns:
            ``None`` if there are no rows to fetch, or all are fetched already.
        """
        try:
            try:
                rows = _as_count(cursor.rowcount)
            except Exception as error:
                rows = _as_count(self.unreadable(error))
            try:
                returns_rows = rows <= 0 and cursor.description is not None
            except Exception as error:
                returns_rows = self.unreadable(error) is not None
            pending = self.end_counted(
                execution, text, database, parameters, cursor, rows, returns_rows
            )
            if pending is not None:
                pending[1].sender, pending[1].awaits_rows = DRIVER, 1
            return pending
        except Exception as error:
            execution.span.owner.failed("queries", error)
            return None

    def end_counted(
        self, execution: ExecutionBase, text: Any, database: int, parameters: Any, cursor: Any,
        rows: int, returns_rows: bool,
    ) -> PendingRows | None:  # fmt: skip
        """End a successful execution, see :meth:`end_with_rows`."""
        statement, number = self.end(execution, text, database, parameters, rows)
        if parameters is not UNCOMPARABLE and self._explains.queued:
            self.explain(execution.span, statement, cursor, parameters)
        return (execution.span, statement, number) if returns_rows else None

    if TYPE_CHECKING:

        def queries_of(self, span: Any) -> Any:
            """Return the queries of a request so far; create the object if necessary."""

        def settle(self, span: Any) -> None:
            """Aggregate the buffered executions of a request."""

        def add_parameters(self, statement: Any, parameters: Any, /) -> None:
            """Append a hash of parameters that are not plain values."""

        def explain(self, span: Any, statement: Any, cursor: Any, parameters: Any) -> None:
            """Explain a statement, if its fingerprint is to be explained."""

        def unreadable(self, error: BaseException) -> Any:
            """Return the value of a cursor's attribute that raised an error."""


def _as_count(rows: Any) -> int:
    """Return a cursor's number of rows, -1 if it is none."""
    return rows if type(rows) is int else -1


def _queries_of(counter: QueryCounterBase, span: Any) -> Any:
    queries = None if span.notes is None else span.notes.queries
    return counter.queries_of(span) if queries is None else queries


def _add_time(execution: ExecutionBase, queries: Any, now: int, cpu: int | None) -> int:
    """Add the exclusive time of an execution; return its wall time."""
    notes = execution.span.notes
    queries.own_ns += notes.take_work(execution.began, now, execution.nested_ns)
    if cpu is not None and execution.cpu_began is not None:
        queries.cpu_ns += notes.take_cpu(cpu - execution.cpu_began, execution.nested_cpu_ns)
    return now - execution.began


def _find_statement(queries: Any, text: Any, call_site: str, database: int) -> Any:
    """Return the statement of a text, line and database: the last one, a kept one, or a new one."""
    last = queries.last
    if last.text is text and text and last.call_site is call_site and last.database == database:
        return last
    if type(text) is str and len(text) <= MAX_KEPT_TEXT:
        statement = queries.statements.get((text, call_site, database))
        if statement is not None:
            queries.last = statement
            return statement
    return queries.find(text, call_site, database)


def _plain_values(parameters: Any) -> tuple[Any, ...] | None:
    """Return the values of parameters, ``None`` unless hashing them runs no code of the host."""
    kind = type(parameters)
    values = tuple(parameters.values()) if kind is dict else parameters if kind is tuple else None
    if values is None or any(type(value) not in _PLAIN_TYPES for value in values):
        return None
    return values


def _add_plain_parameters(statement: Any, parameters: Any) -> bool:
    """Append a hash of parameters; return ``False`` if they are not plain values."""
    if parameters is None:
        statement.parameter_hashes.append(0)
        return True
    values = _plain_values(parameters)
    if values is None:
        return False
    statement.value_count += len(values)
    statement.parameter_hashes.append(hash(values))
    if len(values) > 2 and len(statement.page_hashes) < _MAX_PAGE_HASHES:
        statement.page_hashes.add(hash(values[:-2]))  # the last two are LIMIT and OFFSET
    return True


def _keep_call(queries: Any, statement: Any, index: int, began: int, ended: int) -> None:
    """Keep an execution for the timeline of its request, if there is room."""
    if len(queries.calls) < FIELDS_PER_CALL * EVENTS:
        queries.calls.extend((statement, statement.results, index, began, ended))


class CountingCursorBase:
    """Wraps what fetches rows, counts and times them; everything else is that of the wrapped object.

    Args:
        cursor: the driver's cursor, or another object with the three methods that fetch rows.
        pending: of :meth:`QueryCounterBase.end_with_rows`; ``None`` if nothing is counted.
    """

    __slots__ = ("_pending", "_real", "_sampled_cpu", "_sampled_wall", "_singles")
    _real: Any
    _pending: PendingRows | None

    def __init__(self, cursor: Any, pending: PendingRows | None = None) -> None:
        values = cursor, pending, 0, 0, 0
        for descriptor, value in zip(_DESCRIPTORS, values, strict=True):
            descriptor.__set__(self, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._real, name)

    @property
    def close(self) -> Any:
        """``close`` of the driver's cursor."""
        return self._real.close

    @property
    def description(self) -> Any:
        """``description`` of the driver's cursor."""
        return self._real.description

    def __iter__(self) -> Any:
        rows = iter(self._real)
        if rows is self._real:
            return self
        return rows if self._pending is None else CountingCursorBase(rows, self._pending)

    def __next__(self) -> Any:
        return _fetch(self, functools.partial(next, self._real), (), {}, True)

    def fetchone(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next row, ``None`` after the last."""
        return _fetch(self, self._real.fetchone, args, kwargs, True)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next rows."""
        return _fetch(self, self._real.fetchmany, args, kwargs, False)

    def fetchall(self, *args: Any, **kwargs: Any) -> Any:
        """Return the remaining rows."""
        return _fetch(self, self._real.fetchall, args, kwargs, False)


_DESCRIPTORS: tuple[Any, ...] = tuple(
    CountingCursorBase.__dict__[name]
    for name in ("_real", "_pending", "_singles", "_sampled_wall", "_sampled_cpu")
)


class _Fetch(NamedTuple):
    """The clocks before rows are fetched, in nanoseconds."""

    nested_ns: int
    cpu_began: int | None
    began: int


def _fetch(
    cursor: CountingCursorBase, method: Callable[..., Any], args: tuple[Any, ...],
    kwargs: dict[str, Any], single: bool,
) -> Any:  # fmt: skip
    """Fetch one row or several; count them, and add their exclusive time."""
    pending = cursor._pending
    if pending is None:
        return call_from(2, method, args, kwargs)
    owner = pending[0].owner
    try:
        fetch = _start_fetch(pending, cursor if single else None)
    except Exception as failure:
        owner.failed("queries", failure)
        return call_from(2, method, args, kwargs)
    rows, error = None, ""
    try:
        rows = call_from(2, method, args, kwargs)
    except StopIteration:
        raise
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        try:
            _end_fetch(fetch, pending, cursor if single else None, rows, error)
        except Exception as failure:
            owner.failed("queries", failure)
    return rows


def _start_fetch(pending: PendingRows, single: CountingCursorBase | None) -> _Fetch:
    span = pending[0]
    notes, clock = span.notes, span.owner.clock
    nested_ns = 0 if notes is None else notes.nested_ns
    sampled = span.cpu_began is not None and (single is None or is_sampled_row(single._singles))
    cpu_began = clock.runnable_ns() if sampled else None
    began = clock.monotonic_ns()
    _add_setup(pending[1], began)
    return _Fetch(nested_ns, cpu_began, began)


def _add_setup(statement: Any, began: int) -> None:
    """Add the time from an execution to the first fetch of its rows."""
    if statement.awaits_rows:
        statement.awaits_rows = 0
        statement.setup_ns += max(
            0, began - statement.ended
        )  # another thread may have ended it since


def is_sampled_row(number: int) -> bool:
    """Return whether CPU time is read for a row; it takes long, so of many rows only a sample is."""
    return number < ALL_SAMPLED or is_chosen(number, ALL_SAMPLED)


def _end_fetch(
    fetch: _Fetch, pending: PendingRows, single: CountingCursorBase | None, rows: Any, error: str
) -> None:
    span, statement, number = pending
    notes, clock = span.notes, span.owner.clock
    now = clock.monotonic_ns()
    wall = now - fetch.began
    cpu = 0 if fetch.cpu_began is None else clock.runnable_ns() - fetch.cpu_began
    if single is not None and span.cpu_began is not None:
        cpu = _sampled_cpu(single, fetch.cpu_began is not None, wall, cpu)
    if notes is None or span.ended:
        return
    own = notes.take_work(fetch.began, now, fetch.nested_ns)
    notes.nested_cpu_ns += cpu
    count = 0 if rows is None else 1 if single is not None else len(rows)
    add_rows(span, statement, number, wall, own, cpu, count, error)


def _sampled_cpu(cursor: CountingCursorBase, sampled: bool, wall: int, cpu: int) -> int:
    """Return the CPU time of fetching a row: as read, or the share that it was in the sample."""
    _, _, singles, sampled_wall, sampled_cpu = _DESCRIPTORS
    singles.__set__(cursor, cursor._singles + 1)
    if not sampled:
        return int(wall * cursor._sampled_cpu / max(1, cursor._sampled_wall))
    sampled_wall.__set__(cursor, cursor._sampled_wall + wall)
    sampled_cpu.__set__(cursor, cursor._sampled_cpu + cpu)
    return cpu


def add_rows(
    span: Any, statement: Any, number: int, wall: int, own: int, cpu: int, rows: int,
    error: str = "",
) -> None:  # fmt: skip
    """Add fetched rows to an execution, unless that was aggregated already.

    Args:
        span: the request.
        statement: the :class:`StatementBase`.
        number: of the execution.
        wall: nanoseconds of fetching.
        own: the part of them that is not nested in something else.
        cpu: CPU nanoseconds of those.
        rows: number of rows.
        error: name of the class of the error that was raised.
    """
    index = number - statement.merged
    if span.ended or not 0 <= index < len(statement.durations):
        return
    before = statement.results[index]
    if error:
        statement.results[index] = error
        if index < len(statement.parameter_hashes):
            statement.parameter_hashes[index] = None
    elif isinstance(before, int):
        statement.results[index] = rows if before < 0 else before + rows
    statement.durations[index] += wall
    queries = span.notes.queries
    queries.own_ns += own
    queries.cpu_ns += cpu


class ExecutorBase:
    """Wraps an object of a driver that executes statements; a subclass defines what is missing here.

    Attributes:
        _counter: the :class:`QueryCounterBase`.
        _real: the driver's object.
    """

    __slots__ = ()
    _counter: Any
    _real: Any

    if TYPE_CHECKING:

        def _ended(
            self, name: str, execution: ExecutionBase | None, result: Any,
            error: BaseException | None, args: tuple[Any, ...], kwargs: dict[str, Any] | None,
        ) -> Any:  # fmt: skip
            """End an execution; return the result for the application, unless there is an error.

            Args:
                name: of the method.
                execution: of :meth:`QueryCounterBase.begin`.
                result: of the method.
                error: that it raised.
                args: of the method.
                kwargs: of the method.
            """

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a statement."""
        return _execute(self, "execute", args, kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a statement with several sets of parameters; it counts once."""
        return _execute(self, "executemany", args, kwargs)

    def executescript(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a script (SQLite); it counts as one statement."""
        return _execute(self, "executescript", args, kwargs)


def _execute(
    executor: ExecutorBase, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call the driver's method of a name."""
    method = getattr(executor._real, name)
    execution = executor._counter.begin(2)
    try:
        result = call_from(2, method, args, kwargs)
    except BaseException as error:
        executor._ended(name, execution, None, error, args, kwargs)
        raise
    return executor._ended(name, execution, result, None, args, kwargs)


class EngineListenerBase:
    """Counts the statements of an engine between two of its events. See :mod:`.sqlalchemy`.

    Args:
        counter: counts the queries.
        database: id of the engine's database.
        own_cursor: class of cursors that count by themselves.
        count_rows: has the rows of an execution counted as they are fetched; its arguments are the
            execution context, the cursor, the :data:`PendingRows`, and the cursor's ``description``.
    """

    def __init__(
        self, counter: Any, database: int, own_cursor: type, count_rows: Callable[..., None]
    ) -> None:
        self._counter, self._database = counter, database
        self._own_cursor, self._count_rows = own_cursor, count_rows

    def before(
        self, _conn: Any, cursor: Any, statement: Any, parameters: Any, context: Any, _many: Any
    ) -> tuple[Any, Any]:
        """Start an execution (``before_cursor_execute``); return statement and parameters."""
        if type(cursor) is not self._own_cursor:
            execution = self._counter.begin(2)
            if execution is not None:
                try:
                    context._knitperf_execution = execution
                except Exception as error:
                    execution.span.owner.failed("queries", error)
        return statement, parameters

    def after(
        self, _conn: Any, cursor: Any, statement: Any, parameters: Any, context: Any, many: Any
    ) -> None:
        """End the execution (``after_cursor_execute``)."""
        execution = getattr(context, "_knitperf_execution", None)
        if execution is None:
            return
        try:
            if many:
                parameters = UNCOMPARABLE
            self._end(execution, cursor, statement, parameters, context)
        except Exception as error:
            execution.span.owner.failed("queries", error)

    def _end(
        self, execution: Any, cursor: Any, statement: Any, parameters: Any, context: Any
    ) -> None:
        context._knitperf_execution = None
        description = cursor.description
        rows, returns_rows = _changed_rows(context, cursor, description)
        pending = self._counter.end_counted(
            execution, statement, self._database, parameters, cursor, rows, returns_rows
        )
        if pending is not None:
            statement = pending[1]
            statement.sender = _sender_of(context)
            statement.lazy_count += statement.sender == LAZY
            statement.awaits_rows = 1
            self._count_rows(context, cursor, pending, description)


def _changed_rows(context: Any, cursor: Any, description: Any) -> tuple[int, bool]:
    """Return the number of rows, -1 where SQLAlchemy does not read it, and whether rows are to come.

    Some drivers take long for the number, so SQLAlchemy reads it neither of rows to come nor of an
    INSERT, and it is kept where SQLAlchemy looks for it before it reads it, too. A cursor on the server
    may have a description only once a row was fetched.
    """
    if description is not None or getattr(context, "_is_server_side", False):
        return -1, True
    if not any(getattr(context, name, False) for name in ("isupdate", "isdelete", "is_text")):
        return -1, False
    rows = context._rowcount = cursor.rowcount
    return _as_count(rows), False


def _sender_of(context: Any) -> int:
    """Return the sender of an engine's statement, as far as the ORM's options show it."""
    options = getattr(context, "execution_options", {})
    loading = options.get("_sa_orm_load_options")
    if getattr(loading, "_lazy_loaded_from", None) is not None:
        return LAZY
    return ENGINE if options.get("_result_disable_adapt_to_context") is None else ORM


COMPILED = False  # whether the classes above are those of _speedups.c

if not TYPE_CHECKING and CORE_COMPILED and not os.environ.get("KNITPERF_PURE_PYTHON"):
    with contextlib.suppress(ImportError):
        from ._speedups import (  # noqa: F401
            CountingCursorBase,
            EngineListenerBase,
            ExecutionBase,
            ExecutorBase,
            QueryCounterBase,
            RequestQueriesBase,
            StatementBase,
            add_rows,
        )

        COMPILED = True
