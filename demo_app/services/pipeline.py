"""The inventory pipeline: figures over all stages, suppliers, finished rolls."""

from __future__ import annotations

from typing import Any

from demo_app.mill import Mill
from demo_app.sizes import Sizes


class InventoryManagementPipelineService:
    """Follows yarn from the supplier to the finished roll.

    Args:
        mill: the tables.
        sizes: the plan's figures.
        fixed: True repairs what is planted here (nothing is).
    """

    def __init__(self, mill: Mill, sizes: Sizes, fixed: bool) -> None:
        self.mill = mill
        self.sizes = sizes
        self.fixed = fixed

    def kpis(self) -> dict[str, Any]:
        """The management's figures, over every table (pounds and yards)."""
        yarn = self.mill.table("yarn_inventory")
        rolls = self.mill.table("finished_inventory")
        bom = self.mill.table("bom")
        by_rack = rolls.groupby("Rack")["Yards"].sum()
        return {
            "yarn_lbs": round(float(yarn["Planning Balance"].sum()), 1),
            "short_yarns": int((yarn["Planning Balance"] < 0).sum()),
            "finished_yards": round(float(rolls["Yards"].sum()), 1),
            "fullest_rack": str(by_rack.idxmax()),
            "styles": int(bom["Style#"].nunique()),
            "share_without_yarn": round(float(bom["Desc#"].isna().mean()), 4),
        }

    def suppliers(self) -> list[dict[str, Any]]:
        """Every supplier with its yarns and balance in pounds, by name."""
        groups = self.mill.table("yarn_inventory").groupby("Supplier")["Planning Balance"]
        figures = groups.agg(["count", "sum"])
        return [
            {"supplier": str(name), "yarns": int(count), "balance_lbs": round(float(total), 2)}
            for name, count, total in figures.itertuples(name=None)
        ]

    def roll(self, number: int) -> dict[str, Any] | None:
        """One finished roll, None when it does not exist."""
        rolls = self.mill.table("finished_inventory")
        index = rolls.index[rolls["Roll#"] == number]
        if not len(index):
            return None
        row = rolls.loc[index[0]]
        return {"roll": number, "rack": str(row["Rack"]), "yards": float(row["Yards"])}

    def style_search(self, text: str) -> dict[str, Any]:
        """Styles whose number begins with `text`: how many, and the first ten."""
        styles = self.mill.table("styles")["Style"]
        matches = sorted(set(styles[styles.str.startswith(text)].tolist()))
        return {"query": text, "count": len(matches), "first": matches[:10]}
