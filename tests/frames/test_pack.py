"""The level ``pack``: stronger means, every value exact, and the way back to the first types."""

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
from flask_knitperf.frames.conversions import Single
from flask_knitperf.frames.restore import unpacked
from flask_knitperf.frames.verify import differences

NAN = float("nan")
DAYS = pd.date_range("2024-01-01", periods=300)


def days(form: str = "%Y-%m-%d") -> list[str]:
    return DAYS.strftime(form).tolist()


def column(values: Any, **more: Any) -> Any:
    """Return the plan of a column of these values."""
    return plan_dataframe(pd.DataFrame({"a": values}), "pack", **more).columns[0]


def seconds(count: int, form: str = "%Y-%m-%d %H:%M:%S") -> list[str]:
    return pd.date_range("2024-01-01", periods=count, freq="7321s").strftime(form).tolist()


def noticed(plan: Any, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = plan.apply(frame)
    assert all(each.category is PlanNotice for each in caught)
    plan.verify(frame, made)
    return made, [str(each.message) for each in caught]


# -- what becomes what -------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "to", "reason"), [
    ([n % 300 / 100 for n in range(999)], "packed[float64]", "whole numbers of 1/100, 16 bits"),
    ([1 / (n % 99 + 1) for n in range(999)], "packed[float64]", "99 values, each written down once, 8"),
    ([2.0 ** -(n % 900) + n for n in range(999)], "float64", "neither few nor decimals"),
    ([1 + 2.0**-n for n in range(20)] * 9, "packed[float64]", "20 values"),
    ([n + 2.0**-12 for n in range(3000)], "packed[float64]", "single precision keeps, 32 bits"),
    ([0.0] * 900 + [1 / n for n in range(1, 99)], "packed[float64]", "for each of 98 cells"),
    ([NAN] * 900 + [0.1], "packed[float64]", "the others are one number"),
    (list(range(1950, 2020)), "packed[int64]", "whole numbers, 8 bits"),
    ([10**12, 5] * 300, "packed[int64]", "2 values, each written down once, 1 bit"),
    (list(range(-128, 128)), "int8", "fit int8"), (list(range(60_000)), "packed[int64]", "16 bits"),
    ([n * 2**40 for n in range(99)], "int64", "need int64"), ([True, False] * 9, "bool", "one byte"),
    (np.arange(99, dtype="int32"), "int8", "fit int8"),
    (np.arange(99, dtype="uint64"), "uint64", "wrap"),
    (pd.array([1, None] * 9, dtype="Int64"), "Int8", "fit int8"),
    (pd.array([0.1, None] * 9, dtype="Float64"), "Float64", "float32 does not keep"),
    (["S", "M"] * 300, "category", "2 values in 600 cells"),
])  # fmt: skip
def test_each_column_takes_what_has_the_fewest_bytes(values: Any, to: str, reason: str) -> None:
    found = column(values)
    assert found.to == to and reason in found.reason
    assert found.after.true <= found.before.true


@pytest.mark.parametrize("form", [
    "%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y",
])  # fmt: skip
def test_text_of_days_becomes_moments_and_text_again(form: str) -> None:
    frame = pd.DataFrame({"a": [*days(form), NAN]})
    plan = plan_dataframe(frame, "pack")
    assert plan.columns[0].to.startswith("datetime64[") and form in plan.columns[0].reason
    made = plan.apply(frame)
    plan.verify(frame, made)
    assert made["a"].iloc[33] == pd.Timestamp("2024-02-03")
    assert differences(frame, plan.unpack(made)) == []


@pytest.mark.parametrize("form", [
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
])  # fmt: skip
def test_text_of_seconds_becomes_moments_and_text_again(form: str) -> None:
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
def test_text_that_is_not_surely_dates_stays_text(values: list[str]) -> None:
    assert not column(values).to.startswith("datetime64")


def test_days_that_may_be_months_stay_text() -> None:
    both = pd.date_range("2024-01-01", periods=12, freq="MS").strftime("%d/%m/%Y").tolist()
    assert not column(both).to.startswith("datetime64")


def test_few_days_that_are_repeated_are_smaller_as_categories() -> None:
    assert column(days()[:50] * 90).to == "category"


def test_dates_among_other_empty_cells_stay() -> None:
    held = pd.Series([*days(), None], dtype=object)
    assert "None" in column(held).reason


