"""Idioms on the arrays below a table.

Each function gets a table and may change it; its result, or its error, must be the same on a fresh
table and on one from a cache. The docstring states the right behaviour.

Two kinds need care. In the kind `array`, a bare array that was taken from a frame meets a later write.
On pandas 3 that write is done in place while no other frame shares the column, so that the array
changes too; a frame that shares its columns with a cached one copies first, and the array stays.
In the kind `force` the write goes past the protection of pandas 3: `.array` and the values of
extension types are not read-only there, `.base` is the array below, and a writeable flag can be set,
as the guide of pandas itself describes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .pandas_harness import attempt, idiom, writes

Frame = pd.DataFrame
Series = pd.Series


# Arrays taken from a frame, and written.


@idiom("frame")
def write_into_values(frame: Frame) -> object:
    """`.values` of a frame: a view or a copy, writable or not, as ever."""
    error = attempt(frame.values.__setitem__, (0, 0), 9)
    return error, frame


@idiom("frame")
def write_into_to_numpy(frame: Frame) -> object:
    """`to_numpy()` of a frame, written row by row."""
    values = frame.to_numpy()
    return writes(values, values[-1]), frame, values


@idiom("frame")
def write_into_a_numpy_copy(frame: Frame) -> object:
    """`to_numpy(copy=True)` is writable and separate."""
    values = frame.to_numpy(copy=True)
    values[:, 0] = values[0, -1]
    return values, frame


@idiom("lines", "floats")
def write_into_column_values(frame: Frame) -> object:
    """`.values` of a column of floats."""
    return writes(frame["kg"].values, 9.0), frame


@idiom()
def write_into_asarray(frame: Frame) -> object:
    """`np.asarray` of columns of each dtype."""
    errors = [
        writes(np.asarray(frame["kg"]), 9.0),
        writes(np.asarray(frame["order"]), 9),
        writes(np.asarray(frame["yarn"]), "Z"),
        writes(np.asarray(frame["note"]), "Z"),
        writes(np.asarray(frame["due"]), np.datetime64("2030-01-01")),
        writes(np.asarray(frame["paid"]), True),
        writes(np.asarray(frame["pieces"]), 5),
    ]
    return errors, frame


@idiom()
def write_into_column_to_numpy(frame: Frame) -> object:
    """`to_numpy` of object, masked and time columns."""
    errors = [
        writes(frame["note"].to_numpy(), "Z"),
        writes(frame["pieces"].to_numpy(dtype="float64", na_value=np.nan), 5),
        writes(frame["checked"].to_numpy(), False),
        writes(frame["shipped"].to_numpy(), None),
        writes(frame["grade"].to_numpy(), "Z"),
    ]
    return errors, frame


@idiom("lines", "floats")
def ufunc_with_out(frame: Frame) -> object:
    """A ufunc that writes its result into the column's array."""
    kg = frame["kg"].to_numpy()
    return attempt(lambda: np.multiply(kg, 1000.0, out=kg)), frame


@idiom("lines", "floats")
def ufunc_with_out_of_a_series(frame: Frame) -> object:
    """A ufunc whose `out` is the series."""
    kg = frame["kg"]
    return attempt(lambda: np.abs(kg, out=kg)), frame


@idiom("floats", "sparse")
def ufunc_with_out_of_the_frame(frame: Frame) -> object:
    """A ufunc whose `out` is the frame."""
    return attempt(lambda: np.add(frame, 1.0, out=frame)), frame


@idiom("lines", "floats")
def sort_the_array(frame: Frame) -> object:
    """`ndarray.sort` in place on the column's array."""
    return attempt(frame["kg"].to_numpy().sort), frame


@idiom("lines", "floats")
def fill_and_put(frame: Frame) -> object:
    """`fill`, `np.put`, `np.place` and `np.copyto` on the array."""
    kg = frame["kg"].to_numpy()
    errors = [
        attempt(np.put, kg, [0], [4.0]),
        attempt(np.place, kg, kg > 0, [1.0]),
        attempt(np.copyto, kg, 2.0),
        attempt(kg.fill, 3.0),
    ]
    return errors, frame


