"""The level ``safe`` behaves as before; at the others, the risks name what behaves differently."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from flask_knitperf.frames import optimize_dataframe, plan_dataframe

from .samples import distinct_texts, mill

OPERATIONS = {
    "add": lambda df: df["pounds"] + df["rolls"],
    "add a number": lambda df: df["pounds"] + 2_000_000,
    "multiply": lambda df: df["pounds"] * df["pounds"],
    "sum": lambda df: df[["pounds", "rolls", "price"]].sum(),
    "concatenate": lambda df: pd.concat([df, mill()], ignore_index=True),
    "append text": lambda df: df["style"] + " A",
    "fillna": lambda df: df["note"].fillna("none"),
    "groupby": lambda df: df.groupby("style")[["pounds", "rolls"]].sum(),
    "groupby of a selection": lambda df: df[df["rolls"] > 2].groupby("style").size(),
    "merge": lambda df: df.merge(mill(), on="pounds"),
    "merge by text": lambda df: df.merge(
        pd.DataFrame({"style": ["yarn 1"], "grade": [1]}), on="style"
    ),
    "sort": lambda df: df.sort_values(["style", "pounds"]),
    "max": lambda df: df[["style", "pounds"]].max(),
    "compare": lambda df: df[df["style"] < "yarn 2"],
    "mean": lambda df: df[["pounds", "price"]].mean(),
    "cumsum": lambda df: df["pounds"].cumsum(),
    "assign": lambda df: df.assign(style="x", pounds=df["pounds"] - 1),
    "to_json": lambda df: df.to_json(),
    "to_csv": lambda df: df.to_csv(),
    "describe": lambda df: df.describe(),
    "subtract": lambda df: df["rolls"] - df["pounds"],
    "add a large number": lambda df: df["pounds"] + 2_000_000_000,
    "cumsum by group": lambda df: df.groupby("style")["pounds"].cumsum(),
    "pivot": lambda df: df.pivot_table(
        index="style", columns="rolls", values="pounds", aggfunc="sum"
    ),
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(
            one, other, check_dtype=False, check_index_type=False, check_column_type=False
        )
        return True
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_dtype=False, check_index_type=False)
        return True
    return bool(one == other)


@pytest.mark.parametrize("name", OPERATIONS)
def test_safe_behaves_as_before(name: str) -> None:
    frame = mill()
    smaller = optimize_dataframe(frame, level="safe")
    assert str(smaller["pounds"].dtype) == "int32"
    assert same(OPERATIONS[name](frame), OPERATIONS[name](smaller))


@pytest.mark.parametrize("level", ["balanced", "compact"])
def test_risks_name_what_behaves_differently(level: Any) -> None:
    plan = plan_dataframe(mill(), level)
    smaller = plan.apply(mill())
    risks = {str(column.name): " ".join(column.risks) for column in plan.columns}
    with pytest.raises(TypeError):
        smaller["style"] + "x"
    assert "raises" in risks["style"]
    with pytest.raises(TypeError):
        smaller["style"].max()
    assert "no maximum" in risks["style"]
    with pytest.raises(TypeError):
        smaller["note"].fillna("new")
    assert "assigned or filled in" in risks["note"]
    wrapped = smaller["pounds"] * smaller["pounds"] * 10 != mill()["pounds"] ** 2 * 10
    assert not wrapped.any() or "products may wrap" in risks["pounds"]


def test_risks_name_what_may_wrap() -> None:
    [column] = plan_dataframe(pd.DataFrame({"a": [100]}), "compact").columns
    assert column.risks[:2] == (
        "sums of two columns may wrap beyond 127", "products may wrap beyond 127",
    )  # fmt: skip
    [column] = plan_dataframe(pd.DataFrame({"a": [50_000]}), "balanced").columns
    assert column.risks[0].startswith("products may wrap beyond 2,147,483,647")


def test_risks_name_what_may_wrap_even_at_safe() -> None:
    frame = pd.DataFrame({"a": [46_340, 46_340], "b": [-46_340, 46_340]})
    plan = plan_dataframe(frame, "safe")
    smaller = plan.apply(frame)
    assert same(frame["a"] * frame["b"], smaller["a"] * smaller["b"])
    for wraps in (
        lambda df: df["a"] * 100_000,
        lambda df: df["a"] ** 3,
        lambda df: df["a"] * df["b"] + df["a"] * df["b"],
        lambda df: pd.Series([df["a"].dot(df["a"])] * 2),
    ):
        assert (wraps(frame) != wraps(smaller)).any()
    for column in plan.columns:
        wrapping, assigned = column.risks
        assert wrapping.startswith(
            "products of more than two such numbers, with larger ones, and dot "
        )
        assert wrapping.endswith("products may wrap beyond 2,147,483,647")
        assert assigned == "a number beyond 2,147,483,647 cannot be assigned"


@pytest.mark.parametrize("level", ["balanced", "compact", "pack"])
def test_risks_name_what_changes_without_unused_categories(level: Any) -> None:
    whole = pd.DataFrame({"a": pd.Categorical(distinct_texts(2000, 500))})
    plan = plan_dataframe(whole.iloc[:10], level)
    smaller, risks = plan.apply(whole.iloc[:10]), " ".join(plan.columns[0].risks)
    assert len(smaller["a"].value_counts()) == 10 and "`value_counts` and groupby" in risks
    assert str(pd.concat([smaller, whole])["a"].dtype) != "category" and "becomes text" in risks
    with pytest.raises(TypeError):
        smaller.loc[0, "a"] = "value number 000400"
    assert "cannot be assigned" in risks
    with pytest.raises(TypeError):
        _ = smaller["a"] == whole["a"].iloc[:10]
    assert "cannot be compared" in risks
