"""How a database runs a slow statement, asked in place: its next execution is explained, once.

What was slow is known when its request ends; no parameter is kept until then, so it is the next live
execution of the same shape that is explained: on its own connection, with its own parameters, right
after it succeeded. SQLite tells its plan without running anything. PostgreSQL is asked for what it
really does (``ANALYZE``) of statements that read, within a savepoint that is read-only, has a time
limit and is rolled back; of writes, and where that fails, only for its plan.

Of a plan is kept: the tables that are read whole under a condition, the columns of that condition, how
many rows were read and how many were wanted. Columns are found by a parser of SQL (sqlglot); without
it plans are shown, and no index is proposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from ...metrics.catalogue import PLAN, PartKind, PlanDetail, PlanKey, ScanDetail
from ...recording.span import Span
from .fingerprint import READS, Shape, shape
from .statements import Sent

PART = PartKind.EXPLAIN.value
LEAST_ROWS = 1000
"""A table of fewer rows may be read whole."""
WANTED_SHARE = 0.2
"""So many of the rows that are read may be wanted before an index is of no use."""
WAITING = 50
"""Shapes that may wait to be explained."""
AGAIN_S = 3600.0
"""Seconds after which a shape is explained anew."""
LIMIT_MS = 1000
"""How long PostgreSQL may take to run a statement once more."""
_STEPS = 20
_EXPLAINABLE = re.compile(
    r"\s*(?:\(\s*)*(?:select|with|insert|update|delete|values|replace)\b", re.IGNORECASE
)
_LONGEST = 10_000
"""Longer statements are not taken apart."""
_CALLS = re.compile(r"\b([a-z_][\w.]*) ?\(")
_HARMLESS = frozenset({
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
"""What may stand before a bracket in a statement that is run once more; others may do something."""


class Scan(NamedTuple):
    """A table that is read whole, under a condition.

    Attributes:
        table: its name.
        columns: of the condition, those that are compared for equality first.
        rows: that are read in one pass, ``None`` where unknown.
        exact: whether those were counted, not estimated.
        given: of those, that fulfil the condition; ``None`` where unknown.
        passes: how often that happens in one execution, ``None`` where unknown.
    """

    table: str
    columns: tuple[str, ...]
    rows: int | None
    exact: bool
    given: int | None
    passes: int | None

    def as_detail(self) -> ScanDetail:
        """Return it as part of the detail of a note."""
        return {
            "table": self.table, "columns": list(self.columns), "rows": self.rows,
            "exact": self.exact, "matching": self.given, "passes": self.passes,
        }  # fmt: skip


class Plan(NamedTuple):
    """How a statement is run.

    Attributes:
        steps: of the plan, as the database says them, without values.
        scans: tables that are read whole and for which no index begins with their columns.
    """

    steps: tuple[str, ...]
    scans: tuple[Scan, ...]

    def as_detail(self) -> PlanDetail:
        """Return it as the detail of a note."""
        return {"steps": list(self.steps), "scans": [scan.as_detail() for scan in self.scans]}


class Explains:
    """Which statements of this process wait to be explained, and which were.

    Attributes:
        wanted: shapes that wait, by their id.
    """

    def __init__(self) -> None:
        self.wanted: dict[str, Shape] = {}
        self._done: dict[str, float] = {}

    def want(self, wanted: Shape, now: float) -> None:
        """Have the next execution of a shape explained, unless that was done lately.

        Args:
            wanted: the shape.
            now: seconds on a clock that never goes back.
        """
        if wanted.id in self.wanted or len(self.wanted) >= WAITING:
            return
        if now - self._done.get(wanted.id, -AGAIN_S) >= AGAIN_S:
            self.wanted[wanted.id] = wanted

    def explain(self, span: Span, sent: Sent, connection: Any, parameters: Any) -> None:
        """Explain a statement that was just sent, if its shape waits for that. Never raises.

        Args:
            span: the request.
            sent: the statement, with those like it.
            connection: the driver's.
            parameters: as they were given.
        """
        recorder = span.owner
        if not recorder.explain_above_ns:
            return
        try:
            known, took = sent.known(), sent.durations[-1] if sent.durations else 0
            if self.wanted.pop(known.id, None) is None:
                return
            clock = recorder.clock
            if len(self._done) >= WAITING * 10:
                self._done.clear()
            self._done[known.id] = clock.monotonic_ns() / 1e9
            cpu = None if span.cpu_began is None else clock.runnable_ns()
            part = span.open(PART, clock.monotonic_ns(), cpu)
            try:
                found = explained(connection, sent.text, parameters, reads=known.kind == READS)
            finally:
                cpu = None if span.cpu_began is None else clock.runnable_ns()
                span.close(part, clock.monotonic_ns(), cpu)
            if found is not None:
                recorder.note(PLAN, PlanKey(known.id), took / 1e9, found.as_detail())
        except Exception as error:
            recorder.failed("explaining queries", error)


EXPLAINS = Explains()


def explained(connection: Any, statement: Any, parameters: Any, *, reads: bool) -> Plan | None:
    """Return how a database runs a statement, ``None`` where that cannot be asked.

    Args:
        connection: the driver's own; sqlite3's and psycopg's are known.
        statement: what was sent.
        parameters: what was sent with it.
        reads: whether it changes nothing.

    Raises:
        Exception: what the driver raises.
    """
    driver = type(connection).__module__.partition(".")[0]
    if not isinstance(statement, str) or not _EXPLAINABLE.match(statement):
        return None
    if driver == "sqlite3":
        return _of_sqlite(connection, statement, parameters)
    if driver == "psycopg" and hasattr(connection, "transaction"):
        return _of_postgres(connection, statement, parameters, reads=reads)
    return None


# -- SQLite --------------------------------------------------------------------------------------------


def _of_sqlite(connection: Any, statement: str, parameters: Any) -> Plan | None:
    cursor = connection.cursor()
    try:
        cursor.row_factory = None
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters or ())
        steps = [str(row[3]) for row in cursor.fetchall()]
        scanned = [
            step.split()[1] for step in steps if step.startswith("SCAN ") and " INDEX " not in step
        ]
        scans = []
        for alias, table, columns in _compared(statement, "sqlite", scanned) if scanned else ():
            own = {row[1] for row in cursor.execute(f"PRAGMA table_info({_quoted(table)})")}
            chosen = tuple(column for column in columns if column in own)
            if chosen and not _indexed_in_sqlite(cursor, table, chosen[0]):
                rows = _rows_in_sqlite(cursor, table)
                passes = 1 if scanned.index(alias) == 0 and len(scanned) == 1 else None
                scans.append(Scan(table, chosen, rows, False, None, passes))
        return Plan(tuple(shape(step).text for step in steps[:_STEPS]), _worth(scans))
    finally:
        cursor.close()


def _rows_in_sqlite(cursor: Any, table: str) -> int | None:
    """Return about how many rows a table has, by its first and last row; a count reads all of it."""
    with suppress(Exception):  # a table without row ids, or a view
        name = _quoted(table)
        ends = [f"SELECT {end}(rowid) FROM {name}" for end in ("max", "min")]  # noqa: S608
        cursor.execute(f"SELECT ({ends[0]}) - ({ends[1]}) + 1")
        [(rows,)] = cursor.fetchall()
        return None if rows is None else int(rows)
    return None


def _indexed_in_sqlite(cursor: Any, table: str, column: str) -> bool:
    indexes = [row[1] for row in cursor.execute(f"PRAGMA index_list({_quoted(table)})").fetchall()]
    for index in indexes:
        columns = cursor.execute(f"PRAGMA index_info({_quoted(index)})").fetchall()
        if columns and columns[0][2] == column:
            return True
    return False


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# -- PostgreSQL ----------------------------------------------------------------------------------------


def _of_postgres(connection: Any, statement: str, parameters: Any, *, reads: bool) -> Plan | None:
    status = connection.info.transaction_status.name
    if status not in ("IDLE", "INTRANS") or connection.info.pipeline_status.name != "OFF":
        return None
    called = set(_CALLS.findall(shape(statement).text.lower()))
    for analyze in (True, False) if reads and called <= _HARMLESS else (False,):
        with suppress(Exception):  # too slow, or it cannot run read-only: then its plan alone
            return _asked_postgres(connection, statement, parameters, analyze=analyze)
    return None


def _asked_postgres(connection: Any, statement: str, parameters: Any, *, analyze: bool) -> Plan:
    from psycopg import ClientCursor, Rollback
    from psycopg.rows import tuple_row

    made: Plan | None = None
    with connection.transaction():
        cursor = ClientCursor(connection, row_factory=tuple_row)
        cursor.execute("SET LOCAL transaction_read_only = on")
        cursor.execute(f"SET LOCAL statement_timeout = {LIMIT_MS}")
        options = "ANALYZE, TIMING OFF, FORMAT JSON" if analyze else "FORMAT JSON"
        cursor.execute(f"EXPLAIN ({options}) {statement}", parameters)
        [(plan,)] = cursor.fetchall()
        made = _plan_of(cursor, plan[0]["Plan"])
        raise Rollback
    assert made is not None
    return made


def _plan_of(cursor: Any, root: dict[str, Any]) -> Plan:
    steps: list[str] = []
    scans: list[Scan] = []
    for node in _nodes(root):
        kind, table = str(node["Node Type"]), str(node.get("Relation Name", ""))
        steps.append(f"{kind} on {table}" if table else kind)
        if kind != "Seq Scan" or "Filter" not in node:
            continue
        columns = _columns_of(node["Filter"], {table, node.get("Alias", table)})
        if columns and not _indexed_in_postgres(cursor, node.get("Schema"), table, columns[0]):
            counted = "Actual Rows" in node
            given = round(node.get("Actual Rows", node["Plan Rows"]))
            rows = given + round(node.get("Rows Removed by Filter", 0)) if counted else None
            passes = node.get("Actual Loops")
            if rows is None:
                rows = _rows_in_postgres(cursor, table)
            scans.append(Scan(table, columns, rows, counted, given, passes))
    return Plan(tuple(steps[:_STEPS]), _worth(scans))


def _nodes(node: dict[str, Any]) -> Iterable[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _rows_in_postgres(cursor: Any, table: str) -> int | None:
    cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", (table,))
    found = cursor.fetchone()
    return None if found is None or found[0] < 0 else int(found[0])


def _indexed_in_postgres(cursor: Any, schema: str | None, table: str, column: str) -> bool:
    cursor.execute(
        "SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(%s) AND a.attname = %s"
        " AND i.indpred IS NULL",
        (_quoted(table) if schema is None else f"{_quoted(schema)}.{_quoted(table)}", column),
    )
    return cursor.fetchone() is not None


# -- columns -------------------------------------------------------------------------------------------


def _compared(
    statement: str, dialect: str, aliases: Iterable[str]
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the tables that stand behind aliases, and their columns that conditions compare.

    Returns:
        ``(alias, table, columns)``; a column without a table's name may be another table's.
    """
    try:
        import sqlglot
        from sqlglot import exp
    except ImportError:
        return []
    if len(statement) > _LONGEST or " indexed" in statement.lower():
        return []
    try:
        tree = sqlglot.parse_one(statement, dialect=dialect)
    except sqlglot.errors.SqlglotError:
        return []
    if tree.find(exp.SetOperation) or any(table.db for table in tree.find_all(exp.Table)):
        return []  # a condition may be about one half only, and a table of that name another
    tables = {table.alias_or_name: table.name for table in tree.find_all(exp.Table)}
    found = []
    for alias in dict.fromkeys(aliases):
        if alias in tables:
            columns = _conditions(tree, {alias, tables[alias]})
            found.append((alias, tables[alias], columns))
    return found


