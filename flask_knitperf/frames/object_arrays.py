"""Columns of Python objects, examined once per distinct object and not once per cell.

Text that pandas 2 reads is stored as objects, and cells with equal text mostly refer to the same one.
Then every question (is all of it text, is any of it ``None``, which cells are equal) is answered for a
few thousand objects and not for a million cells. The pointer in a cell, a plain number, identifies its
object.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

SAMPLE_SIZE = 2048
MAX_UNIQUE_SHARE = 0.9
"""Share of distinct objects among the cells above which the cells are examined one by one."""
_COMPARED_BY_NUMPY = {str, bytes, int, bool, float, type(None)}
"""Types whose objects compare to one truth value each, so that numpy can compare whole arrays."""


class Objects(NamedTuple):
    """Dictionary encoding of a column of objects, by identity.

    Attributes:
        values: each object once; or all cells, if few objects are shared.
        codes: for each cell the position of its object; ``None`` if ``values`` are the cells.
    """

    values: Any
    codes: Any

    def per_cell(self, per_object: Any) -> Any:
        """Return results for objects as results for cells."""
        return per_object if self.codes is None else per_object[self.codes]


def unique_objects(array: Any) -> Objects:
    """Return the distinct objects of a one-dimensional object array."""
    addresses = pointers(array)
    sample = addresses[:: max(1, len(addresses) // SAMPLE_SIZE)]
    if len(pd.unique(sample)) > MAX_UNIQUE_SHARE * len(sample):
        return Objects(array, None)
    codes, uniques = pd.factorize(addresses)
    if len(uniques) > MAX_UNIQUE_SHARE * len(array):
        return Objects(array, None)
    cells = np.empty(len(uniques), dtype=np.intp)
    cells[codes] = np.arange(len(array))  # one cell of each object; any will do
    return Objects(array[cells], codes)


def pointers(array: Any) -> Any:
    """Return the addresses of the objects of an object array: equal where cells share an object."""
    return np.asarray(_Pointers(np.ascontiguousarray(array).ravel()))


class _Pointers:
    """View of an object array as unsigned integers; it keeps the array alive."""

    def __init__(self, array: Any) -> None:
        self._array = array
        interface = array.__array_interface__
        self.__array_interface__ = {
            "version": 3,
            "shape": interface["shape"],
            "typestr": np.dtype(np.uintp).str,
            "data": (interface["data"][0], True),
        }


def unequal(before: Any, after: Objects) -> Any:
    """Return the positions where objects are neither identical nor equal with the same type.

    NaN equals NaN.

    Args:
        before: an object array.
        after: as many cells.
    """
    cells = np.flatnonzero(pointers(before) != after.per_cell(pointers(after.values)))
    if not len(cells):
        return cells
    left = before[cells]
    right = after.values[cells if after.codes is None else after.codes[cells]]
    left_types, right_types = set(map(type, left)), set(map(type, after.values))
    if left_types == {str} and right_types <= {str, float}:  # no text equals a number
        return cells[left != right]
    if left_types | right_types <= _COMPARED_BY_NUMPY:
        differs = (left != right) & ~((left != left) & (right != right))
        same_type = map(operator.is_, map(type, left), map(type, right))
        return cells[differs.astype(bool) | ~np.fromiter(same_type, bool, len(left))]
    equal = [
        type(one) is type(other) and _equal(one, other)
        for one, other in zip(left, right, strict=True)
    ]
    return cells[~np.array(equal, dtype=bool)]


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other) or bool(one != one and other != other)
    except Exception:  # comparing arrays gives one result per element
        return False
