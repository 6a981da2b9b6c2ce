"""Descriptors that stay open for long, in a process that others may tidy.

A program that becomes a daemon often closes every descriptor. The number is then given to the next file
that is opened, which is not ours: written to, it would be damaged; closed, it would fail. So the file
behind the number is compared with the one that was opened before each use.
"""

from __future__ import annotations

import contextlib
import os


class OwnedDescriptor:
    """An open file, as long as its number still is that file's.

    Args:
        number: the descriptor; it is closed with this object.
    """

    __slots__ = ("__weakref__", "_file", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        self._file = _file_of(number)

    def number(self) -> int:
        """Return the descriptor, -1 once it is closed or another file's."""
        if self._number >= 0 and _file_of(self._number) != self._file:
            self._number = -1
        return self._number

    def close(self) -> None:
        """Close the file, unless that was done already, by whomever."""
        number, self._number = self.number(), -1
        if number >= 0:
            with contextlib.suppress(OSError):
                os.close(number)

    def __del__(self) -> None:
        self.close()


def _file_of(number: int) -> tuple[int, int] | None:
    """Return device and inode behind a descriptor, ``None`` if it is closed."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino
