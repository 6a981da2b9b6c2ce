"""Builders of the tables that the pandas idioms run on.

Written from the issue's text, before there was a cache to judge. `FRAMES`, `SERIES`, `INDEXES` and
`BUNDLES` hold builders by name; `reads(folder)` writes files and gives builders that read them.
Calling a builder gives a new object, equal to the one before and without anything in common with it.
A builder is in some groups (its name is one of them); an idiom names the groups that it applies to.
All values are fixed: nothing is drawn at random and nothing depends on the clock.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

ROWS = 9
HAS_ARROW = importlib.util.find_spec("pyarrow") is not None
YARNS = ("merino", "Shetland", "merino", None, "Wolle öko", "", "cotton", "mohair 2", "linen")


@dataclass(frozen=True)
class Builder:
    """Named constructor of one value, and the groups of idioms that apply to it."""

    name: str
    build: Callable[[], Any]
    groups: frozenset[str]

    def __call__(self) -> Any:
        """Return a new value."""
        return self.build()


@dataclass
class Spool:
    """Mutable object of the application in a cell."""

    yarn: str
    metres: list[int] = field(default_factory=list)


class Ledger(pd.DataFrame):
    """Subclass of a frame with metadata, as applications and GeoPandas define them."""

    _metadata: ClassVar[list[str]] = ["currency"]

    @property
    def _constructor(self) -> type[Ledger]:
        return Ledger


def _columns(rows: int) -> dict[str, Any]:
    """Return the columns of the order lines by name."""
    index = range(rows)
    kg = [(0.1 * number) ** 2 - 0.3 for number in index]
    kg[1:2], kg[3:4], kg[5:6] = [-0.0] * (rows > 1), [np.nan] * (rows > 3), [np.inf] * (rows > 5)
    due = pd.Series(pd.date_range("2024-03-29 22:30", periods=rows, freq="6h"))
    if rows > 4:
        due[4] = pd.NaT
    return {
        "order": np.array([1001 + number // 2 for number in index], dtype="int64"),
        "line": np.array([number % 3 for number in index], dtype="int32"),
        "kg": np.array(kg, dtype="float64"),
        "price": np.array([12.35 * (number + 1) / 7 for number in index]),
        "paid": np.array([number % 3 == 0 for number in index], dtype=bool),
        "yarn": pd.Series([YARNS[number % 9] for number in index]),
        "note": pd.Series([[None, "x", 7, 2.5][number % 4] for number in index], dtype=object),
        "grade": pd.Categorical(
            ["BAC"[number % 3] for number in index], list("CBAZ"), ordered=True
        ),
        "due": due,
        "shipped": due.dt.tz_localize(
            "Europe/Berlin", nonexistent="shift_forward", ambiguous="NaT"
        ),
        "pieces": pd.array([None if n % 4 == 3 else n * 10 for n in index], dtype="Int64"),
        "checked": pd.array([[True, False, None][n % 3] for n in index], dtype="boolean"),
        "memo": pd.array([None if n % 5 == 2 else f"memo {n}" for n in index], dtype="string"),
    }


def _mark(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a frame nested attrs and a named index, and return it."""
    frame.attrs = {"source": {"mill": "north", "files": ["a.csv", "b.csv"]}, "version": 3}
    frame.index.name = "row"
    return frame


def orders(rows: int = ROWS) -> pd.DataFrame:
    """Order lines of mixed dtypes, one block per dtype."""
    return _mark(pd.DataFrame(_columns(rows)))


def fragmented() -> pd.DataFrame:
    """Order lines inserted column by column: a block for each."""
    columns = _columns(ROWS)
    frame = pd.DataFrame({"order": columns.pop("order")})
    for name, values in columns.items():
        frame[name] = values
    return _mark(frame)


def strided() -> pd.DataFrame:
    """Every second row of a longer frame: its blocks are views into larger buffers."""
    return _mark(pd.DataFrame(_columns(2 * ROWS)).iloc[1::2])


def ledger() -> pd.DataFrame:
    """Order lines in a subclass of DataFrame."""
    frame = Ledger(_columns(ROWS))
    frame.currency = "EUR"
    return _mark(frame)


