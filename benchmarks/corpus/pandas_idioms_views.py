"""Idioms on views, rows, copies, pickles, mutable cells, series, labels and containers.

Each function gets a table and may change it; its result, or its error, must be the same on a fresh
table and on one from a cache. The docstring states the right behaviour.
"""

from __future__ import annotations

import copy
import gc
import io
import pickle
import warnings
import weakref
from typing import Any

import numpy as np
import pandas as pd

from .pandas_harness import attempt, idiom, writes

Frame = pd.DataFrame
Series = pd.Series


# Views that are kept, and writes after that.


@idiom("lines", "floats")
def column_before_a_write(frame: Frame) -> object:
    """A series that was taken first: it follows the frame on pandas 2, not on pandas 3."""
    kg = frame["kg"]
    frame.loc[frame.index[:1], "kg"] = 8.0
    return kg, frame


@idiom("lines", "floats")
def write_into_a_column(frame: Frame) -> object:
    """A write into a series that was taken from the frame."""
    kg = frame["kg"]
    kg.iloc[:1] = 8.0
    kg[kg.isna()] = -0.0
    return kg, frame


@idiom("frame")
def write_into_the_first_column(frame: Frame) -> object:
    """A write into the first column, by position."""
    column = frame.iloc[:, 0]
    column.iloc[0] = column.iloc[-1]
    return column, frame


@idiom("frame")
def slice_before_a_write(frame: Frame) -> object:
    """A slice of rows that was taken first, then the frame is written."""
    top = frame.iloc[:2]
    frame.iloc[0, 0] = frame.iloc[-1, 0]
    return top, frame


@idiom("frame")
def write_into_a_slice(frame: Frame) -> object:
    """A write into a slice of rows: through on pandas 2, not on pandas 3."""
    top = frame[:2]
    top.iloc[:, 0] = top.iloc[-1:, 0].to_numpy()[0]
    return top, frame


@idiom("frame")
def write_into_head_and_tail(frame: Frame) -> object:
    """`head` and `tail` are written by column."""
    head, tail = frame.head(2), frame.tail(1)
    head[head.columns[0]] = 0
    tail.insert(0, "mark", True)
    return head, tail, frame


@idiom("lines", "floats")
def filtered_then_written(frame: Frame) -> object:
    """A filtered frame is a copy; pandas 2 warns of the write."""
    heavy = frame[frame["kg"] > 0]
    heavy["kg"] = 1.0
    heavy.loc[heavy.index[:1], "price"] = 0.0
    return heavy, frame


@idiom("lines", "floats")
def view_outlives_the_frame(frame: Frame) -> object:
    """A column lives on when its frame is gone."""
    kg = frame["kg"]
    del frame
    gc.collect()
    kg.iloc[:1] = 5.0
    return kg, kg.sum()


@idiom("lines", "floats")
def array_outlives_the_frame(frame: Frame) -> object:
    """An array lives on when its frame is gone."""
    kg, price = frame["kg"].to_numpy(), frame["price"].to_numpy()[::2]
    del frame
    gc.collect()
    return kg, price, np.nansum(price), writes(kg, 1.0)


@idiom("frame")
def row_outlives_the_frame(frame: Frame) -> object:
    """A row, a slice and the labels live on when their frame is gone."""
    row, top, names = frame.iloc[0], frame.iloc[:1], frame.columns
    del frame
    return row, top, names


@idiom("frame")
def iterators_outlive_the_frame(frame: Frame) -> object:
    """Iterators and groups that were begun before the frame is gone."""
    rows, items = frame.itertuples(), frame.items()
    del frame
    return [tuple(row) for row in rows], list(items)


@idiom("lines", "cells", "series", "index")
def weakly_referenced(table: Any) -> object:
    """The object dies with the caller's last reference."""
    dies = weakref.ref(table)
    del table
    gc.collect()
    return dies() is None


@idiom("frame", "series", "container")
def gathered_in_a_list(table: Any) -> object:
    """A list that a caller appends to keeps a table of its own kind."""
    kept = [table, table]
    del table
    return kept


# Rows one by one.


@idiom("frame")
def iterrows_thatwrites(frame: Frame) -> object:
    """Rows from `iterrows` are written: through or not, as ever."""
    for _, row in frame.iterrows():
        row.iloc[0] = row.iloc[-1]
    return frame


@idiom("lines", "floats")
def iterrows_by_name(frame: Frame) -> object:
    """Rows from `iterrows` are written by name, and gathered."""
    rows = []
    for _, row in frame.iterrows():
        row["kg"] = 0.0
        rows.append(row)
    return pd.DataFrame(rows), frame


