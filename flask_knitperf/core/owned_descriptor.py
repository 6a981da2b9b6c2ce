"""Descriptors that stay open for long, in a process that others may tidy.

A program that becomes a daemon often closes every descriptor. The number is then given to the next file
that is opened, which is not ours: written to, it would be damaged; closed, it would fail. So the file
behind the number is compared with the one that was opened before each use.
"""

from __future__ import annotations

import os

from .host_exceptions import SuppressOwn, raise_if_of_host


class OwnedDescriptor:
    """An open file, as long as its number still is that file's.

    Args:
        number: the descriptor; it is closed with this object.
    """

    __slots__ = ("__weakref__", "_file", "_number")

    def __init__(self, number: int) -> None:
        self._file: tuple[int, int] | None = None
        with SuppressOwn(OSError):  # it is closed
            status = os.fstat(number)
            self._file = status.st_dev, status.st_ino
        self._number = number  # last: an interrupted one has nothing to close

    def number(self) -> int:
        """Return the descriptor, -1 once it is closed or another file's."""
        try:
            status = os.fstat(self._number)
        except OSError as error:
            raise_if_of_host(error)
            self._number = -1
        else:
            if (status.st_dev, status.st_ino) != self._file:
                self._number = -1
        return self._number

    def close(self) -> None:
        """Close the file, unless that was done already, by whomever."""
        number, self._number = self.number(), -1
        if number >= 0:
            with SuppressOwn(OSError):
                os.close(number)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            self.close()
