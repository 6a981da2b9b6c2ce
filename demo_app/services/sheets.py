"""Loading the planners' workbooks, the way a small helper does it: again on each call."""

from __future__ import annotations

from collections.abc import Iterable

from pandas import DataFrame, read_excel

from demo_app.mill import Mill


def load_plan_sheets(mill: Mill, names: Iterable[str]) -> list[DataFrame]:
    """The first sheet of each named planning workbook."""
    return [read_excel(mill.path(name)) for name in names]  # plant: workbooks.helper
