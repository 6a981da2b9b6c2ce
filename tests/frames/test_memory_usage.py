"""Bytes of a column, with each object counted once and as pandas counts."""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
import pytest

from flask_knitperf.frames import size_of


def test_an_object_is_counted_once_and_by_pandas_once_per_reference() -> None:
    shared = pd.Series(["a text of some length"] * 1000, dtype=object)
    size = size_of(shared)
    assert size.true == 8000 + sys.getsizeof("a text of some length")
    assert size.deep == shared.memory_usage(index=False, deep=True)
    apart = pd.Series([f"a text of some length {n}" for n in range(1000)], dtype=object)
    assert size_of(apart).true == size_of(apart).deep == apart.memory_usage(index=False, deep=True)
    some = pd.Series([*apart[:600], *apart[:400]], dtype=object)
    assert size_of(some).true == size_of(apart[:600]).true + 400 * 8
    assert size_of(pd.Series([], dtype=object)) == (0, 0)


@pytest.mark.parametrize("values", [
    [1, 2], [0.5, None], [True], ["a", None], pd.Categorical(["a", "b", "a"]),
    pd.array([1, None], dtype="Int64"), pd.date_range("2025", periods=3),
    pd.array([0, 0, 1], dtype="Sparse[int]"),
], ids=str)  # fmt: skip
def test_deep_bytes_equal_those_of_pandas(values: Any) -> None:
    series = pd.Series(values)
    assert size_of(series).deep == series.memory_usage(index=False, deep=True)
