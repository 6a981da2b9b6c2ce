"""Whose line allocated what still lives: tracemalloc's traces, added up by lines of the application.

A trace belongs to the innermost line of the application on its stack: that is the line a developer can
change. What ran below it, in pandas or the standard library, is told beside it.
"""

from __future__ import annotations

import itertools
import operator
import os
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.code_locations import PACKAGE
from .growth import in_each_third, low_water

FRAMES = 64
"""Deep enough for the application's line below pandas and above the server."""
SMALL = 512
"""Up to so many bytes Python has an allocator of its own; beyond it C's ``malloc`` is asked."""
_STACK = 6
_HUNT = (
    os.path.join(PACKAGE, "experiments", "leakhunt", ""),
    os.path.join(PACKAGE, "collectors", "memory", ""),
)
"""Folders whose own allocations are not the replayed request's."""
_DOMAIN, _SIZE, _STACK_OF = map(operator.itemgetter, range(3))

Frame = tuple[str, int]
IsOwn = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was allocated.

    Attributes:
        file: the innermost file of the application, empty where none is on the stack.
        line: the line of it.
        library: ``file:line`` that ran below it, the innermost; empty where it is the line itself.
        stack: where no line of the application is, the innermost frames.
    """

    file: str
    line: int
    library: str = ""
    stack: tuple[str, ...] = ()


def place_of(frames: Sequence[Frame], is_own: IsOwn) -> Place:
    """Return the place of a stack.

    Args:
        frames: the innermost first.
        is_own: whether a file is the application's.
    """
    innermost = f"{frames[0][0]}:{frames[0][1]}" if frames else ""
    for depth, (file, line) in enumerate(frames):
        if is_own(file):
            return Place(file, line, innermost if depth else "")
    served = itertools.takewhile(lambda frame: not frame[0].startswith(PACKAGE), frames[:_STACK])
    return Place("", 0, innermost, tuple(f"{file}:{line}" for file, line in served))


@dataclass(frozen=True, slots=True)
class Census:
    """All that lives at one moment and was allocated while it was traced.

    Attributes:
        at: requests served by then.
        sizes: bytes by place.
        counts: blocks by place.
        malloced: bytes of them that C's ``malloc`` gave.
    """

    at: int
    sizes: Mapping[Place, int]
    counts: Mapping[Place, int]
    malloced: int


def _is_ours(frames: Iterable[Frame]) -> bool:
    """Return whether a stack is that of watching, rather than of the request that is replayed."""
    first = next((file for file, _ in frames if file.startswith(PACKAGE)), "")
    return first.startswith(_HUNT)


class Tracer:
    """Takes censuses; remembers the place of each stack.

    Args:
        is_own: whether a file is the application's.
    """

    def __init__(self, is_own: IsOwn) -> None:
        self._is_own = is_own
        self._own: dict[str, bool] = {}
        self._places: dict[tuple[Frame, ...], Place | None] = {}

    def owns(self, file: str) -> bool:
        """Return whether a file is the application's, remembered."""
        found = self._own.get(file)
        if found is None:
            # code of a template has lines of its own; it counts for the line that renders it
            found = self._own[file] = file.endswith(".py") and self._is_own(file)
        return found

    def place(self, frames: tuple[Frame, ...]) -> Place | None:
        """Return the place of a stack, the innermost frame first; ``None`` for this package's own."""
        if frames in self._places:
            return self._places[frames]
        found = self._places[frames] = None if _is_ours(frames) else place_of(frames, self.owns)
        return found

    def place_of_object(self, each: object) -> Place | None:
        """Return where an object was allocated, ``None`` where that was not traced."""
        stack = tracemalloc.get_object_traceback(each)
        if stack is None:
            return None
        return self.place(tuple((frame.filename, frame.lineno) for frame in reversed(stack)))

    def census(self, at: int) -> Census:
        """Count what lives now."""
        # The public way makes objects of each trace and frame, and what is made here is traced too: an
        # order of magnitude. A stack is one tuple in a snapshot, and hashing it is slow.
        traces = tracemalloc.take_snapshot().traces._traces  # type: ignore[attr-defined]
        count = len(traces)
        domains = np.fromiter(map(_DOMAIN, traces), np.int64, count)
        sizes = np.fromiter(map(_SIZE, traces), np.int64, count)
        keys = np.fromiter(map(id, map(_STACK_OF, traces)), np.uint64, count)
        _, first, which = np.unique(keys, return_index=True, return_inverse=True)
        malloced = np.where((sizes > SMALL) | (domains != 0), sizes, 0)
        sums = np.column_stack(
            [np.bincount(which, each, len(first)) for each in (sizes, np.ones(count), malloced)]
        )
        stacks = [traces[place][2] for place in first.tolist()]
        return self._census(at, zip(stacks, sums.astype(np.int64).tolist(), strict=True))

    def _census(self, at: int, by_stack: Iterable[tuple[tuple[Frame, ...], list[int]]]) -> Census:
        sizes: dict[Place, int] = {}
        counts: dict[Place, int] = {}
        malloced = 0
        for frames, (size, count, of_malloc) in by_stack:
            place = self.place(frames)
            if place is not None:
                sizes[place] = sizes.get(place, 0) + size
                counts[place] = counts.get(place, 0) + count
                malloced += of_malloc
        return Census(at, sizes, counts, malloced)


@dataclass(frozen=True, slots=True)
class Line:
    """A line whose live bytes grow.

    Attributes:
        place: where it is, and what ran below it that allocated most.
        per_request: bytes that stay of a request.
        blocks_per_request: blocks of memory that stay of a request.
        steady: whether it grew in each third of the run.
    """

    place: Place
    per_request: float
    blocks_per_request: float
    steady: bool


def growing(censuses: Sequence[Census], floor: float) -> list[Line]:
    """Return the lines that grow by at least ``floor``, steady ones first, then by bytes."""
    if len(censuses) < 4:
        return []
    first, last = censuses[0], censuses[-1]
    together: dict[tuple[str, int, str], list[Place]] = {}
    for place in last.sizes:
        key = (place.file, place.line, "" if place.file else place.library)
        together.setdefault(key, []).append(place)
    least = floor * (last.at - first.at)
    found = [
        _line(censuses, places) for places in together.values()
        if _sum(last.sizes, places) - _sum(first.sizes, places) >= least
    ]  # fmt: skip
    return sorted(found, key=lambda line: (not line.steady, -line.per_request))


def _line(censuses: Sequence[Census], places: list[Place]) -> Line:
    first, last = censuses[0], censuses[-1]
    requests = max(1, last.at - first.at)
    most = max(places, key=lambda each: last.sizes[each] - first.sizes.get(each, 0))
    samples = [(census.at, float(_sum(census.sizes, places))) for census in censuses]
    levels = low_water(samples, len(censuses))
    gained = levels[-1][1] - levels[0][1]
    blocks = _sum(last.counts, places) - _sum(first.counts, places)
    apart = max(1.0, levels[-1][0] - levels[0][0])
    return Line(most, gained / apart, blocks / requests, in_each_third(levels))


def _sum(amounts: Mapping[Place, int], places: Iterable[Place]) -> int:
    return sum(amounts.get(place, 0) for place in places)
