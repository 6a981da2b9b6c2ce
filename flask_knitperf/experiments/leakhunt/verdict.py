"""Does a request leave something behind, what, where, and who holds it? Proved by replaying it.

Two processes of their own replay the request, for watching changes what is watched. One traces all
that Python allocates (:mod:`.python_phase`): bytes per request to the byte, lines, types, holders. The
other traces nothing (:mod:`.native_phase`) and reads what the system, C's ``malloc`` and Arrow say:
what they keep beyond Python's own is native, with lines read off those figures. It also confirms the
first: what grows only while it is traced is no leak.

Most requests leave nothing. So a first third of the requests is looked at, and only where that may have
grown the other two thirds follow, on which the verdict rests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...core.units import MB
from .growth import Growth
from .retainers import Holder


@dataclass(frozen=True, slots=True)
class Where:
    """A line that allocates what stays.

    Attributes:
        file: of the application; empty where no line of it is on the stack.
        line: its number.
        per_request: bytes that stay of a request.
        native: bytes of these that Python does not know of.
        library: ``file:line`` that ran below.
        stack: the innermost frames, where no line is the application's.
        steady: whether it grew in each third of the run; of native memory, whether it takes about as
            much as is kept (else it is rather given back by another line).
    """

    file: str
    line: int
    per_request: float
    native: float = 0.0
    library: str = ""
    stack: tuple[str, ...] = ()
    steady: bool = True


@dataclass(frozen=True, slots=True)
class Traced:
    """What was found where all of Python's allocations were traced.

    Attributes:
        growth: of live bytes.
        malloced: bytes per request of them that C's ``malloc`` gave.
        lines: where what stays was allocated.
        types: objects that stay of a request, by type.
        holders: what holds them.
        waiting: bytes of a request that wait for the collector.
        waiting_lines: where those are allocated.
        requests: how many were served.
        statuses: how often each status was answered.
    """

    growth: Growth
    malloced: float
    lines: tuple[Where, ...]
    types: dict[str, float]
    holders: tuple[Holder, ...]
    waiting: float
    waiting_lines: tuple[Where, ...]
    requests: int
    statuses: dict[int, int]


@dataclass(frozen=True, slots=True)
class Untraced:
    """What was found where nothing was traced.

    Attributes:
        growth: of memory that Python does not know of; of resident memory where no allocator tells.
        by: what told it: ``malloc``, ``arrow`` or ``resident``.
        blocks: growth of the number of Python's blocks of memory.
        malloc: growth of what ``malloc`` has given out, Python's larger blocks included.
        lines: where native memory is taken.
        resident: resident bytes at the end, after a collection.
        returned: bytes of them that the system got back when it was asked to.
        requests: how many were served.
        statuses: how often each status was answered.
    """

    growth: Growth
    by: str
    blocks: Growth
    malloc: Growth
    lines: tuple[Where, ...]
    resident: int
    returned: int
    requests: int
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def grows(self) -> bool:
        """Whether anything here grows, so that what grows under the tracer is no artefact of it."""
        return self.growth.steady or self.blocks.steady or self.malloc.steady


WAITING_FLOOR = 16 * 1024
"""Garbage per request from which on it is worth a word."""
RETURNED_FLOOR = 8 * MB
FROM_ERRORS = 400
"""The first status of HTTP that says that something was wrong."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """What replaying a request proved.

    Attributes:
        kind: ``leak``, ``native leak``, ``filling`` (a cache with a bound that is not full),
            ``cycles``, ``fragmentation``, ``none``, or ``unproved``: every answer was an error, so the
            view itself was hardly tried.
        per_request: bytes that stay of a request.
        lines: where they are allocated, the worst first.
        traced: what was found with the tracer.
        untraced: what was found without it.
    """

    kind: str
    per_request: float
    lines: tuple[Where, ...]
    traced: Traced
    untraced: Untraced

    @property
    def leaks(self) -> bool:
        """Whether memory is kept for good."""
        return self.kind in ("leak", "native leak")


def verdict(traced: Traced, untraced: Untraced) -> Hunt:
    """Return what both phases say together."""
    python = traced.growth.per_request if traced.growth.steady and untraced.grows else 0.0
    native = untraced.growth.per_request if untraced.growth.steady else 0.0
    lines = _merged(
        traced.lines if python else (), untraced.lines if native else (), untraced.by == "malloc"
    )
    return Hunt(_kind(traced, untraced, python, native), python + native, lines, traced, untraced)


def _kind(traced: Traced, untraced: Untraced, python: float, native: float) -> str:
    if native > python:
        return "native leak"
    if python:
        first = traced.holders[0] if traced.holders else None
        full = first is None or first.bound is None or (first.items or 0) >= first.bound
        return "leak" if full else "filling"
    if traced.waiting >= WAITING_FLOOR:
        return "cycles"
    if untraced.returned >= max(RETURNED_FLOOR, untraced.resident // 20):
        return "fragmentation"
    statuses = {*traced.statuses, *untraced.statuses}
    return "unproved" if min(statuses, default=0) >= FROM_ERRORS else "none"


def _merged(python: tuple[Where, ...], native: tuple[Where, ...], both: bool) -> tuple[Where, ...]:
    """Return lines with what they keep of Python's memory and of other together.

    Args:
        python: lines by Python's memory.
        native: lines by other memory.
        both: whether Python's larger blocks are among the other.
    """
    found = {(each.file, each.line, each.library if not each.file else ""): each for each in python}
    for each in native:
        key = (each.file, each.line, "")
        own = found.get(key)
        if own is not None:
            more = max(0.0, each.native - own.per_request) if both else each.native
            whole = own.per_request + more
            each = Where(own.file, own.line, whole, more, own.library, own.stack)  # noqa: PLW2901
        found[key] = each
    return tuple(sorted(found.values(), key=_worst_first))


def _worst_first(line: Where) -> tuple[bool, bool, float]:
    return not line.file, not line.steady, -line.per_request
