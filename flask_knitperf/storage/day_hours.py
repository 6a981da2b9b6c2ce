"""Hours of the day that two windows have in common.

A release that has served a morning is not compared with nights: requests of other hours are other ones,
of other sizes, on a machine with other load. So of each window only the parts in those hours are
compared that the other one has a part of too. Hours are whole ones of UTC, and repeat after 24.
"""

from __future__ import annotations

import math

from .windows import Span

MAX_DAYS = 28
"""Number of parts, at most: the latest ones."""
_DAY_S, _HOUR_S = 86_400.0, 3_600.0
_SLOT_S = 10.0  # of the history, whose rows are not divided


def at_hours_of(span: Span, other: Span) -> list[Span]:
    """Return the parts of a span in the hours of the day of another one, in order of time.

    That is all of it where the other one has nearly all hours, and nothing where they have none in
    common.
    """
    begins = math.floor(other.since / _HOUR_S) * _HOUR_S
    ends = math.ceil(other.until / _HOUR_S) * _HOUR_S
    if ends - begins > _DAY_S - _HOUR_S:
        return [span]
    first = math.floor((span.since - ends) / _DAY_S)
    last = math.ceil((span.until - begins) / _DAY_S)
    parts = []
    for day in range(max(first, last - MAX_DAYS), last + 1):
        since = max(span.since, begins + day * _DAY_S)
        until = min(span.until, ends + day * _DAY_S)
        if until - since >= _SLOT_S:
            parts.append(Span(since, until))
    return parts


def seconds_of(parts: list[Span]) -> float:
    """Return the length of all parts together."""
    return sum(until - since for since, until in parts)


def is_whole(parts: list[Span], span: Span) -> bool:
    """Return whether parts of a span are all of it, but for less than a slot of ten seconds."""
    return span.until - span.since - seconds_of(parts) < _SLOT_S
