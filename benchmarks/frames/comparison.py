"""Cell by cell comparison of two frames, independent of the package that is judged.

Every cell counts, and the kind of every missing one: ``None``, NaN, NaT and NA are four values. So do
the order of rows and columns, every label, and the kind of values of a column: text, moments in a time
zone, integers, objects. A category counts as its value. The width of a number is not a difference; its
value is, down to the sign of zero.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

_MISSING = {"": 0, "NaN": 1, "None": 2, "NaT": 3, "NA": 4, "other": 5}


class Verdict(NamedTuple):
    """Numbers of differences.

    Attributes:
        cells: with another value, or missing in one frame only.
        empty: missing in both frames but of another kind, like NaN instead of None.
        rows: removed, added, or with another label.
        kinds: columns of another kind or name.
        where: the first differences, as sentences.
    """

    cells: int = 0
    empty: int = 0
    rows: int = 0
    kinds: int = 0
    where: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the frames are equal."""
        return not (self.cells or self.empty or self.rows or self.kinds)

    @property
    def lossy(self) -> bool:
        """Whether a value or a row differs."""
        return bool(self.cells or self.rows)


def compare(before: pd.DataFrame, after: pd.DataFrame, tolerance: float = 0.0) -> Verdict:
    """Return the differences between two frames that should have the same contents.

    Args:
        before: the original.
        after: the converted one.
        tolerance: largest relative error of a floating-point number that is tolerated.
    """
    rows = abs(len(before) - len(after))
    if before.shape[1] != after.shape[1]:
        where = (f"{after.shape[1]} columns instead of {before.shape[1]}",)
        return Verdict(0, 0, rows, abs(before.shape[1] - after.shape[1]), where)
    kinds = _labels(before.columns, after.columns)
    if not len(before) and not rows:
        kinds += sum(before.dtypes.to_numpy() != after.dtypes.to_numpy())
        return Verdict(0, 0, _labels(before.index, after.index), int(kinds))
    if rows:
        return Verdict(0, 0, rows, kinds, (f"{len(after)} rows instead of {len(before)}",))
    rows = _labels(before.index, after.index)
    cells = empty = 0
    sentences = []
    for position in range(before.shape[1]):
        was, now = before.iloc[:, position], after.iloc[:, position]
        lost, missing = _column(was, now, tolerance)
        changed = _kind_changed(was, now) or _categories_changed(was, now)
        if lost or missing or changed:
            kind = f"{_meaning(was)} → {_meaning(now)}" if changed else ""
            sentences.append(
                f"{was.name!r}: {lost} cells, {missing} kinds of missing {kind}".strip()
            )
        cells, empty, kinds = cells + lost, empty + missing, kinds + changed
    return Verdict(cells, empty, rows, kinds, tuple(sentences[:5]))


def misread(before: pd.DataFrame, after: pd.DataFrame) -> int:
    """Return the number of floating-point cells with another value, in whatever type they are stored.

    Args:
        before: the original.
        after: the same in other types, whose cells must equal the numbers without being unpacked.
    """
    wrong = 0
    for position in range(before.shape[1]):
        was, now = before.iloc[:, position], after.iloc[:, position]
        if isinstance(was.dtype, np.dtype) and was.dtype.kind == "f":
            wrong += sum(_column(was, now, 0.0))
    return wrong


def _labels(before: pd.Index[Any], after: pd.Index[Any]) -> int:
    """Return the number of labels that differ; all of them if names or types differ."""
    if before.nlevels != after.nlevels or list(before.names) != list(after.names):
        return max(1, len(before))
    if len(before) != len(after):
        return abs(len(before) - len(after))
    wrong = 0
    for level in range(before.nlevels):
        was = pd.Series(before.get_level_values(level))
        now = pd.Series(after.get_level_values(level))
        if _meaning(was) != _meaning(now):
            return max(1, len(before))
        wrong += sum(_column(was, now, 0.0))
    return wrong


# -- kinds -----------------------------------------------------------------------------------------


def _meaning(values: pd.Series[Any]) -> str:
    """Return the kind of the values of a column."""
    dtype: Any = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _meaning(pd.Series(dtype.categories))
    if isinstance(dtype, pd.SparseDtype):
        return f"sparse {_meaning(pd.Series(dtype=dtype.subtype))}"
    if isinstance(dtype, pd.StringDtype):
        return "text" if dtype.na_value is not pd.NA else "text with NA"
    if isinstance(dtype, pd.ArrowDtype):
        return f"arrow {dtype}"
    if isinstance(dtype, np.dtype) and dtype.kind in "biufc":
        return _number(dtype.kind)
    if pd.api.types.is_object_dtype(dtype):
        families = sorted(_families(values.to_numpy()[~values.isna().to_numpy()]))
        return "text" if families == ["text"] else f"objects: {', '.join(families) or 'none'}"
    plain = getattr(dtype, "numpy_dtype", None)
    if isinstance(plain, np.dtype) and plain.kind in "biuf":
        return f"{_number(plain.kind)} with NA"
    return str(dtype)


