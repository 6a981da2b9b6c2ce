"""No value, kind, label or row changes, and the source frame is not modified."""

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
from flask_knitperf.frames import FrameError, Plan, PlanNotice, optimize_dataframe, plan_dataframe
from flask_knitperf.frames.verify import differences

from .samples import LEVEL_NAMES, NAN, TEXT, distinct_texts

# -- values --------------------------------------------------------------------------------------


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
    st.lists(cells, min_size=8, max_size=8).map(lambda values: pd.Series(values, dtype=object)),
    st.lists(st.sampled_from(["a", "b"]), min_size=8, max_size=8).map(pd.Categorical),
    st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=8, max_size=8).map(
        lambda values: pd.array(values, dtype="Int64")
    ),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(anything, max_size=5), st.sampled_from(LEVEL_NAMES))
def test_no_cell_changes(columns: list[Any], level: Any) -> None:
    frame = pd.DataFrame(dict(enumerate(columns)))
    before = frame.copy(deep=True)
    plan = plan_dataframe(frame, level)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller = plan.apply(frame)
    plan.verify(frame, smaller)
    plan.verify(before, smaller)
    assert differences(before, frame) == []
    again = optimize_dataframe(frame, level=level)
    assert list(map(str, again.dtypes)) == [column.to for column in plan.columns]
    assert plan.after.true <= plan.before.true


def cell(value: Any) -> Any:
    """Return a cell so that what is another prints as another."""
    return type(value).__name__, repr(value)


@pytest.mark.parametrize("level", LEVEL_NAMES)
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
def test_cells_that_other_tools_change_are_unchanged(values: list[Any], level: Any) -> None:
    frame = pd.DataFrame({"a": pd.Series(values, dtype=object)})
    smaller = optimize_dataframe(frame, level=level)
    assert list(map(cell, smaller["a"])) == list(map(cell, frame["a"]))


@pytest.mark.parametrize("level", LEVEL_NAMES)
@pytest.mark.parametrize("dtype", ["string[python]", "string[pyarrow]", "str"])
@pytest.mark.parametrize("cells", [
    ["yarn 1", None, "yarn 2"] * 50, [*map(str, pd.date_range("2024-01-01", periods=300).date), None],
])  # fmt: skip
def test_text_with_missing_cells_is_unchanged_in_any_storage(
    cells: list[Any], dtype: str, level: Any
) -> None:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": pd.array(cells, dtype=dtype)})
    plan = plan_dataframe(frame, level)
    smaller = plan.apply(frame)
    plan.verify(frame, smaller)
    back = plan.unpack(smaller)
    assert back["a"].dtype == frame["a"].dtype and differences(frame, back) == []
    assert optimize_dataframe(frame, level=level)["a"].dtype == smaller["a"].dtype


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_two_and_a_small_fraction_is_not_two(level: Any) -> None:
    frame = pd.DataFrame({"a": [2.0000000001, 1.0], "b": [70000.5, 3.0], "c": [2.0**1000, 1.0]})
    smaller = optimize_dataframe(frame, level=level)
    assert smaller.to_dict("list") == frame.to_dict("list")


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_datetimes_and_time_zones_are_unchanged(level: Any) -> None:
    moment = datetime(2025, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
    frame = pd.DataFrame({
        "a": [moment, None],
        "b": pd.to_datetime(["2025-01-01", "2025-06-01"]).tz_localize("Europe/Berlin"),
        "c": pd.to_timedelta([1, 2], unit="s"), "d": pd.period_range("2025", periods=2),
    })  # fmt: skip
    smaller = optimize_dataframe(frame, level=level)
    assert list(smaller.dtypes) == list(frame.dtypes) and differences(frame, smaller) == []


# -- the frame -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVEL_NAMES)
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
def test_unusual_frames_are_unchanged(frame: pd.DataFrame, level: Any) -> None:
    frame.attrs["unit"] = "pounds"
    smaller = optimize_dataframe(frame, level=level)
    assert differences(frame, smaller) == [] and smaller.shape == frame.shape
    assert smaller.index.identical(frame.index) and smaller.columns.identical(frame.columns)
    assert smaller.attrs == {"unit": "pounds"}
    assert plan_dataframe(frame, level).ratio >= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_a_frame_of_very_many_columns_without_rows_is_unchanged(level: Any) -> None:
    frame = pd.DataFrame(columns=range(98_711))
    assert optimize_dataframe(frame, level=level).shape == (0, 98_711)


@pytest.mark.parametrize("level", LEVEL_NAMES)
@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"a": []})], ids=str)
def test_a_plan_copies_a_frame_without_rows(frame: pd.DataFrame, level: Any) -> None:
    plan = plan_dataframe(frame, level)
    smaller = plan.apply(frame)
    back = plan.unpack(smaller)
    plan.verify(frame, smaller)
    assert smaller is not frame and back is not smaller
    assert differences(frame, smaller) == differences(frame, back) == []


