"""Locks between the processes of a host, one for each key, that die with their process.

A lock is a record lock on one byte of a file; the byte's place is a hash of the key. A forked child does
not have it, and the kernel releases it when its process ends, however that ends. It belongs to the
process and not to a thread; threads keep order by themselves (:mod:`.single_flight`). Where there are no
record locks, each process loads for itself.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock
from ..core.owned_descriptor import OwnedDescriptor
from ..storage.atomic_files import try_lock_byte, unlock_byte


class HostLocks:
    """Locks by key.

    Args:
        path: of their file, which nothing else may open: closing it would release all locks.

    Attributes:
        path: of their file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: OwnedDescriptor | None = None
        self._opening = create_lock()

    def try_acquire(self, key: bytes) -> bool | None:
        """Acquire the lock of a key; return whether it was free, ``None`` if there are no locks.

        Args:
            key: at least 8 bytes.
        """
        try:
            descriptor = self._descriptor()
        except OSError as error:  # the folder is gone, or all descriptors are in use
            raise_if_of_host(error)
            return None
        return try_lock_byte(descriptor, _place(key))

    def release(self, key: bytes) -> None:
        """Release the lock of a key."""
        file = self._file
        descriptor = -1 if file is None else file.number()
        if descriptor >= 0:
            unlock_byte(descriptor, _place(key))

    def _descriptor(self) -> int:
        with self._opening:
            if self._file is not None:
                number = self._file.number()
                if number >= 0 and self._is_at_path(number):
                    return number
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            self._file = OwnedDescriptor(number)
            return number

    def _is_at_path(self, descriptor: int) -> bool:
        """Return whether other processes that open the path get the same file."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except OSError as error:  # it was removed
            raise_if_of_host(error)
            return False


def _place(key: bytes) -> int:
    return int.from_bytes(key[:8], "little") >> 2  # places are signed numbers
