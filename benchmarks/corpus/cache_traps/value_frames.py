"""Values that are arrays, Series, Index and DataFrames, small and larger than what a process keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from .contract import Cached, Poisoned, expect, trap
from .values import poison

SIZES = (3, 20_000)  # rows: within a process, and beyond 64 KB


def _text(frame: Any) -> str:
    """Everything that a change could reach, of the first rows."""
    head = frame.iloc[:3]
    columns = [head.iloc[:, number].tolist() for number in range(head.shape[1])]
    return (
        f"{columns} {list(head.columns)} {head.columns.names} {list(head.index)} {head.index.names} "
        f"{frame.attrs} {frame.flags.allows_duplicate_labels} {frame.dtypes.tolist()} {frame.shape}"
    )


def _stock(rows: int) -> Any:
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({
        "kg": np.arange(rows) * 1.5,
        "pieces": np.arange(rows),
        "sku": [f"yarn {n % 50}" for n in range(rows)],
        "hall": pd.Categorical(["north", "south", "loft"] * (rows // 3) + ["loft"] * (rows % 3)),
        "day": pd.Timestamp("2024-03-01") + pd.to_timedelta(np.arange(rows) % 9, unit="D"),
        "count": pd.array(np.arange(rows), dtype="Int64"),
    })  # fmt: skip
    frame.attrs["source"] = {"file": "stock.csv", "sheets": [1]}
    return frame


def _poison_frames(cached: Cached, changes: list[Callable[[Any], Any]]) -> None:
    for rows in SIZES:
        for number, change in enumerate(changes):

            def attempt(frame: Any, change: Callable[[Any], Any] = change) -> None:
                # an array that refuses to be written to protects the others as well
                with contextlib.suppress(ValueError, TypeError, AttributeError):
                    change(frame)

            def make(rows: int = rows) -> Any:
                return _stock(rows)

            def read(frame: Any, number: int = number) -> str:
                return f"change {number}: {_text(frame)}"

            poison(cached, make, attempt, read)


def _unlock(array: Any) -> Any:
    """Make an array writable, as pandas' guide to copy-on-write suggests."""
    array.flags.writeable = True
    return array


@trap("values of frames")
def frame_changed_by_assignment(cached: Cached) -> None:
    """Cells, columns and rows that a caller sets are not seen by others."""
    _poison_frames(cached, [
        lambda f: f.__setitem__("kg", 0.0),
        lambda f: f.loc.__setitem__((1, "kg"), 99.0),
        lambda f: f.iloc.__setitem__((1, 1), 99),
        lambda f: f.at.__setitem__((2, "sku"), "changed"),
        lambda f: f.iat.__setitem__((0, 0), 99.0),
        lambda f: f.loc.__setitem__(f["kg"] > 1, 0),
        lambda f: f.insert(0, "new", 1),
        lambda f: f.__delitem__("kg"),
        lambda f: f.pop("sku"),
        lambda f: f.iloc.__setitem__((slice(None), 4), None),
    ])  # fmt: skip


@trap("values of frames")
def frame_changed_in_place(cached: Cached) -> None:
    """Methods with inplace=True and update() change the caller's frame alone."""
    import pandas as pd

    _poison_frames(cached, [
        lambda f: f.drop(columns="kg", inplace=True),
        lambda f: f.drop(index=1, inplace=True),
        lambda f: f.rename(columns={"kg": "lb"}, inplace=True),
        lambda f: f.sort_values("kg", ascending=False, inplace=True),
        lambda f: f.set_index("sku", inplace=True),
        lambda f: f.fillna(0, inplace=True),
        lambda f: f.replace({"yarn 1": "changed"}, inplace=True),
        lambda f: f.update(pd.DataFrame({"kg": [99.0]})),
        lambda f: f.query("kg > 1", inplace=True),
        lambda f: f.eval("kg = kg * 2", inplace=True),
        lambda f: f["kg"].mask(f["kg"] >= 0, -1, inplace=True),
    ])  # fmt: skip


