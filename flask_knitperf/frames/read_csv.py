"""Reading a large CSV file into a small frame, without holding the large one in between.

The file is read in chunks, and each chunk is shrunk at once; at the end the parts of each column are
concatenated, column by column. The frame holds what :func:`pandas.read_csv` reads from the whole file.
Where chunks disagree about the dtype of a column (numbers first, text later, for which pandas takes the
whole column for text, so that ``007`` is not 7), that column is read once more in one piece. The whole
file is read in one piece where chunks disagree about the index, and with options whose effect depends
on the whole file (pandas infers a date format from the first dates).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from .csv_header import MAX_COLUMNS, check_width, field_separator, too_many_columns
from .dtype_selection import Level
from .errors import FrameError
from .packed_array import PackedDtype
from .plan import LevelName, checked_level, smaller_column
from .verify import decoded

CHUNK_ROWS = 100_000
_EXACT_LIMIT = 1 << 53
"""Largest magnitude up to which every integer is exact as float64."""
_CASTABLE_TO_FLOAT = {"small integers", "fractions", "empty"}
"""Kinds of parts that concatenate to the float64 column of the whole file."""
_CHANGED_BY_EMPTY_CELLS = {"integers with zero", "large integers", "unsigned integers"}
"""Kinds that are read differently if any cell of the column is empty."""

Parts = dict[int, list["pd.Series[Any]"]]


def read_csv(
    path: str | os.PathLike[str],
    level: LevelName = "balanced",
    keep: Collection[Hashable] = (),
    float_tolerance: float = 0.0,
    *,
    max_columns: int = MAX_COLUMNS,
    chunk_rows: int = CHUNK_ROWS,
    **options: Any,
) -> pd.DataFrame:
    """Read a CSV file as :func:`pandas.read_csv` does, into a frame of fewer bytes.

    Memory peaks near the small size: one chunk as pandas reads it, the columns in their small dtypes,
    and one column twice while it is concatenated.

    Args:
        path: a file, compressed or not; an open file is read in one piece.
        level: see :func:`.plan_dataframe`, as for the next two.
        keep: labels of columns to leave unchanged.
        float_tolerance: largest allowed relative error of a floating-point number.
        max_columns: a file with more columns, or more levels of an index, is refused before it is read.
        chunk_rows: rows that are read at a time.
        options: of ``pandas.read_csv``, except ``chunksize``, ``iterator`` and ``nrows``. The file is
            read in one piece with ``parse_dates`` (unless ``date_format`` is one format for all
            columns), ``on_bad_lines``, ``converters``, ``skipfooter`` and ``engine="pyarrow"``.

    Raises:
        FrameError: the file has too many columns, or an argument is wrong.
        Exception: raised by pandas for the content of the file.
    """
    refused = {"chunksize", "iterator", "nrows"} & options.keys()
    if refused:
        raise FrameError(
            f"{', '.join(sorted(refused))} cannot be given: the file is read in chunks"
        )
    if chunk_rows < 1:
        raise FrameError(f"chunk_rows is {chunk_rows}; it must be 1 or more")
    # date strings remain text, since the frame holds what pandas reads
    chosen = replace(checked_level(level, float_tolerance), parses_dates=False)
    check_width(path, options, max_columns)
    labels = frozenset({keep} if isinstance(keep, str) else keep)
    reader = _ChunkedReader(chosen, labels, float_tolerance, max_columns)
    reader.read(path, chunk_rows, options)
    return reader.frame(path, options)


class _ChunkedReader:
    """One pass through a file, which collects shrunk parts of its columns."""

    def __init__(
        self, level: Level, keep: frozenset[Hashable], tolerance: float, max_columns: int
    ) -> None:
        self._level, self._keep, self._tolerance = level, keep, tolerance
        self._max_columns = max_columns
        self._clear()

    def _clear(self) -> None:
        self._dtypes: dict[int, set[Any]] = {}
        self._parts: Parts = {}
        self._kinds: dict[int, set[str]] = {}
        self._labels: pd.Index[Any] = pd.Index([])
        self._indexes: list[pd.Index[Any]] = []

    def read(self, path: Any, chunk_rows: int, options: dict[str, Any]) -> None:
        """Read a file in chunks, or in one piece where chunks would give another result."""
        if not _needs_one_piece(path, options):
            self._read_chunks(path, chunk_rows, options)
            if not self._index_is_inconsistent():
                return
            self._clear()
        self._add(pd.read_csv(path, **_whole_column_options(options)))

    def _read_chunks(self, path: Any, chunk_rows: int, options: dict[str, Any]) -> None:
        options = _whole_column_options(options)
        with pd.read_csv(path, chunksize=chunk_rows, **options) as chunks:
            for chunk in chunks:
                self._add(chunk)

    def _index_is_inconsistent(self) -> bool:
        """Return whether chunks disagree about the kind of an index level."""
        indexes = [_index_kinds(index) for index in self._indexes if len(index)]
        return any(len(set(levels)) > 1 for levels in zip(*indexes, strict=True))

    def _add(self, chunk: pd.DataFrame) -> None:
        if chunk.shape[1] > self._max_columns:
            raise too_many_columns(chunk.shape[1], self._max_columns)
        self._labels = chunk.columns
        self._indexes.append(chunk.index)
        for position, (name, values) in enumerate(chunk.items()):
            if len(values):
                self._kinds.setdefault(position, set()).add(_kind(values))
            self._dtypes.setdefault(position, set()).add(values.dtype)
            self._parts.setdefault(position, []).append(self._shrink(name, values))

    def _shrink(self, name: Hashable, values: pd.Series[Any]) -> pd.Series[Any]:
        if name in self._keep or not len(values):
            return values
        return smaller_column(values, self._level, self._tolerance)

    def frame(self, path: Any, options: dict[str, Any]) -> pd.DataFrame:
        """Return the frame, releasing the parts column by column."""
        index = self._indexes[0].append(self._indexes[1:])  # consecutive ranges give a range
        inconsistent = [n for n, kinds in self._kinds.items() if _is_inconsistent(kinds)]
        columns = _read_in_one_piece(path, options, self._labels, index, inconsistent)
        for position, values in columns.items():
            self._parts[position], self._dtypes[position] = [values], {values.dtype}
        arrays = {}
        for position, name in enumerate(self._labels):
            column = _concatenate(self._parts.pop(position))
            if self._level.packs and self._dtypes[position] == {np.dtype("int64")}:
                column = column.astype("int64")  # the dtype that its packed numbers must have
            column.index = index
            arrays[position] = self._shrink(name, column)
        frame = pd.DataFrame(arrays, index=index, copy=False)
        frame.columns = self._labels
        return frame


def _needs_one_piece(path: Any, options: dict[str, Any]) -> bool:
    """Return whether the result depends on the whole file, or the file cannot be read twice."""
    infers_dates = options.get("parse_dates") and not isinstance(options.get("date_format"), str)
    return (
        not isinstance(path, str | os.PathLike)
        or bool(infers_dates)
        or options.get("on_bad_lines", "error") != "error"
        or bool(options.get("converters"))
        or bool(options.get("skipfooter"))
        or options.get("engine") == "pyarrow"
    )


def _index_kinds(index: pd.Index[Any]) -> list[tuple[Any, str]]:
    """Return the dtype of each level of an index, with the kind of objects for object levels."""
    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    return [
        (level.dtype, _kind(level.to_series()) if level.dtype == object else "") for level in levels
    ]


def _has_default_index(path: Any, index: pd.Index[Any], options: dict[str, Any]) -> bool:
    """Return whether rows are numbered, and the index is not a column that the header lacks."""
    if not isinstance(index, pd.RangeIndex):
        return False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pd.read_csv(path, nrows=1, index_col=False, **_whole_column_options(options))
    return not any(issubclass(w.category, pd.errors.ParserWarning) for w in caught)


def _read_in_one_piece(
    path: Any, options: dict[str, Any], labels: pd.Index[Any], index: pd.Index[Any],
    positions: list[int],
) -> dict[int, pd.Series[Any]]:  # fmt: skip
    """Return some columns as they are read from the whole file."""
    if not positions:
        return {}
    names = {str(labels[position]) for position in positions}
    names |= {name.rpartition(".")[0] for name in names}  # "a.1" is the second "a" of the file
    # Without some columns, a row that is longer than the header would be neither an index nor an
    # error any more.
    selects = options.keys() & {"usecols", "index_col", "names", "header", "parse_dates"}
    if not selects and _has_default_index(path, index, options):
        options = {**options, "usecols": lambda name: str(name) in names}
    frame = pd.read_csv(path, **_whole_column_options(options))
    return {position: frame[labels[position]] for position in positions}


def _whole_column_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with which pandas examines a whole column before it chooses its dtype."""
    is_python_engine = options.get("engine", "c") != "c" or len(str(field_separator(options))) != 1
    return options if is_python_engine else {"low_memory": False, **options}


