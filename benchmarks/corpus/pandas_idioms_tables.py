"""Idioms on tables: columns, writes by label and position, labels, attrs, in-place methods.

Each function gets a table and may change it; its result, or its error, must be the same on a fresh
table and on one from a cache. The docstring states the right behaviour.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .pandas_harness import idiom

Frame = pd.DataFrame


# Columns.


@idiom()
def add_a_column(frame: Frame) -> object:
    """A new column is only in the caller's frame."""
    frame["total"] = frame["kg"] * frame["price"]
    return frame


@idiom("frame")
def add_a_constant_column(frame: Frame) -> object:
    """A scalar fills a new column of any frame."""
    frame["new"] = 1
    return frame


@idiom()
def replace_a_column(frame: Frame) -> object:
    """A column is replaced by one of another dtype."""
    frame["order"] = frame["order"].astype(str) + "-x"
    return frame


@idiom()
def augmented_assignment(frame: Frame) -> object:
    """`*=` on a column changes the caller's frame only."""
    frame["kg"] *= 1000
    frame["order"] += 1
    return frame


@idiom("floats", "lines")
def augmented_assignment_of_the_frame(frame: Frame) -> object:
    """`*=` on the whole frame works in place, or fails on text."""
    frame *= 2
    return frame


@idiom()
def attribute_assignment(frame: Frame) -> object:
    """`frame.kg = ...` replaces an existing column."""
    frame.kg = frame.kg.round(1)
    frame.price = 0
    return frame


@idiom()
def assign_a_chain(frame: Frame) -> object:
    """`assign` gives a new frame, and the first one stays as it was."""
    other = frame.assign(net=lambda f: f["price"] / 1.19, kg=0).assign(vat=lambda f: f["net"] * 2)
    return other, frame


@idiom("frame")
def insert_in_front(frame: Frame) -> object:
    """`insert` works in place, at the first position."""
    frame.insert(0, "position", range(len(frame)))
    return frame


@idiom()
def insert_an_existing_column(frame: Frame) -> object:
    """`insert` of an existing label raises."""
    frame.insert(0, "kg", 1)


@idiom()
def pop_a_column(frame: Frame) -> object:
    """`pop` takes a column out of the caller's frame."""
    return frame.pop("kg"), frame


@idiom("frame")
def delete_the_first_column(frame: Frame) -> object:
    """`del` takes a column out."""
    del frame[frame.columns[0]]
    return frame


@idiom()
def delete_all_columns(frame: Frame) -> object:
    """A loop of `del` leaves the index and attrs."""
    for name in list(frame.columns):
        del frame[name]
    return frame


@idiom()
def drop_in_place(frame: Frame) -> object:
    """`drop(inplace=True)` returns None and shortens the caller's frame."""
    return frame.drop(columns=["kg", "note"], inplace=True), frame


@idiom("frame")
def drop_a_row_in_place(frame: Frame) -> object:
    """Dropping the first label drops all rows that bear it."""
    frame.drop(index=frame.index[0], inplace=True)
    return frame


@idiom()
def reorder_columns(frame: Frame) -> object:
    """A list of labels gives a frame that can be written without the first one."""
    other = frame[["price", "kg"]]
    other["kg"] = 0
    return other, frame


@idiom()
def write_two_columns(frame: Frame) -> object:
    """A list of labels on the left side writes several columns."""
    frame[["kg", "price"]] = frame[["price", "kg"]].to_numpy()
    return frame


@idiom()
def write_into_a_new_row(frame: Frame) -> object:
    """Enlarging by `loc` appends a row and may change dtypes."""
    frame.loc[99] = [None] * frame.shape[1]
    return frame


@idiom("unique")
def duplicate_label_is_refused(frame: Frame) -> object:
    """A frame that refuses duplicate labels raises, before and after the write."""
    frame.index = [1, 1, 2]
    return frame


@idiom("unique")
def allow_duplicate_labels(frame: Frame) -> object:
    """The flag is the caller's."""
    frame.flags.allows_duplicate_labels = True
    return pd.concat([frame, frame]), frame.flags.allows_duplicate_labels