def _kind_changed(before: pd.Series[Any], after: pd.Series[Any]) -> bool:
    was: Any = before.dtype
    now: Any = after.dtype
    both = isinstance(was, pd.CategoricalDtype) and isinstance(now, pd.CategoricalDtype)
    if both and not len(now.categories):  # without categories, their type is the kind
        return bool(was.categories.dtype != now.categories.dtype)
    return _meaning(before) != _meaning(after)


def _number(kind: str) -> str:
    return {"b": "truth", "i": "integers", "u": "integers", "f": "numbers", "c": "complex"}[kind]


def _families(cells: Iterable[Any]) -> set[str]:
    return {_family(kind) for kind in set(map(type, cells))}


def _family(kind: type) -> str:
    if issubclass(kind, bool | np.bool_):
        return "truth"
    if issubclass(kind, str):
        return "text" if kind is str else kind.__name__
    if issubclass(kind, numbers.Integral):
        return "integers"
    if issubclass(kind, float | np.floating):
        return "numbers"
    return kind.__name__


def _categories_changed(before: pd.Series[Any], after: pd.Series[Any]) -> bool:
    """Return whether a categorical column is not categorical any more, or orders them differently."""
    was: Any = before.dtype
    now: Any = after.dtype
    if not isinstance(was, pd.CategoricalDtype):
        return False
    if not isinstance(now, pd.CategoricalDtype) or was.ordered != now.ordered:
        return True
    if not was.ordered:
        return False
    common = [category for category in was.categories if category in now.categories]
    return common != list(now.categories)


# -- cells -----------------------------------------------------------------------------------------


def _column(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> tuple[int, int]:
    """Return the number of cells that differ in value, and in the kind of missing."""
    was, now = _missing_codes(before), _missing_codes(after)
    lost = int(((was == 0) != (now == 0)).sum())
    missing = int(((was != 0) & (now != 0) & (was != now)).sum())
    present = (was == 0) & (now == 0)
    lost += int((~_equal(_cells(before, present), _cells(after, present), tolerance)).sum())
    return lost, missing


def _missing_codes(values: pd.Series[Any]) -> Any:
    """Return the code of the kind of each missing cell, 0 for the others."""
    mask = values.isna().to_numpy(dtype=bool)
    codes = np.zeros(len(values), dtype=np.int8)
    positions = np.flatnonzero(mask)
    if not len(positions):
        return codes
    if values.dtype == object:
        cells = values.to_numpy()
        codes[positions] = [_MISSING[_missing_kind(cells[position])] for position in positions]
    else:
        codes[positions] = _MISSING[_missing_kind(values.iloc[int(positions[0])])]
    return codes


def _missing_kind(value: Any) -> str:
    if value is None:
        return "None"
    if value is pd.NA:
        return "NA"
    if value is pd.NaT or isinstance(value, np.datetime64 | np.timedelta64):
        return "NaT"
    if isinstance(value, float | np.floating):
        return "NaN"
    return "other"


def _cells(values: pd.Series[Any], present: Any) -> Any:
    """Return the cells that are not missing, as an array of numpy."""
    dtype: Any = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = pd.Series(dtype.categories)
        cells = _cells(categories, np.ones(len(categories), dtype=bool))
        return cells[np.asarray(values.cat.codes, dtype=np.intp)[present]]
    if isinstance(dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    if isinstance(dtype, pd.StringDtype):
        return values.to_numpy(dtype=object)[present]
    if isinstance(dtype, np.dtype) or isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.to_numpy()[present]
    return values[present].to_numpy()


def _equal(was: Any, now: Any, tolerance: float) -> Any:
    """Return a mask of the equal cells."""
    kinds = was.dtype.kind + now.dtype.kind
    if kinds == "ff":
        return _equal_floats(was.astype(np.float64), now.astype(np.float64), tolerance)
    if kinds in ("ii", "uu", "bb", "MM", "mm", "cc"):
        return np.asarray(was == now)
    if kinds in ("if", "fi"):
        whole, real = (was, now) if kinds == "if" else (now, was)
        return _equal_mixed(whole, real.astype(np.float64))
    one, other = was.astype(object), now.astype(object)
    if set(map(type, one)) <= {str} and set(map(type, other)) <= {str}:
        return np.asarray(one == other, dtype=bool)
    return np.fromiter(map(_same, one, other), dtype=bool, count=len(one))


def _equal_floats(was: Any, now: Any, tolerance: float) -> Any:
    same = was.view(np.int64) == now.view(np.int64)
    if tolerance:
        with np.errstate(all="ignore"):
            same |= np.abs(now - was) <= tolerance * np.abs(was)
    return same


def _equal_mixed(whole: Any, real: Any) -> Any:
    fits = np.abs(real) < 2.0**63
    back = np.where(fits, real, 0.5).astype(np.int64)
    return fits & (np.floor(real) == real) & (back == whole)


def _same(one: Any, other: Any) -> bool:
    """Return whether two objects are the same value; 1 and True are not, 1 and 1.0 are."""
    if one is other:
        return True
    if isinstance(one, bool | np.bool_) != isinstance(other, bool | np.bool_):
        return False
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(_same, one.values(), other.values()))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    plain = (dt.date, decimal.Decimal, pd.Timestamp)
    if isinstance(one, plain) and type(one) is not type(other):
        return False
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return False
