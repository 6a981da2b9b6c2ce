"""Coerce scalars, arrays and indexers to what :class:`.PackedArray` stores."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray


def to_numbers(scalars: Any, subtype: Any) -> Any:
    """Return numbers as a float64 or int64 array.

    Args:
        scalars: any list-like of numbers; ``None`` and NA become NaN.
        subtype: float64 or int64; ``None`` infers it.

    Raises:
        TypeError: an element is not a number, or ``subtype`` is int64 and one is not an integer.
    """
    array = _to_numpy(scalars)
    if array.dtype.kind == "b" and subtype is None:
        raise TypeError("a packed column holds numbers, and these are booleans")
    if subtype is None:
        subtype = np.dtype(np.int64 if array.dtype.kind in "bi" else np.float64)
    if array.dtype.kind == "f" and subtype.kind == "f":
        return array.astype(subtype, copy=False)
    with np.errstate(invalid="ignore"):
        converted = array.astype(subtype)
    if subtype.kind == "i" and not (converted == array).all():
        # pandas changes the dtype of a built-in column in this case; an extension array cannot
        raise TypeError(
            "cannot hold fractions or empty cells in packed[int64]; make the column "
            ".astype('float64') first, or unpack it"
        )
    return converted


def _to_numpy(scalars: Any) -> Any:
    """Return scalars as a numpy array of booleans, integers or floats."""
    array = getattr(scalars, "array", scalars)
    if isinstance(array, ExtensionArray) and array.dtype.kind in "iuf":
        if np.any(array.isna()):
            return array.to_numpy(dtype=float, na_value=np.nan)
        numpy_array: Any = array.to_numpy()
    else:
        numpy_array = np.asarray(scalars)
    if numpy_array.dtype == object or numpy_array.dtype.kind not in "biuf":
        return _parse_objects(numpy_array)
    return numpy_array


def _parse_objects(array: Any) -> Any:
    objects = array.ravel().tolist()
    missing = [value is None or value is pd.NA or value is pd.NaT for value in objects]
    for value, is_missing in zip(objects, missing, strict=True):
        if not is_missing and not isinstance(value, numbers.Real | np.number):
            raise TypeError(
                f"{value!r} is not a number, and a packed column holds numbers; "
                "make it .astype(object) first"
            )
    if objects and not any(missing) and all(isinstance(v, int | np.integer) for v in objects):
        return np.array(objects)
    return np.array([
        np.nan if is_missing else float(value)
        for value, is_missing in zip(objects, missing, strict=True)
    ])  # fmt: skip


def to_position(index: int, length: int) -> int:
    """Return an index, which may count from the end, as a position from 0.

    Raises:
        IndexError: it is out of bounds.
    """
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of bounds for axis 0 with size {length}")
    return index + length if index < 0 else index


def without_ellipsis(item: Any) -> Any:
    """Return the indexer of one dimension, for an indexer that may contain an ellipsis.

    Raises:
        IndexError: it has more than one dimension.
    """
    if item is Ellipsis:
        return slice(None)
    if isinstance(item, tuple):
        indexers = [part for part in item if part is not Ellipsis]
        if len(indexers) > 1:
            raise IndexError("too many indices for array")
        return indexers[0] if indexers else slice(None)
    return item
