"""Times of day that two windows have in common.

A release that has served a morning is not compared with nights: requests of other hours are other ones,
of other sizes, on a machine with other load. So of each window only the parts at those times of day are
compared that the other one has too. Times of day repeat every 24 hours.
"""

from __future__ import annotations

import math

from .windows import Span

MAX_DAYS = 28
"""Number of parts, at most: the latest ones."""
_DAY_S, _HOUR_S = 86_400.0, 3_600.0
_SLOT_S = 10.0  # of the history, whose rows are not divided


def at_hours_of(span: Span, other: Span) -> list[Span]:
    """Return the parts of a span at the times of day of another one, in order of time.

    That is all of it where the other one lasts nearly a day or longer, and nothing where they have no
    time of day in common.
    """
    length = other.until - other.since
    if length > _DAY_S - _HOUR_S:
        return [span]
    first = math.floor((span.since - other.until) / _DAY_S)
    last = math.ceil((span.until - other.since) / _DAY_S)
    parts = []
    for day in range(max(first, last - MAX_DAYS), last + 1):
        since = max(span.since, other.since + day * _DAY_S)
        until = min(span.until, other.until + day * _DAY_S)
        if until - since >= _SLOT_S:
            parts.append(Span(since, until))
    return parts


def seconds_of(parts: list[Span]) -> float:
    """Return the length of all parts together."""
    return sum(until - since for since, until in parts)


def is_whole(parts: list[Span], span: Span) -> bool:
    """Return whether parts of a span are all of it, but for less than a slot of ten seconds."""
    return span.until - span.since - seconds_of(parts) < _SLOT_S
