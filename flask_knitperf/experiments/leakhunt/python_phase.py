"""First phase of a leak hunt: all allocations of Python are traced, to the byte and the line."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Mapping

from ..replay import OnProgress, Replay, Serve
from .allocation_census import (
    MAX_FRAMES,
    AllocationSite,
    Census,
    GrowingLine,
    IsOwn,
    Tracer,
    growing_lines,
)
from .growth import MAX_MARKS, MIN_GROWTH_BYTES, estimate_growth, may_grow
from .referents import referents
from .retainers import (
    ContainerLengths,
    Retainer,
    bound_of,
    count_types,
    growing_types,
    is_context_storage,
    refers_to_freed_objects,
    types_of_newest_items,
)
from .retaining_path import describe_path, retaining_path
from .verdict import AllocationRecord, PythonPhase
from .weak_lists import PandasReferences

_MAX_LINES = 12
_CENSUSES = 12
_CENSUSES_PER_LENGTHS = 5
"""Container lengths are recorded with every fifth census, and with the last one."""
_GARBAGE_REQUESTS = 30
"""Requests that are served without a collection, to measure cyclic garbage."""
_MAX_GARBAGE_LINES = 3
_MAX_RETAINERS = 3
_MAX_SAMPLES = 5
"""Objects from which retaining paths are searched."""
_SAMPLED_LINES = 3
_MAX_EXAMINED = 20_000
"""New objects whose allocation site is looked up."""


def run(
    serve: Serve, is_own: IsOwn, on_progress: OnProgress, requests: int | None = None
) -> PythonPhase:
    """Replay a request while all allocations of Python are traced.

    Args:
        serve: serves the request once.
        is_own: whether a file belongs to the application.
        on_progress: called after each request.
        requests: number of requests to measure; by default as many as fit into a short time.
    """
    gc.collect()
    containers, references = ContainerLengths(), PandasReferences()
    gc.freeze()  # so that collections do not traverse the objects of the loaded application
    tracemalloc.stop()  # the application may trace with fewer frames
    tracemalloc.start(MAX_FRAMES)
    try:
        return _run_traced(serve, is_own, on_progress, requests, containers, references)
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def _run_traced(
    serve: Serve, is_own: IsOwn, on_progress: OnProgress, requests: int | None,
    containers: ContainerLengths, references: PandasReferences,
) -> PythonPhase:  # fmt: skip
    tracer = Tracer(is_own)
    inspector = _Inspector(tracer, containers)
    gauges = {"live": references.pruned(lambda: _traced_bytes() - inspector.own_bytes)}
    replay = Replay(serve, gauges, on_progress, requests)
    replay.warm_up()
    first = max(MAX_MARKS, replay.requests // 3)
    samples = replay.run(first)["live"]
    growth, malloc_bytes = estimate_growth(samples, MIN_GROWTH_BYTES), 0.0
    lines: list[GrowingLine] = []
    types: dict[str, float] = {}
    retainers: tuple[Retainer, ...] = ()
    if may_grow(samples, MIN_GROWTH_BYTES):
        rest = replay.requests - first
        series = replay.run(rest, _CENSUSES, lambda: inspector.inspect(replay.served))
        growth = estimate_growth(series["live"], MIN_GROWTH_BYTES)
        lines = growing_lines(inspector.censuses, MIN_GROWTH_BYTES / 8)
        malloc_bytes = inspector.malloc_growth()
        types = growing_types(inspector.types)
        if growth.steady:
            retainers, item_types = _retainers(containers, lines, tracer, replay)
            types = {**item_types, **types}
    garbage_bytes, garbage_lines = _garbage(replay, tracer)
    return PythonPhase(
        growth, malloc_bytes, tuple(map(_record, lines[:_MAX_LINES])), types, retainers,
        garbage_bytes, garbage_lines, replay.served, dict(replay.statuses),
    )  # fmt: skip


def _traced_bytes() -> int:
    return tracemalloc.get_traced_memory()[0]


class _Inspector:
    """Collects censuses, type counts and container lengths, and the memory that these take.

    Attributes:
        censuses: of allocations.
        types: requests served by then, and the number of objects by type.
        own_bytes: traced bytes of the collected data.
    """

    def __init__(self, tracer: Tracer, containers: ContainerLengths) -> None:
        self.censuses: list[Census] = []
        self.types: list[tuple[int, Mapping[str, int]]] = []
        self.own_bytes = 0
        self._own_ids: set[int] = set()
        self._tracer, self._containers = tracer, containers

    def inspect(self, requests: int) -> None:
        before = _traced_bytes()
        number = len(self.censuses)
        if number % _CENSUSES_PER_LENGTHS == 0 or number == _CENSUSES - 1:
            self._containers.record(requests)
        self.types.append((requests, count_types(self._own_ids)))
        census = self._tracer.census(requests)
        self.censuses.append(census)
        self._own_ids |= {id(census.sizes), id(census.counts), id(self.types[-1][1])}
        gc.collect()  # clears the free lists too, whose objects are traced
        self.own_bytes += _traced_bytes() - before

    def malloc_growth(self) -> float:
        """Return the growth of the bytes allocated by ``malloc``, per request."""
        samples = [(census.requests, float(census.malloc_bytes)) for census in self.censuses]
        return estimate_growth(samples, 0.0).per_request


def _record(line: GrowingLine) -> AllocationRecord:
    return _site_record(line.site, line.bytes_per_request, steady=line.steady)


def _site_record(
    site: AllocationSite, bytes_per_request: float, *, steady: bool = True
) -> AllocationRecord:  # fmt: skip
    return AllocationRecord(
        site.file, site.line, bytes_per_request, 0.0, site.library, site.stack, steady
    )


def _garbage(replay: Replay, tracer: Tracer) -> tuple[float, tuple[AllocationRecord, ...]]:
    """Return the bytes per request that only a collection frees, and the lines that allocate them."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(_GARBAGE_REQUESTS):
            replay.serve_once()
        before = tracer.census(replay.served)
    finally:
        if was_enabled:
            gc.enable()
    gc.collect()
    after = tracer.census(replay.served)
    freed = {site: size - after.sizes.get(site, 0) for site, size in before.sizes.items()}
    largest = sorted((s for s, size in freed.items() if size > 0), key=lambda s: -freed[s])
    lines = tuple(
        _site_record(site, freed[site] / _GARBAGE_REQUESTS)
        for site in largest[:_MAX_GARBAGE_LINES]
    )  # fmt: skip
    return max(0.0, sum(freed.values()) / _GARBAGE_REQUESTS), lines


