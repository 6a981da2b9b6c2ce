"""Keys of arrays, Series, Index and DataFrames: every cell, the schema, the index, the order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .contract import Cached, answer_or_refusal, compare, expect, expect_loads, trap

ROWS = 60_000
CELLS = (0, 1, 7, 499, 9_999, 31_001, 59_998, 59_999)  # rows in which one cell differs


def _compare_made(
    cached: Cached, function: Callable[[Any], Any], *makers: Callable[[], Any]
) -> None:
    """Compare a cached function over arguments that are made again for each call."""
    served = cached(function)
    for turn in (1, 2):
        for number, maker in enumerate(makers):
            expect(served(maker()), function(maker()), f"turn {turn}, argument {number}")


# Arrays.


@trap("keys of frames")
def array_dtype(cached: Cached) -> None:
    """Arrays of equal numbers in other dtypes, and equal bytes in another byte order, are apart."""
    import numpy as np

    def listing(numbers: Any) -> str:
        return f"{numbers.dtype} {numbers.tolist()}"

    kinds = ("i4", "i8", "u8", "f4", "f8", "?", "O", "c16", "U1", "S1", "M8[D]", "m8[s]")
    arrays = [np.array([1, 0, 1]).astype(kind) for kind in kinds]
    little = np.array([1, 256], dtype="<i4")
    compare(cached, listing, [(array,) for array in [*arrays, little, little.view(">i4")]])


@trap("keys of frames")
def array_shape(cached: Cached) -> None:
    """Arrays with the same bytes in other shapes are apart, empty ones too."""
    import numpy as np

    def listing(numbers: Any) -> str:
        return f"{numbers.shape} {numbers.tolist()}"

    shapes = ((6,), (2, 3), (3, 2), (1, 6), (6, 1), (1, 2, 3))
    arrays = [np.arange(6).reshape(shape) for shape in shapes]
    empty = [np.empty(shape) for shape in ((0,), (0, 3), (3, 0))]
    compare(cached, listing, [(array,) for array in [*arrays, *empty, np.array(1), np.array([1])]])


@trap("keys of frames")
def array_order(cached: Cached) -> None:
    """Arrays whose memory holds the same bytes in C and in Fortran order are apart."""
    import numpy as np

    def listing(numbers: Any) -> str:
        return str(numbers.tolist())

    square = np.arange(9).reshape(3, 3)
    arrays = [
        square,
        square.T,
        np.asfortranarray(square),
        np.asfortranarray(square.T),
        square[::-1],
    ]
    compare(cached, listing, [(array,) for array in arrays])


@trap("keys of frames")
def array_views(cached: Cached) -> None:
    """Views of one buffer are apart by what they show."""
    import numpy as np

    def listing(numbers: Any) -> str:
        return str(numbers.tolist())

    base = np.arange(10)
    views = [
        base,
        base[:5],
        base[5:],
        base[::2],
        base[::-1],
        base[1::2],
        np.broadcast_to(base[1], 5),
    ]
    compare(cached, listing, [(view,) for view in views])


@trap("keys of frames")
def array_one_cell(cached: Cached) -> None:
    """Arrays of 60,000 numbers that differ in one cell are apart, wherever the cell is."""
    import numpy as np

    def total(numbers: Any) -> float:
        return float(numbers.sum())

    served = cached(total)
    plain = np.arange(float(ROWS))
    expect(served(plain), total(plain), "the first array")
    for cell in CELLS:
        other = plain.copy()
        other[cell] += 0.5
        expect(served(other), total(other), f"cell {cell}")


@trap("keys of frames")
def array_of_objects(cached: Cached) -> None:
    """Arrays of objects are apart by what the cells hold now, not by their addresses."""
    import numpy as np

    def listing(cells: Any) -> str:
        return repr(cells.tolist())

    def array(*cells: Any) -> Any:
        result = np.empty(len(cells), dtype=object)
        result[:] = cells
        return result

    compare(
        cached,
        listing,
        [(array(1, "a"),), (array(True, "a"),), (array(1.0, "a"),), (array("1", "a"),)],
    )
    served = cached(listing)
    lists = array([1], [2])
    expect(served(lists), "[[1], [2]]", "lists in cells")
    lists[0].append(3)
    expect(served(lists), "[[1, 3], [2]]", "a list in a cell has grown")


@trap("keys of frames")
def array_signs_and_missing(cached: Cached) -> None:
    """0.0 and -0.0 in arrays are apart, and so are NaT of two units."""
    import numpy as np

    def signs(numbers: Any) -> str:
        return str(np.signbit(numbers).tolist())

    def dtype(times: Any) -> str:
        return str(times.dtype)

    compare(cached, signs, [(np.array([0.0, -0.0]),), (np.array([-0.0, 0.0]),), (np.zeros(2),)])
    compare(cached, dtype, [(np.array(["NaT"], dtype=f"M8[{unit}]"),) for unit in ("s", "ns", "D")])


@trap("keys of frames")
def array_fields_and_masks(cached: Cached) -> None:
    """Structured arrays by the names of fields, masked arrays by mask, matrices by class."""
    import numpy as np

    def product(cells: Any) -> str:
        return f"{type(cells).__name__} {cells.dtype.names} {cells.tolist()}"

    cells = [
        np.array([(1, 2)], dtype=[("sku", "i8"), ("kg", "i8")]),
        np.array([(1, 2)], dtype=[("kg", "i8"), ("sku", "i8")]),
        np.array([[1, 2]]),
        np.array([[1, 2]]).view(np.matrix),
        np.ma.array([1, 2], mask=[0, 1]),
        np.ma.array([1, 2], mask=[1, 0]),
        np.array([1, 2]),
    ]
    served = cached(product)
    for _ in range(2):
        for array in cells:
            answer_or_refusal(served, "cells", product(array), array)


@trap("keys of frames")
def array_changed_after_the_call(cached: Cached) -> None:
    """An array that is written to after the call, through itself or its base, is another key."""
    import numpy as np

    def total(numbers: Any) -> int:
        return int(numbers.sum())

    served = cached(total)
    base = np.arange(20_000)
    view = base[10:]
    expected = total(view)
    expect(served(view), expected, "first call")
    view[0] += 1
    expect(served(view), expected + 1, "after a write")
    base[11] += 1
    expect(served(view), expected + 2, "after a write to the base")
    expect(served(np.arange(20_000)[10:]), expected, "the old content")


@trap("keys of frames")
def array_with_a_unit(cached: Cached) -> None:
    """Arrays of a class with an attribute, such as a unit, are apart by it, or refused."""
    import numpy as np

    class Quantity(np.ndarray):
        unit = ""

    def text(quantity: Any) -> str:
        return f"{quantity.tolist()} {quantity.unit}"

    served = cached(text)
    for unit in ("kg", "lb", "kg"):
        quantity = np.array([1.0, 2.0]).view(Quantity)
        quantity.unit = unit
        answer_or_refusal(served, "quantity", text(quantity), quantity)


# Series and Index.


@trap("keys of frames")
def series_one_cell(cached: Cached) -> None:
    """Series of 60,000 numbers or texts that differ in one cell are apart."""
    import numpy as np
    import pandas as pd

    def checksum(column: Any) -> int:
        return int(pd.util.hash_pandas_object(column).sum() % 1_000_003)

    served = cached(checksum)
    for plain in (pd.Series(np.arange(ROWS)), pd.Series([f"yarn {n % 500}" for n in range(ROWS)])):
        expect(served(plain), checksum(plain), "the first Series")
        for cell in CELLS:
            other = plain.copy()
            other.iloc[cell] = plain.iloc[cell - 1]
            expect(served(other), checksum(other), f"{plain.dtype}, cell {cell}")


@trap("keys of frames")
def series_name_and_index(cached: Cached) -> None:
    """Series with equal cells are apart by name, by type of the name, by index and by its name."""
    import pandas as pd

    def text(column: Any) -> str:
        return f"{column.name!r} {list(column.index)} {column.index.name} {column.tolist()}"

    column = pd.Series([1, 2], name="kg")
    others = [column.rename("lb"), column.rename(None), column.rename("1"), column.rename(1)]
    others += [
        pd.Series([1, 2], index=index, name="kg") for index in ([1, 2], ["a", "b"], [0.5, 1])
    ]
    others.append(column.rename_axis("row"))
    compare(cached, text, [(item,) for item in [column, *others]])


@trap("keys of frames")
def series_index_and_frame(cached: Cached) -> None:
    """An array, a Series, an Index, a list and a frame of the same numbers are apart."""
    import numpy as np
    import pandas as pd

    def kind(numbers: Any) -> str:
        return type(numbers).__name__

    numbers = [1, 2]
    compare(
        cached,
        kind,
        [(np.array(numbers),), (pd.Series(numbers),), (pd.Index(numbers),), (numbers,),
         (pd.Series(numbers).to_frame(),), (pd.array(numbers),), (tuple(numbers),)],
    )  # fmt: skip


@trap("keys of frames")
def index_types(cached: Cached) -> None:
    """Indexes are apart by dtype, name, frequency, zone and unit."""
    import pandas as pd

    def text(index: Any) -> str:
        return f"{index.dtype} {index.name} {getattr(index, 'freqstr', None)} {list(index)}"

    days = pd.date_range("2024-03-01", periods=3, freq="D")
    indexes = [
        pd.Index([1, 2]), pd.Index([1.0, 2.0]), pd.Index(["1", "2"]), pd.Index([1, 2], name="row"),
        days, pd.DatetimeIndex(list(days)), days.tz_localize("UTC"),
        days.tz_localize("Europe/Berlin"), days.as_unit("s"), days.as_unit("ns"),
        days.to_period("D"), pd.Index(list(days.astype(str))),
    ]  # fmt: skip
    compare(cached, text, [(index,) for index in indexes])


@trap("keys of frames")
def index_of_tuples_and_levels(cached: Cached) -> None:
    """A MultiIndex is apart from an Index of its tuples, and by names and order of levels."""
    import pandas as pd

    def text(index: Any) -> str:
        levels = [list(level) for level in getattr(index, "levels", ())]
        return f"{index.nlevels} {list(index.names)} {list(index)} {levels}"

    pairs = [("a", 1), ("b", 2)]
    levels = pd.MultiIndex.from_tuples(pairs)
    indexes = [levels, pd.Index(pairs, tupleize_cols=False), levels.set_names(["sku", "row"]),
               levels.swaplevel(), levels.set_names(["row", "sku"]),
               pd.MultiIndex.from_tuples([*pairs, ("c", 3)])[:2]]  # fmt: skip
    compare(cached, text, [(index,) for index in indexes])


# DataFrames.


def _stock() -> Any:
    import numpy as np
    import pandas as pd

    rows = np.arange(ROWS)
    return pd.DataFrame({
        "sku": [f"yarn {n % 700}" for n in range(ROWS)],
        "kg": rows * 0.25,
        "pieces": rows % 13,
        "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rows % 365, unit="D"),
        "hall": pd.Categorical.from_codes(rows % 3, ["north", "south", "loft"]),
        "sold": rows % 2 == 0,
    })  # fmt: skip


@trap("keys of frames")
def frame_one_number(cached: Cached) -> None:
    """Frames of 60,000 rows that differ in one number are apart, wherever the cell is."""

    def total(stock: Any) -> float:
        return float(stock["kg"].sum())

    served = cached(total)
    stock = _stock()
    expect(served(stock), total(stock), "the first frame")
    for cell in CELLS:
        other = stock.copy()
        other.loc[cell, "kg"] += 0.5
        expect(served(other), total(other), f"row {cell}")


@trap("keys of frames")
def frame_one_cell_of_each_type(cached: Cached) -> None:
    """Frames of 60,000 rows that differ in one cell of any column are apart."""
    import pandas as pd

    def row(stock: Any) -> str:
        return str(stock.iloc[31_001].tolist())

    served = cached(row)
    stock = _stock()
    expect(served(stock), row(stock), "the first frame")
    values = {
        "sku": "yarn ?",
        "pieces": 99,
        "day": pd.Timestamp("2031-01-01"),
        "sold": None,
        "hall": None,
    }
    for column, value in values.items():
        other = stock.copy()
        other[column] = other[column].astype(object) if column == "sold" else other[column]
        other.loc[31_001, column] = value
        expect(served(other), row(other), f"column {column}")


@trap("keys of frames")
def frame_rows_in_another_order(cached: Cached) -> None:
    """Frames with the same rows in another order are apart, with and without the index."""

    def first(stock: Any) -> str:
        return str(stock.iloc[0].tolist())

    stock = _stock()
    turned = stock.iloc[::-1]
    compare(cached, first, [(stock,), (turned,), (turned.reset_index(drop=True),)])


@trap("keys of frames")
def frame_dtype(cached: Cached) -> None:
    """Frames with equal cells of other dtypes are apart."""
    import pandas as pd

    def dtypes(stock: Any) -> str:
        return f"{stock.dtypes.tolist()} {stock['kg'].tolist()}"

    kinds = ("int64", "int32", "uint8", "float64", "float32", "Int64", "Float64", "object", "str",
             "string", "category", "complex128", "bool")  # fmt: skip
    compare(cached, dtypes, [(pd.DataFrame({"kg": [1, 0]}).astype(kind),) for kind in kinds])


@trap("keys of frames")
def frame_text_dtypes(cached: Cached) -> None:
    """Equal text as object, string and category is three keys."""
    import pandas as pd

    def dtypes(stock: Any) -> str:
        return str(stock["sku"].dtype)

    kinds = ("object", "string", "category", "str")
    compare(cached, dtypes, [(pd.DataFrame({"sku": ["a", "b"]}).astype(kind),) for kind in kinds])


@trap("keys of frames")
def frame_index(cached: Cached) -> None:
    """Frames with equal cells and another index are apart, by labels, name and frequency."""
    import pandas as pd

    def text(stock: Any) -> str:
        index = stock.index
        return f"{list(index)} {index.name} {index.dtype} {getattr(index, 'freqstr', None)}"

    days = pd.date_range("2024-03-01", periods=2, freq="D")
    indexes = [pd.RangeIndex(2), pd.Index([1, 2]), pd.Index([0.0, 1.0]), pd.Index(["0", "1"]),
               pd.RangeIndex(2, name="row"), days, pd.DatetimeIndex(list(days))]  # fmt: skip
    compare(cached, text, [(pd.DataFrame({"kg": [1, 2]}, index=index),) for index in indexes])


@trap("keys of frames")
def frame_column_names(cached: Cached) -> None:
    """Frames with equal cells are apart by names of columns, types of names and the axis' name."""
    import pandas as pd

    def names(stock: Any) -> str:
        return f"{list(stock.columns)} {stock.columns.names} {stock.to_numpy().tolist()}"

    def frame(columns: Any) -> Any:
        return pd.DataFrame([[1, 2], [3, 4]], columns=columns)

    columns = [
        ["a", "b"],
        ["b", "a"],
        ["a", "c"],
        ["a", "a"],
        ["1", "2"],
        [1, 2],
        [1.0, 2.0],
        [True, False],
    ]
    columns += [pd.Index(["a", "b"], name="field"), pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])]
    columns += [pd.Index([("a", 1), ("b", 2)], tupleize_cols=False)]
    compare(cached, names, [(frame(labels),) for labels in columns])


