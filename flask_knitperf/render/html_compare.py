"""Values of the page of comparisons: verdicts, and the interval of each change as a bar."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..analysis.phrases import title
from ..core.units import count, duration, number, ratio, size
from ..reports.references import LAST_WEEK
from . import Values
from .html_times import period
from .wording import CHANGES, compared_hours, too_few

if TYPE_CHECKING:
    from ..reports.documents import ComparisonReport
    from ..reports.documents.comparison import ComparisonRow
    from ..reports.documents.endpoint import FigureName, FigureVerdict, ReleaseChange

WIDTH = 120.0
"""Width of a bar in its coordinates; its middle is an unchanged p95."""
_MOST = 4.0
"""Ratio at the right end of a bar, and its inverse at the left one."""
_TONES = {"slower": "bad", "faster": "good", "same": "good"}


def compare(document: ComparisonReport) -> Values:
    """Return the values of the page."""
    rows = document["rows"]
    counts = {change: sum(row["change"] == change for row in rows) for change in CHANGES}
    now, before = document["window"], document["against"]
    return {
        "now": period(now["from"], now["to"]), "before": period(before["from"], before["to"]),
        "release": now["release"], "release_before": before["release"],
        "summary": [
            {"text": count(n, "endpoint"), "change": CHANGES[change]}
            for change, n in counts.items() if n
        ],
        "rows": [_row(row) for row in rows], "note": too_few(rows), "width": WIDTH,
        "hours": compared_hours(document["hours"]), "releases": document["releases"],
    }  # fmt: skip


_MAX_CHANGED = 3
_CHANGED = ("slower", "faster", "more rows")
"""Verdicts whose endpoints the overview names."""
_RELEASE_CHANGES = {**CHANGES, "gone": "not called since"}
"""Verdicts on a release: it may have served for a few minutes."""


def release_changes(document: ComparisonReport | None) -> Values | None:
    """Return the changes of a release for the overview: a few endpoints by name, the others counted."""
    if document is None or not document["rows"]:
        return None
    rows = document["rows"]
    named = [row for row in rows if row["change"] in _CHANGED][:_MAX_CHANGED]
    rest = [row["change"] for row in rows if row not in named]
    return {
        "release": document["window"]["release"], "before": document["against"]["release"],
        "hours": compared_hours(document["hours"]), "rows": [_row(row) for row in named],
        "rest": [
            {"text": count(rest.count(change), "endpoint"), "change": text}
            for change, text in _RELEASE_CHANGES.items() if change in rest
        ],
    }  # fmt: skip


_FIGURES: dict[FigureName, tuple[str, Callable[[float | None], str]]] = {
    "p95": ("p95", duration), "queries": ("Queries", number), "database": ("Database", duration),
    "cpu": ("CPU time", duration), "bytes_out": ("Bytes sent", size),
    "files_read": ("Files read", number), "rows": ("Rows", number),
}  # fmt: skip
"""Name and form of each figure of a request."""
_VERDICTS: dict[FigureVerdict, tuple[str, str]] = {
    "more": ("more", "warning"), "less": ("less", "good"), "same": ("same", "none"),
    "too few": ("too few", "none"),
}  # fmt: skip


def release_change(document: ReleaseChange | None) -> Values | None:
    """Return the changes of one endpoint in a release; figures that neither release has are left out."""
    if document is None:
        return None
    return {
        "release": document["release"], "before": document["before"],
        "counts": f"{number(document['count_before'])} → {number(document['count'])}",
        "hours": compared_hours(document["hours"]),
        "rows": [
            {"name": _FIGURES[row["name"]][0], "before": _FIGURES[row["name"]][1](row["before"]),
             "now": _FIGURES[row["name"]][1](row["now"]), "change": _VERDICTS[row["change"]][0],
             "tone": _VERDICTS[row["change"]][1]}
            for row in document["figures"] if row["before"] or row["now"]
        ],
    }  # fmt: skip


def references(
    document: ComparisonReport, against: str, *, has_history: bool
) -> list[tuple[str, str]]:
    """Return the references of a window with their names for readers."""
    offered = [("previous", "the previous run")]
    if has_history:
        offered.insert(0, (LAST_WEEK, "the week before"))
        offered += [(name, f"release {name}") for name in document["releases"]]
    if against not in dict(offered):
        offered.append((against, against))
    return offered


def _row(row: ComparisonRow) -> Values:
    change = row["change"]
    return {
        "endpoint": row["endpoint"], "method": row["method"], "title": title(row["endpoint"]),
        "change": CHANGES[change], "tone": _TONES.get(change, "none"),
        "before": duration(row["p95_before_ms"]), "now": duration(row["p95_ms"]),
        "counts": f"{number(row['count_before'])} → {number(row['count'])}",
        "ratio": ratio(row["ratio"]), "interval": _interval(row), "bar": _bar(row),
    }  # fmt: skip


def _interval(row: ComparisonRow) -> str:
    """Return the interval of a ratio, empty where it is unknown."""
    low, high = row["ratio_low"], row["ratio_high"]
    if row["ratio"] is None:
        return ""
    if low is None and high is None:
        return "too few for an interval"
    if high is None:
        return f"{ratio(low)} or more"
    return f"{ratio(high)} or less" if low is None else f"{ratio(low)} to {ratio(high)}"


def _bar(row: ComparisonRow) -> Values | None:
    """Return the places of a ratio and its interval on a logarithmic scale."""
    if not row["ratio"] or (row["ratio_low"] is None and row["ratio_high"] is None):
        return None
    low, high = row["ratio_low"] or 1 / _MOST, row["ratio_high"] or _MOST
    left, right = _place(low), _place(high)
    return {"x": left, "width": max(1.0, round(right - left, 1)), "at": _place(row["ratio"])}


def _place(value: float) -> float:
    bounded = min(_MOST, max(1 / _MOST, value))
    return round((math.log(bounded) / math.log(_MOST) + 1) / 2 * WIDTH, 1)
