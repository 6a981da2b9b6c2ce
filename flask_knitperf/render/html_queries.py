"""What the pages print of queries. Pure."""

from __future__ import annotations

from typing import Any

from ..analysis.phrases import title
from .html import duration, seconds, share

_KINDS = {"n_plus_one": "once for each row (N+1)", "duplicates": "again, with the same values"}
_DROPPED = {
    "query": "executions of statements beyond those that are told apart",
    "query_at": "statements from lines beyond those that are told apart",
}


def queries(document: dict[str, Any]) -> dict[str, Any]:
    """Return what the page of all queries prints."""
    rows = document["queries"]
    whole = sum(row["time_spent_s"] for row in rows)
    dropped = [
        f"{document['dropped'][name]:,} {said}" for name, said in _DROPPED.items()
        if name in document["dropped"]
    ]  # fmt: skip
    return {
        "count": sum(row["count"] for row in rows),
        "whole": seconds(whole),
        "rows": [_row(row, whole, document["slow_ms"]) for row in rows],
        "limits": [*document["degraded"], *dropped],
        "pools": [_pool(row) for row in document["pools"]],
    }


def _row(row: dict[str, Any], whole: float, slow_ms: float) -> dict[str, Any]:
    errors = ", ".join(f"{count:,} × {name}" for name, count in row["failed"].items())
    p95 = row["p95_ms"]
    return {
        **row,
        "spent": seconds(row["time_spent_s"]),
        "share": share(row["time_spent_s"] / whole if whole else None),
        "p50": duration(row["p50_ms"]), "p95": duration(p95), "p99": duration(row["p99_ms"]),
        "max": duration(row["max_ms"]), "mean": duration(row["mean_ms"]),
        "rows": rows_of(row["rows_mean"]), "errors": errors,
        "slow": p95 is not None and p95 > slow_ms,
        "again": max((each["per_request"] for each in row["repeated"]), default=0),
        "asked_by": [
            {**each, "title": title(each["endpoint"]), "mean": duration(each["mean_ms"]),
             "spent": seconds(each["time_spent_s"]), "rows": rows_of(each["rows_mean"])}
            for each in row["asked_by"]
        ],
        "repeated": [
            {**each, "title": title(each["endpoint"]), "spent": seconds(each["time_spent_s"]),
             "said": _KINDS[each["kind"]], "each": f"{each['per_request']:,.0f}"}
            for each in row["repeated"]
        ],
    }  # fmt: skip


def _pool(row: dict[str, Any]) -> dict[str, Any]:
    wait, hold, limit = row["wait"], row["hold"], row["limit"]
    remarks = [f"{count:,} invalidated ({why})" for why, count in row["invalidated"].items()]
    if row["timeouts"]:
        remarks.insert(0, f"{row['timeouts']:,} requests got none in time")
    most = row["in_use_max"]
    return {
        **row,
        "waited": duration(wait["p95_ms"]), "held": duration(hold["p50_ms"]),
        "held_long": duration(hold["p95_ms"]),
        "in_use": "–" if most is None else f"{most:,}" + (f" of {limit:,}" if limit else ""),
        "open_each": duration(row["opened_ms"]),
        "leaks": [
            {"stack": leak["stack"][1:], "said": f"{leak['count']:,} did not come back"
             + (f", taken at {leak['where']}" if leak["where"] else "")}
            for leak in row["leaks"]
        ],
        "remarks": remarks, "bad": bool(row["timeouts"] or row["leaks"]),
        "said": row["advice"]["text"] if row["advice"] else None,
    }  # fmt: skip


def asked(known: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what the page of one endpoint prints of its queries, ``None`` where it sends none."""
    if known is None:
        return None
    most = known["max_per_request"]
    several = (
        f", at most about {most:,}" if most is not None and most > known["per_request"] else ""
    )
    return {
        "sentence": f"{rows_of(known['per_request'])} statements per request{several}, which take "
                    f"{duration(known['ms'])} of it.",
        "rows": [
            {**row, "mean": duration(row["mean_ms"]), "spent": seconds(row["time_spent_s"]),
             "rows": rows_of(row["rows_mean"])}
            for row in known["asked"]
        ],
        "repeated": [
            {**each, "said": _KINDS[each["kind"]], "each": f"{each['per_request']:,.0f}",
             "spent": seconds(each["time_spent_s"])}
            for each in known["repeated"]
        ],
    }  # fmt: skip


def rows_of(mean: float | None) -> str:
    """Return a mean number of rows as people say it."""
    if mean is None:
        return "–"
    return f"{mean:,.0f}" if mean >= 100 or mean == round(mean) else f"{mean:,.1f}"
