"""Idioms on tables: dtypes, joins, groups, reshaping, text and times, export.

Each function gets a table and may change it; its result, or its error, must be the same on a fresh
table and on one from a cache. The docstring states the right behaviour.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pandas as pd

from .pandas_harness import idiom

Frame = pd.DataFrame


# Types.


@idiom()
def change_dtypes(frame: Frame) -> object:
    """`astype` with a dict gives another frame that can be written."""
    other = frame.astype({"order": "int32", "line": "float64", "paid": int})
    other["order"] += 1
    other.iloc[:1, 0] = 3
    return other, frame


@idiom("frame")
def astype_without_copy(frame: Frame) -> object:
    """`astype` to the same dtypes gives cells that are written without a fault."""
    other = (
        frame.astype(frame.dtypes.to_dict()) if frame.columns.is_unique else frame.astype(object)
    )
    other.iloc[:1, 0] = other.iloc[-1:, 0].to_numpy()
    return other, frame


@idiom("floats", "sparse")
def astype_copy_false(frame: Frame) -> object:
    """`astype(copy=False)` of the same dtype shares memory on pandas 2 only."""
    other = frame.astype("float64", copy=False)
    other.iloc[0, 0] = 123.0
    return other, frame


@idiom()
def add_categories(frame: Frame) -> object:
    """Changes of categories give another column."""
    frame["grade"] = frame["grade"].cat.add_categories(["D"]).cat.remove_unused_categories()
    frame["yarn"] = frame["yarn"].astype("category").cat.rename_categories(str.upper)
    return frame, frame["grade"].min()


@idiom()
def reorder_categories(frame: Frame) -> object:
    """The order of categories decides the order of rows."""
    frame["grade"] = frame["grade"].cat.reorder_categories(list("ZABC"), ordered=True)
    return frame.sort_values("grade", kind="stable"), frame["grade"].cat.codes


@idiom()
def set_categories_in_place(frame: Frame) -> object:
    """Assigning to `cat.categories` raises."""
    frame["grade"].cat.categories = list("zyxw")


@idiom("frame")
def infer_dtypes(frame: Frame) -> object:
    """`convert_dtypes` and `infer_objects` leave the frame as it was."""
    other = frame.infer_objects()
    other.iloc[:, :1] = other.iloc[:, :1]
    return frame.convert_dtypes(), other, frame


@idiom("frame")
def select_dtypes(frame: Frame) -> object:
    """A selection by dtype is written without the first frame."""
    chosen = frame.select_dtypes("number")
    chosen.iloc[:1] = 0
    return chosen, frame


# Joins, groups, shapes.


@idiom("frame")
def concat_and_write(frame: Frame) -> object:
    """A concatenated frame is written without the first one."""
    both = pd.concat([frame, frame])
    both.iloc[0, 0] = both.iloc[-1, 0]
    return both, frame


@idiom("frame")
def concat_one_without_copy(frame: Frame) -> object:
    """`concat` of a single frame, or of columns, is written: through where pandas shares."""
    both = pd.concat([frame], axis=1, copy=False)
    both.iloc[0, 0] = both.iloc[-1, 0]
    return both, frame


@idiom("lines", "floats")
def concat_a_column(frame: Frame) -> object:
    """A series beside a frame; dtypes and attrs as ever."""
    other = pd.concat([frame, frame["kg"].rename("more") + 1], axis=1)
    other["kg"] = 0
    return other, pd.concat([frame, frame.head(1)], ignore_index=True), frame


@idiom()
def merge_and_write(frame: Frame) -> object:
    """A merge with reference data, then writes into its result."""
    yarns = pd.DataFrame({"yarn": ["merino", "linen"], "origin": ["NZ", "BE"]})
    both = frame.merge(yarns, how="left", on="yarn", indicator=True)
    both.loc[both["origin"].isna(), "kg"] = 0
    return both, yarns.merge(frame, on="yarn", copy=False), frame


@idiom()
def join_itself(frame: Frame) -> object:
    """A join with suffixes, and a merge by order."""
    other = frame.join(frame[["kg", "price"]], rsuffix="_r")
    other["kg_r"] += 1
    return other, frame.merge(frame[["order", "kg"]], on="order"), frame


@idiom()
def merge_as_of(frame: Frame) -> object:
    """A merge to the nearest earlier key."""
    prices = pd.DataFrame({"order": [1000, 1002], "list": [1.0, 2.0]})
    return pd.merge_asof(frame.sort_values("order"), prices, on="order"), frame


@idiom("frame")
def combine_first(frame: Frame) -> object:
    """Gaps are filled from another frame."""
    return frame.combine_first(frame.iloc[::-1]), frame.align(frame.head(1)), frame


@idiom()
def groupby_sums(frame: Frame) -> object:
    """Sums, sizes and named aggregations by group."""
    groups = frame.groupby("yarn", dropna=False)
    return groups["kg"].sum(), groups.size(), groups.agg(n=("order", "count"), top=("price", "max"))


@idiom()
def groupby_category(frame: Frame) -> object:
    """Groups of categories, unused ones included."""
    return frame.groupby("grade", observed=False)["price"].mean(), frame["grade"].value_counts()


@idiom()
def groupby_apply_that_writes(frame: Frame) -> object:
    """A function that changes its group: the frame stays as it was."""

    def ranked(group: Frame) -> Frame:
        group["rank"] = range(len(group))
        group.loc[group.index[:1], "kg"] = -1
        return group

    return frame.groupby("order", group_keys=False)[list(frame.columns[1:])].apply(ranked), frame


@idiom()
def groupby_loop_that_writes(frame: Frame) -> object:
    """A loop over groups that changes them in place."""
    groups = []
    for _, group in frame.groupby("order"):
        group["kg"] = 0
        group.iloc[:1, 3] = -1.0
        groups.append(group)
    return groups, frame


@idiom()
def groupby_transform(frame: Frame) -> object:
    """Shares of a group's total are written back."""
    frame["share"] = frame["price"] / frame.groupby("order")["price"].transform("sum")
    frame["rank"] = frame.groupby("order")["price"].rank()
    frame["before"] = frame.groupby("order")["kg"].shift()
    return frame


