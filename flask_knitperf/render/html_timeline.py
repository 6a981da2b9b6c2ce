"""Values of the chart of one endpoint over time: lines as paths of an SVG picture, and its table.

Needs no script and no style attribute; whatever the picture shows is in the table too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..core.units import count, duration, percent, span
from . import Values

if TYPE_CHECKING:
    from ..reports.documents.endpoint import StepRow, Timeline, TimelineRow

WIDTH, HEIGHT = 720.0, 190.0
_LEFT, _TOP, _BOTTOM = 72.0, 8.0, 26.0
_LINES = (("p95_ms", "p95"), ("p50_ms", "p50"))
"""Keys of the lines, with their class."""
_DAY_S = 86_400
_MAX_TICKS = 6
Scale = Callable[[float], float]
"""From a value to a coordinate."""
_TICKS_S = (300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, _DAY_S, 2 * _DAY_S, 5 * _DAY_S)
"""Distances of marks on the axis of time."""


def timeline(document: Timeline | None, limit_ms: float) -> Values | None:
    """Return the values of the chart, ``None`` where there are fewer than two points.

    Args:
        document: an endpoint over time.
        limit_ms: its threshold, drawn as a line.
    """
    if document is None or len(document["points"]) < 2:
        return None
    points, length = document["points"], document["slot_s"]
    begins, ends = _seconds(points[0]["at"]), _seconds(points[-1]["at"]) + length
    top = _round_up(max(
        limit_ms, *(max(point["p95_ms"], point["usual_high_ms"] or 0.0) for point in points)
    ))  # fmt: skip

    def x(moment: float) -> float:
        return round(_LEFT + (moment - begins) / (ends - begins) * (WIDTH - _LEFT - 4), 1)

    def y(ms: float) -> float:
        return round(_TOP + (1 - ms / top) * (HEIGHT - _TOP - _BOTTOM), 1)

    return {
        "width": WIDTH, "height": HEIGHT, "left": _LEFT, "bottom": HEIGHT - _BOTTOM, "top": _TOP,
        "right": WIDTH - 4,
        "label": _label(points, limit_ms),
        "lines": [
            {"css": css, "d": _path(points, key, length, x, y)} for key, css in _LINES
        ],
        "usual": _band(points, length, x, y),
        "limit": {"y": y(limit_ms), "text": duration(limit_ms)},
        "grid": [{"y": y(ms), "text": duration(ms)} for ms in (0.0, top / 2, top)],
        "ticks": [{"x": x(at), "text": _time(at, ends - begins)} for at in _ticks(begins, ends)],
        "deploys": [
            {"x": x(at), "text": row["release"] or "deploy"}
            for row in document["deploys"] if begins < (at := _seconds(row["at"])) < ends
        ],
        "rows": [
            {"at": _time(_seconds(point["at"]), ends - begins, whole=True),
             "count": count(point["count"], "request"), "p50": duration(point["p50_ms"]),
             "p95": duration(point["p95_ms"]), "p99": duration(point["p99_ms"]),
             "usual": _usual(point), "slow": point["p95_ms"] > limit_ms}
            for point in reversed(points)
        ],
        "steps": [_step(step) for step in document["steps"]],
        "slot": span(length),
    }  # fmt: skip


def _label(points: Sequence[TimelineRow], limit_ms: float) -> str:
    """Return the name of the picture for those who do not see it."""
    values = [point["p95_ms"] for point in points]
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


def _path(points: Sequence[TimelineRow], key: str, length: int, x: Scale, y: Scale) -> str:
    """Return the path of a line, with a gap where slots have no requests."""
    pieces, before = [], -math.inf
    for point in points:
        at = _seconds(point["at"])
        command = "L" if at - before <= 1.5 * length else "M"
        place = f"{x(at + length / 2):g} {y(point[key]):g}"  # type: ignore[literal-required]
        pieces.append(f"{command}{place}" + ("h.01" if command == "M" else ""))
        before = at
    return "".join(pieces)


def _usual(point: TimelineRow) -> str:
    """Return the usual p95 of a point, empty before a week was seen."""
    low, high = point["usual_low_ms"], point["usual_high_ms"]
    return "" if low is None or high is None else f"{duration(low)} to {duration(high)}"


def _band(points: Sequence[TimelineRow], length: int, x: Scale, y: Scale) -> str:
    """Return the path of the usual band, empty where there is none: an area for each stretch of it."""
    pieces: list[str] = []
    upper: list[str] = []
    lower: list[str] = []
    before = -math.inf
    for point in (*points, None):
        low, high = (point["usual_low_ms"], point["usual_high_ms"]) if point else (None, None)
        at = math.inf if point is None else _seconds(point["at"])
        if upper and (low is None or at - before > 1.5 * length):
            pieces.append(f"M{'L'.join([*upper, *reversed(lower)])}Z")
            upper, lower = [], []
        if low is not None and high is not None:
            place = x(at + length / 2)
            upper.append(f"{place:g} {y(high):g}")
            lower.append(f"{place:g} {y(low):g}")
        before = at
    return "".join(pieces)


def _ticks(begins: float, ends: float) -> list[int]:
    """Return round times between two."""
    step = next((one for one in _TICKS_S if (ends - begins) / one <= _MAX_TICKS), _TICKS_S[-1])
    return list(range(math.ceil(begins / step) * step, math.floor(ends) + 1, step))


def _time(moment: float, span_s: float, *, whole: bool = False) -> str:
    """Return a time in UTC, as exactly as a span needs it."""
    at = datetime.fromtimestamp(moment, UTC)
    if whole:
        return at.strftime("%Y-%m-%d %H:%M")
    return at.strftime("%H:%M" if span_s <= 1.5 * _DAY_S else "%b %d")


def _round_up(value: float) -> float:
    """Return a round number that is not below a value."""
    power = 10.0 ** math.floor(math.log10(max(value, 0.001)))
    return next(power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * step >= value)


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
