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
        self._file: tuple[int, int] | None = None
        with contextlib.suppress(OSError):  # it is closed
            status = os.fstat(number)
            self._file = status.st_dev, status.st_ino

    def number(self) -> int:
        """Return the descriptor, -1 once it is closed or another file's."""
        try:
            status = os.fstat(self._number)
        except OSError:
            self._number = -1
        else:
            if (status.st_dev, status.st_ino) != self._file:
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
