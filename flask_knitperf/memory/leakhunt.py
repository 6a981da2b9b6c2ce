"""Does a request leave something behind, what, where, and who holds it? Proved by replaying it.

Two processes of their own replay the request, for watching changes what is watched. One traces all
that Python allocates: bytes per request to the byte, lines, types, holders. The other traces nothing and
reads what the system, C's ``malloc`` and Arrow say: what they keep beyond Python's own is native,
with lines read off those figures. It also confirms the first: what grows only while it is traced is
no leak.

Most requests leave nothing. So a first third of the requests is looked at, and only where that may have
grown the other two thirds follow, on which the verdict rests.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .growth import FLAT, Growth, Samples, judge, low_water
from .holders import (
    Containers,
    Holder,
    bound_of,
    chain,
    count_types,
    describe,
    growing_types,
    newest_types,
)
from .native import LineMeter, arrow_bytes, likeliest, malloc_meter
from .process import MB, rss, trim
from .replay import Replay, Serve, Tell
from .traces import FRAMES, Census, IsOwn, Line, Tracer, growing

FLOOR = 64
"""Bytes per request below which nothing is called a leak: less than an object in a list."""
NATIVE_FLOOR = 256
"""The same for memory that Python does not know of; the allocator's own rounding is below it."""
RESIDENT_FLOOR = 4096
"""The same where only resident memory can be read, which comes in pages."""
_LOOKS = 12
_WAITING = 30
_TRACED_LINES = 60
_NATIVE_SHARE = 0.25
"""Native growth has to be this share of Python's to be told from its rounding."""
_LINES_SHOWN = 12
_SAMPLES = 5
_SAMPLED_LINES = 3
_SEARCHED = 20_000


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


