"""Yarn requirements: what a list of styles needs, by the bill of materials."""

from __future__ import annotations

from typing import Any

import pandas as pd

from demo_app.mill import Mill
from demo_app.services.explode import EXPLODERS, explode_at_once, top
from demo_app.sizes import PLANTED_ROWS, Sizes

POUNDS = 250.0


class YarnRequirementCalculatorService:
    """Calculates yarn needs in pounds.

    Args:
        mill: the tables.
        sizes: the plan's figures.
        fixed: True repairs what is planted here.
    """

    def __init__(self, mill: Mill, sizes: Sizes, fixed: bool) -> None:
        self.mill = mill
        self.sizes = sizes
        self.fixed = fixed

    def requirements(self, styles: int) -> dict[str, Any]:
        """The twenty yarns that the last styles need most, in pounds."""
        bom = self.mill.table("bom").head(PLANTED_ROWS)
        chosen = bom["Style#"].unique()[-styles:]
        if self.fixed:
            return top(explode_at_once(bom, chosen, POUNDS), len(chosen))
        need: dict[int, float] = {}
        for style in chosen:
            rows = bom[bom["Style#"] == style]  # plant: loop.requirements
            for _, row in rows.iterrows():  # plant: loop.requirements.rows
                if pd.notna(row["Desc#"]):
                    yarn = int(row["Desc#"])
                    need[yarn] = need.get(yarn, 0.0) + row["BOM_Percent"] * POUNDS
        return top(need, len(chosen))

    def explosion(self, styles: int) -> dict[str, Any]:
        """The twenty yarns that the first styles need most, in pounds."""
        bom = self.mill.table("bom").head(PLANTED_ROWS)
        chosen = bom["Style#"].unique()[:styles]
        explode = explode_at_once if self.fixed else EXPLODERS[self.sizes.explosion]
        return top(explode(bom, chosen, POUNDS), len(chosen))
