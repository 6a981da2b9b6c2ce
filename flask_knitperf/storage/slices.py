"""Slices: documents of five minutes each, for data that does not fit into a table (stack samples).

Each worker writes one document per slice and replaces that of the current slice every few seconds (a
new file, renamed over the old one), so a kill loses the last seconds at most. Slices of the last hour
remain separate, for windows; older ones are merged into one file, which lists the slices that it holds,
so that a kill at any instant counts nothing twice: the same rule as for tables (:mod:`.state_dir`).
A slice from the future (the clock was set back) is an older one.

The content of a document and its merge function are the caller's.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..core.host_exceptions import SuppressOwn
from .atomic_files import Disk
from .state_dir import bytes_of, exclusively

SECONDS = 300.0
MERGE_AFTER_S = 66 * 60.0  # longer than the widest window, one hour
FOLDER = "details"
OLDER = "older.slices"
_NAME = re.compile(r"^(?P<worker>w-[\w-]+)\.(?P<begins>\d+)\.slice$")
_MAX_NAMES = 2000  # of merged slices whose files may still exist

Document = dict[str, Any]
Merge = Callable[[Iterable[Document]], Document]


def begins(now: float) -> int:
    """Return the start of the slice that contains ``now``, seconds since the epoch."""
    return int(now // SECONDS * SECONDS)


def free(run: Path, worker: str, slice_: int) -> int:
    """Return the first number within the five minutes of a slice that a worker has not used."""
    folder = run / FOLDER
    numbers = range(slice_, slice_ + int(SECONDS))
    return next((n for n in numbers if not (folder / f"{worker}.{n}.slice").exists()), slice_)


def save(run: Path, worker: str, slice_: int, document: Document, disk: Disk) -> None:
    """Write the document of one worker and slice.

    Raises:
        OSError: it cannot be written.
    """
    folder = run / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    disk.save(folder / f"{worker}.{slice_}.slice", _packed(document))


def read(run: Path, begin: float, end: float, damaged: list[str] | None = None) -> list[Document]:
    """Return the documents of all slices that overlap an interval; damaged ones are skipped.

    Args:
        run: the run's directory.
        begin: start of the interval, seconds since the epoch.
        end: end of the interval, seconds since the epoch.
        damaged: the file names of damaged slices are appended to this list.
    """
    folder = run / FOLDER
    broken: list[str] = []
    separate = {
        path.name: _unpacked(path, broken) for at, path in _slices(folder)
        if at + SECONDS > begin and at <= end
    }  # fmt: skip
    whole = _unpacked(folder / OLDER, broken)  # read last: it lists the slices it holds
    if damaged is not None:
        damaged += [name for name in broken if whole is None or name not in whole["holds"]]
    merged = whole["holds"] if whole is not None else ()
    documents = [
        document
        for name, document in separate.items()
        if document is not None and name not in merged
    ]
    if whole is not None and begin < min(whole["ends"], end - MERGE_AFTER_S):
        documents.append(whole["document"])
    return documents


def merge_old(run: Path, now: float, merge: Merge, disk: Disk) -> int:
    """Merge slices that are older than an hour into one file; return their number.

    Args:
        run: the run's directory.
        now: seconds since the epoch.
        merge: merges several documents into one.
        disk: file operations.
    """
    folder = run / FOLDER
    old = [
        path for at, path in _slices(folder)
        if at + SECONDS < now - MERGE_AFTER_S or at > now + SECONDS
    ]  # fmt: skip
    if not old:
        return 0
    with exclusively(folder / "tidy.lock") as locked:
        if not locked:
            return 0
        whole = _unpacked(folder / OLDER) or {"holds": [], "ends": 0.0, "document": merge(())}
        fresh = [path for path in old if path.name not in whole["holds"]]
        documents = [document for path in fresh if (document := _unpacked(path)) is not None]
        present = {path.name for path in old}
        holds = [name for name in whole["holds"] if name in present]
        merged = {
            "holds": [*holds, *(path.name for path in fresh)][-_MAX_NAMES:],
            "ends": now - MERGE_AFTER_S,
            "document": merge([whole["document"], *documents]),
        }  # fmt: skip
        disk.save(folder / OLDER, _packed(merged))
        for path in old:
            disk.unlink(path)
        return len(fresh)


def _slices(folder: Path) -> list[tuple[int, Path]]:
    """Return start and path of the slices in a folder, in order of time."""
    if not folder.is_dir():
        return []
    matches = [(match, path) for path in folder.iterdir() if (match := _NAME.match(path.name))]
    return sorted((int(match["begins"]), path) for match, path in matches)


def _packed(document: Document) -> bytes:
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def _unpacked(path: Path, damaged: list[str] | None = None) -> Document | None:
    data = bytes_of(path)
    if data is None:
        return None
    with SuppressOwn(ValueError, zlib.error):
        document = json.loads(zlib.decompress(data))
        if isinstance(document, dict):
            return document
    if damaged is not None:
        damaged.append(path.name)
    return None