def may_grow(samples: Samples, floor: float) -> bool:
    """Return whether it is worth to look longer: the second half of the run grew at all."""
    levels = low_water(samples)
    (middle, before), (last, after) = levels[len(levels) // 2], levels[-1]
    return after - before >= floor / 4 * (last - middle) > 0


# -- traced ----------------------------------------------------------------------------------------


def traced(serve: Serve, is_own: IsOwn, tell: Tell, requests: int | None = None) -> Traced:
    """Replay a request while all of Python's allocations are traced.

    Args:
        serve: serves the request once.
        is_own: whether a file is the application's.
        tell: told how far it is.
        requests: how many to measure; by default as many as fit into a short time.
    """
    gc.collect()
    containers = Containers()
    gc.freeze()  # what the application loaded need not be searched in each collection
    tracemalloc.start(FRAMES)
    try:
        return _traced(serve, is_own, tell, requests, containers)
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def _traced(
    serve: Serve, is_own: IsOwn, tell: Tell, requests: int | None, containers: Containers
) -> Traced:
    tracer = Tracer(is_own)
    seen = _Seen(tracer, containers)
    replay = Replay(serve, {"live": lambda: _live() - seen.ours}, tell, requests)
    replay.warm()
    first = max(13, replay.requests // 3)
    samples = replay.run(first)["live"]
    growth, lines, malloced = judge(samples, FLOOR), list[Line](), 0.0
    types: dict[str, float] = {}
    holders: tuple[Holder, ...] = ()
    if may_grow(samples, FLOOR):
        series = replay.run(replay.requests - first, _LOOKS, lambda: seen.look(replay.at))
        growth = judge(series["live"], FLOOR)
        lines = growing(seen.censuses, FLOOR / 8)
        malloced = judge([(c.at, float(c.malloced)) for c in seen.censuses], 0.0).per_request
        types = growing_types(seen.types)
        if growth.steady:
            holders, held = _holders(containers, lines, tracer)
            types = {**held, **types}
    waiting, waiting_lines = _waiting(replay, tracer)
    return Traced(
        growth, malloced, tuple(map(_where, lines[:_LINES_SHOWN])), types, holders,
        waiting, waiting_lines, replay.at, dict(replay.statuses),
    )  # fmt: skip


def _live() -> int:
    return tracemalloc.get_traced_memory()[0]


class _Seen:
    """What was seen at several moments, and how much memory it takes to remember that."""

    def __init__(self, tracer: Tracer, containers: Containers) -> None:
        self.censuses: list[Census] = []
        self.types: list[tuple[int, Mapping[str, int]]] = []
        self.ours = 0
        self._hidden: set[int] = set()
        self._tracer, self._containers = tracer, containers

    def look(self, at: int) -> None:
        before = _live()
        if len(self.censuses) % 5 == 0 or len(self.censuses) == _LOOKS - 1:
            self._containers.look(at)
        self.types.append((at, count_types(self._hidden)))
        census = self._tracer.census(at)
        self.censuses.append(census)
        self._hidden |= {id(each) for each in (census.sizes, census.counts, self.types[-1][1])}
        gc.collect()  # it empties the lists of free objects too, which are traced
        self.ours += _live() - before


def _where(line: Line) -> Where:
    place = line.place
    return Where(place.file, place.line, line.per_request, 0.0, place.library, place.stack,
                 line.steady)  # fmt: skip


def _waiting(replay: Replay, tracer: Tracer) -> tuple[float, tuple[Where, ...]]:
    """Return what only a collection frees, of a request, and where it is allocated."""
    gc.collect()
    on = gc.isenabled()
    gc.disable()
    try:
        for _ in range(_WAITING):
            replay.once()
        before = tracer.census(replay.at)
    finally:
        if on:
            gc.enable()
    gc.collect()
    after = tracer.census(replay.at)
    freed = {place: size - after.sizes.get(place, 0) for place, size in before.sizes.items()}
    most = sorted((place for place, size in freed.items() if size > 0), key=lambda p: -freed[p])
    lines = tuple(
        Where(p.file, p.line, freed[p] / _WAITING, 0.0, p.library, p.stack) for p in most[:3]
    )
    return max(0.0, sum(freed.values()) / _WAITING), lines


def _holders(
    containers: Containers, lines: list[Line], tracer: Tracer
) -> tuple[tuple[Holder, ...], dict[str, float]]:
    """Return who holds what grows, and the types of what gets into what gets longer.

    That is what gets longer, else what holds something new of the worst line.
    """
    gc.collect()
    longer = containers.growing()
    samples = [] if longer else _allocated_by(lines[:_SAMPLED_LINES], tracer)
    gc.unfreeze()  # else what was there before is not asked whether it refers to anything
    found: list[Holder] = []
    types: dict[str, float] = {}
    mine = {id(samples), id(longer), id(containers.old)}
    for container, per_request in longer[:3]:
        way = chain([container], mine)
        if way:
            types = {**newest_types(container, per_request), **types}
            bounds = [bound for each in way if (bound := bound_of(each)) is not None]
            found.append(
                Holder(describe(way), len(container), per_request, min(bounds, default=None))
            )
    way = [] if found or not samples else chain(samples, mine)
    if way:
        found.append(Holder(describe(way), None, None, None))
    return tuple(found), types


def _allocated_by(lines: list[Line], tracer: Tracer) -> list[object]:
    """Return the latest objects that lines allocated, among them such that the collector tracks not."""
    wanted = {(line.place.file, line.place.line) for line in lines}
    found: list[object] = []
    latest = gc.get_objects()[:-_SEARCHED:-1]
    plain = [each for each in gc.get_referents(*latest) if not gc.is_tracked(each)]
    for each in (*latest, *plain[:_SEARCHED]):
        its = tracer.place_of_object(each)
        if its is not None and (its.file, its.line) in wanted:
            found.append(each)
            if len(found) == _SAMPLES:
                break
    return found


# -- untraced --------------------------------------------------------------------------------------


def untraced(
    serve: Serve, is_own: IsOwn, tell: Tell, requests: int | None = None, known: float = 0.0
) -> Untraced:
    """Replay a request while nothing is traced, and read what the system and allocators say.

    Args:
        serve: serves the request once.
        is_own: whether a file is the application's.
        tell: told how far it is.
        requests: how many to measure; by default as many as fit into a short time.
        known: bytes per request that Python is known to keep of ``malloc``.
    """
    gc.collect()
    gc.freeze()
    malloc = malloc_meter()
    figures: dict[str, Callable[[], float]] = {
        "blocks": sys.getallocatedblocks,
        "arrow": arrow_bytes,
    }
    figures["malloc" if malloc is not None else "resident"] = malloc or rss
    replay = Replay(serve, figures, tell, requests)
    replay.warm()
    first = max(13, replay.requests // 3)
    series = replay.run(first)
    if any(
        may_grow(samples, 1.0 if name == "blocks" else FLOOR) for name, samples in series.items()
    ):
        series = replay.run(replay.requests - first)
    by, growth = _native(series, known)
    lines: tuple[Where, ...] = ()
    if growth.steady and by != "resident":
        meter = LineMeter(arrow_bytes if malloc is None or by == "arrow" else malloc, is_own)
        lines = _native_lines(replay, meter, growth.per_request)
    gc.collect()
    resident = rss()
    trim()
    gc.unfreeze()
    return Untraced(
        growth, by, judge(series["blocks"], 0.5), judge(series.get("malloc", []), FLOOR), lines,
        resident, max(0, resident - rss()), replay.at, dict(replay.statuses),
    )  # fmt: skip


def _native(series: dict[str, list[tuple[int, float]]], known: float) -> tuple[str, Growth]:
    """Return what grows beyond what Python is known to keep, and what told it."""
    arrow = judge(series["arrow"], FLOOR)
    name, floor = ("malloc", NATIVE_FLOOR) if "malloc" in series else ("resident", RESIDENT_FLOOR)
    rest = judge([(at, value - known * at) for at, value in series[name]],
                 max(floor, _NATIVE_SHARE * known))  # fmt: skip
    found = [(by, each) for by, each in (("arrow", arrow), (name, rest)) if each.steady]
    return max(found, key=lambda each: each[1].per_request, default=(name, FLAT))


def _native_lines(replay: Replay, meter: LineMeter, kept: float) -> tuple[Where, ...]:
    replay.once()
    with meter.watching():  # the meter itself takes memory at first
        replay.once()
    meter.changes.clear()
    for _ in range(_TRACED_LINES):
        with meter.watching():
            replay.once()
    found = likeliest(meter.changes, _TRACED_LINES, kept)
    return tuple(
        Where(file, line, rate, rate, steady=near)
        for (file, line), rate, near in found[:_LINES_SHOWN]
    )


# -- the verdict -----------------------------------------------------------------------------------

WAITING_FLOOR = 16 * 1024
"""Garbage per request from which on it is worth a word."""
RETURNED_FLOOR = 8 * MB


@dataclass(frozen=True, slots=True)
class Hunt:
    """What replaying a request proved.

    Attributes:
        kind: ``leak``, ``native leak``, ``filling`` (a cache with a bound that is not full),
            ``cycles``, ``fragmentation`` or ``none``.
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
    return "none"


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
