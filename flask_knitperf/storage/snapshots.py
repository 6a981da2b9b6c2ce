"""Snapshots that are kept, so that a window can be the difference of two.

``points/<ms>.point`` are kept every few seconds and thinned out as they age; ``origin-…`` is the one at
which somebody cleared the totals.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from ..core.errors import StateError
from ..metrics import columns
from ..metrics.table import Table, decode, encode
from .atomic_files import Disk
from .state_dir import Part, Snapshot, bytes_of


def difference(now: Snapshot, earlier: Part) -> Snapshot:
    """Return what was observed since an earlier state of the run; gauges stay as they are now."""
    before, then = earlier
    about = Table(torn=now.about.torn)
    for name, note in now.about.evidence.items():
        old = before.evidence.get(name, {"count": 0, "weight": 0})
        count, weight = note["count"] - old["count"], note["weight"] - old["weight"]
        if count > 0:
            about.evidence[name] = {**note, "count": count, "weight": weight}
    return Snapshot(columns.subtract(now.columns, then), about, now.workers, now.degraded)


def points(run: Path) -> list[tuple[float, Path]]:
    """Return moment (seconds since the epoch) and path of the kept snapshots, oldest first."""
    folder = run / "points"
    paths = folder.glob("*.point") if folder.is_dir() else []
    return sorted((int(path.stem) / 1000, path) for path in paths if path.stem.isdigit())


def mark(run: Path, snapshot: Snapshot, now: float, disk: Disk) -> None:
    """Keep a snapshot for windows, and thin out the older ones.

    One in ten seconds is kept for six minutes, then one a minute for 65 minutes, and the newest
    before that, so that a window always finds its beginning. A point in the future (the clock went
    back) is dropped.
    """
    (run / "points").mkdir(mode=0o700, exist_ok=True)
    disk.save(run / "points" / f"{round(now * 1000)}.point", _packed(snapshot))
    minute_seen: set[int] = set()
    old: list[Path] = []
    for moment, path in points(run):
        age = now - moment
        if age < -1:
            disk.unlink(path)
        elif age > 65 * 60:
            old.append(path)
        elif age > 6 * 60:
            minute = int(moment // 60)
            if minute in minute_seen:
                disk.unlink(path)
            minute_seen.add(minute)
    for path in old[:-1]:
        disk.unlink(path)


def _packed(snapshot: Snapshot) -> bytes:
    return zlib.compress(encode(snapshot.about, snapshot.columns), 1)


def _point(path: Path) -> Part | None:
    data = bytes_of(path)
    try:
        return None if data is None else decode(zlib.decompress(data))
    except (StateError, zlib.error):
        return None


def at(run: Path, moment: float) -> Part | None:
    """Return the newest kept snapshot not after a moment, ``None`` when there is none."""
    for when, path in reversed(points(run)):
        if when <= moment:
            found = _point(path)
            if found is not None:
                return found
    return None


def clear(run: Path, name: str, snapshot: Snapshot, now: float, disk: Disk) -> None:
    """Begin all windows anew from a snapshot. Nothing is removed: what came before is subtracted.

    Several workers may do this for one command; the first one's snapshot counts.

    Args:
        run: the run's directory.
        name: the command's id.
        snapshot: everything up to now.
        now: when it was asked, the same in every worker.
        disk: changes to files.
    """
    path = run / f"origin-{round(now * 1000)}-{name}.point"
    disk.place(path, _packed(snapshot))
    for older in sorted(run.glob("origin-*.point")):
        if older.name < path.name:
            disk.unlink(older)


def origin(run: Path) -> tuple[float, Part | None]:
    """Return when the totals were last cleared, and what they were; ``(0.0, None)`` if never."""
    for path in sorted(run.glob("origin-*.point"), reverse=True):
        found = _point(path)
        if found is not None:
            return int(path.name.split("-")[1]) / 1000, found
    return 0.0, None
