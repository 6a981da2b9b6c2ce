"""Windows that a window is compared with: another window, the week before, a release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..core.errors import StateError
from ..storage.windows import NAMES, Span, Window, WindowName, span_of

LAST_WEEK = "last-week"
"""Name of the same hours a week before."""
_WEEK_S = 7 * 86_400.0


class Past(Protocol):
    """Reads windows of the history; ``current`` is the window of the whole present run."""

    def window(self, name: WindowName, now: float, current: Window) -> Window:
        """Read one of :data:`..storage.windows.LONG_SPANS`."""

    def span(self, span: Span, now: float, current: Window) -> Window:
        """Read any window."""

    def release(self, name: str, now: float) -> Span:
        """Return the time in which a release served."""


def read_reference(
    against: str, now: Window, read: Callable[[str], Window], past: Past | None, clock: float
) -> Window:
    """Read the window that another one is compared with.

    Args:
        against: a window, :data:`LAST_WEEK`, or a release.
        now: the window that is compared.
        read: reads a window by its name.
        past: the history, ``None`` without one.
        clock: the present, in seconds since the epoch.

    Raises:
        ConfigurationError: the window cannot be read.
        StateError: there is no such release, or no history.
        HistoryError: the history cannot be read.
    """
    if against in NAMES or span_of(against) is not None:
        return read(against)
    if past is None:
        raise StateError(f"to compare with {against!r} takes a history (KNITPERF_HISTORY)")
    if against == LAST_WEEK:
        span = Span(now.begins - _WEEK_S, now.ends - _WEEK_S)
        return past.span(span, clock, read("run"))
    span = past.release(against, clock)
    return past.span(span, clock, read("run"))._replace(release=against)
