"""Frames in fewer bytes: no value, kind, label or row is ever another, and the given frame stays."""

from __future__ import annotations

import subprocess
import sys
import warnings
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_knitperf import KnitPerf
from flask_knitperf.frames import (
    FrameError,
    Plan,
    PlanNotice,
    optimize_dataframe,
    plan_dataframe,
    size_of,
)
from flask_knitperf.frames.dtype_selection import LEVELS
from flask_knitperf.frames.verify import differences

OLD_PANDAS = int(pd.__version__.partition(".")[0]) < 3
ALL = list(LEVELS)
NAN = float("nan")
TEXT = [f"yarn {n % 4}" for n in range(100)]


def to(values: Any, level: str = "compact", **more: Any) -> str:
    """Return what a column of these values becomes."""
    frame = pd.DataFrame({"a": values})
    return plan_dataframe(frame, level, **more).columns[0].to  # type: ignore[arg-type]


def why(values: Any, level: str = "compact", **more: Any) -> str:
    """Return why."""
    [column] = plan_dataframe(pd.DataFrame({"a": values}), level, **more).columns  # type: ignore[arg-type]
    return column.reason


def texts(count: int, of: int) -> list[str]:
    return [f"value number {n % of:06d}" for n in range(count)]


# -- values ------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8),
    st.lists(st.integers(-200, 200), min_size=8, max_size=8),
    st.lists(st.floats(), min_size=8, max_size=8),
    st.lists(
        st.sampled_from([0.5, -0.0, 0.0, float("nan"), 1e39, 19.99, float("inf")]),
        min_size=8,
        max_size=8,
    ),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just("same"),
    st.lists(st.integers(), max_size=2), st.just(date(2025, 1, 1)), st.just(Decimal("1.10")),
    st.just(b"x"),
)  # fmt: skip
anything = st.one_of(
    numbers,
    st.lists(st.sampled_from(["a", "b", "007", "ü"]), min_size=8, max_size=8),
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "b"])), min_size=8, max_size=8),
    st.lists(cells, min_size=8, max_size=8).map(lambda each: pd.Series(each, dtype=object)),
    st.lists(st.sampled_from(["a", "b"]), min_size=8, max_size=8).map(pd.Categorical),
    st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=8, max_size=8).map(
        lambda each: pd.array(each, dtype="Int64")
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(anything, max_size=5), st.sampled_from(ALL))
def test_every_cell_stays_what_it_was(columns: list[Any], level: Any) -> None:
    frame = pd.DataFrame(dict(enumerate(columns)))
    before = frame.copy(deep=True)
    plan = plan_dataframe(frame, level)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = plan.apply(frame)
    plan.verify(frame, made)
    plan.verify(before, made)
    assert differences(before, frame) == []
    again = optimize_dataframe(frame, level=level)
    assert list(map(str, again.dtypes)) == [column.to for column in plan.columns]
    assert plan.after.true <= plan.before.true


def cell(value: Any) -> Any:
    """Return a cell so that what is another prints as another."""
    return type(value).__name__, repr(value)


@pytest.mark.parametrize("level", ALL)
@pytest.mark.parametrize(
    "values",
    [
        [1, True, 1.0, "1"] * 5, ["a", None] * 50, ["a", np.nan, None] * 40, [None] * 9,
        [[1], [2]] * 9, [{"a": 1}] * 9, ["007", "7"] * 20, ["Yes", "no"] * 20, ["1", "0"] * 20,
        ["20250101"] * 20, [date(2025, 1, 1)] * 9, [Decimal("1.10")] * 9, [b"a", b"b"] * 9,
        ["", " "] * 9, [True, None] * 9, [2**70, 1] * 9, ["a\x00", "a"] * 9, [pd.NaT, "a"] * 9,
        [np.str_("a"), "a"] * 9, ["\ud800", "a"] * 50, [float("nan"), "a", pd.NA] * 9,
    ],
)  # fmt: skip
def test_cells_that_other_tools_change_stay(values: list[Any], level: Any) -> None:
    frame = pd.DataFrame({"a": pd.Series(values, dtype=object)})
    made = optimize_dataframe(frame, level=level)
    assert list(map(cell, made["a"])) == list(map(cell, frame["a"]))


