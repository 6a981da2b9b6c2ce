"""Odd frames that break code for ordinary ones: no level may crash or change a value."""

from __future__ import annotations

import datetime as dt
import decimal
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from flask_knitperf.frames import optimize_dataframe, plan_dataframe
from flask_knitperf.frames.dtype_selection import LEVELS

from .comparison import compare


def _numbers(count: int) -> pd.DataFrame:
    return pd.DataFrame({"a": range(count), "b": ["x", "y"] * (count // 2), "c": [0.5] * count})


def _duplicates() -> pd.DataFrame:
    frame = _numbers(100)
    frame.columns = ["a", "a", "a"]
    return frame


def _labelled() -> pd.DataFrame:
    rows = pd.MultiIndex.from_product([["x", "y"], range(50)], names=["side", "place"])
    columns = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["one", None])
    return _numbers(100).set_axis(rows, axis=0).set_axis(columns, axis=1)


def _sparse() -> pd.DataFrame:
    values = np.zeros(1000)
    values[::100] = 0.1
    return pd.DataFrame({
        "floats": pd.arrays.SparseArray(values, fill_value=0.0),
        "integers": pd.arrays.SparseArray((values > 0).astype("int64")),
        "nothing": pd.arrays.SparseArray([np.nan] * 1000),
    })  # fmt: skip


def _empty_cells() -> pd.DataFrame:
    count = 100
    return pd.DataFrame({
        "none": pd.Series([None] * count, dtype=object),
        "nan": [np.nan] * count,
        "nat": pd.Series([pd.NaT] * count),
        "na": pd.Series([pd.NA] * count, dtype="Int64"),
        "text": pd.Series([None] * count, dtype="string"),
        "category": pd.Categorical([None] * count, categories=["a", "b"]),
    })  # fmt: skip


def _mixed() -> pd.DataFrame:
    day = dt.date(2024, 1, 1)
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    cells = [1, True, 1.0, "1", None, np.nan, pd.NaT, pd.NA, b"1", decimal.Decimal(1), day, moment,
             (1, 2), frozenset({1})]  # fmt: skip
    return pd.DataFrame({"any": pd.Series(cells * 50, dtype=object)})


def _missing_texts() -> pd.DataFrame:
    """Return texts with several kinds of missing values."""
    return pd.DataFrame({
        "none": pd.Series(["a", None] * 500, dtype=object),
        "nan": pd.Series(["a", np.nan] * 500, dtype=object),
        "both": pd.Series(["a", np.nan, None, "b"] * 250, dtype=object),
    })  # fmt: skip


def _moments() -> pd.DataFrame:
    plain = pd.date_range("2024-03-30", periods=200, freq="h")
    return pd.DataFrame({
        "plain": plain,
        "utc": plain.tz_localize("UTC"),
        "zone": plain.tz_localize("UTC").tz_convert("Europe/Berlin"),
        "gaps": plain.where(plain.hour > 0),
        "spans": plain - plain[0],
        "period": plain.to_period("D"),
        "by name": pd.Categorical(plain.tz_localize("UTC").floor("D")),
    }, index=plain.tz_localize("Asia/Kolkata"))  # fmt: skip


def _floats() -> pd.DataFrame:
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7976931348623157e308, 2.0**53, 0.1]
    return pd.DataFrame({"odd": odd * 200, "zeros": [0.0, -0.0] * 900, "halves": [0.5, -1.5] * 900})


def _integers() -> pd.DataFrame:
    return pd.DataFrame({
        "edges": [-(2**63), 2**63 - 1] * 500,
        "unsigned": np.array([0, 2**64 - 1] * 500, dtype="uint64"),
        "beyond": pd.Series([2**70, -(2**70)] * 500, dtype=object),
        "int8": [-128, 127] * 500,
        "masked": pd.Series([1, None] * 500, dtype="Int64"),
        "truth": pd.Series([True, None] * 500, dtype="boolean"),
    })  # fmt: skip


def _texts() -> pd.DataFrame:
    odd = ["", " ", "a\0b", "a\0c", "é", "e\u0301", "𝄞", "007", "7", "NaN", "None", "Yes", "no",
           "1", "0", "2024-01-02", "\ufeffa", "a\n"]  # fmt: skip
    return pd.DataFrame({
        "text": odd * 100,
        "objects": pd.Series(odd * 100, dtype=object),
        "nullable": pd.Series(odd * 100, dtype="string"),
    })  # fmt: skip


def _categories() -> pd.DataFrame:
    ordered = pd.CategoricalDtype(["small", "large", "none has it"], ordered=True)
    return pd.DataFrame({
        "ordered": pd.Series(["large", "small"] * 300).astype(ordered),
        "gaps": pd.Categorical(["a", None] * 300, categories=["a", "b"]),
        "numbers": pd.Categorical([1, 2] * 300),
        "intervals": pd.cut(pd.Series(range(600)), 4),
    })  # fmt: skip


def _arrow() -> pd.DataFrame:
    frame = _numbers(100).convert_dtypes(dtype_backend="pyarrow")
    return frame.assign(lists=frame["a"].map(lambda number: [number]))


def _nested() -> pd.DataFrame:
    return pd.DataFrame({
        "dicts": [{"a": [1, None]}, {"b": {"c": 1}}] * 50,
        "arrays": [np.arange(3), np.arange(2)] * 50,
        "frames": [_numbers(2)] * 100,
    })  # fmt: skip


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "two columns of one name": _duplicates,
    "lists in cells": lambda: pd.DataFrame({"a": [[1], [1, 2]] * 50, "b": [["x"], None] * 50}),
    "no rows and no columns": pd.DataFrame,
    "no rows": lambda: _numbers(10).iloc[:0],
    "no columns": lambda: pd.DataFrame(index=range(10)),
    "0 × 98,711": lambda: pd.DataFrame(columns=[str(number) for number in range(98_711)]),
    "MultiIndex of rows and columns": _labelled,
    "sparse": _sparse,
    "nested": _nested,
    "1 row": lambda: _numbers(10).iloc[:1],
    "all empty": _empty_cells,
    "cells of every kind": _mixed,
    "several kinds of missing texts": _missing_texts,
    "moments and time zones": _moments,
    "floats at their edges": _floats,
    "integers at their edges": _integers,
    "odd texts": _texts,
    "categories": _categories,
    "Arrow's types": _arrow,
    "numbers as names": lambda: _numbers(100).set_axis([0, 1.5, None], axis=1),
    "complex": lambda: pd.DataFrame({"c": [1 + 2j, -1j] * 50}),
    "a view of another": lambda: _numbers(1000).iloc[::3],
}  # fmt: skip


def measure() -> dict[str, Any]:
    """Return the error of each level on each frame, empty if there is none."""
    errors = {
        name: {level: _error(build(), level) for level in LEVELS} for name, build in FRAMES.items()
    }
    return {"frames": errors}


def _error(frame: pd.DataFrame, level: Any) -> str:
    original = frame.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            optimized = optimize_dataframe(frame, level=level)
            plan: Any = plan_dataframe(frame, level)
            applied = plan.apply(frame)
            plan.report()
            unpack = getattr(plan, "unpack", lambda smaller: smaller)
            verdicts = [
                compare(original, unpack(optimized)),
                compare(original, unpack(applied)),
                compare(original, frame),
            ]
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "" if all(verdict.exact for verdict in verdicts) else f"differs: {verdicts}"