def _retainers(
    containers: ContainerLengths, lines: list[GrowingLine], tracer: Tracer, replay: Replay
) -> tuple[tuple[Retainer, ...], dict[str, float]]:
    """Return the retainers of the growth, and the types of the newest items of growing containers.

    A retainer is a growing container, or else an object that retains a new one of the worst line.
    """
    gc.collect()
    growing = containers.growing()[:_MAX_RETAINERS]
    samples = _allocated_by(lines[:_SAMPLED_LINES], tracer, replay)
    gc.unfreeze()  # gc.get_referrers does not examine frozen objects
    serve = replay.serve
    own_ids = {id(samples), id(growing), id(containers.old)}
    retainers: list[Retainer] = []
    types: dict[str, float] = {}
    for container, items_per_request in growing:
        path = retaining_path([container], own_ids, serve)
        if path:
            bounds = [bound for value in path if (bound := bound_of(value)) is not None]
            bound = min(bounds, default=None)
            description = describe_path(path, serve)
            retainers.append(
                Retainer(description, len(container), items_per_request, bound,
                         refers_to_freed_objects(container))
            )  # fmt: skip
            types = {**types_of_newest_items(container, items_per_request), **types}
    if samples and not retainers:
        path = retaining_path(samples, own_ids, serve)
        if path:
            retainers.append(Retainer(describe_path(path, serve), None, None, None))
    return tuple(retainers), types


def _allocated_by(lines: list[GrowingLine], tracer: Tracer, replay: Replay) -> list[object]:
    """Return objects that some lines allocate in one more request, tracked by the collector or not.

    Objects of earlier requests may be retained by later ones only, as the links of a chain are.
    """
    code_lines = {(line.site.file, line.site.line) for line in lines}
    earlier_ids = set(map(id, gc.get_objects()))
    replay.serve_once()
    gc.collect()
    new = [value for value in gc.get_objects() if id(value) not in earlier_ids]
    untracked = [value for value in referents(new) if not gc.is_tracked(value)]
    samples: list[object] = []
    for value in (*new, *untracked)[:_MAX_EXAMINED]:
        site = None if is_context_storage(value) else tracer.site_of_object(value)
        if site is not None and (site.file, site.line) in code_lines:
            samples.append(value)
            if len(samples) == _MAX_SAMPLES:
                break
    return samples