@pytest.mark.parametrize("level", ALL)
@pytest.mark.parametrize("dtype", ["string[python]", "string[pyarrow]", "str"])
@pytest.mark.parametrize("cells", [
    ["yarn 1", None, "yarn 2"] * 50, [*map(str, pd.date_range("2024-01-01", periods=300).date), None],
])  # fmt: skip
def test_text_with_empty_cells_is_right_whatever_holds_it(
    cells: list[Any], dtype: str, level: Any
) -> None:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": pd.array(cells, dtype=dtype)})
    plan = plan_dataframe(frame, level)
    made = plan.apply(frame)
    plan.verify(frame, made)
    back = plan.unpack(made)
    assert back["a"].dtype == frame["a"].dtype and differences(frame, back) == []
    assert optimize_dataframe(frame, level=level)["a"].dtype == made["a"].dtype


@pytest.mark.parametrize("level", ALL)
def test_two_point_and_a_little_is_not_two(level: Any) -> None:
    frame = pd.DataFrame({"a": [2.0000000001, 1.0], "b": [70000.5, 3.0], "c": [2.0**1000, 1.0]})
    made = optimize_dataframe(frame, level=level)
    assert made.to_dict("list") == frame.to_dict("list")


@pytest.mark.parametrize("level", ALL)
def test_moments_and_zones_stay(level: Any) -> None:
    moment = datetime(2025, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
    frame = pd.DataFrame({
        "a": [moment, None],
        "b": pd.to_datetime(["2025-01-01", "2025-06-01"]).tz_localize("Europe/Berlin"),
        "c": pd.to_timedelta([1, 2], unit="s"), "d": pd.period_range("2025", periods=2),
    })  # fmt: skip
    made = optimize_dataframe(frame, level=level)
    assert list(made.dtypes) == list(frame.dtypes) and differences(frame, made) == []


# -- what becomes what -------------------------------------------------------------------------------


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
def test_integers_get_as_narrow_as_the_level_lets_them(
    values: list[int], safe: str, balanced: str, compact: str
) -> None:
    levels = ("safe", "balanced", "compact")
    assert [to(values, level) for level in levels] == [safe, balanced, compact]


def test_integers_are_never_unsigned_and_unsigned_ones_stay() -> None:
    assert to([0, 255]) == "int16"
    assert to(np.array([0, 1], dtype="uint64")) == "uint64"
    assert "wrap" in why(np.array([0, 1], dtype="uint64"))


def test_masked_numbers_keep_their_mask() -> None:
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None, 100], dtype="Int64"),
            "b": pd.array([0.5, None, 1], dtype="Float64"),
        }
    )
    made = optimize_dataframe(frame, level="compact")
    assert list(map(str, made.dtypes)) == ["Int8", "Float32"]
    assert made["a"].isna().tolist() == [False, True, False] and made["a"].sum() == 101


def test_doubles_get_single_only_where_each_is_kept() -> None:
    assert to([0.5, 0.25, float("nan"), float("inf")]) == "float32"
    assert to([19.99, 1.0]) == "float64" and to([1e39, 1.0]) == "float64"
    assert to([0.5] * 5000 + [0.1]) == "float64"  # no sample decides
    assert to([0.5], "balanced") == "float64"


def test_a_tolerance_is_asked_for_and_its_error_is_told() -> None:
    frame = pd.DataFrame({"a": [19.99, 0.1, 1e6]})
    plan = plan_dataframe(frame, float_tolerance=1e-6)
    [column] = plan.columns
    assert column.to == "float32" and "differ by up to" in column.risks[0]
    plan.verify(frame, plan.apply(frame))
    with pytest.raises(FrameError, match="values differ by up to"):
        plan_dataframe(frame).verify(frame, plan.apply(frame))
    assert to([1e39, 1.0], float_tolerance=1e-3) == "float64"
    assert to([19.99], float_tolerance=1e-12) == "float64"
    assert to([0.0, 1e-60], float_tolerance=1e-3) == "float64"