@trap("values of frames")
def frame_changed_through_a_column(cached: Cached) -> None:
    """Writes to a column, a row, a view or an iterator over a frame are not seen by others."""

    def through_items(frame: Any) -> None:
        for name in frame.columns:
            column = frame[name]
            column.iloc[0] = column.iloc[1]

    def through_groups(frame: Any) -> None:
        for _, group in frame.groupby("sku"):
            group.iloc[0, 0] = -1.0

    _poison_frames(cached, [
        lambda f: f["kg"].__setitem__(1, 99.0),
        lambda f: f["kg"].iloc.__setitem__(1, 99.0),
        lambda f: f.iloc[:2].iloc.__setitem__((0, 0), 99.0),
        lambda f: f[["kg"]].iloc.__setitem__((0, 0), 99.0),
        lambda f: f.T.iloc.__setitem__((0, 0), 99.0),
        lambda f: f.kg.__iadd__(1),
        lambda f: f["hall"].cat.rename_categories({"north": "changed"}),
        through_items,
        through_groups,
    ])  # fmt: skip


@trap("values of frames")
def frame_changed_through_its_arrays(cached: Cached) -> None:
    """Writes to the arrays of a frame do not reach others, or raise."""
    import numpy as np

    _poison_frames(cached, [
        lambda f: f["kg"].values.__setitem__(0, 99.0),
        lambda f: f["kg"].to_numpy().__setitem__(0, 99.0),
        lambda f: np.asarray(f["kg"]).__setitem__(0, 99.0),
        lambda f: f[["kg"]].values.__setitem__((0, 0), 99.0),
        lambda f: f["kg"].array.__setitem__(0, 99.0),
        lambda f: f["count"].array.__setitem__(0, 99),
        lambda f: f["sku"].array.__setitem__(0, "changed"),
        lambda f: f["sku"].values.__setitem__(0, "changed"),
        lambda f: f["day"].array.__setitem__(0, f["day"].iloc[1]),
        lambda f: f["hall"].array.__setitem__(0, "loft"),
        lambda f: np.negative(f["kg"].values, out=f["kg"].values),
    ])  # fmt: skip


@trap("values of frames")
def frame_changed_through_arrays_made_writable(cached: Cached) -> None:
    """Arrays whose flag WRITEABLE a caller sets do not reach others, or refuse the flag."""
    _poison_frames(cached, [
        lambda f: _unlock(f["kg"].values).__setitem__(0, 99.0),
        lambda f: _unlock(f["pieces"].to_numpy()).__setitem__(slice(None), 7),
        lambda f: _unlock(f[["kg"]].values).__setitem__((0, 0), 99.0),
        lambda f: _unlock(f.index.values).__setitem__(0, 99),
        lambda f: _unlock(f.columns.values).__setitem__(0, "changed"),
        lambda f: _unlock(f["hall"].cat.codes.values).__setitem__(0, 2),
    ])  # fmt: skip


@trap("values of frames")
def frame_labels_changed(cached: Cached) -> None:
    """Labels, names of axes, attrs and flags that a caller sets are not seen by others."""
    _poison_frames(cached, [
        lambda f: setattr(f, "columns", list("abcdef")),
        lambda f: setattr(f, "index", range(1, len(f) + 1)),
        lambda f: setattr(f.index, "name", "changed"),
        lambda f: setattr(f.columns, "name", "changed"),
        lambda f: f.rename_axis("changed", inplace=True),
        lambda f: f.columns.values.__setitem__(0, "changed"),
        lambda f: f.index.values.__setitem__(0, 99),
        lambda f: f.attrs.update(unit="kg"),
        lambda f: f.attrs["source"].update(file="changed"),
        lambda f: f.attrs["source"]["sheets"].append(2),
        lambda f: setattr(f.flags, "allows_duplicate_labels", False),
    ])  # fmt: skip


