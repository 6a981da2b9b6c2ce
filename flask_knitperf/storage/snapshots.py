"""Snapshots on disk, so that a window can be the difference of two.

``points/<ms>.point`` is written every few seconds, and the files are thinned out as they age;
``origin-…`` is the snapshot at which the totals were last reset.
"""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path

from ..core.errors import StateError
from ..metrics import columns
from ..metrics.table import Table, decode, encode
from .atomic_files import Disk
from .state_dir import Part, Snapshot, bytes_of


def difference(now: Snapshot, earlier: Part) -> Snapshot:
    """Return the observations since an earlier state of the run; gauges keep their current values."""
    before, then = earlier
    about = Table(incomplete=now.about.incomplete)
    for identity, note in now.about.evidence.items():
        since = note.copy()
        if (old := before.evidence.get(identity)) is not None:
            since["count"] -= old["count"]
            since["weight"] -= old["weight"]
        if since["count"] > 0:
            about.evidence[identity] = since
    return Snapshot(columns.subtract(now.columns, then), about, now.workers, now.degraded)


def points(run: Path) -> list[tuple[float, Path]]:
    """Return time (seconds since the epoch) and path of the stored snapshots, oldest first."""
    folder = run / "points"
    paths = folder.glob("*.point") if folder.is_dir() else []
    return sorted((int(path.stem) / 1000, path) for path in paths if path.stem.isdigit())


def store(run: Path, snapshot: Snapshot, now: float, disk: Disk) -> None:
    """Store a snapshot for windows, and thin out the older ones.

    Retention: one per ten seconds for six minutes, one per minute for 65 minutes, and the newest
    before that, so that every window has a start. A snapshot from the future (the clock was set
    back) is removed, and a reset from the future happened now at the latest.
    """
    (run / "points").mkdir(mode=0o700, exist_ok=True)
    disk.save(run / "points" / f"{round(now * 1000)}.point", packed(snapshot))
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
    for path in run.glob("origin-*.point"):
        if _time_of(path) > now + 1:
            lowered = run / f"origin-{round(now * 1000)}-{path.stem.split('-')[2]}.point"
            with contextlib.suppress(FileNotFoundError):  # another worker does the same
                disk.replace(path, lowered)


def packed(snapshot: Snapshot) -> bytes:
    """Return the totals of a snapshot as bytes."""
    return zlib.compress(encode(snapshot.about, snapshot.columns), 1)


def unpacked(data: bytes) -> Part | None:
    """Return the totals of :func:`packed`, ``None`` where those are damaged or of another version."""
    try:
        return decode(zlib.decompress(data))
    except (StateError, zlib.error):
        return None


def _point(path: Path) -> Part | None:
    data = bytes_of(path)
    return None if data is None else unpacked(data)


def at(run: Path, moment: float) -> Part | None:
    """Return the newest stored snapshot at or before a time, ``None`` without one."""
    for when, path in reversed(points(run)):
        if when <= moment:
            part = _point(path)
            if part is not None:
                return part
    return None


def clear(
    run: Path, name: str, snapshot: Snapshot, now: float, disk: Disk, wall: float | None = None
) -> None:
    """Reset the totals: all windows start at a snapshot, which is subtracted. Nothing is removed.

    Several workers may do this for one command; the snapshot of the first one counts.

    Args:
        run: the run's directory.
        name: the command's id.
        snapshot: all observations up to now.
        now: time of the command, the same in every worker.
        disk: file operations.
        wall: seconds since the epoch, by default ``now``. A reset later than this was made before the
            clock was set back, and no longer counts.
    """
    path = run / f"origin-{round(now * 1000)}-{name}.point"
    disk.create_once(path, packed(snapshot))
    for older in run.glob("origin-*.point"):
        future = _time_of(older) > (now if wall is None else wall) + 1
        if _order(older) < _order(path) or future:
            disk.unlink(older)


def origin(run: Path) -> tuple[float, Part | None]:
    """Return time and totals of the last reset; ``(0.0, None)`` without one."""
    for path in sorted(run.glob("origin-*.point"), key=_order, reverse=True):
        part = _point(path)
        if part is not None:
            return _time_of(path), part
    return 0.0, None


def _order(origin_path: Path) -> tuple[float, str]:
    """Return a key by time: names alone sort a clock of 1970, which has fewer digits, after today's."""
    return _time_of(origin_path), origin_path.name


def _time_of(origin_path: Path) -> float:
    return int(origin_path.name.split("-")[1]) / 1000