@idiom("frame")
def refuse_duplicate_labels(frame: Frame) -> object:
    """Setting the flag raises where labels repeat, and stays with the caller otherwise."""
    frame.flags.allows_duplicate_labels = False
    return frame


# Writes by label and position.


@idiom()
def write_with_loc(frame: Frame) -> object:
    """`loc` with a mask writes into the caller's frame."""
    frame.loc[frame["price"] > 3, "kg"] = 7.5
    return frame


@idiom()
def write_another_dtype_with_loc(frame: Frame) -> object:
    """Text in a column of numbers: the same dtype, warning or error as ever."""
    frame.loc[frame.index[0], "order"] = "none"
    return frame


@idiom("frame")
def write_with_iloc(frame: Frame) -> object:
    """`iloc` writes one cell of any frame, or fails for its dtype."""
    frame.iloc[0, 0] = 5
    return frame


@idiom("frame")
def write_a_row_with_iloc(frame: Frame) -> object:
    """A row is copied onto another one."""
    frame.iloc[0] = frame.iloc[-1]
    return frame


@idiom("frame")
def write_missing_with_iloc(frame: Frame) -> object:
    """Missing values in the last row change what dtypes they must."""
    frame.iloc[-1, :] = None
    return frame


@idiom()
def write_with_at_and_iat(frame: Frame) -> object:
    """Scalar access writes, or raises on an empty frame."""
    frame.at[frame.index[0], "kg"] = -1.5
    frame.iat[0, 3] = 2.0
    return frame


@idiom()
def write_in_a_loop(frame: Frame) -> object:
    """A loop with `at` over the index writes row by row."""
    for number, label in enumerate(frame.index):
        frame.at[label, "kg"] = number / 3
    return frame


@idiom()
def write_a_category(frame: Frame) -> object:
    """A known category is written."""
    frame.loc[frame.index[:1], "grade"] = "Z"
    return frame


@idiom()
def write_an_unknown_category(frame: Frame) -> object:
    """A category that is missing raises."""
    frame.loc[frame.index[:1], "grade"] = "unheard"
    return frame


@idiom()
def write_nullable(frame: Frame) -> object:
    """Missing values and numbers go into masked columns."""
    frame.loc[frame.index[:2], "pieces"] = pd.NA
    frame.loc[frame.index[:1], "checked"] = True
    frame.loc[frame.index[:1], "memo"] = "new"
    return frame


@idiom()
def write_nullable_wrongly(frame: Frame) -> object:
    """Text in a masked column raises."""
    frame.loc[frame.index[0], "pieces"] = "many"
    return frame


@idiom()
def write_times(frame: Frame) -> object:
    """Times with and without zone are written as such."""
    frame.loc[frame.index[:1], "due"] = pd.Timestamp("2025-01-01")
    frame.loc[frame.index[:1], "shipped"] = pd.Timestamp("2025-07-01", tz="UTC")
    return frame


@idiom()
def chained_assignment(frame: Frame) -> object:
    """`frame["kg"][label] = x` writes on pandas 2 and has no effect on pandas 3."""
    frame["kg"][frame.index[0]] = 9.0
    return frame


@idiom()
def chained_mask(frame: Frame) -> object:
    """Writing into a filtered copy leaves the frame as it was."""
    frame[frame["price"] > 3]["kg"] = 0
    return frame


@idiom()
def chained_in_place(frame: Frame) -> object:
    """`frame["kg"].fillna(inplace=True)` writes on pandas 2 and has no effect on pandas 3."""
    frame["kg"].fillna(0, inplace=True)
    frame["price"].clip(upper=5, inplace=True)
    frame["yarn"].replace("merino", "Merino", inplace=True)
    return frame


@idiom()
def chained_rows(frame: Frame) -> object:
    """A slice of rows that is written: a view on pandas 2, a copy on pandas 3."""
    frame[:2]["kg"] = 1.0
    frame.iloc[:2]["price"] = 1.0
    frame.loc[:, "kg"][:2] = 4.0
    return frame


