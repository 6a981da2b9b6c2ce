"""Sentences about the cache that the page and the terminal share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.units import NONE, count, duration, number, percent
from ..metrics.catalogue import PartKind
from ..metrics.instruments import OTHER

if TYPE_CHECKING:
    from ..reports.documents import CacheReport
    from ..reports.documents.cache import CacheFigures, WhatIfRow
    from ..reports.documents.report import EndpointRow

MISSES = {
    "cold": "never cached", "capacity": "evicted", "expired": "expired",
    "invalidated": "invalidated", "early": "loaded again early",
}  # fmt: skip
"""Reasons of misses, by key of the document."""
NOTHING_CACHED = (
    "Nothing is cached yet. @perf.cache.cached above a function caches its results; "
    "the option KNITPERF_REUSE_READS answers reads of pandas from files that have not changed."
)
NO_READ_YET = (
    "No look-up yet. KNITPERF_REUSE_READS is on: reads of pandas are counted from the first one on."
)

NESTED = (
    "As each worker would cache for itself. The time of a function contains that of the functions that "
    "it calls, so savings do not add up."
)
"""Sentence on the savings of several functions."""


def nothing(document: CacheReport) -> str:
    """Return a sentence on a window in which the cache was not used."""
    return NO_READ_YET if document["reuse_reads"] else NOTHING_CACHED


def worth(total: CacheFigures) -> str:
    """Return the share of hits and the time that they saved, in sentences."""
    lookups = total["hits"] + total["misses"]
    if not lookups:
        return "No look-up in this window."
    answered = (
        f"{percent(total['hit_rate'])} of {count(lookups, 'look-up')} were answered from the cache"
    )
    if total["saved_s"] is None:
        return f"{answered}. The time that this saved is unknown: it was never measured."
    saved, loaded = duration(total["saved_s"] * 1000), duration(total["load_s"] * 1000)
    if not total["saved_s"]:
        return f"{answered}: nothing was saved yet, and loading took {loaded}."
    return (
        f"{answered}. Loading took {loaded}; without the cache it would have taken {saved} more, so "
        f"{percent(total['saved_share'])} of that time is saved."
    )


def server_figures(document: CacheReport) -> list[tuple[str, str]]:
    """Return the use of the server that hosts share, by name; nothing if it was not used."""
    server = document["server"]
    if server is None:
        return []
    lookups = server["hits"] + server["misses"] + server["rejected"]
    trips = lookups + sum(
        server[name] for name in ("stored", "refused", "failures", "invalidations")
    )
    return [
        ("Look-ups", number(lookups)),
        ("Hit rate", percent(server["hits"] / lookups if lookups else None)),
        ("Stored", number(server["stored"])),
        ("Invalidations", number(server["invalidations"])),
        ("Mean wait", duration(server["waited_s"] / trips * 1000) if trips else NONE),
        ("Failed", number(server["failures"])),
        *([("Refused: full", number(server["refused"]))] if server["refused"] else []),
        *([("Foreign values", number(server["rejected"]))] if server["rejected"] else []),
    ]


def other_sizes(row: CacheFigures) -> list[tuple[str, str]]:
    """Return the expected hit rates with other sizes of the cache, by size as a text."""
    return [
        (f"{number(size['factor'])} × the room", f"{percent(size['hit_rate'])} hits")
        for size in row["sizes"]
    ]


def verified(row: CacheFigures) -> str:
    """Return the share of verified hits that were out of date, with its interval."""
    share = row["stale_share"]
    if share is None:
        return "no hit verified"
    hits = count(row["verified"], "verified hit")
    likely = f"likely {percent(share['low'])} to {percent(share['high'])}"
    return f"{percent(share['share'])} of {hits} ({likely})"


def of_endpoint(row: EndpointRow) -> str:
    """Return the look-ups of cached functions by the requests of an endpoint; empty without any."""
    counts = {part["name"]: part["count"] for part in row["parts"]}
    hits, loads = counts.get(PartKind.CACHE_HIT, 0), counts.get(PartKind.CACHE_LOAD, 0)
    if not hits + loads:
        return ""
    per_request = number((hits + loads) / row["count"]) if row["count"] else NONE
    return (
        f"{percent(hits / (hits + loads))} of {count(hits + loads, 'look-up')} of cached functions hit, "
        f"{per_request} per request."
    )


def missed(total: CacheFigures) -> list[tuple[str, int, float]]:
    """Return reason, number and share of the look-ups that missed, the most frequent first."""
    counts: dict[str, int] = {**total["missed"]}  # type: ignore[dict-item]
    rows = [(MISSES[name], n, n / total["misses"]) for name, n in counts.items() if n]
    return sorted(rows, key=lambda row: -row[1])


def evicted(total: CacheFigures) -> str:
    """Return the number of evicted values as a sentence."""
    if not total["evicted"]:
        return "No value was evicted in this window."
    values = count(total["evicted"], "value was evicted", "values were evicted")
    return f"{values} for want of room in this window: KNITPERF_CACHE_MAX_MB bounds each worker."


def more_namespaces(document: CacheReport) -> str:
    """Return a sentence on namespaces that are counted as one, empty without any."""
    if all(row["namespace"] != OTHER for row in document["namespaces"]):
        return ""
    return (
        f"Each worker counts its first {number(document['max_namespaces'])} namespaces apart, and the "
        f"others as {OTHER}."
    )


def to_paste(row: WhatIfRow) -> str:
    """Return the decorator with the place of the function, empty for one that is not recommended."""
    if row["decorator"] is None:
        return ""
    return row["decorator"] + (f" at {row['where']}" if row["where"] else "")
