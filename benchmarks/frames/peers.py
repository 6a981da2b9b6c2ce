"""What else makes frames smaller: the packages an analyst finds, each by its own main function.

Each gets a copy of the table and gives a frame back. What it raises is its failure, and what it says on
the way is not shown. The idea that circulates from notebook to notebook as ``reduce_mem_usage`` is
written here in our own words: a column takes the narrowest type into whose range its smallest and
largest value fit, half precision included, and text becomes a category.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .comparison import Verdict, compare
from .sizes import deep_bytes, true_bytes


class Tried(NamedTuple):
    """What became of a table under a peer.

    Attributes:
        error: the class of what it raised, else empty.
        seconds: of CPU time.
        true: bytes of what it gave, each once.
        deep: the same as pandas counts.
        verdict: what differs; ``None`` where it failed.
    """

    error: str
    seconds: float
    true: int
    deep: int
    verdict: Verdict | None


class Peer(NamedTuple):
    """Something that makes frames smaller.

    Attributes:
        name: of it, as it is told to people.
        package: the distribution whose version is told.
        shrink: gives the smaller frame, and its bytes where they are not pandas'.
    """

    name: str
    package: str
    shrink: Callable[[pd.DataFrame], tuple[pd.DataFrame, int | None]]

    def version(self) -> str:
        """Return the version of its distribution."""
        return version(self.package)


def attempt(peer: Peer, frame: pd.DataFrame) -> Tried:
    """Return what becomes of a table."""
    given = frame.copy()
    began = time.process_time()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            made, held = peer.shrink(given)
            took = time.process_time() - began
            true = true_bytes(made) if held is None else held
            deep = deep_bytes(made) if held is None else held
            return Tried("", took, true, deep, compare(frame, made))
        except Exception as error:
            return Tried(type(error).__name__, time.process_time() - began, 0, 0, None)


def _plain(shrink: Callable[[pd.DataFrame], pd.DataFrame]) -> Any:
    return lambda frame: (shrink(frame), None)


def convert_klib(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert types as klib does by default."""
    import klib

    return klib.convert_datatypes(frame)


def _downcast(frame: pd.DataFrame) -> pd.DataFrame:
    import pdcast

    return pdcast.downcast(frame)


def _diet(frame: pd.DataFrame) -> pd.DataFrame:
    import dtype_diet

    return dtype_diet.optimize_dtypes(frame, dtype_diet.report_on_dataframe(frame, unit="MB"))


def _efficiency(frame: pd.DataFrame) -> pd.DataFrame:
    from pandas_dtype_efficiency import DataFrameChecker

    checker = DataFrameChecker(frame)
    checker.identify_possible_improvements()
    if not checker.get_possible_dtypes():
        return frame  # it warns by raising where it has nothing to do
    return checker.cast_dataframe_to_lower_memory_version()


def _memory(method: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def shrink(frame: pd.DataFrame) -> pd.DataFrame:
        import data_memory

        data_memory.reduce_memory(frame, method=method)
        return frame

    return shrink


def _convert(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.convert_dtypes(dtype_backend="pyarrow")


def to_numeric(frame: pd.DataFrame) -> pd.DataFrame:
    """Downcast every column of numbers, as the documentation of pandas advises."""
    for place, (_, values) in enumerate(list(frame.items())):
        if values.dtype.kind in "iu":
            frame.isetitem(place, pd.to_numeric(values, downcast="integer"))
        elif values.dtype.kind == "f":
            frame.isetitem(place, pd.to_numeric(values, downcast="float"))
    return frame


def _notebook(frame: pd.DataFrame) -> pd.DataFrame:
    """Choose types by the smallest and the largest value alone, as notebooks do."""
    for name in frame.columns:
        kind = getattr(frame[name].dtype, "kind", "O")
        if kind == "b" or kind in "mM":
            continue
        if kind not in "iuf":
            frame[name] = frame[name].astype("category")
            continue
        low, high = frame[name].min(), frame[name].max()
        types = ("int8", "int16", "int32") if kind in "iu" else ("float16", "float32")
        for each in types:
            limits: Any = np.iinfo(each) if kind in "iu" else np.finfo(each)
            if limits.min < low and high < limits.max:
                frame[name] = frame[name].astype(each)
                break
    return frame


def _polars(frame: pd.DataFrame) -> tuple[pd.DataFrame, int | None]:
    import polars as pl
    import polars.selectors as of

    made = pl.from_pandas(frame)
    names = made.select(of.numeric()).columns
    made = made.with_columns(
        *(made[name].shrink_dtype() for name in names), of.string().cast(pl.Categorical)
    )
    return made.to_pandas(), int(made.estimated_size())


PEERS = (
    Peer("klib.convert_datatypes", "klib", _plain(convert_klib)),
    Peer("pandas-downcast", "pandas-downcast", _plain(_downcast)),
    Peer("dtype-diet", "dtype-diet", _plain(_diet)),
    Peer("pandas-dtype-efficiency", "pandas-dtype-efficiency", _plain(_efficiency)),
    Peer("dataframe-memory, exact", "dataframe-memory", _plain(_memory("exact"))),
    Peer("dataframe-memory, as it comes", "dataframe-memory", _plain(_memory("approx"))),
    Peer('convert_dtypes("pyarrow")', "pandas", _plain(_convert)),
    Peer("to_numeric(downcast)", "pandas", _plain(to_numeric)),
    Peer("the notebook's reduce_mem_usage", "pandas", _plain(_notebook)),
    Peer("polars, shrink and Categorical", "polars", _polars),
)