@idiom("duplicates")
def write_duplicate_labels(frame: Frame) -> object:
    """All cells of a label are written at once."""
    frame.loc["a", "price"] = 100.0
    frame["price"] = frame["price"].fillna(0)
    return frame, frame["kg"], frame.loc["a"]


@idiom("duplicates")
def reindex_duplicates(frame: Frame) -> object:
    """Reindexing along duplicate labels raises."""
    return frame.reindex(["a", "b"])


@idiom("labels")
def write_odd_labels(frame: Frame) -> object:
    """Labels that are None, a float or a time are found."""
    frame[None] = 7
    frame[1.5] += 1
    frame[pd.Timestamp("2024-01-01")] = frame[0]
    return frame, frame.get("absent")


@idiom("levels")
def write_in_levels(frame: Frame) -> object:
    """Partial labels of a MultiIndex write several rows and columns."""
    frame.loc["north", ("kg", "plan")] = 0.5
    frame[("kg", "ratio")] = frame[("kg", "real")] / frame[("kg", "plan")]
    frame["price"] = 1
    return frame


@idiom("levels")
def read_levels(frame: Frame) -> object:
    """Cross sections, swapped and removed levels."""
    index = frame.index.remove_unused_levels()
    return frame.xs("south"), frame.swaplevel(0, 1).sort_index(), index, frame.index, frame["kg"]


@idiom("levels")
def rename_levels_in_place(frame: Frame) -> object:
    """Names of levels are the caller's, of rows and of columns."""
    frame.index.names = ["a", "b", "c"]
    frame.columns.names = ["x", None]
    frame.index.set_names("hall", level=0)
    return frame


@idiom("levels")
def flatten_columns(frame: Frame) -> object:
    """Flat labels replace a MultiIndex of columns."""
    frame.columns = ["_".join(map(str, label)) for label in frame.columns]
    return frame.reset_index()


@idiom("levels")
def stack_and_unstack(frame: Frame) -> object:
    """Levels move between rows and columns."""
    return frame.unstack(), frame["kg"].stack(), frame.groupby(level="hall").sum()


@idiom("calendar")
def write_in_a_calendar(frame: Frame) -> object:
    """A day as text writes a row, a slice of days several."""
    frame.loc["2024-03-31", "kg"] = -1
    frame.loc["2024-04-01":"2024-04-02", "tiny"] = 9
    frame["wait"] += pd.Timedelta(1, "s")
    frame.loc[frame.index[0], "month"] = pd.Period("2030-01", "M")
    return frame


@idiom("calendar")
def resample_a_calendar(frame: Frame) -> object:
    """Resampling, shifting and converting the zone leave the frame as it was."""
    weekly = frame[["kg"]].resample("W").sum()
    return weekly, frame.shift(1, freq="D"), frame.tz_convert("UTC"), frame.asfreq("12h"), frame


@idiom("calendar")
def lose_the_frequency(frame: Frame) -> object:
    """The frequency of the index is the caller's to set."""
    frame.index.freq = None
    return frame, frame.index.freq


@idiom("sparse")
def write_sparse(frame: Frame) -> object:
    """Writes into sparse columns, and their conversion."""
    frame["few"] = frame["few"] * 2
    dense = frame.copy()
    dense["gaps"] = dense["gaps"].sparse.to_dense()
    dense.loc[0, "gaps"] = 1.0
    return frame, dense, frame["few"].sparse.density


@idiom("sparse")
def write_a_sparse_cell(frame: Frame) -> object:
    """A sparse array does not take single cells."""
    frame["few"].array[0] = 9


@idiom("arrow")
def write_arrow(frame: Frame) -> object:
    """Arrow columns take writes, and replace their array."""
    frame.loc[0, "order"] = 77
    frame.loc[frame["kg"].isna(), "kg"] = 0.25
    frame.at[1, "yarn"] = "new"
    frame["memo"] = frame["memo"].str.upper()
    return frame


