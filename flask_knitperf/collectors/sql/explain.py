"""Execution plans of slow statements, taken in place from their next execution.

That a statement was slow is known when its request ends, but no parameter is stored until then. So the
next execution with the same fingerprint is explained: on its connection, with its parameters, right
after it succeeded. SQLite returns its plan without running anything. PostgreSQL runs a reading statement
once more (``EXPLAIN ANALYZE``), within a savepoint that is read-only, has a timeout and is rolled back;
for writes, and where that fails, it only plans.

Recorded are the steps of the plan, and each full table scan under a condition: its columns, the rows
read and the rows that match. Columns come from an SQL parser (sqlglot); without it plans are shown, but
no index is proposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...core.host_exceptions import SuppressOwn
from ...metrics.catalogue import PLAN, PartKind, PlanDetail, PlanKey, ScanDetail
from ...recording.span import Span
from .compared_columns import filter_columns, tables
from .fingerprint import READS, Fingerprint, fingerprint
from .statements import Statement

PART = PartKind.EXPLAIN.value
MIN_ROWS = 1000
"""Number of rows below which a full table scan is not reported."""
MAX_MATCHING_SHARE = 0.2
"""Share of matching rows above which an index would not help."""
MAX_QUEUED = 50
"""Number of fingerprints that may wait to be explained."""
EXPLAIN_AGAIN_S = 3600.0
"""Seconds after which a fingerprint is explained again."""
STATEMENT_TIMEOUT_MS = 1000
"""Timeout of ``EXPLAIN ANALYZE`` on PostgreSQL."""
_MAX_STEPS = 20
_EXPLAINABLE = re.compile(
    r"\s*(?:\(\s*)*(?:select|with|insert|update|delete|values|replace)\b", re.IGNORECASE
)
_CALLS = re.compile(r"\b([a-z_][\w.]*) ?\(")
_PURE = frozenset({
    "abs", "all", "and", "any", "array_agg", "as", "avg", "between", "by", "case", "cast", "ceil",
    "ceiling", "char", "char_length", "coalesce", "concat", "count", "date", "date_part", "date_trunc",
    "decimal", "else", "except", "exists", "extract", "filter", "floor", "from", "generate_series",
    "greatest", "having", "in", "intersect", "join", "json_agg", "jsonb_agg", "lateral", "least", "left",
    "length", "limit", "lower", "ltrim", "max", "min", "mod", "not", "now", "nullif", "numeric", "on",
    "or", "over", "partition", "position", "power", "rank", "replace", "right", "round", "row_number",
    "rtrim",
    "select", "sqrt", "string_agg", "strpos", "substr", "substring", "sum", "then", "to_char", "to_date",
    "trim", "union", "unnest", "upper", "using", "values", "varchar", "when", "where", "with",
})  # fmt: skip
"""Words before a parenthesis that allow a statement to run once more; others may have effects."""


class Scan(NamedTuple):
    """A full table scan under a condition.

    Attributes:
        table: its name.
        columns: of the condition, those compared for equality first.
        rows: number of rows read in one pass, ``None`` where unknown.
        exact: whether they were counted; they are estimated otherwise.
        matching: number of those that satisfy the condition, ``None`` where unknown.
        passes: number of passes in one execution, ``None`` where unknown.
    """

    table: str
    columns: tuple[str, ...]
    rows: int | None
    exact: bool
    matching: int | None
    passes: int | None

    def as_detail(self) -> ScanDetail:
        """Return the scan as part of a piece of evidence."""
        return {
            "table": self.table, "columns": list(self.columns), "rows": self.rows,
            "exact": self.exact, "matching": self.matching, "passes": self.passes,
        }  # fmt: skip


class Plan(NamedTuple):
    """Execution plan of a statement.

    Attributes:
        steps: in the words of the database, without values.
        scans: full table scans for which no index starts with their columns.
    """

    steps: tuple[str, ...]
    scans: tuple[Scan, ...]

    def as_detail(self) -> PlanDetail:
        """Return the plan as the detail of a piece of evidence."""
        return {"steps": list(self.steps), "scans": [scan.as_detail() for scan in self.scans]}


class ExplainQueue:
    """Fingerprints of this process that wait to be explained, and those that were.

    Attributes:
        queued: fingerprints that wait, by id.
    """

    def __init__(self) -> None:
        self.queued: dict[str, Fingerprint] = {}
        self._explained_at: dict[str, float] = {}

    def add(self, slow: Fingerprint, now: float) -> None:
        """Queue a fingerprint, unless it was explained recently or the queue is full.

        Args:
            slow: the fingerprint.
            now: monotonic time in seconds.
        """
        if slow.id in self.queued or len(self.queued) >= MAX_QUEUED:
            return
        if now - self._explained_at.get(slow.id, -EXPLAIN_AGAIN_S) >= EXPLAIN_AGAIN_S:
            self.queued[slow.id] = slow

    def explain(self, span: Span, statement: Statement, connection: Any, parameters: Any) -> None:
        """Explain a statement that was just executed, if its fingerprint waits. Never raises.

        Args:
            span: the request.
            statement: the statement.
            connection: the driver's.
            parameters: of the execution.
        """
        recorder = span.owner
        if not recorder.explain_above_ns:
            return
        try:
            slow = statement.ensure_fingerprint()
            duration = statement.durations[-1] if statement.durations else 0
            if self.queued.pop(slow.id, None) is None:
                return
            clock = recorder.clock
            if len(self._explained_at) >= MAX_QUEUED * 10:
                self._explained_at.clear()
            self._explained_at[slow.id] = clock.monotonic_ns() / 1e9
            with span.part(PART):
                reads = slow.kind == READS
                plan = plan_of(connection, statement.text, parameters, reads=reads)
            if plan is not None:
                recorder.note(PLAN, PlanKey(slow.id), duration / 1e9, plan.as_detail())
        except Exception as error:
            recorder.failed("explaining queries", error)


EXPLAIN_QUEUE = ExplainQueue()


def plan_of(connection: Any, statement: Any, parameters: Any, *, reads: bool) -> Plan | None:
    """Return the execution plan of a statement, ``None`` where it cannot be explained.

    Args:
        connection: the driver's; sqlite3 and psycopg are supported.
        statement: as it was sent.
        parameters: as they were sent.
        reads: whether it changes nothing.

    Raises:
        Exception: as the driver raises.
    """
    driver = type(connection).__module__.partition(".")[0]
    if not isinstance(statement, str) or not _EXPLAINABLE.match(statement):
        return None
    if driver == "sqlite3":
        return _sqlite_plan(connection, statement, parameters)
    if driver == "psycopg" and hasattr(connection, "transaction"):
        return _postgres_plan(connection, statement, parameters, reads=reads)
    return None


# -- SQLite --------------------------------------------------------------------------------------------


def _sqlite_plan(connection: Any, statement: str, parameters: Any) -> Plan | None:
    cursor = connection.cursor()
    try:
        cursor.row_factory = None
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters or ())
        steps = [str(row[3]) for row in cursor.fetchall()]
        scanned = [
            step.split()[1] for step in steps if step.startswith("SCAN ") and " INDEX " not in step
        ]
        scans = []
        for alias, table, columns in tables(statement, "sqlite", scanned) if scanned else ():
            existing = {row[1] for row in cursor.execute(f"PRAGMA table_info({_quoted(table)})")}
            chosen = tuple(column for column in columns if column in existing)
            if chosen and not _is_indexed_in_sqlite(cursor, table, chosen[0]):
                rows = _rows_in_sqlite(cursor, table)
                passes = 1 if scanned.index(alias) == 0 and len(scanned) == 1 else None
                scans.append(Scan(table, chosen, rows, False, None, passes))
        return Plan(
            tuple(fingerprint(step).text for step in steps[:_MAX_STEPS]), _reportable(scans)
        )
    finally:
        cursor.close()


def _rows_in_sqlite(cursor: Any, table: str) -> int | None:
    """Return the approximate number of rows, from the first and last row id: a count reads them all."""
    with SuppressOwn(Exception):  # a table without row ids, or a view
        name = _quoted(table)
        ends = [f"SELECT {end}(rowid) FROM {name}" for end in ("max", "min")]  # noqa: S608
        cursor.execute(f"SELECT ({ends[0]}) - ({ends[1]}) + 1")
        [(rows,)] = cursor.fetchall()
        return None if rows is None else int(rows)
    return None


def _is_indexed_in_sqlite(cursor: Any, table: str, column: str) -> bool:
    indexes = [row[1] for row in cursor.execute(f"PRAGMA index_list({_quoted(table)})").fetchall()]
    for index in indexes:
        columns = cursor.execute(f"PRAGMA index_info({_quoted(index)})").fetchall()
        if columns and columns[0][2] == column:
            return True
    return False


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# -- PostgreSQL ----------------------------------------------------------------------------------------


def _postgres_plan(connection: Any, statement: str, parameters: Any, *, reads: bool) -> Plan | None:
    status = connection.info.transaction_status.name
    if status not in ("IDLE", "INTRANS") or connection.info.pipeline_status.name != "OFF":
        return None
    functions = set(_CALLS.findall(fingerprint(statement).text.lower()))
    for analyze in (True, False) if reads and functions <= _PURE else (False,):
        with SuppressOwn(Exception):  # it timed out, or cannot run read-only: plan it only
            return _explain_postgres(connection, statement, parameters, analyze=analyze)
    return None


def _explain_postgres(connection: Any, statement: str, parameters: Any, *, analyze: bool) -> Plan:
    from psycopg import ClientCursor, Rollback
    from psycopg.rows import tuple_row

    plan: Plan | None = None
    with connection.transaction():
        cursor = ClientCursor(connection, row_factory=tuple_row)
        cursor.execute("SET LOCAL transaction_read_only = on")
        cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
        options = "ANALYZE, TIMING OFF, FORMAT JSON" if analyze else "FORMAT JSON"
        cursor.execute(f"EXPLAIN ({options}) {statement}", parameters)
        [(rows,)] = cursor.fetchall()
        plan = _parse_postgres(cursor, rows[0]["Plan"])
        raise Rollback
    assert plan is not None
    return plan


def _parse_postgres(cursor: Any, root: dict[str, Any]) -> Plan:
    steps: list[str] = []
    scans: list[Scan] = []
    for node in _nodes(root):
        kind, table = str(node["Node Type"]), str(node.get("Relation Name", ""))
        steps.append(f"{kind} on {table}" if table else kind)
        if kind != "Seq Scan" or "Filter" not in node:
            continue
        columns = filter_columns(node["Filter"], {table, node.get("Alias", table)})
        if columns and not _is_indexed_in_postgres(cursor, node.get("Schema"), table, columns[0]):
            exact = "Actual Rows" in node
            matching = round(node.get("Actual Rows", node["Plan Rows"]))
            rows = matching + round(node.get("Rows Removed by Filter", 0)) if exact else None
            passes = node.get("Actual Loops")
            if rows is None:
                rows = _rows_in_postgres(cursor, table)
            scans.append(Scan(table, columns, rows, exact, matching, passes))
    return Plan(tuple(steps[:_MAX_STEPS]), _reportable(scans))


def _nodes(node: dict[str, Any]) -> Iterable[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _rows_in_postgres(cursor: Any, table: str) -> int | None:
    cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", (table,))
    row = cursor.fetchone()
    return None if row is None or row[0] < 0 else int(row[0])


def _is_indexed_in_postgres(cursor: Any, schema: str | None, table: str, column: str) -> bool:
    cursor.execute(
        "SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(%s) AND a.attname = %s"
        " AND i.indpred IS NULL",
        (_quoted(table) if schema is None else f"{_quoted(schema)}.{_quoted(table)}", column),
    )
    return cursor.fetchone() is not None


def _reportable(scans: Iterable[Scan]) -> tuple[Scan, ...]:
    """Return the scans that an index would make much smaller, one per table and condition."""
    reportable: dict[tuple[str, tuple[str, ...]], Scan] = {}
    for scan in scans:
        if scan.rows is None or scan.rows < MIN_ROWS:
            continue
        if scan.matching is not None and scan.matching > MAX_MATCHING_SHARE * scan.rows:
            continue
        reportable.setdefault((scan.table, scan.columns), scan)
    return tuple(reportable.values())
