"""Observations of a finished request: its body, its GC pauses, its parts and its rows."""

from __future__ import annotations

import math

from ...metrics.catalogue import (
    BY_ROWS,
    BYTES_OUT,
    DISCONNECTED,
    GC,
    GC_OWN,
    PART,
    PART_CPU,
    PART_WALL,
    ROWS,
    STREAMED,
)
from ...metrics.log_format import Observation
from ...recording.fastpath import SHORT_PAUSE_NS
from ...recording.gc_pauses import WATCH
from ...recording.span import Span
from .endpoint_series import EndpointSeries


def add_body(
    span: Span, series: EndpointSeries, group: list[Observation], *, disconnected: bool,
    streamed: bool,
) -> None:  # fmt: skip
    """Add the length of a body, and whether the client closed the connection before its end."""
    if span.length > 0:
        group.append((series.id(BYTES_OUT), 1, float(span.length)))
        if streamed:
            group.append((series.id(STREAMED), 1, float(span.length)))
    if disconnected:
        group.append((series.id(DISCONNECTED), 1, 1.0))


def add_gc(span: Span, series: EndpointSeries, group: list[Observation]) -> int:
    """Add the garbage collection pauses during a request; return their nanoseconds."""
    pause = max(0, WATCH.total - span.gc_began)
    if pause > 0:
        group.append((series.id(GC), 1, float(min(pause, span.wall))))
        own = WATCH.own(span.thread, span.began) if pause > SHORT_PAUSE_NS else 0
        if own:
            group.append((series.id(GC_OWN), 1, float(min(own, span.wall))))
    return pause


def add_parts(span: Span, series: EndpointSeries, group: list[Observation]) -> None:
    """Add the parts of a request."""
    for name, (count, wall, cpu) in (span.parts or {}).items():
        part = series.id(PART, name)
        group.append((part, 1, float(wall)))
        if count > 1:  # the first carries the sum, these only the count
            group.append((part, count - 1, 0.0))
        if span.cpu_began is not None:
            group.append((series.id(PART_WALL, name), span.weight, float(wall)))
            group.append((series.id(PART_CPU, name), span.weight, float(min(cpu, wall))))


def add_rows(span: Span, series: EndpointSeries, group: list[Observation]) -> None:
    """Add the wall time by the number of rows, for a request that succeeded."""
    if span.notes is not None and span.notes.rows and span.status[:1] == "2":
        class_ = str(round(2 * math.log2(span.notes.rows)))  # half a power of two wide
        group.append((series.id(BY_ROWS, class_), 1, float(span.wall)))
        group.append((series.id(ROWS, class_), 1, float(span.notes.rows)))