@idiom("arrow")
def write_arrow_wrongly(frame: Frame) -> object:
    """An Arrow column of numbers refuses text."""
    frame.loc[0, "order"] = "many"


@idiom("arrow")
def compute_with_arrow(frame: Frame) -> object:
    """Sums, text methods and conversions of Arrow columns."""
    return (
        frame["order"].sum(),
        frame["yarn"].str.len(),
        frame[["kg"]].astype(float),
        frame.to_dict("list"),
    )


# Labels.


@idiom("frame")
def rename_all_columns(frame: Frame) -> object:
    """New column labels are the caller's."""
    frame.columns = [f"c{number}" for number in range(frame.shape[1])]
    return frame


@idiom()
def rename_columns_to_too_few(frame: Frame) -> object:
    """Too few labels raise and leave the frame as it was."""
    frame.columns = ["a", "b"]


@idiom()
def clean_column_names(frame: Frame) -> object:
    """Text methods on the labels."""
    frame.columns = frame.columns.str.strip().str.upper().str.replace(" ", "_")
    return frame


@idiom("frame")
def replace_the_index(frame: Frame) -> object:
    """A new index is the caller's."""
    frame.index = range(100, 100 + len(frame))
    return frame


@idiom("frame")
def name_the_index(frame: Frame) -> object:
    """`index.name =` writes into the index of the caller only."""
    frame.index.name = "renamed"
    return frame


@idiom("frame")
def name_the_columns(frame: Frame) -> object:
    """`columns.name =` writes into the column labels of the caller only."""
    frame.columns.name = "field"
    return frame


@idiom("frame")
def rename_the_index_in_place(frame: Frame) -> object:
    """`index.rename(inplace=True)` and `rename_axis(inplace=True)` name the caller's rows."""
    levels = frame.index.nlevels
    frame.index.rename("n" if levels == 1 else ["n"] * levels, inplace=True)
    frame.rename_axis(index=["m"] * levels, inplace=True)
    return frame


@idiom()
def rename_in_place(frame: Frame) -> object:
    """`rename(inplace=True)` renames columns and rows."""
    return frame.rename(columns={"kg": "weight"}, index={0: "first"}, inplace=True), frame


@idiom("frame")
def set_axis(frame: Frame) -> object:
    """`set_axis` gives another frame, whose cells may be written."""
    other = frame.set_axis(range(frame.shape[1]), axis=1)
    other[0] = 3
    return other, frame


@idiom()
def set_index_in_place(frame: Frame) -> object:
    """`set_index(inplace=True)` moves columns to the index."""
    frame.set_index(["order", "line"], inplace=True)
    return frame


@idiom("frame")
def reset_index_in_place(frame: Frame) -> object:
    """`reset_index(inplace=True)` moves the index to columns."""
    frame.reset_index(inplace=True)
    return frame


@idiom("frame")
def transpose_and_write(frame: Frame) -> object:
    """A transposed frame is written: through on pandas 2 for a single block, else not."""
    other = frame.T
    other.iloc[0, 0] = 1
    return other, frame


@idiom("frame", "series")
def write_attrs(table: Any) -> object:
    """New attrs are the caller's."""
    table.attrs["user"] = "mill"
    return table


@idiom("lines", "kilos")
def write_nested_attrs(table: Any) -> object:
    """Lists and dicts within attrs are the caller's."""
    for value in table.attrs.values():
        if isinstance(value, dict):
            value["files"].append("c.csv")
            value["mill"] = "south"
        elif isinstance(value, list):
            value.clear()
    return table


@idiom("frame", "series")
def replace_attrs(table: Any) -> object:
    """Attrs that are replaced do not come back."""
    table.attrs = {"only": ["this"]}
    return table, table.copy().attrs, table.head(1).attrs


@idiom("ledger")
def write_metadata(frame: Frame) -> object:
    """Metadata of a subclass is the caller's and is handed on."""
    before = frame.head(2).currency
    frame.currency = "USD"
    return before, frame, frame.head(1)