def numbers() -> pd.DataFrame:
    """Floats in a single block with text labels."""
    values = (np.arange(24, dtype="float64").reshape(6, 4) - 7) / 3
    values[0, 0], values[2, 1] = -0.0, np.nan
    return pd.DataFrame(values, index=list("uvwxyz"), columns=["kg", "price", "tax", "rate"])


def number_columns() -> pd.DataFrame:
    """The same floats in a block for each column."""
    whole = numbers()
    frame = pd.DataFrame(index=list("uvwxyz"))
    for name in whole.columns:
        frame[name] = whole[name].to_numpy().copy()
    return frame


def cells() -> pd.DataFrame:
    """Mutable cells: lists, dicts, sets, arrays, frames and objects; some are in two places."""
    shared = ["rush"]
    frame = pd.DataFrame({"order": [1, 2, 3, 4], "kg": [1.5, 2.5, -0.0, np.nan]})
    frame["tags"] = pd.Series([["a", "b"], [], ["c"], None], dtype=object)
    frame["spec"] = [{"needle": 5, "colours": ["red"]}, {}, {"needle": 7}, {"deep": {"x": [1]}}]
    frame["shared"] = pd.Series([shared, shared, shared, shared], dtype=object)
    frame["alias"] = frame["tags"]
    frame["sizes"] = [{"S"}, {"M", "L"}, set(), {"XL"}]
    frame["curve"] = pd.Series([np.arange(3.0), np.zeros(2), np.array([-0.0]), None], dtype=object)
    frame["raw"] = [bytearray(b"ab"), bytearray(), bytearray(b"z"), bytearray(b"00")]
    frame["pair"] = [(1, ["p"]), (2, ["q"]), (3, []), (4, [None])]
    frame["spool"] = [Spool("merino", [1]), Spool("linen"), Spool("silk", [3]), Spool("hemp")]
    frame["table"] = pd.Series([pd.DataFrame({"x": [1, 2]}), None, None, pd.Series([1.0])])
    frame["cost"] = [Decimal("1.10"), Decimal("1.1"), Decimal(0), Decimal("-0.0")]
    frame["day"] = [dt.date(2024, 2, 29 - number) for number in range(4)]
    return frame


def levels() -> pd.DataFrame:
    """MultiIndex rows and columns, with unused levels and an unnamed level."""
    rows = pd.MultiIndex.from_product([["north", "south"], [2023, 2024], ["q1", "q2"]])
    rows = rows.set_names(["hall", "year", None])
    columns = pd.MultiIndex.from_tuples(
        [("kg", "plan"), ("kg", "real"), ("price", "plan"), ("pieces", "real")],
        names=["measure", "kind"],
    )
    frame = pd.DataFrame(np.arange(32.0).reshape(8, 4) / 9, index=rows, columns=columns)
    frame[("pieces", "real")] = range(8)
    return frame[frame.index.get_level_values("year") == 2024]


def duplicates() -> pd.DataFrame:
    """Duplicate labels in rows and columns."""
    frame = pd.DataFrame([[1, 2.5, "x"], [3, 4.5, "y"], [5, -0.0, "z"], [7, np.nan, ""]])
    frame.columns = ["kg", "price", "kg"]
    frame.index = ["a", "b", "a", "c"]
    return frame


def labels() -> pd.DataFrame:
    """Column labels of many types, and an index of tuples and None."""
    frame = pd.DataFrame(np.arange(15).reshape(3, 5))
    frame.columns = pd.Index([0, "kg", None, 1.5, pd.Timestamp("2024-01-01")], dtype=object)
    frame.index = pd.Index([("a", 1), None, "b"], dtype=object, tupleize_cols=False)
    return frame


def unique() -> pd.DataFrame:
    """A frame that refuses duplicate labels."""
    frame = pd.DataFrame({"kg": [1.0, 2.0, 3.0], "yarn": ["a", "b", "c"]}, index=[10, 20, 30])
    return frame.set_flags(allows_duplicate_labels=False)