def test_repetitive_text_becomes_sorted_categories() -> None:
    made = optimize_dataframe(pd.DataFrame({"a": ["b", "c", "a"] * 30}))
    assert made["a"].cat.categories.tolist() == ["a", "b", "c"] and not made["a"].cat.ordered
    assert made["a"].sort_values().tolist()[:1] == ["a"]


def test_text_that_is_hardly_repeated_stays_until_bytes_alone_count() -> None:
    values = texts(1000, 600)
    assert to(values, "safe") == to(values, "balanced") != "category" == to(values, "compact")


def test_text_whose_values_come_again_late_is_seen_to_be_repeated() -> None:
    assert to(texts(40_000, 13_000)) == "category"
    assert "nearly every value differs" in why(texts(40_000, 39_000))
    empty = pd.Series([np.nan] * 40_000, dtype=object if OLD_PANDAS else "str")
    assert why(empty) == "nothing is in it"


def test_what_names_rows_stays() -> None:
    assert to(texts(50, 50)) != "category" and "names its rows" in why(texts(50, 50))
    assert "nearly every value differs" in why(texts(5000, 4990))
    assert why(TEXT, keep=["a"]) == "listed in keep"


@pytest.mark.parametrize("keep", ["Order", ["Order"], {"Order": 1}, iter(["Order"])])
def test_what_is_to_be_kept_may_be_one_label(keep: Any) -> None:
    frame = pd.DataFrame({"O": [1], "Order": [1], "r": [1]})
    assert optimize_dataframe(frame, level="compact", keep=keep).dtypes.tolist() == [
        "int8",
        "int64",
        "int8",
    ]


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("function", [plan_dataframe, optimize_dataframe])
def test_what_is_to_be_kept_must_be_a_column(function: Any, rows: int) -> None:
    frame = pd.DataFrame({"Order": [1, 2], 5: [1, 2]}).iloc[:rows]
    with pytest.raises(FrameError, match=r"keep contains labels that no column has: 'order', 6$"):
        function(frame, keep=["Order", "order", 5, 6])
    with pytest.raises(FrameError, match=r"no column has: 'Orders'$"):
        function(frame, keep="Orders")


@pytest.mark.parametrize(("values", "said"), [
    ([None, None], "nothing is in it"), ([np.nan, np.nan], "float32 keeps every value"),
    ([True, False], "one byte"), (pd.Series(["a", None] * 9, dtype=object), "None"),
    (pd.array([1, 0], dtype="Sparse[int]"), "sparse"), ([complex(1, 2)], "no smaller type"),
    (pd.Series([1, "a"], dtype=object), "objects (mixed-integer)"), ([1.5, "a"], "objects"),
    (np.array([1], dtype="int8"), "narrow enough"), (np.array([1], dtype="float32"), "narrow enough"),
    (pd.Series(["a", None] * 9, dtype="string"), "it holds <NA>"),
    (optimize_dataframe(pd.DataFrame({"a": TEXT}))["a"], "made of categories already"),
])  # fmt: skip
def test_what_is_left_alone_says_why(values: Any, said: str) -> None:
    assert said in why(values)


def test_categories_that_no_cell_has_are_dropped_with_the_hash_table() -> None:
    whole = pd.DataFrame({"a": pd.Categorical(texts(2000, 500))})
    part = whole.iloc[:10].reset_index(drop=True)
    made = optimize_dataframe(part)
    assert len(made["a"].cat.categories) == 10 and len(part["a"].cat.categories) == 500
    looked = whole.copy()
    assert (looked["a"] == "value number 000001").sum() == 4
    assert size_of(looked["a"]).true > size_of(optimize_dataframe(looked)["a"]).true
    assert "hash table" in plan_dataframe(looked).columns[0].reason


def test_what_is_safe_keeps_categories_that_no_cell_has() -> None:
    whole = pd.DataFrame({"a": pd.Categorical(texts(2000, 500), ordered=True)})
    part = whole.iloc[:10].copy()
    assert (part["a"] == "value number 000400").sum() == 0  # which leaves a hash table
    plan = plan_dataframe(part, "safe")
    made = plan.apply(part)
    assert plan.columns[0].risks == () and "hash table" in plan.columns[0].reason
    assert made["a"].dtype == part["a"].dtype and made["a"].cat.ordered
    assert made["a"].value_counts().to_dict() == part["a"].value_counts().to_dict()
    assert pd.concat([made, whole])["a"].dtype == whole["a"].dtype
    made.loc[0, "a"] = "value number 000400"
    assert (made["a"] == part["a"]).sum() == 9


