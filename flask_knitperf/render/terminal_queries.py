"""Queries and connection pools as terminal text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.units import NONE, count, duration, number
from . import wording
from .layout import Section, cut, document, table, wrap

if TYPE_CHECKING:
    from ..reports.documents import QueriesReport
    from ..reports.documents.queries import PoolRow, QueryRow, RepeatRow
    from ..reports.documents.report import EndpointQueries, EndpointRepeatRow

_MAX_SENDERS = 5
_MAX_TEXT = 120
"""Characters of a statement within a sentence."""
_REPEATS = {
    "n_plus_one": "per request, one per row", "duplicates": "per request, with the same values",
}  # fmt: skip


def queries(report: QueriesReport, width: int = 80) -> str:
    """Return statements by total time, repeated queries and pools as text."""
    window = report["window"]
    head = f"Queries within requests, {wording.period(window['from'], window['to'])}"
    sentences = [*report["degraded"], *wording.dropped(report)]
    repeated: list[str] = []
    for row in report["queries"]:
        for repeat in row["repeated"]:
            sender = f"{repeat['method']} {repeat['endpoint']}"
            repeated += wrap(f"{sender}: {_repeat(repeat, row['text'])}", width)
    none_seen = wrap(_NONE_SEEN, width, then="")
    return document((
        Section("", wrap(head, width, then="")),
        Section("", [line for text in sentences for line in wrap(f"Limited: {text}", width)]),
        Section("BY TOTAL TIME", _statements(report["queries"], width) or none_seen),
        Section("REPEATED QUERIES (N+1)", repeated),
        Section("CONNECTION POOLS", _pools(report["pools"], width)),
    ))  # fmt: skip


_NONE_SEEN = (
    "No queries. Engines of Flask-SQLAlchemy are tracked automatically, others with "
    "perf.queries.instrument(engine), plain connections by calling, in place of the driver's, "
    "connect = perf.queries.wrap_connect(sqlite3.connect)."
)


def endpoint_queries(queries_: EndpointQueries | None, width: int) -> list[str]:
    """Return the queries of one endpoint as lines; none where it sends none."""
    if queries_ is None:
        return []
    mean = count(queries_["per_request"], "query")
    lines = [f"{mean} per request, {duration(queries_['ms'])} of its time"]
    for repeat in queries_["repeated"]:
        lines += wrap(_repeat(repeat, repeat["text"]), width)
    rows = ((row["text"], number(row["count"]), duration(row["mean_ms"]), row["where"] or NONE)
            for row in queries_["asked"])  # fmt: skip
    return [*lines, "", *table(("query", "n", "mean", "line"), rows, width, flexible=(0, 3))]


def _repeat(repeat: RepeatRow | EndpointRepeatRow, text: str) -> str:
    where = f" at {repeat['where']}" if repeat["where"] else ""
    times = f"{number(repeat['per_request'])} {_REPEATS[repeat['kind']]}"
    return f"{times}{where}: {cut(text, _MAX_TEXT)}"


def _statements(rows: list[QueryRow], width: int) -> list[str]:
    """Return statements, each with its figures and, below, its senders."""
    lines: list[str] = []
    for row in rows:
        figures = (
            f"{duration(row['time_spent_s'] * 1000)} in {count(row['count'], 'call')}: p50 "
            f"{duration(row['p50_ms'])}, p95 {duration(row['p95_ms'])}"
        )
        if row["rows_mean"] is not None:
            figures += f", {count(row['rows_mean'], 'row')}"
        if row["errors"]:
            figures += f", {number(row['errors'])} failed"
        lines += ["", *wrap(figures, width), f"  {cut(row['text'], width - 2)}"]
        for table_ in row["plan"]["missing"] if row["plan"] else ():
            lines += wrap(f"It {table_['seen']}. Missing index: {table_['index']}", width, "  ")
        for sender in row["asked_by"][:_MAX_SENDERS]:
            where = f" ({sender['where']})" if sender["where"] else ""
            calls = count(sender["count"], "call")
            lines.append(cut(f"  {calls} by {sender['method']} {sender['endpoint']}{where}", width))
    return lines[1:]


def _pools(rows: list[PoolRow], width: int) -> list[str]:
    lines = table(
        ("pool", "checkouts", "wait p95", "held p50", "held p95", "max", "timeouts"),
        ((row["pool"], number(row["checkouts"]), duration(row["wait"]["p95_ms"]),
          duration(row["hold"]["p50_ms"]), duration(row["hold"]["p95_ms"]),
          number(row["in_use_max"]), number(row["timeouts"])) for row in rows),
        width,
    )  # fmt: skip
    for row in rows:
        for leak in row["leaks"]:
            lines += wrap(wording.connection_leak(leak), width)
            lines += [f"    called by {cut(line, width - 14)}" for line in leak["stack"][1:]]
        if row["advice"] is not None:
            lines += wrap(row["advice"]["text"], width)
    return lines
