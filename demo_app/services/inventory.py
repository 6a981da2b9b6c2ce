"""Yarn stock: what lies there, what is short, how many days it lasts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from demo_app.mill import Mill
from demo_app.sizes import Sizes


class InventoryAnalyzerService:
    """Answers about the yarn inventory.

    Args:
        mill: the tables.
        sizes: the plan's figures.
        fixed: True repairs what is planted here.
    """

    def __init__(self, mill: Mill, sizes: Sizes, fixed: bool) -> None:
        self.mill = mill
        self.sizes = sizes
        self.fixed = fixed

    def intelligence(self, scope: int) -> dict[str, Any]:
        """Yarns whose planning balance is short, for one of eight scopes (pounds, by colour)."""
        yarn = self.mill.table("yarn_inventory")
        chosen = yarn[yarn["Desc#"] % 8 == scope % 8]
        short = chosen[chosen["Planning Balance"] < 0]
        by_colour = short.groupby("Color")["Planning Balance"].sum().sort_values().head(20)
        shares = yarn.groupby("Color")["Planning Balance"].agg(
            lambda some: float((some < 0).mean())
        )
        blanks = chosen["Description"].map(lambda text: text != text.strip()).sum()
        return {
            "scope": scope,
            "yarns": len(chosen),
            "short": len(short),
            "colours_mostly_short": int((shares > 0.5).sum()),
            "untidy_descriptions": int(blanks),
            "worst_colours": {str(k): round(float(v), 2) for k, v in by_colour.items()},
        }

    def stock(self, item: int) -> dict[str, Any] | None:
        """One yarn's balance in pounds, None when it does not exist."""
        yarn = self.mill.table("yarn_inventory")
        index = yarn.index[yarn["Desc#"] == item]
        if not len(index):
            return None
        row = yarn.loc[index[0]]
        return {
            "yarn": item,
            "colour": str(row["Color"]),
            "balance_lbs": float(row["Planning Balance"]),
            "cost": str(row["Cost/Pound"]),
        }

    def prices(self, discount: int) -> list[dict[str, Any]]:
        """The forty most expensive yarns, less a discount in percent."""
        yarn = self.mill.table("yarn_inventory")
        costs = pd.to_numeric(yarn["Cost/Pound"].astype(str).str.strip("$ "), errors="coerce")
        prices = (costs.fillna(0.0) * (1 - discount / 100)).round(2).nlargest(40)
        return [
            {"yarn": int(item), "price": float(price)}
            for item, price in zip(yarn.loc[prices.index, "Desc#"], prices, strict=True)
        ]

    def coverage(self, styles: int) -> dict[str, Any]:
        """Number of bill-of-material rows of the first styles whose yarn is in stock."""
        bom = self.mill.table("bom")
        stocked = set(self.mill.table("yarn_inventory")["Desc#"].astype(int).tolist())
        chosen = bom["Style#"].unique()[:styles]
        if self.fixed:
            rows = bom[bom["Style#"].isin(chosen)]
            covered = int(rows["Desc#"].isin(stocked).sum())
            return {"styles": len(chosen), "covered": covered, "rows": len(rows)}
        covered = total = 0
        for style in chosen:
            rows = bom[bom["Style#"] == style]  # plant: loop.coverage
            for _, row in rows.iterrows():  # plant: loop.coverage.rows
                total += 1
                if pd.notna(row["Desc#"]) and int(row["Desc#"]) in stocked:
                    covered += 1
        return {"styles": len(chosen), "covered": covered, "rows": total}
