"""The benchmark's comparison of frames detects every difference, independently of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.frames.bound import column_bound
from benchmarks.frames.comparison import Verdict, compare, misread
from benchmarks.frames.sizes import own_bytes, true_bytes
from flask_knitperf.frames import optimize_dataframe

ZONES = pd.date_range("2024-03-30", periods=2, tz="UTC")


def objects(*cells: Any) -> pd.Series[Any]:
    return pd.Series(cells, dtype=object)


@pytest.mark.parametrize(("was", "now", "attribute"), [
    ([1, 2], [1, 3], "cells"), ([0.0, 1.0], [-0.0, 1.0], "cells"), ([1.5, np.nan], [1.5, 0.0], "cells"),
    ([2.0000000001, 1.0], [2, 1], "cells"), ([2**53 + 1, 1], [2.0**53, 1.0], "cells"),
    (objects("1", "2"), objects(1, 2), "cells"), (objects(1, 0), objects(True, False), "cells"),
    (objects("a\0b", "c"), objects("a\0c", "c"), "cells"),
    (objects([1], [2]), objects([1], [3]), "cells"),
    (objects("a", None), objects("a", np.nan), "empty"),
    (objects("a", pd.NaT), objects("a", pd.NA), "empty"),
    (objects("a", None), pd.Categorical(["a", None]), "empty"),
    ([1, 2], [1.0, 2.0], "kinds"), ([1, 2], pd.array([1, 2], dtype="Int64"), "kinds"),
    (ZONES, ZONES.tz_convert("Europe/Berlin"), "kinds"), (ZONES, ZONES.tz_localize(None), "kinds"),
    (ZONES, ZONES + pd.Timedelta("1s"), "cells"),
    (pd.Categorical(["a", "b"]), objects("a", "b"), "kinds"),
    (pd.Categorical(["a", "b"], ordered=True), pd.Categorical(["a", "b"]), "kinds"),
    (pd.Categorical(["a", "b"], ["b", "a"], ordered=True),
     pd.Categorical(["a", "b"], ["a", "b"], ordered=True), "kinds"),
])  # fmt: skip
def test_a_difference_is_detected(was: Any, now: Any, attribute: str) -> None:
    verdict = compare(pd.DataFrame({"a": was}), pd.DataFrame({"a": now}))
    assert getattr(verdict, attribute) > 0 and not verdict.exact


@pytest.mark.parametrize("change", [
    lambda df: df.iloc[::-1], lambda df: df.iloc[:1], lambda df: df.reset_index(drop=True),
])  # fmt: skip
def test_other_rows_are_detected(change: Any) -> None:
    frame = pd.DataFrame({"a": [1, 1]}, index=["x", "y"])
    assert compare(frame, change(frame)).rows > 0


@pytest.mark.parametrize("change", [
    lambda df: df[["b", "a"]], lambda df: df[["a"]], lambda df: df.set_axis(["a", "c"], axis=1),
])  # fmt: skip
def test_other_columns_are_detected(change: Any) -> None:
    frame = pd.DataFrame({"a": [1, 1], "b": [1, 1]})
    assert compare(frame, change(frame)).kinds > 0


def test_a_number_that_decodes_to_another_is_detected_in_any_dtype() -> None:
    frame = pd.DataFrame({"a": [0.0, 0.1, np.nan]})
    cells = pd.arrays.SparseArray([0.0, 0.1, np.nan], fill_value=0.0)
    assert misread(frame, pd.DataFrame({"a": cells})) == 0
    assert misread(frame, pd.DataFrame({"a": cells + 1.0})) == 2


def test_fewer_bytes_are_not_a_difference() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": ["x", "x"]})
    other = frame.astype({"a": "int8", "b": "float32", "c": "category"})
    assert compare(frame, other) == Verdict()


def test_a_tolerance_allows_a_relative_error_of_floats() -> None:
    was, now = pd.DataFrame({"a": [100.0]}), pd.DataFrame({"a": [100.00001]})
    assert compare(was, now, 1e-6).exact and not compare(was, now, 1e-8).exact


def test_an_object_and_a_buffer_are_counted_once() -> None:
    text = "a text of some length"
    frame = pd.DataFrame({"a": objects(*[text] * 100), "b": objects(*[text] * 100)})
    assert true_bytes(frame) == 2 * 800 + text.__sizeof__()
    assert own_bytes(frame, frame) == 0


def test_the_bound_is_at_most_the_actual_size() -> None:
    frame = pd.DataFrame(
        {"a": range(300), "b": [0.5] * 300, "c": [f"row {n % 7}" for n in range(300)]}
    )
    smaller = optimize_dataframe(frame, level="compact")
    for name in frame:
        assert column_bound(frame[name]).bytes <= true_bytes(smaller[[name]])
    assert column_bound(frame["a"]).bytes == 600 and column_bound(frame["b"]).bytes == 1200
