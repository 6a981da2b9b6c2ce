"""Revoked values, shared by all workers of a host: links that were used, sessions that signed out.

The nonces of revoked values are lines of one file in the state directory, the *record*. Workers append
to it; a worker that checks a value reads only what others appended. The first line with a nonce is the
one that counts, so exactly one worker revokes a value, without a lock. No clock is read: a clock that
jumps ahead and back revives nothing.

Each record has a random name, its *origin*, in its first line. A signed value carries the origin of the
record that was current when it was issued. When a record is lost (the state directory was removed) or
full, the next one lists the former origin as ended, and no value with that is valid any more: what the
lost record had revoked stays revoked. A value of an unknown origin is one of another host.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

from ..core.errors import StateError
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock
from .atomic_files import Disk

MAX_RECORD_BYTES = 1 << 20  # some 25,000 revoked values; then everybody on this host signs in again
MAX_ENDED = 16  # former origins that a record lists
_ORIGIN_BYTES = 8
_MAX_HEAD_BYTES = (MAX_ENDED + 1) * (2 * _ORIGIN_BYTES + 1)
_HEAD = re.compile(r"[0-9a-f]{16}(?: [0-9a-f]{16})*\n")


class Revocations:
    """The record of revoked values.

    Attributes:
        failure: why no record could be written, ``None`` if one was.

    Args:
        folder: returns the state directory, ``None`` to keep everything in memory; may raise
            :class:`.StateError`, and then no value can be revoked.
        disk: file operations.
    """

    def __init__(self, folder: Callable[[], Path | None], disk: Disk) -> None:
        self.failure: str | None = None
        self._folder = folder
        self._disk = disk
        self._lock = create_lock()
        self._head = ""
        self._offset = 0  # of the first byte that was not read
        self._origin = ""
        self._ended: dict[str, None] = {}
        self._revoked: dict[str, str] = {}  # by nonce, with a random name of the revocation

    def origin(self) -> str:
        """Return the origin of values that are issued now, empty if no record can be written."""
        with self._lock:
            return self._origin if self._prepare() else ""

    def allows(self, origin: str, nonce: str) -> bool:
        """Return whether a value is not revoked.

        Where this worker's record is lost, that is unknown of values with an origin: they are refused.

        Args:
            origin: result of :meth:`origin` when the value was issued.
            nonce: letters, digits, ``-`` and ``_``.
        """
        with self._lock:
            if not self._read() and self._origin and origin:
                return False
            return origin not in self._ended and nonce not in self._revoked

    def revoke(self, nonce: str) -> bool:
        """Revoke a value; return ``False`` if it was revoked before, or that cannot be recorded.

        Args:
            nonce: letters, digits, ``-`` and ``_``.
        """
        by = secrets.token_hex(_ORIGIN_BYTES)
        with self._lock:
            if not self._prepare() or nonce in self._revoked:
                return False
            try:
                path = self._path()
                if path is None:
                    self._revoked[nonce] = by
                else:
                    # a crash may have left a part of a line
                    self._disk.append(path, f"\n{nonce} {by}\n".encode())
            except (OSError, StateError) as error:
                raise_if_of_host(error)
                return False
            return self._read() and self._revoked.get(nonce) == by

    def _path(self) -> Path | None:
        folder = self._folder()
        return None if folder is None else folder / "revoked"

    def _prepare(self) -> bool:
        """Read the record, or begin one; return whether there is one."""
        self.failure = None
        if self._is_usable():
            return True
        ended = list(dict.fromkeys([self._origin, *self._ended]))[:MAX_ENDED]
        head = " ".join(filter(None, [secrets.token_hex(_ORIGIN_BYTES), *ended])) + "\n"
        try:
            path = self._path()
            if path and not self._disk.create_once(path, head.encode()) and not self._is_usable():
                self._disk.save(path, head.encode())  # damaged, or full
        except (OSError, StateError) as error:
            raise_if_of_host(error)
            self.failure = str(error)
            return False
        return self._read()

    def _is_usable(self) -> bool:
        return self._read() and self._offset <= MAX_RECORD_BYTES

    def _read(self) -> bool:
        """Read what was appended to the record; return whether there is one."""
        try:
            path = self._path()
            if path is None:
                return True
            with open(path, "rb") as file:
                head = file.readline(_MAX_HEAD_BYTES).decode("ascii", "replace")
                if _HEAD.fullmatch(head) is None:
                    return False
                if head != self._head:
                    self._begin(head)
                file.seek(self._offset)
                self._add(file.read())
        except (OSError, StateError) as error:
            raise_if_of_host(error)
            return False
        return True

    def _begin(self, head: str) -> None:
        """Begin to read a record."""
        origin, *ended = head.split()
        known = dict.fromkeys([*ended, self._origin, *self._ended])
        self._ended = {name: None for name in known if name and name != origin}
        self._head, self._origin, self._offset, self._revoked = head, origin, len(head), {}

    def _add(self, appended: bytes) -> None:
        """Add complete lines."""
        complete = appended[: appended.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.decode("ascii", "replace").splitlines():
            nonce, _, by = line.partition(" ")
            if by:
                self._revoked.setdefault(nonce, by)
