"""Queries of a request: recorded in one batch when the request ends.

Recorded are: by fingerprint a histogram of durations, and the text; by endpoint, fingerprint and call
site the number of executions, their duration and their rows; by endpoint the number of statements per
request; and the repeats within a request. A failed statement counts like any other, and once more with
the class of its error.

A request that sends thousands of statements has them merged along the way, so memory is bounded by the
number of fingerprints and call sites, not of executions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...core.code_locations import caller
from ...core.host_exceptions import raise_if_of_host
from ...metrics.catalogue import (
    QUERIES,
    QUERY,
    QUERY_AT,
    QUERY_FAILED,
    QUERY_ROWS,
    REPEATED,
    REPEATING,
    REPEATING_BOUND,
    RepeatSource,
)
from ...metrics.log_format import Observation, pack_many, with_total
from ...recording.recorder import Recorder
from ...recording.span import CURRENT, EVENTS, Span
from ..requests.endpoint_series import EndpointKey, endpoint_of
from .call_overhead import Call, GroupKey, add_overhead
from .explain import EXPLAIN_QUEUE
from .fastpath import (
    FIELDS_PER_CALL,
    MAX_KEPT_TEXT,
    UNCOMPARABLE,
    ExecutionBase,
    QueryCounterBase,
    RequestQueriesBase,
)
from .fingerprint import Fingerprint, as_text
from .n_plus_one import MIN_DUPLICATES, Repeat, StatementGroup, repeats
from .statements import (
    PART,
    RepeatedStatementEvent,
    Statement,
    StatementEvent,
    add_parameters,
)

MIN_FOLDED = 3
"""Number of equal statements from one call site that are one entry of a request's timeline."""
_MAX_GROUPS = 2000
_MAX_TEXTS = 1000
_NO_STATEMENT = Statement("", "", -1)


class RequestQueries(RequestQueriesBase):
    """Queries of one request so far.

    Attributes:
        statements: by text, call site and database.
        calls: arguments of a :class:`.statements.StatementEvent` for each of the first executions, in
            one flat list.
        buffered: number of executions that are not merged yet.
        own_ns: duration of those, without the parts inside them.
        cpu_ns: CPU time of those.
        count: number of executions that are merged.
        groups: those, by database, fingerprint and call site.
        last: the statement that was sent last.
        allow_depth: number of open ``allow_n_plus_one`` blocks.
    """

    __slots__ = ()

    def __init__(self) -> None:
        self.statements: dict[tuple[str, str, int], Statement] = {}
        self.calls: list[Any] = []
        self.groups: dict[tuple[int, str, str], StatementGroup] = {}
        self.last = _NO_STATEMENT
        self.buffered = self.count = self.own_ns = self.cpu_ns = self.allow_depth = 0

    def find(self, text: Any, where: str, database: int) -> Statement:
        """Return the statement with a text, a call site and a database; create it if need be."""
        if type(text) is not str:
            text = as_text(text)
        key = text if len(text) <= MAX_KEPT_TEXT else str(hash(text)), where, database
        statement = self.statements.get(key)
        if statement is None:
            statement = self.statements[key] = Statement(text, where, database)
        self.last = statement
        return statement