def test_duplicate_rows_are_not_dropped() -> None:
    frame = pd.DataFrame({"order": ["S1"] * 40, "pounds": [5] * 40})
    assert len(optimize_dataframe(frame, level="compact")) == 40


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_neither_frame_sees_an_assignment_to_the_other(level: Any) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [10**12, 1], "c": ["x", "y"], "d": [0.1, 0.2]})
    smaller = optimize_dataframe(frame, level=level)
    for place, value in enumerate([7, 7, "x", 0.5]):
        smaller.iloc[1, place] = value
    assert frame.iloc[1].tolist() == [2, 1, "y", 0.2]
    again = optimize_dataframe(frame, level=level)
    for place, value in enumerate([9, 9, "x", 0.75]):
        frame.iloc[0, place] = value
    assert again.iloc[0].tolist() == [1, 10**12, "x", 0.1]


@pytest.mark.parametrize("level", LEVEL_NAMES)
@pytest.mark.parametrize("index", [
    pd.RangeIndex(2), pd.Index(["x", "y"]), pd.Index([5, 6]), pd.date_range("2025", periods=2),
    pd.MultiIndex.from_tuples([("x", 1), ("y", 2)]), pd.CategoricalIndex(["x", "x"]),
], ids=str)  # fmt: skip
def test_neither_frame_sees_names_assigned_to_the_labels_of_the_other(
    level: Any, index: Any
) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "x"]}, index=index)
    frame.attrs["units"] = {"a": "pounds"}
    plan = plan_dataframe(frame, level)
    small = plan.apply(frame)
    for smaller in (small, plan.unpack(small), optimize_dataframe(frame, level=level)):
        assert smaller.index.identical(frame.index) and type(smaller.index) is type(frame.index)
        smaller.index.names, smaller.columns.name = [f"X{n}" for n in range(index.nlevels)], "Y"
        smaller.attrs["units"]["a"] = "tons"
    assert set(frame.index.names) == {None} and frame.columns.name is None
    assert frame.attrs == {"units": {"a": "pounds"}}


class Yarns(pd.DataFrame):
    """Subclass with an attribute."""

    _metadata = ["mill"]  # noqa: RUF012 (pandas requires a list)

    @property
    def _constructor(self) -> type[Yarns]:
        return Yarns


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_a_frame_keeps_its_class_and_its_flags(level: Any) -> None:
    frame = Yarns({"a": [1, 2], "b": ["x", "x"]})
    frame.mill = "north"
    frame.flags.allows_duplicate_labels = False
    plan = plan_dataframe(frame, level)
    small = plan.apply(frame)
    for smaller in (small, plan.unpack(small), optimize_dataframe(frame, level=level)):
        assert type(smaller) is Yarns and smaller.mill == "north"
        assert not smaller.flags.allows_duplicate_labels


def test_a_wrong_argument_raises_a_frame_error() -> None:
    with pytest.raises(FrameError, match="no level 'tiny'; there are safe, balanced, compact"):
        plan_dataframe(pd.DataFrame(), "tiny")  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="a DataFrame is needed, not list"):
        plan_dataframe([1])  # type: ignore[arg-type]
    for tolerance in (-0.1, 1.0, float("nan")):
        with pytest.raises(FrameError, match=r"float_tolerance is .*; it must be a relative error"):
            plan_dataframe(pd.DataFrame(), float_tolerance=tolerance)


@pytest.mark.parametrize("keep", ["Order", ["Order"], {"Order": 1}, iter(["Order"])])
def test_keep_takes_one_label_or_many(keep: Any) -> None:
    frame = pd.DataFrame({"O": [1], "Order": [1], "r": [1]})
    smaller = optimize_dataframe(frame, level="compact", keep=keep)
    assert smaller.dtypes.tolist() == ["int8", "int64", "int8"]


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("function", [plan_dataframe, optimize_dataframe])
def test_keep_refuses_a_label_that_no_column_has(function: Any, rows: int) -> None:
    frame = pd.DataFrame({"Order": [1, 2], 5: [1, 2]}).iloc[:rows]
    with pytest.raises(FrameError, match=r"keep contains labels that no column has: 'order', 6$"):
        function(frame, keep=["Order", "order", 5, 6])
    with pytest.raises(FrameError, match=r"no column has: 'Orders'$"):
        function(frame, keep="Orders")