def _concatenate(parts: list[pd.Series[Any]]) -> pd.Series[Any]:
    """Return the parts of a column as one."""
    parts = [_unpacked(part) for part in parts]
    if len(parts) == 1:
        return parts[0]
    are_categorical = [isinstance(part.dtype, pd.CategoricalDtype) for part in parts]
    if all(are_categorical):
        return pd.Series(
            pd.api.types.union_categoricals([part.array for part in parts], sort_categories=True)
        )
    if any(are_categorical):
        parts = [decoded(part) for part in parts]
    filled = [part for part in parts if not part.isna().all()] or parts[:1]
    if len(filled) < len(parts):  # an empty part gets the dtype of the others, as in one piece
        parts = [
            part if part.notna().any() else _missing_cells(filled[0], len(part)) for part in parts
        ]
    return pd.concat(parts, ignore_index=True)


def _unpacked(part: pd.Series[Any]) -> pd.Series[Any]:
    return pd.Series(part.to_numpy()) if isinstance(part.dtype, PackedDtype) else part


def _missing_cells(like: pd.Series[Any], count: int) -> pd.Series[Any]:
    """Return missing cells in the dtype of a column, or the next one that has missing cells."""
    return like.iloc[:0].reindex(range(count))


def _kind(values: pd.Series[Any]) -> str:
    """Return the kind of values of a part of a column.

    Integers that float64 cannot hold have a separate kind, since beside fractions they are read as
    float64; so do unsigned ones, and those with a zero among them, which may be ``-0`` in the file.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return f"categories of {dtype.categories.dtype}"
    if not values.notna().any():
        return "empty"
    if pd.api.types.is_bool_dtype(dtype):
        return "booleans"
    if pd.api.types.is_unsigned_integer_dtype(dtype):
        return "unsigned integers"
    if pd.api.types.is_integer_dtype(dtype):
        if max(-int(values.min()), int(values.max())) > _EXACT_LIMIT:
            return "large integers"
        return "integers with zero" if (values == 0).any() else "small integers"
    if pd.api.types.is_float_dtype(dtype):
        return "fractions"
    if pd.api.types.is_object_dtype(dtype):
        return pd.api.types.infer_dtype(values, skipna=True)
    return "string" if isinstance(dtype, pd.StringDtype) else str(dtype)


def _is_inconsistent(kinds: set[str]) -> bool:
    """Return whether parts of these kinds concatenate to another column than the whole file gives."""
    if kinds <= {"small integers", "integers with zero", "large integers"}:
        return False
    if kinds <= _CASTABLE_TO_FLOAT:
        return False
    changed_by_empty_cells = "empty" in kinds and bool(kinds & _CHANGED_BY_EMPTY_CELLS)
    return len(kinds - {"empty"}) > 1 or changed_by_empty_cells
