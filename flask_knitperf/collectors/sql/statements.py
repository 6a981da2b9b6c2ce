"""The statements that a request sent, and what is kept of each: a time, a result, and one number.

What they mean is worked out when the request ends (:mod:`.request_queries`). No parameter is kept: they
are one number each time, which tells whether two calls had the same.
"""

from __future__ import annotations

from typing import Any

from ...metrics.catalogue import PartKind
from .fastpath import MAX_KEPT_TEXT, StatementBase
from .fingerprint import SHAPES, Shape

PART = PartKind.SQL.value
_WRITTEN = frozenset({list, dict, set, bytearray})
_SHOWN = 160
"""Characters of a shape in the timeline of a request."""


class Sent(StatementBase):
    """The statements of one text that one line of a request sent to one database.

    Three lists have an entry for each statement that is not put together yet.

    Attributes:
        fingerprint: its shape, once that is known.
        text: as it was sent, empty for a long one.
        text_hash: of its text.
        call_site: the line of own code, empty where none asked or nobody looked.
        database: a number for what it was sent to.
        durations: nanoseconds, with fetching its rows.
        results: the rows that it gave or changed, -1 where unknown; or the class of its error.
        parameter_hashes: a number for its parameters, ``None`` where it is not to be judged.
        merged: statements that are put together already.
        page_hashes: what they differ in, leaving out which page they ask for; at most two.
        value_count: values that all asked for, those in lists too.
        lazy_count: statements that an attribute of an ORM's object sent.
    """

    __slots__ = ()

    def __init__(self, text: str, where: str, database: int) -> None:
        self.text, self.call_site, self.database = text, where, database
        self.text_hash = hash(text)
        self.fingerprint: Shape | None = None
        if len(text) > MAX_KEPT_TEXT:
            self.fingerprint, self.text = SHAPES.of(text), ""
        self.durations: list[int] = []
        self.results: list[int | str] = []
        self.parameter_hashes: list[int | None] = []
        self.page_hashes: set[int] = set()
        self.merged = self.value_count = self.lazy_count = 0

    def known(self) -> Shape:
        """Return its shape."""
        if self.fingerprint is None:
            self.fingerprint = SHAPES.of(self.text)
        return self.fingerprint


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
            "where": self._sent.call_site or None,
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
        sent.parameter_hashes.append(0)
        return
    kind = type(parameters)
    if kind is tuple or kind is list:
        values = tuple(parameters)
    elif isinstance(parameters, dict):
        values = tuple(parameters.values())
    else:
        sent.parameter_hashes.append(None)
        return
    sent.value_count += len(values)
    try:
        number = hash(values)
    except Exception:  # a list, an array: what cannot be hashed counts by how it is written
        sent.value_count += sum(len(each) - 1 for each in values if type(each) is list)
        values = tuple(map(_plain, values))
        number = hash(values)
    sent.parameter_hashes.append(number)
    if len(values) > 2 and len(sent.page_hashes) < 2:
        sent.page_hashes.add(hash(values[:-2]))


def _plain(value: Any) -> int:
    try:
        return hash(value)
    except Exception:
        if type(value) in _WRITTEN:
            return hash(repr(value)[:MAX_KEPT_TEXT])
        return id(value)  # told apart from all others
