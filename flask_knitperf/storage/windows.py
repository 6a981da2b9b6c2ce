"""Windows: the observations of the last minutes, of this run, or of the previous run.

A window is the difference of two snapshots of one run. It starts at the newest stored snapshot that is
old enough, so it may start up to a minute early; ``begins`` is its actual start. A window of a whole run
holds everything that the run recorded, whatever time of day that bears.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from ..core.errors import ConfigurationError, StateError
from .runs import check_format, describe, live_runs, runs
from .snapshots import at, difference, origin, points
from .state_dir import Snapshot, read

WindowName = Literal["5m", "1h", "6h", "24h", "7d", "30d", "run", "previous", "span"]
NAMES: tuple[WindowName, ...] = tuple(name for name in get_args(WindowName) if name != "span")
"""Names by which a window is requested; any other span of time by its bounds (:func:`span_of`)."""
SPANS: dict[WindowName, float] = {"5m": 300.0, "1h": 3600.0}
"""Length in seconds of the windows of the latest past, which a run keeps itself."""
LONG_SPANS: dict[WindowName, float] = {
    "6h": 6 * 3600.0, "24h": 86_400.0, "7d": 7 * 86_400.0, "30d": 30 * 86_400.0,
}  # fmt: skip
"""Length in seconds of the windows that come from the history."""


class Window(NamedTuple):
    """Difference of two snapshots, with its bounds in seconds since the epoch.

    Attributes:
        name: as requested.
        begins: its start.
        ends: its end.
        run: name of the run.
        release: of the run.
        snapshot: what was observed.
        is_whole: whether it covers its run from the start.
    """

    name: WindowName
    begins: float
    ends: float
    run: str
    release: str | None
    snapshot: Snapshot
    is_whole: bool = False

    @property
    def since(self) -> float:
        """Time from which single requests and samples belong to it, in seconds since the epoch."""
        return 0.0 if self.is_whole else self.begins

    @property
    def until(self) -> float:
        """Time up to which they belong to it: of a whole run also those of a clock that was ahead."""
        return math.inf if self.is_whole else self.ends


class Span(NamedTuple):
    """Bounds of a window in seconds since the epoch."""

    since: float
    until: float


def span_of(name: str) -> Span | None:
    """Return the bounds in the name of a window, ``None`` if it is not of that form.

    The form is that of ISO 8601: ``2026-11-29T08:00/2026-11-29T12:00``, in UTC without an offset.

    Raises:
        ConfigurationError: a bound is not a time, or the end is not after the start.
    """
    begin, slash, end = str(name).partition("/")  # the API takes any value
    if not slash:
        return None
    try:
        since, until = (_seconds(text) for text in (begin, end))
    except (ValueError, OverflowError):
        raise ConfigurationError("window", name, _ALLOWED) from None
    if not 0 <= since < until < 1e11:
        raise ConfigurationError("window", name, _ALLOWED)
    return Span(since, until)


def is_of_history(name: str) -> bool:
    """Return whether a window is read from the history: that of all hosts which share one."""
    return name in LONG_SPANS or name == "span"


_ALLOWED = (
    f"one of {', '.join(NAMES)}, or two times in ISO 8601 with a slash between them, "
    "the end after the start"
)


def _seconds(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def check(name: str) -> WindowName:
    """Return the validated name of a window.

    Raises:
        ConfigurationError: the name is unknown.
    """
    for window_name in NAMES:
        if name == window_name:
            return window_name
    raise ConfigurationError("window", name, _ALLOWED)


def window(run: Path, name: str, now: float, snapshot: Snapshot | None = None) -> Window:
    """Read one window.

    Args:
        run: the current run.
        name: one of :data:`NAMES`, but none of :data:`LONG_SPANS`.
        now: seconds since the epoch.
        snapshot: that of the current run, if it was read already.

    Raises:
        ConfigurationError: the name is unknown.
        StateError: there is no previous run, another version wrote it, or the window needs the history.
    """
    window_name = check(name)
    if window_name in LONG_SPANS:
        raise StateError(f"a window of {window_name} needs the history (KNITPERF_HISTORY)")
    if window_name == "previous":
        before = list(takewhile(lambda other: other != run, runs(run.parent)))
        if not before:
            raise StateError("there is no previous run: this is the oldest one")
        run, snapshot = check_format(before[-1]), None
    current = read(run) if snapshot is None else snapshot
    begins, base = origin(run)
    if base is None:
        begins = _began(run)
    ends = now
    if window_name == "previous":
        stored = points(run)
        ends = stored[-1][0] if stored else begins
    elif window_name in SPANS and now - SPANS[window_name] > begins:
        start = now - SPANS[window_name]
        earlier = [moment for moment, _ in points(run) if begins <= moment <= start]
        if earlier:
            begins, base = earlier[-1], at(run, start)
    if base is not None:
        current = difference(current, base)
    if window_name != "previous":
        current.degraded += _overlapping(run)
    release = describe(run).get("release")
    return Window(window_name, min(begins, ends), ends, run.name, release, current, base is None)


def _overlapping(run: Path) -> list[str]:
    """Return a sentence about other runs with live servers, if there are any."""
    others = [other.name for other in live_runs(run.parent) if other != run]
    if not others:
        return []
    text = (
        f"other servers of this application are running, in {', '.join(others)}: this report covers "
        f"{run.name} only; if all are workers of one server, set KNITPERF_RELEASE"
    )
    return [text]


def _began(run: Path) -> float:
    return float(describe(run).get("began", 0.0))
