"""The resolutions at which history is kept, and the slots of time of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

HOUR = 3600
DAY = 24 * HOUR


class Resolution(NamedTuple):
    """Length of a slot and time for which its rows are kept, in seconds."""

    seconds: int
    kept_s: int

    def slot(self, moment: float) -> int:
        """Return the start of the slot that a time lies in, in seconds since the epoch."""
        return int(moment // self.seconds) * self.seconds


RESOLUTIONS = (
    Resolution(10, 6 * HOUR), Resolution(60, 7 * DAY), Resolution(600, 10 * DAY),
    Resolution(HOUR, 400 * DAY),
)  # fmt: skip
"""The finest first; each one is a multiple of the one before, and is kept longer."""
FINEST, MINUTES, TEN_MINUTES, HOURS = RESOLUTIONS
COARSER = RESOLUTIONS[1:]


class Stretch(NamedTuple):
    """Slots of one resolution, from a start up to an end, in seconds since the epoch."""

    resolution: Resolution
    begins: int
    ends: int


def stretches(
    since: float, until: float, now: float, complete: Mapping[int, float] | None = None,
    coarsest: Resolution = HOURS,
) -> list[Stretch]:  # fmt: skip
    """Return the slots that cover a window, each moment once: whole hours from hours, edges from finer.

    Slots that the window cuts are included, so it is widened: by less than ten seconds at either end, or
    by less than the length of a coarser slot where finer rows are no longer kept.

    Args:
        since: start of the window, in seconds since the epoch.
        until: its end, at most the time of the latest write: slots before it are complete.
        now: the present.
        complete: time up to which coarser slots are complete, by the seconds of their resolution.
        coarsest: the coarsest resolution that is used while finer rows are kept.

    Returns:
        Stretches in order of time.
    """
    if since >= until:
        return []
    level = RESOLUTIONS.index(coarsest)
    while now - since > RESOLUTIONS[level].kept_s and level < len(RESOLUTIONS) - 1:
        level += 1
    return _cover(level, since, until, now, complete or {})


def _cover(
    level: int, begins: float, ends: float, now: float, complete: Mapping[int, float]
) -> list[Stretch]:
    """Return the slots of a resolution and of finer ones that cover a window."""
    resolution = RESOLUTIONS[level]
    finer = RESOLUTIONS[level - 1] if level else None
    first, last = resolution.slot(begins), -resolution.slot(-ends)
    if finer is not None and now - begins <= finer.kept_s:
        first = -resolution.slot(-begins)
    if finer is not None and now - resolution.slot(ends) <= finer.kept_s:
        last = resolution.slot(ends)
        last = min(last, resolution.slot(complete.get(resolution.seconds, last)))
    if first >= last:
        return _cover(level - 1, begins, ends, now, complete)
    return [
        *(_cover(level - 1, begins, first, now, complete) if begins < first else ()),
        Stretch(resolution, first, last),
        *(_cover(level - 1, last, ends, now, complete) if last < ends else ()),
    ]
