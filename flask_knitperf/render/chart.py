"""Parts of charts over time: axes, lines and areas as paths of an SVG picture.

A chart needs no script and no style attribute, and whatever its picture shows is in its table too. The
script of the pages adds a cursor, arrow keys, zoom by dragging, and times in the viewer's zone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..core.units import duration, span
from . import Values

if TYPE_CHECKING:
    from ..reports.documents.charts import DeployRow

_DAY_S = 86_400
_MAX_TICKS = 6
_TICKS_S = (300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, _DAY_S, 2 * _DAY_S, 5 * _DAY_S)
"""Distances of marks on the axis of time."""
_SHORT_TICKS_S = (30, 60, 120)
_CHARACTER = 6.4
"""Width of a character of a label."""
_MAX_LABELS = 6
"""Deploys that have a label."""

_FORMS = {
    "second": "%H:%M:%S", "time": "%H:%M", "day": "%b %d", "full": "%Y-%m-%d %H:%M:%S",
}  # fmt: skip
"""Forms of times; the script of the pages has the same."""

PERCENTILES: tuple[tuple[Literal["p99_ms", "p95_ms", "p50_ms"], str], ...] = (
    ("p99_ms", "p99"), ("p95_ms", "p95"), ("p50_ms", "p50"),
)  # fmt: skip
"""Keys of the percentiles of a slot, with the class of their line, the highest first."""

Scale = Callable[[float], float]
"""From a value to a coordinate."""
Point = tuple[int, float | None]
"""Start of a slot in seconds since the epoch, and a value."""


class Box(NamedTuple):
    """Size of a picture and the edges of its plot, in its coordinates."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


def box(width: float, height: float, left: float = 62.0) -> Box:
    """Return the box of a chart with labels on the left and below."""
    return Box(width, height, left, width - 4, 18.0, height - 24.0)


class TimeAxis:
    """The axis of time.

    Args:
        plot: the box of the chart.
        begins: its start, in seconds since the epoch.
        ends: its end.
        slot: length of a slot in seconds.
    """

    def __init__(self, plot: Box, begins: float, ends: float, slot: int) -> None:
        self.begins, self.ends, self.slot, self._box = begins, max(ends, begins + slot), slot, plot

    def x(self, at: float) -> float:
        """Return the coordinate of a time."""
        share = (at - self.begins) / (self.ends - self.begins)
        return round(self._box.left + share * (self._box.right - self._box.left), 1)

    def middle(self, slot: int) -> float:
        """Return the coordinate of the middle of a slot."""
        return self.x(slot + self.slot / 2)

    @property
    def ticks(self) -> list[Values]:
        """Round times with their coordinates."""
        length = self.ends - self.begins
        steps = (*_SHORT_TICKS_S, *_TICKS_S)
        days = math.ceil(length / _MAX_TICKS / _DAY_S) * _DAY_S
        step = next((one for one in steps if length / one <= _MAX_TICKS), days)
        first, last = math.ceil(self.begins / step) * step, math.floor(self.ends)
        form = "second" if step < 60 else "time" if length <= 1.5 * _DAY_S else "day"
        return [
            {"x": self.x(at), "text": time_text(at, form), "epoch": at, "form": form}
            for at in range(first, last + 1, step)
        ]

    def deploys(self, rows: Iterable[DeployRow]) -> list[Values]:
        """Return the deploys within the axis; a release has a label where there is room."""
        marks: list[Values] = []
        places: list[tuple[float, float]] = []  # of labels
        release: str | None = None
        for row in rows:
            at = seconds(row["at"])
            is_new, release = row["release"] not in (None, release), row["release"] or release
            if self.begins < at < self.ends:
                text = row["release"] or ""
                label = text if len(text) <= 14 else f"{text[:13]}…"
                width = round(len(label) * _CHARACTER + 8, 1)
                left = min(self.x(at), self._box.right - width)
                places.append((left, left + width))
                marks.append({
                    "x": self.x(at), "text": text or "deploy", "label": label if is_new else "",
                    "width": width, "label_x": left,
                })  # fmt: skip
        shown, limit = 0, math.inf
        for mark, (left, right) in reversed(list(zip(marks, places, strict=True))):
            if not mark["label"]:
                continue
            if shown == _MAX_LABELS or right > limit:
                mark["label"] = ""
            else:
                shown, limit = shown + 1, left
        return marks