@trap("keys of frames")
def frame_column_order(cached: Cached) -> None:
    """Frames with the same columns in another order are apart, with swapped cells too."""
    import pandas as pd

    def first(stock: Any) -> str:
        return f"{stock.columns[0]} {stock.iloc[:, 0].tolist()}"

    stock = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    swapped = pd.DataFrame({"a": [3, 4], "b": [1, 2]})
    compare(cached, first, [(stock,), (stock[["b", "a"]],), (swapped,), (swapped[["b", "a"]],)])


@trap("keys of frames")
def frame_attrs_and_flags(cached: Cached) -> None:
    """Frames that differ in attrs or flags only are apart: a function can read both."""
    import pandas as pd

    def notes(stock: Any) -> str:
        return f"{stock.attrs} {stock.flags.allows_duplicate_labels}"

    def frame(**attrs: Any) -> Any:
        result = pd.DataFrame({"kg": [1, 2]})
        result.attrs.update(attrs)
        return result

    strict = frame().set_flags(allows_duplicate_labels=False)
    compare(cached, notes, [(frame(),), (frame(unit="kg"),), (frame(unit="lb"),), (strict,)])


@trap("keys of frames")
def frame_of_a_class_with_metadata(cached: Cached) -> None:
    """Frames of a subclass are apart from plain ones, and by its metadata, or refused."""
    import pandas as pd

    class Stock(pd.DataFrame):
        _metadata: list[str] = ["unit"]  # noqa: RUF012 - as pandas documents it
        unit = ""

        @property
        def _constructor(self) -> Any:
            return Stock

    def text(stock: Any) -> str:
        return f"{type(stock).__name__} {getattr(stock, 'unit', None)} {stock['kg'].tolist()}"

    served = cached(text)
    for unit in ("kg", "lb", "kg"):
        stock = Stock({"kg": [1, 2]})
        stock.unit = unit
        answer_or_refusal(served, "stock", text(stock), stock)
        plain = pd.DataFrame({"kg": [1, 2]})
        answer_or_refusal(served, "stock", text(plain), plain)


