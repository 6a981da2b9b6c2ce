"""Revoked values, shared by all workers of a host: links that were used, sessions that signed out.

The nonce of a revoked value is the name of an empty file in the state directory, created with
``O_EXCL``: exactly one worker creates it. Without a state directory it is in the memory of this process.

A value counts as expired when this process has known of it for long enough on its monotonic clock. By
the time of day it may only seem so: when the clock is right again, it would be valid again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ..core.clock import NS_PER_S, SYSTEM
from ..core.errors import StateError
from ..core.locks import Lock

MAX_FILES = 10_000
"""Files of one kind, beyond which those that are old by the time of day are deleted too."""


class Revocations:
    """Revoked values of one kind, forgotten when they have expired.

    Args:
        folder: returns the state directory, ``None`` to keep everything in memory; may raise
            :class:`.StateError`, and then no value can be revoked.
        name: of their folder there.
        lifetime_s: seconds for which a value is valid; files stay twice as long.
        monotonic_ns: nanoseconds on a clock that never runs backwards.
    """

    def __init__(
        self,
        folder: Callable[[], Path | None],
        name: str,
        lifetime_s: float,
        monotonic_ns: Callable[[], int] = SYSTEM.monotonic_ns,
    ) -> None:
        self._folder = folder
        self._name = name
        self._lifetime_s = lifetime_s
        self._monotonic_ns = monotonic_ns
        self._lock = Lock()
        # when this process revoked a value, and first saw its file, in seconds on the monotonic clock
        self._own: dict[str, float] = {}
        self._seen: dict[str, float] = {}

    def revoke(self, nonce: str, now: float) -> bool:
        """Revoke a value; return ``False`` if it was revoked before, or that cannot be recorded.

        Args:
            nonce: letters, digits, ``-`` and ``_``.
            now: seconds since the epoch.
        """
        with self._lock:
            elapsed = self._monotonic_ns() / NS_PER_S
            self._own = {
                known: at for known, at in self._own.items() if elapsed - at < 2 * self._lifetime_s
            }
            if nonce in self._own or not self._record(nonce, now):
                return False
            self._own[nonce] = elapsed
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
            self._delete_old(folder, now)
            os.close(os.open(folder / nonce, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:  # it exists, or cannot be recorded
            return False
        self._seen[nonce] = self._monotonic_ns() / NS_PER_S
        return True

    def _delete_old(self, folder: Path, now: float) -> None:
        names = os.listdir(folder)
        elapsed = self._monotonic_ns() / NS_PER_S
        self._seen = {name: self._seen.get(name, elapsed) for name in names}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if elapsed - self._seen[name] > 2 * self._lifetime_s or (
                    len(names) > MAX_FILES
                    and now - (folder / name).stat().st_mtime > 2 * self._lifetime_s
                ):
                    (folder / name).unlink()