def calendar() -> pd.DataFrame:
    """DatetimeIndex with zone and frequency; period, interval, timedelta and complex columns."""
    index = pd.date_range("2024-03-30", periods=6, freq="D", tz="Europe/Berlin", name="day")
    frame = pd.DataFrame({"kg": np.arange(6, dtype="float32") / 3}, index=index)
    frame["month"] = pd.period_range("2024-01", periods=6, freq="M")
    frame["range"] = pd.interval_range(0, 6)
    frame["wait"] = pd.to_timedelta([90, -1, 0, 5, 3600, 86400], unit="s")
    frame["phase"] = np.array([complex(-0.0, 1), 2j, 3, complex(np.nan, 0), 5, 6])
    frame["tiny"] = np.arange(6, dtype="uint8")
    frame["second"] = np.arange(6).astype("datetime64[s]")
    frame["slot"] = index.tz_convert("UTC").tz_localize(None)
    return frame


def sparse() -> pd.DataFrame:
    """Sparse columns with two fill values beside a dense one."""
    frame = pd.DataFrame({"kg": [1.0, 2.0, 3.0, 4.0]})
    frame["few"] = pd.arrays.SparseArray([0, 0, 5, 0])
    frame["gaps"] = pd.arrays.SparseArray([np.nan, 1.5, np.nan, np.nan])
    return frame


