"""Python's objects in a column, looked at once each and not once for every cell that refers to them.

Text that pandas 2 reads is objects, and cells with equal text mostly refer to one of them. Where they
do, all questions (are these texts, is one of them ``None``, which are equal) are asked of some thousand
objects instead of a million cells. Which object a cell refers to is its pointer, a plain number.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

_SAMPLE = 2048
_OWN = 0.9
"""Share of objects among cells above which cells are looked at instead."""
_COMPARED = {str, bytes, int, bool, float, type(None)}
"""Types whose objects are compared by thousands, each with one answer."""


class Objects(NamedTuple):
    """The objects of a column.

    Attributes:
        each: every object once; or every cell, where few are shared.
        places: for each cell which of them it refers to; ``None`` where ``each`` is the cells.
    """

    each: Any
    places: Any

    def spread(self, found: Any) -> Any:
        """Return for each cell what was found for its object."""
        return found if self.places is None else found[self.places]


def objects_of(held: Any) -> Objects:
    """Return the objects of an object array of one dimension."""
    where = pointers(held)
    sample = where[:: max(1, len(where) // _SAMPLE)]
    if len(pd.unique(sample)) > _OWN * len(sample):
        return Objects(held, None)
    places, found = pd.factorize(where)
    if len(found) > _OWN * len(held):
        return Objects(held, None)
    some = np.empty(len(found), dtype=np.intp)
    some[places] = np.arange(len(held))  # a cell of each object; any will do
    return Objects(held[some], places)


def pointers(held: Any) -> Any:
    """Return where the objects of an object array are: equal for cells that refer to one object."""
    return np.asarray(_Pointers(np.ascontiguousarray(held).ravel()))


class _Pointers:
    """An object array as the numbers that it is made of; it keeps the array while they are looked at."""

    def __init__(self, held: Any) -> None:
        self._held = held
        given = held.__array_interface__
        self.__array_interface__ = {
            "version": 3,
            "shape": given["shape"],
            "typestr": np.dtype(np.uintp).str,
            "data": (given["data"][0], True),
        }


def unequal(was: Any, now: Objects) -> Any:
    """Return where objects are neither the same nor equal ones of one type; NaN is like NaN."""
    apart = np.flatnonzero(pointers(was) != now.spread(pointers(now.each)))
    if not len(apart):
        return apart
    one = was[apart]
    other = now.each[apart if now.places is None else now.places[apart]]
    kinds, others = set(map(type, one)), set(map(type, now.each))
    if kinds == {str} and others <= {str, float}:  # no text equals a number
        return apart[one != other]
    if kinds | others <= _COMPARED:
        wrong = (one != other) & ~((one != one) & (other != other))
        alike = np.fromiter(map(operator.is_, map(type, one), map(type, other)), bool, len(one))
        return apart[wrong.astype(bool) | ~alike]
    pairs = zip(one, other, strict=True)
    equal = [type(a) is type(b) and _equal(a, b) for a, b in pairs]
    return apart[~np.array(equal, dtype=bool)]


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other) or bool(one != one and other != other)
    except Exception:  # an array's answer is one for each of its cells
        return False