@idiom("frame")
def items_thatwrites(frame: Frame) -> object:
    """Columns from `items` are written: through on pandas 2, not on pandas 3."""
    for _, column in frame.items():  # noqa: PERF102
        column.iloc[-1] = column.iloc[0]
    return frame


@idiom("frame")
def named_tuples(frame: Frame) -> object:
    """Tuples of rows, which refuse writes."""
    rows = list(frame.itertuples(name="Line"))
    return [tuple(row) for row in rows], attempt(lambda: setattr(rows[0], "Index", 1))


# Copies and pickles.


@idiom("frame", "series", "index", "container")
def shallow_copy(table: Any) -> object:
    """`copy.copy` of anything."""
    other = copy.copy(table)
    if isinstance(other, Frame | Series):
        other.iloc[0] = other.iloc[-1]
    return other, table


@idiom("frame", "series", "index", "container")
def deep_copy(table: Any) -> object:
    """`copy.deepcopy` of anything."""
    other = copy.deepcopy(table)
    if isinstance(other, Frame | Series):
        other.iloc[0] = other.iloc[-1]
    return other, table


@idiom("frame")
def copy_without_depth(frame: Frame) -> object:
    """`copy(deep=False)` shares on pandas 2 and is separate on pandas 3."""
    other = frame.copy(deep=False)
    other.iloc[0, 0] = other.iloc[-1, 0]
    other.index.name = "other"
    other["new"] = 1
    return other, frame


@idiom("frame")
def rebuilt_frame(frame: Frame) -> object:
    """`DataFrame(frame)` shares as ever, and its labels are set."""
    other = pd.DataFrame(frame)
    other.iloc[0, 0] = other.iloc[-1, 0]
    other.columns = range(other.shape[1])
    return other, frame


@idiom("frame", "series", "index", "container")
def pickled(table: Any) -> object:
    """A pickle, read back; attrs, flags and metadata stay."""
    return pickle.loads(pickle.dumps(table, protocol=5)), table


