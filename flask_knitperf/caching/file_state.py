"""State of a file or folder: two equal states mean that nothing has changed in between.

The state is the device, the inode, the size, and the times of the last modification and of the last
change of status, in nanoseconds. The latter cannot be set by a program, so a file whose time of
modification was put back is not taken for the former one.

A file that was modified within the grain of the file system's clock may be modified again without
another time, so the state of a file younger than :data:`MIN_AGE_S` proves nothing.
"""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any

from ..core.host_exceptions import raise_if_of_host

MIN_AGE_S = 2.0
"""Age in seconds below which a file may change unnoticed: the grain of a FAT file system."""
UNTIMED = ("/proc/", "/sys/", "/dev/")
"""Folders whose files change without another time."""
FileState = tuple[int, ...]
"""Device, inode, size, and the times of modification and of change of status in nanoseconds."""
MISSING: FileState = ()
"""State of a path that names nothing."""


def state_of(path: str) -> FileState:
    """Return the state of a file or folder, :data:`MISSING` where there is none or it cannot be read.

    An empty write-ahead log of SQLite equals a missing one: opening a database may create it.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise_if_of_host(error)
        return MISSING
    if status.st_size == 0 and path.endswith("-wal"):
        return MISSING
    return _state(status)


def regular_state_of(path: str) -> FileState | None:
    """Return the state of a regular file, ``None`` for anything else."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # it is the content itself, or a missing file
        raise_if_of_host(error)
        return None
    return _state(status) if stat.S_ISREG(status.st_mode) else None


def _state(status: os.stat_result) -> FileState:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_young(state: FileState, now: float) -> bool:
    """Return whether a file may have changed without another time since its state was taken.

    Args:
        state: of the file.
        now: seconds since the epoch, when the state was taken.
    """
    return state != MISSING and now - max(state[-2:]) / 1e9 < MIN_AGE_S


def absolute(path: str) -> str:
    """Return a path from the root; ``..`` after a link stays as it is."""
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def local_path(source: Any) -> str | None:
    """Return the absolute path that a source of pandas names, ``None`` if it is not a local path."""
    if not isinstance(source, str | pathlib.PurePath):  # a workbook of pandas is a PathLike too
        return None
    path = os.fspath(source)
    if "://" in path[:12] or "\n" in path or "\0" in path:
        return None
    whole = absolute(os.path.expanduser(path))
    return None if whole.startswith(UNTIMED) else whole


def paths_below(folder: str) -> Iterator[str]:
    """Yield a folder, and all files and folders in it and below; links to folders are not followed."""
    yield folder
    folders = [folder]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError as error:
            raise_if_of_host(error)
            continue
        for entry in entries:
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
