"""Second phase of a leak hunt: nothing is traced, and the counters of the allocators are read."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import NamedTuple

from ...collectors.memory.allocators import arrow_bytes, malloc_meter
from ...collectors.memory.process import rss, trim
from ..replay import OnProgress, Replay, Series, Serve
from .allocation_census import IsOwn
from .growth import MAX_MARKS, MIN_GROWTH_BYTES, NO_GROWTH, Growth, estimate_growth, may_grow
from .line_meter import LineMeter, likely_lines
from .verdict import AllocationRecord, NativePhase
from .weak_lists import PandasReferences

MIN_NATIVE_BYTES = 256
"""Bytes per request below which growth of native memory is not called a leak."""
MIN_RESIDENT_BYTES = 4096
"""The same where only resident memory can be read, which comes in pages."""
MIN_BLOCKS = 0.5
"""Blocks of Python memory per request below which their number does not grow."""
_METERED_REQUESTS = 60
_MAX_LINES = 12
_MIN_SHARE = 0.25
"""Native growth as a share of Python's below which it may be rounding of the latter."""


class PythonGrowth(NamedTuple):
    """Growth that the first phase has attributed to Python objects.

    Attributes:
        malloc: bytes per request among them that are allocated by ``malloc``.
        total: bytes per request.
    """

    malloc: float = 0.0
    total: float = 0.0


def run(
    serve: Serve, is_own: IsOwn, on_progress: OnProgress, requests: int | None = None,
    python: PythonGrowth = PythonGrowth(),  # noqa: B008 (immutable)
) -> NativePhase:  # fmt: skip
    """Replay a request without a tracer, and read the counters of the system and the allocators.

    Args:
        serve: serves the request once.
        is_own: whether a file belongs to the application.
        on_progress: called after each request.
        requests: number of requests to measure; by default as many as fit into a short time.
        python: growth that is already attributed to Python objects.
    """
    gc.collect()
    references = PandasReferences()
    gc.freeze()
    malloc = malloc_meter()
    gauges: dict[str, Callable[[], float]] = {
        "blocks": references.pruned(sys.getallocatedblocks), "arrow": arrow_bytes,
        "resident" if malloc is None else "malloc": malloc or rss,
    }  # fmt: skip
    replay = Replay(serve, gauges, on_progress, requests)
    replay.warm_up()
    series = _run_until_decided(replay)
    source, growth = _native_growth(series, python)
    lines: tuple[AllocationRecord, ...] = ()
    if growth.steady and source != "resident":
        meter = LineMeter(arrow_bytes if malloc is None or source == "arrow" else malloc, is_own)
        lines = _native_lines(replay, meter, growth.per_request)
    gc.collect()
    resident = rss()
    trim()
    gc.unfreeze()
    return NativePhase(
        growth, source, estimate_growth(series["blocks"], MIN_BLOCKS),
        estimate_growth(series.get("malloc", []), MIN_GROWTH_BYTES), lines,
        resident, max(0, resident - rss()), replay.served, dict(replay.statuses),
    )  # fmt: skip


def _run_until_decided(replay: Replay) -> dict[str, Series]:
    """Return the series of a third of the requests, or of the rest if one of them may grow."""
    first = max(MAX_MARKS, replay.requests // 3)
    series = replay.run(first)
    if any(
        may_grow(samples, 2 * MIN_BLOCKS if name == "blocks" else MIN_GROWTH_BYTES)
        for name, samples in series.items()
    ):
        return replay.run(replay.requests - first)
    return series


def _native_growth(series: dict[str, Series], python: PythonGrowth) -> tuple[str, Growth]:
    """Return the largest steady growth beyond that of Python objects, with the name of its gauge."""
    candidates = {"arrow": estimate_growth(series["arrow"], MIN_GROWTH_BYTES)}
    if "malloc" in series:
        name, min_growth, attributed = "malloc", MIN_NATIVE_BYTES, python.malloc
    else:
        name, min_growth, attributed = "resident", MIN_RESIDENT_BYTES, python.total
    remainder = [(requests, value - attributed * requests) for requests, value in series[name]]
    candidates[name] = estimate_growth(remainder, max(min_growth, _MIN_SHARE * attributed))
    steady = [(source, growth) for source, growth in candidates.items() if growth.steady]
    return max(steady, key=lambda pair: pair[1].per_request, default=(name, NO_GROWTH))


def _native_lines(
    replay: Replay, meter: LineMeter, retained: float
) -> tuple[AllocationRecord, ...]:
    replay.serve_once()
    with meter.measure():  # the meter itself allocates at first
        replay.serve_once()
    meter.changes.clear()
    for _ in range(_METERED_REQUESTS):
        with meter.measure():
            replay.serve_once()
    return tuple(
        AllocationRecord(*line.line, line.bytes_per_request, line.bytes_per_request,
                         steady=line.matches)
        for line in likely_lines(meter.changes, _METERED_REQUESTS, retained)[:_MAX_LINES]
    )  # fmt: skip
