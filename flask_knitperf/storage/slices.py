"""Details that are too rich for a table of numbers, in slices of five minutes.

Every worker keeps one document per slice: what it sampled, which requests it noted. It rewrites the
document of the present slice every few seconds (a new file, renamed over the old one), so a kill
costs the last seconds at most. Slices of the last hour stay apart, for windows; older ones are put
together in one file, which names those it holds, so that whatever is killed meanwhile nothing is
counted twice: the same rule as for tables (see :mod:`.state_dir`).

What a document is, and how several become one, is the business of who keeps them.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .atomic_files import Disk
from .state_dir import bytes_of, exclusively

SECONDS = 300.0
KEPT_APART_S = 66 * 60.0
FOLDER = "details"
OLDER = "older.slices"
_NAME = re.compile(r"^(?P<worker>w-[\w-]+)\.(?P<begins>\d+)\.slice$")
_NAMES_HELD = 2000

Document = dict[str, Any]
Merge = Callable[[Iterable[Document]], Document]


def begins(now: float) -> int:
    """Return when the slice of a moment begins, in seconds since the epoch."""
    return int(now // SECONDS * SECONDS)


def save(run: Path, worker: str, slice_: int, document: Document, disk: Disk) -> None:
    """Write one worker's document of one slice.

    Raises:
        OSError: it cannot be written.
    """
    folder = run / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    disk.save(folder / f"{worker}.{slice_}.slice", _packed(document))


def read(run: Path, begin: float, end: float, damaged: list[str] | None = None) -> list[Document]:
    """Return the documents of all slices that overlap a stretch of time; damaged ones are left out.

    Args:
        run: the run's directory.
        begin: seconds since the epoch.
        end: likewise.
        damaged: the names of those are added here.
    """
    folder = run / FOLDER
    broken: list[str] = []
    apart = {
        path.name: _unpacked(path, broken) for at, path in _slices(folder)
        if at + SECONDS > begin and at <= end
    }  # fmt: skip
    whole = _unpacked(folder / OLDER, broken)  # read last: it names those it holds
    if damaged is not None:
        damaged += [name for name in broken if whole is None or name not in whole["holds"]]
    held = whole["holds"] if whole is not None else ()
    documents = [each for name, each in apart.items() if each is not None and name not in held]
    if whole is not None and begin < whole["ends"]:
        documents.append(whole["document"])
    return documents


def tidy(run: Path, now: float, merge: Merge, disk: Disk) -> int:
    """Put slices of more than an hour ago together; return how many.

    Args:
        run: the run's directory.
        now: seconds since the epoch.
        merge: makes one document of several.
        disk: changes to files.
    """
    folder = run / FOLDER
    old = [path for at, path in _slices(folder) if at + SECONDS < now - KEPT_APART_S]
    if not old:
        return 0
    with exclusively(folder / "tidy.lock") as mine:
        if not mine:
            return 0
        whole = _unpacked(folder / OLDER) or {"holds": [], "ends": 0.0, "document": merge(())}
        fresh = [path for path in old if path.name not in whole["holds"]]
        documents = [document for path in fresh if (document := _unpacked(path)) is not None]
        present = {path.name for path in old}
        holds = [name for name in whole["holds"] if name in present]
        made = {
            "holds": [*holds, *(path.name for path in fresh)][-_NAMES_HELD:],
            "ends": max(whole["ends"], now - KEPT_APART_S),
            "document": merge([whole["document"], *documents]),
        }  # fmt: skip
        disk.save(folder / OLDER, _packed(made))
        for path in old:
            disk.unlink(path)
        return len(fresh)


def _slices(folder: Path) -> list[tuple[int, Path]]:
    """Return begin and path of the slices in a folder, in order of time."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.match(path.name))]
    return sorted((int(match["begins"]), path) for match, path in found)


def _packed(document: Document) -> bytes:
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def _unpacked(path: Path, damaged: list[str] | None = None) -> Document | None:
    data = bytes_of(path)
    if data is None:
        return None
    with contextlib.suppress(ValueError, zlib.error):
        document = json.loads(zlib.decompress(data))
        if isinstance(document, dict):
            return document
    if damaged is not None:
        damaged.append(path.name)
    return None
