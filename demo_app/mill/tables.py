"""The mill's main tables, in the shapes of a real mill's exports, every value generated.

What makes these frames hard is kept: ids as floats, money as text, blanks at the edges, dates
with stray words. Each builder is one row of the specification.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from demo_app.mill.draw import Column, Draw, money, put, texts

FIRST_YARN, FIRST_ROLL = 10_007, 700_001
COLOURS = 329


def yarn_ids(draw: Draw) -> Column:
    """The inventory's unique yarn ids, ascending."""
    return FIRST_YARN + 3 * np.arange(draw.count(1199, 40))


def yarn_inventory(draw: Draw) -> pd.DataFrame:
    """Yarn inventory, 1,199 × 17."""
    ids = yarn_ids(draw)
    rows = len(ids)
    beginning = draw.amounts(rows, -400, 9000, zeros=0.30)
    consumed = draw.amounts(rows, -1500, -1, zeros=0.85)
    allocated = draw.amounts(rows, -2500, -1, zeros=0.85)
    ordered = draw.amounts(rows, 50, 6000, zeros=0.94)
    cost = draw.amounts(rows, 0.6, 14.0)
    theoretical = np.where(beginning == 0, 0.0, beginning + consumed).round(2)
    planning = np.where(beginning == 0, 0.0, theoretical + allocated + ordered).round(2)
    total = money(np.abs(theoretical * cost).round(2))
    put(total, 3, "(123.4)")
    put(total, 11, "-9,999.99")
    reconciled = draw.dates(rows).astype(str).astype(object)
    put(reconciled, 5, "pending")
    put(reconciled, 9, "see note")
    misc = draw.blank(draw.amounts(rows, -50, 50).astype(object), 0.79)
    put(misc, 2, " ")
    return pd.DataFrame(
        {
            "Desc#": ids,
            "Supplier": draw.spread(texts("Spinner {:03d} Inc", range(128)), rows),
            "Description": _descriptions(draw, rows),
            "Color": draw.spread(texts("Shade {:03d}", range(COLOURS)), rows),
            "Inventory": draw.spread(np.array(["KM", "DYE", "OUT"], dtype=object), rows),
            "Beginning Balance": beginning,
            "Received": draw.blank(draw.amounts(rows, 10, 4000), 0.94),
            "Consumed": consumed,
            "Adjustments": draw.blank(draw.amounts(rows, -80, 80), 0.99),
            "Misc": misc,
            "Theoretical Balance": theoretical,
            "Allocated": allocated,
            "On Order": ordered,
            "Planning Balance": planning,
            "Reconcile Date": reconciled,
            "Cost/Pound": money(cost),
            "Total Cost": total,
        }
    )


def _descriptions(draw: Draw, rows: int) -> Column:
    """1,129 of 1,199 different, 77 % with a blank at an edge: "1/150/48 100% Polyester "."""
    fibres = ("Polyester", "Cotton", "Rayon", "Nylon", "Modal", "Acrylic", "Lyocell", "Wool")
    different = max(1, round(rows * 1129 / 1199))
    codes = draw.rng.choice(2 * 60 * 40 * 20 * 8, different, replace=False)
    edges = draw.mask(different, 0.77)
    names = []
    for code, edge in zip(codes.tolist(), edges.tolist(), strict=True):
        rest, ply = divmod(code, 2)
        rest, denier = divmod(rest, 60)
        rest, filaments = divmod(rest, 40)
        fibre, percent = divmod(rest, 20)
        name = f"{ply + 1}/{30 + 5 * denier}/{12 + 4 * filaments} {100 - percent}% {fibres[fibre]}"
        names.append((f"{name} " if code % 3 else f" {name}") if edge else name)
    return draw.spread(np.array(names, dtype=object), rows)


def bom_styles(draw: Draw) -> Column:
    """The 5,925 style numbers of the BOM, "12345/12A"."""
    numbers = draw.rng.permutation(90_000)[: draw.count(5925, 30)] + 10_000
    letters = "ABCDEF"
    return np.array([f"{n}/{n % 40 + 1}{letters[n % 6]}" for n in numbers.tolist()], dtype=object)


def bom(draw: Draw, styles: Column) -> pd.DataFrame:
    """Bills of material, 28,653 × 4, ids as floats with 21 % missing, some rows twice."""
    rows = draw.count(28_653, 120)
    twice = max(1, rows // 90)
    once = rows - twice
    yarns = FIRST_YARN + 3 * np.arange(draw.count(1632, 50))
    percents = np.round(np.arange(1, 101) / 100, 2)
    frame = pd.DataFrame(
        {
            "Style#": draw.spread(styles, once),
            "Desc#": draw.blank(draw.spread(yarns.astype(float), once), 0.21),
            "BOM_Percent": draw.spread(percents, once),
            "unit": "lbs",
        }
    )
    again = frame.iloc[draw.rng.integers(0, once, twice)]
    order = draw.rng.permutation(rows)
    return pd.concat([frame, again], ignore_index=True).iloc[order].reset_index(drop=True)


def finished_inventory(draw: Draw, styles: Column) -> pd.DataFrame:
    """Finished rolls, 10,177 × 11; vendor rolls with leading zeros, times as text."""
    rows = draw.count(10_177, 60)
    lots = range(40_000, 40_000 + rows * 9524 // 10_177)
    vendor = [f"00{lot}" if lot % 7 == 0 else str(lot) for lot in lots]
    customers = texts("Customer {:02d}", range(50))
    yards = draw.amounts(rows, 5, 140)
    return pd.DataFrame(
        {
            "Style": draw.spread(styles[:459], rows),
            "Order": draw.spread(texts("F{:05d}", range(1200, 1200 + draw.count(1048))), rows),
            "Roll#": FIRST_ROLL + draw.rng.permutation(rows),
            "Vendor Roll": draw.spread(np.array(vendor, dtype=object), rows),
            "Rack": draw.spread(texts("R-{:03d}", range(543)), rows),
            "Customer": draw.spread(customers, rows),
            "Yards": yards,
            "Pounds": (yards * draw.rng.uniform(0.3, 0.9, rows)).round(2),
            "Received": draw.moments(rows).astype(str).astype(object),
            "Last Moved": draw.blank(draw.moments(rows).astype(str), 0.4),
            "Grade": draw.spread(np.array(["A", "B", "S"], dtype=object), rows),
        }
    )


def style_list(draw: Draw, styles: Column) -> pd.DataFrame:
    """Styles, 11,416 × 6, text only, 2,044 duplicate rows, one column is named "2"."""
    rows = draw.count(11_416, 60)
    twice = round(rows * 2044 / 11_416)
    once = rows - twice
    numbers = draw.spread(styles[: draw.count(3178, 20)], once)
    serial = np.arange(once)
    frame = pd.DataFrame(
        {
            "Style": numbers,
            "2": draw.spread(texts("{:03d}", range(173)), once),
            "Fabric": draw.spread(texts("Jersey {:04d}", range(draw.count(2400))), once),
            "Construction": texts("{:04d} gauge", serial % draw.count(1201)),
            "Finish": draw.spread(texts("Finish {:03d} ", range(600)), once),
            "Mill Code": texts("M{:04d}", serial // draw.count(1201)),
        }
    )
    frame["Mill Code"] = frame["Mill Code"] + draw.spread(texts("-{:02d}", range(30)), once)
    again = frame.iloc[draw.rng.permutation(once)[:twice]]
    order = draw.rng.permutation(rows)
    return pd.concat([frame, again], ignore_index=True).iloc[order].reset_index(drop=True)