@pytest.mark.parametrize("level", ["balanced", "compact", "pack"])
def test_what_behaves_in_another_way_without_categories_is_named(level: Any) -> None:
    whole = pd.DataFrame({"a": pd.Categorical(texts(2000, 500))})
    plan = plan_dataframe(whole.iloc[:10], level)
    made, risks = plan.apply(whole.iloc[:10]), " ".join(plan.columns[0].risks)
    assert len(made["a"].value_counts()) == 10 and "`value_counts` and grouping" in risks
    assert str(pd.concat([made, whole])["a"].dtype) != "category" and "becomes text" in risks
    with pytest.raises(TypeError):
        made.loc[0, "a"] = "value number 000400"
    assert "cannot be assigned" in risks
    with pytest.raises(TypeError):
        _ = made["a"] == whole["a"].iloc[:10]
    assert "cannot be compared" in risks


@pytest.mark.parametrize("level", ALL)
def test_cells_of_every_column_can_be_assigned(level: Any) -> None:
    frame = pd.DataFrame({
        "a": pd.Categorical(["a", "b", "a"] * 90, ["a", "b", "z"]), "b": TEXT[:3] * 90,
        "c": pd.array([1, None, 3] * 90, dtype="Int64"), "d": [1, 2, 3] * 90, "e": [0.5, 1.5, 2.5] * 90,
        "f": pd.array([0.5, None, 3] * 90, dtype="Float64"), "g": [19.99, 5.5, NAN] * 90,
        "h": pd.date_range("2025-01-31", periods=270).strftime("%Y-%m-%d"),
    })  # fmt: skip
    assert (frame["a"] == "b").sum() == 90  # which leaves a hash table
    plan = plan_dataframe(frame, level)
    for made in (plan.apply(frame), plan.unpack(plan.apply(frame))):
        for name in frame:
            made.loc[1, name] = made.loc[0, name]
            assert made[name].iloc[1] == made[name].iloc[0]


def test_made_categories_hold_no_hash_table() -> None:
    made = optimize_dataframe(pd.DataFrame({"a": texts(2000, 500)}))
    assert (
        "_engine" not in made["a"].cat.categories._cache
        or not made["a"].cat.categories._engine.is_mapping_populated
    )


# -- the frame ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ALL)
@pytest.mark.parametrize("frame", [
    pd.DataFrame(), pd.DataFrame({"a": []}), pd.DataFrame(index=[1, 2]), pd.DataFrame({"a": [1]}),
    pd.DataFrame([[1, "x", 2]] * 4, columns=["a", "a", "a"]),
    pd.DataFrame({("a", 1): [1, 2], ("b", None): ["x", "x"]}),
    pd.DataFrame({None: [1], np.nan: [2]}),
    pd.DataFrame({"a": [1, 2, 3]}, index=pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)])),
    pd.DataFrame({"a": [1, 1]}, index=["r", "r"]),
    pd.DataFrame({"a": [pd.DataFrame({"b": [1]}), pd.Series([1])]}),
    pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2025", periods=2, tz="UTC")),
    pd.DataFrame({"a": pd.cut(pd.Series(range(6)), 3)}),
    pd.DataFrame({"a": pd.Series([True, None], dtype="boolean")}),
    pd.DataFrame({"a": pd.Series([None] * 2, dtype="string")}),
    pd.DataFrame({"a": pd.Series(["yarn of wool", None] * 20, dtype="string")}),
    pd.DataFrame({"a": pd.Series(["y\0 1", "y\0 2"] * 60, dtype=pd.StringDtype("python"))}),
], ids=str)  # fmt: skip
def test_odd_frames_are_right(frame: pd.DataFrame, level: Any) -> None:
    frame.attrs["unit"] = "pounds"
    made = optimize_dataframe(frame, level=level)
    assert differences(frame, made) == [] and made.shape == frame.shape
    assert made.index.identical(frame.index) and made.columns.identical(frame.columns)
    assert made.attrs == {"unit": "pounds"}
    assert plan_dataframe(frame, level).ratio >= 1.0


