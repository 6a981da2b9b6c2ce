"""The generated tables have the shapes of the specification, as pandas reads them back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow
Read = Callable[[str], pd.DataFrame]

SHAPES = {
    "yarn_inventory": (1199, 17),
    "bom": (28_653, 4),
    "knit_orders": (194, 28),
    "sales_orders": (133, 17),
    "sales_activity": (1540, 13),
    "finished_inventory": (10_177, 11),
    "styles": (11_416, 6),
    "yarn_demand_by_week": (518, 15),
}
DISTINCT = [
    ("yarn_inventory", "Desc#", 1199),
    ("yarn_inventory", "Supplier", 128),
    ("yarn_inventory", "Description", 1129),
    ("yarn_inventory", "Color", 329),
    ("bom", "Style#", 5925),
    ("bom", "Desc#", 1632),
    ("bom", "BOM_Percent", 100),
    ("bom", "unit", 1),
    ("sales_orders", "On Hold", 133),
    ("sales_activity", "Customer", 50),
    ("finished_inventory", "Style", 459),
    ("finished_inventory", "Order", 1048),
    ("finished_inventory", "Roll#", 10_177),
    ("finished_inventory", "Rack", 543),
]
MISSING = [
    ("yarn_inventory", "Received", 0.94),
    ("yarn_inventory", "Adjustments", 0.99),
    ("bom", "Desc#", 0.21),
    ("knit_orders", "Machine", 0.21),
    ("knit_orders", "PO#", 0.85),
    ("knit_orders", "Start Date", 0.0),
    ("knit_orders", "Shipped Date", 0.65),
    ("sales_orders", "Ship Date", 1.0),
    ("sales_activity", "Commission", 0.98),
    ("yarn_demand_by_week", "Week 1", 0.62),
    ("yarn_demand_by_week", "Week 12", 0.99),
]
ZEROS = [
    ("Beginning Balance", 0.30), ("Theoretical Balance", 0.30), ("Planning Balance", 0.30),
    ("Consumed", 0.85), ("Allocated", 0.85), ("On Order", 0.94),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_a_table_has_the_rows_and_columns_of_the_specification(
    read: Read, name: str, shape: tuple[int, int]
) -> None:
    assert read(name).shape == shape


@pytest.mark.parametrize(("name", "column", "count"), DISTINCT)
def test_a_column_has_as_many_different_values_as_specified(
    read: Read, name: str, column: str, count: int
) -> None:
    assert read(name)[column].nunique() == count


@pytest.mark.parametrize(("name", "column", "share"), MISSING)
def test_a_column_misses_the_specified_share_of_its_values(
    read: Read, name: str, column: str, share: float
) -> None:
    assert read(name)[column].isna().mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("column", "share"), ZEROS)
def test_a_yarn_balance_is_zero_in_the_specified_share_of_rows(
    read: Read, column: str, share: float
) -> None:
    assert (read("yarn_inventory")[column] == 0).mean() == pytest.approx(share, abs=0.02)


def test_yarn_descriptions_have_blanks_at_their_edges_in_77_per_cent(read: Read) -> None:
    text = read("yarn_inventory")["Description"]
    assert (text != text.str.strip()).mean() == pytest.approx(0.77, abs=0.03)


def test_consumed_and_allocated_are_never_positive_and_balances_sometimes_negative(
    read: Read,
) -> None:
    yarn = read("yarn_inventory")
    assert (yarn[["Consumed", "Allocated"]] <= 0).all(axis=None)
    assert (yarn["Planning Balance"] < 0).any()


def test_exactly_two_reconcile_dates_are_stray_words(read: Read) -> None:
    column = read("yarn_inventory")["Reconcile Date"]
    assert pd.to_datetime(column, errors="coerce", format="%Y-%m-%d").isna().sum() == 2


def test_money_has_both_spellings_of_a_negative(read: Read) -> None:
    for name, column in (("yarn_inventory", "Total Cost"), ("sales_activity", "Line Price")):
        assert {"(123.4)", "-9,999.99"} <= set(read(name)[column])


def test_bom_ids_are_floats_and_some_of_its_rows_are_duplicates(read: Read) -> None:
    bom = read("bom")
    assert bom["Desc#"].dtype == "float64"
    assert bom.duplicated().any()
    assert {0.07, 0.33} <= set(bom["BOM_Percent"])


def test_knit_orders_have_five_datetimes_three_bools_and_columns_that_repeat_each_other(
    read: Read,
) -> None:
    orders = read("knit_orders")
    kinds = [dtype.kind for dtype in orders.dtypes]
    assert kinds.count("M") == 5
    assert kinds.count("b") == 3
    assert orders["Machine"].equals(orders["Machine Copy"].rename("Machine"))
    assert orders["Order #"].str.contains("<").mean() == pytest.approx(0.16, abs=0.01)


def test_styles_are_text_with_2044_duplicate_rows_and_a_column_named_2(
    mill_folder: Path,
) -> None:
    styles = pd.read_csv(mill_folder / "styles.csv", dtype=str)
    assert styles.duplicated().sum() == 2044
    assert "2" in styles.columns
    assert styles.nunique().min() == 173
    assert styles.nunique().max() == 3178


def test_leading_zeros_are_kept_in_ids_that_look_numeric(mill_folder: Path) -> None:
    rolls = pd.read_csv(mill_folder / "finished_inventory.csv", dtype=str)["Vendor Roll"]
    orders = pd.read_csv(mill_folder / "sales_orders.csv", dtype=str)["PO#"]
    assert rolls.nunique() == 9524
    assert rolls.str.startswith("0").any()
    assert orders.str.startswith("0").all()


def test_the_fabric_list_is_json_in_one_line_of_98711_comma_separated_pieces(
    mill_folder: Path,
) -> None:
    text = (mill_folder / "fabric_list.csv").read_text(encoding="utf-8")
    assert text.count("\n") == 1
    # what pandas makes 0 rows and 98,711 columns of, in 5 s (pandas 3) or 50 s (2.2)
    assert [len(line) for line in csv.reader([text])] == [98_711]
    assert len(json.loads(text)["fabrics"]) == 8973


def test_an_export_has_duplicate_column_names_and_a_column_of_mixed_blanks(
    mill_folder: Path,
) -> None:
    lines = (mill_folder / "adjustments.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].split(",") == ["Lot", "Reason", "Pounds", "Pounds"]
    reasons = [line.split(",")[1].strip('"') for line in lines[1:]]
    assert {"", "  ", "None", "nan"} <= set(reasons)


def test_one_export_is_empty(read: Read) -> None:
    assert len(read("returns")) == 0
    assert len(read("returns").columns) == 3