class QueryCounter(QueryCounterBase):
    """Counts the queries of this process's requests.

    Attributes:
        listeners: called with endpoint, method and repeats of each request that has repeats.
    """

    add_parameters = staticmethod(add_parameters)

    def __init__(self) -> None:
        super().__init__(CURRENT, caller, EXPLAIN_QUEUE)
        self.listeners: list[Callable[[EndpointKey, list[Repeat]], None]] = []

    def queries_of(self, span: Span) -> RequestQueries:
        """Return the queries of a request; create them if need be."""
        queries: RequestQueries | None = None if span.notes is None else span.notes.queries
        if queries is None:
            span.attach(PART, self, fast=True)
            queries = span.notes.queries = RequestQueries()
        return queries

    def try_end(
        self,
        execution: ExecutionBase,
        text: Any,
        database: int,
        parameters: Any = UNCOMPARABLE,
        result: int | str = -1,
    ) -> None:
        """End an execution like :meth:`end`. Never raises."""
        try:
            self.end(execution, text, database, parameters, result)
        except Exception as error:
            execution.span.owner.failed("queries", error)

    def explain(self, span: Span, statement: Statement, cursor: Any, parameters: Any) -> None:
        """Explain a statement, if its fingerprint is queued for that."""
        connection = getattr(cursor, "connection", None)
        EXPLAIN_QUEUE.explain(span, statement, connection, parameters)

    def unreadable(self, error: BaseException) -> None:
        """Return ``None`` for an attribute of a cursor that a driver lacks or refuses to give.

        Raises:
            Exception: ``error``, if it is the host's (:mod:`flask_knitperf.core.host_exceptions`).
        """
        raise_if_of_host(error)

    def settle(self, span: Span) -> None:
        """Merge the buffered executions of a request. Never raises."""
        try:
            self._merge(span)
        except Exception as error:
            span.owner.failed("queries", error)

    def finish(self, span: Span) -> None:
        """Record the queries of a request that ends. Never raises."""
        try:
            self._record(span, self.queries_of(span))
        except Exception as error:
            span.owner.failed("queries", error)

    def absorb(self, span: Span, other: Span) -> None:
        """Count the statements that ran for a request in another thread as the request's.

        Args:
            span: the request.
            other: the span of the other thread's work; its parts keep the time.
        """
        self._merge(other)
        queries, others = self.queries_of(span), self.queries_of(other)
        for key, group in others.groups.items():
            known = queries.groups.get(key)
            if known is not None:
                known.add(group)
            elif len(queries.groups) < _MAX_GROUPS:
                queries.groups[key] = group
        queries.count += others.count
        room = max(0, EVENTS * FIELDS_PER_CALL - len(queries.calls))
        queries.calls += others.calls[:room]

    def add_events(self, span: Span) -> None:
        """Add the statements of a request to its timeline, repeated ones as one entry."""
        queries, notes = self.queries_of(span), span.ensure_notes()
        room = max(0, EVENTS - len(notes.events))
        events: list[StatementEvent | RepeatedStatementEvent] = []
        folded: set[GroupKey] = set()
        represented = 0
        for statement, results, position, began, ended in _rows(queries):
            key = _group_key(statement)
            statement.text = ""  # events wait for the housekeeper, and a text may contain values
            group = queries.groups.get(key)
            if key in folded or len(events) >= room:
                continue
            if group is not None and group.count >= MIN_FOLDED:
                folded.add(key)
                represented += group.count
                events.append(RepeatedStatementEvent(group, began))
            else:
                represented += 1
                events.append(StatementEvent(statement, results, position, began, ended))
        notes.events += events
        notes.dropped_events += queries.count - represented
        notes.queries = None
        del notes.collectors[PART]

    def _merge(self, span: Span) -> None:
        queries = self.queries_of(span)
        buffered, own_ns, cpu_ns = queries.buffered, queries.own_ns, queries.cpu_ns
        queries.buffered = queries.own_ns = queries.cpu_ns = 0
        if not buffered:
            return
        queries.count += buffered
        span.add(PART, buffered, own_ns, cpu_ns)
        owner, worker = span.owner, span.owner.worker
        for statement in list(queries.statements.values()):
            if not statement.durations:
                continue
            fingerprint = statement.ensure_fingerprint()
            if owner.explain_above_ns and max(statement.durations) >= owner.explain_above_ns:
                EXPLAIN_QUEUE.add(fingerprint, owner.clock.monotonic_ns() / 1e9)
            series = worker.series(QUERY, (fingerprint.id, fingerprint.text))
            worker.write(pack_many(series, statement.durations))
            self._group(queries, statement, fingerprint).merge(statement)
        if len(queries.statements) > _MAX_TEXTS:
            queries.statements, queries.last = {}, _NO_STATEMENT

    def _group(
        self, queries: RequestQueries, statement: Statement, fingerprint: Fingerprint
    ) -> StatementGroup:
        """Return the group of a statement; beyond a bound, one that is not recorded."""
        key = _group_key(statement)
        group = queries.groups.get(key)
        if group is None:
            group = StatementGroup(fingerprint, statement.call_site)
            if len(queries.groups) < _MAX_GROUPS:
                queries.groups[key] = group
        return group

    def _record(self, span: Span, queries: RequestQueries) -> None:
        if not queries.count:
            return
        recorder: Recorder = span.owner
        worker, key = recorder.worker, endpoint_of(span)
        series = worker.series
        batch: list[Observation] = [(series(QUERIES, key), 1, float(queries.count))]
        for group in queries.groups.values():
            labels = (*key, group.fingerprint.id)
            calls = series(QUERY_AT, (*labels, group.call_site))
            batch += with_total(calls, group.count, group.total_ns)
            if group.rows:
                batch += with_total(series(QUERY_ROWS, labels), group.count, group.rows)
            for error, (count, total_ns) in group.failed.items():
                batch += with_total(series(QUERY_FAILED, (*labels, error)), count, total_ns)
        groups = queries.groups
        if any(group.comparable >= MIN_DUPLICATES for group in groups.values()):
            add_overhead(groups, _calls(queries))
        repeated = repeats(groups.values())
        for repeat in repeated:
            of_repeat = (*key, repeat.kind, repeat.fingerprint.id, repeat.call_site)
            calls = series(REPEATED, (*of_repeat, _source(repeat)))
            batch += with_total(calls, repeat.calls, repeat.total_ns)
            batch.append((series(REPEATING, of_repeat), 1, float(repeat.avoidable_ns)))
            batch.append((series(REPEATING_BOUND, of_repeat), 1, float(repeat.bound_ns)))
        recorder.emit(batch, worker)
        if repeated:
            for listener in list(self.listeners):
                listener(key, repeated)


def _group_key(statement: Statement) -> GroupKey:
    return statement.database, statement.ensure_fingerprint().id, statement.call_site


def _calls(queries: RequestQueries) -> Iterator[Call]:
    """Yield the first executions of a request, in their order."""
    keys: dict[int, GroupKey] = {}
    for statement, _, _, began, ended in _rows(queries):
        key = keys.get(id(statement))
        if key is None:
            key = keys[id(statement)] = _group_key(statement)
        yield key, began, ended


def _rows(queries: RequestQueries) -> Iterator[tuple[Statement, list[int | str], int, int, int]]:
    """Return the rows of the flat list of a request's first executions."""
    fields = iter(queries.calls.copy())
    return zip(*(fields,) * FIELDS_PER_CALL, strict=False)  # another thread may append meanwhile


def _source(repeat: Repeat) -> RepeatSource:
    if not repeat.lazy:
        return RepeatSource.PLAIN
    return RepeatSource.LAZY if repeat.rows_per_call <= 1 else RepeatSource.LAZY_MANY


QUERY_COUNTER = QueryCounter()