def test_a_tolerance_is_used_where_codes_do_not_hold_a_column() -> None:
    frame = pd.DataFrame({"a": [0.1, 0.2] * 50, "b": [1 / n for n in range(1, 101)]})
    plan = plan_dataframe(frame, "pack", float_tolerance=1e-6)
    assert [each.to for each in plan.columns] == ["packed[float64]", "float32"]
    plan.verify(frame, plan.apply(frame))


def test_a_packed_frame_stays_as_it_is() -> None:
    made = optimize_dataframe(
        pd.DataFrame({"a": [0.1, 0.2] * 50, "b": [10**12, 5] * 50}), level="pack"
    )
    for level in ("safe", "balanced", "compact", "pack"):
        plan = plan_dataframe(made, level)  # type: ignore[arg-type]
        assert not any(each.changes for each in plan.columns)


# -- the way back ------------------------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from(["a", "b", "2024-01-01", "007"]), st.dates().map(str),
    st.datetimes().map(lambda each: each.isoformat(" ", "seconds")),
)  # fmt: skip
kinds = st.one_of(
    st.lists(st.floats(), min_size=9, max_size=9),
    st.lists(st.integers(-99, 99), min_size=9, max_size=9),
    st.lists(st.integers(0, 9999).map(lambda each: each / 100), min_size=9, max_size=9),
    st.lists(texts, min_size=9, max_size=9), st.lists(st.dates().map(str), min_size=9, max_size=9),
    st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=9, max_size=9).map(
        lambda each: pd.array(each, dtype="Int64")
    ),
    st.lists(st.one_of(texts, st.just(NAN)), min_size=9, max_size=9).map(
        lambda each: pd.Series(each, dtype=object)
    ),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(kinds, max_size=4), st.sampled_from(["balanced", "compact", "pack"]))
def test_unpacking_gives_the_first_frame(columns: list[Any], level: Any) -> None:
    frame = pd.DataFrame(dict(enumerate(columns)))
    plan = plan_dataframe(frame, level)
    back = plan.unpack(plan.apply(frame))
    assert differences(frame, back) == []
    assert list(map(str, back.dtypes)) == list(map(str, frame.dtypes))


def test_unpacking_keeps_what_was_worked_out_in_between() -> None:
    frame = pd.DataFrame(
        {"day": days(), "price": [n / 100 for n in range(300)], "n": [10**12, 5] * 150}
    )
    plan = plan_dataframe(frame, "pack")
    made = plan.apply(frame)
    made["price"] = made["price"] * 3
    made = made[made["n"] == 5].sort_values("price", ascending=False)
    made.loc[299, "day"] = pd.Timestamp("2030-01-31")
    back = plan.unpack(made)
    assert list(map(str, back.dtypes)) == list(map(str, frame.dtypes))
    assert back["day"].tolist()[:2] == ["2030-01-31", days()[297]]
    assert back["price"].tolist() == (frame["price"] * 3)[made.index].tolist()
    assert made.loc[299, "day"] == pd.Timestamp("2030-01-31")  # the given frame stays


def test_unpacking_leaves_columns_of_other_kinds_alone() -> None:
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
def test_unpacking_never_changes_a_value_that_the_first_type_does_not_hold(
    values: Any, change: Any
) -> None:
    plan = plan_dataframe(pd.DataFrame({"qty": values}), "compact")
    made = plan.apply(pd.DataFrame({"qty": values}))
    made["qty"] = change(made["qty"])
    before = made.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        back = plan.unpack(made)
    assert list(map(repr, back["qty"])) == list(map(repr, before["qty"]))
    assert all(each.category is PlanNotice and each.filename == __file__ for each in caught)
    if pd.api.types.is_integer_dtype(made["qty"]):
        assert "does not hold its values, so it stays" in str(caught[0].message)


def test_unpacking_gives_single_precision_back_only_where_it_keeps_every_value() -> None:
    single = np.dtype("float32")
    exact, other = pd.Series([0.5, NAN]), pd.Series([0.1, NAN])
    assert unpacked(exact, Single(), single).values.dtype == single
    assert unpacked(other, Single(), single).values is other


def test_unpacking_numbers_that_became_unsigned_gives_signed_ones_where_they_fit() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2]}), "compact")
    assert plan.unpack(pd.DataFrame({"a": np.array([1, 2], "uint64")}))["a"].dtype == "int64"


