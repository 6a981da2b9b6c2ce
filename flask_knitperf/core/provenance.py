"""Where objects came from, for those that somebody told of, without keeping any of them alive.

Whoever reads a table tells its source and the line that asked for it; whoever lists what is alive asks.
An object is held weakly and forgotten when it goes.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

_KEPT = 10_000


class Origin(NamedTuple):
    """Where an object came from.

    Attributes:
        what: in words, e.g. ``read_csv stock.csv``.
        where: file and line of the application's own code that asked for it, empty where unknown.
    """

    what: str
    where: str


class Origins:
    """The origins of objects of this process; objects need no hash."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Origin]] = {}

    def remember(self, value: Any, what: str, where: str) -> None:
        """Take note of where an object came from; the first to tell is believed.

        An object that cannot be held weakly is passed over, and so is all beyond some thousands.
        """
        key = id(value)
        if len(self._known) >= _KEPT or self.of(value) is not None:
            return

        def gone(_: Any) -> None:
            self._known.pop(key, None)

        try:
            self._known[key] = weakref.ref(value, gone), Origin(what, where)
        except TypeError:
            return

    def of(self, value: Any) -> Origin | None:
        """Return where an object came from, ``None`` if nobody told."""
        found = self._known.get(id(value))
        return found[1] if found is not None and found[0]() is value else None

    def __len__(self) -> int:
        return len(self._known)


ORIGINS = Origins()
