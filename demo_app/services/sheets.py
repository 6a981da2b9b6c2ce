"""Loading the planners' workbooks, the way a small helper does it: again on each call."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pandas import DataFrame, read_csv, read_excel

from demo_app.mill import Mill


def load_plan_sheets(mill: Mill, names: Iterable[str]) -> list[DataFrame]:
    """The first sheet of each named planning workbook."""
    return [read_excel(mill.path(name)) for name in names]  # plant: workbooks.helper


def load_machine_history(book: Path, rolls: Path) -> tuple[DataFrame, DataFrame]:
    """The machines' history and the table beside it, each through an open file."""
    with book.open("rb") as file:
        history = read_excel(file)  # plant: reread.handle
    with rolls.open(encoding="utf-8") as text:
        return history, read_csv(text)  # plant: reread.handle.table