@idiom("lines")
def undeclared_attribute(frame: Frame) -> object:
    """An attribute that is not a column stays on the caller's object."""
    seen = hasattr(frame, "remark")
    frame.remark = [1]
    return seen, frame.remark, list(frame.columns)


# In-place methods.


@idiom()
def fill_in_place(frame: Frame) -> object:
    """`fillna(inplace=True)` with a dict."""
    return frame.fillna({"kg": 0.0, "yarn": "?", "pieces": 1, "note": "-"}, inplace=True), frame


@idiom("frame")
def fill_forward_in_place(frame: Frame) -> object:
    """`ffill(inplace=True)` and `bfill(inplace=True)`."""
    frame.ffill(inplace=True)
    frame.bfill(inplace=True)
    return frame


@idiom("frame")
def replace_values_in_place(frame: Frame) -> object:
    """`replace(inplace=True)` of numbers and text."""
    frame.replace({1.5: 99, "x": "X", 1: 11}, inplace=True)
    return frame


@idiom("floats", "lines")
def clip_in_place(frame: Frame) -> object:
    """`clip(inplace=True)`, which raises on text."""
    frame.clip(lower=0, inplace=True)
    return frame


@idiom("floats", "sparse")
def where_and_mask_in_place(frame: Frame) -> object:
    """`where` and `mask` in place."""
    frame.where(frame > 0, -1.0, inplace=True)
    frame.mask(frame > 3, np.nan, inplace=True)
    return frame


@idiom("lines", "floats")
def update_in_place(frame: Frame) -> object:
    """`update` overwrites by label and reports nothing."""
    other = pd.DataFrame({"kg": [70.0, 80.0]}, index=frame.index[:2] if len(frame) > 1 else [0, 1])
    return frame.update(other), frame


@idiom("frame")
def sort_in_place(frame: Frame) -> object:
    """`sort_values(inplace=True)` by the first column, stable."""
    frame.sort_values(frame.columns[0], ascending=False, inplace=True, kind="stable")
    return frame


@idiom("frame")
def sort_the_index_in_place(frame: Frame) -> object:
    """`sort_index(inplace=True)` by rows and columns."""
    frame.sort_index(ascending=False, inplace=True, kind="stable")
    frame.sort_index(axis=1, inplace=True)
    return frame


@idiom("frame")
def drop_missing_in_place(frame: Frame) -> object:
    """`dropna(inplace=True)` in both directions."""
    frame.dropna(how="all", axis=1, inplace=True)
    frame.dropna(inplace=True)
    return frame


@idiom("frame")
def drop_duplicates_in_place(frame: Frame) -> object:
    """`drop_duplicates(inplace=True)`, which raises on lists."""
    frame.drop_duplicates(inplace=True, ignore_index=True)
    return frame


@idiom()
def query_in_place(frame: Frame) -> object:
    """`query(inplace=True)` keeps some rows of the caller's frame."""
    limit = 2  # noqa: F841 (read by the query)
    return frame.query("price > @limit and line != 1", inplace=True, engine="python"), frame


@idiom()
def eval_in_place(frame: Frame) -> object:
    """`eval(inplace=True)` adds a column."""
    return frame.eval("value = kg * price\norder = order + 1", inplace=True, engine="python"), frame


@idiom("lines", "floats")
def interpolate_in_place(frame: Frame) -> object:
    """`interpolate(inplace=True)` of a frame and of a column."""
    frame["price"].interpolate(inplace=True)
    frame[["kg"]].interpolate(inplace=True)
    return frame


@idiom("frame")
def mask_missing(frame: Frame) -> object:
    """A boolean frame on the left side writes cells."""
    frame[frame.isna()] = 0
    return frame


@idiom("floats", "lines", "duplicates")
def mask_negative(frame: Frame) -> object:
    """A boolean frame from a comparison writes cells, or raises on text."""
    frame[frame < 0] = -0.0
    return frame