@trap("keys of frames")
def category_order(cached: Cached) -> None:
    """Equal categorical cells are apart by order, use and number of the categories."""
    import pandas as pd

    def largest(stock: Any) -> str:
        sizes = stock["size"].sort_values()
        return f"{sizes.tolist()} {stock['size'].cat.ordered} {list(stock['size'].cat.categories)}"

    cells = ["S", "L", "S"]
    kinds = [pd.CategoricalDtype(categories, ordered) for categories in
             (["S", "L"], ["L", "S"], ["S", "M", "L"]) for ordered in (True, False)]  # fmt: skip
    compare(
        cached,
        largest,
        [(pd.DataFrame({"size": pd.Categorical(cells, dtype=kind)}),) for kind in kinds],
    )


@trap("keys of frames")
def frame_object_cells(cached: Cached) -> None:
    """Frames with objects in cells are apart by types and content of the cells."""
    import pandas as pd

    def cells(stock: Any) -> str:
        return repr(stock["cell"].tolist())

    def frame(*values: Any) -> Any:
        return pd.DataFrame({"cell": pd.Series(values, dtype=object)})

    values = [
        (1, 0),
        (True, 0),
        (1.0, 0),
        ("1", 0),
        ([1], 0),
        ((1,), 0),
        ({"a": 1}, 0),
        ({"a": True}, 0),
    ]
    compare(cached, cells, [(frame(*pair),) for pair in values])
    served = cached(cells)
    lists = frame([1], [2])
    expect(served(lists), "[[1], [2]]", "lists in cells")
    lists.loc[0, "cell"].append(3)
    expect(served(lists), "[[1, 3], [2]]", "a list in a cell has grown")