@idiom("frame")
def apply_that_writes(frame: Frame) -> object:
    """A function that changes the column it gets: through or not, as ever."""

    def first(column: Any) -> Any:
        column.iloc[0] = column.iloc[-1]
        return column

    return frame.apply(first), frame


@idiom("frame")
def apply_on_rows_that_writes(frame: Frame) -> object:
    """A function that changes the row it gets: through or not, as ever."""

    def mark(row: Any) -> Any:
        row.iloc[0] = 0
        return row

    return frame.apply(mark, axis=1), frame


@idiom("floats", "lines")
def rolling_and_cumulative(frame: Frame) -> object:
    """Windows and running totals of a column."""
    kg = frame["kg"]
    return (
        kg.rolling(3, min_periods=1).mean(),
        kg.expanding().max(),
        kg.cumsum(),
        kg.ewm(2).mean(),
        frame,
    )


@idiom()
def resample_by_due(frame: Frame) -> object:
    """Days by their due date."""
    days = frame.dropna(subset=["due"]).set_index("due")[["kg", "price"]]
    return days.resample("D").sum(), frame


@idiom()
def pivot_tables(frame: Frame) -> object:
    """Pivot tables and cross tables."""
    table = frame.pivot_table(
        index="order", columns="line", values="price", aggfunc="sum", margins=True
    )
    return table, pd.crosstab(frame["line"], frame["paid"]), frame


@idiom()
def pivot_and_melt(frame: Frame) -> object:
    """Wide to long and back."""
    return frame.melt(id_vars=["order", "line"], value_vars=["kg", "price"]), frame.pivot(
        index="order", columns="line", values="kg"
    )


@idiom("cells", "lists")
def explode_lists(table: Any) -> object:
    """`explode` gives a row for each item and leaves the lists as they were."""
    return (table.explode("tags") if isinstance(table, Frame) else table.explode()), table


@idiom("cells")
def normalize_dicts(frame: Frame) -> object:
    """Dicts in cells become columns."""
    return pd.json_normalize(frame["spec"].tolist()), frame["spec"].apply(pd.Series), frame


