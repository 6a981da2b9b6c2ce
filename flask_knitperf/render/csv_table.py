"""Rows of a document as CSV (RFC 4180), for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters at the start of a text that a spreadsheet takes for a formula."""


def csv_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a line of names; values that are tables themselves are left out.

    A mapping of numbers, such as counts by status, becomes a column for each key. A text that a
    spreadsheet takes for a formula has an apostrophe before it (OWASP, "CSV injection").
    """
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in flat)
    return text.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}_{key}": one for key, one in value.items() if _is_scalar(one)})
        elif _is_scalar(value):
            flat[name] = value
    return flat


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