def seconds(at: str) -> int:
    """Return a moment of a document in seconds since the epoch."""
    return round(datetime.fromisoformat(at).timestamp())


def time_text(at: float, form: str) -> str:
    """Return a time in UTC: ``second``, ``time``, ``day``, or ``full``."""
    return datetime.fromtimestamp(at, UTC).strftime(_FORMS[form])


def linear(plot: Box, top: float) -> Scale:
    """Return the coordinates of values from zero up to a value."""
    return lambda value: round(plot.bottom - value / top * (plot.bottom - plot.top), 1)


def logarithmic(plot: Box, low: float, high: float) -> Scale:
    """Return the coordinates of values between two, of equal distance for equal ratios."""
    length = math.log(high / low)

    def y(value: float) -> float:
        share = math.log(max(value, low) / low) / length
        return round(plot.bottom - share * (plot.bottom - plot.top), 1)

    return y


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten between two values, or the bounds of less than one power."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = [10.0**power for power in range(first, last + 1)]
    return powers if len(powers) > 1 else [low, high]


def round_up(value: float) -> float:
    """Return a round number that is not below a value."""
    power = 10.0 ** math.floor(math.log10(max(value, 0.001)))
    return next(power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * step >= value)


def line(points: Sequence[Point], axis: TimeAxis, y: Scale) -> str:
    """Return the path of a line, with a gap where slots have no value."""
    pieces, before = [], -math.inf
    for at, value in points:
        if value is None:
            continue
        command = "L" if at - before <= 1.5 * axis.slot else "M"
        pieces.append(
            f"{command}{axis.middle(at):g} {y(value):g}" + ("h.01" if command == "M" else "")
        )
        before = at
    return "".join(pieces)


def area(
    lower: Sequence[Point], upper: Sequence[Point], axis: TimeAxis, y: Scale
) -> str:  # fmt: skip
    """Return the path of the area between two lines: one for each stretch that has both."""
    pieces: list[str] = []
    above: list[str] = []
    below: list[str] = []
    before = -math.inf

    def close() -> None:
        if above:
            pieces.append(f"M{'L'.join([*above, *reversed(below)])}Z")
        above.clear()
        below.clear()

    for (at, low), (_, high) in zip(lower, upper, strict=True):
        if low is None or high is None or at - before > 1.5 * axis.slot:
            close()
        if low is not None and high is not None:
            place = axis.middle(at)
            above.append(f"{place:g} {y(high):g}")
            below.append(f"{place:g} {y(low):g}")
        before = at
    close()
    return "".join(pieces)


def grid(
    values: Iterable[float], y: Scale, text: Callable[[float], str] = duration
) -> list[Values]:
    """Return horizontal lines with their labels."""
    return [{"y": y(value), "text": text(value)} for value in values]


def chart(
    plot: Box, axis: TimeAxis, *, name: str, label: str, head: Sequence[str], rows: Sequence[Values],
    **parts: object,
) -> Values:  # fmt: skip
    """Return the values of one chart for its template.

    Args:
        plot: its box.
        axis: its axis of time.
        name: of the chart, unique in its page.
        label: what it shows, for readers who do not see it.
        head: heads of the columns of its table, after that of the time.
        rows: of its table, oldest first (:func:`row`).
        parts: further parts of the picture: ``grid``, ``deploys``, ``lines``, ``areas``, ``limit``,
            ``image``, ``keys``.
    """
    return {
        "box": plot._asdict(), "begins": round(axis.begins), "ends": round(axis.ends),
        "slot_s": axis.slot, "slot": span(axis.slot), "ticks": axis.ticks, "name": name,
        "label": label, "head": list(head), "rows": list(rows)[::-1], "grid": [], "deploys": [],
        "lines": [], "areas": [], "limit": None, "image": None, "keys": [], **parts,
    }  # fmt: skip


def row(at: int, cells: Iterable[str], *, over: bool = False) -> Values:
    """Return a row of the table of a chart.

    Args:
        at: start of the slot, in seconds since the epoch.
        cells: figures of the slot.
        over: whether it is above its threshold.
    """
    return {"epoch": at, "at": time_text(at, "full"), "cells": list(cells), "over": over}
