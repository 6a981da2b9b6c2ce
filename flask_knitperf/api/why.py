"""Why one endpoint is slow: everything that was measured of it, on one page or one screen."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ..analysis.lines import difference
from ..core.errors import KnitPerfError
from ..core.stacks import Trie, Tries

SCHEMA = "flask-knitperf/why/1"
Kinds = dict[str, Trie]
"""Stacks of one endpoint, by kind of requests."""


def why(
    report: Mapping[str, Any], tries: Tries | None, endpoint: str, method: str | None = None
) -> tuple[dict[str, Any], Kinds]:
    """Return what a report and sampled stacks say about one endpoint, and those stacks.

    Args:
        report: of :func:`.analysis.report.report`.
        tries: sampled stacks of the same window, ``None`` where nobody sampled.
        endpoint: its name.
        method: one method of it, ``None`` for the one that took most time.

    Returns:
        ``{schema, window, endpoint, method, findings[], row, difference[], sampled}``, and the tries
        of slow and of other requests.

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
    }  # fmt: skip
    return document, kinds


def _unknown(endpoint: str, method: str | None, rows: Sequence[Mapping[str, Any]]) -> str:
    names = sorted({str(row["endpoint"]) for row in rows})
    near = difflib.get_close_matches(endpoint, names, 1, 0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    asked = endpoint if method is None else f"{method} {endpoint}"
    return f"nothing was measured of {asked} in this window{hint}"
