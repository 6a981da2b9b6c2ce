"""The statements that a request sent, and what is kept of each: a time, a result, and one number.

What they mean is worked out when the request ends (:mod:`.request_queries`). No parameter is kept: they
are one number each time, which tells whether two calls had the same.
"""

from __future__ import annotations

from typing import Any

from ...metrics.catalogue import PartKind
from .fastpath import LONG, SentBase
from .fingerprint import SHAPES, Shape

PART = PartKind.SQL.value
_WRITTEN = frozenset({list, dict, set, bytearray})
_SHOWN = 160
"""Characters of a shape in the timeline of a request."""


class Sent(SentBase):
    """The statements of one text that one line of a request sent to one database.

    Three lists have an entry for each statement that is not put together yet.

    Attributes:
        shape: its shape, once that is known.
        text: as it was sent, empty for a long one.
        hash: of its text.
        where: the line of own code, empty where none asked or nobody looked.
        database: a number for what it was sent to.
        times: nanoseconds, with fetching its rows.
        results: the rows that it gave or changed, -1 where unknown; or the class of its error.
        values: a number for its parameters, ``None`` where it is not to be judged.
        together: statements that are put together already.
        pages: what they differ in, leaving out which page they ask for; at most two.
        listed: values that all asked for, those in lists too.
        lazy: statements that an attribute of an ORM's object sent.
    """

    __slots__ = ()

    def __init__(self, text: str, where: str, database: int) -> None:
        self.text, self.where, self.database = text, where, database
        self.hash = hash(text)
        self.shape: Shape | None = None
        if len(text) > LONG:
            self.shape, self.text = SHAPES.of(text), ""
        self.times: list[int] = []
        self.results: list[int | str] = []
        self.values: list[int | None] = []
        self.pages: set[int] = set()
        self.together = self.listed = self.lazy = 0

    def known(self) -> Shape:
        """Return its shape."""
        if self.shape is None:
            self.shape = SHAPES.of(self.text)
        return self.shape


class Call:
    """One statement in the timeline of a request.

    Args:
        sent: those like it.
        results: of those, see :class:`Sent`.
        place: its own there.
        began: when it began, in nanoseconds on the recorder's clock.
        ended: when it ended.
    """

    __slots__ = ("_place", "_results", "_sent", "began", "ended")
    name = PART

    def __init__(
        self, sent: Sent, results: list[int | str], place: int, began: int, ended: int
    ) -> None:
        self._sent, self._results, self._place = sent, results, place
        self.began, self.ended = began, ended

    @property
    def detail(self) -> Call:
        """What is known of it: itself."""
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return what is known of it as JSON values."""
        result = self._results[self._place]
        failed = isinstance(result, str)
        return {
            "shape": self._sent.known().text[:_SHOWN],
            "where": self._sent.where or None,
            "rows": None if isinstance(result, str) or result < 0 else result,
            "error": result if failed else None,
        }


def judge(sent: Sent, parameters: Any) -> None:
    """Have a statement judged by its parameters, without keeping them.

    The page of a statement in pages is said by its last two parameters, whichever comes first. Only
    plain tuples, lists and dicts are looked into: what else a driver takes is its own, and may do
    anything.
    """
    if parameters is None:
        sent.values.append(0)
        return
    kind = type(parameters)
    if kind is tuple or kind is list:
        values = tuple(parameters)
    elif isinstance(parameters, dict):
        values = tuple(parameters.values())
    else:
        sent.values.append(None)
        return
    sent.listed += len(values)
    try:
        number = hash(values)
    except Exception:  # a list, an array: what cannot be hashed counts by how it is written
        sent.listed += sum(len(each) - 1 for each in values if type(each) is list)
        values = tuple(map(_plain, values))
        number = hash(values)
    sent.values.append(number)
    if len(values) > 2 and len(sent.pages) < 2:
        sent.pages.add(hash(values[:-2]))


def _plain(value: Any) -> int:
    try:
        return hash(value)
    except Exception:
        if type(value) in _WRITTEN:
            return hash(repr(value)[:LONG])
        return id(value)  # told apart from all others