@trap("keys of frames")
def frame_missing_cells(cached: Cached) -> None:
    """None, NaN, NaT and NA in object cells are apart, and 0.0 from -0.0."""
    import numpy as np
    import pandas as pd

    def cells(stock: Any) -> str:
        return " ".join(f"{type(cell).__name__} {cell}" for cell in stock["cell"])

    def frame(value: Any, dtype: Any = object) -> Any:
        return pd.DataFrame(
            {"cell": pd.Series([value, "a"] if dtype is object else [value], dtype=dtype)}
        )

    values = [None, np.nan, pd.NaT, pd.NA, Ellipsis, "nan", "None", ""]
    frames = [*map(frame, values), frame(0.0, "f8"), frame(-0.0, "f8"), frame(np.nan, "f8")]
    compare(cached, cells, [(item,) for item in frames])


@trap("keys of frames")
def empty_frames(cached: Cached) -> None:
    """Frames without cells are apart by columns, dtypes and index."""
    import pandas as pd

    def text(stock: Any) -> str:
        return f"{list(stock.columns)} {stock.dtypes.tolist()} {list(stock.index)} {stock.shape}"

    frames = [pd.DataFrame(), pd.DataFrame(columns=["a"]), pd.DataFrame(columns=["b"]),
              pd.DataFrame({"a": pd.Series(dtype="int64")}), pd.DataFrame({"a": pd.Series(dtype="f8")}),
              pd.DataFrame(index=[1, 2]), pd.DataFrame(index=[1, 3])]  # fmt: skip
    compare(cached, text, [(frame,) for frame in frames])


