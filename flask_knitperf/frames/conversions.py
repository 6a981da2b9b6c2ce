"""Conversions of a column to a dtype that takes fewer bytes and preserves its values.

A step is chosen once (:mod:`.dtype_selection`) and applies to any column of its kind. It checks its
bounds while it converts: where they do not hold it takes the next wider dtype, with a notice, and never
wraps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from .memory_usage import Size, clear_hash_table
from .object_arrays import Objects, unique_objects

CHUNK_ROWS = 1 << 16
"""Cells that are compared at a time, to bound the memory of comparing."""
_SIGNED = (np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64"))


class Converted(NamedTuple):
    """Column after a step.

    Attributes:
        values: an array of numpy or pandas; the column itself where it is unchanged.
        notice: why the result is not the planned one; empty where it is.
        error: largest relative error of a value, 0.0 where all are exact.
    """

    values: Any
    notice: str = ""
    error: float = 0.0


class Step(Protocol):
    """Conversion of a column."""

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the converted column; the column itself where the bounds do not hold."""


class Decision(NamedTuple):
    """Step that is chosen for a column.

    Attributes:
        step: the conversion.
        after: bytes of the converted column, ``None`` where it is unchanged.
        reason: why, in words.
        risks: changes of behaviour, one sentence each.
        converted: the converted column, if choosing the step has converted it.
    """

    step: Step
    after: Size | None
    reason: str
    risks: tuple[str, ...] = ()
    converted: Converted | None = None


@dataclass(frozen=True)
class Keep:
    """Leaves a column unchanged."""

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column itself."""
        return Converted(values)


@dataclass(frozen=True)
class DowncastInteger:
    """Downcasts integers to a narrower signed dtype; never to unsigned, whose differences wrap.

    Attributes:
        width: the dtype, as numpy names it.
    """

    width: str

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column in that dtype, or in the narrowest one that holds it."""
        is_integer = pd.api.types.is_signed_integer_dtype(values.dtype)
        if not (is_integer and _is_numpy_dtype(values.dtype)):
            return other_dtype(values)
        planned = np.dtype(self.width)
        array = numbers(values)
        if array.dtype.itemsize <= planned.itemsize and array.dtype.kind == "i":
            return Converted(values)
        fitting = _narrowest(array, planned)
        if fitting is None or fitting.itemsize >= array.dtype.itemsize:
            notice = f"values exceed {planned}, so it is unchanged ({values.dtype})"
            return Converted(values, notice)
        notice = "" if fitting == planned else f"values exceed {planned}, so it became {fitting}"
        return Converted(_with_mask_of(values, array.astype(fitting)), notice)


@dataclass(frozen=True)
class DowncastFloat:
    """Downcasts float64 to float32 where that preserves each value.

    Attributes:
        tolerance: largest allowed relative error of a value, 0.0 for none.
    """

    tolerance: float = 0.0

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column as float32, or unchanged."""
        if not (pd.api.types.is_float_dtype(values.dtype) and _is_numpy_dtype(values.dtype)):
            return other_dtype(values)
        array = numbers(values)
        if array.dtype != np.float64:
            return Converted(values)
        downcast = to_float32(array)
        error = largest_error(array, downcast)
        if error > self.tolerance:
            notice = f"float32 does not preserve its values, so it is unchanged ({values.dtype})"
            return Converted(values, notice)
        return Converted(_with_mask_of(values, downcast), "", error)


@dataclass(frozen=True)
class Categorize:
    """Converts text to a categorical with sorted categories.

    Attributes:
        max_categories: distinct values above which a categorical takes too many bytes.
    """

    max_categories: int

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column as a categorical, or unchanged where it has too many distinct values."""
        if isinstance(values.dtype, pd.CategoricalDtype):
            return Converted(values)
        objects, cells = None, values
        if pd.api.types.is_object_dtype(values.dtype):
            objects = unique_objects(values.to_numpy())
            cells = pd.Series(objects.values, dtype=object, copy=False)
        if not is_text(cells):
            return other_dtype(values)
        missing = other_missing(cells)
        if missing:
            return Converted(values, f"it contains {missing}, so it is unchanged ({values.dtype})")
        factorized = factorize_text(values, objects)
        if factorized is None:
            notice = f"pandas confuses some of its texts, so it is unchanged ({values.dtype})"
            return Converted(values, notice)
        codes, uniques = factorized
        if len(uniques) > self.max_categories:
            notice = f"it has {len(uniques):,} distinct values, so it is unchanged ({values.dtype})"
            return Converted(values, notice)
        return Converted(to_categorical(codes, uniques))


@dataclass(frozen=True)
class TrimCategories:
    """Frees the hash table that lookups have left in a categorical, and drops unused categories.

    Attributes:
        drops_unused: whether unused categories are dropped, which changes the column's behaviour.
    """

    drops_unused: bool = True

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column with its used categories, or with all of them."""
        if not isinstance(values.dtype, pd.CategoricalDtype):
            return other_dtype(values)
        array: Any = values.array
        trimmed = array.remove_unused_categories() if self.drops_unused else array
        # a copy, so that the source keeps its hash table
        dtype = pd.CategoricalDtype(trimmed.categories.copy(deep=True), ordered=trimmed.ordered)
        # a copy, since ``codes`` is read-only
        result = pd.Categorical.from_codes(trimmed.codes.copy(), dtype=dtype)
        clear_hash_table(result)
        return Converted(result)


def to_float32(array: Any) -> Any:
    """Return float64 values as float32; too large ones become infinite without a warning."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return array.astype(np.float32)