@pytest.mark.parametrize("ordered", [False, True])
def test_unpacking_gives_the_first_categories_and_their_order(ordered: bool) -> None:
    first = pd.Categorical(["b", "a", None] * 9, categories=["z", "b", "a"], ordered=ordered)
    frame = pd.DataFrame({"a": first})
    plan = plan_dataframe(frame, "compact")
    made = plan.apply(frame)
    assert made["a"].cat.categories.tolist() == ["b", "a"]
    for each in (made, made.assign(a=made["a"].astype(object)), made.iloc[:0]):
        back = plan.unpack(each)["a"]
        assert back.cat.categories.tolist() == ["z", "b", "a"] and back.cat.ordered == ordered
        assert back.equals(frame["a"].iloc[: len(each)])


@pytest.mark.parametrize("level", ["balanced", "compact", "pack"])
def test_unpacking_a_frame_without_rows_gives_the_first_types(level: Any) -> None:
    frame = pd.DataFrame({
        "a": [1, 2] * 200, "b": ["x", "y"] * 200, "c": [0.5, 0.25] * 200, "p": [19.99, 5.5] * 200,
        "d": [str(day.date()) for day in pd.date_range("2025-01-31", periods=400)],
        "e": pd.array([1, None] * 200, dtype="Int64"), "f": pd.Categorical(["a"] * 400, ["a", "b"]),
        "g": pd.Series([NAN, "x"] * 200, dtype=object),
    })  # fmt: skip
    plan = plan_dataframe(frame, level)
    back = plan.unpack(plan.apply(frame).iloc[:0])
    assert back.shape == (0, 8) and back.dtypes.tolist() == frame.dtypes.tolist()


def test_text_with_half_a_surrogate_pair_is_unpacked() -> None:
    frame = pd.DataFrame({"t": pd.Series(["\ud800x", "b", "b"] * 5, dtype=object)})
    plan = plan_dataframe(frame, "compact")
    made = plan.apply(frame)
    assert str(made["t"].dtype) == "category"
    assert differences(frame, plan.unpack(made)) == []


def test_what_is_unpacked_shares_no_cell_with_the_packed_frame() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1, 2]}), "compact")
    wide = pd.DataFrame({"a": [1, 2]})
    back = plan.unpack(wide)
    back.loc[0, "a"] = 9
    assert wide["a"].tolist() == [1, 2]


def test_unpacking_says_so_where_columns_are_others() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [1]}), "pack")
    with pytest.raises(FrameError, match="column 0 is 'b' and not 'a'"):
        plan.unpack(pd.DataFrame({"b": [1]}))


# -- verifying ---------------------------------------------------------------------------------------


def test_verifying_finds_another_day_and_another_number() -> None:
    frame = pd.DataFrame({"day": days(), "price": [n / 100 for n in range(300)]})
    plan = plan_dataframe(frame, "pack")
    made = plan.apply(frame)
    made.loc[7, "day"] = pd.Timestamp("2030-01-01")
    with pytest.raises(FrameError, match=r"column 0 \('day'\): 1 cells differ"):
        plan.verify(frame, made)
    made = plan.apply(frame)
    made.loc[7, "price"] = 0.08
    with pytest.raises(FrameError, match=r"column 1 \('price'\): values differ"):
        plan.verify(frame, made)


def test_verifying_tells_minus_zero_from_zero() -> None:
    before, after = pd.DataFrame({"a": [-0.0, NAN]}), pd.DataFrame({"a": [0.0, NAN]})
    assert differences(before, after) == ["column 0 ('a'): 1 cells differ"]
    assert differences(before, before.copy()) == []


# -- plans are used again ----------------------------------------------------------------------------


def test_numbers_beyond_the_plan_take_wider_codes_and_are_noticed() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [n % 9 / 10 for n in range(90)]}), "pack")
    made, said = noticed(plan, pd.DataFrame({"a": [0.1, 0.9] * 30}))
    assert str(made["a"].dtype) == "packed[float64]" and said == []
    made, [told] = noticed(plan, pd.DataFrame({"a": [n / 100 for n in range(900)]}))
    assert "values need 16 bits each, and 4 were planned" in told
    assert str(made["a"].dtype) == "packed[float64]"
    made, [told] = noticed(plan, pd.DataFrame({"a": [1 / n for n in range(1, 90)]}))
    assert "its values fit no codes, so it stays float64" in told and made["a"].dtype == np.float64