@trap("values of frames")
def frame_with_index_of_its_data(cached: Cached) -> None:
    """An index that holds data, named and with levels, is not shared between callers."""

    def make() -> Any:
        return _stock(600).drop(columns="hall").set_index(["sku", "day"])

    changes: list[Callable[[Any], Any]] = [
        lambda f: setattr(f.index, "names", ["a", "b"]),
        lambda f: setattr(f, "index", f.index.set_levels([-1], level=0, verify_integrity=False)),
        lambda f: f.reset_index(inplace=True),
        lambda f: f.index.levels[0].values.__setitem__(0, "changed"),
        lambda f: setattr(f.index.levels[1], "name", "changed"),
    ]
    for change in changes:

        def attempt(frame: Any, change: Callable[[Any], Any] = change) -> None:
            with contextlib.suppress(ValueError, TypeError, AttributeError, RuntimeError):
                change(frame)

        poison(cached, make, attempt, _text)


@trap("values of frames")
def frame_with_mutable_cells(cached: Cached) -> None:
    """Lists, dicts and arrays in cells are not shared, whatever copies of pandas do."""
    import numpy as np
    import pandas as pd

    for rows in SIZES:

        def make(rows: int = rows) -> Any:
            return pd.DataFrame({
                "lots": [[n] for n in range(rows)],
                "tags": [{"n": n} for n in range(rows)],
                "pair": [(n, [n]) for n in range(rows)],
                "array": [np.arange(2) for _ in range(rows)],
            })  # fmt: skip

        def change(frame: Any) -> None:
            frame["lots"].iloc[0].append(9)
            frame["tags"].iloc[1]["n"] = 9
            frame["pair"].iloc[2][1].append(9)
            frame["array"].iloc[0][0] = 9

        poison(cached, make, change, lambda frame: repr(frame.head(3).to_numpy().tolist()))


@trap("values of frames")
def frames_within_values(cached: Cached) -> None:
    """Frames in dicts, tuples and objects are not shared."""

    class Report:
        def __init__(self, rows: int) -> None:
            self.stock = _stock(rows)

    for rows in SIZES:
        poison(
            cached,
            lambda rows=rows: {"stock": _stock(rows), "all": [(_stock(rows),)]},
            lambda value: (
                value["stock"].loc.__setitem__((0, "kg"), 99.0),
                value["all"][0][0].loc.__setitem__((0, "kg"), 99.0),
            ),
            lambda value: _text(value["stock"]) + _text(value["all"][0][0]),
        )
        poison(
            cached,
            lambda rows=rows: Report(rows),
            lambda value: value.stock.loc.__setitem__((0, "kg"), 99.0),
            lambda value: _text(value.stock),
        )


@trap("values of frames")
def series_and_index_as_values(cached: Cached) -> None:
    """A Series or an Index that a caller changes or renames is not seen by others."""

    def series_text(column: Any) -> str:
        return f"{column.tolist()[:3]} {column.name} {column.index.name} {column.attrs}"

    def index_text(index: Any) -> str:
        return f"{index.tolist()[:3]} {index.name}"

    def attempt(change: Callable[[Any], Any]) -> Callable[[Any], None]:
        def guarded(value: Any) -> None:
            with contextlib.suppress(ValueError):  # a view that pandas 2 refuses to sort
                change(value)

        return guarded

    changes: list[Callable[[Any], Any]] = [
        lambda s: s.__setitem__(0, 99.0),
        lambda s: s.iloc.__setitem__(slice(None), 0.0),
        lambda s: setattr(s, "name", "changed"),
        lambda s: setattr(s.index, "name", "changed"),
        lambda s: s.sort_values(ascending=False, inplace=True),
        lambda s: s.attrs.update(unit="kg"),
        lambda s: s.__iadd__(1),
    ]
    for rows in SIZES:
        for change in changes:
            poison(cached, lambda rows=rows: _stock(rows)["kg"], attempt(change), series_text)
        for change in (
            lambda i: setattr(i, "name", "changed"),
            lambda i: i.values.__setitem__(0, 99),
        ):
            poison(
                cached,
                lambda rows=rows: _stock(rows).set_index("pieces").index,
                attempt(change),
                index_text,
            )


