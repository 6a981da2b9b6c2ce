"""Windows that begin before the present run, for the same reports as those of a run."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Container, Sequence

from ..core.errors import StateError
from ..core.printable import printable
from ..metrics import columns
from ..storage.snapshots import difference
from ..storage.state_dir import Snapshot
from ..storage.windows import LONG_SPANS, Span, Window, WindowName
from .databases import Database
from .reader import Only, read_parts
from .store import Mark, Store, connected, json_text, opened
from .writer import DEPLOY

MAX_RELEASES = 50
"""Releases that are offered for a comparison."""


def source_of(state: str) -> str:
    """Return the name of a state directory among those of several hosts."""
    digest = hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{socket.gethostname()}-{digest}"


def past_window(
    database: Database, source: str, name: WindowName, now: float, current: Window
) -> Window:
    """Read one of :data:`..storage.windows.LONG_SPANS`, up to the present.

    Args:
        database: that holds the history.
        source: name of the state directory.
        name: of the window.
        now: the present, in seconds since the epoch.
        current: the window ``run`` of the present run, from which gauges and workers are taken.

    Raises:
        HistoryError: the database cannot be used.
    """
    span = Span(now - LONG_SPANS[name], now)
    return parts_window(database, source, [span], now, current)._replace(name=name)


def parts_window(
    database: Database, source: str, parts: Sequence[Span], now: float, current: Window,
    only: Only | None = None,
) -> Window:  # fmt: skip
    """Read any window, or the parts of one; see :func:`past_window`.

    Args:
        database: that holds the history.
        source: name of the state directory.
        parts: bounds, in order of time, with more than an hour between two.
        now: the present, in seconds since the epoch.
        current: the window ``run`` of the present run.
        only: returns whether a series is read, ``None`` for all.
    """
    present = current.snapshot
    parts = [Span(since, min(until, now)) for since, until in parts]
    until = parts[-1].until
    with opened(database) as store:
        live = {(source, current.run): present} if current.is_whole else None
        past = read_parts(store, parts, now, live, only)
        release = _release_of(store, parts[0].since, until)
    gauges = difference(present, (present.about, present.columns))  # observed nothing
    snapshot = Snapshot(
        columns.add([past.snapshot.columns, gauges.columns]), past.snapshot.about, present.workers,
        present.degraded,
    )  # fmt: skip
    begins = max(past.begins, min(past.first, now))
    return Window("span", begins, max(begins, until), current.run, release, snapshot)


def _release_of(store: Store, since: float, until: float) -> str | None:
    """Return the release that served a whole window, ``None`` where there were several or none."""
    releases: list[str | None] = []
    for mark in _deploys(store, until):
        if mark.at <= since:
            releases.clear()
        releases.append(mark.about.get("release"))
    return releases[0] if len(set(releases)) == 1 else None


def of_meters(names: Container[str]) -> Only:
    """Return a choice of series: those of some meters, and no evidence."""
    return lambda key: key.name in names


def of_endpoint(endpoint: str, method: str) -> Only:
    """Return a choice of series: those of one endpoint."""
    labels = json_text([endpoint, method])[:-1]
    return lambda key: key.labels.startswith((f"{labels},", f"{labels}]"))


def _deploys(store: Store, until: float) -> list[Mark]:
    """Return the starts of all runs that the history has, oldest first."""
    return [mark for mark in store.marks(0, until) if mark.kind == DEPLOY]


def releases(database: Database, now: float) -> list[str]:
    """Return the releases that the history has, the latest first."""
    with connected(database) as connection:
        names = [mark.about.get("release") for mark in _deploys(Store(connection), now)]
    return list(dict.fromkeys(name for name in reversed(names) if name))[:MAX_RELEASES]


def release_span(database: Database, release: str, now: float) -> Span:
    """Return the time in which a release served, its last start up to that of another release.

    Raises:
        StateError: the history does not have that release.
        HistoryError: the database cannot be used.
    """
    with connected(database) as connection:
        marks = _deploys(Store(connection), now)
    names = [mark.about.get("release") for mark in marks]
    if release not in names:  # links on pages have the names that documents have
        release = next((name for name in names if name and printable(name) == release), release)
    if release not in names:
        known = ", ".join(dict.fromkeys(str(name) for name in reversed(names) if name)) or "none"
        raise StateError(f"the history does not have the release {release!r}; it has {known}")
    last = first = len(names) - 1 - names[::-1].index(release)
    while first and names[first - 1] == release:
        first -= 1
    until = marks[last + 1].at if last + 1 < len(marks) else now
    return Span(marks[first].at, max(until, marks[first].at + 1))
