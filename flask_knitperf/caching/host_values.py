"""Values that all processes of a host share: a folder with one file for each, and one load for all.

::

    STATE_DIR/values-1/locks                    record locks, one for each key that is loaded
                      /<digest of a key>/<n>    a value; a later one has a greater number

A process that has no value for a key looks into the folder, and maps the file if its facts still hold.
Otherwise it acquires the lock of the key and loads; others that want the same value look for it until
the lock is free. A new value gets a new name, and the old file is removed, which does not disturb the
processes that have it mapped; where the system refuses that, as Windows does, it is removed later.

Everything here may fail: the folder may be full, read-only, or gone. Then there is no shared value, each
process loads for itself, and that is logged once.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import StateError
from ..core.host_exceptions import SuppressOwn, raise_if_of_host
from ..core.locks import create_lock
from ..core.printable import printable
from ..storage.atomic_files import Disk
from ..storage.runs import prepare
from . import value_files
from .host_locks import HostLocks
from .value_files import Pickled, ValueFileError

log = logging.getLogger("flask_knitperf")
FOLDER = "values-1"
POLL_S = 0.02
"""Longest pause between two looks for a value that another process loads."""
_FIRST_POLL_S = 0.001
_TEMPORARY_AGE_S = 300.0
"""Age at which a file that is not complete was left by a process that died."""
_USED_INTERVAL_S = 60.0
_LOOKS = 5
"""Number of times that a value is looked for while others replace it."""
_KEPT_SHARE = 0.875
"""Share of the bytes that is left when files are removed, so that the next values find room."""
_SCANS = 16
"""Number of processes that fill the remaining room before one of them looks how much there is."""
_HEAD_BYTES = 512
"""Bytes of a file beside its value, about."""
_NAME = re.compile(r"0[0-9]{19}")  # nanoseconds since the epoch
_TEMPORARY_NAME = re.compile(r"[0-9]{20}\.[0-9-]+\.tmp")
_KEY_NAME = re.compile(r"[0-9a-f]{16,}")


class HostValues:
    """The values of one state directory.

    Args:
        locate: returns the state directory, ``None`` without one.
        max_bytes: returns the bytes that all files may take.
        disk: file operations.
    """

    def __init__(
        self, locate: Callable[[], Path | None], max_bytes: Callable[[], float], disk: Disk | None = None
    ) -> None:  # fmt: skip
        self._locate, self._max_bytes, self._disk = locate, max_bytes, disk or Disk()
        self._folder: Path | None = None
        self._locks: HostLocks | None = None
        self._locating = create_lock()
        self._room = 0.0  # bytes that this process may write before it looks how many there are
        self._is_logged = False

    def has_folder(self) -> bool:
        """Return whether there is a state directory, so that values can be shared at all."""
        return self._locate() is not None

    # -- values --------------------------------------------------------------------------------------

    def find(self, key: bytes) -> tuple[Path, dict[str, Any]] | None:
        """Return the file of a key and its facts, ``None`` if there is none that can be read."""
        folder = self._folder_of(key)
        if folder is None:
            return None
        for _ in range(_LOOKS):
            path = _latest(folder)
            if path is None:
                return None
            try:
                return path, value_files.read_facts(path)
            except FileNotFoundError as error:  # replaced since
                raise_if_of_host(error)
            except (OSError, ValueFileError) as error:
                self._failed(error)
                return None
        return None

    def load(self, path: Path) -> tuple[Any, int] | None:
        """Return the value of a file and the bytes that are mapped, ``None`` if it cannot be read."""
        try:
            loaded = value_files.load(path)
            with SuppressOwn(OSError):  # it is read-only, or was replaced meanwhile
                if time.time() - path.stat().st_mtime > _USED_INTERVAL_S:
                    os.utime(path, follow_symlinks=False)  # the least recently used file goes first
            return loaded
        except (OSError, ValueFileError, ValueError) as error:
            self._failed(error)
        return None

    def store(self, key: bytes, facts: dict[str, Any], value: Pickled) -> Path | None:
        """Write a value; return its file, ``None`` if it cannot be written or is too large."""
        limit = self._max_bytes()
        folder = self._folder_of(key) if value.size <= limit else None
        if folder is None:
            return None
        name = f"{time.time_ns():020d}"
        temporary = folder / f"{name}.{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            self._make_room(limit, value.size + _HEAD_BYTES)
            try:
                self._write(temporary, facts, value)
            except (
                FileNotFoundError
            ) as error:  # another process has removed the folder, still empty
                raise_if_of_host(error)
                self._write(temporary, facts, value)
            former = _latest(folder)
            if former is not None and former.name >= name:  # the clock was set back
                name = f"{int(former.name) + 1:020d}"
            self._disk.replace(temporary, folder / name)
        except (OSError, ValueError) as error:
            with SuppressOwn(OSError):
                self._disk.unlink(temporary)
            self._failed(error)
            return None
        self._remove(folder, kept=name)
        return folder / name

    def _write(self, path: Path, facts: dict[str, Any], value: Pickled) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.parent.is_symlink():
            raise NotADirectoryError(f"{path.parent} is a symbolic link")
        value_files.write(self._disk, path, facts, value)

    def remove(self, key: bytes) -> None:
        """Remove the value of a key."""
        folder = self._folder_of(key)
        if folder is not None:
            self._remove(folder)

    # -- loads ---------------------------------------------------------------------------------------

    def try_lead(self, key: bytes) -> bool:
        """Return whether this process is to load the value of a key: no other one does."""
        if self._folder_of(key) is None or self._locks is None:
            return True
        return self._locks.try_acquire(key) is not False

    def end_lead(self, key: bytes) -> None:
        """Note that this process has loaded the value of a key, or failed to."""
        if self._locks is not None:
            self._locks.release(key)

    # -- the folder ----------------------------------------------------------------------------------

    def _folder_of(self, key: bytes) -> Path | None:
        """Return the folder of a key, ``None`` without a state directory that can be used."""
        if self._folder is None and not self._open():
            return None
        folder = self._folder
        return None if folder is None else folder / key.hex()

    def _open(self) -> bool:
        """Create the folder; return whether it can be used."""
        state = self._locate()
        if state is None:
            return False
        try:
            prepare(state)
            prepare(state / FOLDER)
        except StateError as error:
            self._failed(error)
            return False
        with self._locating:
            path = state / FOLDER / "locks"
            if self._locks is None or self._locks.path != path:
                self._locks = HostLocks(path)  # one only: closing its file would release all locks
        self._folder = state / FOLDER
        return True

    def _make_room(self, limit: float, size: int) -> None:
        """Remove the least recently used values if one of ``size`` bytes would exceed the limit.

        All folders have to be looked at, so that is done only when the values that this process has
        written may have taken its part of the room.
        """
        self._room -= size
        if self._room >= 0:
            return
        assert self._folder is not None
        prepare(self._folder)
        now, files = time.time(), list(_files(self._folder))
        total = sum(length for _, length, _ in files)
        allowed = limit if total + size <= limit else max(limit * _KEPT_SHARE - size, 0)
        for used, length, path in sorted(files):
            is_value = path.suffix != ".tmp"
            if (total > allowed) if is_value else (used < now - _TEMPORARY_AGE_S):
                with SuppressOwn(OSError):
                    self._disk.unlink(path)
                    total -= length
        self._room = max(limit - total - size, 0) / _SCANS

    def _remove(self, folder: Path, kept: str = "") -> None:
        with SuppressOwn(OSError):
            for name in [] if folder.is_symlink() else os.listdir(folder):
                if _NAME.fullmatch(name) and name < (kept or "~"):
                    with SuppressOwn(OSError):  # Windows: a process has it mapped
                        self._disk.unlink(folder / name)

    def _failed(self, error: Exception) -> None:
        raise_if_of_host(error)
        if isinstance(error, FileNotFoundError):
            self._folder = None  # it was removed; it is created when it is needed next
        elif not self._is_logged:
            self._is_logged = True
            log.warning(
                "flask_knitperf: values cannot be shared between workers: %s", printable(str(error))
            )


def _latest(folder: Path) -> Path | None:
    """Return the latest value in the folder of a key."""
    try:
        names = [name for name in os.listdir(folder) if _NAME.fullmatch(name)]
    except OSError as error:  # there is none, the usual case
        raise_if_of_host(error)
        return None
    return folder / max(names) if names else None


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield the time of the latest use, the bytes and the path of each of our files.

    Folders of keys that are empty are removed. Anything else in the folder is left alone.
    """
    for key in os.scandir(folder):
        if not _KEY_NAME.fullmatch(key.name) or not key.is_dir(follow_symlinks=False):
            continue
        with SuppressOwn(OSError):  # another process has removed it
            names = [
                name for name in os.listdir(key)
                if _NAME.fullmatch(name) or _TEMPORARY_NAME.fullmatch(name)
            ]  # fmt: skip
            for name in names:
                path = Path(key, name)
                status = path.lstat()
                yield status.st_mtime, status.st_size, path
            if not names:
                os.rmdir(key)


def pauses() -> Any:
    """Yield the pauses in seconds between looks for a value that another process loads."""
    pause = _FIRST_POLL_S
    while True:
        yield pause
        pause = min(2 * pause, POLL_S)