@trap("keys of frames")
def frame_zones_and_units(cached: Cached) -> None:
    """Times of one instant in two zones, and in two units, are apart."""
    import pandas as pd

    def text(stock: Any) -> str:
        return f"{stock['at'].dt.hour.tolist()} {stock['at'].dtype}"

    utc = pd.Series(pd.to_datetime(["2024-03-01T12:00Z"]))
    columns = [utc, utc.dt.tz_convert("Europe/Berlin"), utc.dt.tz_convert("Asia/Tokyo"),
               utc.dt.tz_localize(None), utc.dt.as_unit("s"), utc.dt.as_unit("ns")]  # fmt: skip
    compare(cached, text, [(pd.DataFrame({"at": column}),) for column in columns])


@trap("keys of frames")
def frames_within_containers(cached: Cached) -> None:
    """Frames in a dict, a tuple or a list are keys by their cells."""
    import pandas as pd

    def total(sheets: Any) -> int:
        frames = sheets.values() if isinstance(sheets, dict) else sheets
        return sum(int(frame["kg"].sum()) for frame in frames)

    def stock(kg: int) -> Any:
        return pd.DataFrame({"kg": [0] * 20_000 + [kg]})

    _compare_made(
        cached,
        total,
        lambda: {"a": stock(1)},
        lambda: {"a": stock(2)},
        lambda: (stock(3), stock(1)),
        lambda: [stock(3), stock(2)],
        lambda: {"a": stock(0), "b": stock(9)},
    )


