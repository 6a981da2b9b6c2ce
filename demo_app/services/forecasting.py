"""Sales and fabric forecasts, out of the planners' workbooks."""

from __future__ import annotations

from typing import Any

import pandas as pd

from demo_app.mill import Mill
from demo_app.services.sheets import load_plan_sheets
from demo_app.sizes import Sizes


class SalesForecastingService:
    """Forecasts fabric by month.

    Args:
        mill: the tables.
        sizes: the plan's figures.
        fixed: True reads each workbook once.
    """

    def __init__(self, mill: Mill, sizes: Sizes, fixed: bool) -> None:
        self.mill = mill
        self.sizes = sizes
        self.fixed = fixed

    def fabric_forecast(self) -> dict[str, Any]:
        """Pounds per month, summed over every planning workbook and machine."""
        names = self.sizes.workbooks
        if self.fixed:
            sheets = [self.mill.table(name) for name in names]
        elif self.sizes.reader == 1:
            sheets = load_plan_sheets(self.mill, names)
        elif self.sizes.reader == 2:
            sheets = []
            for name in names:
                with pd.ExcelFile(self.mill.path(name)) as book:  # plant: workbooks.open
                    sheets.append(pd.read_excel(book))  # plant: workbooks.open.sheet
        else:
            sheets = []
            for name in names:
                sheets.append(pd.read_excel(self.mill.path(name)))  # plant: workbooks.service
        months: dict[str, float] = {}
        for sheet in sheets:
            machines = [name for name in sheet.columns if str(name).startswith("Machine")]
            by_month = sheet.groupby("Month")[machines].sum().sum(axis=1)
            for month, pounds in by_month.items():
                months[str(month)] = months.get(str(month), 0.0) + float(pounds)
        return {
            "workbooks": len(sheets),
            "pounds": {month: round(total, 1) for month, total in sorted(months.items())},
        }

    def weekly_demand(self, week: int) -> dict[str, Any]:
        """Yarn demand of one week in pounds, the ten largest."""
        demand = self.mill.table("yarn_demand_by_week")
        column = f"Week {(week - 1) % 12 + 1}"
        wanted = demand[["Desc#", column]].dropna().sort_values([column, "Desc#"]).tail(10)
        return {
            "week": week,
            "total_lbs": round(float(demand[column].sum()), 2),
            "largest": {
                str(int(yarn)): float(pounds)
                for yarn, pounds in zip(wanted["Desc#"], wanted[column], strict=True)
            },
        }
