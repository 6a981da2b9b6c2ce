"""Dtypes that a column becomes at each level, and reasons where it is unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.frames import FrameError, optimize_dataframe, plan_dataframe, size_of
from flask_knitperf.frames.dtype_selection import OLD_PANDAS

from .samples import LEVEL_NAMES, NAN, TEXT, distinct_texts


def planned_dtype(values: Any, level: str = "compact", **more: Any) -> str:
    """Return the planned dtype of a column with these values."""
    frame = pd.DataFrame({"a": values})
    return plan_dataframe(frame, level, **more).columns[0].to  # type: ignore[arg-type]


def reason(values: Any, level: str = "compact", **more: Any) -> str:
    """Return the reason for it."""
    [column] = plan_dataframe(pd.DataFrame({"a": values}), level, **more).columns  # type: ignore[arg-type]
    return column.reason


@pytest.mark.parametrize(
    ("values", "safe", "balanced", "compact"),
    [
        ([0, 127], "int32", "int32", "int8"), ([0, 128], "int32", "int32", "int16"),
        ([-128, 0], "int32", "int32", "int8"), ([-129, 0], "int32", "int32", "int16"),
        ([0, 32_768], "int32", "int32", "int32"), ([0, 46_340], "int32", "int32", "int32"),
        ([0, 46_341], "int64", "int32", "int32"), ([0, 2**30], "int64", "int32", "int32"),
        ([0, 2**30 + 1], "int64", "int64", "int32"), ([0, 2**31], "int64", "int64", "int64"),
        ([-(2**31), 0], "int64", "int64", "int32"),
    ],
)  # fmt: skip
def test_integers_become_as_narrow_as_the_level_allows(
    values: list[int], safe: str, balanced: str, compact: str
) -> None:
    levels = ("safe", "balanced", "compact")
    assert [planned_dtype(values, level) for level in levels] == [safe, balanced, compact]


def test_integers_never_become_unsigned_and_unsigned_ones_are_unchanged() -> None:
    assert planned_dtype([0, 255]) == "int16"
    assert planned_dtype(np.array([0, 1], dtype="uint64")) == "uint64"
    assert "wrap" in reason(np.array([0, 1], dtype="uint64"))


def test_masked_numbers_keep_their_mask() -> None:
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None, 100], dtype="Int64"),
            "b": pd.array([0.5, None, 1], dtype="Float64"),
        }
    )
    smaller = optimize_dataframe(frame, level="compact")
    assert list(map(str, smaller.dtypes)) == ["Int8", "Float32"]
    assert smaller["a"].isna().tolist() == [False, True, False] and smaller["a"].sum() == 101


def test_float64_becomes_float32_only_where_every_value_is_exact() -> None:
    assert planned_dtype([0.5, 0.25, float("nan"), float("inf")]) == "float32"
    assert planned_dtype([19.99, 1.0]) == "float64" and planned_dtype([1e39, 1.0]) == "float64"
    assert planned_dtype([0.5] * 5000 + [0.1]) == "float64"  # no sample decides
    assert planned_dtype([0.5], "balanced") == "float64"


def test_a_tolerance_is_opt_in_and_its_error_is_reported() -> None:
    frame = pd.DataFrame({"a": [19.99, 0.1, 1e6]})
    plan = plan_dataframe(frame, float_tolerance=1e-6)
    [column] = plan.columns
    assert column.to == "float32" and "relative error" in column.risks[0]
    plan.verify(frame, plan.apply(frame))
    with pytest.raises(FrameError, match="relative error of values up to"):
        plan_dataframe(frame).verify(frame, plan.apply(frame))
    assert planned_dtype([1e39, 1.0], float_tolerance=1e-3) == "float64"
    assert planned_dtype([19.99], float_tolerance=1e-12) == "float64"
    assert planned_dtype([0.0, 1e-60], float_tolerance=1e-3) == "float64"


def test_repetitive_text_becomes_sorted_categories() -> None:
    smaller = optimize_dataframe(pd.DataFrame({"a": ["b", "c", "a"] * 30}))
    assert smaller["a"].cat.categories.tolist() == ["a", "b", "c"] and not smaller["a"].cat.ordered
    assert smaller["a"].sort_values().tolist()[:1] == ["a"]


def test_text_with_few_repeats_becomes_categories_at_compact_only() -> None:
    values = distinct_texts(1000, 600)
    dtypes = [planned_dtype(values, level) for level in ("safe", "balanced", "compact")]
    assert dtypes[0] == dtypes[1] != "category" == dtypes[2]


def test_text_that_repeats_after_many_rows_is_recognised_as_repetitive() -> None:
    assert planned_dtype(distinct_texts(40_000, 13_000)) == "category"
    assert "nearly every value is distinct" in reason(distinct_texts(40_000, 39_000))
    empty = pd.Series([np.nan] * 40_000, dtype=object if OLD_PANDAS else "str")
    assert reason(empty) == "it is empty"


def test_text_that_identifies_rows_is_unchanged() -> None:
    values = distinct_texts(50, 50)
    assert planned_dtype(values) != "category" and "identifies its rows" in reason(values)
    assert "nearly every value is distinct" in reason(distinct_texts(5000, 4990))
    assert reason(TEXT, keep=["a"]) == "listed in keep"


@pytest.mark.parametrize(("values", "expected"), [
    ([None, None], "it is empty"), ([np.nan, np.nan], "float32 preserves every value"),
    ([True, False], "one byte"), (pd.Series(["a", None] * 9, dtype=object), "None"),
    (pd.array([1, 0], dtype="Sparse[int]"), "sparse"), ([complex(1, 2)], "no smaller type"),
    (pd.Series([1, "a"], dtype=object), "objects (mixed-integer)"), ([1.5, "a"], "objects"),
    (np.array([1], dtype="int8"), "narrow enough"), (np.array([1], dtype="float32"), "narrow enough"),
    (pd.Series(["a", None] * 9, dtype="string"), "it contains <NA>"),
    (optimize_dataframe(pd.DataFrame({"a": TEXT}))["a"], "it is categorical already"),
])  # fmt: skip
def test_an_unchanged_column_has_a_reason(values: Any, expected: str) -> None:
    assert expected in reason(values)


def test_unused_categories_are_dropped_with_the_hash_table() -> None:
    whole = pd.DataFrame({"a": pd.Categorical(distinct_texts(2000, 500))})
    part = whole.iloc[:10].reset_index(drop=True)
    smaller = optimize_dataframe(part)
    assert len(smaller["a"].cat.categories) == 10 and len(part["a"].cat.categories) == 500
    looked = whole.copy()
    assert (looked["a"] == "value number 000001").sum() == 4
    assert size_of(looked["a"]).true > size_of(optimize_dataframe(looked)["a"]).true
    assert "hash table" in plan_dataframe(looked).columns[0].reason


def test_safe_keeps_unused_categories() -> None:
    whole = pd.DataFrame({"a": pd.Categorical(distinct_texts(2000, 500), ordered=True)})
    part = whole.iloc[:10].copy()
    assert (part["a"] == "value number 000400").sum() == 0  # a lookup builds a hash table
    plan = plan_dataframe(part, "safe")
    smaller = plan.apply(part)
    assert plan.columns[0].risks == () and "hash table" in plan.columns[0].reason
    assert smaller["a"].dtype == part["a"].dtype and smaller["a"].cat.ordered
    assert smaller["a"].value_counts().to_dict() == part["a"].value_counts().to_dict()
    assert pd.concat([smaller, whole])["a"].dtype == whole["a"].dtype
    smaller.loc[0, "a"] = "value number 000400"
    assert (smaller["a"] == part["a"]).sum() == 9


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_cells_of_every_column_can_be_assigned(level: Any) -> None:
    frame = pd.DataFrame({
        "a": pd.Categorical(["a", "b", "a"] * 90, ["a", "b", "z"]), "b": TEXT[:3] * 90,
        "c": pd.array([1, None, 3] * 90, dtype="Int64"), "d": [1, 2, 3] * 90, "e": [0.5, 1.5, 2.5] * 90,
        "f": pd.array([0.5, None, 3] * 90, dtype="Float64"), "g": [19.99, 5.5, NAN] * 90,
        "h": pd.date_range("2025-01-31", periods=270).strftime("%Y-%m-%d"),
    })  # fmt: skip
    assert (frame["a"] == "b").sum() == 90  # a lookup builds a hash table
    plan = plan_dataframe(frame, level)
    for smaller in (plan.apply(frame), plan.unpack(plan.apply(frame))):
        for name in frame:
            smaller.loc[1, name] = smaller.loc[0, name]
            assert smaller[name].iloc[1] == smaller[name].iloc[0]


def test_new_categories_have_no_hash_table() -> None:
    smaller = optimize_dataframe(pd.DataFrame({"a": distinct_texts(2000, 500)}))
    assert (
        "_engine" not in smaller["a"].cat.categories._cache
        or not smaller["a"].cat.categories._engine.is_mapping_populated
    )
