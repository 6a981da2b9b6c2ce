"""SQL statements of one endpoint by line, repeated statements, and missing indexes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.clock import NS_PER_S
from ..core.units import count, plain
from ..metrics.catalogue import PlanDetail, RepeatKind, RepeatSource, ScanDetail
from ..metrics.histogram import Histogram
from ..metrics.instruments import OTHER
from ..metrics.readings import Readings
from ..metrics.readings.rows import EndpointReading
from ..metrics.totals import NOTHING

OTHERS = "(other statements)"
"""Text of the statements beyond the limit of fingerprints, which share one series."""
_MAX_INDEX_NAME = 60
"""Characters of a proposed index's name; PostgreSQL cuts names at 63."""
_KINDS: Mapping[str, RepeatKind] = {kind.value: kind for kind in RepeatKind}


@dataclass(frozen=True, slots=True)
class MissingIndex:
    """Index that would save a full table scan.

    Attributes:
        table: its name.
        columns: of the condition of the scan.
        statement: that creates the index.
        seen: the scan, as a clause without a full stop.
    """

    table: str
    columns: tuple[str, ...]
    statement: str
    seen: str


def missing_index(scan: ScanDetail, returned: float | None) -> MissingIndex:
    """Return the index that would save a full table scan.

    Args:
        scan: of an explained plan.
        returned: mean number of rows that the statement returns, ``None`` where unknown.
    """
    table, columns = str(scan["table"]), tuple(map(str, scan["columns"]))
    about = "" if scan["exact"] else "about "
    seen = f"reads {about}{plain(count(scan['rows'] or 0, 'row'))} of {table}"
    needed = scan["matching"] if scan["matching"] is not None else returned
    passes = scan["passes"]
    if passes is not None and passes > 1:
        seen += f", {passes:,} times in one execution,"
    if needed is not None:
        seen += f" to {'return' if scan['matching'] is None else 'find'} {round(needed):,}"
    name = "_".join(("ix", table, *columns))[:_MAX_INDEX_NAME]
    listed = ", ".join(map(_identifier, columns))
    index = f"CREATE INDEX {_identifier(name)} ON {_identifier(table)} ({listed})"
    return MissingIndex(table, columns, index, seen)


def _identifier(name: str) -> str:
    """Return a name as SQL spells it, quoted where necessary."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        return name
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Statements that differ in values only, over all endpoints.

    Attributes:
        id: its identity.
        readings: of the window.
    """

    id: str
    readings: Readings = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The statement with ``?`` for values."""
        text = self.readings.statement_texts.get(self.id, OTHERS)
        return OTHERS if self.id == OTHER else text

    @property
    def times(self) -> Histogram:
        """Histogram of its executions in nanoseconds, fetching included."""
        return self.readings.statement_times.get(self.id) or Histogram()

    @property
    def plan(self) -> PlanDetail | None:
        """Its execution plan, ``None`` where the database was not queried for it."""
        return self.readings.plans.get(self.id)

    def missing_indexes(self, returned: float | None) -> list[MissingIndex]:
        """Return the indexes that its plan lacks, none without a plan.

        Args:
            returned: mean number of rows that the statement returns, ``None`` where unknown.
        """
        plan = self.plan
        return [] if plan is None else [missing_index(scan, returned) for scan in plan["scans"]]


@dataclass(slots=True)
class Statement:
    """Statements with one fingerprint that an endpoint sends from one line.

    Attributes:
        fingerprint: theirs.
        where: ``file:line`` of own code, empty where none is on the stack.
        count: number of executions.
        seconds: total time of them.
        rows: mean number of rows returned or changed, over all lines; ``None`` where unknown.
    """

    fingerprint: Fingerprint
    where: str
    count: int
    seconds: float
    rows: float | None = None

    @property
    def mean_ms(self) -> float:
        """Mean time of one execution in milliseconds."""
        return self.seconds / self.count * 1000


@dataclass(slots=True)
class Repeat:
    """Statements that requests of an endpoint repeat from one line.

    Attributes:
        kind: N+1 or duplicates.
        fingerprint: of the statements.
        where: ``file:line`` of own code.
        count: number of statements, of duplicates without the first of each request.
        requests: number of requests with them.
        seconds: total time of the statements.
        avoidable_s: time that one statement per request in place of them would have saved, with the work
            of the engine and the ORM on the others.
        sources: number of statements by the code that sends them.
    """

    kind: RepeatKind
    fingerprint: Fingerprint
    where: str
    count: int = 0
    requests: int = 0
    seconds: float = 0.0
    avoidable_s: float = 0.0
    sources: dict[str, int] = field(default_factory=dict)

    @property
    def per_request(self) -> float:
        """Mean number of statements in one of those requests."""
        return self.count / max(1, self.requests)

    @property
    def source(self) -> str:
        """The code that sends most of them; see :class:`..metrics.catalogue.RepeatSource`."""
        return max(
            self.sources, key=lambda name: (self.sources[name], name), default=RepeatSource.PLAIN
        )


def statements(readings: Readings, reading: EndpointReading) -> list[Statement]:
    """Return the statements that one endpoint sends, most expensive first."""
    rows = [
        Statement(Fingerprint(fingerprint, readings), where, time.count, time.total / NS_PER_S)
        for fingerprint, where, time in reading.statements
        if time.count
    ]
    executions: dict[str, int] = {}
    for row in rows:
        name = row.fingerprint.id
        executions[name] = executions.get(name, 0) + row.count
    for row in rows:
        name = row.fingerprint.id
        returned = reading.statement_rows.get(name)
        if returned is not None and returned.count:
            row.rows = returned.total / executions[name]
    return sorted(rows, key=lambda row: (-row.seconds, row.fingerprint.id, row.where))


def repeats(readings: Readings, reading: EndpointReading) -> list[Repeat]:
    """Return the statements that requests of one endpoint repeat, most expensive first."""
    rows: dict[tuple[str, str, str], Repeat] = {}
    for kind, fingerprint, where, source, time in reading.repeats:
        if not time.count or kind not in _KINDS:  # without the series beyond the meter's limit
            continue
        row = rows.setdefault(
            (kind, fingerprint, where),
            Repeat(_KINDS[kind], Fingerprint(fingerprint, readings), where),
        )
        row.count += time.count
        row.seconds += time.total / NS_PER_S
        row.sources[source] = row.sources.get(source, 0) + time.count
    for key, row in rows.items():
        repeating = reading.repeating.get(key, NOTHING)
        bound = reading.repeating_bound.get(key, repeating)
        row.requests = repeating.count
        whole = reading.requests.every.total  # an estimate must not pass it
        row.avoidable_s = min(repeating.total, bound.total, whole) / NS_PER_S
    return sorted(rows.values(), key=lambda row: (-row.avoidable_s, row.fingerprint.id, row.where))
