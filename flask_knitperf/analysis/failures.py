"""Endpoints that always fail, grouped by the status and the exception with which they do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .endpoints import Endpoint
from .findings import Finding
from .habits import UNAVAILABLE

_ON_PURPOSE = (
    "The application answers 501 or 503 by its own decision: install or configure what it needs "
    "there, or remove the route."
)


class FailureGroup(NamedTuple):
    """Endpoints that fail with the same status and the same exception.

    Attributes:
        text: their number, status, exception and line: ``20 × 500 KeyError at shop/x.py:12``.
        advice: what to do.
        rows: the endpoints, those with most failures first.
    """

    text: str
    advice: str
    rows: list[Endpoint]


class _Reason(NamedTuple):
    """Most frequent reason of an endpoint's failures."""

    status: str
    exception: str
    where: str | None

    @property
    def text(self) -> str:
        at = f" at {self.where}" if self.where else ""
        return " ".join(word for word in (self.status, self.exception) if word) + at


def failure_groups(failing: Iterable[tuple[Endpoint, Finding]]) -> list[FailureGroup]:
    """Return endpoints by the reason of their failures, the largest group first.

    Args:
        failing: endpoints with their findings of ``LOW_SUCCESS_RATE``.
    """
    groups: dict[_Reason, list[tuple[Endpoint, Finding]]] = {}
    for row, finding in failing:
        groups.setdefault(_reason(row, finding), []).append((row, finding))
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0].text))
    return [_group(reason, members) for reason, members in ordered]


def _reason(row: Endpoint, finding: Finding) -> _Reason:
    codes = row.reading.failed
    status = max(codes, key=lambda code: (codes[code], code), default="")
    if status in UNAVAILABLE or not finding.why:
        return _Reason(status or "killed", "", None)
    cause = finding.why[0]
    return _Reason(status, cause.detail, cause.where)


def _group(reason: _Reason, members: list[tuple[Endpoint, Finding]]) -> FailureGroup:
    rows = sorted((row for row, _ in members), key=lambda row: (-row.failures, row.endpoint))
    advice = _ON_PURPOSE if reason.status in UNAVAILABLE else members[0][1].recommendation
    return FailureGroup(f"{len(rows):,} × {reason.text}", advice, rows)
