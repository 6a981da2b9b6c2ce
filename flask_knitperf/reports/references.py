"""Windows that a window is compared with: another window, the week before, a release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..core.errors import StateError
from ..storage.day_hours import at_hours_of, is_whole, seconds_of
from ..storage.windows import NAMES, Span, Window, WindowName, is_of_history, span_of

if TYPE_CHECKING:
    from .documents.comparison import Hours

LAST_WEEK = "last-week"
"""Name of the same hours a week before."""
_MIN_COMMON = 0.5  # of the shorter of two windows, at the hours of the day of both
_MIN_S = 60.0  # of a window whose hours matter
_WEEK_S = 7 * 86_400.0


class Past(Protocol):
    """Reads windows of the history; ``current`` is the window of the whole present run."""

    def window(self, name: WindowName, now: float, current: Window) -> Window:
        """Read one of :data:`..storage.windows.LONG_SPANS`."""

    def parts(self, parts: Sequence[Span], now: float, current: Window) -> Window:
        """Read any window, or parts of one."""

    def release(self, name: str, now: float) -> Span:
        """Return the time in which a release served."""


class Pair(NamedTuple):
    """Two windows that are compared.

    Attributes:
        now: the window.
        before: the one that it is compared with.
        hours: whether they have the same hours of the day.
    """

    now: Window
    before: Window
    hours: Hours


class SpanPair(NamedTuple):
    """Parts of two windows; see :class:`Pair`."""

    now: list[Span]
    before: list[Span]
    hours: Hours


def same_hours(now: Span, before: Span) -> SpanPair:
    """Return the parts of two windows at the hours of the day that they have in common.

    Where that is less than half of the shorter one, they are compared as they are; so are a few seconds.
    """
    parts = at_hours_of(now, before), at_hours_of(before, now)
    shorter = min(now.until - now.since, before.until - before.since)
    if shorter < _MIN_S:
        return SpanPair([now], [before], "all")
    if min(map(seconds_of, parts)) < _MIN_COMMON * shorter:
        return SpanPair([now], [before], "different")
    are_whole = is_whole(parts[0], now) and is_whole(parts[1], before)
    return SpanPair(*parts, "all" if are_whole else "common")


def read_pair(
    now: Window, against: str, read: Callable[[str], Window], past: Past | None, clock: float
) -> Pair:
    """Read the window that another one is compared with, and of both the hours of the day of both.

    Args:
        now: the window that is compared.
        against: a window, :data:`LAST_WEEK`, or a release.
        read: reads a window by its name.
        past: the history, ``None`` without one.
        clock: the present, in seconds since the epoch.

    Raises:
        ConfigurationError: the window cannot be read.
        StateError: there is no such release, or no history.
        HistoryError: the history cannot be read.
    """
    before = read(against) if against in NAMES or span_of(against) is not None else None
    span = _span(before) if before is not None else _past_span(now, against, past, clock)
    spans = same_hours(_span(now), span)
    if past is None:
        assert before is not None
        return Pair(now, before, "all" if spans.hours == "all" else "different")
    if spans.hours == "common" and not (
        _can_read(spans.now, now) and (before is None or _can_read(spans.before, before))
    ):
        spans = SpanPair([_span(now)], [span], "different")

    def part(window: Window, parts: list[Span]) -> Window:
        if is_whole(parts, _span(window)):
            return window
        cut = past.parts(parts, clock, read("run"))
        return cut._replace(name=window.name, run=window.run, release=window.release)

    if before is not None:
        return Pair(part(now, spans.now), part(before, spans.before), spans.hours)
    before = past.parts(spans.before, clock, read("run"))
    if against != LAST_WEEK:
        before = before._replace(release=against)
    return Pair(part(now, spans.now), before, spans.hours)


def _span(window: Window) -> Span:
    return Span(window.begins, window.ends)


def _past_span(now: Window, against: str, past: Past | None, clock: float) -> Span:
    """Return the bounds of the week before a window, or of a release."""
    if past is None:
        raise StateError(f"to compare with {against!r} takes a history (KNITPERF_HISTORY)")
    if against == LAST_WEEK:
        return Span(now.begins - _WEEK_S, now.ends - _WEEK_S)
    return past.release(against, clock)


def _can_read(parts: list[Span], window: Window) -> bool:
    """Return whether these parts of a window can be read: the files of a run have no hours."""
    return is_of_history(window.name) or is_whole(parts, _span(window))
