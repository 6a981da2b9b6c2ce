"""Hooks that run before views, by the time that they take of all requests.

A hook is a small part of each endpoint and may be a large one of the application: it is summed over all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..core.clock import NS_PER_S
from ..metrics.catalogue import PartKind
from .endpoints import Endpoint

MIN_HOOK_SHARE = 0.02  # of the time of all requests, below which a hook is not reported
MIN_HOOK_RUNS = 100  # below which it is not either
_PREFIX = f"{PartKind.HOOK}:"


class Hook(NamedTuple):
    """Time of one hook, over all endpoints.

    Attributes:
        name: its function.
        share: of the time of all requests, 0 to 1.
        seconds: total.
        runs: number of runs that were timed.
        rows: endpoints before which it ran, with its share of their time; the largest total first.
    """

    name: str
    share: float
    seconds: float
    runs: int
    rows: list[tuple[Endpoint, float]]


def hooks(rows: Iterable[Endpoint]) -> list[Hook]:
    """Return the hooks that take a notable share of the time of all requests, the largest first."""
    known = list(rows)
    whole = sum(row.every.total for row in known)
    by_name: dict[str, list[tuple[Endpoint, float, int]]] = {}
    for row in known:
        for part in row.parts:
            if part.name.startswith(_PREFIX):
                uses = by_name.setdefault(part.name.removeprefix(_PREFIX), [])
                uses.append((row, part.share, part.count))
    timed = [_hook(name, uses, whole) for name, uses in by_name.items()] if whole > 0 else []
    notable = [one for one in timed if one.share >= MIN_HOOK_SHARE and one.runs >= MIN_HOOK_RUNS]
    return sorted(notable, key=lambda one: (-one.share, one.name))


def _hook(name: str, uses: list[tuple[Endpoint, float, int]], whole: float) -> Hook:
    uses.sort(key=lambda use: -use[1] * use[0].every.total)
    total = sum(share * row.every.total for row, share, _ in uses)
    return Hook(
        name,
        min(1.0, total / whole),
        total / NS_PER_S,
        sum(runs for _, _, runs in uses),
        [(row, share) for row, share, _ in uses],
    )
