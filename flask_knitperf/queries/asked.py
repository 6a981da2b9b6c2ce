"""What a request asks of databases, counted when it ends.

By shape there are times (a histogram) and texts; by endpoint, shape and line how often, for how long
and how many rows; by endpoint how many statements a request sends; and what a request repeated. A
statement that failed counts as any other, and once more with the class of its error.

All of one request goes out together. Of a request that sends thousands, the calls are put together on
the way: what is kept of a request is bounded by the number of shapes and lines, not of calls.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.log import Observation
from ..core.meters import Kind, Meter
from ..core.recorder import Recorder
from ..core.span import Span
from ..profiling.series import endpoint_of
from .calls import PART, Call, add_text
from .explain import EXPLAINS
from .fingerprint import LONGEST, SHAPES
from .repeats import Group, Repeat, repeats

_ENDPOINT = ("endpoint", "method")
QUERY = Meter("query", Kind.HISTOGRAM, "ns", ("shape", "text"), 500, longest=LONGEST)
QUERY_AT = Meter("query_at", Kind.COUNTER, "ns", (*_ENDPOINT, "shape", "where"), 2000)
QUERY_ROWS = Meter("query_rows", Kind.COUNTER, "1", (*_ENDPOINT, "shape"), 2000)
QUERY_FAILED = Meter("query_failed", Kind.COUNTER, "ns", (*_ENDPOINT, "shape", "error"), 500)
QUERIES = Meter("queries", Kind.HISTOGRAM, "1", _ENDPOINT)
REPEATED = Meter("repeated", Kind.COUNTER, "ns", (*_ENDPOINT, "kind", "shape", "where", "how"), 500)
REPEATING = Meter("repeating", Kind.COUNTER, "1", (*_ENDPOINT, "kind", "shape", "where"), 500)
"""Requests with such repeats."""
METERS = (QUERY, QUERY_AT, QUERY_ROWS, QUERY_FAILED, REPEATED, REPEATING)
LAZY, LAZY_MANY, PLAIN = "lazy", "lazy_many", "plain"
"""How what is repeated came about: an attribute of an ORM's object (to one, to many), or a call."""
WAITING = 2000
"""Statements of one request that are kept one by one until they are put together."""
_GROUPS = 2000

Pair = tuple[str, str]


class Asked:
    """What one request has asked so far.

    Attributes:
        calls: statements that are not counted yet.
        count: those that are.
        groups: those, by database, shape and line.
        failed: number and nanoseconds of those that failed, by shape and class of error.
        allowed: stretches of the request in which repeating is meant.
    """

    __slots__ = ("allowed", "calls", "count", "failed", "groups")

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.count = 0
        self.groups: dict[tuple[int, str, str], Group] = {}
        self.failed: dict[tuple[str, str], list[int]] = {}
        self.allowed: list[tuple[int, int]] = []

    def take(self, call: Call) -> None:
        """Put a call, whose shape is known, to those like it."""
        shape = call.shape
        assert shape is not None
        self.count += 1
        key = call.database, shape.id, call.where
        group = self.groups.get(key)
        if group is None:
            if len(self.groups) >= _GROUPS:
                return
            group = self.groups[key] = Group(shape, call.where)
        took = call.took
        group.count += 1
        group.took += took
        group.rows += max(0, call.rows)
        group.listed += call.listed
        group.lazy += call.lazy
        if call.error:
            row = self.failed.setdefault((shape.id, call.error), [0, 0])
            row[0] += 1
            row[1] += took
        elif not any(begin <= call.began <= end for begin, end in self.allowed):
            add_text(call)
            group.add(call.values, took, call.page)


class Queries:
    """Counts what requests of this process ask of databases.

    Attributes:
        listeners: told endpoint, method and repeats of each request that has some.
    """

    def __init__(self) -> None:
        self.listeners: list[Callable[[Pair, list[Repeat]], None]] = []

    def of(self, span: Span) -> Asked:
        """Return what a request has asked so far."""
        notes = span.notes or span.note()
        found: Asked | None = notes.asked
        if found is None:
            found = notes.asked = Asked()
            notes.waiting[PART] = self
        return found

    def add(self, span: Span, call: Call) -> None:
        """Have a statement counted when its request ends."""
        notes = span.notes
        asked: Asked = (notes and notes.asked) or self.of(span)
        asked.calls.append(call)
        if len(asked.calls) >= WAITING:
            self.settle(span)

    def settle(self, span: Span) -> None:
        """Count what a request has asked so far."""
        try:
            self._count(span)
        except Exception as error:
            span.owner.failed("queries", error)

    def finish(self, span: Span) -> None:
        """Record what a request asked: it ends."""
        try:
            self._record(span, self.of(span))
        except Exception as error:
            span.owner.failed("queries", error)

    def _count(self, span: Span) -> None:
        asked = self.of(span)
        calls, asked.calls = asked.calls, []
        series, explained_ns = span.owner.worker.series, span.owner.explained_ns
        made: list[Observation] = []
        for call in calls:
            call.shape = shape = SHAPES.of(call.text)
            span.count(call, call.own, call.cpu)
            asked.take(call)
            call.text = ""
            if explained_ns and call.took >= explained_ns and not call.error:
                EXPLAINS.want(shape, span.owner.clock.monotonic_ns() / 1e9)
            made.append((series(QUERY, (shape.id, shape.text)), 1, float(call.took)))
        span.owner.emit(made)

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
        for (shape, error), (count, took) in asked.failed.items():
            made += _several(series(QUERY_FAILED, (*pair, shape, error)), count, took)
        found = repeats(asked.groups.values())
        for one in found:
            how = PLAIN if not one.lazy else LAZY if one.each <= 1 else LAZY_MANY
            at = (*pair, one.kind, one.shape.id, one.where)
            made += _several(series(REPEATED, (*at, how)), one.times, one.took)
            made.append((series(REPEATING, at), 1, 1.0))
        recorder.emit(made)
        if found:
            for tell in list(self.listeners):
                tell(pair, found)


def _several(series: int, count: int, total: int) -> list[Observation]:
    """Return so many observations with a total: the first holds all of it, the others only count."""
    first = (series, 1, float(total))
    return [first] if count == 1 else [first, (series, count - 1, 0.0)]


ASKED = Queries()
