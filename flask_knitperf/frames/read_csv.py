"""Reading a CSV file that is large into a frame that is small, without holding it large in between.

The file is read in chunks and each is stored tightly at once; in the end the parts of a column are put
together, column by column. The frame holds what :func:`pandas.read_csv` reads from the whole file: where
chunks disagree about what a column holds (numbers first, text later, for which pandas takes the whole
column for text, so that ``007`` is not 7), that column is read once more in one piece. Where they
disagree about the index, and with options of which a chunk cannot tell what they mean for the whole (a
format of dates is guessed from the first of them), the file is read in one piece.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import re
import warnings
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from .dtype_selection import Level
from .errors import FrameError
from .packed_array import PackedDtype
from .plan import LevelName, checked_level, smaller_column
from .verify import decoded

MOST_COLUMNS = 5_000
"""Columns above which a file is taken for something else than a table."""
CHUNK_ROWS = 100_000
_FIRST_PIECE, _FIRST_LINE = 64 << 10, 16 << 20
_OPENS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

_EXACT = 1 << 53
"""Integers up to here are doubles too."""

_AS_DOUBLES = {"numbers", "fractions", "empty"}
_EXACT_ALONE = {"with zero", "large numbers", "unsigned"}
"""Kinds that are read in another way where one cell of the column is empty."""

Parts = dict[int, list["pd.Series[Any]"]]


def read_csv(
    path: str | os.PathLike[str],
    level: LevelName = "balanced",
    keep: Collection[Hashable] = (),
    float_tolerance: float = 0.0,
    *,
    max_columns: int = MOST_COLUMNS,
    chunk_rows: int = CHUNK_ROWS,
    **options: Any,
) -> pd.DataFrame:
    """Return what :func:`pandas.read_csv` reads from a file, stored in fewer bytes.

    Memory peaks near the small size: a chunk as pandas reads it, the columns in their small types, and
    one column twice while it is put together.

    Args:
        path: a file, compressed or not; an open one is read in one piece.
        level: see :func:`.plan_dataframe`, as for the next two.
        keep: labels of columns to leave alone.
        float_tolerance: the largest relative error that a floating-point number may get.
        max_columns: more columns are refused before anything is read.
        chunk_rows: rows that are read at a time.
        options: of ``pandas.read_csv``, but ``chunksize``, ``iterator`` and ``nrows``. The file is read
            in one piece with ``parse_dates`` without a ``date_format`` for all, ``on_bad_lines``,
            ``converters``, ``skipfooter`` and ``engine="pyarrow"``.

    Raises:
        FrameError: the file has too many columns, or an argument is wrong.
        Exception: whatever pandas raises for the file.
    """
    refused = {"chunksize", "iterator", "nrows"} & options.keys()
    if refused:
        raise FrameError(
            f"{', '.join(sorted(refused))} cannot be given: the file is read in chunks"
        )
    if chunk_rows < 1:
        raise FrameError(f"chunk_rows is {chunk_rows}; it must be 1 or more")
    # the frame holds what pandas reads, so text of dates stays text
    chosen = replace(checked_level(level, float_tolerance), dates=False)
    _check_width(path, options, max_columns)
    made = _Reading(
        chosen, frozenset({keep} if isinstance(keep, str) else keep), float_tolerance, max_columns
    )
    made.read(path, chunk_rows, options)
    return made.frame(path, options)


class _Reading:
    """One pass through a file."""

    def __init__(
        self, level: Level, keep: frozenset[Hashable], tolerance: float, max_columns: int
    ) -> None:
        self._level, self._keep, self._tolerance = level, keep, tolerance
        self._most = max_columns
        self._begin()

    def _begin(self) -> None:
        self._types: dict[int, set[Any]] = {}
        self._parts: Parts = {}
        self._kinds: dict[int, set[str]] = {}
        self._labels: pd.Index[Any] = pd.Index([])
        self._rows: list[pd.Index[Any]] = []

    def read(self, path: Any, chunk_rows: int, options: dict[str, Any]) -> None:
        """Read a file in chunks, or in one piece where chunks would not be what that is."""
        if not _needs_one_piece(path, options):
            self._read_chunks(path, chunk_rows, options)
            if not self._index_is_torn():
                return
            self._begin()
        whole = pd.read_csv(path, **_whole(options))
        self._check(whole)
        self._take(whole)

    def _read_chunks(self, path: Any, chunk_rows: int, options: dict[str, Any]) -> None:
        with pd.read_csv(path, chunksize=chunk_rows, **_whole(options)) as chunks:
            for chunk in chunks:
                self._check(chunk)
                self._take(chunk)

    def _check(self, chunk: pd.DataFrame) -> None:
        if chunk.shape[1] > self._most:
            raise FrameError(_too_wide(chunk.shape[1], self._most))

    def _index_is_torn(self) -> bool:
        """Return whether the index came out of the file, and chunks disagree about what it holds."""
        found = [_levels(rows) for rows in self._rows if len(rows)]
        return any(len(set(levels)) > 1 for levels in zip(*found, strict=True))

    def _take(self, chunk: pd.DataFrame) -> None:
        self._labels = chunk.columns
        self._rows.append(chunk.index)
        for place, (name, values) in enumerate(chunk.items()):
            if len(values):
                self._kinds.setdefault(place, set()).add(_kind(values))
            self._types.setdefault(place, set()).add(values.dtype)
            self._parts.setdefault(place, []).append(self._small(name, values))

    def _small(self, name: Hashable, values: pd.Series[Any]) -> pd.Series[Any]:
        if name in self._keep or not len(values):
            return values
        return smaller_column(values, self._level, self._tolerance)

    def frame(self, path: Any, options: dict[str, Any]) -> pd.DataFrame:
        """Return all that was read, letting go of the parts column by column."""
        rows = self._rows[0].append(self._rows[1:])  # of ranges that follow each other a range
        torn = [place for place, kinds in self._kinds.items() if _is_torn(kinds)]
        for place, values in _in_one_piece(path, options, self._labels, rows, torn).items():
            self._parts[place], self._types[place] = [values], {values.dtype}
        arrays = {}
        for place, name in enumerate(self._labels):
            whole = _together(self._parts.pop(place))
            if self._level.packed and self._types[place] == {np.dtype("int64")}:
                whole = whole.astype("int64")  # as which packed numbers read
            whole.index = rows
            arrays[place] = self._small(name, whole)
        made = pd.DataFrame(arrays, index=rows, copy=False)
        made.columns = self._labels
        return made


def _needs_one_piece(path: Any, options: dict[str, Any]) -> bool:
    """Return whether a chunk does not say what it would be in the whole, or cannot be read again."""
    guessed = options.get("parse_dates") and not isinstance(options.get("date_format"), str)
    return (
        not isinstance(path, str | os.PathLike)
        or bool(guessed)
        or options.get("on_bad_lines", "error") != "error"
        or bool(options.get("converters"))
        or bool(options.get("skipfooter"))
        or options.get("engine") == "pyarrow"
    )


def _levels(rows: pd.Index[Any]) -> list[tuple[Any, str]]:
    """Return what each level of an index holds; whole numbers that follow each other may be a range."""
    levels = [rows.get_level_values(level) for level in range(rows.nlevels)]
    return [
        (level.dtype, _kind(level.to_series()) if level.dtype == object else "") for level in levels
    ]


def _is_counted(path: Any, rows: pd.Index[Any], options: dict[str, Any]) -> bool:
    """Return whether rows are counted, and not named by a column for which the header has no name."""
    if not isinstance(rows, pd.RangeIndex):
        return False
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pd.read_csv(path, nrows=1, index_col=False, **_whole(options))
    return not any(issubclass(each.category, pd.errors.ParserWarning) for each in said)


def _in_one_piece(
    path: Any,
    options: dict[str, Any],
    labels: pd.Index[Any],
    rows: pd.Index[Any],
    places: list[int],
) -> dict[int, pd.Series[Any]]:
    """Return some columns as they are read from the whole file."""
    if not places:
        return {}
    wanted = {str(labels[place]) for place in places}
    wanted |= {name.rpartition(".")[0] for name in wanted}  # "a.1" is the second "a" of the file
    # without some columns a row that is longer than the header is no index and no fault any more
    fixed = options.keys() & {"usecols", "index_col", "names", "header", "parse_dates"}
    if not fixed and _is_counted(path, rows, options):
        options = {**options, "usecols": lambda name: str(name) in wanted}
    whole = pd.read_csv(path, **_whole(options))
    return {place: whole[labels[place]] for place in places}


def _whole(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with which pandas looks at all of a column before it says what that holds."""
    by_python = options.get("engine", "c") != "c" or len(str(_separator(options))) != 1
    return options if by_python else {"low_memory": False, **options}


