"""The mill's order tables: knit orders, sales orders and activity, weekly demand, the trap.

These are the small, dirty exports: HTML in cells, money in five spellings, columns that are
empty or repeat each other.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from demo_app.mill.draw import Column, Draw, money, put, texts
from demo_app.mill.tables import FIRST_YARN

TRAP_COLUMNS = 98_711
# a knit order's dates: share missing, days after its start
_ORDER_DATES = {
    "Start Date": (0.0, 0),
    "Quoted Date": (0.1, 14),
    "Due Date": (0.0, 21),
    "Finished Date": (0.4, 18),
    "Shipped Date": (0.65, 25),
}


def knit_orders(draw: Draw, styles: Column) -> pd.DataFrame:
    """Knit orders, 194 × 28: five datetimes, three bools, repeated columns."""
    rows = draw.count(194, 20)
    started = draw.moments(rows).astype("datetime64[D]").astype("datetime64[s]")
    numbers = texts("KO{:05d}", range(21_000, 21_000 + rows))
    tail = draw.mask(rows, 0.16)
    orders = np.array(
        [f"{n}<br><i>rush</i>" if t else n for n, t in zip(numbers, tail, strict=True)],
        dtype=object,
    )
    pounds = draw.amounts(rows, 100, 8000)
    machine = draw.blank(draw.rng.integers(1, 46, rows).astype(float), 0.21)
    columns: dict[str, object] = {
        "Order #": orders,
        "Style #": draw.spread(styles, rows),
        "PO#": draw.blank(texts("{:07d}", draw.rng.integers(100, 99_999, rows)), 0.85),
        "Machine": machine,
        "Machine Copy": machine,
        "Qty Ordered (lbs)": pounds,
        "Qty (lbs)": pounds,
        "G00 (lbs)": (pounds * draw.rng.uniform(0, 0.5, rows)).round(2),
        "Shipped (lbs)": (pounds * draw.rng.uniform(0, 0.4, rows)).round(2),
        "Balance (lbs)": draw.amounts(rows, -200, 4000, zeros=0.2),
        "Seconds (lbs)": draw.amounts(rows, 0, 90, zeros=0.6),
        "BKI #": texts("B{:04d}", draw.rng.integers(0, 9999, rows)),
        "BKI Copy": None,
        "Customer": draw.spread(texts("Customer {:02d}", range(50)), rows),
        "Priority": draw.rng.integers(1, 6, rows),
        "Gauge": draw.rng.choice([18, 20, 24, 28], rows),
        "Rush": draw.mask(rows, 0.16),
        "Sample": draw.mask(rows, 0.05),
        "Closed": draw.mask(rows, 0.35),
        "Planner": draw.spread(texts("Planner {:d}", range(6)), rows),
        "Notes": draw.blank(texts("See job card {:d}", draw.rng.integers(1, 900, rows)), 0.7),
        "Percent Done": draw.amounts(rows, 0, 100),
        "Needles": draw.rng.integers(1500, 3400, rows),
    }
    columns["BKI Copy"] = columns["BKI #"]
    for name, (missing, days) in _ORDER_DATES.items():
        moments = started + np.timedelta64(days, "D")
        moments[draw.mask(rows, missing)] = np.datetime64("NaT", "s")
        columns[name] = moments
    return pd.DataFrame(columns)


def sales_orders(draw: Draw, styles: Column) -> pd.DataFrame:
    """Sales orders, 133 × 17: HTML, "$9.99 (yds)", text numbers with leading zeros."""
    rows = draw.count(133, 15)
    serial = range(rows)
    price = money(draw.amounts(rows, 1, 19))
    numbers = draw.rng.permutation(9000)[:rows] if rows <= 9000 else np.arange(rows)
    return pd.DataFrame(
        {
            "SO #": texts("SO{:05d}", range(3000, 3000 + rows)),
            "Customer": draw.spread(texts("Customer {:02d}", range(50)), rows),
            "Style": draw.spread(styles, rows),
            "Unit Price": np.array([f"{p} (yds)" for p in price], dtype=object),
            "On Hold": texts('<input type="checkbox" id="hold{:d}" value="0">', serial),
            "PO#": texts("{:08d}", numbers),
            "Ship Date": np.full(rows, np.nan),
            "Ordered": draw.amounts(rows, 100, 9000),
            "Picked/Shipped": draw.amounts(rows, 0, 4000, zeros=0.5),
            "Balance": draw.amounts(rows, 0, 5000, zeros=0.1),
            "Available": draw.amounts(rows, -300, 5000, zeros=0.3),
            "UOM": "yds",
            "Terms": draw.spread(np.array(["Net 30", "Net 60", "COD"], dtype=object), rows),
            "Order Date": draw.dates(rows).astype(str).astype(object),
            "Sales Rep": draw.spread(texts("Rep {:d}", range(9)), rows),
            "Line": np.arange(rows) % 5 + 1,
            "Ship To": draw.spread(texts("Dock {:02d}", range(24)), rows),
        }
    )


def sales_activity(draw: Draw, styles: Column) -> pd.DataFrame:
    """Sales activity, 1,540 × 13: padded money, "MM-DD-YY" dates, negatives both ways."""
    rows = draw.count(1540, 40)
    yards = draw.amounts(rows, 10, 2000)
    unit = draw.amounts(rows, 1, 19)
    line = money(yards * unit, padded=True)
    put(line, 4, "(123.4)")
    put(line, 17, "-9,999.99")
    days = pd.DatetimeIndex(draw.dates(rows).astype("datetime64[s]")).strftime("%m-%d-%y")
    due = pd.DatetimeIndex(draw.dates(rows).astype("datetime64[s]")).strftime("%m-%d-%y")
    dirty = due.to_numpy(dtype=object).copy()
    put(dirty, 8, "n/a soon")
    put(dirty, 21, "13-45-24")
    return pd.DataFrame(
        {
            "Document": texts("INV{:06d}", range(rows)),
            "Invoice Date": days.to_numpy(dtype=object),
            "Customer": draw.spread(texts("Customer {:02d}", range(50)), rows),
            "Style": draw.spread(styles, rows),
            "Description": draw.spread(texts(" Jersey {:03d}", range(300)), rows),
            "Yds_ordered": yards,
            "Unit Price": money(unit, padded=True),
            "Line Price": line,
            "Commission": draw.blank(draw.amounts(rows, 1, 90), 0.98),
            "Sales Rep": draw.spread(texts("Rep {:d}", range(9)), rows),
            "Territory": draw.spread(np.array(["East", "West", None], dtype=object), rows),
            "Due Date": dirty,
            "Type": draw.spread(np.array(["invoice", "credit"], dtype=object), rows),
        }
    )


def yarn_demand(draw: Draw) -> pd.DataFrame:
    """Yarn demand by week, 518 × 15; twelve week columns, 62 to 99 % missing."""
    rows = draw.count(518, 24)
    frame = pd.DataFrame(
        {
            "Desc#": FIRST_YARN + 3 * np.arange(rows),
            "Supplier": draw.spread(texts("Spinner {:03d} Inc", range(128)), rows),
            "Past Due": draw.amounts(rows, 0, 900, zeros=0.5),
        }
    )
    for week, missing in enumerate(np.linspace(0.62, 0.99, 12), 1):
        frame[f"Week {week}"] = draw.blank(draw.amounts(rows, 1, 3000), float(missing))
    return frame


def fabric_list(draw: Draw) -> str:
    """The trap: one line of JSON for a file named .csv, 98,711 comma-separated pieces."""
    pieces = max(1, round(min(1.0, draw.scale) * (TRAP_COLUMNS - 8) / 11))
    keys = (
        "id", "style", "fabric", "width", "weight", "gauge", "price", "mill", "dye", "oz", "lot",
    )  # fmt: skip
    # values differ within a key: pandas needs a minute to rename thousands of equal columns
    values = np.arange(1, pieces * len(keys) + 1).reshape(pieces, len(keys)) + 0.5
    fabrics = [dict(zip(keys, row, strict=True)) for row in draw.rng.permutation(values).tolist()]
    head = {f"note{number}": number for number in range(8)}
    return json.dumps({**head, "fabrics": fabrics})


def adjustments(draw: Draw) -> pd.DataFrame:
    """Stock adjustments: duplicate column names and a column that mixes NaN, None and blanks."""
    rows = draw.count(60, 12)
    mixed = texts("recount {:d}", range(rows))
    for row, value in ((1, None), (2, float("nan")), (3, ""), (4, "  "), (5, "None"), (6, "nan")):
        put(mixed, row, value)
    frame = pd.DataFrame(
        {
            "Lot": texts("{:06d}", draw.rng.integers(10, 9999, rows)),
            "Reason": mixed,
            "Pounds": draw.amounts(rows, -300, 300),
            "Again": draw.amounts(rows, -300, 300),
        }
    )
    frame.columns = pd.Index(["Lot", "Reason", "Pounds", "Pounds"])
    return frame


def returns() -> pd.DataFrame:
    """The empty frame: columns, no rows."""
    return pd.DataFrame({"Return #": [], "Style": [], "Yards": []})


def planning_book(draw: Draw, rows: int) -> pd.DataFrame:
    """One planning workbook, `rows` × 14: month, style and twelve measures."""
    count = max(6, round(rows * min(1.0, draw.scale)))
    frame = pd.DataFrame(
        {
            "Style": draw.spread(texts("{:05d}/1A", range(10_000, 10_400)), count),
            "Month": draw.spread(texts("2025-{:02d}", range(1, 13)), count),
        }
    )
    for number in range(1, 13):
        frame[f"Machine {number}"] = draw.amounts(count, 0, 900, zeros=0.2)
    return frame
