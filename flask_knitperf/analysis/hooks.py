"""Functions that Flask calls around views, by the time that they take of all requests.

A hook is a small part of each endpoint and may be a large one of the application: it is summed over all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..core.clock import NS_PER_S
from ..metrics.catalogue import HOOKS, PartKind
from .endpoints import Endpoint

MIN_HOOK_SHARE = 0.02  # of the time of all requests, below which a hook is not reported
MIN_HOOK_RUNS = 100  # below which it is not either


class Wording(NamedTuple):
    """Words by which a card describes hooks of one kind.

    Attributes:
        noun: what they are, before their name.
        moment: when they run.
        advice: the repair.
    """

    noun: str
    moment: str
    advice: str


_QUEUE = "Make that function cheaper, or hand its work to a task queue: clients wait for it."
WORDING: dict[PartKind, Wording] = {
    PartKind.HOOK: Wording(
        "hook", "before the view", "Make that hook cheaper, or run it only where it is needed."
    ),
    PartKind.AFTER: Wording("after_request function", "after the view", _QUEUE),
    PartKind.ERROR: Wording("error handler", "after an error", _QUEUE),
    PartKind.TEARDOWN: Wording("teardown function", "at the end of a request", _QUEUE),
}


class Hook(NamedTuple):
    """Time of one hook, over all endpoints.

    Attributes:
        part: name of the part that it is.
        share: of the time of all requests, 0 to 1.
        seconds: total.
        runs: number of runs that were timed.
        rows: endpoints before which it ran, with its share of their time; the largest total first.
    """

    part: str
    share: float
    seconds: float
    runs: int
    rows: list[tuple[Endpoint, float]]

    @property
    def name(self) -> str:
        """Its function."""
        return self.part.partition(":")[2]

    @property
    def wording(self) -> Wording:
        """Words by which it is described."""
        return wording(self.part)


def is_hook(part: str) -> bool:
    """Return whether a part is a function that Flask calls around a view."""
    return part.partition(":")[0] in HOOKS


def wording(part: str) -> Wording:
    """Return the words for a hook, by the name of its part."""
    return WORDING[PartKind(part.partition(":")[0])]


def hooks(rows: Iterable[Endpoint]) -> list[Hook]:
    """Return the hooks that take a notable share of the time of all requests, the largest first."""
    known = list(rows)
    whole = sum(row.every.total for row in known)
    by_name: dict[str, list[tuple[Endpoint, float, int]]] = {}
    for row in known:
        for part in row.parts:
            if is_hook(part.name):
                uses = by_name.setdefault(part.name, [])
                uses.append((row, part.share, part.count))
    timed = [_hook(name, uses, whole) for name, uses in by_name.items()] if whole > 0 else []
    notable = [one for one in timed if one.share >= MIN_HOOK_SHARE and one.runs >= MIN_HOOK_RUNS]
    return sorted(notable, key=lambda one: (-one.share, one.part))


def _hook(part: str, uses: list[tuple[Endpoint, float, int]], whole: float) -> Hook:
    uses.sort(key=lambda use: -use[1] * use[0].every.total)
    total = sum(share * row.every.total for row, share, _ in uses)
    return Hook(
        part,
        min(1.0, total / whole),
        total / NS_PER_S,
        sum(runs for _, _, runs in uses),
        [(row, share) for row, share, _ in uses],
    )