def _separator(options: dict[str, Any]) -> Any:
    return options.get("sep", options.get("delimiter", ","))


def _together(parts: list[pd.Series[Any]]) -> pd.Series[Any]:
    """Return the parts of a column as one."""
    parts = [_read(part) for part in parts]
    if len(parts) == 1:
        return parts[0]
    categories = [isinstance(part.dtype, pd.CategoricalDtype) for part in parts]
    if all(categories):
        return pd.Series(
            pd.api.types.union_categoricals([part.array for part in parts], sort_categories=True)
        )
    if any(categories):
        parts = [decoded(part) for part in parts]
    full = [part for part in parts if not part.isna().all()] or parts[:1]
    if len(full) < len(parts):  # what is empty takes the type of the others, as in one piece
        parts = [part if part.notna().any() else _empty(full[0], len(part)) for part in parts]
    return pd.concat(parts, ignore_index=True)


def _read(part: pd.Series[Any]) -> pd.Series[Any]:
    """Return a packed part as the numbers that it reads as."""
    return pd.Series(part.to_numpy()) if isinstance(part.dtype, PackedDtype) else part


def _empty(like: pd.Series[Any], count: int) -> pd.Series[Any]:
    """Return so many empty cells of a column's type, or of the next one that can be empty."""
    return like.iloc[:0].reindex(range(count))