@idiom()
def cut_and_bin(frame: Frame) -> object:
    """Bins with labels, and dummies."""
    frame["size"] = pd.cut(frame["price"], [0, 3, 7, 99], labels=["S", "M", "L"])
    return frame, pd.get_dummies(frame["grade"])


@idiom()
def text_methods(frame: Frame) -> object:
    """Text methods, extraction and splitting."""
    text = frame["yarn"].str
    return (
        text.upper(),
        text.extract(r"(?P<first>\w)(\w*)"),
        text.split(" ", expand=True),
        text.cat(sep=","),
    )


@idiom()
def date_methods(frame: Frame) -> object:
    """Parts of times and conversion of zones."""
    due, shipped = frame["due"].dt, frame["shipped"].dt
    return (
        due.day_name(),
        due.to_period("M"),
        shipped.tz_convert("UTC"),
        shipped.hour,
        due.floor("D"),
    )


@idiom("frame")
def reductions(frame: Frame) -> object:
    """Sums of all numbers, in the order of the labels."""
    numbers = frame.select_dtypes("number")
    return numbers.sum(), numbers.mean(axis=1), numbers.std(), numbers.describe(), frame.count()


@idiom("frame")
def compare_with_a_copy(frame: Frame) -> object:
    """A frame equals its copy, until one of them changes."""
    other = frame.copy()
    before = frame.equals(other)
    other.iloc[0, 0] = None
    return before, frame.equals(other), frame


@idiom("frame")
def sample_and_reindex(frame: Frame) -> object:
    """A seeded sample, reversed and reindexed."""
    other = frame.sample(frac=1, random_state=7)
    return other, frame.reindex(columns=[*frame.columns[:1], "absent"]), frame.iloc[::-1]


# Export.


@idiom("frame")
def print_it(frame: Frame) -> object:
    """`repr`, HTML and `info` show the same text."""
    buffer = io.StringIO()
    frame.info(buf=buffer, memory_usage=False)
    return repr(frame), frame.to_html(), buffer.getvalue(), str(frame.dtypes)


@idiom("frame")
def measure_it(frame: Frame) -> object:
    """Memory of numbers, and sizes. Labels and categories are left out: look-up tables count there."""
    numbers = frame.select_dtypes("number")
    return numbers.memory_usage(index=False), frame.shape, frame.size, frame.ndim, frame.empty


@idiom("frame")
def round_trip_csv(frame: Frame) -> object:
    """CSV text, and the frame read back from it."""
    content = frame.to_csv()
    return content, pd.read_csv(io.StringIO(content), index_col=0)


@idiom("frame")
def round_trip_json(frame: Frame) -> object:
    """JSON by columns and by records."""
    return frame.to_json(date_format="iso"), json.loads(
        frame.to_json(orient="split", date_unit="s")
    )


@idiom("lines")
def round_trip_excel(frame: Frame) -> object:
    """A workbook, which refuses times with a zone, and the frame read back without them."""
    buffer = io.BytesIO()
    try:
        frame.to_excel(buffer, sheet_name="lines")
    except ValueError:
        frame.drop(columns="shipped").to_excel(buffer := io.BytesIO(), sheet_name="lines")
    return pd.read_excel(buffer, index_col=0)


@idiom("frame")
def round_trip_parquet(frame: Frame) -> object:
    """Parquet bytes and back; attrs stay, mixed columns raise."""
    buffer = io.BytesIO()
    frame.drop(columns="note", errors="ignore").to_parquet(buffer)
    return pd.read_parquet(buffer)


@idiom("frame")
def records_of_a_template(frame: Frame) -> object:
    """Dicts for a template are the caller's to change."""
    records = frame.to_dict("records")
    for record in records:
        record["url"] = f"/orders/{len(record)}"
        record.pop(frame.columns[0])
    return records, frame


@idiom("frame")
def dicts_in_all_shapes(frame: Frame) -> object:
    """`to_dict` in its other shapes, and NumPy records."""
    return frame.to_dict("list"), frame.to_dict("split"), frame.to_dict(), frame.to_records()
