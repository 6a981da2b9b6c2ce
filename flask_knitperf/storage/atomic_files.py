"""Atomic file operations: a crash falls before or after each one, never inside.

Every change of a state directory goes through a :class:`Disk`, so that a test can kill the process (or
fail the call) at each step and then check the state that a reader sees. POSIX-only calls are guarded:
on Windows a lock is a locked byte far behind the file's content.
"""

from __future__ import annotations

import errno
import importlib
import mmap
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.host_exceptions import SuppressOwn, raise_if_of_host

_fcntl: Any = None
_msvcrt: Any = None
if sys.platform == "win32":  # pragma: no cover
    _msvcrt = importlib.import_module("msvcrt")
else:
    _fcntl = importlib.import_module("fcntl")

_LOCKED_BYTE = 1 << 20
# Errors of locking a file that another process has locked; others mean that there are no locks.
_LOCKED_ERRNOS = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


class Disk:
    """File operations. Subclass it to inject faults."""

    def create_log(self, path: Path, size: int) -> mmap.mmap:
        """Create a file of zeros with reserved blocks, and map it.

        The blocks are reserved before mapping: a store into a mapping on a full disk would end the
        process with SIGBUS.

        Raises:
            OSError: disk full or no permission.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.write(descriptor, bytes(size))
            return mmap.mmap(descriptor, size)
        except BaseException:
            with SuppressOwn(OSError):
                path.unlink()
            raise
        finally:
            os.close(descriptor)

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file, or overwrite one that has no readers."""
        with open(path, "wb", opener=_private) as file:
            file.write(data)

    def write_parts(self, path: Path, parts: Iterable[Any]) -> None:
        """Write a new file from some bytes or buffers, one after the other.

        Raises:
            OSError: disk full or no permission; there is no file then.
        """
        try:
            with open(path, "xb", buffering=0, opener=_private) as file:
                for part in parts:
                    rest = memoryview(part)
                    while rest.nbytes:
                        rest = rest[file.write(rest) :]
        except FileExistsError:
            raise
        except BaseException:
            with SuppressOwn(OSError):
                path.unlink(missing_ok=True)
            raise

    def append(self, path: Path, data: bytes) -> None:
        """Append to a file, creating it if necessary.

        Raises:
            OSError: nothing or only a part was written.
        """
        with open(path, "ab", buffering=0, opener=_private) as file:
            written = file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another, atomically."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file if it exists."""
        path.unlink(missing_ok=True)

    def save(self, path: Path, data: bytes) -> None:
        """Replace a file's content atomically: a reader sees the old or the new content.

        Raises:
            OSError: the old content is unchanged.
        """
        temporary = _temporary(path)
        try:
            self.write(temporary, data)
            self.replace(temporary, path)
        except OSError:
            with SuppressOwn(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def create_once(self, path: Path, data: bytes) -> bool:
        """Create a file with content atomically; return ``False`` if it exists already.

        Raises:
            OSError: it could not be written.
        """
        temporary = _temporary(path)
        try:
            self.write(temporary, data)
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True


def _temporary(path: Path) -> Path:
    """Return a temporary path beside a file, unique to the calling thread."""
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def try_lock(descriptor: int) -> bool:
    """Lock an open file without waiting; return whether it was free.

    A ``flock`` belongs to the open file description: a forked child shares it until it closes its
    descriptor, and the kernel releases it when the last holder dies, however it dies.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        else:  # pragma: no cover (Windows)
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in _LOCKED_ERRNOS:
            return False
        raise
    return True


def try_lock_byte(descriptor: int, place: int) -> bool | None:
    """Lock one byte of an open file without waiting; return whether it was free.

    Such a lock (a POSIX record lock) belongs to the process: a forked child does not have it, and it is
    released with any descriptor of the file.

    Args:
        descriptor: open for writing.
        place: of the byte, which need not exist.

    Returns:
        ``None`` where there are no such locks.
    """
    if _fcntl is None:
        return None
    try:
        _fcntl.lockf(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB, 1, place)
    except OSError as error:
        raise_if_of_host(error)
        return False if error.errno in _LOCKED_ERRNOS else None
    return True


def unlock_byte(descriptor: int, place: int) -> None:
    """Release a lock of :func:`try_lock_byte`."""
    if _fcntl is not None:
        with SuppressOwn(OSError):
            _fcntl.lockf(descriptor, _fcntl.LOCK_UN, 1, place)


def is_locked(path: Path) -> bool:
    """Return whether any process holds the lock of a file; ``False`` for a missing file.

    Where the file system has no locks it counts as held, so that files of a live process stay.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor)
    except OSError as error:
        raise_if_of_host(error)
        return True
    finally:
        os.close(descriptor)
