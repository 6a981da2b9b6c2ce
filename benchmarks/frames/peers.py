"""Peers that make frames smaller: the packages that an analyst finds, each by its main function.

Each receives a copy of the table and returns a frame. An exception is its failure, and its output is
discarded. The recipe that circulates in notebooks as ``reduce_mem_usage`` is written here from scratch:
a column takes the narrowest type whose range contains its smallest and largest value, half precision
included, and text becomes a category.
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


class Result(NamedTuple):
    """The result of a peer on a table.

    Attributes:
        error: the class of the exception, else empty.
        seconds: of CPU time.
        true: bytes of the returned frame, each object once.
        deep: the same as pandas counts.
        verdict: the differences; ``None`` after a failure.
    """

    error: str
    seconds: float
    true: int
    deep: int
    verdict: Verdict | None


class Peer(NamedTuple):
    """Something that makes frames smaller.

    Attributes:
        name: as published.
        package: the distribution whose version is published.
        shrink: returns the smaller frame, and its bytes if they are not those of pandas.
    """

    name: str
    package: str
    shrink: Callable[[pd.DataFrame], tuple[pd.DataFrame, int | None]]

    def version(self) -> str:
        """Return the version of its distribution."""
        return version(self.package)


def attempt(peer: Peer, frame: pd.DataFrame) -> Result:
    """Run a peer on a copy of a table."""
    copy = frame.copy()
    start = time.process_time()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            smaller, size = peer.shrink(copy)
            seconds = time.process_time() - start
            true = true_bytes(smaller) if size is None else size
            deep = deep_bytes(smaller) if size is None else size
            return Result("", seconds, true, deep, compare(frame, smaller))
        except Exception as error:
            return Result(type(error).__name__, time.process_time() - start, 0, 0, None)


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
        return frame  # it raises if there is no column to convert
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
        for dtype in types:
            limits: Any = np.iinfo(dtype) if kind in "iu" else np.finfo(dtype)
            if limits.min < low and high < limits.max:
                frame[name] = frame[name].astype(dtype)
                break
    return frame


def _polars(frame: pd.DataFrame) -> tuple[pd.DataFrame, int | None]:
    import polars as pl
    import polars.selectors as of

    table = pl.from_pandas(frame)
    names = table.select(of.numeric()).columns
    table = table.with_columns(
        *(table[name].shrink_dtype() for name in names), of.string().cast(pl.Categorical)
    )
    return table.to_pandas(), int(table.estimated_size())


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
