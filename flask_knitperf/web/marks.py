"""Marks that all workers share through the state directory: a link was used, a session signed out.

A mark is an empty file, created with ``O_EXCL``: exactly one worker creates it. Without a state
directory marks are in the memory of this process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ..core.locks import Lock


class Marks:
    """Marks of one kind, forgotten after their lifetime.

    Args:
        folder: returns the state directory, ``None`` to keep everything in memory.
        name: of their folder there.
        lifetime_s: seconds for which a mark is needed; files stay twice as long.
    """

    def __init__(self, folder: Callable[[], Path | None], name: str, lifetime_s: float) -> None:
        self._folder = folder
        self._name = name
        self._lifetime_s = lifetime_s
        self._lock = Lock()
        self._own: dict[str, float] = {}  # when, in seconds since the epoch

    def add(self, mark: str, now: float) -> bool:
        """Add a mark; return ``False`` if it existed, or could not be recorded for all workers.

        Args:
            mark: letters, digits, ``-`` and ``_``.
            now: seconds since the epoch.
        """
        with self._lock:
            self._own = {
                known: at for known, at in self._own.items() if now - at < self._lifetime_s
            }
            if mark in self._own:
                return False
            self._own[mark] = now
        folder = self._folder()
        return folder is None or self._create(folder / self._name, mark, now)

    def has(self, mark: str) -> bool:
        """Return whether a mark was added, by any worker."""
        if mark in self._own:
            return True
        folder = self._folder()
        return folder is not None and (folder / self._name / mark).exists()

    def _create(self, folder: Path, mark: str, now: float) -> bool:
        """Create the file of a mark, and delete old ones; return whether it is new."""
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            for old in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if now - old.stat().st_mtime > 2 * self._lifetime_s:
                        old.unlink()
            os.close(os.open(folder / mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:  # it exists, or cannot be recorded
            return False
        return True
