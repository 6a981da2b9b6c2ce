"""What a request asks of databases, counted when it ends.

By shape there are times (a histogram) and texts; by endpoint, shape and line how often, for how long
and how many rows; by endpoint how many statements a request sends; and what a request repeated. A
statement that failed counts as any other, and once more with the class of its error.

All of one request goes out together. Of a request that sends thousands, the calls are put together on
the way: what is kept of a request is bounded by the number of shapes and lines, not of calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.code_locations import caller
from ...metrics.catalogue import (
    QUERIES,
    QUERY,
    QUERY_AT,
    QUERY_FAILED,
    QUERY_ROWS,
    REPEATED,
    REPEATING,
    RepeatSource,
)
from ...metrics.log_format import Observation, pack_many
from ...recording.recorder import Recorder
from ...recording.span import CURRENT, EVENTS, Span
from ..requests.endpoint_series import endpoint_of
from .explain import EXPLAINS
from .fastpath import (
    FIELDS_PER_CALL,
    MAX_KEPT_TEXT,
    UNCOMPARABLE,
    ExecutionBase,
    QueryCounterBase,
    RequestQueriesBase,
)
from .fingerprint import as_text
from .n_plus_one import Group, Repeat, repeats
from .statements import PART, Call, Sent, judge

_GROUPS = 2000
_TEXTS = 1000
_NONE = Sent("", "", -1)

Pair = tuple[str, str]


class Asked(RequestQueriesBase):
    """What one request has asked so far.

    Attributes:
        statements: its statements, by text, line and database.
        calls: the first of them, for the timeline: the arguments of a :class:`.statements.Call`, one
            after the other.
        buffered: how many are not put together yet.
        own_ns: nanoseconds of those, without the parts inside them.
        cpu_ns: CPU of those.
        count: statements that are put together.
        groups: those, by database, shape and line.
        last: the ones that were sent last.
        allow_depth: how many blocks are entered within which repeating is meant.
    """

    __slots__ = ()

    def __init__(self) -> None:
        self.statements: dict[tuple[str, str, int], Sent] = {}
        self.calls: list[Any] = []
        self.groups: dict[tuple[int, str, str], Group] = {}
        self.last = _NONE
        self.buffered = self.count = self.own_ns = self.cpu_ns = self.allow_depth = 0

    def find(self, text: Any, where: str, database: int) -> Sent:
        """Return the statements of a text, line and database."""
        if type(text) is not str:
            text = as_text(text)
        key = text if len(text) <= MAX_KEPT_TEXT else str(hash(text)), where, database
        found = self.statements.get(key)
        if found is None:
            found = self.statements[key] = Sent(text, where, database)
        self.last = found
        return found


class Queries(QueryCounterBase):
    """Counts what requests of this process ask of databases.

    Attributes:
        listeners: told endpoint, method and repeats of each request that has some.
    """

    add_parameters = staticmethod(judge)

    def __init__(self) -> None:
        super().__init__(CURRENT, caller, EXPLAINS)
        self.listeners: list[Callable[[Pair, list[Repeat]], None]] = []

    def queries_of(self, span: Span) -> Asked:
        """Return what a request has asked so far."""
        notes = span.notes or span.ensure_notes()
        found: Asked | None = notes.queries
        if found is None:
            found = notes.queries = Asked()
            notes.collectors[PART] = self
        return found

    def done(
        self,
        began: ExecutionBase,
        text: Any,
        database: int,
        parameters: Any = UNCOMPARABLE,
        result: int | str = -1,
    ) -> None:
        """End a statement, as :meth:`end` does. Never raises."""
        try:
            self.end(began, text, database, parameters, result)
        except Exception as error:
            began.span.owner.failed("queries", error)

    def explain(self, span: Span, sent: Sent, cursor: Any, parameters: Any) -> None:
        """Explain a statement, if its shape waits for that."""
        EXPLAINS.explain(span, sent, getattr(cursor, "connection", None), parameters)

    def settle(self, span: Span) -> None:
        """Count what a request has asked so far."""
        try:
            self._put_together(span)
        except Exception as error:
            span.owner.failed("queries", error)

    def finish(self, span: Span) -> None:
        """Record what a request asked: it ends."""
        try:
            self._record(span, self.queries_of(span))
        except Exception as error:
            span.owner.failed("queries", error)

    def add_events(self, span: Span) -> None:
        """Put a request's statements into its timeline."""
        asked, notes = self.queries_of(span), span.ensure_notes()
        room = max(0, EVENTS - len(notes.events))
        told = [
            Call(*asked.calls[place : place + FIELDS_PER_CALL])
            for place in range(0, min(room * FIELDS_PER_CALL, len(asked.calls)), FIELDS_PER_CALL)
        ]
        for sent in asked.calls[: len(told) * FIELDS_PER_CALL : FIELDS_PER_CALL]:
            sent.known()
            sent.text = ""  # it waits for the housekeeper, and a text may hold values
        notes.events += told
        notes.dropped_events += asked.count - len(told)
        notes.queries = None
        del notes.collectors[PART]

    def _put_together(self, span: Span) -> None:
        asked = self.queries_of(span)
        waiting, own, cpu = asked.buffered, asked.own_ns, asked.cpu_ns
        asked.buffered = asked.own_ns = asked.cpu_ns = 0
        if not waiting:
            return
        asked.count += waiting
        span.add(PART, waiting, own, cpu)
        owner = span.owner
        for sent in list(asked.statements.values()):
            if not sent.durations:
                continue
            shape = sent.known()
            if owner.explain_above_ns and max(sent.durations) >= owner.explain_above_ns:
                EXPLAINS.want(shape, owner.clock.monotonic_ns() / 1e9)
            series = owner.worker.series(QUERY, (shape.id, shape.text))
            owner.worker.write(pack_many(series, sent.durations))
            key = sent.database, shape.id, sent.call_site
            group = asked.groups.get(key)
            if group is None:
                group = Group(shape, sent.call_site)
                if len(asked.groups) < _GROUPS:
                    asked.groups[key] = group
            group.take(sent)
        if len(asked.statements) > _TEXTS:
            asked.statements, asked.last = {}, _NONE

    def _record(self, span: Span, asked: Asked) -> None:
        if not asked.count:
            return
        recorder: Recorder = span.owner
        series, pair = recorder.worker.series, endpoint_of(span)
        made: list[Observation] = [(series(QUERIES, pair), 1, float(asked.count))]
        for group in asked.groups.values():
            name = (*pair, group.shape.id)
            made += _several(series(QUERY_AT, (*name, group.where)), group.count, group.took)
            if group.rows:
                made += _several(series(QUERY_ROWS, name), group.count, group.rows)
            for error, (count, took) in group.failed.items():
                made += _several(series(QUERY_FAILED, (*name, error)), count, took)
        found = repeats(asked.groups.values())
        for one in found:
            how = _source(one)
            at = (*pair, one.kind, one.shape.id, one.where)
            made += _several(series(REPEATED, (*at, how)), one.times, one.took)
            made.append((series(REPEATING, at), 1, 1.0))
        recorder.emit(made)
        if found:
            for tell in list(self.listeners):
                tell(pair, found)


def _source(repeat: Repeat) -> RepeatSource:
    if not repeat.lazy:
        return RepeatSource.PLAIN
    return RepeatSource.LAZY if repeat.each <= 1 else RepeatSource.LAZY_MANY


def _several(series: int, count: int, total: int) -> list[Observation]:
    """Return so many observations with a total: the first holds all of it, the others only count."""
    first = (series, 1, float(total))
    return [first] if count == 1 else [first, (series, count - 1, 0.0)]


ASKED = Queries()
