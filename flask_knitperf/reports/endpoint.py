"""Why one endpoint is slow: everything that was measured of it, on one page or one screen."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..analysis.hot_lines import change, difference, whole
from ..analysis.single_requests import requests
from ..core.errors import KnitPerfError
from ..metrics.stack_trie import Trie, Tries
from ..storage.exemplars import Exemplar

SCHEMA = "flask-knitperf/why/1"
Kinds = dict[str, Trie]
"""Stacks of one endpoint, by kind of requests."""


class Opened(NamedTuple):
    """One endpoint opened up.

    Attributes:
        document: what is known of it, as JSON values.
        kinds: its stacks.
        before: its stacks in the window that it is compared with, ``None`` without one.
    """

    document: dict[str, Any]
    kinds: Kinds
    before: Trie | None = None


def why(
    report: Mapping[str, Any],
    tries: Tries | None,
    kept: Iterable[Exemplar] | None,
    endpoint: str,
    method: str | None = None,
) -> Opened:
    """Return what a report and sampled stacks say about one endpoint, and those stacks.

    Args:
        report: of :func:`..analysis.report.report`.
        tries: sampled stacks of the same window, ``None`` where nobody sampled.
        kept: single requests of the same window, ``None`` where none are kept.
        endpoint: its name.
        method: one method of it, ``None`` for the one that took most time.

    Returns:
        The document is ``{schema, window, endpoint, method, findings[], row, difference[], sampled,
        requests{latest[], slowest[]}, keeps_requests, against}``.

    Raises:
        KnitPerfError: nothing was measured of it.
    """
    rows = [row for row in report["endpoints"] if row["endpoint"] == endpoint]
    rows = [row for row in rows if method in (None, row["method"])]
    if not rows:
        raise KnitPerfError(_unknown(endpoint, method, report["endpoints"]))
    row = max(rows, key=lambda each: each["time_spent_s"])
    kinds = (tries or {}).get((endpoint, row["method"]), {})
    document = {
        "schema": SCHEMA,
        "window": dict(report["window"]),
        "endpoint": endpoint,
        "method": row["method"],
        "findings": [
            finding for finding in report["bottlenecks"]
            if (finding["endpoint"], finding["method"]) == (endpoint, row["method"])
        ],
        "row": row,
        "difference": difference(kinds),
        "sampled": tries is not None,
        "requests": requests(kept or (), row),
        "keeps_requests": kept is not None,
        "against": None,
    }  # fmt: skip
    return Opened(document, kinds)


def against(opened: Opened, report: Mapping[str, Any], tries: Tries | None) -> Opened:
    """Return an endpoint that was opened up, compared with another window.

    Args:
        opened: of :func:`why`.
        report: of the window to compare with.
        tries: stacks of that window.

    Returns:
        The document with ``against``: ``{window, row, lines[]}``, the row being ``None`` where nothing
        was measured of the endpoint then.
    """
    document = opened.document
    pair = document["endpoint"], document["method"]
    rows = [row for row in report["endpoints"] if (row["endpoint"], row["method"]) == pair]
    row = rows[0] if rows else None
    before = whole((tries or {}).get(pair, {}))
    lines = []
    if row is not None:
        now_ms, before_ms = document["row"]["mean_ms"], row["mean_ms"]
        lines = change(whole(opened.kinds), before, now_ms, before_ms)
    told = {"window": dict(report["window"]), "row": row, "lines": lines}
    return Opened({**document, "against": told}, opened.kinds, before)


def _unknown(endpoint: str, method: str | None, rows: Sequence[Mapping[str, Any]]) -> str:
    names = sorted({str(row["endpoint"]) for row in rows})
    near = difflib.get_close_matches(endpoint, names, 1, 0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    asked = endpoint if method is None else f"{method} {endpoint}"
    return f'no data for "{asked}" in this window{hint}'
