"""A hunt's first process: all that Python allocates is traced, to the byte and the line."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Mapping

from ..replay import Replay, Serve, Tell
from .allocation_census import FRAMES, Census, IsOwn, Line, Tracer, growing
from .growth import FLOOR, judge, may_grow
from .retainers import (
    Containers,
    Holder,
    bound_of,
    chain,
    count_types,
    describe,
    growing_types,
    newest_types,
    stores_variables,
)
from .verdict import Traced, Where

_LINES = 12
_LOOKS = 12
_WAITING = 30
_HOLDERS = 3
_SAMPLES = 5
_SAMPLED_LINES = 3
_SEARCHED = 20_000


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
    tracemalloc.stop()  # somebody's own tracing has fewer frames
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
            holders, held = _holders(containers, lines, tracer, replay)
            types = {**held, **types}
    waiting, waiting_lines = _waiting(replay, tracer)
    return Traced(
        growth, malloced, tuple(map(_where, lines[:_LINES])), types, holders,
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
    containers: Containers, lines: list[Line], tracer: Tracer, replay: Replay
) -> tuple[tuple[Holder, ...], dict[str, float]]:
    """Return who holds what grows, and the types of what gets into what gets longer.

    That is what gets longer, else what holds something new of the worst line.
    """
    gc.collect()
    longer = containers.growing()[:_HOLDERS]
    samples = _allocated_by(lines[:_SAMPLED_LINES], tracer, replay)
    gc.unfreeze()  # else what was there before is not asked whether it refers to anything
    serve = replay.serve
    mine = {id(samples), id(longer), id(containers.old)}
    found: list[Holder] = []
    types: dict[str, float] = {}
    for container, per_request in longer:
        way = chain([container], mine, serve)
        if way:
            bounds = [bound for each in way if (bound := bound_of(each)) is not None]
            most = min(bounds, default=None)
            found.append(Holder(describe(way, serve), len(container), per_request, most))
            types = {**newest_types(container, per_request), **types}
    if samples and not found:
        way = chain(samples, mine, serve)
        if way:
            found.append(Holder(describe(way, serve), None, None, None))
    return tuple(found), types


def _allocated_by(lines: list[Line], tracer: Tracer, replay: Replay) -> list[object]:
    """Return objects that lines allocated in one more request, known to the collector or not.

    Those of earlier requests may only be held by later ones, as the links of a chain.
    """
    wanted = {(line.place.file, line.place.line) for line in lines}
    known = set(map(id, gc.get_objects()))
    replay.once()
    gc.collect()
    latest = [each for each in gc.get_objects() if id(each) not in known]
    plain = [each for each in gc.get_referents(*latest) if not gc.is_tracked(each)]
    found: list[object] = []
    for each in (*latest, *plain)[:_SEARCHED]:
        its = None if stores_variables(each) else tracer.place_of_object(each)
        if its is not None and (its.file, its.line) in wanted:
            found.append(each)
            if len(found) == _SAMPLES:
                break
    return found
