"""Windows that begin before the present run, for the same reports as those of a run."""

from __future__ import annotations

import hashlib
import socket

from ..metrics import columns
from ..storage.snapshots import difference
from ..storage.state_dir import Snapshot
from ..storage.windows import LONG_SPANS, Window, WindowName
from .databases import Database
from .reader import read_past
from .store import opened


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
    since, present = now - LONG_SPANS[name], current.snapshot
    with opened(database) as store:
        live = {(source, current.run): present} if current.is_whole else None
        past = read_past(store, since, now, now, live)
    gauges = difference(present, (present.about, present.columns))  # observed nothing
    snapshot = Snapshot(
        columns.add([past.snapshot.columns, gauges.columns]), past.snapshot.about, present.workers,
        present.degraded,
    )  # fmt: skip
    begins = max(past.begins, min(past.first, now))
    return Window(name, begins, now, current.run, current.release, snapshot)
