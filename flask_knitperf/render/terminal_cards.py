"""Things to fix first, as terminal text: one paragraph for each card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.units import percent
from . import wording
from .layout import cut, wrap

if TYPE_CHECKING:
    from ..reports.documents import Report
    from ..reports.documents.cards import CardRow, PointRow, SourceRow

MARKS = {"CRITICAL": "!!", "WARNING": "! ", "INFO": "i "}
_INDENT = "   "
_BAR_WIDTH = 40
"""Most columns of a bar, which stands for all of an endpoint's time."""
_FILLS = "█▓▒░·"
"""One for each part of a bar; the last one also for the rest."""


def cards(report: Report, width: int, *, everything: bool) -> list[str]:
    """Return the lines of what to fix first; empty where there is nothing.

    Args:
        report: the report of a window.
        width: columns.
        everything: whether all cards are shown, not the first five only.
    """
    rows = report["cards"] if everything else report["cards"][: wording.MAX_CARDS]
    lines = [line for card in rows for line in ["", *_card(card, width)]]
    if more := wording.more_cards(report, len(rows)):
        lines += ["", f"{more}: add --all to the command."]
    return lines[1:]


def _card(card: CardRow, width: int) -> list[str]:
    lines = wrap(f"{card['title']}.", width, f"{MARKS[card['severity']]} ", _INDENT)
    lines += _bar(card, width)
    if card["source"] is not None:
        lines += _source(card["source"], width)
    for point in card["points"]:
        lines += _point(point, width)
    if card["endpoints"]:
        names = ", ".join(filter(None, (wording.named(card), wording.price(card))))
        lines += wrap(names, width, _INDENT, _INDENT)
    return lines


def _bar(card: CardRow, width: int) -> list[str]:
    """Return the division of an endpoint's time as one bar, and its legend."""
    causes, columns = card["causes"][: len(_FILLS) - 1], min(_BAR_WIDTH, width - len(_INDENT))
    if not causes:
        return []
    bar, begin = "", 0.0
    for cause, fill in zip(causes, _FILLS, strict=False):
        begin += cause["share"]
        bar += fill * (round(begin * columns) - len(bar))
    legend = ", ".join(
        f"{fill} {percent(cause['share'])} {wording.CAUSES[cause['cause']]}"
        for cause, fill in zip(causes, _FILLS, strict=False)
    )
    return [f"{_INDENT}{bar:{_FILLS[-1]}<{columns}}", *wrap(legend, width, _INDENT, _INDENT)]


def _source(source: SourceRow, width: int) -> list[str]:
    """Return a line of code, its share of the time, the function that it calls, and its text."""
    calls = f", calls {source['calls']}" if source["calls"] else ""
    lines = [cut(f"{_INDENT}{source['where']}: {percent(source['share'])}{calls}", width)]
    if source["text"]:
        lines.append(cut(f"{_INDENT}    {source['text']}", width))
    return lines


def _point(point: PointRow, width: int) -> list[str]:
    lines = wrap(point["text"], width, _INDENT, _INDENT) if point["text"] else []
    if point["recommendation"]:
        advice = " ".join(filter(None, (point["recommendation"], wording.saving(point))))
        lines += wrap(advice, width, f"{_INDENT}→ ", f"{_INDENT}  ")
    if verdict := wording.judged(point):
        lines += wrap(verdict, width, f"{_INDENT}  ", f"{_INDENT}  ")
    return lines
