"""Cards of a report as a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..analysis.cards import Card, Point, Source
from ..analysis.causes import Cause
from ..analysis.findings import Finding
from ..analysis.savings import Saving
from .values import rounded

if TYPE_CHECKING:
    from .documents import cards as types

SourceText = Callable[[str], str | None]
"""Returns the text of the source line at ``file:line``, ``None`` where it is not known."""


def card_rows(
    cards: Sequence[Card], findings: Sequence[Finding], source_text: SourceText
) -> list[types.CardRow]:
    """Return the rows of cards.

    Args:
        cards: of :func:`..analysis.cards.cards`.
        findings: those that the cards merge, in the order of the report.
        source_text: of the process that builds the report.
    """
    positions = {id(finding): number for number, finding in enumerate(findings)}
    return [
        {
            "kind": card.kind,
            "severity": card.severity,
            "title": card.title,
            "points": [_point(point) for point in card.points],
            "endpoints": [
                {"endpoint": one.row.endpoint, "method": one.row.method,
                 "share": rounded(one.share, 4), "time_spent_s": rounded(one.row.time_spent_s)}
                for one in card.endpoints
            ],
            "findings": sorted(positions[id(finding)] for finding in card.findings),
            "causes": [cause_row(cause) for cause in card.causes],
            "source": None if card.source is None else _source(card.source, source_text),
            "time_spent_s": rounded(card.time_spent_s),
            "saving_s": rounded(card.saving_s),
            "at_most": card.at_most,
        }
        for card in cards
    ]  # fmt: skip


def cause_row(cause: Cause) -> types.CauseRow:
    """Return the row of one cause."""
    return {
        "cause": cause.cause, "share": cause.share, "detail": cause.detail, "where": cause.where
    }  # fmt: skip


def saving_row(saving: Saving | None) -> types.Saving | None:
    """Return the row of time that following an advice saves, if any."""
    if saving is None:
        return None
    return {
        "seconds": rounded(saving.seconds),
        "ms_per_request": rounded(saving.ms_per_request),
        "share": rounded(saving.share, 4),
        "at_most": saving.at_most,
    }


def _point(point: Point) -> types.PointRow:
    finding = point.finding
    return {
        "type": None if finding is None else finding.type,
        "text": point.text,
        "recommendation": point.recommendation,
        "observed": None if finding is None else rounded(finding.observed),
        "threshold": None if finding is None else rounded(finding.threshold),
        "samples": None if finding is None else finding.samples,
        "confidence": None if finding is None else finding.confidence,
        "saving": None if finding is None else saving_row(finding.saving),
    }


def _source(source: Source, source_text: SourceText) -> types.SourceRow:
    return {
        "where": source.where,
        "text": source_text(source.where),
        "function": source.function,
        "calls": source.calls,
        "share": rounded(source.share, 4),
    }