@pytest.mark.parametrize("level", ALL)
def test_a_list_of_json_that_reads_as_very_many_columns_is_right(level: Any) -> None:
    frame = pd.DataFrame(columns=range(98_711))
    assert optimize_dataframe(frame, level=level).shape == (0, 98_711)


def test_equal_rows_stay() -> None:
    frame = pd.DataFrame({"order": ["S1"] * 40, "pounds": [5] * 40})
    assert len(optimize_dataframe(frame, level="compact")) == 40


@pytest.mark.parametrize("level", ALL)
def test_neither_frame_sees_a_change_of_the_other(level: Any) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [10**12, 1], "c": ["x", "y"], "d": [0.1, 0.2]})
    made = optimize_dataframe(frame, level=level)
    for place, value in enumerate([7, 7, "x", 0.5]):
        made.iloc[1, place] = value
    assert frame.iloc[1].tolist() == [2, 1, "y", 0.2]
    again = optimize_dataframe(frame, level=level)
    for place, value in enumerate([9, 9, "x", 0.75]):
        frame.iloc[0, place] = value
    assert again.iloc[0].tolist() == [1, 10**12, "x", 0.1]


@pytest.mark.parametrize("level", ALL)
@pytest.mark.parametrize("index", [
    pd.RangeIndex(2), pd.Index(["x", "y"]), pd.Index([5, 6]), pd.date_range("2025", periods=2),
    pd.MultiIndex.from_tuples([("x", 1), ("y", 2)]), pd.CategoricalIndex(["x", "x"]),
], ids=str)  # fmt: skip
def test_neither_frame_sees_names_that_the_other_s_labels_get(level: Any, index: Any) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "x"]}, index=index)
    frame.attrs["units"] = {"a": "pounds"}
    plan = plan_dataframe(frame, level)
    small = plan.apply(frame)
    for made in (small, plan.unpack(small), optimize_dataframe(frame, level=level)):
        assert made.index.identical(frame.index) and type(made.index) is type(frame.index)
        made.index.names, made.columns.name = [f"X{n}" for n in range(index.nlevels)], "Y"
        made.attrs["units"]["a"] = "tons"
    assert set(frame.index.names) == {None} and frame.columns.name is None
    assert frame.attrs == {"units": {"a": "pounds"}}


class Yarns(pd.DataFrame):
    """A frame of a class of its own."""

    _metadata = ["mill"]  # noqa: RUF012 (pandas asks for a list)

    @property
    def _constructor(self) -> type[Yarns]:
        return Yarns


@pytest.mark.parametrize("level", ALL)
def test_a_frame_keeps_its_class_and_its_flags(level: Any) -> None:
    frame = Yarns({"a": [1, 2], "b": ["x", "x"]})
    frame.mill = "north"
    frame.flags.allows_duplicate_labels = False
    plan = plan_dataframe(frame, level)
    small = plan.apply(frame)
    for made in (small, plan.unpack(small), optimize_dataframe(frame, level=level)):
        assert type(made) is Yarns and made.mill == "north"
        assert not made.flags.allows_duplicate_labels


def test_wrong_arguments_are_said_in_a_sentence() -> None:
    with pytest.raises(FrameError, match="no level 'tiny'; there are safe, balanced, compact"):
        plan_dataframe(pd.DataFrame(), "tiny")  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="a DataFrame is needed, not list"):
        plan_dataframe([1])  # type: ignore[arg-type]
    for tolerance in (-0.1, 1.0, float("nan")):
        with pytest.raises(FrameError, match=r"float_tolerance is .*; it must be a relative error"):
            plan_dataframe(pd.DataFrame(), float_tolerance=tolerance)


# -- behaviour ---------------------------------------------------------------------------------------


def mill() -> pd.DataFrame:
    return pd.DataFrame({
        "style": TEXT, "pounds": [n * 463 for n in range(100)], "rolls": [n % 7 - 3 for n in range(100)],
        "price": [n / 3 for n in range(100)], "note": [np.nan if n % 5 else "late" for n in range(100)],
    })  # fmt: skip