def largest_error(array: Any, downcast: Any) -> float:
    """Return the largest relative error of downcast values, infinite where one is lost."""
    starts = range(0, len(array), CHUNK_ROWS)
    errors = (
        _largest_error(array[start : start + CHUNK_ROWS], downcast[start : start + CHUNK_ROWS])
        for start in starts
    )
    return max(errors, default=0.0)


def _largest_error(array: Any, downcast: Any) -> float:
    widened = downcast.astype(np.float64)
    equal_cells = widened == array
    if equal_cells.all():
        return 0.0
    differs = ~(equal_cells | (np.isnan(widened) & np.isnan(array)))
    if not differs.any():
        return 0.0
    before, after = array[differs], widened[differs]
    with np.errstate(all="ignore"):
        errors = np.abs(after - before) / np.abs(before)
    return float("inf") if not np.isfinite(errors).all() else float(errors.max())


def is_text(values: pd.Series[Any]) -> bool:
    """Return whether all cells that are not missing are ``str``, not of a subclass."""
    if isinstance(values.dtype, pd.StringDtype):
        return True
    if not pd.api.types.is_object_dtype(values.dtype):
        return False
    return all_text(values.to_numpy()) or all_text(values.dropna().to_numpy())


def all_text(objects: Any) -> bool:
    """Return whether all objects are ``str``, not of a subclass."""
    return set(map(type, objects)) == {str}


def is_stored_as_objects(values: pd.Series[Any]) -> bool:
    """Return whether the cells are Python objects, as those of a string dtype may be too."""
    dtype: Any = values.dtype
    if isinstance(dtype, pd.StringDtype):
        return dtype.storage == "python"
    return pd.api.types.is_object_dtype(dtype)


def other_missing(values: pd.Series[Any]) -> str:
    """Return a missing value that is not NaN, which a categorical would replace by NaN; or ``""``."""
    dtype: Any = values.dtype
    if isinstance(dtype, pd.StringDtype):
        return "<NA>" if dtype.na_value is pd.NA and values.hasnans else ""
    if not pd.api.types.is_object_dtype(dtype):
        return ""
    missing = values.to_numpy()[values.isna().to_numpy()]
    return next((str(value) for value in missing if type(value) is not float), "")


def factorize_text(values: pd.Series[Any], objects: Objects | None) -> tuple[Any, Any] | None:
    """Return the codes of a text column, -1 for missing, and its distinct texts.

    Args:
        values: text, with NaN as the only missing value.
        objects: its distinct objects, if it is stored as objects and they are known.

    Returns:
        ``None`` where pandas confuses different texts: it compares objects up to the first NUL only.
    """
    if objects is None and is_stored_as_objects(values):
        objects = unique_objects(values.to_numpy(dtype=object))
    if objects is None:
        return pd.factorize(values, sort=False)
    codes, texts = pd.factorize(objects.values, sort=False)
    present = slice(None) if (codes >= 0).all() else codes >= 0
    if (objects.values[present] != texts.take(codes[present])).any():
        return None
    return objects.per_cell(codes), texts


def to_categorical(codes: Any, uniques: Any) -> pd.Categorical:
    """Return factorized text as a categorical with sorted categories and without a hash table.

    Args:
        codes: per cell, -1 for missing.
        uniques: the values, in any order.
    """
    try:
        index = pd.Index(uniques)  # pandas 3 makes Arrow strings of it, which are smaller
    except UnicodeEncodeError:  # Arrow cannot store a lone surrogate
        index = pd.Index(uniques, dtype=object)
    order = index.argsort()
    new_code = np.empty(len(order) + 1, dtype=np.intp)
    new_code[order] = np.arange(len(order))
    new_code[-1] = -1  # for code -1
    dtype = pd.CategoricalDtype(index.take(order))
    result = pd.Categorical.from_codes(new_code[codes], dtype=dtype)
    clear_hash_table(result)
    return result


def equal(one: Any, other: Any) -> Any:
    """Return a numpy mask of the equal cells of two arrays; a missing cell equals no other."""
    mask = one == other
    if isinstance(mask, np.ndarray):
        return mask
    return mask.to_numpy(dtype=bool, na_value=False)


def numbers(values: pd.Series[Any]) -> Any:
    """Return the numbers of a column as a numpy array; 0 for a missing cell of a masked column."""
    array = values.array
    masked = pd.arrays.IntegerArray | pd.arrays.FloatingArray | pd.arrays.BooleanArray
    if isinstance(array, masked):
        dtype: Any = array.dtype
        return array.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
    return values.to_numpy()


def _is_numpy_dtype(dtype: Any) -> bool:
    """Return whether numbers are stored by numpy, masked or not: not Arrow's, sparse or packed."""
    return isinstance(getattr(dtype, "numpy_dtype", dtype), np.dtype) and not isinstance(
        dtype, pd.ArrowDtype
    )


def _with_mask_of(values: pd.Series[Any], array: Any) -> Any:
    """Return numbers with the mask of a column, if it is a masked one."""
    source = values.array
    if isinstance(source, pd.arrays.IntegerArray | pd.arrays.FloatingArray):
        return type(source)(array, np.array(source.isna()))  # a copy, since the mask is read-only
    return array


def other_dtype(values: pd.Series[Any]) -> Converted:
    """Return a column that has another kind of dtype than planned, unchanged and with a notice."""
    return Converted(values, f"it is {values.dtype} now, so it is unchanged")


def _narrowest(array: Any, least: Any) -> Any:
    """Return the narrowest signed dtype, from ``least`` on, that holds all numbers; or ``None``."""
    if not len(array):
        return least
    low, high = int(array.min()), int(array.max())
    for dtype in _SIGNED:
        limits = np.iinfo(dtype)
        if dtype.itemsize >= least.itemsize and limits.min <= low and high <= limits.max:
            return dtype
    return None
