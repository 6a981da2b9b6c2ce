"""The use of the cache as terminal text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..core.units import NONE, count, duration, number, percent
from .cache_text import (
    NESTED,
    evicted,
    missed,
    more_namespaces,
    nothing,
    other_sizes,
    server_figures,
    to_paste,
    verified,
    worth,
)  # fmt: skip
from .layout import Section, document, table, wrap
from .wording import mb, period

if TYPE_CHECKING:
    from ..reports.documents import CacheReport
    from ..reports.documents.cache import (
        NamespaceRow,
        ObservedCacheRow,
        UnkeyedReadsRow,
        WhatIfRow,
    )


def cache(report: CacheReport, width: int = 80) -> str:
    """Return the savings of the cache, why look-ups missed, and what is not cached, as text."""
    window, total, rows = report["window"], report["total"], report["namespaces"]
    sentences = [*report["degraded"], more_namespaces(report)]
    head = f"Cache, {period(window['from'], window['to'])}"
    return document((
        Section("", wrap(head, width, then="")),
        Section("", [
            line for text in sentences if text for line in wrap(f"Limited: {text}", width)
        ]),
        Section("", wrap(worth(total) if rows else nothing(report), width, then="")),
        Section("READS OF ONE USER'S DATA", _per_user(report["per_user"], width)),
        Section("OUT OF DATE", [
            line for row in report["stale_values"]
            for line in wrap(f"{row['text']} {row['recommendation']}", width)
        ]),
        Section("CACHES THAT NEVER HIT", [
            line for row in report["mismatches"]
            for line in wrap(f"{row['text']} {row['recommendation']}", width)
        ]),
        Section("WORTH CACHING", advice(report["what_if"], width)),
        Section("NOT RECOMMENDED", [
            line for row in report["what_if"] if row["decorator"] is None
            for line in wrap(f"{row['text']} {row['recommendation'] or ''}".strip(), width)
        ]),
        Section("CACHES OF THE APPLICATION", _observed(report["observed"], width)),
        Section("BY SAVED TIME", _namespaces(rows, width)),
        Section("WHY LOOK-UPS MISSED", table(
            ("reason", "look-ups", "share"),
            ((reason, number(n), percent(share)) for reason, n, share in missed(total)), width,
        )),
        Section("NOT CACHED", table(
            ("namespace", "reason", "results"),
            ((row["namespace"], row["reason"], number(row["count"])) for row in report["refusals"]),
            width, flexible=(0, 1),
        )),
        Section("CACHE SERVER", table(
            ("figure", "value"), server_figures(report), width,
        )),
        Section("ROOM", _room(report, width)),
    ))  # fmt: skip


def advice(rows: list[WhatIfRow], width: int) -> list[str]:
    """Return the functions that are worth caching, each with its decorator."""
    lines: list[str] = []
    for row in rows:
        if row["decorator"] is not None:
            lines += [*wrap(row["text"], width), *wrap(to_paste(row), width, "    ", "    ")]
    return [*lines, "", *wrap(NESTED, width, then="")] if lines else []


def _namespaces(rows: list[NamespaceRow], width: int) -> list[str]:
    lines = table(
        ("namespace", "saved", "loading", "look-ups", "hits", "values", "size"),
        ((row["namespace"], _seconds(row["saved_s"]), _seconds(row["load_s"]),
          number(row["hits"] + row["misses"]), percent(row["hit_rate"]), number(row["entries"]),
          mb(row["mb"])) for row in rows),
        width,
    )  # fmt: skip
    checked = [
        line
        for row in rows
        if row["verified"]
        for line in wrap(f"{row['namespace']}: {verified(row)} were out of date.", width)
    ]
    costly = [
        line
        for row in rows
        if row["costs_more"]
        for line in wrap(
            f"{row['namespace']} costs more than it saves: {row['costs_more']}.", width
        )
    ]
    warmed = [
        line
        for row in rows
        if row["warmed"]
        for line in wrap(
            f"{row['namespace']}: {number(row['warmed'])} loaded before a call.", width
        )
    ]
    faults = _faults([(row["namespace"], row["fault"]) for row in rows], width)
    return lines + faults + costly + checked + warmed


def _faults(rows: Iterable[tuple[str, str | None]], width: int) -> list[str]:
    return [
        line
        for name, fault in rows
        if fault
        for line in wrap(f"{name} never hits: {fault}.", width)
    ]


def _observed(rows: list[ObservedCacheRow], width: int) -> list[str]:
    lines = table(
        ("cache", "look-ups", "hits", "at most", "writes", "saved"),
        ((row["cache"], number(row["hits"] + row["misses"]), percent(row["hit_rate"]),
          percent(row["attainable_rate"]), number(row["writes"]), _seconds(row["saved_s"]))
         for row in rows),
        width,
    )  # fmt: skip
    return lines + _faults([(row["cache"], row["fault"]) for row in rows], width)


def _seconds(seconds: float | None) -> str:
    return NONE if seconds is None else duration(seconds * 1000)


def _per_user(rows: list[UnkeyedReadsRow], width: int) -> list[str]:
    lines: list[str] = []
    for row in rows:
        where = f" in {row['method']} {row['endpoint']}" if row["endpoint"] else ""
        results = count(row["count"], "result was", "results were")
        lines += wrap(f"{row['text']} {results} not cached{where}. {row['recommendation']}", width)
    return lines


def _room(report: CacheReport, width: int) -> list[str]:
    if not report["namespaces"]:
        return []
    lines = table(
        ("worker", "in use", "bound", "share"),
        ((f"{row['host']} {row['pid']}", mb(row["mb"]), mb(row["max_mb"]), percent(row["share"]))
         for row in report["workers"]),
        width,
    )  # fmt: skip
    total = report["total"]
    sizes = [f"{rate} at {size}" for size, rate in other_sizes(total)]
    others = f"By simulation: {percent(total['hit_rate'])} hits now, {', '.join(sizes)}."
    return [
        *lines, *([""] if lines else []), *wrap(evicted(total), width, then=""),
        *(wrap(others, width, then="") if sizes else []),
    ]  # fmt: skip
