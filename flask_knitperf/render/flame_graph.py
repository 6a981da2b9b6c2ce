"""Flame graphs and timelines as rectangles of an SVG picture. Needs no script and no style attribute."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..analysis.hot_lines import Frame, flame
from ..core.units import duration, percent
from ..metrics.stack_trie import Trie

if TYPE_CHECKING:
    from ..reports.documents import RequestReport

WIDTH = 1200.0
ROW_HEIGHT = 20.0
_CHARACTER_WIDTH = 7.2
_MIN_CHARACTERS = 5
MIN_CHANGE = 0.05
"""Difference of two shares from which a box is marked."""


class Box(NamedTuple):
    """A rectangle.

    Attributes:
        x: of its left side.
        y: of its top.
        w: width.
        h: height.
        css: its classes.
        text: what fits into it.
        title: shown when the mouse is over it.
    """

    x: float
    y: float
    w: float
    h: float
    css: str
    text: str
    title: str


class Picture(NamedTuple):
    """An SVG picture of boxes."""

    width: float
    height: float
    boxes: list[Box]


def flame_graph(
    trie: Trie, other: Trie | None = None, other_name: str = "of the others"
) -> Picture | None:
    """Return a flame graph, ``None`` without samples.

    Boxes have the class ``own`` or ``library``, ``waits`` where they mostly wait, and ``more`` or
    ``less`` where their share differs notably from that in ``other``.

    Args:
        trie: stacks to draw.
        other: stacks that every box is compared with.
        other_name: what the titles of boxes call those.
    """
    frames = flame(trie, other)
    if not frames:
        return None
    boxes = []
    for frame in frames:
        place = frame.place
        name = f"{place.function}:{place.line}" if place.own else place.function
        where = f" in {place.function}" if place.own else ""
        compared = "" if frame.other is None else f"; {percent(frame.other)} {other_name}"
        boxes.append(Box(
            round(frame.begin * WIDTH, 1), frame.depth * ROW_HEIGHT, round(frame.width * WIDTH, 1),
            ROW_HEIGHT - 1, _classes(frame), _fitted(name, frame.width * WIDTH),
            f"{place.shown()}{where}: {percent(frame.width)} of the time, "
            f"{percent(frame.running)} of that on CPU{compared}",
        ))  # fmt: skip
    depth = max(frame.depth for frame in frames) + 1
    return Picture(WIDTH, depth * ROW_HEIGHT, boxes)


def _classes(frame: Frame) -> str:
    classes = ["own" if frame.place.own else "library"]
    if frame.running < 0.5:
        classes.append("waits")
    change = 0.0 if frame.other is None else frame.width - frame.other
    if abs(change) >= MIN_CHANGE:
        classes.append("more" if change > 0 else "less")
    return " ".join(classes)


def timeline(document: RequestReport) -> Picture:
    """Return a request's timeline, below a first row for the whole request.

    The class of a box is the kind of its part, such as ``sql`` or ``file-read``.
    """
    request_ms = document["ms"] or 1.0
    boxes = []
    for event in document["timeline"]:
        width = event["ms"] / request_ms * WIDTH
        name = event["name"]
        boxes.append(Box(
            round(event["begin_ms"] / request_ms * WIDTH, 1), (event["depth"] + 1) * ROW_HEIGHT,
            round(max(1.0, width), 1), ROW_HEIGHT - 1, name.partition(":")[0].replace("_", "-"),
            _fitted(name, width),
            f"{name}: {duration(event['ms'])}, starting at {duration(event['begin_ms'])}",
        ))  # fmt: skip
    deepest = max((event["depth"] for event in document["timeline"]), default=-1)
    return Picture(WIDTH, (deepest + 2) * ROW_HEIGHT, boxes)


def _fitted(name: str, width: float) -> str:
    """Return as much of a name as fits into a box; nothing if that would be unreadable."""
    room = int((width - 8) / _CHARACTER_WIDTH)
    if len(name) <= room:
        return name
    return f"{name[: room - 1]}…" if room >= _MIN_CHARACTERS else ""