# -- applying a plan to another frame ------------------------------------------------------------


def apply_with_notices(plan: Plan, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        smaller = plan.apply(frame)
    assert all(w.category is PlanNotice and w.filename == __file__ for w in caught)
    plan.verify(frame, smaller)
    return smaller, [str(warning.message) for warning in caught]


def test_a_plan_of_yesterday_applies_to_the_file_of_today() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2], "b": ["x", "x"]}), "compact")
    smaller, notices = apply_with_notices(
        plan, pd.DataFrame({"a": [3, 4, 5], "b": ["x", "y", "x"]})
    )
    assert [str(dtype) for dtype in smaller.dtypes] == ["int8", "category"] and notices == []


def test_a_number_beyond_the_plan_gets_a_wider_dtype_with_a_notice() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2]}), "compact")
    for value, dtype in ((300, "int16"), (70_000, "int32"), (2**40, "int64")):
        smaller, [notice] = apply_with_notices(plan, pd.DataFrame({"a": [value, 2]}))
        assert str(smaller["a"].dtype) == dtype and notice.startswith(
            "column 0 ('a'): values exceed int8"
        )


def test_other_values_beyond_the_plan_are_unchanged_with_a_notice() -> None:
    frame = pd.DataFrame({"a": [0.5, 0.25] * 20, "b": TEXT[:40]})
    plan = plan_dataframe(frame, "compact")
    other = pd.DataFrame({"a": [0.1, 0.25] * 400, "b": distinct_texts(800, 790)})
    smaller, notices = apply_with_notices(plan, other)
    assert list(smaller.dtypes) == list(other.dtypes) and len(notices) == 2
    missing = pd.DataFrame({"a": [0.5], "b": pd.Series([None], dtype=object)})
    assert ", so it is unchanged" in apply_with_notices(plan, missing)[1][0]


def test_columns_of_another_dtype_are_unchanged() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2], "b": [0.5, 1], "c": ["x", "x"]}), "compact")
    other = pd.DataFrame({"a": [0.5, 1.5], "b": ["x", "y"], "c": [1, 2]})
    smaller, _ = apply_with_notices(plan, other)
    assert differences(other, smaller) == []


@pytest.mark.parametrize(("values", "dtype"), [
    ([1, 2], "int64[pyarrow]"), ([1, None], "int64[pyarrow]"), ([0.5, None], "double[pyarrow]"),
    ([0, 1], "Sparse[int64]"), ([0.5, NAN], "Sparse[float64]"), ([1, 2], "packed[int64]"),
    ([0.5, NAN], "packed[float64]"),
])  # fmt: skip
@pytest.mark.parametrize("planned", [[1, 2], [0.5, 1.5], [1, None], [0.5, None]])
def test_numbers_not_stored_by_numpy_are_unchanged_with_a_notice(
    values: list[Any], dtype: str, planned: list[Any]
) -> None:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    masked = pd.array(planned, dtype="Int64" if planned[0] == 1 else "Float64")
    plan = plan_dataframe(pd.DataFrame({"a": masked if None in planned else planned}), "compact")
    smaller, [notice] = apply_with_notices(plan, pd.DataFrame({"a": pd.array(values, dtype=dtype)}))
    assert str(smaller["a"].dtype) == str(pd.array(values, dtype=dtype).dtype)
    assert notice.startswith(f"column 0 ('a'): it is {smaller['a'].dtype} now, so it is unchanged")


def test_a_plan_of_other_columns_is_refused() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1], np.nan: [2]}))
    plan.apply(pd.DataFrame({"a": [1], np.nan: [2]}))
    with pytest.raises(FrameError, match=r"the plan is for 2 columns and the frame has 1"):
        plan.apply(pd.DataFrame({"a": [1]}))
    with pytest.raises(FrameError, match=r"column 0 is 'b' and not 'a', as planned"):
        plan.apply(pd.DataFrame({"b": [1], np.nan: [2]}))


# -- entry points --------------------------------------------------------------------------------


def test_the_extension_plans_and_optimizes_too() -> None:
    memory = KnitPerf().memory
    frame = pd.DataFrame({"a": [1, 2]})
    assert memory.plan_dataframe(frame, "compact").columns[0].to == "int8"
    assert str(memory.optimize_dataframe(frame, level="compact")["a"].dtype) == "int8"


@pytest.mark.slow
def test_frames_do_not_import_flask() -> None:
    code = "import sys, flask_knitperf.frames; print('flask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