@trap("keys of frames")
def frame_changed_after_the_call(cached: Cached) -> None:
    """A frame that is written to after the call is another key, and the old content keeps its answer."""
    import pandas as pd

    def total(stock: Any) -> str:
        return f"{float(stock.iloc[:, 0].sum())} {list(stock.columns)} {list(stock.index[:2])}"

    served = cached(total)
    stock = pd.DataFrame({"kg": [1.0] * 20_000})
    fresh = stock.copy()
    expect(served(stock), total(stock), "first call")
    changes: list[Callable[[Any], Any]] = [
        lambda s: s.__setitem__("kg", s["kg"] + 1),
        lambda s: s.loc.__setitem__((5, "kg"), 7.0),
        lambda s: s.iloc.__setitem__((6, 0), 8.0),
        lambda s: s.insert(0, "lb", 2.0),
        lambda s: s.drop(columns="lb", inplace=True),
        lambda s: setattr(s, "columns", ["weight"]),
        lambda s: setattr(s, "index", range(1, 20_001)),
        lambda s: s.sort_index(ascending=False, inplace=True),
    ]
    for number, change in enumerate(changes):
        change(stock)
        expect(served(stock), total(stock), f"after change {number}")
    expect(served(fresh), total(fresh), "the old content")


@trap("keys of frames")
def frame_over_an_array_that_changes(cached: Cached) -> None:
    """A frame that shares memory with an array is another key after a write to the array."""
    import numpy as np
    import pandas as pd

    def total(stock: Any) -> float:
        return float(stock["kg"].sum())

    served = cached(total)
    array = np.ones((20_000, 1))
    stock = pd.DataFrame(array, columns=["kg"], copy=False)
    expect(served(stock), total(stock), "first call")
    array[17, 0] = 5.0
    expect(served(stock), total(stock), "after a write to the array")