def test_cells_that_are_no_longer_rare_are_all_written_down_and_noticed() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [0.0] * 900 + [1 / 3, 1 / 7]}), "pack")
    made, [told] = noticed(plan, pd.DataFrame({"a": [n % 2 / 3 for n in range(900)]}))
    assert "too many cells differ" in told and str(made["a"].dtype) == "packed[float64]"


def test_texts_that_are_no_dates_any_more_stay_text_and_are_noticed() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": days()}), "pack")
    other = pd.DataFrame({"a": ["2025-02-30", "2025-01-01"]})
    made, [told] = noticed(plan, other)
    assert "so they stay text" in told and made["a"].dtype == other["a"].dtype
    missing = pd.DataFrame({"a": pd.Series(["2025-01-01", None], dtype=object)})
    assert "so it stays object" in noticed(plan, missing)[1][0]
    assert "so it stays" in noticed(plan, pd.DataFrame({"a": [1]}))[1][0]


def test_packed_numbers_of_another_type_are_kept_as_they_come() -> None:
    plan = plan_dataframe(pd.DataFrame({"a": [0.1, 0.2] * 50}), "pack")
    assert noticed(plan, pd.DataFrame({"a": [1, 2]}))[0]["a"].tolist() == [1, 2]
    assert "so it stays" in noticed(plan, pd.DataFrame({"a": ["x"]}))[1][0]


# -- for people --------------------------------------------------------------------------------------


def test_what_behaves_in_another_way_is_named() -> None:
    frame = pd.DataFrame(
        {"day": days(), "price": [n / 100 for n in range(300)], "n": [10**12, 5] * 150}
    )
    plan = plan_dataframe(frame, "pack")
    day, price, n = (" ".join(each.risks) for each in plan.columns)
    made = plan.apply(frame)
    with pytest.raises(AttributeError):
        made["day"].str.upper()
    assert "methods of text raise" in day
    assert made[["price", "price"]].to_numpy().dtype == object and "hold objects" in price
    assert str(made["price"].describe().dtype) == "Float64" and "`describe()` says Float64" in price
    with pytest.raises(pd.errors.MergeError):
        pd.merge_asof(made, frame, on="price")
    assert "`merge_asof`" in price
    grown = made["price"].copy()
    grown[0] = 1 / 3
    assert grown.array.nbytes == frame["price"].nbytes and "as large as it was" in price
    outer = made.merge(pd.DataFrame({"n": [7]}), on="n", how="outer")
    assert outer["n"].dtype.kind == "f" and "outer joins by it give doubles" in n
    assert "packed[float64]" in plan.report() and "packed[float64]" in plan._repr_html_()
    assert plan.as_dict()["columns"][1]["to"] == "packed[float64]"


def test_what_read_csv_cannot_read_is_left_out(tmp_path: Path) -> None:
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


def test_a_file_is_read_packed_as_in_one_piece(tmp_path: Path) -> None:
    rows = [
        f"{n / 100},{n + 10**10},{2024 + n % 3},{days()[n % 300]},{0 if n % 90 else 1.5}"
        for n in range(2000)
    ]
    path = tmp_path / "a.csv"
    path.write_text("a,b,c,d,e\n" + "\n".join(rows) + "\n", encoding="utf-8")
    made = read_csv(path, "pack", chunk_rows=300)
    assert differences(pd.read_csv(path), made) == []
    types = list(map(str, made.dtypes))
    assert types[:3] == ["packed[float64]", "packed[int64]", "packed[int64]"]
    assert types[3:] == ["category", "packed[float64]"]
    path.write_text("d\n" + "\n".join(seconds(900)) + "\n", encoding="utf-8")
    assert differences(pd.read_csv(path), read_csv(path, "pack", chunk_rows=100)) == []


def test_a_file_whose_numbers_have_a_given_type_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "\n".join(map(str, range(1000, 1200))) + "\n", encoding="utf-8")
    made = read_csv(path, "pack", chunk_rows=50, dtype={"a": "int32"})
    assert str(made["a"].dtype) == "int16"


def test_the_terminal_has_it_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame({"price": [n % 90 / 100 for n in range(900)]}).to_csv(path, index=False)
    result = CliRunner().invoke(offline, ["frames", str(path), "--level", "pack"])
    assert result.exit_code == 0 and "packed[float64]" in result.output
    assert "level='pack'" in result.output and "dtype={" not in result.output
