"""Whether two frames hold the same, worked out without a line of the package that is judged.

Every cell counts, and what an empty one reads as: ``None``, NaN, NaT and NA are four things. So does the
order of rows and columns, every label, and what kind of values a column has: text, moments in a time
zone, integers, objects. A category counts as what it spells. How many bytes a number takes is no
difference; whether it is the same number is, to the sign of zero.
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

_EMPTY = {"": 0, "NaN": 1, "None": 2, "NaT": 3, "NA": 4, "other": 5}


class Verdict(NamedTuple):
    """What differs.

    Attributes:
        cells: of another value, or empty where they were not, or the other way about.
        empty: cells that are empty in another way, like NaN where None was.
        rows: that are gone, added, or called otherwise.
        kinds: columns of another kind or another name.
        where: the first few, as sentences.
    """

    cells: int = 0
    empty: int = 0
    rows: int = 0
    kinds: int = 0
    where: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether nothing differs at all."""
        return not (self.cells or self.empty or self.rows or self.kinds)

    @property
    def lossy(self) -> bool:
        """Whether a value or a row differs."""
        return bool(self.cells or self.rows)


def compare(before: pd.DataFrame, after: pd.DataFrame, tolerance: float = 0.0) -> Verdict:
    """Return what differs between a frame and what is to hold the same.

    Args:
        before: the frame.
        after: the other one.
        tolerance: the largest relative error of a floating-point number that is no difference.
    """
    rows = abs(len(before) - len(after))
    if before.shape[1] != after.shape[1]:
        said = (f"{after.shape[1]} columns in place of {before.shape[1]}",)
        return Verdict(0, 0, rows, abs(before.shape[1] - after.shape[1]), said)
    kinds = _labels(before.columns, after.columns)
    if not len(before) and not rows:
        kinds += sum(before.dtypes.to_numpy() != after.dtypes.to_numpy())
        return Verdict(0, 0, _labels(before.index, after.index), int(kinds))
    if rows:
        return Verdict(0, 0, rows, kinds, (f"{len(after)} rows in place of {len(before)}",))
    rows = _labels(before.index, after.index)
    cells = empty = 0
    where = []
    for place in range(before.shape[1]):
        was, now = before.iloc[:, place], after.iloc[:, place]
        lost, otherwise = _column(was, now, tolerance)
        changed = _kind_changed(was, now) or _categories_changed(was, now)
        if lost or otherwise or changed:
            what = f"{_meaning(was)} → {_meaning(now)}" if changed else ""
            where.append(f"{was.name!r}: {lost} cells, {otherwise} empty otherwise {what}".strip())
        cells, empty, kinds = cells + lost, empty + otherwise, kinds + changed
    return Verdict(cells, empty, rows, kinds, tuple(where[:5]))


def misread(before: pd.DataFrame, after: pd.DataFrame) -> int:
    """Return how many floating-point numbers read as others, or as empty, however they are stored.

    Args:
        before: the frame.
        after: the same in other types, which are to read as the numbers without being unpacked.
    """
    wrong = 0
    for place in range(before.shape[1]):
        was, now = before.iloc[:, place], after.iloc[:, place]
        if isinstance(was.dtype, np.dtype) and was.dtype.kind == "f":
            wrong += sum(_column(was, now, 0.0))
    return wrong


def _labels(before: pd.Index[Any], after: pd.Index[Any]) -> int:
    """Return how many labels differ; all of them, where their names or types do."""
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
    """Return what kind of values a column has."""
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
    held = getattr(dtype, "numpy_dtype", None)
    if isinstance(held, np.dtype) and held.kind in "biuf":
        return f"{_number(held.kind)} with NA"
    return str(dtype)


def _kind_changed(before: pd.Series[Any], after: pd.Series[Any]) -> bool:
    was: Any = before.dtype
    now: Any = after.dtype
    both = isinstance(was, pd.CategoricalDtype) and isinstance(now, pd.CategoricalDtype)
    if both and not len(now.categories):  # spelled by no category, a kind is told by their type
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
    """Return whether a column of categories is none any more, or orders them in another way."""
    was: Any = before.dtype
    now: Any = after.dtype
    if not isinstance(was, pd.CategoricalDtype):
        return False
    if not isinstance(now, pd.CategoricalDtype) or was.ordered != now.ordered:
        return True
    if not was.ordered:
        return False
    kept = [each for each in was.categories if each in now.categories]
    return kept != list(now.categories)


# -- cells -----------------------------------------------------------------------------------------


def _column(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> tuple[int, int]:
    """Return how many cells differ in value, and how many are empty in another way."""
    was, now = _emptiness(before), _emptiness(after)
    lost = int(((was == 0) != (now == 0)).sum())
    otherwise = int(((was != 0) & (now != 0) & (was != now)).sum())
    there = (was == 0) & (now == 0)
    return lost + int((~_equal(_cells(before, there), _cells(after, there), tolerance)).sum()), (
        otherwise
    )


def _emptiness(values: pd.Series[Any]) -> Any:
    """Return what each empty cell reads as, 0 for one that is not empty."""
    mask = values.isna().to_numpy(dtype=bool)
    found = np.zeros(len(values), dtype=np.int8)
    places = np.flatnonzero(mask)
    if not len(places):
        return found
    if values.dtype == object:
        held = values.to_numpy()
        found[places] = [_EMPTY[_empty(held[place])] for place in places]
    else:
        found[places] = _EMPTY[_empty(values.iloc[int(places[0])])]
    return found


def _empty(value: Any) -> str:
    if value is None:
        return "None"
    if value is pd.NA:
        return "NA"
    if value is pd.NaT or isinstance(value, np.datetime64 | np.timedelta64):
        return "NaT"
    if isinstance(value, float | np.floating):
        return "NaN"
    return "other"


def _cells(values: pd.Series[Any], there: Any) -> Any:
    """Return the cells that are not empty, as an array of numpy."""
    dtype: Any = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        spelled = pd.Series(dtype.categories)
        every = _cells(spelled, np.ones(len(spelled), dtype=bool))
        return every[np.asarray(values.cat.codes, dtype=np.intp)[there]]
    if isinstance(dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    if isinstance(dtype, pd.StringDtype):
        return values.to_numpy(dtype=object)[there]
    if isinstance(dtype, np.dtype) or isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.to_numpy()[there]
    return values[there].to_numpy()


def _equal(was: Any, now: Any, tolerance: float) -> Any:
    """Return which cells are equal."""
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