OPERATIONS = {
    "add": lambda df: df["pounds"] + df["rolls"],
    "add a number": lambda df: df["pounds"] + 2_000_000,
    "multiply": lambda df: df["pounds"] * df["pounds"],
    "sum": lambda df: df[["pounds", "rolls", "price"]].sum(),
    "concatenate": lambda df: pd.concat([df, mill()], ignore_index=True),
    "text behind it": lambda df: df["style"] + " A",
    "fillna": lambda df: df["note"].fillna("none"),
    "groupby": lambda df: df.groupby("style")[["pounds", "rolls"]].sum(),
    "groupby of a part": lambda df: df[df["rolls"] > 2].groupby("style").size(),
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
    "cumulated in groups": lambda df: df.groupby("style")["pounds"].cumsum(),
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
def test_what_is_safe_behaves_as_before(name: str) -> None:
    frame = mill()
    made = optimize_dataframe(frame, level="safe")
    assert str(made["pounds"].dtype) == "int32"
    assert same(OPERATIONS[name](frame), OPERATIONS[name](made))


@pytest.mark.parametrize("level", ["balanced", "compact"])
def test_what_behaves_in_another_way_is_named(level: Any) -> None:
    plan = plan_dataframe(mill(), level)
    made = plan.apply(mill())
    risks = {str(column.name): " ".join(column.risks) for column in plan.columns}
    with pytest.raises(TypeError):
        made["style"] + "x"
    assert "raises" in risks["style"]
    with pytest.raises(TypeError):
        made["style"].max()
    assert "no largest value" in risks["style"]
    with pytest.raises(TypeError):
        made["note"].fillna("new")
    assert "assigned or filled in" in risks["note"]
    wrapped = made["pounds"] * made["pounds"] * 10 != mill()["pounds"] ** 2 * 10
    assert not wrapped.any() or "products may wrap" in risks["pounds"]


def test_what_may_wrap_is_named() -> None:
    [column] = plan_dataframe(pd.DataFrame({"a": [100]}), "compact").columns
    assert column.risks[:2] == (
        "sums of two columns may wrap beyond 127", "products may wrap beyond 127",
    )  # fmt: skip
    [column] = plan_dataframe(pd.DataFrame({"a": [50_000]}), "balanced").columns
    assert column.risks[0].startswith("products may wrap beyond 2,147,483,647")


def test_what_may_wrap_although_it_is_safe_is_named() -> None:
    frame = pd.DataFrame({"a": [46_340, 46_340], "b": [-46_340, 46_340]})
    plan = plan_dataframe(frame, "safe")
    made = plan.apply(frame)
    assert same(frame["a"] * frame["b"], made["a"] * made["b"])
    for wraps in (
        lambda df: df["a"] * 100_000,
        lambda df: df["a"] ** 3,
        lambda df: df["a"] * df["b"] + df["a"] * df["b"],
        lambda df: pd.Series([df["a"].dot(df["a"])] * 2),
    ):
        assert (wraps(frame) != wraps(made)).any()
    for column in plan.columns:
        wrapping, assigned = column.risks
        assert wrapping.startswith(
            "products of more than two such numbers, with larger ones, and dot "
        )
        assert wrapping.endswith("products may wrap beyond 2,147,483,647")
        assert assigned == "a number beyond 2,147,483,647 cannot be assigned"


# -- plans are used again ----------------------------------------------------------------------------


def noticed(plan: Plan, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = plan.apply(frame)
    assert all(each.category is PlanNotice and each.filename == __file__ for each in caught)
    plan.verify(frame, made)
    return made, [str(each.message) for each in caught]


def test_yesterday_s_plan_fits_today_s_file() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2], "b": ["x", "x"]}), "compact")
    made, said = noticed(plan, pd.DataFrame({"a": [3, 4, 5], "b": ["x", "y", "x"]}))
    assert [str(dtype) for dtype in made.dtypes] == ["int8", "category"] and said == []