def _kind(values: pd.Series[Any]) -> str:
    """Return what a part of a column was read as.

    Numbers that a double does not hold are a kind of their own, for beside fractions they are read as
    doubles; so are unsigned ones, and those with a zero among them, which may have been ``-0``.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return f"categories of {dtype.categories.dtype}"
    if not values.notna().any():
        return "empty"
    if pd.api.types.is_bool_dtype(dtype):
        return "truth"
    if pd.api.types.is_unsigned_integer_dtype(dtype):
        return "unsigned"
    if pd.api.types.is_integer_dtype(dtype):
        large = max(-int(values.min()), int(values.max())) > _EXACT
        return "large numbers" if large else "with zero" if (values == 0).any() else "numbers"
    if pd.api.types.is_float_dtype(dtype):
        return "fractions"
    if pd.api.types.is_object_dtype(dtype):
        return pd.api.types.infer_dtype(values, skipna=True)
    return "string" if isinstance(dtype, pd.StringDtype) else str(dtype)


def _is_torn(kinds: set[str]) -> bool:
    """Return whether parts of those kinds, put together, are not what is read from the whole."""
    if kinds <= {"numbers", "with zero", "large numbers"} or kinds <= _AS_DOUBLES:
        return False
    return len(kinds - {"empty"}) > 1 or ("empty" in kinds and bool(kinds & _EXACT_ALONE))


def _check_width(path: Any, options: dict[str, Any], most: int) -> None:
    """Refuse a file whose first line has too many columns, before pandas reads it."""
    separator = _separator(options)
    if (
        not isinstance(path, str | os.PathLike)
        or not isinstance(separator, str)
        or len(separator) != 1
    ):
        return
    name = os.fspath(path)
    if not os.path.isfile(name):
        return
    opens = _OPENS.get(os.path.splitext(name)[1].lower(), open)
    with opens(name, "rb") as file:
        start = file.read(_FIRST_PIECE)
        columns = _columns(start, separator, options)
        if columns is None:
            columns = _columns(start + file.read(_FIRST_LINE), separator, options, whole=True)
    if columns is not None and columns > most:
        raise FrameError(_too_wide(columns, most))


def _columns(
    start: bytes, separator: str, options: dict[str, Any], whole: bool = False
) -> int | None:
    """Return the columns of the first line, ``None`` where there is more of it; as pandas tells fields.

    A quote begins a field or is a character like others; in quotes no comma and no line end counts.
    """
    try:
        text = start.decode(options.get("encoding") or "utf-8", "replace").removeprefix("\ufeff")
    except LookupError:  # pandas says that there is no such encoding
        return None
    end = re.escape(options.get("lineterminator") or "\r\n")
    by, quote = re.escape(separator), re.escape(options.get("quotechar", '"') or "")
    quoted = ""
    if quote and options.get("quoting", 0) != csv.QUOTE_NONE:
        quoted = f"(?:{quote}[^{quote}]*(?:{quote}|\\Z))*"
        if options.get("skipinitialspace"):
            quoted = " *" + quoted
    field = re.compile(f"{quoted}[^{by}{end}]*(?P<end>[{by}{end}]|\\Z)")
    place = columns = 0
    while (found := field.match(text, place)) is not None:
        place, columns = found.end(), columns + 1
        if found["end"] != separator:
            return columns if whole or found["end"] or len(start) < _FIRST_PIECE else None
    return None


def _too_wide(columns: int, most: int) -> str:
    return (
        f"its first line has {columns:,} columns, and more than {most:,} are refused; is it a table? "
        "max_columns lets more in"
    )
