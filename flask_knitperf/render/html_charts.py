"""Values of the charts of the overview: response times, load, heat map, saturation, trends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..core.units import MB, count, duration, number, percent, rate, size, span
from . import Values
from .chart import (
    PERCENTILES,
    Box,
    Point,
    TimeAxis,
    area,
    box,
    chart,
    decades,
    grid,
    line,
    linear,
    logarithmic,
    round_up,
    row,
    seconds,
)
from .heatmap import heatmap

if TYPE_CHECKING:
    from ..reports.documents import Charts
    from ..reports.documents.charts import EndpointTrend, SaturationName, SaturationRow

_WIDE = box(720.0, 220.0)
_NARROW = box(360.0, 220.0, 44.0)
_SPARK = Box(100.0, 24.0, 0.0, 100.0, 2.0, 22.0)
_SATURATION: dict[SaturationName, tuple[str, str, Callable[[float], str]]] = {
    "busy_share": ("Workers busy", "share of a minute, the busiest worker", percent),
    "gil_pressure": ("GIL wait", "share of request time", percent),
    "queue_p95_ms": ("Queue, p95", "before a worker takes a request", duration),
    "rss_mb": ("Memory", "the largest worker", lambda value: size(value * MB)),
}
"""Name, explanation and form of each resource."""


def charts(document: Charts | None) -> Values | None:
    """Return the values of the charts, ``None`` where there are fewer than two points."""
    if document is None or len(document["points"]) < 2:
        return None
    points, length = document["points"], document["slot_s"]
    starts = [seconds(point["at"]) for point in points]
    begins, ends = starts[0], starts[-1] + length
    wide, narrow = (TimeAxis(plot, begins, ends, length) for plot in (_WIDE, _NARROW))

    def sparked(values: Sequence[float | None]) -> Values:
        known = dict(zip(starts, values, strict=True))
        return spark([known.get(at) for at in range(begins, ends, length)])

    return {
        "times": _times(document, starts, wide),
        "load": _load(document, starts, narrow),
        "heat": heatmap(document["heat"], starts, _WIDE, wide, document["deploys"]),
        "saturation": [
            shown for one in document["saturation"]
            if (shown := _saturation(one, sparked)) is not None
        ],
        "sparks": {
            "requests": sparked([point["count"] / point["seconds"] for point in points]),
            "failed": sparked([point["failed"] / max(1, point["count"]) for point in points]),
            "p50": sparked([point["p50_ms"] for point in points]),
            "p95": sparked([point["p95_ms"] for point in points]),
        },
        "slot": span(length),
    }  # fmt: skip


def trends(document: Charts | None) -> dict[tuple[str, str], EndpointTrend]:
    """Return the trends of endpoints by endpoint and method."""
    rows = [] if document is None else document["endpoints"]
    return {(one["endpoint"], one["method"]): one for one in rows if one["p95_ms"]}


def trend(one: EndpointTrend | None, limit_ms: float) -> Values | None:
    """Return the values of the trend of one endpoint, ``None`` with fewer than two values."""
    values = [] if one is None else [ms for ms in one["p95_ms"] if ms is not None]
    if one is None or len(values) < 2:
        return None
    label = f"p95 from {duration(min(values))} to {duration(max(values))}, latest {duration(values[-1])}"
    return {**spark(one["p95_ms"], limit_ms), "label": label}


def spark(values: Sequence[float | None], limit: float | None = None) -> Values:
    """Return a line as small as a word: ``{line, area, limit, over}``.

    Args:
        values: of equal distance; ``None`` is a gap.
        limit: drawn as a line where it lies within the picture.
    """
    known = [value for value in values if value is not None]
    top = max([*known, 1e-9])
    near = limit is not None and limit < 4 * top
    top = max(top, limit or 0.0) if near else top
    axis, y = TimeAxis(_SPARK, 0, len(values), 1), linear(_SPARK, top)
    points: list[Point] = list(enumerate(values))
    floor: list[Point] = [(at, None if value is None else 0.0) for at, value in points]
    over = limit is not None and sum(value > limit for value in known) * 2 > len(known)
    return {
        "line": line(points, axis, y), "area": area(floor, points, axis, y), "over": over,
        "limit": y(limit) if near and limit is not None else None,
    }  # fmt: skip


def _times(document: Charts, starts: Sequence[int], axis: TimeAxis) -> Values | None:
    """Return the chart of response times, ``None`` with cold starts only."""
    points = document["points"]
    values = [
        ms for point in points for key, _ in PERCENTILES if (ms := point[key]) is not None and ms > 0
    ]  # fmt: skip
    if not values:
        return None
    low, high = min(values) / 1.3, max(values) * 1.3
    y = logarithmic(_WIDE, low, high)
    lines = {css: list(zip(starts, (point[key] for point in points), strict=True))
             for key, css in PERCENTILES}  # fmt: skip
    latest = points[-1]
    return chart(
        _WIDE, axis, name="times",
        label=f"Response times on a log scale, latest p50 {duration(latest['p50_ms'])}, "
              f"p95 {duration(latest['p95_ms'])}, p99 {duration(latest['p99_ms'])}",
        grid=grid(decades(low, high), y), deploys=axis.deploys(document["deploys"]),
        areas=[
            {"css": "band-high", "d": area(lines["p95"], lines["p99"], axis, y)},
            {"css": "band-low", "d": area(lines["p50"], lines["p95"], axis, y)},
        ],
        lines=[{"css": css, "d": line(lines[css], axis, y)} for _, css in PERCENTILES],
        keys=[{"css": css, "text": css} for css in ("p50", "p95", "p99")],
        head=("requests", "p50", "p95", "p99"),
        rows=[
            row(at, [count(point["count"], "request"),
                     *(duration(point[key]) for key in ("p50_ms", "p95_ms", "p99_ms"))])
            for at, point in zip(starts, points, strict=True)
        ],
    )  # fmt: skip


def _load(document: Charts, starts: Sequence[int], axis: TimeAxis) -> Values:
    """Return the chart of load and failures."""
    points = document["points"]
    loads = [point["count"] / point["seconds"] for point in points]
    failures = [point["failed"] / point["seconds"] for point in points]
    top = round_up(max(*loads, 1e-9))
    y = linear(_NARROW, top)
    served: list[Point] = list(zip(starts, loads, strict=True))
    failed: list[Point] = list(zip(starts, failures, strict=True))
    floor: list[Point] = [(at, 0.0) for at in starts]
    return chart(
        _NARROW, axis, name="load",
        label=f"Requests per second, latest {number(loads[-1])}, at most {number(max(loads))}; "
              f"{count(sum(point['failed'] for point in points), 'failure')}",
        grid=grid((0.0, top / 2, top), y, _per_second), deploys=axis.deploys(document["deploys"]),
        areas=[{"css": "band-low", "d": area(floor, served, axis, y)}],
        lines=[{"css": "p95", "d": line(served, axis, y)}, {"css": "bad", "d": line(failed, axis, y)}],
        keys=[{"css": "p95", "text": "requests/s"}, {"css": "bad", "text": "failed"}],
        head=("requests", "failed", "rate"),
        rows=[
            row(at, [number(point["count"]), number(point["failed"]),
                     rate(point["count"] / point["seconds"], "request")], over=point["failed"] > 0)
            for at, point in zip(starts, points, strict=True)
        ],
    )  # fmt: skip


def _per_second(value: float) -> str:
    return f"{value:g}"


def _saturation(
    one: SaturationRow, sparked: Callable[[Sequence[float | None]], Values]
) -> Values | None:  # fmt: skip
    """Return the use of a resource, ``None`` where it was not measured."""
    known = [value for value in one["values"] if value is not None]
    if not known:
        return None
    name, about, text = _SATURATION[one["name"]]
    return {
        "name": name, "about": about, "now": text(known[-1]), "most": text(max(known)),
        "spark": sparked(one["values"]),
        "label": f"{name}: latest {text(known[-1])}, at most {text(max(known))}",
    }  # fmt: skip