def test_a_number_beyond_the_plan_takes_a_wider_type_and_is_noticed() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2]}), "compact")
    for value, dtype in ((300, "int16"), (70_000, "int32"), (2**40, "int64")):
        made, [said] = noticed(plan, pd.DataFrame({"a": [value, 2]}))
        assert str(made["a"].dtype) == dtype and said.startswith(
            "column 0 ('a'): values go beyond int8"
        )


def test_other_values_beyond_the_plan_stay_and_are_noticed() -> None:
    frame = pd.DataFrame({"a": [0.5, 0.25] * 20, "b": TEXT[:40]})
    plan = plan_dataframe(frame, "compact")
    other = pd.DataFrame({"a": [0.1, 0.25] * 400, "b": texts(800, 790)})
    made, said = noticed(plan, other)
    assert list(made.dtypes) == list(other.dtypes) and len(said) == 2
    holding = pd.DataFrame({"a": [0.5], "b": pd.Series([None], dtype=object)})
    assert ", so it stays" in noticed(plan, holding)[1][0]


def test_columns_of_another_type_are_kept_as_they_come() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2], "b": [0.5, 1], "c": ["x", "x"]}), "compact")
    other = pd.DataFrame({"a": [0.5, 1.5], "b": ["x", "y"], "c": [1, 2]})
    made, _ = noticed(plan, other)
    assert differences(other, made) == []


@pytest.mark.parametrize(("values", "dtype"), [
    ([1, 2], "int64[pyarrow]"), ([1, None], "int64[pyarrow]"), ([0.5, None], "double[pyarrow]"),
    ([0, 1], "Sparse[int64]"), ([0.5, NAN], "Sparse[float64]"), ([1, 2], "packed[int64]"),
    ([0.5, NAN], "packed[float64]"),
])  # fmt: skip
@pytest.mark.parametrize("planned", [[1, 2], [0.5, 1.5], [1, None], [0.5, None]])
def test_numbers_that_are_not_held_as_numpy_holds_them_stay_and_are_noticed(
    values: list[Any], dtype: str, planned: list[Any]
) -> None:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    masked = pd.array(planned, dtype="Int64" if planned[0] == 1 else "Float64")
    plan = plan_dataframe(pd.DataFrame({"a": masked if None in planned else planned}), "compact")
    made, [said] = noticed(plan, pd.DataFrame({"a": pd.array(values, dtype=dtype)}))
    assert str(made["a"].dtype) == str(pd.array(values, dtype=dtype).dtype)
    assert said.startswith(f"column 0 ('a'): it is {made['a'].dtype} now, so it stays")


def test_a_plan_for_other_columns_is_refused() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1], np.nan: [2]}))
    plan.apply(pd.DataFrame({"a": [1], np.nan: [2]}))
    with pytest.raises(FrameError, match=r"the plan is for 2 columns and the frame has 1"):
        plan.apply(pd.DataFrame({"a": [1]}))
    with pytest.raises(FrameError, match=r"column 0 is 'b' and not 'a', as planned"):
        plan.apply(pd.DataFrame({"b": [1], np.nan: [2]}))


# -- verifying ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "said"), [
    (lambda df: df.assign(a=[1, 3]), "1 cells differ"),
    (lambda df: df.iloc[:1], "(1, 3) rows and columns"),
    (lambda df: df.rename(columns={"a": "z"}), "other names"),
    (lambda df: df.set_axis([5, 6]), "other labels"),
    (lambda df: df.assign(a=[1.0, 2.0]), "became float64"),
    (lambda df: df.assign(b=["x", None]), "other cells are empty"),
    (lambda df: df.assign(b=pd.Categorical(["x", "x"])), "1 cells differ"),
    (lambda df: df.assign(c=[0.5, 0.1]), "values differ by up to"),
    (lambda df: df.assign(b=pd.Categorical([None, None], categories=[])), "other cells are empty"),
])  # fmt: skip
def test_verifying_finds_what_differs(change: Any, said: str) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 0.25]})
    found = differences(frame, change(frame))
    assert len(found) == 1 and said in found[0]


