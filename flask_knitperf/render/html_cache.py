"""Values of the page of the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..analysis.phrases import period as ttl_text
from ..analysis.phrases import title
from ..core.units import NONE, count, duration, number, percent
from . import Values
from .cache_text import (
    MISSES,
    NESTED,
    evicted,
    missed,
    more_namespaces,
    other_sizes,
    server_figures,
    verified,
    worth,
)  # fmt: skip
from .html_times import period
from .wording import mb

if TYPE_CHECKING:
    from ..reports.documents import CacheReport
    from ..reports.documents.cache import (
        KeyMismatchRow,
        NamespaceRow,
        ObservedCacheRow,
        StaleValuesRow,
        UnkeyedReadsRow,
        WhatIfRow,
    )

_COUNTS: tuple[Literal["hits", "misses", "repeated", "gone", "writes"], ...] = (
    "hits", "misses", "repeated", "gone", "writes",
)  # fmt: skip


def cache(document: CacheReport) -> Values:
    """Return the values of the page."""
    total, window = document["total"], document["window"]
    saved = total["saved_s"]
    return {
        "period": period(window["from"], window["to"]),
        "worth": worth(total),
        "figures": [
            ("Time saved", _seconds(saved)), ("Time of loading", _seconds(total["load_s"])),
            ("Look-ups", number(total["hits"] + total["misses"])),
            ("Hit rate", percent(total["hit_rate"])),
            ("With room for all", percent(total["attainable_rate"])),
            ("Values now", number(total["entries"])), ("Size now", mb(total["mb"])),
            *([("Shared by workers", mb(total["shared_mb"]))] if total["shared_mb"] else []),
        ],
        "limits": [*document["degraded"], *filter(None, [more_namespaces(document)])],
        "per_user": [_unkeyed_reads(row) for row in document["per_user"]],
        "rows": [_namespace(row) for row in document["namespaces"]],
        "observed": [_observed(row) for row in document["observed"]],
        "stale_values": [_stale_values(row) for row in document["stale_values"]],
        "mismatches": [_mismatch(row) for row in document["mismatches"]],
        "nested": NESTED,
        "advice": [what_if(row) for row in document["what_if"] if row["decorator"]],
        "not_advised": [what_if(row) for row in document["what_if"] if not row["decorator"]],
        "missed": [
            {"reason": reason, "count": count(n, "look-up"), "percent": percent(share),
             "width": round(share * 100, 1)}
            for reason, n, share in missed(total)
        ],
        "refusals": document["refusals"],
        "workers": [
            {**row, "used": mb(row["mb"]), "bound": mb(row["max_mb"]),
             "percent": percent(row["share"]), "width": round((row["share"] or 0.0) * 100, 1)}
            for row in document["workers"]
        ],
        "evicted": evicted(total),
        "server": server_figures(document),
        "sizes": other_sizes(total),
        "rate": percent(total["hit_rate"]),
    }  # fmt: skip


def _seconds(seconds: float | None) -> str:
    return NONE if seconds is None else duration(seconds * 1000)


def _namespace(row: NamespaceRow) -> Values:
    reasons: dict[str, int] = {**row["missed"]}  # type: ignore[dict-item]
    others = (
        *((f"Missed: {MISSES[reason]}", n) for reason, n in reasons.items()),
        ("Waited for another load", row["shared_loads"]),
        ("Loaded by another worker", row["fetched"]),
        ("Loaded before they were needed", row["warmed"]),
        ("Stale values returned", row["stale"]), ("Not cached", row["refused"]),
        ("Bypassed", row["bypassed"]), ("Evicted", row["evicted"]),
    )  # fmt: skip
    return {
        **row,
        "saved": _seconds(row["saved_s"]),
        "loading": _seconds(row["load_s"]),
        "lookups": number(row["hits"] + row["misses"]),
        "rate": percent(row["hit_rate"]),
        "size": mb(row["mb"]),
        "facts": [
            ("Hits", number(row["hits"])),
            ("Values now", number(row["entries"])),
            *([("Shared by workers", mb(row["shared_mb"]))] if row["shared_mb"] else []),
            *((name, number(n)) for name, n in others if n),
            *([("Saved per MB", _seconds(row["saved_s_per_mb"]))] if row["saved_s_per_mb"] else []),
            *([("Keys and copies", _seconds(row["overhead_s"]))] if row["overhead_s"] else []),
            *([("Out of date", verified(row))] if row["verified"] else []),
            *((f"With {size}", rate) for size, rate in other_sizes(row)),
        ],
    }  # fmt: skip


def _observed(row: ObservedCacheRow) -> Values:
    return {
        **row,
        "saved": _seconds(row["saved_s"]),
        "loading": _seconds(row["load_s"] or None),
        "lookups": number(row["hits"] + row["misses"]),
        "rate": percent(row["hit_rate"]),
        "attainable": percent(row["attainable_rate"]),
        "patterns": [
            {**one, **{name: number(one[name]) for name in _COUNTS}} for one in row["patterns"]
        ],
    }  # fmt: skip


def _mismatch(row: KeyMismatchRow) -> Values:
    return {
        **row,
        "title": title(row["endpoint"]),
        "results": count(row["count"], "load was in vain", "loads were in vain"),
        "loading": _seconds(row["load_s"]),
    }


def _stale_values(row: StaleValuesRow) -> Values:
    return {
        **row,
        "title": title(row["endpoint"]) if row["endpoint"] else "",
        "results": count(row["count"], "verified hit was out of date",
                         "verified hits were out of date"),
    }  # fmt: skip


def _unkeyed_reads(row: UnkeyedReadsRow) -> Values:
    return {
        **row,
        "title": title(row["endpoint"]) if row["endpoint"] else "",
        "results": count(row["count"], "result was not cached", "results were not cached"),
        "loading": _seconds(row["load_s"]),
    }


def what_if(row: WhatIfRow) -> Values:
    """Return the values of a function as if it were cached."""
    return {
        **row,
        "calls": count(row["calls"], "call"),
        "time": _seconds(row["time_s"]),
        "options": [
            {
                "ttl": "none" if one["ttl_s"] is None else ttl_text(one["ttl_s"]),
                "hits": percent(one["hits"] / row["calls"]),
                "saved": _seconds(one["saved_s"]),
                "stale": percent(one["stale_share"]),
                "bounds": "" if one["stale_low"] is None else
                f"{percent(one['stale_low'])} to {percent(one['stale_high'])}",
                "compared": number(one["compared"]),
                "is_chosen": bool(row["decorator"]) and one["ttl_s"] == row["ttl_s"],
            }
            for one in row["options"]
        ],
    }  # fmt: skip
