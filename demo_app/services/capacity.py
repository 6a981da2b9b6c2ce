"""Machine capacity: which machine suits which order, and how loaded they are."""

from __future__ import annotations

from typing import Any

import pandas as pd

from demo_app.mill import Mill
from demo_app.services.sheets import load_machine_history
from demo_app.sizes import PLANTED_ROWS, Sizes


class CapacityPlanningService:
    """Plans the knitting machines.

    Args:
        mill: the tables.
        sizes: the plan's figures.
        fixed: True repairs what is planted here.
    """

    def __init__(self, mill: Mill, sizes: Sizes, fixed: bool) -> None:
        self.mill = mill
        self.sizes = sizes
        self.fixed = fixed

    def machine_suggestions(self) -> dict[str, Any]:
        """The machines that ran most pounds, and how many rows of the table are behind it."""
        if self.fixed:
            history = self.mill.table(self.sizes.reread_book)
            rolls = self.mill.table(self.sizes.reread_table)
        else:
            book = self.mill.path(self.sizes.reread_book)
            beside = self.mill.path(self.sizes.reread_table)
            if self.sizes.rereader == 1:
                history, rolls = load_machine_history(book, beside)
            else:
                history = pd.read_excel(book)  # plant: reread.direct
                rolls = pd.read_csv(beside)  # plant: reread.direct.table
        machines = [name for name in history.columns if str(name).startswith("Machine")]
        ran = history[machines].sum().sort_values(ascending=False).head(5)
        return {
            "rows": len(rolls),
            "suggested": {str(name): round(float(pounds), 1) for name, pounds in ran.items()},
        }

    def open_orders(self) -> list[dict[str, Any]]:
        """Up to 194 knit orders, every column as text or number (missing is None)."""
        orders = self.mill.table("knit_orders").head(194)
        columns = {str(name): _ready(orders[name]) for name in orders.columns}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def machine_load(self, styles: int) -> dict[str, Any]:
        """Per cent of yarn per machine group, over the bills of material of the first styles."""
        bom = self.mill.table("bom").head(PLANTED_ROWS)
        chosen = bom["Style#"].unique()[:styles]
        loads = [0, 0, 0, 0]
        if self.fixed:
            rows = bom[bom["Style#"].isin(chosen)]
            group = rows["Style#"].str.slice(0, 5).astype(int) % 4
            percents = (rows["BOM_Percent"] * 100).round()
            loads = [int(percents[group == number].sum()) for number in range(4)]
            return {"styles": len(chosen), "percent_by_group": loads}
        for style in chosen:
            rows = bom.loc[bom["Style#"] == style]  # plant: loop.machine_load
            for _, row in rows.iterrows():  # plant: loop.machine_load.rows
                loads[int(row["Style#"][:5]) % 4] += round(row["BOM_Percent"] * 100)
        return {"styles": len(chosen), "percent_by_group": loads}


def _ready(column: pd.Series[Any]) -> list[Any]:
    """Values of a column as JSON values."""
    if column.dtype.kind == "M":
        column = column.dt.strftime("%Y-%m-%d")
    return column.astype(object).where(column.notna(), None).tolist()
