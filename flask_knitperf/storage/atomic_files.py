"""The few things that are done to files, each one step that a crash can fall before or after.

Everything that changes a state directory goes through a :class:`Disk`, so that a test can kill the
process (or fail the call) at each of these steps and then look at what a reader sees.
POSIX-only calls are guarded: on Windows a lock is a locked byte far behind the file's content.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import mmap
import os
import sys
import threading
from pathlib import Path
from typing import Any

_fcntl: Any = None
_msvcrt: Any = None
if sys.platform == "win32":  # pragma: no cover
    _msvcrt = importlib.import_module("msvcrt")
else:
    _fcntl = importlib.import_module("fcntl")

_LOCKED_BYTE = 1 << 20


class Disk:
    """Changes to files. Subclass it to inject faults."""

    def create_log(self, path: Path, size: int) -> mmap.mmap:
        """Create a file of zeros, its blocks reserved, and map it.

        Reserving comes before mapping: storing into a mapping that the disk has no room for would
        end the process with SIGBUS.

        Raises:
            OSError: no room, no permission.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.write(descriptor, bytes(size))
            return mmap.mmap(descriptor, size)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(descriptor)

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file, or over one that nobody reads."""
        with open(path, "wb", opener=_private) as file:
            file.write(data)

    def append(self, path: Path, data: bytes) -> None:
        """Write behind the end of a file, which is made if need be.

        Raises:
            OSError: nothing or a part of it was written.
        """
        with open(path, "ab", buffering=0, opener=_private) as file:
            written = file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another, in one step."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file that may be gone already."""
        path.unlink(missing_ok=True)

    def save(self, path: Path, data: bytes) -> None:
        """Put data in a file's place so that a reader sees the old or the new, never a part.

        Raises:
            OSError: the old content is still in place.
        """
        beside = _beside(path)
        try:
            self.write(beside, data)
            self.replace(beside, path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise

    def place(self, path: Path, data: bytes) -> bool:
        """Put data where nothing is yet, in one step; return whether nobody was faster.

        Raises:
            OSError: it could not be written.
        """
        beside = _beside(path)
        try:
            self.write(beside, data)
            os.link(beside, path)
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)
        return True


def _beside(path: Path) -> Path:
    """Return where to write what is to be put in a file's place: no other thread writes there."""
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this open description; return whether it was free.

    A ``flock`` belongs to the open file description: a forked child holds it too until it closes its
    descriptor, and it is free the moment the last holder dies, however it dies.
    """
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        else:  # pragma: no cover (Windows)
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Return whether some process holds the lock of a file; a missing file is not locked."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)
