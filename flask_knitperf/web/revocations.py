"""Revoked values, shared by all workers of a host: links that were used, sessions that signed out.

The nonce of a revoked value is the name of an empty file in the state directory, created with
``O_EXCL``: exactly one worker creates it. Without a state directory it is in the memory of this process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ..core.errors import StateError
from ..core.locks import Lock


class Revocations:
    """Revoked values of one kind, forgotten when they have expired.

    Args:
        folder: returns the state directory, ``None`` to keep everything in memory; may raise
            :class:`.StateError`, and then no value can be revoked.
        name: of their folder there.
        lifetime_s: seconds for which a value is valid; files stay twice as long.
    """

    def __init__(self, folder: Callable[[], Path | None], name: str, lifetime_s: float) -> None:
        self._folder = folder
        self._name = name
        self._lifetime_s = lifetime_s
        self._lock = Lock()
        self._own: dict[str, float] = {}  # when, in seconds since the epoch

    def revoke(self, nonce: str, now: float) -> bool:
        """Revoke a value; return ``False`` if it was revoked before, or that cannot be recorded.

        Args:
            nonce: letters, digits, ``-`` and ``_``.
            now: seconds since the epoch.
        """
        with self._lock:
            self._own = {
                known: at for known, at in self._own.items() if now - at < self._lifetime_s
            }
            if nonce in self._own or not self._record(nonce, now):
                return False
            self._own[nonce] = now
            return True

    def _record(self, nonce: str, now: float) -> bool:
        """Record a value for all workers; return whether it is new."""
        try:
            folder = self._folder()
        except StateError:
            return False
        return folder is None or self._create(folder / self._name, nonce, now)

    def has(self, nonce: str) -> bool:
        """Return whether a value was revoked, by any worker."""
        if nonce in self._own:
            return True
        try:
            folder = self._folder()
            return folder is not None and (folder / self._name / nonce).exists()
        except (OSError, StateError):
            return False

    def _create(self, folder: Path, nonce: str, now: float) -> bool:
        """Create the file of a value, and delete old ones; return whether it is new."""
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            for old in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if now - old.stat().st_mtime > 2 * self._lifetime_s:
                        old.unlink()
            os.close(os.open(folder / nonce, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:  # it exists, or cannot be recorded
            return False
        return True
