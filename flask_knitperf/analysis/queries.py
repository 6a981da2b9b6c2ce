"""What an application asks of its databases: by shape of statement, and by endpoint and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..metrics.catalogue import PLAN, PlanDetail, RepeatKind, RepeatSource, ScanDetail
from ..metrics.histogram import Histogram
from ..metrics.instruments import OTHER
from ..metrics.totals import Row, Totals

if TYPE_CHECKING:
    from .endpoints import Endpoint

SECOND = 1e9
_KINDS = {kind.value: kind for kind in RepeatKind}
_UNNAMED = "(statements beyond the number that is told apart)"


@dataclass(frozen=True, slots=True)
class Advice:
    """An index that a table lacks.

    Attributes:
        table: its name.
        columns: of the condition under which the table is read whole.
        statement: that makes the index.
        seen: what was seen, as a sentence without a full stop.
    """

    table: str
    columns: tuple[str, ...]
    statement: str
    seen: str


def advice(scan: ScanDetail, returned: float | None) -> Advice:
    """Return what a table lacks that is read whole (``scans`` of an explained plan).

    Args:
        scan: of an explained plan.
        returned: rows that the statement gives, on the average.
    """
    table, columns = str(scan["table"]), tuple(map(str, scan["columns"]))
    about = "" if scan["exact"] else "about "
    seen = f"reads {about}{scan['rows']:,} rows of {table}"
    given = scan["matching"] if scan["matching"] is not None else returned
    passes = scan["passes"]
    if passes is not None and passes > 1:
        seen += f", {passes:,} times in one execution,"
    if given is not None:
        seen += f" to {'return' if scan['matching'] is None else 'find'} {round(given):,}"
    name = "_".join(("ix", table, *columns))[:60]
    listed = ", ".join(map(_identifier, columns))
    index = f"CREATE INDEX {_identifier(name)} ON {_identifier(table)} ({listed})"
    return Advice(table, columns, index, seen)


def _identifier(name: str) -> str:
    """Return a name as a statement writes it."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        return name
    return '"' + name.replace('"', '""') + '"'


@dataclass(slots=True)
class Shape:
    """Statements that differ in values only, of all endpoints.

    Attributes:
        id: tells it from others.
        text: with ``?`` for values.
        known: the shapes of its window.
    """

    id: str
    text: str
    known: Shapes

    @property
    def times(self) -> Histogram:
        """What its executions took, in nanoseconds, fetching included."""
        return self.known.times.get(self.id) or Histogram()

    @property
    def plan(self) -> PlanDetail | None:
        """How its database runs it, ``None`` where that was not asked."""
        return self.known.plans.get(self.id)

    def advices(self, returned: float | None) -> list[Advice]:
        """Return the indexes that it lacks, as far as its database was asked."""
        plan = self.plan
        return [] if plan is None else [advice(scan, returned) for scan in plan["scans"]]


@dataclass(slots=True)
class Ask:
    """Statements of one shape that an endpoint sends from one line.

    Attributes:
        shape: theirs.
        where: file and line of own code, empty where none asked.
        count: executions.
        seconds: they all took.
        rows: that one gave or changed, on the average over all lines; ``None`` where unknown.
    """

    shape: Shape
    where: str
    count: int
    seconds: float
    rows: float | None

    @property
    def mean_ms(self) -> float:
        """Milliseconds of one."""
        return self.seconds / self.count * 1000


@dataclass(slots=True)
class Repeated:
    """What requests of an endpoint ask again and again from one line.

    Attributes:
        kind: ``n_plus_one`` or ``duplicates``.
        shape: of the statements.
        where: the line.
        times: statements in all, of duplicates those behind the first.
        requests: that do so.
        seconds: those statements took.
        how: what sent most of them: ``plain`` calls, or attributes of an ORM's objects that lead to one
            object (``lazy``) or to several (``lazy_many``).
    """

    kind: RepeatKind
    shape: Shape
    where: str
    times: int = 0
    requests: int = 0
    seconds: float = 0.0
    how: dict[str, int] = field(default_factory=dict)

    @property
    def each(self) -> float:
        """Statements of one request."""
        return self.times / max(1, self.requests)

    @property
    def mostly(self) -> str:
        """What sent most of them."""
        return max(self.how, key=lambda name: (self.how[name], name), default=RepeatSource.PLAIN)


class Shapes:
    """The shapes of a window, by id; one that has no room of its own is among the others."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self.plans = {note.key.fingerprint: note.detail for note in totals.notes(PLAN)}
        self._rows: dict[str, list[Row]] = {}
        self._texts: dict[str, str] = {}
        for labels, row in totals.rows("query"):
            name, text = labels
            self._rows.setdefault(name, []).append((labels, row))
            self._texts[name] = _UNNAMED if name == OTHER else text
        self._known: dict[str, Shape] = {}
        self._times: dict[str, Histogram] | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def of(self, name: str) -> Shape:
        """Return a shape."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = Shape(name, self._texts.get(name, _UNNAMED), self)
        return found

    @property
    def times(self) -> dict[str, Histogram]:
        """What executions of each took; worked out for all at once, when it is asked for."""
        if self._times is None:
            sums = self.totals.sums(list(self._rows.values()), {"all": None})["all"].histograms
            self._times = dict(zip(self._rows, sums, strict=True))
        return self._times


