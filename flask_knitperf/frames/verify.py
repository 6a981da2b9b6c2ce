"""Comparison of a frame with its converted form: every cell, all labels, and the kind of each column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .conversions import CHUNK_ROWS, equal, largest_error, numbers
from .object_arrays import Objects, unequal
from .packed_array import PackedDtype


def differences(before: pd.DataFrame, after: pd.DataFrame, tolerance: float = 0.0) -> list[str]:
    """Return the differences of two frames, one sentence each; none where both hold the same values.

    Args:
        before: a frame.
        after: its converted form.
        tolerance: largest relative error of a floating-point number that is not a difference.
    """
    if before.shape != after.shape:
        return [f"it has {after.shape} rows and columns, not {before.shape}"]
    sentences = []
    if not _same_labels(before.columns, after.columns):
        sentences.append("its column labels differ")
    if not _same_labels(before.index, after.index):
        sentences.append("its row labels differ")
    pairs = zip(before.items(), after.items(), strict=True)
    for position, ((name, source), (_, converted)) in enumerate(pairs):
        difference = _column_difference(source, converted, tolerance)
        if difference:
            sentences.append(f"column {position} ({name!r}): {difference}")
    return sentences


def _same_labels(before: pd.Index[Any], after: pd.Index[Any]) -> bool:
    if before.is_(after) and before.names == after.names:  # views of the same labels
        return True
    return bool(before.identical(after) and before.dtype == after.dtype)


def _column_difference(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> str:
    if kind_of(before.dtype) != kind_of(after.dtype):
        return f"{before.dtype} became {after.dtype}"
    order = _order_difference(before.dtype, after.dtype)
    return order or content_difference(before, after, tolerance)


def _order_difference(before: Any, after: Any) -> str:
    """Return the difference in the order of two categorical dtypes, by which cells are sorted."""
    was_ordered, is_ordered = (bool(getattr(dtype, "ordered", False)) for dtype in (before, after))
    if was_ordered != is_ordered:
        return "its categories became ordered" if is_ordered else "its categories lost their order"
    if not was_ordered:
        return ""
    positions = before.categories.get_indexer(after.categories)
    same_order = (np.diff(positions[positions >= 0]) > 0).all()
    return "" if same_order else "its categories are in another order"


def content_difference(
    before: pd.Series[Any], after: pd.Series[Any], tolerance: float = 0.0
) -> str:
    """Return the difference in the cells of two columns of one kind; ``""`` where there is none."""
    if before.dtype == after.dtype and _share_memory(before.array, after.array):
        return ""
    if pd.api.types.is_object_dtype(before.dtype):
        return _object_difference(before, after)
    missing = before.isna().to_numpy()
    if not np.array_equal(missing, after.isna().to_numpy()):
        return _OTHER_MISSING
    if pd.api.types.is_numeric_dtype(before.dtype) and pd.api.types.is_numeric_dtype(after.dtype):
        return _numeric_difference(before, after, tolerance)
    if isinstance(after.dtype, pd.CategoricalDtype):
        source = decoded(before)
        if pd.api.types.is_object_dtype(source.dtype):
            return _object_difference(source, after)
        equal_cells = _equals_categories(source, after)
    else:
        equal_cells = equal(before.array, after.array)
    return _count_of(~equal_cells & ~missing)


_OTHER_MISSING = "other cells are missing"


def _count_of(differs: Any) -> str:
    """Return the sentence for a mask of different cells."""
    count = int(differs.sum())
    return "" if not count else f"{count:,} {'cell differs' if count == 1 else 'cells differ'}"


def _object_difference(before: pd.Series[Any], after: pd.Series[Any]) -> str:
    source = before.to_numpy()
    if isinstance(after.dtype, pd.CategoricalDtype):
        values = np.empty(len(after.array.categories) + 1, dtype=object)
        values[:-1], values[-1] = after.array.categories, np.nan
        # code -1 is the last value
        converted = Objects(values, np.asarray(after.array.codes, dtype=np.intp))
    else:
        converted = Objects(after.to_numpy(dtype=object), None)
    cells = unequal(source, converted)
    if not len(cells):
        return ""
    was_missing = pd.isna(source[cells])
    changed_dtype = before.dtype != after.dtype and was_missing.any()
    if changed_dtype or (was_missing != after.isna().to_numpy()[cells]).any():
        return _OTHER_MISSING
    return f"{len(cells):,} {'cell differs' if len(cells) == 1 else 'cells differ'}"


def _share_memory(before: Any, after: Any) -> bool:
    """Return whether two arrays are one, or have the same memory, shape and strides."""
    if before is after:
        return True
    numpy_array = pd.arrays.NumpyExtensionArray
    if not (isinstance(before, numpy_array) and isinstance(after, numpy_array)):
        return False
    # ``to_numpy`` would examine each object for being missing
    one, other = np.asarray(before), np.asarray(after)
    return bool(one.__array_interface__ == other.__array_interface__)


def _numeric_difference(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> str:
    source, converted = numbers(before), numbers(after)
    if source.dtype == np.float64 and not tolerance:
        return _bit_difference(source, converted)
    present = ~before.isna().to_numpy()
    if source.dtype.kind == "f":
        error = largest_error(source[present], converted[present])
        return "" if error <= tolerance else _error_of(error)
    return _count_of((source != converted) & present)


def _error_of(error: float) -> str:
    return f"relative error of values up to {error:.1e}"


def _bit_difference(source: Any, converted: Any) -> str:
    """Return the difference in the bits of float64 values: ``-0.0`` is not ``0.0``; NaN equals NaN."""
    converted = np.ascontiguousarray(converted, dtype=np.float64)
    differs = np.ascontiguousarray(source).view(np.int64) != converted.view(np.int64)
    if not differs.any():
        return ""
    differs &= ~(np.isnan(source) & np.isnan(converted))
    error = largest_error(source[differs], converted[differs])
    return _error_of(error) if error else _count_of(differs)


def decoded(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return a categorical column as its values; any other column unchanged."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return values
    categories, codes = values.array.categories, np.asarray(values.array.codes, dtype=np.intp)
    if not len(categories):
        return pd.Series([np.nan] * len(values), dtype=object)
    cells: Any = categories.array.take(np.maximum(codes, 0))
    # the dtype, since pandas 3 would infer Arrow strings, which cannot store a lone surrogate
    column: pd.Series[Any] = pd.Series(cells, dtype=categories.dtype)
    return column.where(codes >= 0) if (codes < 0).any() else column


def _equals_categories(before: pd.Series[Any], after: pd.Series[Any]) -> Any:
    """Return a mask of the cells that equal their category, compared in their dtype."""
    categories = pd.Series(after.array.categories, dtype=before.dtype)
    if not len(categories):
        return np.asarray(after.array.codes) < 0
    mask = np.empty(len(before), dtype=bool)
    for start in range(0, len(before), CHUNK_ROWS):  # all texts at once would take the saved bytes
        chunk = slice(start, start + CHUNK_ROWS)
        codes = np.asarray(after.array.codes[chunk], dtype=np.intp)
        mask[chunk] = equal(before.array[chunk], categories.array.take(np.maximum(codes, 0)))
    return mask


def kind_of(dtype: Any) -> str:
    """Return the kind of values of a dtype; a conversion must not change it."""
    if isinstance(dtype, pd.CategoricalDtype):
        return kind_of(dtype.categories.dtype)
    if isinstance(dtype, PackedDtype):
        return kind_of(dtype.subtype)
    if isinstance(dtype, pd.StringDtype) or pd.api.types.is_object_dtype(dtype):
        return "text or objects"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    masked = "masked " if isinstance(dtype, pd.api.extensions.ExtensionDtype) else ""
    if pd.api.types.is_integer_dtype(dtype):
        sign = "unsigned " if pd.api.types.is_unsigned_integer_dtype(dtype) else ""
        return f"{sign}{masked}integer"
    return f"{masked}float" if pd.api.types.is_float_dtype(dtype) else str(dtype)
