"""A packed column behaves as an ordinary column of the same numbers."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_knitperf.frames.bitpacking import WIDTHS, Codes, packed_bytes, sparse, width
from flask_knitperf.frames.encodings import NotInDictionaryError, PlainEncoding, encode
from flask_knitperf.frames.packed_array import PackedArray, PackedDtype

NAN = float("nan")
SPARSE = "and a position for {} exceptions"
law = settings(deadline=None)


def bits(values: Any) -> list[Any]:
    """Return numbers in a form in which only those with equal bits are equal; NaN equals NaN."""
    array = np.asarray(values)
    if array.dtype.kind != "f":
        return [(str(array.dtype), number) for number in array.tolist()]
    return ["NaN" if number != number else number.hex() for number in array.tolist()]


decimals = st.integers(-(10**6), 10**6).map(lambda cents: cents / 100)
few = st.sampled_from([0.0, -0.0, 1 / 3, 0.1 + 0.2, NAN, float("inf"), 5e-324])
doubles = st.one_of(
    *(st.lists(numbers, max_size=30) for numbers in (st.floats(), decimals, few)),
    st.lists(st.one_of(decimals, st.just(NAN)), max_size=30),
    st.lists(st.floats(width=32), max_size=30),
    st.lists(st.sampled_from([1.0, 2.0, NAN]), max_size=30),
    st.lists(st.sampled_from([NAN] * 30 + [1 / 3, 7.5]), max_size=200),
    st.lists(st.one_of(*[st.just(0.0)] * 9, st.floats()), max_size=60),
).map(lambda values: np.array(values, dtype=np.float64))
wholes = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30),
    st.lists(st.integers(2**62, 2**62 + 5), max_size=30),
    st.lists(st.integers(0, 1), max_size=30),
    st.lists(st.sampled_from([5] * 30 + [2**40, -1]), max_size=200),
    st.lists(st.sampled_from([0, 10**18]), max_size=30),
).map(lambda values: np.array(values, dtype=np.int64))
anything = st.one_of(doubles, wholes)


# -- codes -----------------------------------------------------------------------------------------


@law
@given(st.sampled_from(WIDTHS), st.lists(st.integers(0, 2**32 - 1), max_size=40), st.data())
def test_codes_of_any_width_return_their_numbers(
    width_bits: int, numbers: list[int], data: Any
) -> None:
    values = np.array([number % (1 << width_bits) for number in numbers], dtype=np.uint32)
    codes = Codes.pack(values, width_bits)
    assert codes.all().tolist() == values.tolist() and len(codes) == len(values)
    assert codes.nbytes == packed_bytes(len(values), width_bits)
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    part = codes.slice(start, stop)
    assert part.all().tolist() == values[start:stop].tolist()
    assert part.copy().all().tolist() == values[start:stop].tolist()
    places = data.draw(st.lists(st.integers(0, max(0, stop - start - 1)), max_size=9))
    if stop > start:
        assert part.take(np.array(places, dtype=np.intp)).all().tolist() == (
            values[start:stop][places].tolist()
        )
        new = [place * 7 % (1 << width_bits) for place in range(len(places))]
        part.put(np.array(places, dtype=np.intp), np.array(new, dtype=np.uint32))
        for place, number in zip(places, new, strict=True):
            values[start + place] = number
        assert codes.all().tolist() == values.tolist()  # the slice is a view


def test_width_is_the_fewest_bits_that_suffice() -> None:
    assert [width(count) for count in (0, 1, 2, 3, 4, 5, 16, 17, 256, 257, 2**16 + 1, 2**32)] == [
        1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 32, 32,
    ]  # fmt: skip
    assert width(2**32 + 1) is None


@law
@given(
    st.sampled_from(WIDTHS), st.lists(st.sampled_from([0, 0, 0, 0, 0, 1]), max_size=80), st.data()
)
def test_sparse_codes_return_their_numbers(width_bits: int, numbers: list[int], data: Any) -> None:
    values = np.array(numbers, dtype=np.uint32)
    few = sparse(Codes.pack(values, width_bits))
    if few is None:
        return
    assert few.nbytes < packed_bytes(len(values), width_bits)
    assert few.exception_count == min(numbers.count(0), numbers.count(1))
    assert few.all().tolist() == few.dense().all().tolist() == few.copy().all().tolist() == numbers
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    assert few.slice(start, stop).all().tolist() == numbers[start:stop]
    places = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9))
    assert few.take(np.array(places, dtype=np.intp)).all().tolist() == values[places].tolist()


# -- encodings -------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(anything)
def test_every_bit_is_decoded(values: Any) -> None:
    codes, encoding = encode(values)
    assert bits(encoding.decode(codes.all())) == bits(values)
    assert codes.nbytes + encoding.nbytes <= values.nbytes or isinstance(encoding, PlainEncoding)


@law
@given(anything, anything)
def test_an_encoding_encodes_its_values_and_refuses_others(one: Any, other: Any) -> None:
    _, encoding = encode(one)
    assert bits(encoding.decode(encoding.encode(one))) == bits(one)
    other = other.astype(one.dtype) if other.dtype.kind == "i" or one.dtype.kind == "f" else one
    try:
        codes = encoding.encode(other)
    except NotInDictionaryError:
        return
    assert bits(encoding.decode(codes)) == bits(other)


@pytest.mark.parametrize(("values", "name"), [
    ([n / 100 for n in range(200)], "integers in units of 1/100, 8 bits per cell"),
    ([1 / (n % 90 + 3) for n in range(900)], "dictionary of 90 values, 8 bits per cell"),
    ([1 / 3, 2 / 3, NAN, 0.1 + 0.2] * 50, "dictionary of 3 values, 2 bits per cell"),
    ([2.0**-n for n in range(100)], "numbers exact in float32, 32 bits per cell"),
    ([1 / n for n in range(1, 99)], "numbers, 64 bits per cell"),
    ([NAN] * 99, f"dictionary of 0 values, 1 bit {SPARSE.format(0)}"),
    ([0.0] * 9999 + [0.25, 0.5], f"dictionary of 3 values, 2 bits {SPARSE.format(2)}"),
    ([0.0, 1.0] * 99, "integers, 1 bit per cell"),
    ([0.0, -0.0] * 99, "dictionary of 2 values, 1 bit per cell"),
    (list(range(1950, 2020)), "integers, 8 bits per cell"),
    ([0, 10**18] * 99, "dictionary of 2 values, 1 bit per cell"),
    ([-(2**63), 2**63 - 1, 0, 1, 2], "numbers, 64 bits per cell"),
])  # fmt: skip
def test_the_encoding_with_the_fewest_bytes_is_chosen(values: list[float], name: str) -> None:
    assert PackedArray.from_numpy(np.array(values)).encoding_name == name


# -- reading and assignment ------------------------------------------------------------------------


@law
@given(anything, st.data())
def test_slices_and_selections_equal_those_of_the_numbers(values: Any, data: Any) -> None:
    array = PackedArray.from_numpy(values)
    piece = data.draw(st.slices(len(values)))
    assert bits(array[piece]) == bits(values[piece])
    places = data.draw(st.lists(st.integers(-len(values), len(values) - 1))) if len(values) else []
    assert bits(array.take(places)) == bits(values.take(np.array(places, dtype=np.intp)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    assert bits(array[mask.astype(bool)]) == bits(values[mask.astype(bool)])
    for place in range(min(3, len(values))):
        assert bits([array[place]]) == bits([values[place]])
        assert type(array[place]) is values.dtype.type
    assert array.isna().tolist() == pd.isna(values).tolist()
    assert bits(pickle.loads(pickle.dumps(array[piece]))) == bits(values[piece])


@law
@given(anything, anything, st.data())
def test_any_number_can_be_assigned_to_any_slice(values: Any, others: Any, data: Any) -> None:
    if values.dtype.kind == "i" and others.dtype.kind == "f":
        others = values[::-1]
    array, numbers = PackedArray.from_numpy(values), values.copy()
    other = array.copy()
    piece = data.draw(st.slices(len(values)))
    part, expected = array[piece], numbers[piece]
    count = min(len(expected), len(others))
    part[:count] = others[:count]
    expected[:count] = others[:count]
    assert bits(part) == bits(expected)
    if piece.step in (None, 1):
        assert bits(array) == bits(numbers)  # a slice is a view
    assert bits(other) == bits(values)  # a copy is not a view


def test_a_slice_sees_a_value_without_a_code_that_is_assigned_to_the_whole() -> None:
    array = PackedArray.from_numpy(np.array([0.5, 1.5] * 80))
    part = array[3:9]
    assert array.bits == part.bits == 1
    array[4] = 1 / 3
    assert part[1] == 1 / 3 and array.bits == part.bits == 64
    part[0] = 7.25
    assert array[3] == 7.25


def test_a_thread_that_reads_during_an_assignment_never_mixes_codes_and_encodings() -> None:
    first = [0.1, 0.2, 0.3, 10.0] * 5000
    allowed, wrong = set(first) | {1 / 3}, set()
    for _ in range(20):
        array, done = PackedArray.from_numpy(np.array(first)), threading.Event()

        def assign(array: PackedArray = array, done: threading.Event = done) -> None:
            array[7] = 1 / 3
            done.set()

        writer = threading.Thread(target=assign)
        writer.start()
        while not done.is_set():
            wrong |= {
                float(array[0]),
                *array[:40].to_numpy().tolist(),
                *array.take([1, 2]),
            } - allowed
        writer.join()
    assert wrong == set()
    array = PackedArray.from_numpy(np.array(first))
    codes, encoding = array._encoded
    array[0] = 1 / 3
    assert encoding.decode(codes.all()).tolist() == first  # a snapshot does not change


@law
@given(anything, anything)
def test_columns_with_different_encodings_concatenate(one: Any, other: Any) -> None:
    if one.dtype != other.dtype:
        return
    both = PackedArray._concat_same_type(
        [PackedArray.from_numpy(one), PackedArray.from_numpy(other)]
    )
    assert bits(both) == bits(np.concatenate([one, other]))


def test_integers_remain_exact_where_missing_rows_are_added() -> None:
    small = pd.Series(PackedArray.from_numpy(np.array([5, 6])))
    assert small.reindex([0, 1, 2]).tolist()[:2] == [5.0, 6.0]
    large = pd.Series(PackedArray.from_numpy(np.array([2**60 + 1, 2**60 + 2])))
    assert large.reindex([0, 1, 2]).tolist()[:2] == [2**60 + 1, 2**60 + 2]
    joined = large.to_frame("id").merge(pd.DataFrame({"id": [2**60 + 3]}), on="id", how="outer")
    assert joined["id"].tolist() == [2**60 + 1, 2**60 + 2, 2**60 + 3]
    filled = small.reindex([0, 1, 2], fill_value=0.5)
    assert filled.tolist() == [5.0, 6.0, 0.5]


def test_a_value_that_is_not_a_number_is_refused() -> None:
    array = PackedArray.from_numpy(np.array([1, 2]))
    for value in ("x", object(), [1, "x"]):
        with pytest.raises((TypeError, ValueError)):
            array[:] = value
    for value in (0.5, None, NAN, pd.NA):
        with pytest.raises(
            TypeError, match=r"fractions or empty cells .* \.astype\('float64'\) first"
        ):
            array[0] = value
    with pytest.raises(ValueError, match="3 values cannot be assigned to 2 cells"):
        array[:] = [1, 2, 3]
    with pytest.raises(ValueError, match="reads as float64 or int64, not as int8"):
        PackedDtype("int8")
    assert array.tolist() == [1, 2]


def test_the_error_for_an_unsupported_value_suggests_a_dtype() -> None:
    whole = pd.Series(PackedArray.from_numpy(np.array([0, 1, 2])))
    gaps = pd.Series(PackedArray.from_numpy(np.array([NAN, 1.5])))
    for assign in (
        lambda: _set(whole.to_frame("id"), 0, "id", NAN),
        lambda: _set(whole.to_frame("id"), 0, "id", 0.5),
        lambda: whole.replace(0, NAN),
    ):
        with pytest.raises(TypeError, match=r"astype\('float64'\) first"):
            assign()
    for assign in (
        lambda: whole.where(whole > 0, "x"),
        lambda: whole.replace(0, "x"),
        lambda: gaps.fillna("x"),
    ):
        with pytest.raises(
            TypeError, match=r"'x' is not a number, .* make it \.astype\(object\) first"
        ):
            assign()
    assert whole.tolist() == [0, 1, 2] and bits(gaps.array) == bits([NAN, 1.5])
    assert whole.astype("float64").replace(0, NAN).isna().tolist() == [True, False, False]
    assert whole.mask(whole == 0).isna().tolist() == [True, False, False]


# -- operations ------------------------------------------------------------------------------------


def plain() -> pd.DataFrame:
    rows = range(60)
    return pd.DataFrame({
        "k": [f"yarn {n % 4}" for n in rows],
        "f": [NAN if n % 7 == 0 else round(n * 0.37, 2) for n in rows],
        "g": [(1 / 3, 2 / 3, 5.5)[n % 3] for n in rows], "i": [n % 5 + 100_000 for n in rows],
        "j": [10**12 + n % 3 for n in rows],
    })  # fmt: skip


def packed() -> pd.DataFrame:
    frame = plain()
    return frame.assign(**{name: PackedArray.from_numpy(frame[name].to_numpy()) for name in "fgij"})


def _set(frame: pd.DataFrame, rows: Any, column: str, value: Any) -> pd.DataFrame:
    frame = frame.copy()
    frame.loc[rows, column] = value
    return frame


def _written(frame: pd.DataFrame) -> pd.DataFrame:
    file = io.BytesIO()
    frame.to_parquet(file)
    return pd.read_parquet(io.BytesIO(file.getvalue()))


OPERATIONS: dict[str, Any] = {
    "add": lambda df: df.f + df.g,
    "add whole": lambda df: df.i + df.j,
    "multiply": lambda df: df.i * df.i * df.i,
    "by zero": lambda df: df.i // 0,
    "share": lambda df: df.i / 7,
    "rest": lambda df: df.i % 7,
    "power": lambda df: 2**df.f,
    "divmod": lambda df: divmod(df.i, 7)[1],
    "bits": lambda df: df.i & 1,
    "not": lambda df: ~df.i,
    "minus": lambda df: -df.f,
    "abs": lambda df: abs(df[["f", "i"]]),
    "frame by number": lambda df: df[["f", "g", "i", "j"]] * 2,
    "frames": lambda df: df[["f", "g"]] + plain()[["f", "g"]],
    "unaligned": lambda df: df.f + df.f.iloc[5:],
    "compare": lambda df: df[df.f > 5],
    "compare all": lambda df: df[["f", "i"]] > 5,
    "between": lambda df: df.f.between(3, 5),
    "isin": lambda df: df.i.isin([100_001]),
    "equal": lambda df: df.eq(plain()),
    "query": lambda df: df.query("f > 3 and i == 100001"),
    "eval": lambda df: df.eval("f * 2 + i"),
    "sum": lambda df: df[["f", "g", "i", "j"]].sum(),
    "mean of rows": lambda df: df[["f", "g", "i", "j"]].mean(axis=1),
    "spread": lambda df: df[["f", "i"]].agg(["std", "var", "skew", "median", "min", "max"]),
    "first row": lambda df: df[["f", "i"]].idxmax(),
    "quantile": lambda df: df[["f", "i"]].quantile([0.1, 0.5]),
    "correlation": lambda df: df[["f", "g", "i"]].corr(),
    "describe": lambda df: df.describe(),
    "mode": lambda df: df.i.mode(),
    "group sum": lambda df: df.groupby("k")[["f", "g", "i", "j"]].sum(),
    "group mean": lambda df: df.groupby("k")[["f", "i"]].mean(),
    "group many": lambda df: df.groupby("k").agg(
        {"f": ["min", "std", "count", "median", "nunique", "first"], "i": ["last", "size"]}
    ),
    "group transform": lambda df: df.groupby("k")[["f", "i"]].transform("mean"),
    "group cumsum": lambda df: df.groupby("k")[["f", "i"]].cumsum(),
    "group rank": lambda df: df.groupby("k").f.rank(),
    "group quantile": lambda df: df.groupby("k").f.quantile(0.3),
    "group apply": lambda df: df.groupby("k").f.apply(lambda group: group.max()),
    "group by it": lambda df: df.groupby("g").size(),
    "group by whole": lambda df: df.groupby("i").f.sum(),
    "group by two": lambda df: df.groupby(["g", "i"]).f.sum(),
    "merge": lambda df: df.merge(plain(), on="g"),
    "merge left": lambda df: plain().merge(df, on="i"),
    "merge both": lambda df: df.merge(df, on="j"),
    "merge nothing": lambda df: (
        plain()[["k"]].drop_duplicates().assign(k="x").merge(df, on="k", how="left")
    ),
    "sort": lambda df: df.sort_values(["g", "f"]),
    "sort back": lambda df: df.sort_values("f", ascending=False, na_position="first"),
    "largest": lambda df: df.nlargest(3, "f"),
    "rank": lambda df: df.f.rank(),
    "duplicated": lambda df: df.duplicated(["g", "i"]),
    "unique": lambda df: pd.Series(np.asarray(df.g.unique())),
    "nunique": lambda df: df.nunique(),
    "counts": lambda df: df.g.value_counts(),
    "concat": lambda df: pd.concat([df, plain()], ignore_index=True),
    "concat itself": lambda df: pd.concat([df, df]),
    "concat fewer": lambda df: pd.concat([df, plain()[["k"]]], ignore_index=True),
    "fillna": lambda df: df.fillna({"f": 1234.5}),
    "fillna at most": lambda df: df.f.fillna(5, limit=2),
    "fillna at most in a frame": lambda df: df.fillna({"f": 1 / 3}, limit=1),
    "fillna at most by an array": lambda df: pd.Series(
        df.f.array.fillna(df.g.to_numpy(), limit=2)
        if isinstance(df.f.dtype, PackedDtype)
        else df.f.where(df.f.notna() | (df.f.isna().cumsum() > 2), df.g).to_numpy()
    ),
    "fillna by column": lambda df: df.f.fillna(df.g),
    "ffill": lambda df: df.ffill(),
    "interpolate": lambda df: df.f.interpolate(),
    "dropna": lambda df: df.dropna(),
    "isna": lambda df: df.isna(),
    "count": lambda df: df.count(),
    "cumsum": lambda df: df[["f", "i"]].cumsum(),
    "shift": lambda df: df.f.shift(1),
    "shift whole": lambda df: df.i.shift(1),
    "diff": lambda df: df[["f", "i"]].diff(),
    "diff far": lambda df: df.i.diff(70),
    "diff back": lambda df: df[["f", "j"]].diff(-2),
    "diff of large": lambda df: (df.i + 2**62).astype(df.i.dtype).diff(),
    "diff of large back": lambda df: (df.j * 2**22 + df.i).astype(df.i.dtype).to_frame().diff(-3),
    "less what is shifted": lambda df: df.j - df.j.shift(1),
    "rolling": lambda df: df.f.rolling(3).mean(),
    "ewm": lambda df: df.g.ewm(span=3).mean(),
    "clip": lambda df: df[["f", "i"]].clip(1, 100_001),
    "round": lambda df: df.round(1),
    "where": lambda df: df.f.where(df.f > 3),
    "where whole": lambda df: df.i.where(df.i > 100_002),
    "mask": lambda df: df.f.mask(df.f > 3, -1.5),
    "map": lambda df: df.f.map(lambda number: number * 2),
    "map to text": lambda df: df.g.map({5.5: "x"}),
    "apply rows": lambda df: df[["f", "g"]].apply(lambda row: row.f + row.g, axis=1),
    "ufunc": lambda df: np.sqrt(df.i),
    "two ufuncs": lambda df: np.add(df.f, df.g),
    "np.where": lambda df: pd.Series(np.where(df.f > 3, df.f, df.i)),
    "replace": lambda df: df.g.replace(5.5, 7.25),
    "combine first": lambda df: df.f.combine_first(df.g),
    "combine": lambda df: df.f.combine(df.g, max),
    "pivot": lambda df: df.pivot_table(index="k", columns="g", values="f", aggfunc="sum"),
    "crosstab": lambda df: pd.crosstab(df.k, df.i),
    "unstack": lambda df: df.groupby(["k", "i"]).f.first().unstack(),
    "melt": lambda df: df.melt(id_vars="k", value_vars=["f", "g"]),
    "stack": lambda df: df[["f", "g"]].stack(),
    "transpose": lambda df: df[["f", "g"]].T,
    "cut": lambda df: pd.cut(df.f, 3),
    "qcut": lambda df: pd.qcut(df.f, 3),
    "index": lambda df: df.set_index("i").loc[100_001],
    "sorted index": lambda df: df.set_index("g").sort_index(),
    "reindex": lambda df: df.reindex([1, 2, 999]),
    "array": lambda df: pd.DataFrame(df[["f", "g"]].to_numpy(dtype="float64")),
    "astype": lambda df: df.astype({"i": "float64", "f": "float32", "g": "int64"}),
    "as text": lambda df: df.f.astype(str),
    "as categories": lambda df: df.i.astype("category").astype("int64"),
    "to_datetime": lambda df: pd.to_datetime(df.j, unit="ms"),
    "numbers only": lambda df: df.select_dtypes("number"),
    "sample": lambda df: df.sample(5, random_state=1),
    "hash": pd.util.hash_pandas_object,
    "repeat": lambda df: df.f.repeat(2),
    "drop": lambda df: df.f.drop(3),
    "back to front": lambda df: df[::-1],
    "head": lambda df: df.head(3),
    "put one": lambda df: _set(df, 3, "f", 777.125),
    "put many": lambda df: _set(df, df.f > 3, "f", 0.1 + 0.2),
    "put nothing": lambda df: _set(df, 3, "g", NAN),
    "put a column": lambda df: df.assign(f=df.f + 1),
    "add a row": lambda df: _set(df[["f"]], 60, "f", 2.5),
    "pickle": lambda df: pickle.loads(pickle.dumps(df)),
    "deepcopy": copy.deepcopy,
    "resample": lambda df: (
        df.set_index(pd.date_range("2025", periods=60, freq="h"))[["f", "i"]].resample("D").sum()
    ),
    "to_csv": lambda df: df.to_csv(),
    "to_csv in a format": lambda df: df.to_csv(float_format="%.1f"),
    "to_csv as in Berlin": lambda df: df.to_csv(decimal=",", sep=";"),
    "to_csv in quotes": lambda df: df.to_csv(quoting=2, na_rep="-"),
    "to_json": lambda df: df.to_json(),
    "to_json of lines": lambda df: df.to_json(orient="records", lines=True),
    "to_dict": lambda df: repr(df.to_dict("records")),
    "to_dict of lists": lambda df: repr(df.to_dict("list")),
    "itertuples": lambda df: repr(list(df.itertuples())),
    "a list": lambda df: repr(list(df.f) + df.i.tolist()),
    "a row": lambda df: repr(df.loc[3].tolist()),
    "to_parquet": _written,
}


def unpack(result: Any, like: Any) -> Any:
    """Return a result with the dtypes of another in place of packed ones."""
    if isinstance(result, pd.DataFrame | pd.Series) and isinstance(result.index.dtype, PackedDtype):
        result = result.set_axis(result.index.astype(result.index.dtype.subtype))
    if isinstance(result, pd.DataFrame):
        columns = {n: result.iloc[:, n] for n in range(result.shape[1])}
        for n, dtype in enumerate(result.dtypes):
            if isinstance(dtype, PackedDtype):
                columns[n] = columns[n].astype(like.dtypes.iloc[n])
        return pd.DataFrame(columns).set_axis(result.columns, axis=1)
    if isinstance(result, pd.Series) and isinstance(result.dtype, PackedDtype):
        return result.astype(like.dtype)
    return result


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_returns_the_same_as_on_the_numbers(name: str) -> None:
    if name == "to_parquet":
        pytest.importorskip("pyarrow")
    expected, frame = OPERATIONS[name](plain()), packed()
    result = unpack(OPERATIONS[name](frame), expected)
    options: Any = {"check_index_type": False, "check_dtype": name != "describe"}
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(result, expected, check_column_type=False, **options)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(result, expected, **options)
    else:
        assert result == expected
    pd.testing.assert_frame_equal(unpack(frame, plain()), plain())  # not modified


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(anything, st.sampled_from(["add", "sub", "mul", "truediv", "floordiv", "mod", "lt", "eq", "ge"]),
       st.sampled_from([0, 1, -3, 0.5, NAN, 2**40]))  # fmt: skip
def test_arithmetic_equals_that_of_the_numbers(values: Any, name: str, other: Any) -> None:
    with np.errstate(all="ignore"):
        expected = getattr(pd.Series(values), name)(other)
        result = getattr(pd.Series(PackedArray.from_numpy(values)), name)(other)
    pd.testing.assert_series_equal(result, expected)


@pytest.mark.slow
def test_unpacked_numbers_are_readable_without_this_package(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    packed().astype({"f": "float64", "g": "float64", "i": "int64", "j": "int64"}).to_parquet(
        tmp_path / "a.parquet"
    )
    code = (  # without destructors: at times those of pyarrow's threads abort the process
        "import os, pandas as pd\n"
        f"print(pd.read_parquet({str(tmp_path / 'a.parquet')!r}).f.sum(), flush=True)\n"
        "os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == plain().f.sum()


def test_a_merge_of_packed_integers_with_floats_raises_and_never_matches_wrong_rows() -> None:
    whole = pd.DataFrame({"id": PackedArray.from_numpy(np.arange(20) % 7)})
    other = pd.DataFrame({"id": [1.0, 2.0], "w": [3, 4]})
    with pytest.raises(TypeError, match="data type"):
        whole.merge(other, on="id")
    merged = whole.astype("int64").merge(other, on="id")
    assert len(merged) == 6