def _columns_of(condition: str, names: set[str]) -> tuple[str, ...]:
    """Return the columns of a table that a condition of PostgreSQL's compares."""
    try:
        import sqlglot
    except ImportError:
        return ()
    try:
        tree = sqlglot.parse_one(f"SELECT 1 WHERE {condition}", dialect="postgres")
    except sqlglot.errors.SqlglotError:
        return ()
    return _conditions(tree, names)


def _conditions(tree: Any, names: set[str]) -> tuple[str, ...]:
    """Return columns that are compared with something else: for equality first, then one of a range.

    Args:
        tree: a statement.
        names: of the table; a column without a table's name may be its own.
    """
    from sqlglot import exp

    equal: dict[str, None] = {}
    ranged: dict[str, None] = {}
    for kinds, into in (
        ((exp.EQ, exp.In), equal),
        ((exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between), ranged),
    ):
        for test in tree.find_all(*kinds):
            if test.find_ancestor(exp.Where, exp.Join) is None or test.find_ancestor(
                exp.Or, exp.Not
            ):
                continue
            sides = (test.this, test.args.get("expression"))
            if test.find(exp.Collate) or all(
                isinstance(side, exp.Column) and side.table in {"", *names} for side in sides
            ):
                continue
            for side in sides:
                column = side
                while isinstance(column, exp.Cast | exp.Paren):
                    column = column.this
                if isinstance(column, exp.Column) and column.table in {"", *names}:
                    into[column.name] = None
    return (*equal, *[name for name in ranged if name not in equal][:1])


def _worth(scans: Iterable[Scan]) -> tuple[Scan, ...]:
    """Return the scans of which an index would save most rows, each table and condition once."""
    found: dict[tuple[str, tuple[str, ...]], Scan] = {}
    for scan in scans:
        if scan.rows is None or scan.rows < LEAST_ROWS:
            continue
        if scan.given is not None and scan.given > WANTED_SHARE * scan.rows:
            continue
        found.setdefault((scan.table, scan.columns), scan)
    return tuple(found.values())
