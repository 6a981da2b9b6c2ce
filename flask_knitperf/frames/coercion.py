"""What is given to a packed column, as numbers and as places: whatever pandas takes for them."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray


def numbers_of(scalars: Any, subtype: Any) -> Any:
    """Return numbers as an array of doubles or 64-bit integers.

    Raises:
        TypeError: something is no number, or they are to be integers and some are not.
    """
    array = getattr(scalars, "array", scalars)
    if isinstance(array, ExtensionArray) and array.dtype.kind in "iuf":
        gone = array.isna()
        held: Any = (
            array.to_numpy(dtype=float, na_value=np.nan) if np.any(gone) else array.to_numpy()
        )
    else:
        held = np.asarray(scalars)
    if held.dtype == object or held.dtype.kind not in "biuf":
        held = _of_objects(held)
    if held.dtype.kind == "b" and subtype is None:
        raise TypeError("true and false are no numbers that a packed column holds")
    if subtype is None:
        subtype = np.dtype(np.int64 if held.dtype.kind in "bi" else np.float64)
    made = (
        held.astype(subtype, copy=False) if held.dtype.kind == "f" and subtype.kind == "f" else None
    )
    if made is None:
        with np.errstate(invalid="ignore"):
            made = held.astype(subtype)
        if subtype.kind == "i" and not (made == held).all():
            # pandas takes another type for its own columns then, and lets no other do so
            raise TypeError(
                "cannot hold fractions or empty cells in packed[int64]; make the column "
                ".astype('float64') first, or unpack it"
            )
    return made


def _of_objects(held: Any) -> Any:
    given = held.ravel().tolist()
    missing = [each is None or each is pd.NA or each is pd.NaT for each in given]
    for each, gone in zip(given, missing, strict=True):
        if not gone and not isinstance(each, numbers.Real | np.number):
            raise TypeError(
                f"{each!r} is no number, and a packed column holds numbers; "
                "make it .astype(object) first"
            )
    if not any(missing) and all(isinstance(each, int | np.integer) for each in given) and given:
        return np.array(given)
    return np.array(
        [np.nan if gone else float(each) for each, gone in zip(given, missing, strict=True)]
    )


def place_of(item: int, count: int) -> int:
    """Return a place from 0 on, of one that may be counted from the end.

    Raises:
        IndexError: there is none.
    """
    if not -count <= item < count:
        raise IndexError(f"index {item} is out of bounds for axis 0 with size {count}")
    return item + count if item < 0 else item


def without_ellipsis(item: Any) -> Any:
    """Return what is asked for in a tuple of it and an ellipsis, as it is for one dimension."""
    if item is Ellipsis:
        return slice(None)
    if isinstance(item, tuple):
        rest = [each for each in item if each is not Ellipsis]
        if len(rest) > 1:
            raise IndexError("too many indices for array")
        return rest[0] if rest else slice(None)
    return item