@trap("keys of frames")
def frame_from_the_cache_is_recognised_only_unchanged(cached: Cached) -> None:
    """A frame that the cache served, then changed by its caller, is keyed by what it holds now."""
    import pandas as pd

    def load(rows: int) -> Any:
        return pd.DataFrame({"kg": [1.0] * rows, "lb": [2.0] * rows, "sku": ["a"] * rows})

    def text(stock: Any) -> str:
        cells = [stock[name].tolist()[:9] for name in stock.columns]
        return f"{cells} {list(stock.columns)} {list(stock.index[:4])} {stock.index.name} {stock.attrs}"

    served_load, served_text = cached(load), cached(text)
    changes: list[Callable[[Any], Any]] = [
        lambda s: s.__setitem__("kg", 3.0),
        lambda s: s.loc.__setitem__((1, "kg"), 7.0),
        lambda s: s.iloc.__setitem__((2, 0), 8.0),
        lambda s: s.at.__setitem__((3, "kg"), 9.0),
        lambda s: s.iat.__setitem__((4, 0), 10.0),
        lambda s: s.insert(0, "new", 2.0),
        lambda s: s.drop(columns="lb", inplace=True),
        lambda s: s.rename(columns={"lb": "pounds"}, inplace=True),
        lambda s: setattr(s, "columns", ["lb", "kg", "sku"]),
        lambda s: setattr(s, "index", range(1, len(s) + 1)),
        lambda s: setattr(s.index, "name", "row"),
        lambda s: s.attrs.update(unit="kg"),
        lambda s: s.sort_index(ascending=False, inplace=True),
        lambda s: s.update(pd.DataFrame({"kg": [5.0]})),
        lambda s: s.where(s["kg"] > 1.5, inplace=True),
        lambda s: s.eval("kg = kg + lb", inplace=True),
        lambda s: s.pop("sku"),
        lambda s: s.replace({"a": "b"}, inplace=True),
    ]
    for rows in (5, 20_000):
        for number, change in enumerate(changes):
            stock = served_load(rows)
            expect(served_text(stock), text(load(rows)), f"{rows} rows, before change {number}")
            change(stock)
            expect(served_text(stock), text(stock.copy()), f"{rows} rows, after change {number}")


@trap("keys of frames", counts_loads=True)
def equal_frames_are_one_key(cached: Cached) -> None:
    """Frames with equal content, made again, are one key; so is one that the cache served."""
    loads: list[int] = []

    def total(stock: Any) -> float:
        loads.append(1)
        return float(stock["kg"].sum())

    def load() -> Any:
        return _stock()

    served, served_load = cached(total), cached(load)
    expected = float(_stock()["kg"].sum())
    for _ in range(2):
        expect(served(_stock()), expected, "a frame made again")
        expect(served(served_load()), expected, "a frame from the cache")
    expect_loads(loads, 1)
