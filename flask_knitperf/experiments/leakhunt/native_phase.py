"""A hunt's second process: nothing is traced, and the system and the allocators are asked."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from ...collectors.memory.allocators import arrow_bytes, malloc_meter
from ...collectors.memory.process import rss, trim
from ..replay import Replay, Series, Serve, Tell
from .allocation_census import IsOwn
from .growth import FLAT, FLOOR, Growth, judge, may_grow
from .line_meter import LineMeter, likeliest
from .verdict import Untraced, Where

NATIVE_FLOOR = 256
"""Bytes per request below which memory that Python does not know of is not called a leak."""
RESIDENT_FLOOR = 4096
"""The same where only resident memory can be read, which comes in pages."""
_TRACED_LINES = 60
_LINES = 12
_SHARE = 0.25
"""Native growth has to be this share of Python's to be told from its rounding."""


def untraced(
    serve: Serve,
    is_own: IsOwn,
    tell: Tell,
    requests: int | None = None,
    known: tuple[float, float] = (0.0, 0.0),
) -> Untraced:
    """Replay a request while nothing is traced, and read what the system and allocators say.

    Args:
        serve: serves the request once.
        is_own: whether a file is the application's.
        tell: told how far it is.
        requests: how many to measure; by default as many as fit into a short time.
        known: bytes per request that Python is known to keep of ``malloc``, and in all.
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
    by, growth = _native(series, *known)
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


def _native(series: dict[str, Series], malloced: float, python: float) -> tuple[str, Growth]:
    """Return what grows beyond what Python is known to keep, and what told it."""
    of_arrow = judge(series["arrow"], FLOOR)
    name, floor, known = ("resident", RESIDENT_FLOOR, python)
    if "malloc" in series:
        name, floor, known = ("malloc", NATIVE_FLOOR, malloced)
    beyond = [(at, value - known * at) for at, value in series[name]]
    rest = judge(beyond, max(floor, _SHARE * known))
    found = [(by, each) for by, each in (("arrow", of_arrow), (name, rest)) if each.steady]
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
        Where(file, line, rate, rate, steady=near) for (file, line), rate, near in found[:_LINES]
    )