@trap("values of frames")
def returned_frame(cached: Cached) -> None:
    """A function that returns the frame, or the column, it got: later writes change no answer."""

    def same(stock: Any) -> Any:
        return stock

    def column(stock: Any) -> Any:
        return stock["kg"]

    for rows in SIZES:
        served, served_column = cached(same), cached(column)
        stock = _stock(rows)
        served(stock)
        served_column(stock)
        stock.loc[0, "kg"] = 99.0
        stock.iloc[1, 0] = 98.0
        stock.index.name = "changed"
        expect(_text(served(_stock(rows))), _text(_stock(rows)), "the frame", Poisoned)
        expect(served_column(_stock(rows)).tolist()[:2], [0.0, 1.5], "the column", Poisoned)


@trap("values of frames")
def frame_that_the_loader_keeps(cached: Cached) -> None:
    """A frame that the function keeps and writes to later does not change for its callers."""
    kept: list[Any] = []

    def load(rows: int) -> Any:
        stock = _stock(rows)
        kept.append(stock)
        return stock

    served = cached(load)
    for rows in SIZES:
        served(rows)
        for stock in kept:
            stock.loc[0, "kg"] = 99.0
        expect(_text(served(rows)), _text(_stock(rows)), f"{rows} rows", Poisoned)


@trap("values of frames")
def arrays_as_values(cached: Cached) -> None:
    """Arrays can be written to by each caller and are not shared; views and orders survive."""
    import numpy as np

    def text(array: Any) -> str:
        order = f"{array.flags.c_contiguous} {array.flags.f_contiguous}"
        return f"{array.ravel()[:4].tolist()} {array.dtype} {array.shape} {order}"

    def write(array: Any) -> None:
        array += 1
        array[...] = array[::-1].copy()

    for side in (3, 200):
        makers: list[Callable[[], Any]] = [
            lambda side=side: np.arange(float(side * side)).reshape(side, side),
            lambda side=side: np.asfortranarray(np.arange(side * side).reshape(side, side)),
            lambda side=side: np.arange(side * side)[::2].copy(),
            lambda side=side: np.ones((side, side), dtype="f4"),
        ]
        for make in makers:
            poison(cached, make, write, text)

    def objects() -> Any:
        cells = np.empty(2, dtype=object)
        cells[:] = [[1], [2]]
        return cells

    poison(cached, objects, lambda cells: cells[0].append(9), lambda cells: repr(cells.tolist()))


@trap("values of frames")
def classes_with_metadata(cached: Cached) -> None:
    """Frames and arrays of subclasses come back with their class and their attributes."""
    import numpy as np
    import pandas as pd

    class Stock(pd.DataFrame):
        _metadata: list[str] = ["unit"]  # noqa: RUF012 - as pandas documents it
        unit = ""

        @property
        def _constructor(self) -> Any:
            return Stock

    class Quantity(np.ndarray):
        unit = ""

    def load(rows: int) -> Any:
        stock = Stock({"kg": [1.0] * rows})
        quantity = np.arange(float(rows)).view(Quantity)
        stock.unit = quantity.unit = "kg"
        return stock, quantity, np.ma.array([1.0] * rows, mask=[True] + [False] * (rows - 1))

    def text(values: Any) -> str:
        return " ".join(
            f"{type(value).__name__} {getattr(value, 'unit', None)} {float(value.sum().sum())}"
            for value in values
        )

    served = cached(load)
    for rows in SIZES:
        for turn in range(3):
            expect(text(served(rows)), text(load(rows)), f"{rows} rows, turn {turn}")


@trap("values of frames")
def array_that_shows_an_argument(cached: Cached) -> None:
    """An array that is a view of an argument does not change with the argument."""
    import numpy as np

    def half(numbers: Any) -> Any:
        return numbers[: len(numbers) // 2]

    for rows in SIZES:
        served = cached(half)
        numbers = np.arange(rows * 2)
        served(numbers)
        numbers[0] = 99
        expect(served(np.arange(rows * 2)).tolist()[:2], [0, 1], f"{rows} rows", Poisoned)
