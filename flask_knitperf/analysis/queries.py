"""What an application asks of its databases: by shape of statement, and by endpoint and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..metrics.catalogue import PLAN, PlanDetail, RepeatSource, ScanDetail
from ..metrics.histogram import Histogram
from ..metrics.instruments import OTHER
from ..metrics.totals import Row, Totals

if TYPE_CHECKING:
    from .endpoints import Endpoint

SECOND, MS = 1e9, 1e6
SHAPES = 10
"""Shapes that the report lists of one endpoint, the dearest first; the page of queries has all."""
ENOUGH_FOR_P99 = 100
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

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the schema."""
        return {"table": self.table, "columns": list(self.columns), "index": self.statement,
                "seen": self.seen}  # fmt: skip


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

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the report's schema."""
        return {
            "shape": self.shape.id,
            "text": self.shape.text,
            "where": self.where or None,
            "count": self.count,
            "mean_ms": round(self.mean_ms, 3),
            "time_spent_s": round(self.seconds, 3),
            "rows_mean": None if self.rows is None else round(self.rows, 1),
        }


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

    kind: str
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

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the report's schema."""
        return {
            "kind": self.kind,
            "shape": self.shape.id,
            "text": self.shape.text,
            "where": self.where or None,
            "per_request": round(self.each, 1),
            "requests": self.requests,
            "time_spent_s": round(self.seconds, 3),
        }


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
        if data.count:
            made = Repeated(kind, shapes.of(name), where)
            one = found.setdefault((kind, name, where), made)
            one.times += data.count
            one.seconds += data.total / SECOND
            one.how[how] = one.how.get(how, 0) + data.count
    for each in by.get("repeating", ()):
        kind, name, where = each[0]
        if (kind, name, where) in found:
            found[kind, name, where].requests += totals.tally((each,)).count
    return sorted(found.values(), key=lambda one: (-one.seconds, one.shape.id, one.where))


def queries(totals: Totals, rows: Iterable[Endpoint]) -> list[dict[str, Any]]:
    """Return all shapes of a window by the time they take, the largest first.

    Args:
        totals: of the window.
        rows: of :func:`.endpoints.endpoints`.

    Returns:
        ``{shape, text, count, errors, time_spent_s, mean_ms, p50_ms, p95_ms, p99_ms|null, max_ms,
        rows_mean, failed{class: count}, asked_by[{endpoint, method, where, count, mean_ms,
        time_spent_s, rows_mean}], repeated[{endpoint, method, kind, where, per_request, requests,
        time_spent_s}], plan{steps[], missing[{table, columns[], index, seen}]}|null}`` of each.
    """
    shapes = Shapes(totals)
    asked_by: dict[str, list[tuple[Endpoint, Ask]]] = {}
    again: dict[str, list[tuple[Endpoint, Repeated]]] = {}
    for row in rows:
        for ask in row.asks:
            asked_by.setdefault(ask.shape.id, []).append((row, ask))
        for one in row.repeated:
            again.setdefault(one.shape.id, []).append((row, one))
    failed: dict[str, dict[str, int]] = {}
    for each in totals.rows("query_failed"):
        _, _, name, error = each[0]
        errors = failed.setdefault(name, {})
        errors[error] = errors.get(error, 0) + totals.tally((each,)).count
    made = [
        _row(shapes.of(name), asked_by.get(name, []), again.get(name, []), failed.get(name, {}))
        for name in shapes
    ]  # fmt: skip
    return sorted(
        (row for row in made if row["count"]), key=lambda row: (-row["time_spent_s"], row["shape"])
    )


def _row(
    shape: Shape, asked_by: list[tuple[Endpoint, Ask]], again: list[tuple[Endpoint, Repeated]],
    failed: dict[str, int],
) -> dict[str, Any]:  # fmt: skip
    times = shape.times
    p50, p95, p99 = times.quantiles((0.5, 0.95, 0.99))
    known = [(ask.rows, ask.count) for _, ask in asked_by if ask.rows is not None]
    sent = sum(count for _, count in known)
    mean = sum(rows * count for rows, count in known) / sent if sent else None
    return {
        "shape": shape.id,
        "text": shape.text,
        "count": times.count,
        "errors": sum(failed.values()),
        "time_spent_s": round(times.total / SECOND, 3),
        "mean_ms": _ms(times.mean),
        "p50_ms": _ms(p50),
        "p95_ms": _ms(p95),
        "p99_ms": _ms(p99) if times.count >= ENOUGH_FOR_P99 else None,
        "max_ms": _ms(times.high),
        "rows_mean": None if mean is None else round(mean, 1),
        "failed": dict(sorted(failed.items(), key=lambda item: (-item[1], item[0]))),
        "asked_by": [
            {"endpoint": row.endpoint, "method": row.method, **_without_shape(ask.as_dict())}
            for row, ask in sorted(asked_by, key=lambda pair: -pair[1].seconds)
        ],
        "repeated": [
            {"endpoint": row.endpoint, "method": row.method, **_without_shape(one.as_dict())}
            for row, one in sorted(again, key=lambda pair: -pair[1].seconds)
        ],
        "plan": _plan(shape, mean),
    }  # fmt: skip


def _plan(shape: Shape, returned: float | None) -> dict[str, Any] | None:
    plan = shape.plan
    if plan is None:
        return None
    missing = [each.as_dict() for each in shape.advices(returned)]
    return {"steps": list(plan["steps"]), "missing": missing}


def _without_shape(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("shape", "text")}


def _ms(ns: float | None) -> float | None:
    return None if ns is None else round(ns / MS, 3)
