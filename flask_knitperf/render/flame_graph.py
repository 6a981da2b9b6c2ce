"""Stacks and timelines as boxes of a picture. Pure; no script, no style attribute."""

from __future__ import annotations

from typing import Any

from ..analysis.hot_lines import flame
from ..metrics.stack_trie import Trie
from .html import duration, share

WIDTH, ROW = 1200.0, 20.0
_CHARACTER = 7.2
"""Width of a character of the picture's font, in its units."""
NOTABLE = 0.05
"""A share that differs by this much is marked."""


def flame_graph(
    trie: Trie, other: Trie | None = None, named: str = "of the others"
) -> dict[str, Any] | None:
    """Return a flame graph as boxes, ``None`` without samples.

    Args:
        trie: what is drawn.
        other: stacks that every box is compared with.
        named: how those are called.

    Returns:
        ``{width, height, boxes[{x, y, w, h, text, title, own, waits, change}]}``: ``change`` is
        ``more`` or ``less`` where the share is notably another than in what it is compared with.
    """
    boxes = flame(trie, other)
    if not boxes:
        return None
    drawn = []
    for box in boxes:
        name = f"{box.place.function}:{box.place.line}" if box.place.own else box.place.function
        computing = share(box.running)
        where = f" in {box.place.function}" if box.place.own else ""
        beside = "" if box.other is None else f"; {share(box.other)} {named}"
        grown = 0.0 if box.other is None else box.width - box.other
        drawn.append({
            "x": round(box.begin * WIDTH, 1), "y": box.depth * ROW, "w": round(box.width * WIDTH, 1),
            "h": ROW - 1, "text": _fitted(name, box.width * WIDTH), "own": box.place.own,
            "waits": box.running < 0.5,
            "title": f"{box.place.shown()}{where}: {share(box.width)} of the time, "
                     f"{computing} of that computing{beside}",
            "change": "" if abs(grown) < NOTABLE else "more" if grown > 0 else "less",
        })  # fmt: skip
    depth = max(box.depth for box in boxes) + 1
    return {"width": WIDTH, "height": depth * ROW, "boxes": drawn}


def timeline(document: dict[str, Any]) -> dict[str, Any]:
    """Return a request's timeline as a picture.

    Returns:
        ``{width, height, boxes[{x, y, w, h, kind, text, title}]}``.
    """
    whole = document["ms"] or 1.0
    boxes = []
    for event in document["timeline"]:
        wide = event["ms"] / whole * WIDTH
        name = event["name"]
        boxes.append({
            "x": round(event["begin_ms"] / whole * WIDTH, 1), "y": (event["depth"] + 1) * ROW,
            "w": round(max(1.0, wide), 1), "h": ROW - 1,
            "kind": name.partition(":")[0].replace("_", "-"),
            "text": _fitted(name, wide),
            "title": f"{name}: {duration(event['ms'])}, from {duration(event['begin_ms'])} on",
        })  # fmt: skip
    deepest = max((event["depth"] for event in document["timeline"]), default=-1)
    return {"width": WIDTH, "height": (deepest + 2) * ROW, "boxes": boxes}


def _fitted(name: str, wide: float) -> str:
    """Return as much of a name as a box has room for, nothing where that says nothing."""
    room = int((wide - 8) / _CHARACTER)
    if len(name) <= room:
        return name
    return f"{name[: room - 1]}…" if room > 4 else ""
