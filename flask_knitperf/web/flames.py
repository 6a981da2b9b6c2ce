"""A flame graph as boxes of a picture. Pure; no script, no style attribute."""

from __future__ import annotations

from typing import Any

from ..analysis.lines import flame
from ..core.stacks import Trie
from .view import share

WIDTH, ROW = 1200.0, 20.0
_CHARACTER = 7.2
"""Width of a character of the picture's font, in its units."""


NOTABLE = 0.05
"""A share that differs by this much is marked."""


def picture(
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
        room = int((box.width * WIDTH - 8) / _CHARACTER)
        text = name if len(name) <= room else f"{name[: room - 1]}…" if room > 4 else ""
        computing = share(box.running)
        where = f" in {box.place.function}" if box.place.own else ""
        beside = "" if box.other is None else f"; {share(box.other)} {named}"
        grown = 0.0 if box.other is None else box.width - box.other
        drawn.append({
            "x": round(box.begin * WIDTH, 1), "y": box.depth * ROW, "w": round(box.width * WIDTH, 1),
            "h": ROW - 1, "text": text, "own": box.place.own, "waits": box.running < 0.5,
            "title": f"{box.place.shown()}{where}: {share(box.width)} of the time, "
                     f"{computing} of that computing{beside}",
            "change": "" if abs(grown) < NOTABLE else "more" if grown > 0 else "less",
        })  # fmt: skip
    depth = max(box.depth for box in boxes) + 1
    return {"width": WIDTH, "height": depth * ROW, "boxes": drawn}
