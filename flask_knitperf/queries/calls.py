"""One statement that a request sends, while it is sent.

That costs two clocks, a look at the stack and an entry in a list; what it means is worked out when the
request ends (:mod:`.asked`). Neither a literal nor a parameter outlives that: parameters are kept as one
number that tells whether two calls had the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.recorder import LINES
from ..core.span import CURRENT, Span
from ..profiling.places import caller
from .fingerprint import Shape

PART = "sql"
_LONGEST_TEXT = 2000
_SHOWN = 160
"""Characters of a shape in the timeline of a request."""


class Call:
    """A statement that was sent, a part of a request.

    Attributes:
        text: as it was sent; empty once it was counted.
        where: the line of own code that asked for it, empty where none did or nobody looked.
        database: a number for what it was sent to.
        values: a number for its text and parameters, equal for equal ones.
        page: the same without what may say which page of the rows it asks for.
        listed: how many values those are, with those in lists.
        began: when it began, in nanoseconds on the recorder's clock.
        ended: when it ended.
        fetched: nanoseconds of fetching its rows, after it.
        own: nanoseconds of both, without the parts inside it.
        cpu: CPU of those.
        rows: that it gave or changed, -1 where unknown.
        error: the class of what it raised, empty if nothing.
        lazy: an object of SQLAlchemy's ORM asked for it, when one of its attributes was read.
        shape: its text without literals, ``None`` before it is counted.
        around: what sums up the parts within which it runs, ``None`` once it has ended.
        inside: nanoseconds which that had summed up when it began.
        cpu_began: CPU of its thread then, ``None`` where that is not sampled.
        cpu_inside: CPU which ``around`` had summed up then.
    """

    __slots__ = (
        "around", "began", "cpu", "cpu_began", "cpu_inside", "database", "ended", "error", "fetched",
        "inside", "lazy", "listed", "own", "page", "rows", "shape", "text", "values", "where",
    )  # fmt: skip
    name = PART
    around: Any
    began: int
    cpu: int
    cpu_began: int | None
    cpu_inside: int
    ended: int
    inside: int
    own: int

    def __init__(self, text: Any, where: str, database: int) -> None:
        self.text, self.where, self.database = text, where, database
        self.values = self.page = self.listed = self.fetched = 0
        self.rows = -1
        self.error = ""
        self.lazy = False
        self.shape: Shape | None = None

    @property
    def took(self) -> int:
        """Nanoseconds from sending it to having the rows that were fetched, but for what lay between."""
        return self.ended - self.began + self.fetched

    @property
    def detail(self) -> Call:
        """What is known of it: itself."""
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return what is known of it as JSON values."""
        return {
            "shape": None if self.shape is None else self.shape.text[:_SHOWN],
            "where": self.where or None,
            "rows": None if self.rows < 0 else self.rows,
            "error": self.error or None,
        }


def digest(call: Call, parameters: Any) -> None:
    """Tell a call's parameters from others, without keeping them.

    The page of a statement in pages is said by its last two parameters, whichever comes first.
    """
    if not parameters:
        return
    values = tuple(parameters.values() if isinstance(parameters, Mapping) else parameters)
    call.listed = len(values)
    try:
        call.values, call.page = hash(values), hash(values[:-2])
    except TypeError:  # a list, an array: what cannot be hashed counts by how it is written
        call.listed = sum(len(each) if isinstance(each, list) else 1 for each in values)
        plain = tuple(map(_plain, values))
        call.values, call.page = hash(plain), hash(plain[:-2])


def _plain(value: Any) -> int:
    try:
        return hash(value)
    except TypeError:
        return hash(repr(value)[:_LONGEST_TEXT])


_PAGE = re.compile(r"\b(offset|limit|fetch\s+(?:first|next))\s+\d+(\s*,\s*\d+)?", re.IGNORECASE)


def add_text(call: Call) -> None:
    """Tell a call's text from others of its shape too: values may be written into it."""
    text = call.text
    call.values = hash((text, call.values))
    if call.shape is not None and call.shape.offset:
        call.page = hash((_PAGE.sub("", text) if isinstance(text, str) else text, call.page))


def begin(text: Any, database: int, depth: int = 2) -> tuple[Span, Call] | None:
    """Begin a statement; return ``None`` where no request runs whose statements are counted.

    Args:
        text: the statement.
        database: a number for what it is sent to.
        depth: frames from here to the first that may hold it.
    """
    span = CURRENT.get()
    if span is None or span.ended:
        return None
    owner = span.owner
    if not owner.asks:
        return None
    call = Call(text, caller(depth) if owner.asks == LINES else "", database)
    stack = span.stack
    call.around = around = stack[-1] if stack else span.notes or span.note()
    call.inside, call.cpu_inside = around.inside, around.cpu_inside
    clock = owner.clock
    call.cpu_began = None if span.cpu_began is None else clock.wanted_ns()
    call.began = clock.monotonic_ns()
    return span, call


def end(span: Span, call: Call) -> None:
    """End a statement; what is around it knows of it from now on."""
    clock = span.owner.clock
    call.ended = ended = clock.monotonic_ns()
    wall = ended - call.began
    around, call.around = call.around, None
    call.own = wall - around.inside + call.inside
    around.inside = call.inside + wall
    if call.cpu_began is None:
        call.cpu = 0
    else:
        used = clock.wanted_ns() - call.cpu_began
        call.cpu = used - around.cpu_inside + call.cpu_inside
        around.cpu_inside = call.cpu_inside + used


def fetched(span: Span, call: Call, took: int, used: int, rows: int) -> None:
    """Count rows that were fetched; what comes when its request has counted it, is left out.

    Args:
        span: the request.
        call: the statement.
        took: nanoseconds of fetching.
        used: CPU of those.
        rows: how many there were.
    """
    if span.ended or call.shape is not None:
        return
    call.rows = max(0, call.rows) + rows
    call.fetched += took
    call.own += took
    call.cpu += used
    around = span.around()
    around.inside += took
    around.cpu_inside += used
