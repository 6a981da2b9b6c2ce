"""Every difference between a frame and its converted form is detected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.frames import optimize_dataframe
from flask_knitperf.frames.verify import differences

from .samples import TEXT


@pytest.mark.parametrize(("change", "expected"), [
    (lambda df: df.assign(a=[1, 3]), "1 cell differs"),
    (lambda df: df.iloc[:1], "(1, 3) rows and columns"),
    (lambda df: df.rename(columns={"a": "z"}), "column labels differ"),
    (lambda df: df.set_axis([5, 6]), "row labels differ"),
    (lambda df: df.assign(a=[1.0, 2.0]), "became float64"),
    (lambda df: df.assign(b=["x", None]), "other cells are missing"),
    (lambda df: df.assign(b=pd.Categorical(["x", "x"])), "1 cell differs"),
    (lambda df: df.assign(c=[0.5, 0.1]), "relative error of values up to"),
    (lambda df: df.assign(b=pd.Categorical([None, None], categories=[])), "other cells are missing"),
])  # fmt: skip
def test_a_difference_is_described(change: Any, expected: str) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 0.25]})
    sentences = differences(frame, change(frame))
    assert len(sentences) == 1 and expected in sentences[0]


@pytest.mark.parametrize("place", [0, 70_000, 99_999])
def test_a_difference_is_found_anywhere_in_a_long_column(place: int) -> None:
    frame = pd.DataFrame({"a": TEXT * 1000, "b": [0.5] * 100_000})
    other, smaller = frame.copy(), optimize_dataframe(frame, level="compact")
    other.loc[place, "a"], other.loc[place, "b"] = "yarn 9", 0.1
    sentences = differences(other, smaller)
    assert (
        len(sentences) == 2
        and "1 cell differs" in sentences[0]
        and "relative error" in sentences[1]
    )


@pytest.mark.parametrize(("change", "expected"), [
    (lambda values: values.cat.as_unordered(), "lost their order"),
    (lambda values: values.astype(object), "lost their order"),
    (lambda values: values.cat.reorder_categories(["c", "b", "a"]), "in another order"),
    (lambda values: values.cat.set_categories(["b", "a"]), "in another order"),
    (lambda values: values.cat.set_categories(["a", "b"]), ""),
])  # fmt: skip
def test_another_order_of_categories_is_a_difference(change: Any, expected: str) -> None:
    frame = pd.DataFrame({"a": pd.Categorical(["b", "a"] * 9, ["a", "b", "c"], ordered=True)})
    sentences = differences(frame, frame.assign(a=change(frame["a"])))
    assert expected in "".join(sentences) and bool(sentences) == bool(expected)
    plain = frame.assign(a=frame["a"].cat.as_unordered())
    assert "ordered" in differences(plain, frame)[0]
    assert differences(plain, plain.assign(a=plain["a"].cat.set_categories(["b", "a"]))) == []


@pytest.mark.parametrize(("signed", "unsigned"), [("int64", "uint8"), ("Int64", "UInt8")])
def test_unsigned_numbers_differ_from_signed_ones(signed: Any, unsigned: Any) -> None:
    frame = pd.DataFrame({"a": pd.array([1, 2], dtype=signed)})
    assert differences(frame, frame.astype(unsigned)) == [
        f"column 0 ('a'): {signed} became {unsigned}"
    ]


def test_one_differs_from_true() -> None:
    before = pd.DataFrame({"a": pd.Series([1, True, 1], dtype=object)})
    assert differences(before, pd.DataFrame({"a": pd.Categorical([1, 1, 1])})) != []
    arrays = pd.DataFrame({"a": pd.Series([np.array([1, 2])], dtype=object)})
    assert (
        differences(arrays, pd.DataFrame({"a": pd.Series([np.array([1, 2])], dtype=object)})) != []
    )
