"""The level ``pack`` is exact, and its columns can be restored to their original dtypes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_knitperf.cli.commands import offline
from flask_knitperf.frames import (
    FrameError,
    PlanNotice,
    optimize_dataframe,
    plan_dataframe,
    read_csv,
)
from flask_knitperf.frames.conversions import DowncastFloat
from flask_knitperf.frames.restore import restore_column
from flask_knitperf.frames.verify import differences

NAN = float("nan")
DAYS = pd.date_range("2024-01-01", periods=300)


def days(form: str = "%Y-%m-%d") -> list[str]:
    return DAYS.strftime(form).tolist()


def planned_column(values: Any, **more: Any) -> Any:
    """Return the plan of a column with these values."""
    return plan_dataframe(pd.DataFrame({"a": values}), "pack", **more).columns[0]


def seconds(count: int, form: str = "%Y-%m-%d %H:%M:%S") -> list[str]:
    return pd.date_range("2024-01-01", periods=count, freq="7321s").strftime(form).tolist()


def apply_with_notices(plan: Any, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        packed = plan.apply(frame)
    assert all(warning.category is PlanNotice for warning in caught)
    plan.verify(frame, packed)
    return packed, [str(warning.message) for warning in caught]


# -- dtype selection -------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "to", "reason"), [
    ([n % 300 / 100 for n in range(999)], "packed[float64]", "integers in units of 1/100, 16 bits"),
    ([1 / (n % 99 + 1) for n in range(999)], "packed[float64]", "dictionary of 99 values, 8 bits per"),
    ([2.0 ** -(n % 900) + n for n in range(999)], "float64", "not short decimals"),
    ([1 + 2.0**-n for n in range(20)] * 9, "packed[float64]", "20 values"),
    ([n + 2.0**-12 for n in range(3000)], "packed[float64]", "exact in float32, 32 bits"),
    ([0.0] * 900 + [1 / n for n in range(1, 99)], "packed[float64]", "a position for 98 exceptions"),
    ([NAN] * 900 + [0.1], "packed[float64]", "a position for 1 exception"),
    (list(range(1950, 2020)), "packed[int64]", "integers, 8 bits"),
    ([10**12, 5] * 300, "packed[int64]", "dictionary of 2 values, 1 bit"),
    (list(range(-128, 128)), "int8", "fit int8"), (list(range(60_000)), "packed[int64]", "16 bits"),
    ([n * 2**40 for n in range(99)], "int64", "need int64"), ([True, False] * 9, "bool", "one byte"),
    (np.arange(99, dtype="int32"), "int8", "fit int8"),
    (np.arange(99, dtype="uint64"), "uint64", "wrap"),
    (pd.array([1, None] * 9, dtype="Int64"), "Int8", "fit int8"),
    (pd.array([0.1, None] * 9, dtype="Float64"), "Float64", "float32 does not preserve"),
    (["S", "M"] * 300, "category", "2 distinct values in 600 cells"),
])  # fmt: skip
def test_each_column_gets_the_encoding_with_the_fewest_bytes(
    values: Any, to: str, reason: str
) -> None:
    plan = planned_column(values)
    assert plan.to == to and reason in plan.reason
    assert plan.after.true <= plan.before.true


@pytest.mark.parametrize("form", [
    "%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y",
])  # fmt: skip
def test_date_strings_become_datetimes_and_are_restored(form: str) -> None:
    frame = pd.DataFrame({"a": [*days(form), NAN]})
    plan = plan_dataframe(frame, "pack")
    assert plan.columns[0].to.startswith("datetime64[") and form in plan.columns[0].reason
    packed = plan.apply(frame)
    plan.verify(frame, packed)
    assert packed["a"].iloc[33] == pd.Timestamp("2024-02-03")
    assert differences(frame, plan.unpack(packed)) == []


@pytest.mark.parametrize("form", [
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
])  # fmt: skip
def test_timestamps_become_datetimes_and_are_restored(form: str) -> None:
    frame = pd.DataFrame({"a": seconds(900, form)})
    plan = plan_dataframe(frame, "pack")
    assert plan.columns[0].to.startswith("datetime64[")
    assert differences(frame, plan.unpack(plan.apply(frame))) == []


@pytest.mark.parametrize("values", [
    [*days(), "n/a"], [*days(), "2024-13-01"], [*days(), "2024-1-05"], [*days(), " 2024-01-05"],
    [*days(), ""], days("%Y%m%d"), [*days("%d/%m/%Y")[:12], "01/02/2024"],
    [*days(), "٢٠٢٤-٠١-٠٢"], [f"{n}" for n in range(20_240_101, 20_240_400)],
    [f"{n:05}" for n in range(999)], [f"12:{n % 60:02}" for n in range(60)],
])  # fmt: skip
def test_text_that_may_not_be_dates_is_not_parsed(values: list[str]) -> None:
    assert not planned_column(values).to.startswith("datetime64")


def test_dates_with_ambiguous_days_and_months_are_not_parsed() -> None:
    both = pd.date_range("2024-01-01", periods=12, freq="MS").strftime("%d/%m/%Y").tolist()
    assert not planned_column(both).to.startswith("datetime64")


def test_few_repeated_dates_are_smaller_as_categories() -> None:
    assert planned_column(days()[:50] * 90).to == "category"


def test_dates_with_none_are_not_parsed() -> None:
    dates = pd.Series([*days(), None], dtype=object)
    assert "None" in planned_column(dates).reason


def test_a_tolerance_is_used_where_packing_is_impossible() -> None:
    frame = pd.DataFrame({"a": [0.1, 0.2] * 50, "b": [1 / n for n in range(1, 101)]})
    plan = plan_dataframe(frame, "pack", float_tolerance=1e-6)
    assert [column.to for column in plan.columns] == ["packed[float64]", "float32"]
    plan.verify(frame, plan.apply(frame))


def test_a_packed_frame_is_unchanged() -> None:
    packed = optimize_dataframe(
        pd.DataFrame({"a": [0.1, 0.2] * 50, "b": [10**12, 5] * 50}), level="pack"
    )
    for level in ("safe", "balanced", "compact", "pack"):
        plan = plan_dataframe(packed, level)  # type: ignore[arg-type]
        assert not any(column.changes for column in plan.columns)


# -- unpack ----------------------------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from(["a", "b", "2024-01-01", "007"]), st.dates().map(str),
    st.datetimes().map(lambda time: time.isoformat(" ", "seconds")),
)  # fmt: skip
kinds = st.one_of(
    st.lists(st.floats(), min_size=9, max_size=9),
    st.lists(st.integers(-99, 99), min_size=9, max_size=9),
    st.lists(st.integers(0, 9999).map(lambda cents: cents / 100), min_size=9, max_size=9),
    st.lists(texts, min_size=9, max_size=9), st.lists(st.dates().map(str), min_size=9, max_size=9),
    st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=9, max_size=9).map(
        lambda values: pd.array(values, dtype="Int64")
    ),
    st.lists(st.one_of(texts, st.just(NAN)), min_size=9, max_size=9).map(
        lambda values: pd.Series(values, dtype=object)
    ),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(kinds, max_size=4), st.sampled_from(["balanced", "compact", "pack"]))
def test_unpack_restores_the_original_frame(columns: list[Any], level: Any) -> None:
    frame = pd.DataFrame(dict(enumerate(columns)))
    plan = plan_dataframe(frame, level)
    back = plan.unpack(plan.apply(frame))
    assert differences(frame, back) == []
    assert list(map(str, back.dtypes)) == list(map(str, frame.dtypes))


def test_unpack_preserves_results_computed_in_between() -> None:
    frame = pd.DataFrame(
        {"day": days(), "price": [n / 100 for n in range(300)], "n": [10**12, 5] * 150}
    )
    plan = plan_dataframe(frame, "pack")
    packed = plan.apply(frame)
    packed["price"] = packed["price"] * 3
    packed = packed[packed["n"] == 5].sort_values("price", ascending=False)
    packed.loc[299, "day"] = pd.Timestamp("2030-01-31")
    back = plan.unpack(packed)
    assert list(map(str, back.dtypes)) == list(map(str, frame.dtypes))
    assert back["day"].tolist()[:2] == ["2030-01-31", days()[297]]
    assert back["price"].tolist() == (frame["price"] * 3)[packed.index].tolist()
    assert packed.loc[299, "day"] == pd.Timestamp("2030-01-31")  # not modified


def test_unpack_leaves_columns_of_other_kinds_unchanged() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": days(), "n": range(300)}), "pack")
    other = pd.DataFrame({"a": [1, 2], "n": [0.5, NAN]})
    assert differences(other, plan.unpack(other)) == []
    with pytest.raises(FrameError, match="the plan is for 2 columns"):
        plan.unpack(pd.DataFrame({"a": [1]}))


@pytest.mark.parametrize(("values", "change"), [
    (np.array([99] * 500, dtype="int16"), lambda values: values.cumsum().astype("int64")),
    (np.array([30_000] * 9, dtype="int32"), lambda values: values.astype("int64") * 100_000),
    (pd.array([30_000, None], dtype="Int32"), lambda values: values.astype("Int64") * 100_000),
    (np.array([5] * 9, dtype="int64"), lambda values: values.astype("uint64") + np.uint64(2**63)),
    (pd.array([0.5, None], dtype="Float64"), lambda values: values.astype("string").astype(object)),
    (pd.Series(["a", "b"] * 9), lambda values: pd.Series([5, "a"] * 9, dtype=object)),
    (pd.Series(["a", "b"] * 9), lambda values: pd.Series(["\ud800", "a"] * 9, dtype=object)),
    (pd.Categorical(["a"] * 9, ["a", "b"]), lambda values: pd.Series(["c"] * 9)),
    (pd.Categorical(["a"] * 9, ["a", "b"]), lambda values: values.cat.add_categories("c").fillna("c")),
])  # fmt: skip
def test_unpack_never_changes_a_value_that_the_original_dtype_cannot_hold(
    values: Any, change: Any
) -> None:
    plan = plan_dataframe(pd.DataFrame({"qty": values}), "compact")
    packed = plan.apply(pd.DataFrame({"qty": values}))
    packed["qty"] = change(packed["qty"])
    before = packed.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        back = plan.unpack(packed)
    assert list(map(repr, back["qty"])) == list(map(repr, before["qty"]))
    assert all(w.category is PlanNotice and w.filename == __file__ for w in caught)
    if pd.api.types.is_integer_dtype(packed["qty"]):
        assert "cannot hold its values, so it is unchanged" in str(caught[0].message)


def test_unpack_restores_float32_only_where_it_preserves_every_value() -> None:
    single = np.dtype("float32")
    exact, other = pd.Series([0.5, NAN]), pd.Series([0.1, NAN])
    assert restore_column(exact, DowncastFloat(), single).values.dtype == single
    assert restore_column(other, DowncastFloat(), single).values is other


def test_unpack_restores_unsigned_numbers_as_signed_where_they_fit() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2]}), "compact")
    assert plan.unpack(pd.DataFrame({"a": np.array([1, 2], "uint64")}))["a"].dtype == "int64"


@pytest.mark.parametrize("ordered", [False, True])
def test_unpack_restores_the_original_categories_and_their_order(ordered: bool) -> None:
    first = pd.Categorical(["b", "a", None] * 9, categories=["z", "b", "a"], ordered=ordered)
    frame = pd.DataFrame({"a": first})
    plan = plan_dataframe(frame, "compact")
    packed = plan.apply(frame)
    assert packed["a"].cat.categories.tolist() == ["b", "a"]
    for current in (packed, packed.assign(a=packed["a"].astype(object)), packed.iloc[:0]):
        back = plan.unpack(current)["a"]
        assert back.cat.categories.tolist() == ["z", "b", "a"] and back.cat.ordered == ordered
        assert back.equals(frame["a"].iloc[: len(current)])


@pytest.mark.parametrize("level", ["balanced", "compact", "pack"])
def test_unpack_restores_the_original_dtypes_of_a_frame_without_rows(level: Any) -> None:
    frame = pd.DataFrame({
        "a": [1, 2] * 200, "b": ["x", "y"] * 200, "c": [0.5, 0.25] * 200, "p": [19.99, 5.5] * 200,
        "d": [str(day.date()) for day in pd.date_range("2025-01-31", periods=400)],
        "e": pd.array([1, None] * 200, dtype="Int64"), "f": pd.Categorical(["a"] * 400, ["a", "b"]),
        "g": pd.Series([NAN, "x"] * 200, dtype=object),
    })  # fmt: skip
    plan = plan_dataframe(frame, level)
    back = plan.unpack(plan.apply(frame).iloc[:0])
    assert back.shape == (0, 8) and back.dtypes.tolist() == frame.dtypes.tolist()


def test_unpack_restores_text_with_a_lone_surrogate() -> None:
    frame = pd.DataFrame({"t": pd.Series(["\ud800x", "b", "b"] * 5, dtype=object)})
    plan = plan_dataframe(frame, "compact")
    packed = plan.apply(frame)
    assert str(packed["t"].dtype) == "category"
    assert differences(frame, plan.unpack(packed)) == []


def test_an_unpacked_frame_shares_no_cell_with_the_packed_one() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2]}), "compact")
    wide = pd.DataFrame({"a": [1, 2]})
    back = plan.unpack(wide)
    back.loc[0, "a"] = 9
    assert wide["a"].tolist() == [1, 2]


def test_unpack_refuses_a_frame_with_other_columns() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1]}), "pack")
    with pytest.raises(FrameError, match="column 0 is 'b' and not 'a'"):
        plan.unpack(pd.DataFrame({"b": [1]}))


# -- verifying -------------------------------------------------------------------------------------


def test_verify_detects_another_date_and_another_number() -> None:
    frame = pd.DataFrame({"day": days(), "price": [n / 100 for n in range(300)]})
    plan = plan_dataframe(frame, "pack")
    packed = plan.apply(frame)
    packed.loc[7, "day"] = pd.Timestamp("2030-01-01")
    with pytest.raises(FrameError, match=r"column 0 \('day'\): 1 cell differs"):
        plan.verify(frame, packed)
    packed = plan.apply(frame)
    packed.loc[7, "price"] = 0.08
    with pytest.raises(FrameError, match=r"column 1 \('price'\): relative error"):
        plan.verify(frame, packed)


def test_minus_zero_differs_from_zero() -> None:
    before, after = pd.DataFrame({"a": [-0.0, NAN]}), pd.DataFrame({"a": [0.0, NAN]})
    assert differences(before, after) == ["column 0 ('a'): 1 cell differs"]
    assert differences(before, before.copy()) == []


# -- applying a plan to another frame --------------------------------------------------------------


def test_numbers_beyond_the_plan_get_wider_codes_with_a_notice() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [n % 9 / 10 for n in range(90)]}), "pack")
    packed, notices = apply_with_notices(plan, pd.DataFrame({"a": [0.1, 0.9] * 30}))
    assert str(packed["a"].dtype) == "packed[float64]" and notices == []
    packed, [notice] = apply_with_notices(plan, pd.DataFrame({"a": [n / 100 for n in range(900)]}))
    assert "values need 16 bits per code, and 4 were planned" in notice
    assert str(packed["a"].dtype) == "packed[float64]"
    packed, [notice] = apply_with_notices(plan, pd.DataFrame({"a": [1 / n for n in range(1, 90)]}))
    assert (
        "its values fit no encoding, so it is unchanged (float64)" in notice
        and packed["a"].dtype == np.float64
    )


def test_a_column_with_too_many_exceptions_is_stored_densely_with_a_notice() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [0.0] * 900 + [1 / 3, 1 / 7]}), "pack")
    packed, [notice] = apply_with_notices(
        plan, pd.DataFrame({"a": [n % 2 / 3 for n in range(900)]})
    )
    assert (
        "too many cells differ from the fill value" in notice
        and str(packed["a"].dtype) == "packed[float64]"
    )


def test_texts_that_are_not_dates_any_more_are_unchanged_with_a_notice() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": days()}), "pack")
    other = pd.DataFrame({"a": ["2025-02-30", "2025-01-01"]})
    packed, [notice] = apply_with_notices(plan, other)
    assert "so it is unchanged" in notice and packed["a"].dtype == other["a"].dtype
    missing = pd.DataFrame({"a": pd.Series(["2025-01-01", None], dtype=object)})
    assert "so it is unchanged (object)" in apply_with_notices(plan, missing)[1][0]
    assert "so it is unchanged" in apply_with_notices(plan, pd.DataFrame({"a": [1]}))[1][0]


def test_numbers_of_another_dtype_are_unchanged() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [0.1, 0.2] * 50}), "pack")
    assert apply_with_notices(plan, pd.DataFrame({"a": [1, 2]}))[0]["a"].tolist() == [1, 2]
    assert "so it is unchanged" in apply_with_notices(plan, pd.DataFrame({"a": ["x"]}))[1][0]


# -- output ----------------------------------------------------------------------------------------


def test_risks_name_what_behaves_differently() -> None:
    frame = pd.DataFrame(
        {"day": days(), "price": [n / 100 for n in range(300)], "n": [10**12, 5] * 150}
    )
    plan = plan_dataframe(frame, "pack")
    day, price, n = (" ".join(column.risks) for column in plan.columns)
    packed = plan.apply(frame)
    with pytest.raises(AttributeError):
        packed["day"].str.upper()
    assert "string methods raise" in day
    assert packed[["price", "price"]].to_numpy().dtype == object and "are objects" in price
    assert (
        str(packed["price"].describe().dtype) == "Float64"
        and "`describe()` returns Float64" in price
    )
    with pytest.raises(pd.errors.MergeError):
        pd.merge_asof(packed, frame, on="price")
    assert "`merge_asof`" in price
    grown = packed["price"].copy()
    grown[0] = 1 / 3
    assert grown.array.nbytes == frame["price"].nbytes and "at its original size" in price
    outer = packed.merge(pd.DataFrame({"n": [7]}), on="n", how="outer")
    assert outer["n"].dtype.kind == "f" and "outer joins on it return float64" in n
    assert "packed[float64]" in plan.report() and "packed[float64]" in plan._repr_html_()
    assert plan.as_dict()["columns"][1]["to"] == "packed[float64]"


def test_read_options_leave_out_dtypes_that_pandas_cannot_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "day": days(), "price": [n / 100 for n in range(300)], "n": range(300), "size": ["S", "M"] * 150,
        "few": [n % 3 - 1 for n in range(300)], "small": [*range(128), *range(-128, 44)],
    })  # fmt: skip
    options = plan_dataframe(frame, "pack").read_options()
    assert options == {"dtype": {"n": "int16", "size": "category"}} or options == {
        "dtype": {"n": "int16", "size": "category", "small": "int8"}
    }
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert pd.read_csv(tmp_path / "a.csv", **options)["n"].dtype == np.int16


@pytest.mark.slow
def test_a_file_is_read_packed_as_pandas_reads_it(tmp_path: Path) -> None:
    rows = [
        f"{n / 100},{n + 10**10},{2024 + n % 3},{days()[n % 300]},{0 if n % 90 else 1.5}"
        for n in range(2000)
    ]
    path = tmp_path / "a.csv"
    path.write_text("a,b,c,d,e\n" + "\n".join(rows) + "\n", encoding="utf-8")
    packed = read_csv(path, "pack", chunk_rows=300)
    assert differences(pd.read_csv(path), packed) == []
    types = list(map(str, packed.dtypes))
    assert types[:3] == ["packed[float64]", "packed[int64]", "packed[int64]"]
    assert types[3:] == ["category", "packed[float64]"]
    path.write_text("d\n" + "\n".join(seconds(900)) + "\n", encoding="utf-8")
    assert differences(pd.read_csv(path), read_csv(path, "pack", chunk_rows=100)) == []


def test_a_dtype_option_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "\n".join(map(str, range(1000, 1200))) + "\n", encoding="utf-8")
    packed = read_csv(path, "pack", chunk_rows=50, dtype={"a": "int32"})
    assert str(packed["a"].dtype) == "int16"


def test_the_command_plans_packed_columns_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame({"price": [n % 90 / 100 for n in range(900)]}).to_csv(path, index=False)
    result = CliRunner().invoke(offline, ["frames", str(path), "--level", "pack"])
    assert result.exit_code == 0 and "packed[float64]" in result.output
    assert "level='pack'" in result.output and "dtype={" not in result.output
