"""Views of the warehouse: stock, rolls, styles, knit orders, exports, notes.

Planted here: a large answer, a list that only grows, and reference cycles.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from flask import Response, current_app, request

from demo_app.context import Demo, demo, request_number

Answer = dict[str, Any] | tuple[dict[str, Any], int]

_NOTES: list[str] = []
_LAST_NOTES: deque[str] = deque(maxlen=100)
_PACKED: dict[bytes, bytes] = {}


def stock(item: int) -> Answer:
    """One yarn's balance."""
    item_stock = demo().services.inventory.stock(item)
    return ({"error": "no such yarn"}, 404) if item_stock is None else item_stock


def roll(roll: int) -> Answer:
    """One finished roll."""
    item_roll = demo().services.pipeline.roll(roll)
    return ({"error": "no such roll"}, 404) if item_roll is None else item_roll


def search() -> Answer:
    """Styles by the beginning of their number."""
    return demo().services.pipeline.style_search(request.args.get("q", "1"))


def suppliers() -> Answer:
    """Every supplier's balance."""
    return {"suppliers": demo().services.pipeline.suppliers()}


def large_json() -> Response:
    """All knit orders, about 100 KB; compressed when fixed and the caller can read it."""
    text = json.dumps({"orders": demo().services.capacity.open_orders()})
    body = text.encode()
    response = Response(mimetype="application/json")
    response.headers["Vary"] = "Accept-Encoding"
    if demo().fixed and "gzip" in request.headers.get("Accept-Encoding", ""):
        if body not in _PACKED:
            _PACKED.clear()
            _PACKED[body] = gzip.compress(body, mtime=0)
        body = _PACKED[body]
        response.headers["Content-Encoding"] = "gzip"
    response.set_data(body)  # plant: large_json
    return response


def stream() -> Response:
    """Every supplier's yarns as CSV, sent piece by piece."""
    return Response(_pieces(demo()), mimetype="text/csv")


def _pieces(app: Demo) -> Iterator[str]:
    """The CSV's head at once, then a piece after each pause (none when fixed)."""
    yield "supplier,yarn,colour,balance_lbs\n"
    yarn = app.mill.table("yarn_inventory")
    figures = app.plan.sizes
    columns = ("Supplier", "Desc#", "Color", "Planning Balance")
    rows = list(zip(*(yarn[name].tolist() for name in columns), strict=True))
    pieces = figures.export_chunks - 1
    for number in range(pieces):
        if not app.fixed:
            time.sleep(app.seconds(figures.export_pause_s))  # plant: stream
        yield "".join(f"{s},{y},{c},{b:.2f}\n" for s, y, c, b in rows[number::pieces])


def leak() -> Answer:
    """Takes a note."""
    number = request_number()
    text = request.get_data(as_text=True)
    note = f"{number} {text}".ljust(demo().plan.sizes.leak_bytes)
    if demo().fixed:
        _LAST_NOTES.append(note)
    else:
        _NOTES.append(note)  # plant: leak
    return {"note": number, "stored": True}, 201


def cycles() -> Answer:
    """Count the seats of a shift; if sick, neighbouring seats refer to each other."""
    fixed = demo().fixed
    seats = demo().plan.sizes.churn_nodes
    last: list[Any] | None = None
    total = 0
    for number in range(seats):
        seat = [number, None if fixed else last, None]
        if last is not None and not fixed:
            last[2] = seat  # plant: cycles
        last = seat
        total += number
    return {"seats": seats, "checksum": total}


def redirect(rest: str) -> Answer:
    """Never reached: the application's early hook has moved every such address."""
    current_app.logger.warning("the legacy hook let %s pass", rest)
    return {"error": "gone"}, 410
