"""Values of the cards of the report page: what to fix first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.units import duration, percent
from . import Values, wording

if TYPE_CHECKING:
    from ..reports.documents import Report
    from ..reports.documents.cards import CardRow, CauseRow, PointRow

_MAX_CAUSES = 6
"""Parts of a stacked bar; the style sheet has as many colours."""
_COLORS = {"own_cpu": 0, "cpu_queue": 1, "waiting": 2, "sql": 3, "file_read": 4, "gc": 5}
"""Colour of a cause, the same on every card unless another cause of the card has it."""


def cards(document: Report, trends: Mapping[tuple[str, str], Values | None]) -> Values:
    """Return the cards of a report: ``{first[], more[], all}``, the text of the link to all.

    Args:
        document: the report.
        trends: values of the p95 over time, by endpoint and method.
    """
    rows = [_card(card, trends) for card in document["cards"]]
    first, more = rows[: wording.MAX_CARDS], rows[wording.MAX_CARDS :]
    return {"first": first, "more": more, "all": wording.more_cards(document, len(first))}


def _card(card: CardRow, trends: Mapping[tuple[str, str], Values | None]) -> Values:
    source, ends = card["source"], card["endpoints"]
    is_one = card["kind"] == "endpoint" and ends
    return {
        **card,
        "level": wording.SEVERITIES[card["severity"]],
        "types": list(dict.fromkeys(point["type"] for point in card["points"] if point["type"])),
        "causes": _stacked(card["causes"]),
        "source": source and {**source, "percent": percent(source["share"])},
        "points": [_point(point) for point in card["points"]],
        "spent": duration(card["time_spent_s"] * 1000) if card["time_spent_s"] > 0 else "",
        "price": wording.price(card),
        "trend": trends.get((ends[0]["endpoint"], ends[0]["method"])) if is_one else None,
        "ends": [
            {**row,
             "percent": "" if row["share"] is None else percent(row["share"])}
            for row in ends
        ],
    }  # fmt: skip


def _point(point: PointRow) -> Values:
    return {**point, "judged": wording.judged(point), "saving": wording.saving(point)}


def _stacked(causes: list[CauseRow]) -> list[Values]:
    """Return causes as parts of one bar that is 100 wide."""
    parts, begin, colors = [], 0.0, list(range(_MAX_CAUSES))
    for cause in causes[:_MAX_CAUSES]:
        width = cause["share"] * 100
        number = _COLORS.get(cause["cause"], _MAX_CAUSES - 1)
        number = colors.pop(colors.index(number) if number in colors else 0)
        parts.append({
            **cause, "x": round(begin, 2), "width": round(width, 2), "number": number,
            "name": wording.CAUSES[cause["cause"]], "percent": percent(cause["share"]),
        })  # fmt: skip
        begin += width
    return parts
