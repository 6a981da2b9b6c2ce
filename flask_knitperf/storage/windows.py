"""Windows: what happened in the last minutes, in this run, or in the run before.

A window is the difference of two snapshots of one run. Its beginning is the newest kept snapshot that
is not younger than asked for, so a window may begin up to a minute early, and says when it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ConfigurationError, StateError
from .runs import describe, runs
from .snapshots import at, difference, origin, points
from .state_dir import Snapshot, read

SPANS = {"5m": 300.0, "1h": 3600.0}
NAMES = (*SPANS, "run", "previous")


@dataclass(frozen=True, slots=True)
class Window:
    """A snapshot's difference, with its bounds in seconds since the epoch."""

    name: str
    begins: float
    ends: float
    run: str
    release: str | None
    snapshot: Snapshot


def check(name: str) -> str:
    """Return a window's name.

    Raises:
        ConfigurationError: there is no such window.
    """
    if name not in NAMES:
        raise ConfigurationError("window", name, "one of " + ", ".join(NAMES))
    return name


def window(run: Path, name: str, now: float, snapshot: Snapshot | None = None) -> Window:
    """Read one window.

    Args:
        run: the current run.
        name: ``5m``, ``1h``, ``run`` or ``previous``.
        now: seconds since the epoch.
        snapshot: the current run's, where it was already read.

    Raises:
        ConfigurationError: there is no such window.
        StateError: there is no previous run.
    """
    check(name)
    if name == "previous":
        before = [other for other in runs(run.parent) if _began(other) < _began(run)]
        if not before:
            raise StateError("there is no previous run: this is the first one that is kept")
        run, snapshot = before[-1], None
    found = read(run) if snapshot is None else snapshot
    begins, base = origin(run)
    if begins < _began(run):
        begins, base = _began(run), None
    ends = now
    if name == "previous":
        marks = points(run)
        ends = marks[-1][0] if marks else begins
    elif name in SPANS and now - SPANS[name] > begins:
        wanted = now - SPANS[name]
        kept = [moment for moment, _ in points(run) if begins <= moment <= wanted]
        if kept:
            begins, base = kept[-1], at(run, wanted)
    if base is not None:
        found = difference(found, base)
    return Window(name, begins, ends, run.name, describe(run).get("release"), found)


def _began(run: Path) -> float:
    return float(describe(run).get("began", 0.0))