def arrow() -> pd.DataFrame:
    """Arrow-backed columns, a list column among them."""
    import pyarrow as pa

    return pd.DataFrame({
        "order": pd.array([1, None, 3, 4], dtype=pd.ArrowDtype(pa.int64())),
        "kg": pd.array([1.5, -0.0, None, 2.5], dtype=pd.ArrowDtype(pa.float64())),
        "yarn": pd.array(["a", "ö", None, ""], dtype=pd.ArrowDtype(pa.string())),
        "tags": pd.array([["x"], [], None, ["y", "z"]], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        "memo": pd.array(["m", None, "n", "o"], dtype="string[pyarrow]"),
    })  # fmt: skip


def text() -> pd.Series:
    """Text with None and an empty string, and a tuple as its name."""
    return pd.Series(list(YARNS), name=("yarn", 1))


def kilos() -> pd.Series:
    """Floats with NaN and -0.0, a text index with a name, and attrs."""
    series = pd.Series(_columns(ROWS)["kg"], index=list("ihgfedcba"), name="kg")
    series.index.name = "bin"
    series.attrs["unit"] = ["kg"]
    return series


def grades() -> pd.Series:
    """Ordered categories, one of them unused, one cell missing."""
    return pd.Series(pd.Categorical(["B", "A", None, "B"], list("CBA"), ordered=True), name="grade")


def pieces() -> pd.Series:
    """Nullable integers."""
    return pd.Series([1, None, 3, 4], dtype="Int64", name="pieces", index=[4, 3, 2, 1])


def days() -> pd.Series:
    """Times with a zone across the change to summer time, with NaT."""
    times = pd.Series(pd.date_range("2024-03-31", periods=5, freq="h", tz="Europe/Berlin"))
    times[2] = pd.NaT
    return times


def lists() -> pd.Series:
    """Lists in cells, the first and the last one the same object."""
    first = [1, 2]
    return pd.Series([first, [3], None, first], name="tags")


def bundle() -> dict[str, Any]:
    """A dict as services return it: frames, a list of them, scalars; one frame is in it twice."""
    frame = orders(4)
    series = kilos()
    return {
        "lines": frame,
        "again": frame,
        "rest": [series, pd.Index(["a", "b"], name="n"), {"total": np.float64(-0.0)}],
        "pair": (numbers(), None),
        "array": np.arange(6.0).reshape(2, 3),
    }


def parts() -> list[pd.DataFrame]:
    """A list of chunks of one frame."""
    frame = orders()
    return [frame.iloc[:4], frame.iloc[4:]]


def _builders(group: str, table: dict[Callable[[], Any], str]) -> dict[str, Builder]:
    return {
        build.__name__: Builder(build.__name__, build, frozenset({build.__name__, group, *more.split()}))
        for build, more in table.items()
        if build is not arrow or HAS_ARROW
    }  # fmt: skip


def empty() -> pd.DataFrame:
    """Order lines without a row."""
    return orders(0)


def one_row() -> pd.DataFrame:
    """A single order line."""
    return orders(1)


def text_index() -> pd.Index:
    """Text labels with a duplicate and a name."""
    return pd.Index(["a", "b", "a", "ü"], name="label")


def number_index() -> pd.Index:
    """Float labels with NaN and -0.0."""
    return pd.Index([1.5, -0.0, np.nan, 2.0], name="kg")


def day_index() -> pd.Index:
    """Days with a zone and a frequency."""
    return pd.date_range("2024-03-30", periods=4, freq="D", tz="Europe/Berlin", name="day")


def level_index() -> pd.Index:
    """Levels with an unused label."""
    return levels().index


def grade_index() -> pd.Index:
    """Categorical labels."""
    return pd.CategoricalIndex(["B", "A", "B"], list("CBA"), ordered=True, name="grade")


def range_index() -> pd.Index:
    """A range with a step and a name."""
    return pd.RangeIndex(3, 12, 3, name="row")


FRAMES = _builders(
    "frame",
    {
        orders: "lines",
        fragmented: "lines",
        strided: "lines",
        ledger: "lines",
        empty: "lines",
        one_row: "lines",
        numbers: "floats",
        number_columns: "floats",
        cells: "",
        levels: "",
        duplicates: "",
        labels: "",
        unique: "",
        calendar: "",
        sparse: "",
        arrow: "",
    },
)
SERIES = _builders("series", dict.fromkeys((text, kilos, grades, pieces, days, lists), ""))
INDEXES = _builders(
    "index",
    dict.fromkeys((text_index, number_index, day_index, level_index, grade_index, range_index), ""),
)
BUNDLES = _builders("container", dict.fromkeys((bundle, parts), ""))
BUILDERS = FRAMES | SERIES | INDEXES | BUNDLES


def reads(folder: Path) -> list[Builder]:
    """Write one file for each reader below a folder; return builders that read them.

    A reader is looked up in pandas when the builder is called, so that a reader that was replaced
    meanwhile is used.
    """
    frame = orders()
    frame.drop(columns="shipped").to_csv(folder / "lines.csv")
    frame.drop(columns="shipped").to_excel(folder / "lines.xlsx", sheet_name="lines")
    with pd.ExcelWriter(folder / "book.xlsx") as writer:
        frame[["order", "kg"]].to_excel(writer, sheet_name="lines", index=False)
        numbers().to_excel(writer, sheet_name="numbers")
    frame[["order", "kg", "price", "yarn", "paid"]].to_json(folder / "lines.json", orient="records")
    spec = {"needle": 5, "colours": ["red"]}
    nested = [{"order": 1, "kg": 1.5, "tags": ["a", "b"], "spec": spec}, {"order": 2, "tags": []}]
    (folder / "nested.json").write_text(json.dumps(nested))
    (folder / "row.json").write_text('{"a": 1.5, "b": 2}')
    builders: list[tuple[str, Callable[[], Any], str]] = [
        ("csv", lambda: pd.read_csv(folder / "lines.csv"), "frame lines"),
        ("csv with dtypes", lambda: _typed(folder / "lines.csv"), "frame lines"),
        ("csv as text", lambda: pd.read_csv(folder / "lines.csv", dtype=str), "frame lines"),
        ("excel", lambda: pd.read_excel(folder / "lines.xlsx", index_col=0), "frame lines"),
        ("workbook", lambda: pd.read_excel(folder / "book.xlsx", sheet_name=None), "container"),
        ("json", lambda: pd.read_json(folder / "lines.json"), "frame lines"),
        ("nested json", lambda: pd.read_json(folder / "nested.json"), "frame cells"),
        ("json as series", lambda: pd.read_json(folder / "row.json", typ="series"), "series"),
    ]
    if HAS_ARROW:
        frame.drop(columns="note").to_parquet(folder / "lines.parquet")
        builders.append(
            ("parquet", lambda: pd.read_parquet(folder / "lines.parquet"), "frame lines")
        )
    return [
        Builder(f"read {name}", build, frozenset(groups.split()))
        for name, build, groups in builders
    ]


def _typed(path: Path) -> pd.DataFrame:
    dtypes = {"grade": "category", "pieces": "Int64", "memo": "string"}
    return pd.read_csv(path, index_col="row", dtype=dtypes, parse_dates=["due"])