@idiom("frame", "series", "container")
def pickled_out_of_band(table: Any) -> object:
    """A pickle with its buffers out of band, as another process gets it."""
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(table, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(stream, buffers=[bytearray(buffer.raw()) for buffer in buffers])


@idiom("frame")
def pickled_to_a_file(frame: Frame) -> object:
    """`to_pickle` and `read_pickle` through a buffer."""
    buffer = io.BytesIO()
    frame.to_pickle(buffer, compression=None)
    buffer.seek(0)
    return pd.read_pickle(buffer, compression=None)


@idiom("frame")
def split_and_rejoin(frame: Frame) -> object:
    """Halves are written and joined again."""
    half = len(frame) // 2
    first, second = frame.iloc[:half].copy(), frame.iloc[half:]
    first["half"], second = 1, second.assign(half=2)
    return pd.concat([first, second]), frame


@idiom("lines", "floats")
def shared_memory(frame: Frame) -> object:
    """Arrays that share memory on a fresh frame share it here."""
    kg = frame["kg"].to_numpy()
    return (
        np.shares_memory(kg, frame["kg"].to_numpy()),
        np.shares_memory(kg, frame.copy()["kg"].to_numpy()),
    )


@idiom("floats")
def layout_of_values(frame: Frame) -> object:
    """The values of a frame of one dtype are a view or a copy, as ever."""
    return np.shares_memory(frame.to_numpy(), frame.to_numpy())


@idiom("lines")
def errors_on_warnings(frame: Frame) -> object:
    """An application that turns the warnings of pandas into errors gets the same ones."""
    top = frame[frame["line"] < 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        errors = [
            attempt(lambda: frame["kg"].__setitem__(frame.index[:1], 1.0)),
            attempt(lambda: frame["kg"].fillna(0, inplace=True)),
            attempt(lambda: top.__setitem__("kg", 2.0)),
            attempt(lambda: frame.loc.__setitem__((frame.index[:1], "order"), 0.5)),
        ]
    return errors, top, frame


# Mutable cells.


@idiom("cells", "lists")
def append_to_a_list(table: Any) -> object:
    """A list in a cell is the caller's; the same list elsewhere follows."""
    column = table["tags"] if isinstance(table, Frame) else table
    column.iloc[0].append("late")
    return table


@idiom("cells")
def change_a_dict(frame: Frame) -> object:
    """A dict in a cell, and a list within it, are the caller's."""
    frame.at[0, "spec"]["needle"] = 12
    frame["spec"].iloc[0]["colours"].append("blue")
    return frame


@idiom("cells")
def change_shared_cells(frame: Frame) -> object:
    """A list that is in all rows changes in all of them, and only for the caller."""
    frame["shared"].iloc[2].extend(["x", "y"])
    frame["alias"].iloc[0].insert(0, "through the alias")
    return frame, frame["tags"]


@idiom("cells")
def change_sets_arrays_and_bytes(frame: Frame) -> object:
    """Sets, arrays and byte arrays in cells are the caller's."""
    frame["sizes"].iloc[2].add("XS")
    frame["curve"].iloc[0][1] = -9.0
    frame["raw"].iloc[1].extend(b"zz")
    return frame


@idiom("cells")
def change_within_a_tuple(frame: Frame) -> object:
    """A list within a tuple is the caller's."""
    frame["pair"].iloc[0][1].append("deep")
    return frame


@idiom("cells")
def change_objects(frame: Frame) -> object:
    """Objects of the application in cells are the caller's."""
    spool = frame["spool"].iloc[0]
    spool.yarn = "nylon"
    spool.metres.append(2)
    return frame


@idiom("cells")
def change_a_frame_in_a_cell(frame: Frame) -> object:
    """A frame and a series within cells are the caller's."""
    frame["table"].iloc[0].loc[0, "x"] = 50
    frame["table"].iloc[3].iloc[0] = 2.5
    return frame


@idiom("cells", "lists")
def apply_that_changes_cells(table: Any) -> object:
    """`apply` with a function that changes each list."""
    column = table["tags"] if isinstance(table, Frame) else table
    column.apply(lambda cell: cell.reverse() if isinstance(cell, list) else None)
    return table


@idiom("cells")
def records_share_cells(frame: Frame) -> object:
    """Records of a template share their lists with the frame."""
    for record in frame.to_dict("records"):
        if record["tags"] is not None:
            record["tags"].append("seen")
        record["spec"]["seen"] = True
    return frame


@idiom("cells")
def tuples_share_cells(frame: Frame) -> object:
    """Rows as tuples share their lists with the frame."""
    for row in frame.itertuples():
        row.spec.clear()
        row.pair[1].append(row.Index)
    return frame


@idiom("cells")
def copies_share_cells(frame: Frame) -> object:
    """A deep copy of pandas shares the lists in its cells."""
    other = frame.copy(deep=True)
    other["tags"].iloc[0].append("copy")
    other.at[1, "tags"] = ["replaced"]
    return other, frame


@idiom("cells")
def joined_cells_are_shared(frame: Frame) -> object:
    """Lists survive `concat`, `merge`, filters and sorting as the same objects."""
    both = pd.concat([frame, frame], ignore_index=True)
    both["tags"].iloc[0].append("joined")
    part = frame[frame["kg"] > 2].sort_values("order", ascending=False)
    part["spec"].iloc[0]["sorted"] = 1
    return both, part, frame


@idiom("cells")
def sort_lists(frame: Frame) -> object:
    """Lists sorted in place, cell by cell, over an array of objects."""
    for cell in frame["tags"].to_numpy():
        if cell:
            cell.sort(reverse=True)
    return frame


@idiom("cells")
def identity_of_cells(frame: Frame) -> object:
    """Cells that are one object are one object here, and decimals keep their exponent."""
    tags, alias, shared = frame["tags"], frame["alias"], frame["shared"]
    return tags.iloc[0] is alias.iloc[0], shared.iloc[0] is shared.iloc[3], frame["cost"].map(str)


@idiom("lines")
def write_into_object_cells(frame: Frame) -> object:
    """An object column takes a list, which is changed afterwards."""
    frame["note"] = [[] for _ in range(len(frame))]
    for number, cell in enumerate(frame["note"]):
        cell.append(number)
    return frame


# Series and labels by themselves.


@idiom("series")
def write_a_series(series: Series) -> object:
    """A series is written by position and by label."""
    series.iloc[0] = series.iloc[-1]
    series[series.index[1]] = None
    return series


@idiom("series")
def enlarge_a_series(series: Series) -> object:
    """A new label enlarges the series."""
    series.loc["new"] = series.iloc[0]
    return series


@idiom("series")
def rename_a_series(series: Series) -> object:
    """The name and the name of the index are the caller's."""
    series.name = "other"
    series.index.name = "label"
    series.rename("again", inplace=True)
    return series, series.to_frame()


@idiom("series")
def relabel_a_series(series: Series) -> object:
    """A new index is the caller's, and `reset_index(inplace=True)` too."""
    series.index = range(10, 10 + len(series))
    other = series.copy()
    other.reset_index(drop=True, inplace=True)
    return series, other


@idiom("series")
def in_place_methods_of_a_series(series: Series) -> object:
    """`ffill`, `dropna`, `sort_values` and `drop_duplicates` in place."""
    errors = [
        attempt(lambda: series.ffill(inplace=True)),
        attempt(lambda: series.dropna(inplace=True)),
        attempt(lambda: series.sort_values(inplace=True, kind="stable")),
        attempt(lambda: series.drop_duplicates(inplace=True)),
    ]
    return errors, series


@idiom("series")
def pop_and_update_a_series(series: Series) -> object:
    """`pop` takes a label out; `update` overwrites."""
    series.update(pd.Series({series.index[1]: series.iloc[0]}))
    return series.pop(series.index[0]), series


@idiom("kilos", "pieces")
def augmented_series(series: Series) -> object:
    """`+=` and `*=` of a series work on the caller's."""
    alias = series
    series += 1
    series *= 2
    return alias is series, series


@idiom("series")
def series_to_frame_and_back(series: Series) -> object:
    """A frame of a series is written: through on pandas 2, not on pandas 3."""
    frame = series.to_frame()
    frame.iloc[0, 0] = series.iloc[-1]
    view = series.iloc[:2]
    view.iloc[0] = series.iloc[-1]
    return frame, view, series


@idiom("grades")
def change_categories_of_a_series(series: Series) -> object:
    """Categories are added, renamed and ordered for the caller only."""
    other = series.cat.add_categories("D").cat.as_unordered()
    other.iloc[0] = "D"
    series.iloc[1] = "C"
    return other, series, series.max(), attempt(lambda: series.__setitem__(0, "D"))


@idiom("series")
def print_a_series(series: Series) -> object:
    """Text, list, dict and counts of a series."""
    return repr(series), series.tolist(), series.to_dict(), series.isna().sum(), series.hasnans


@idiom("index")
def name_an_index(index: pd.Index) -> object:
    """The name of labels that were returned alone is the caller's."""
    index.names = ["renamed"] * index.nlevels
    return index, index.name


@idiom("index")
def rename_an_index_in_place(index: pd.Index) -> object:
    """`rename(inplace=True)` and `set_names(inplace=True)` are the caller's."""
    index.rename(["a"] * index.nlevels if index.nlevels > 1 else "a", inplace=True)
    return index, index.set_names(["b"] * index.nlevels)


@idiom("index")
def write_an_index(index: pd.Index) -> object:
    """Labels refuse item assignment."""
    index[0] = index[1]


@idiom("index")
def compute_with_an_index(index: pd.Index) -> object:
    """Set operations, look-ups and appended labels."""
    return (
        index.unique(),
        index.append(index),
        index.get_indexer_for(index[:1]),
        index.isin(index[1:]),
    )


@idiom("index")
def index_of_a_new_frame(index: pd.Index) -> object:
    """Labels become the index of a new frame, whose name is set afterwards."""
    frame = pd.DataFrame({"n": range(len(index))}, index=index)
    frame.index.names = ["frame"] * index.nlevels
    return frame, index


@idiom("day_index")
def frequency_of_an_index(index: pd.Index) -> object:
    """The frequency is the caller's to remove."""
    before = index.freq
    index.freq = None
    return before, index, index.shift(1, freq="D")


# Containers.


@idiom("bundle")
def change_a_bundle(bundle: dict[str, Any]) -> object:
    """A dict of tables: its items, its lists and its arrays are the caller's."""
    bundle["new"] = 1
    bundle["rest"].append("more")
    bundle["rest"][2]["total"] = 9
    bundle["array"][0, 0] = -1.0
    del bundle["pair"]
    return bundle


@idiom("bundle")
def same_frame_twice(bundle: dict[str, Any]) -> object:
    """A frame that is in a dict twice is one frame."""
    bundle["lines"]["mark"] = 1
    bundle["lines"].loc[0, "kg"] = 5.0
    return bundle["lines"] is bundle["again"], bundle


@idiom("bundle")
def write_frames_of_a_bundle(bundle: dict[str, Any]) -> object:
    """Frames and series within containers are the caller's."""
    bundle["rest"][0].iloc[0] = 4.0
    bundle["rest"][1].name = "renamed"
    bundle["pair"][0].iloc[0, 0] = 4.0
    bundle["pair"][0].columns = list("abcd")
    return bundle


@idiom("container")
def write_every_frame(container: Any) -> object:
    """All frames of a list or dict are written in place."""
    frames = container.values() if isinstance(container, dict) else container
    for frame in frames:
        if isinstance(frame, Frame):
            frame.insert(0, "n", range(len(frame)), allow_duplicates=True)
            frame.iloc[0, 1] = frame.iloc[-1, 1]
    return container


@idiom("parts")
def change_a_list_of_frames(frames: list[Frame]) -> object:
    """A list of frames is the caller's: popped, reversed, concatenated."""
    last = frames.pop()
    last["kg"] = 0.0
    frames.reverse()
    frames.append(last.head(1))
    return frames, pd.concat(frames)


@idiom("container")
def clear_a_container(container: Any) -> object:
    """A container that is cleared is empty for the caller only."""
    container.clear()
    return container
