"""Whether two frames hold the same: every cell, in full, and each column's kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .sizes import pointers
from .steps import PART, largest_error, numbers, other_missing


def differences(before: pd.DataFrame, after: pd.DataFrame, tolerance: float = 0.0) -> list[str]:
    """Return what differs, as sentences; nothing where both hold the same.

    Args:
        before: a frame.
        after: the same, as it is stored more tightly.
        tolerance: the largest relative error of a floating-point number that is no difference.
    """
    if before.shape != after.shape:
        return [f"it has {after.shape} rows and columns, not {before.shape}"]
    found = []
    if not _same_labels(before.columns, after.columns):
        found.append("its columns have other names")
    if not _same_labels(before.index, after.index):
        found.append("its rows have other labels")
    pairs = zip(before.items(), after.items(), strict=True)
    for place, ((name, was), (_, now)) in enumerate(pairs):
        said = _column(was, now, tolerance)
        if said:
            found.append(f"column {place} ({name!r}): {said}")
    return found


def _same_labels(before: pd.Index[Any], after: pd.Index[Any]) -> bool:
    return before is after or (before.identical(after) and before.dtype == after.dtype)


def _column(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> str:
    if kind_of(before.dtype) != kind_of(after.dtype):
        return f"{before.dtype} became {after.dtype}"
    if before.dtype == after.dtype and _is_one(before.array, after.array):
        return ""
    if before.dtype != after.dtype and other_missing(before):
        return "other cells are empty"
    missing = before.isna().to_numpy()
    if not np.array_equal(missing, after.isna().to_numpy()):
        return "other cells are empty"
    if pd.api.types.is_numeric_dtype(before.dtype) and pd.api.types.is_numeric_dtype(after.dtype):
        return _numeric(before, after, tolerance)
    if isinstance(after.dtype, pd.CategoricalDtype):
        same = _spelled_out(decoded(before), after)
    elif pd.api.types.is_object_dtype(before.dtype):
        same = _equal_objects(before, after)
    else:
        same = before.array == after.array
    if isinstance(same, pd.api.extensions.ExtensionArray):  # NA where both are
        same = same.to_numpy(dtype=bool, na_value=False)
    wrong = ~np.asarray(same, dtype=bool) & ~missing
    return "" if not wrong.any() else f"{int(wrong.sum()):,} cells differ"


def _is_one(before: Any, after: Any) -> bool:
    """Return whether two arrays are one, or refer to the same memory in the same way."""
    if before is after:
        return True
    plain = pd.arrays.NumpyExtensionArray
    if not (isinstance(before, plain) and isinstance(after, plain)):
        return False
    was, now = before.to_numpy(), after.to_numpy()
    return bool(was.__array_interface__ == now.__array_interface__)


def _numeric(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> str:
    was, now = numbers(before), numbers(after)
    there = ~before.isna().to_numpy()
    if was.dtype.kind == "f":
        error = largest_error(was[there], now[there])
        return "" if error <= tolerance else f"values differ by up to {error:.1e} of themselves"
    wrong = (was != now) & there
    return "" if not wrong.any() else f"{int(wrong.sum()):,} cells differ"


def decoded(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column with its values in place of categories."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return values
    categories, codes = values.array.categories, np.asarray(values.array.codes, dtype=np.intp)
    if not len(categories):
        return pd.Series([np.nan] * len(values), dtype=object)
    made = pd.Series(categories.array.take(np.maximum(codes, 0)))
    return made.where(codes >= 0) if (codes < 0).any() else made


def _spelled_out(before: pd.Series[Any], after: pd.Series[Any]) -> Any:
    """Return which cells have the value that their category says, in the type that they had."""
    categories = pd.Series(after.array.categories, dtype=before.dtype)
    if not len(categories):
        return after.array.codes < 0
    same = np.empty(len(before), dtype=bool)
    for start in range(0, len(before), PART):
        part = slice(start, start + PART)
        codes = np.asarray(after.array.codes[part], dtype=np.intp)
        same[part] = _spells(before.array[part], categories, codes)
    return same


def _spells(cells: Any, categories: pd.Series[Any], codes: Any) -> Any:
    spelled = categories.array.take(np.maximum(codes, 0))
    same = np.asarray(cells == spelled, dtype=bool)
    if pd.api.types.is_object_dtype(categories.dtype):  # 1 and True are equal, and not the same
        kinds = set(map(type, cells[codes >= 0]))
        if len(kinds) > 1 or kinds != set(map(type, categories)):
            same &= [type(one) is type(other) for one, other in zip(cells, spelled, strict=True)]
    return same


def _equal_objects(before: pd.Series[Any], after: pd.Series[Any]) -> Any:
    """Return which cells are the same object, or equal ones."""
    was, now = before.to_numpy(), after.to_numpy()
    same = pointers(was) == pointers(now)
    for place in np.flatnonzero(~same):
        one, other = was[place], now[place]
        same[place] = type(one) is type(other) and _equal(one, other)
    return same


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # an array's answer is one for each of its cells
        return False


def kind_of(dtype: Any) -> str:
    """Return what kind of values a type has; a change of it is a change of the column."""
    if isinstance(dtype, pd.CategoricalDtype):
        return kind_of(dtype.categories.dtype)
    if isinstance(dtype, pd.StringDtype) or pd.api.types.is_object_dtype(dtype):
        return "text or objects"
    if pd.api.types.is_bool_dtype(dtype):
        return "truth"
    if pd.api.types.is_integer_dtype(dtype):
        return f"integers{' with a mask' if isinstance(dtype, pd.api.extensions.ExtensionDtype) else ''}"
    if pd.api.types.is_float_dtype(dtype):
        return f"numbers{' with a mask' if isinstance(dtype, pd.api.extensions.ExtensionDtype) else ''}"
    return str(dtype)
