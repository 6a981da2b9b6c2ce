"""Exploding bills of material: styles in, pounds per yarn out; one good way, three bad ones.

All four give the same pounds (to rounding); the bad ones are patterns found in real code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from demo_app.mill.draw import Column

Explode = Callable[[pd.DataFrame, Column, float], dict[int, float]]


def explode_at_once(bom: pd.DataFrame, styles: Column, pounds: float) -> dict[int, float]:
    """One selection and one grouped sum."""
    rows = bom[bom["Style#"].isin(styles) & bom["Desc#"].notna()]
    sums = (rows["BOM_Percent"] * pounds).groupby(rows["Desc#"].astype(int)).sum()
    return {int(yarn): float(need) for yarn, need in sums.items()}  # type: ignore[call-overload]


def explode_styles(bom: pd.DataFrame, styles: Column, pounds: float) -> dict[int, float]:
    """A filter of the whole table and `iterrows` per style."""
    need: dict[int, float] = {}
    for style in styles:
        rows = bom[bom["Style#"] == style]  # plant: explosion.filter
        for _, row in rows.iterrows():  # plant: explosion.filter.rows
            if pd.notna(row["Desc#"]):
                yarn = int(row["Desc#"])
                need[yarn] = need.get(yarn, 0.0) + row["BOM_Percent"] * pounds
    return need


def explode_with_apply(bom: pd.DataFrame, styles: Column, pounds: float) -> dict[int, float]:
    """A filter of the whole table inside `apply(axis=1)`."""
    need: dict[int, float] = {}

    def add(line: pd.Series[Any]) -> int:
        rows = bom.loc[bom["Style#"] == line["Style#"]]  # plant: explosion.apply
        for yarn, percent in zip(rows["Desc#"], rows["BOM_Percent"], strict=True):
            if pd.notna(yarn):
                need[int(yarn)] = need.get(int(yarn), 0.0) + percent * pounds
        return len(rows)

    pd.DataFrame({"Style#": styles}).apply(add, axis=1)  # plant: explosion.apply.call
    return need


def explode_row_by_row(bom: pd.DataFrame, styles: Column, pounds: float) -> dict[int, float]:
    """`iloc` for every cell of every row."""
    need: dict[int, float] = {}
    wanted = set(styles)
    for position in range(len(bom)):
        if bom.iloc[position]["Style#"] in wanted:  # plant: explosion.iloc
            yarn = bom.iloc[position]["Desc#"]  # plant: explosion.iloc.yarn
            if pd.notna(yarn):
                percent = bom.iloc[position]["BOM_Percent"]  # plant: explosion.iloc.percent
                need[int(yarn)] = need.get(int(yarn), 0.0) + percent * pounds
    return need


EXPLODERS: tuple[Explode, ...] = (explode_styles, explode_with_apply, explode_row_by_row)


def top(need: dict[int, float], styles: int) -> dict[str, Any]:
    """The twenty largest needs, in pounds to two decimals."""
    rounded = sorted(((round(pounds, 2), yarn) for yarn, pounds in need.items()), reverse=True)
    return {
        "styles": styles,
        "yarns": len(need),
        "largest": [{"yarn": yarn, "pounds": pounds} for pounds, yarn in rounded[:20]],
    }
