"""Noisy neighbours: endpoints that computed beside the slow requests of others in their worker.

Where slow requests end, those that run beside them still are noted with the overlap. An overlap counts
as much as the neighbour computes, for one that sleeps holds no GIL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..core.clock import NS_PER_S
from ..metrics.catalogue import NeighbourKey, NoDetail
from ..metrics.instruments import Note
from .endpoints import Endpoint

UNKNOWN = 0.5
"""Share of CPU of a neighbour of which that was not measured."""
_FLOOR = 0.01

NeighbourNote = Note[NeighbourKey, NoDetail]


def weights(
    rows: Iterable[Endpoint], notes: Iterable[NeighbourNote]
) -> dict[str, dict[str, float]]:
    """Return by victim how much each neighbour computed beside it, in seconds.

    Args:
        rows: of :func:`.endpoints.endpoints`, for how much of their time they compute.
        notes: of the window.
    """
    shares: dict[str, float] = {}
    for row in rows:
        if row.cpu_share is not None:
            shares[row.endpoint] = max(shares.get(row.endpoint, 0.0), row.cpu_share)
    by_victim: dict[str, dict[str, float]] = {}
    for note in notes:
        victim, culprit = note.key
        weight = note.weight * (_FLOOR + shares.get(culprit, UNKNOWN))
        those = by_victim.setdefault(victim, {})
        those[culprit] = those.get(culprit, 0.0) + weight / NS_PER_S
    return by_victim


def culprit(victim: str, beside: Mapping[str, float]) -> tuple[str | None, float | None]:
    """Return the endpoint that computed most beside another one, and its share."""
    others = {name: weight for name, weight in beside.items() if name != victim} or beside
    if not others:
        return None, None
    name = max(others, key=lambda other: (others[other], other))
    whole = sum(beside.values())
    return name, others[name] / whole if whole else None


class Neighbour(NamedTuple):
    """An endpoint that computed while slow requests of another one ran in its worker.

    Attributes:
        victim: the endpoint with the slow requests.
        culprit: the one that computed.
        computed_s: time that the culprit computed during them.
        share: of all that computed during them, 0 to 1.
    """

    victim: str
    culprit: str
    computed_s: float
    share: float


def neighbours(rows: Iterable[Endpoint], notes: Iterable[NeighbourNote]) -> list[Neighbour]:
    """Return the pairs of endpoints of which one slows the other, largest ``computed_s`` first."""
    pairs = []
    for victim, concurrent in weights(rows, notes).items():
        whole = sum(concurrent.values())
        pairs += [
            Neighbour(victim, name, weight, weight / whole if whole else 0.0)
            for name, weight in concurrent.items()
        ]
    return sorted(pairs, key=lambda pair: (-pair.computed_s, pair.victim, pair.culprit))
