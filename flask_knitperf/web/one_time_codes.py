"""What sign-in has to remember: which links were used (shared by all workers), and how often.

A used link is an empty file in the state directory, created with O_EXCL: exactly one worker creates
it. Where there is no directory the memory of this process has to do.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from ..core.locks import Lock


class Once:
    """Remembers used codes, and a secret for applications without a token.

    Args:
        folder: returns the state directory, ``None`` to keep everything in memory.
    """

    def __init__(self, folder: Callable[[], Path | None]) -> None:
        self._folder = folder
        self._turn = Lock()
        self._spent: dict[str, float] = {}
        self._secret = secrets.token_bytes(32)

    def secret(self) -> bytes:
        """Return a secret that all workers share through their directory, made at first use."""
        folder = self._folder()
        if folder is None:
            return self._secret
        path = folder / "secret"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with open(descriptor, "wb") as file:
                file.write(self._secret)
        except FileExistsError:
            found = path.read_bytes()
            return found if len(found) >= 32 else self._secret
        except OSError:
            return self._secret
        return self._secret

    def spend(self, code: str, now: float, seconds: float) -> bool:
        """Use a code up; return whether it was unused.

        Args:
            code: letters, digits, ``-`` and ``_``.
            now: seconds since the epoch.
            seconds: how long a code must be remembered.
        """
        with self._turn:
            self._spent = {c: at for c, at in self._spent.items() if now - at < seconds}
            if code in self._spent:
                return False
            self._spent[code] = now
        folder = self._folder()
        if folder is None:
            return True
        used = folder / "used-links"
        try:
            used.mkdir(mode=0o700, exist_ok=True)
            for old in used.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if now - old.stat().st_mtime > 2 * seconds:
                        old.unlink()
            os.close(os.open(used / code, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:  # used already, or cannot be written down: then it does not count
            return False
        return True


class Rate:
    """A token bucket: ``burst`` at once, then ``per_second``.

    Args:
        burst: how many may come at once.
        per_second: how many may come in the long run.
        clock: seconds.
    """

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float]) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._left, self._at = float(burst), clock()
        self._turn = Lock()

    def take(self) -> bool:
        """Take one; return whether there was one left."""
        with self._turn:
            now = self._clock()
            gained = max(0.0, now - self._at) * self._per_second
            self._left, self._at = min(self._burst, self._left + gained), now
            if self._left < 1:
                return False
            self._left -= 1
            return True
