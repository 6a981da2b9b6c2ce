"""Record of used sign-in codes, shared by all workers through the state directory.

A used code is an empty file there, created with ``O_EXCL``: exactly one worker creates it. Without a
state directory the record is in the memory of this process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from ..core.locks import Lock

_SECRET_BYTES = 32


class OneTimeCodes:
    """Record of used codes, and a signing secret for applications without an access token.

    Args:
        folder: returns the state directory, ``None`` to keep everything in memory.
    """

    def __init__(self, folder: Callable[[], Path | None]) -> None:
        self._folder = folder
        self._lock = Lock()
        self._used: dict[str, float] = {}  # when, in seconds since the epoch
        self._secret = secrets.token_bytes(_SECRET_BYTES)

    def secret(self) -> bytes:
        """Return a secret that all workers share through the state directory, created at first use."""
        folder = self._folder()
        if folder is None:
            return self._secret
        path = folder / "secret"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with open(descriptor, "wb") as file:
                file.write(self._secret)
        except FileExistsError:
            shared = path.read_bytes()
            return shared if len(shared) >= _SECRET_BYTES else self._secret
        except OSError:
            return self._secret
        return self._secret

    def use(self, code: str, now: float, lifetime_s: float) -> bool:
        """Mark a code as used; return whether it was unused.

        Args:
            code: letters, digits, ``-`` and ``_``.
            now: seconds since the epoch.
            lifetime_s: seconds for which a code is valid; used ones are remembered longer than that.
        """
        with self._lock:
            self._used = {
                known: at for known, at in self._used.items() if now - at < lifetime_s
            }  # fmt: skip
            if code in self._used:
                return False
            self._used[code] = now
        folder = self._folder()
        return folder is None or _create_marker(folder / "used-links", code, now, lifetime_s)


def _create_marker(folder: Path, code: str, now: float, lifetime_s: float) -> bool:
    """Create the file that marks a code as used, and delete old ones; return whether it is new."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for old in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if now - old.stat().st_mtime > 2 * lifetime_s:
                    old.unlink()
        os.close(os.open(folder / code, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:  # used already, or it cannot be recorded: then the code is refused
        return False
    return True
