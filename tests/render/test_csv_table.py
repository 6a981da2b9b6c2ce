"""Rows as CSV."""

from __future__ import annotations

import csv
import io

import pytest

from flask_knitperf.render.csv_table import csv_table


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_scalars_are_columns_mappings_are_columns_by_key_and_tables_are_left_out() -> None:
    rows = [
        {"name": "a", "p95_ms": 1.5, "status": {"2xx": 3}, "parts": [{"x": 1}]},
        {"name": 'b,\n"c"', "p95_ms": None, "status": {"2xx": 1, "5xx": 2}, "more": {"rows": []}},
    ]
    assert cells(csv_table(rows)) == [
        ["name", "p95_ms", "status_2xx", "status_5xx"],
        ["a", "1.5", "3", ""], ["b,\n\"c\"", "", "1", "2"],
    ]  # fmt: skip
    assert csv_table([]) == "\r\n"


@pytest.mark.parametrize("start", "=+-@\t\r")
def test_a_text_is_never_a_formula(start: str) -> None:
    [_, [cell]] = cells(csv_table([{"name": f"{start}HYPERLINK(1)"}]))
    assert cell == f"'{start}HYPERLINK(1)"


def test_numbers_stay_numbers() -> None:
    assert cells(csv_table([{"change": -1.5}])) == [["change"], ["-1.5"]]
