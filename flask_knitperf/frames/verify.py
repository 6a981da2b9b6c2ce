"""Whether two frames hold the same: every cell, in full, and each column's kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .conversions import PART, equal, largest_error, numbers
from .object_arrays import Objects, unequal
from .packed_array import PackedDtype


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
    if before.is_(after) and before.names == after.names:  # views of the same labels
        return True
    return bool(before.identical(after) and before.dtype == after.dtype)


def _column(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> str:
    if kind_of(before.dtype) != kind_of(after.dtype):
        return f"{before.dtype} became {after.dtype}"
    return _order(before.dtype, after.dtype) or content_difference(before, after, tolerance)


def _order(before: Any, after: Any) -> str:
    """Return how the order of categories differs, by which cells are compared and sorted."""
    was, now = (bool(getattr(each, "ordered", False)) for each in (before, after))
    if was != now:
        return f"its categories are {'ordered' if now else 'in no order any more'}"
    if not was:
        return ""
    places = before.categories.get_indexer(after.categories)
    return "" if (np.diff(places[places >= 0]) > 0).all() else "its categories are in another order"


def content_difference(
    before: pd.Series[Any], after: pd.Series[Any], tolerance: float = 0.0
) -> str:
    """Return how the cells of two columns of one kind differ; nothing where they do not."""
    if before.dtype == after.dtype and _is_one(before.array, after.array):
        return ""
    if pd.api.types.is_object_dtype(before.dtype):
        return _objects(before, after)
    missing = before.isna().to_numpy()
    if not np.array_equal(missing, after.isna().to_numpy()):
        return "other cells are empty"
    if pd.api.types.is_numeric_dtype(before.dtype) and pd.api.types.is_numeric_dtype(after.dtype):
        return _numeric(before, after, tolerance)
    if isinstance(after.dtype, pd.CategoricalDtype):
        was = decoded(before)
        if pd.api.types.is_object_dtype(was.dtype):
            return _objects(was, after)
        same = _spelled_out(was, after)
    else:
        same = equal(before.array, after.array)
    wrong = ~same & ~missing
    return "" if not wrong.any() else f"{int(wrong.sum()):,} cells differ"


def _objects(before: pd.Series[Any], after: pd.Series[Any]) -> str:
    was = before.to_numpy()
    if isinstance(after.dtype, pd.CategoricalDtype):
        categories = np.empty(len(after.array.categories) + 1, dtype=object)
        categories[:-1], categories[-1] = after.array.categories, np.nan
        now = Objects(categories, np.asarray(after.array.codes, dtype=np.intp))  # -1 finds the last
    else:
        now = Objects(after.to_numpy(dtype=object), None)
    wrong = unequal(was, now)
    if not len(wrong):
        return ""
    emptied = pd.isna(was[wrong]) != after.isna().to_numpy()[wrong]
    other = before.dtype != after.dtype and pd.isna(was[wrong]).any()
    return "other cells are empty" if other or emptied.any() else f"{len(wrong):,} cells differ"


def _is_one(before: Any, after: Any) -> bool:
    """Return whether two arrays are one, or refer to the same memory in the same way."""
    if before is after:
        return True
    plain = pd.arrays.NumpyExtensionArray
    if not (isinstance(before, plain) and isinstance(after, plain)):
        return False
    was, now = np.asarray(before), np.asarray(after)  # ``to_numpy`` asks each object if it is empty
    return bool(was.__array_interface__ == now.__array_interface__)


def _numeric(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> str:
    was, now = numbers(before), numbers(after)
    if was.dtype == np.float64 and not tolerance:
        return _bit_by_bit(was, now)
    there = ~before.isna().to_numpy()
    if was.dtype.kind == "f":
        error = largest_error(was[there], now[there])
        return "" if error <= tolerance else f"values differ by up to {error:.1e} of themselves"
    wrong = (was != now) & there
    return "" if not wrong.any() else f"{int(wrong.sum()):,} cells differ"


def _bit_by_bit(was: Any, now: Any) -> str:
    """Tell doubles that differ: ``-0.0`` from ``0.0`` too, though those are equal; NaN is NaN."""
    now = np.ascontiguousarray(now, dtype=np.float64)
    wrong = np.ascontiguousarray(was).view(np.int64) != now.view(np.int64)
    if not wrong.any():
        return ""
    wrong &= ~(np.isnan(was) & np.isnan(now))
    error = largest_error(was[wrong], now[wrong])
    if error:
        return f"values differ by up to {error:.1e} of themselves"
    return f"{int(wrong.sum()):,} cells differ" if wrong.any() else ""


def decoded(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column with its values in place of categories."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return values
    categories, codes = values.array.categories, np.asarray(values.array.codes, dtype=np.intp)
    if not len(categories):
        return pd.Series([np.nan] * len(values), dtype=object)
    # pandas 3 would look for its own text in objects, which holds no half of a surrogate pair
    each: Any = categories.array.take(np.maximum(codes, 0))
    made: pd.Series[Any] = pd.Series(each, dtype=categories.dtype)
    return made.where(codes >= 0) if (codes < 0).any() else made


def _spelled_out(before: pd.Series[Any], after: pd.Series[Any]) -> Any:
    """Return which cells have the value that their category says, in the type that they had."""
    categories = pd.Series(after.array.categories, dtype=before.dtype)
    if not len(categories):
        return np.asarray(after.array.codes) < 0
    same = np.empty(len(before), dtype=bool)
    for start in range(0, len(before), PART):  # all texts at once would take what was saved
        part = slice(start, start + PART)
        codes = np.asarray(after.array.codes[part], dtype=np.intp)
        same[part] = equal(before.array[part], categories.array.take(np.maximum(codes, 0)))
    return same


def kind_of(dtype: Any) -> str:
    """Return what kind of values a type has; a change of it is a change of the column."""
    if isinstance(dtype, pd.CategoricalDtype):
        return kind_of(dtype.categories.dtype)
    if isinstance(dtype, PackedDtype):
        return kind_of(dtype.subtype)
    if isinstance(dtype, pd.StringDtype) or pd.api.types.is_object_dtype(dtype):
        return "text or objects"
    if pd.api.types.is_bool_dtype(dtype):
        return "truth"
    if pd.api.types.is_integer_dtype(dtype):
        sign = "unsigned " if pd.api.types.is_unsigned_integer_dtype(dtype) else ""
        masked = isinstance(dtype, pd.api.extensions.ExtensionDtype)
        return f"{sign}integers{' with a mask' if masked else ''}"
    if pd.api.types.is_float_dtype(dtype):
        return f"numbers{' with a mask' if isinstance(dtype, pd.api.extensions.ExtensionDtype) else ''}"
    return str(dtype)