@idiom("lines", "floats")
def nan_to_num_in_place(frame: Frame) -> object:
    """`np.nan_to_num(copy=False)`, as numerical code does before a model."""
    return attempt(lambda: np.nan_to_num(frame["kg"].to_numpy(), copy=False)), frame


@idiom("frame")
def flags_of_arrays(frame: Frame) -> object:
    """The writeable flags of arrays are those of a fresh frame."""
    flags = frame.to_numpy().flags
    columns = [np.asarray(frame.iloc[:, place]).flags.writeable for place in range(frame.shape[1])]
    return flags.writeable, columns


@idiom("lines", "floats")
def forbidwrites(frame: Frame) -> object:
    """An array that the caller makes read-only does not stop the next one."""
    kg = frame["kg"].to_numpy()
    kg.setflags(write=False)
    frame.loc[frame.index[:1], "kg"] = 6.0
    return writes(frame["price"].to_numpy(), 1.0), frame


@idiom("floats")
def write_a_reshaped_view(frame: Frame) -> object:
    """Reshaped and transposed views of the array."""
    values = frame.to_numpy()
    return writes(values.reshape(-1), 3.0), writes(values.T[1], 4.0), frame


@idiom("lines", "floats")
def memory_view(frame: Frame) -> object:
    """A memoryview of the array, read-only or not."""
    view = memoryview(frame["kg"].to_numpy())
    return view.readonly, writes(view, 8.0), frame


# Arrays taken from a frame before the frame is written.


@idiom("lines", "floats", kind="array")
def array_before_loc(frame: Frame) -> object:
    """An array taken before a write with `loc`."""
    before = frame["kg"].to_numpy()
    frame.loc[frame.index[:2], "kg"] = 9.0
    return before, frame


@idiom("frame", kind="array")
def values_before_iloc(frame: Frame) -> object:
    """The values of the frame taken before a write with `iloc`."""
    before = frame.to_numpy()
    frame.iloc[0, 0] = frame.iloc[-1, 0]
    return before, frame


@idiom("lines", kind="array")
def arrays_of_all_dtypes_beforewrites(frame: Frame) -> object:
    """Arrays of columns of each dtype, taken before the first row is overwritten by the last."""
    before = [np.asarray(frame[name]) for name in frame.columns]
    for name in frame.columns:
        frame.loc[frame.index[0], name] = frame.loc[frame.index[-1], name]
    return before, frame


@idiom("lines", "floats", kind="array")
def array_before_in_place_methods(frame: Frame) -> object:
    """An array taken before in-place methods of the frame."""
    before = frame["kg"].to_numpy()
    frame.fillna({"kg": 0.5}, inplace=True)
    frame.replace({"kg": {0.5: 0.75}}, inplace=True)
    return before, frame


@idiom("lines", kind="array")
def extension_array_before_loc(frame: Frame) -> object:
    """`.array` of masked and categorical columns, taken before a write."""
    before = frame["pieces"].array, frame["grade"].array, frame["memo"].array
    frame.loc[frame.index[:1], ["pieces", "grade", "memo"]] = [8, "Z", "new"]
    return before, frame


@idiom("kilos", "pieces", "grades", "days", "text", kind="array")
def array_of_a_series_before_a_write(series: Series) -> object:
    """The array of a series taken before a write with `iloc`."""
    before = np.asarray(series), series.array
    series.iloc[0] = series.iloc[1]
    return before, series


@idiom("lines", "floats", kind="array")
def difference_to_before(frame: Frame) -> object:
    """A correction is compared with the array from before it."""
    before = frame["price"].values
    frame.loc[frame["kg"] > 0, "price"] *= 2
    return frame["price"].to_numpy() - before


@idiom("lines", "floats", kind="array")
def array_before_augmented_assignment(frame: Frame) -> object:
    """An array taken before `+=` on its column."""
    before = frame["kg"].to_numpy()
    frame["kg"] += 1
    return before, frame


# Writes that go past the protection.


