"""Provenance of objects: the operation and call site that created them, kept by weak reference.

Readers of files register the frames that they return; the list of live DataFrames looks them up. An
entry disappears with its object.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from .host_exceptions import raise_if_of_host

_MAX_OBJECTS = 10_000


class Origin(NamedTuple):
    """Creation of an object.

    Attributes:
        what: the operation, e.g. ``read_csv stock.csv``.
        where: call site in application code, empty where unknown.
    """

    what: str
    where: str


class Origins:
    """Origins of objects of this process, by identity: objects need not be hashable."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], Origin]] = {}

    def remember(self, value: Any, what: str, where: str) -> None:
        """Register the origin of an object; the first registration wins.

        Objects without weak references are skipped, and so is everything above 10,000 objects.
        """
        key = id(value)
        if len(self._entries) >= _MAX_OBJECTS or self.of(value) is not None:
            return

        def forget(_: Any) -> None:
            self._entries.pop(key, None)

        try:
            self._entries[key] = weakref.ref(value, forget), Origin(what, where)
        except TypeError as error:
            raise_if_of_host(error)
            return

    def of(self, value: Any) -> Origin | None:
        """Return the origin of an object, ``None`` if it was not registered."""
        entry = self._entries.get(id(value))
        return entry[1] if entry is not None and entry[0]() is value else None

    def __len__(self) -> int:
        return len(self._entries)


ORIGINS = Origins()
