"""Random bytes that all workers of an application share, in a file that only its user can read."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from ..core.errors import StateError
from ..core.host_exceptions import raise_if_of_host
from .atomic_files import Disk

SECRET_BYTES = 32


class SharedSecret:
    """Random bytes in the file ``secret`` of the state directory.

    Args:
        folder: returns the state directory, ``None`` to keep the bytes in memory; may raise
            :class:`.StateError`.
        disk: file operations.
    """

    def __init__(self, folder: Callable[[], Path | None], disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._own = secrets.token_bytes(SECRET_BYTES)

    def read(self) -> bytes:
        """Return the shared bytes, created at first use; this process's own where that fails.

        Where a crash or a full disk left a part of the file it is replaced. Every call reads the file,
        so workers that replaced it at the same time agree at once. A worker that read the bytes once
        keeps them: it writes a lost file as it was, and goes on with them while there is none.
        """
        try:
            folder = self._folder()
            if folder is None:
                return self._own
            path = folder / "secret"
            shared = _read(path) if path.exists() else b""
            if len(shared) < SECRET_BYTES:
                if not self._disk.create_once(path, self._own):
                    self._disk.save(path, self._own)
                shared = _read(path)
        except (OSError, StateError) as error:
            raise_if_of_host(error)
            return self._own
        self._own = shared
        return shared


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(SECRET_BYTES)
