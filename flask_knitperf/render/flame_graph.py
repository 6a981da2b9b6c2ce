"""Flame graphs and timelines as rectangles of an SVG picture. Needs no script and no style attribute."""

from __future__ import annotations

from typing import Any

from ..analysis.hot_lines import flame
from ..core.units import duration, percent
from ..metrics.stack_trie import Trie

WIDTH = 1200.0
ROW_HEIGHT = 20.0
_CHARACTER_WIDTH = 7.2
_MIN_CHARACTERS = 5
MIN_CHANGE = 0.05
"""Difference of two shares from which a box is marked."""


def flame_graph(
    trie: Trie, other: Trie | None = None, other_name: str = "of the others"
) -> dict[str, Any] | None:
    """Return a flame graph as boxes, ``None`` without samples.

    Args:
        trie: stacks to draw.
        other: stacks that every box is compared with.
        other_name: what the titles of boxes call those.

    Returns:
        ``{width, height, boxes[{x, y, w, h, text, title, own, waits, change}]}``: ``change`` is ``more``
        or ``less`` where the share differs notably from that in ``other``.
    """
    boxes = flame(trie, other)
    if not boxes:
        return None
    drawn = []
    for box in boxes:
        name = f"{box.place.function}:{box.place.line}" if box.place.own else box.place.function
        where = f" in {box.place.function}" if box.place.own else ""
        compared = "" if box.other is None else f"; {percent(box.other)} {other_name}"
        change = 0.0 if box.other is None else box.width - box.other
        drawn.append({
            "x": round(box.begin * WIDTH, 1), "y": box.depth * ROW_HEIGHT,
            "w": round(box.width * WIDTH, 1), "h": ROW_HEIGHT - 1,
            "text": _fitted(name, box.width * WIDTH), "own": box.place.own,
            "waits": box.running < 0.5,
            "title": f"{box.place.shown()}{where}: {percent(box.width)} of the time, "
                     f"{percent(box.running)} of that on CPU{compared}",
            "change": "" if abs(change) < MIN_CHANGE else "more" if change > 0 else "less",
        })  # fmt: skip
    depth = max(box.depth for box in boxes) + 1
    return {"width": WIDTH, "height": depth * ROW_HEIGHT, "boxes": drawn}


def timeline(document: dict[str, Any]) -> dict[str, Any]:
    """Return a request's timeline as boxes.

    Returns:
        ``{width, height, boxes[{x, y, w, h, kind, text, title}]}``.
    """
    request_ms = document["ms"] or 1.0
    boxes = []
    for event in document["timeline"]:
        width = event["ms"] / request_ms * WIDTH
        name = event["name"]
        boxes.append({
            "x": round(event["begin_ms"] / request_ms * WIDTH, 1),
            "y": (event["depth"] + 1) * ROW_HEIGHT,
            "w": round(max(1.0, width), 1), "h": ROW_HEIGHT - 1,
            "kind": name.partition(":")[0].replace("_", "-"),
            "text": _fitted(name, width),
            "title": f"{name}: {duration(event['ms'])}, starting at {duration(event['begin_ms'])}",
        })  # fmt: skip
    deepest = max((event["depth"] for event in document["timeline"]), default=-1)
    return {"width": WIDTH, "height": (deepest + 2) * ROW_HEIGHT, "boxes": boxes}


def _fitted(name: str, width: float) -> str:
    """Return as much of a name as fits into a box; nothing if that would be unreadable."""
    room = int((width - 8) / _CHARACTER_WIDTH)
    if len(name) <= room:
        return name
    return f"{name[: room - 1]}…" if room >= _MIN_CHARACTERS else ""
