"""Values of the page of all queries, and of the queries on the page of one endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..analysis.phrases import title
from ..core.units import count, duration, number, percent
from . import Values
from .html import spent
from .wording import REPEATS, connection_leak, dropped

if TYPE_CHECKING:
    from ..reports.documents import QueriesReport
    from ..reports.documents.queries import PoolRow, QueryRow, RepeatRow
    from ..reports.documents.report import EndpointQueries, EndpointRepeatRow

_BADGES = {"n_plus_one": "N+1", "duplicates": "repeated"}


def queries(document: QueriesReport, listed: Sequence[QueryRow] | None = None) -> Values:
    """Return the values of the page of all queries.

    Args:
        document: the queries.
        listed: those that are listed, in order; by default all.
    """
    rows = document["queries"]
    total_s = sum(row["time_spent_s"] for row in rows)
    return {
        "count": sum(row["count"] for row in rows),
        "total": duration(total_s * 1000),
        "watched": document["watched"],
        "rows": [
            _row(row, total_s, document["slow_ms"]) for row in (rows if listed is None else listed)
        ],
        "limits": [*document["degraded"], *dropped(document)],
        "pools": [_pool(row) for row in document["pools"]],
    }


def _row(row: QueryRow, total_s: float, slow_ms: float) -> Values:
    errors = ", ".join(f"{number(n)} × {name}" for name, n in row["failed"].items())
    p95 = row["p95_ms"]
    return {
        **row,
        "spent": spent(row["time_spent_s"]),
        "share": percent(row["time_spent_s"] / total_s if total_s else None),
        "p50": duration(row["p50_ms"]), "p95": duration(p95), "p99": duration(row["p99_ms"]),
        "max": duration(row["max_ms"]), "mean": duration(row["mean_ms"]),
        "rows": number(row["rows_mean"]), "errors": errors,
        "slow": p95 is not None and p95 > slow_ms,
        "badge": _badge(row["repeated"]),
        "senders": [
            {**sender, "title": title(sender["endpoint"]), "mean": duration(sender["mean_ms"]),
             "spent": spent(sender["time_spent_s"]), "rows": number(sender["rows_mean"])}
            for sender in row["asked_by"]
        ],
        "repeated": [
            {**_repeat(repeat), "title": title(repeat["endpoint"])} for repeat in row["repeated"]
        ],
    }  # fmt: skip


def _badge(repeats: list[RepeatRow]) -> str:
    """Return the worst repeat of a statement: ``N+1: 119 per request``; empty without one."""
    worst = max(repeats, key=lambda repeat: repeat["per_request"], default=None)
    if worst is None:
        return ""
    return f"{_BADGES[worst['kind']]}: {number(worst['per_request'])} per request"


def _repeat(repeat: RepeatRow | EndpointRepeatRow) -> Values:
    return {
        **repeat, "how": REPEATS[repeat["kind"]], "times": number(repeat["per_request"]),
        "spent": spent(repeat["time_spent_s"]),
    }  # fmt: skip


def _pool(row: PoolRow) -> Values:
    wait, hold, limit, most = row["wait"], row["hold"], row["limit"], row["in_use_max"]
    remarks = [
        f"{count(n, 'connection')} invalidated ({why})" for why, n in row["invalidated"].items()
    ]
    if row["timeouts"]:
        remarks.insert(0, count(row["timeouts"], "timeout"))
    return {
        **row,
        "wait_p95": duration(wait["p95_ms"]), "held_p50": duration(hold["p50_ms"]),
        "held_p95": duration(hold["p95_ms"]),
        "in_use": number(most) + (f" of {number(limit)}" if most is not None and limit else ""),
        "open_mean": duration(row["opened_ms"]),
        "leaks": [
            {"stack": leak["stack"][1:], "text": connection_leak(leak)} for leak in row["leaks"]
        ],
        "remarks": remarks, "bad": bool(row["timeouts"] or row["leaks"]),
        "advice": row["advice"]["text"] if row["advice"] else None,
    }  # fmt: skip


def endpoint_queries(queries_: EndpointQueries | None) -> Values | None:
    """Return the queries on the page of one endpoint, ``None`` where it sends none."""
    if queries_ is None:
        return None
    mean, most = queries_["per_request"], queries_["max_per_request"]
    maximum = f" (at most about {number(most)})" if most is not None and most > mean else ""
    return {
        "sentence": f"{count(mean, 'query')} per request{maximum}, {duration(queries_['ms'])} of its "
                    "time.",
        "rows": [
            {**row, "mean": duration(row["mean_ms"]), "spent": spent(row["time_spent_s"]),
             "rows": number(row["rows_mean"])}
            for row in queries_["asked"]
        ],
        "repeated": [_repeat(repeat) for repeat in queries_["repeated"]],
    }  # fmt: skip