@idiom("lines", "floats", kind="force")
def set_the_writeable_flag(frame: Frame) -> object:
    """A view that is made writable again, as in the guide of pandas, writes the caller's frame."""
    kg = frame["kg"].to_numpy()
    kg.flags.writeable = True
    kg[:1] = 9.0
    return frame


@idiom("lines", kind="force")
def set_flags_of_every_column(frame: Frame) -> object:
    """`setflags(write=True)` on the arrays of all columns."""
    errors = []
    for name in frame.columns:
        values = np.asarray(frame[name])
        errors.append(attempt(lambda values=values: values.setflags(write=True)))
        errors.append(attempt(lambda values=values: values.__setitem__(0, values[-1])))
    return errors, frame


@idiom("floats", kind="force")
def write_the_base(frame: Frame) -> object:
    """The base of a read-only view is the array below."""
    values = frame["kg"].to_numpy()
    return attempt(lambda: values.base.fill(2.5)), frame


@idiom("lines", "floats", "sparse", kind="force")
def write_the_array_of_a_column(frame: Frame) -> object:
    """`.array` of a column of floats writes through, or not."""
    return writes(frame["kg"].array, 9.0), frame


@idiom("lines", kind="force")
def write_extension_arrays(frame: Frame) -> object:
    """`.array` of categorical, masked, text and time columns."""
    errors = [
        writes(frame["grade"].array, "Z"),
        writes(frame["pieces"].array, 77),
        writes(frame["checked"].array, False),
        writes(frame["memo"].array, "Z"),
        writes(frame["yarn"].array, "Z"),
        writes(frame["due"].array, pd.Timestamp("2030-01-01")),
        writes(frame["shipped"].array, pd.Timestamp("2030-01-01", tz="UTC")),
    ]
    return errors, frame


@idiom("lines", kind="force")
def write_extension_values(frame: Frame) -> object:
    """`.values` of categorical, masked and text columns."""
    errors = [
        writes(frame["grade"].values, "Z"),
        writes(frame["pieces"].values, 77),
        writes(frame["memo"].values, "Z"),
        writes(frame["shipped"].values, None),
    ]
    return errors, frame


@idiom("calendar", kind="force")
def write_period_and_interval_arrays(frame: Frame) -> object:
    """`.array` of period, interval and timedelta columns."""
    errors = [
        writes(frame["month"].array, pd.Period("2030-01", "M")),
        writes(frame["range"].array, pd.Interval(7, 8)),
        writes(frame["wait"].array, pd.Timedelta(1, "D")),
        writes(frame.index.array, frame.index[-1]),
    ]
    return errors, frame


@idiom("arrow", kind="force")
def write_arrow_arrays(frame: Frame) -> object:
    """`.array` of Arrow columns replaces its buffers."""
    return [writes(frame[name].array, frame[name].iloc[-1]) for name in frame], frame


@idiom("kilos", "pieces", "grades", "days", "text", "lists", kind="force")
def write_the_array_of_a_series(series: Series) -> object:
    """`.array` of a series takes the value of another row."""
    return writes(series.array, series.iloc[1]), series


@idiom("frame", "series", kind="force")
def write_the_labels(table: Any) -> object:
    """The array of the index, written in spite of its rules."""
    return writes(table.index.values, table.index[-1]), table


@idiom("index", kind="force")
def write_the_values_of_an_index(index: pd.Index) -> object:
    """The values and the array of an index."""
    return writes(index.values, index[1]), writes(index.array, index[1]), list(index)


@idiom("frame", kind="force")
def write_the_column_labels(frame: Frame) -> object:
    """The values of the column labels."""
    return writes(frame.columns.values, frame.columns[-1]), list(frame.columns)


@idiom("lines", kind="force")
def write_the_codes(frame: Frame) -> object:
    """The codes of a categorical column and of its categories."""
    codes = frame["grade"].cat.codes.to_numpy()
    error = writes(frame["grade"].array.codes, 3)
    return error, writes(codes, 3), writes(frame["grade"].cat.categories.values, "Q"), frame