def asks(totals: Totals, shapes: Shapes, by: Mapping[str, Iterable[Row]]) -> list[Ask]:
    """Return what one endpoint asks, the dearest first.

    Args:
        totals: of the window.
        shapes: of the window.
        by: the endpoint's series by meter: ``query_at`` with ``(shape, where)`` and ``query_rows`` with
            ``(shape,)``.
    """
    sent: dict[str, int] = {}
    rows = totals.tallies(by.get("query_rows", ()))
    made: list[Ask] = []
    for each in by.get("query_at", ()):
        (name, where), data = each[0], totals.tally((each,))
        if data.count:
            sent[name] = sent.get(name, 0) + data.count
            made.append(Ask(shapes.of(name), where, data.count, data.total / SECOND, None))
    for ask in made:
        found = rows.get(ask.shape.id)
        if found is not None and found.count:
            ask.rows = found.total / sent[ask.shape.id]
    return sorted(made, key=lambda ask: (-ask.seconds, ask.shape.id, ask.where))


def repeated(totals: Totals, shapes: Shapes, by: Mapping[str, Iterable[Row]]) -> list[Repeated]:
    """Return what requests of one endpoint ask again and again, the dearest first.

    Args:
        totals: of the window.
        shapes: of the window.
        by: the endpoint's series by meter: ``repeated`` with ``(kind, shape, where, how)`` and
            ``repeating`` with ``(kind, shape, where)``.
    """
    found: dict[tuple[str, str, str], Repeated] = {}
    for each in by.get("repeated", ()):
        (kind, name, where, how), data = each[0], totals.tally((each,))
        if data.count and kind in _KINDS:  # not of the series that all others share
            made = Repeated(_KINDS[kind], shapes.of(name), where)
            one = found.setdefault((kind, name, where), made)
            one.times += data.count
            one.seconds += data.total / SECOND
            one.how[how] = one.how.get(how, 0) + data.count
    for each in by.get("repeating", ()):
        kind, name, where = each[0]
        if (kind, name, where) in found:
            found[kind, name, where].requests += totals.tally((each,)).count
    return sorted(found.values(), key=lambda one: (-one.seconds, one.shape.id, one.where))


class Sender(NamedTuple):
    """An endpoint that sends statements with one fingerprint from one line."""

    endpoint: Endpoint
    ask: Ask


class Repeater(NamedTuple):
    """An endpoint whose requests repeat statements with one fingerprint from one line."""

    endpoint: Endpoint
    repeated: Repeated


@dataclass(slots=True)
class Query:
    """Statements with one fingerprint, over all endpoints.

    Attributes:
        shape: theirs.
        senders: by total time.
        repeaters: by total time.
        failed: errors by class of exception, most frequent first.
    """

    shape: Shape
    senders: list[Sender]
    repeaters: list[Repeater]
    failed: dict[str, int]

    @property
    def rows_mean(self) -> float | None:
        """Rows returned or changed per execution, ``None`` where unknown."""
        counted = [(ask.rows, ask.count) for _, ask in self.senders if ask.rows is not None]
        executions = sum(count for _, count in counted)
        return sum(rows * count for rows, count in counted) / executions if executions else None


def queries(totals: Totals, rows: Iterable[Endpoint]) -> list[Query]:
    """Return the statements of a window by fingerprint, largest total time first.

    Args:
        totals: of the window.
        rows: of :func:`.endpoints.endpoints`.
    """
    shapes = Shapes(totals)
    senders: dict[str, list[Sender]] = {}
    repeaters: dict[str, list[Repeater]] = {}
    for row in rows:
        for ask in row.asks:
            senders.setdefault(ask.shape.id, []).append(Sender(row, ask))
        for one in row.repeated:
            repeaters.setdefault(one.shape.id, []).append(Repeater(row, one))
    failed: dict[str, dict[str, int]] = {}
    for each in totals.rows("query_failed"):
        _, _, name, error = each[0]
        errors = failed.setdefault(name, {})
        errors[error] = errors.get(error, 0) + totals.tally((each,)).count
    sent = [
        Query(
            shapes.of(name),
            sorted(senders.get(name, []), key=lambda sender: -sender.ask.seconds),
            sorted(repeaters.get(name, []), key=lambda repeater: -repeater.repeated.seconds),
            dict(sorted(failed.get(name, {}).items(), key=lambda item: (-item[1], item[0]))),
        )
        for name in shapes
    ]
    return sorted(
        (query for query in sent if query.shape.times.count),
        key=lambda query: (-query.shape.times.total, query.shape.id),
    )
