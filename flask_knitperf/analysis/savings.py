"""Time that following an advice saves: its price is known before any work is done.

One rule holds for all findings: it is the time between the first line of the avoidable work and its end,
with everything that this work calls. It is never more than the time of the endpoint, and of several
findings on the same time one has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from .endpoints import Endpoint

Basis = Literal["n_plus_one", "duplicates", "file_read", "gc", "sql", "cache", "time"]
"""Time that a finding is about; two findings on one endpoint with the same basis share it."""


class Avoidable(NamedTuple):
    """Avoidable work as a share of an endpoint's time.

    Attributes:
        basis: the time that it is part of.
        share: 0 to 1.
        at_most: whether some of it may be left, since the advice makes the work smaller.
    """

    basis: Basis
    share: float
    at_most: bool = False


class Saving(NamedTuple):
    """Time in a window that following an advice saves.

    Attributes:
        seconds: total.
        ms_per_request: mean.
        share: of the endpoint's time, 0 to 1.
        at_most: whether it is an upper bound.
    """

    seconds: float
    ms_per_request: float
    share: float
    at_most: bool = False


def savings(row: Endpoint, claims: Sequence[Avoidable | None]) -> list[Saving | None]:
    """Return the savings of the findings on one endpoint.

    Args:
        row: the endpoint.
        claims: avoidable work of each finding, ``None`` where none is known; that of an earlier one
            takes precedence.
    """
    claimed: set[Basis] = set()
    room, result = 1.0, list[Saving | None]()
    for claim in claims:
        if claim is None or claim.basis in claimed or not row.count:
            result.append(None)
            continue
        claimed.add(claim.basis)
        share = min(room, claim.share)
        room -= share
        seconds = share * row.time_spent_s
        result.append(Saving(seconds, seconds / row.count * 1000, share, claim.at_most))
    return result
