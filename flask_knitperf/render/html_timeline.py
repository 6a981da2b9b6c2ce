"""Values of the charts of one endpoint: response times, where the time goes, and the heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..core.units import count, duration, percent
from . import Values
from .chart import (
    PERCENTILES,
    Point,
    TimeAxis,
    area,
    box,
    chart,
    grid,
    line,
    linear,
    round_up,
    row,
    seconds,
)
from .heatmap import heatmap

if TYPE_CHECKING:
    from ..reports.documents.endpoint import DriftRow, StepRow, Timeline, TimelineRow

WIDTH, HEIGHT = 720.0, 330.0
_BOX = box(WIDTH, HEIGHT)
_NARROW = box(360.0, 150.0, 50.0)
_PARTS: tuple[tuple[Literal["database", "files", "own", "rendering", "waiting"], str], ...] = (
    ("database", "database"), ("files", "reading files"), ("own", "Python code"),
    ("rendering", "rendering"), ("waiting", "waiting"),
)  # fmt: skip
"""Parts of the time from the lowest up, with their names."""


def timeline(document: Timeline | None, limit_ms: float) -> Values | None:
    """Return the values of the charts, ``None`` where there are fewer than two points.

    Args:
        document: an endpoint over time.
        limit_ms: its threshold, drawn as a line.
    """
    if document is None or len(document["points"]) < 2:
        return None
    points, length = document["points"], document["slot_s"]
    starts = [seconds(point["at"]) for point in points]
    wide, narrow = (
        TimeAxis(plot, starts[0], starts[-1] + length, length) for plot in (_BOX, _NARROW)
    )
    return {
        "times": _times(document, starts, wide, limit_ms),
        "parts": _parts(document, starts, narrow),
        "heat": heatmap(document["heat"], starts, _NARROW, narrow, document["deploys"], limit_ms),
        "steps": [
            *(_step(step) for step in document["steps"]),
            *([] if document["drift"] is None else [_drift(document["drift"])]),
        ],
    }  # fmt: skip


def _times(document: Timeline, starts: list[int], axis: TimeAxis, limit_ms: float) -> Values:
    """Return the chart of response times."""
    points = document["points"]
    highest = max(point["p99_ms"] or 0.0 for point in points)
    usual = max(point["usual_high_ms"] or 0.0 for point in points)
    p95 = max(point["p95_ms"] or 0.0 for point in points)
    top = round_up(max(limit_ms, usual, min(highest, 3 * p95)))
    y = linear(_BOX, top)

    def capped(ms: float) -> float:
        return y(min(ms, top))

    low = _values(starts, [point["usual_low_ms"] for point in points])
    high = _values(starts, [point["usual_high_ms"] for point in points])
    band = area(low, high, axis, capped)
    usual_keys = [{"css": "usual", "text": "usual p95 of this hour of the week"}] if band else []
    return chart(
        _BOX, axis, name="times", label=_label(points, limit_ms),
        grid=grid((0.0, top / 2, top), y), deploys=axis.deploys(document["deploys"]),
        areas=[{"css": "usual", "d": band}] if band else [],
        lines=[
            {"css": css, "d": line(_values(starts, [point[key] for point in points]), axis, capped)}
            for key, css in PERCENTILES
        ],
        limit={"y": y(limit_ms), "text": duration(limit_ms)},
        keys=[
            {"css": "p50", "text": "p50"}, {"css": "p95", "text": "p95"}, {"css": "p99", "text": "p99"},
            {"css": "limit", "text": f"threshold {duration(limit_ms)}"}, *usual_keys,
        ],
        head=("requests", "failed", "p50", "p95", "p99", *(["usual p95"] if band else [])),
        rows=[
            row(at, [
                count(point["count"], "request"), str(point["failed"]), duration(point["p50_ms"]),
                duration(point["p95_ms"]), duration(point["p99_ms"]),
                *([_usual(point) or "–"] if band else []),
            ], over=(point["p95_ms"] or 0.0) > limit_ms)
            for at, point in zip(starts, points, strict=True)
        ],
    )  # fmt: skip


def _parts(document: Timeline, starts: list[int], axis: TimeAxis) -> Values | None:
    """Return the chart of the parts of the time, ``None`` where it is all in one."""
    points = document["points"]
    shown = [(key, text) for key, text in _PARTS if any(point["parts"][key] for point in points)]
    if len(shown) < 2:
        return None
    sums = [[0.0] * len(points)]
    for key, _ in shown:
        sums.append([
            below + point["parts"][key] for below, point in zip(sums[-1], points, strict=True)
        ])  # fmt: skip
    top = round_up(max(*sums[-1], 0.001))
    y = linear(_NARROW, top)
    return chart(
        _NARROW, axis, name="parts",
        label="Mean time of a request by where it goes: " + ", ".join(
            f"{text} {duration(points[-1]['parts'][key])}" for key, text in shown
        ),
        grid=grid((0.0, top / 2, top), y), deploys=axis.deploys(document["deploys"]),
        areas=[
            {"css": f"part-{key}", "d": area(
                _values(starts, sums[place]), _values(starts, sums[place + 1]), axis, y
            )}
            for place, (key, _) in enumerate(shown)
        ],
        keys=[{"css": f"part-{key}", "text": text} for key, text in shown],
        head=[text for _, text in shown],
        rows=[
            row(at, [duration(point["parts"][key]) for key, _ in shown])
            for at, point in zip(starts, points, strict=True)
        ],
    )  # fmt: skip


def _values(starts: Sequence[int], values: Sequence[float | None]) -> list[Point]:
    return list(zip(starts, values, strict=True))


def _label(points: Sequence[TimelineRow], limit_ms: float) -> str:
    """Return the name of the picture for those who do not see it."""
    values = [point["p95_ms"] for point in points if point["p95_ms"] is not None]
    if not values:
        return f"p95 over time: cold starts only, threshold {duration(limit_ms)}"
    return (
        f"p95 over time, from {duration(min(values))} to {duration(max(values))}, "
        f"latest {duration(values[-1])}, threshold {duration(limit_ms)}"
    )


def _step(step: StepRow) -> str:
    """Return a step as a sentence."""
    change = step["after_ms"] / step["before_ms"] - 1
    verb = "higher" if change > 0 else "lower"
    return (
        f"p95 is {percent(abs(change))} {verb} since {step['at'][:10]}: {duration(step['after_ms'])}, "
        f"before that {duration(step['before_ms'])}"
    )


def _drift(row: DriftRow) -> str:
    """Return a drift as a sentence."""
    verb = "grows" if row["change"] > 0 else "falls"
    return (
        f"p95 {verb} by {percent(abs(row['per_week']))} a week: {percent(abs(row['change']))} "
        f"over {count(row['days'], 'day')} of about the same load"
    )


def _usual(point: TimelineRow) -> str:
    """Return the usual p95 of a point, empty before a week was seen."""
    low, high = point["usual_low_ms"], point["usual_high_ms"]
    return "" if low is None or high is None else f"{duration(low)} to {duration(high)}"