@pytest.mark.parametrize("place", [0, 70_000, 99_999])
def test_verifying_looks_at_every_part_of_a_long_column(place: int) -> None:
    frame = pd.DataFrame({"a": TEXT * 1000, "b": [0.5] * 100_000})
    other, made = frame.copy(), optimize_dataframe(frame, level="compact")
    other.loc[place, "a"], other.loc[place, "b"] = "yarn 9", 0.1
    found = differences(other, made)
    assert len(found) == 2 and "1 cells differ" in found[0] and "values differ by" in found[1]


@pytest.mark.parametrize(("change", "said"), [
    (lambda values: values.cat.as_unordered(), "in no order any more"),
    (lambda values: values.astype(object), "in no order any more"),
    (lambda values: values.cat.reorder_categories(["c", "b", "a"]), "in another order"),
    (lambda values: values.cat.set_categories(["b", "a"]), "in another order"),
    (lambda values: values.cat.set_categories(["a", "b"]), ""),
])  # fmt: skip
def test_verifying_finds_another_order_of_categories(change: Any, said: str) -> None:
    frame = pd.DataFrame({"a": pd.Categorical(["b", "a"] * 9, ["a", "b", "c"], ordered=True)})
    found = differences(frame, frame.assign(a=change(frame["a"])))
    assert said in "".join(found) and bool(found) == bool(said)
    plain = frame.assign(a=frame["a"].cat.as_unordered())
    assert "ordered" in differences(plain, frame)[0]
    assert differences(plain, plain.assign(a=plain["a"].cat.set_categories(["b", "a"]))) == []


@pytest.mark.parametrize(("signed", "unsigned"), [("int64", "uint8"), ("Int64", "UInt8")])
def test_verifying_tells_unsigned_numbers_from_signed_ones(signed: Any, unsigned: Any) -> None:
    frame = pd.DataFrame({"a": pd.array([1, 2], dtype=signed)})
    assert differences(frame, frame.astype(unsigned)) == [
        f"column 0 ('a'): {signed} became {unsigned}"
    ]


def test_verifying_tells_one_from_true() -> None:
    before = pd.DataFrame({"a": pd.Series([1, True, 1], dtype=object)})
    assert differences(before, pd.DataFrame({"a": pd.Categorical([1, 1, 1])})) != []
    arrays = pd.DataFrame({"a": pd.Series([np.array([1, 2])], dtype=object)})
    assert (
        differences(arrays, pd.DataFrame({"a": pd.Series([np.array([1, 2])], dtype=object)})) != []
    )


# -- sizes -------------------------------------------------------------------------------------------


def test_an_object_is_counted_once_and_pandas_counts_it_each_time() -> None:
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
def test_sizes_are_those_of_pandas_where_nothing_is_shared(values: Any) -> None:
    series = pd.Series(values)
    assert size_of(series).deep == series.memory_usage(index=False, deep=True)


# -- for people --------------------------------------------------------------------------------------


def test_a_plan_is_told_in_eighty_columns_and_in_a_table() -> None:
    frame = mill().assign(
        **{"<script>alert(1)</script>\x1b[31m": TEXT, **{f"c{n}": [n] * 100 for n in range(40)}}
    )
    plan = plan_dataframe(frame, keep=[f"c{n}" for n in range(40)])
    lines = plan.report().splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in plan.report()
    assert lines[0].startswith("100 rows × 46 columns, balanced: ") and "times smaller" in " ".join(
        lines[:2]
    )
    assert any(line.endswith("and 29 more") or line.startswith("and ") for line in lines)
    table = plan._repr_html_()
    assert "<script>" not in table and "&lt;script&gt;" in table and "<table>" in table
    assert plan.as_dict()["columns"][0]["to"] == "category"
    assert plan_dataframe(pd.DataFrame({"a": ["x"]})).report().splitlines()[-2] == "1 column stays"


# -- where it is found -------------------------------------------------------------------------------


def test_the_extension_has_it_too() -> None:
    memory = KnitPerf().memory
    frame = pd.DataFrame({"a": [1, 2]})
    assert memory.plan_dataframe(frame, "compact").columns[0].to == "int8"
    assert str(memory.optimize_dataframe(frame, level="compact")["a"].dtype) == "int8"


def test_an_analyst_needs_no_flask() -> None:
    code = "import sys, flask_knitperf.frames; print('flask' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
