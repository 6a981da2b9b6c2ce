"""Comparison of two results of one function: whether a caller would take them for the same answer.

Floats may differ in their last digits, since a sum over parallel parts depends on their order; anything
else has to be equal, and of the same type.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .frame_copies import is_array, kind_of
from .immutability import SCALARS
from .instance_state import attributes

_EXACT = frozenset({str, bytes, int, bool})
"""Scalars that are equal only if they look the same."""
_COMPARE = {
    "DataFrame": "assert_frame_equal", "Series": "assert_series_equal", "Index": "assert_index_equal",
}  # fmt: skip
TOLERANCE = 1e-9
"""Relative difference up to which two floats are the same."""
NEAR_ZERO = 1e-12
"""Difference up to which they are: the rest of a sum that should be zero."""


def is_same(first: Any, second: Any) -> bool:
    """Return whether two values have the same content.

    Args:
        first: a value as it is cached.
        second: another one.

    Raises:
        Exception: that of a method of the values.
        RecursionError: they are nested too deeply.
    """
    return _Comparison().is_same(first, second)


class _Comparison:
    """One comparison. A pair of objects that contains itself is compared once."""

    def __init__(self) -> None:
        self._pairs: set[tuple[int, int]] = set()

    def is_same(self, first: Any, second: Any) -> bool:
        """Return whether two values have the same content."""
        if first is second:
            return True
        kind = type(first)
        if kind is not type(second):
            return False
        if issubclass(kind, float):
            return _is_close(float(first), float(second))
        if kind is complex:
            return _is_close(first.real, second.real) and _is_close(first.imag, second.imag)
        if kind is object:
            return True
        if kind in _EXACT:
            return bool(first == second)
        if kind in SCALARS:  # Decimal("1.0") equals 1.00, and 12:00 in London 13:00 in Paris
            return bool(first == second or first != first) and str(first) == str(second)
        pair = id(first), id(second)
        if pair in self._pairs:
            return True
        self._pairs.add(pair)
        return self._is_same_object(first, second)

    def _is_same_object(self, first: Any, second: Any) -> bool:
        frame_kind = kind_of(first)
        if frame_kind is not None:
            return self._is_same_frame(first, second, frame_kind)
        if is_array(first):
            return self._is_same_array(first, second)
        if _is_scalar_of_numpy(first):
            return first.dtype == second.dtype and self.is_same(first.item(), second.item())
        own, other = dict(attributes(first)), dict(attributes(second))
        if isinstance(first, Mapping):
            same_items = self._is_same_mapping(first, second)
        elif isinstance(first, list | tuple | deque | array):
            same_items = self._are_same(first, second)
        elif isinstance(first, set | frozenset):
            same_items = first == second or self._are_same(
                sorted(first - second, key=repr), sorted(second - first, key=repr)
            )
        elif isinstance(first, BaseException):
            same_items = self.is_same(first.args, second.args)
        elif own or "__eq__" not in _methods(type(first)):
            same_items = True  # it consists of its attributes
        else:
            same_items = bool(first == second)
        return same_items and self._is_same_mapping(own, other)

    def _are_same(self, first: Any, second: Any) -> bool:
        return len(first) == len(second) and all(map(self.is_same, first, second))

    def _is_same_mapping(self, first: Any, second: Any) -> bool:
        return len(first) == len(second) and all(
            key in second and self.is_same(value, second[key]) for key, value in first.items()
        )

    def _is_same_array(self, first: Any, second: Any) -> bool:
        if first.dtype != second.dtype or first.shape != second.shape:
            return False
        if first.dtype.hasobject or first.dtype.names is not None:
            return self.is_same(first.tolist(), second.tolist())
        numpy = sys.modules["numpy"]
        if first.dtype.kind in "fc":
            return bool(numpy.allclose(first, second, TOLERANCE, NEAR_ZERO, equal_nan=True))
        return bool(numpy.array_equal(first, second, equal_nan=first.dtype.kind in "mM"))

    def _is_same_frame(self, first: Any, second: Any, kind: str) -> bool:
        testing = sys.modules["pandas"].testing
        compare: Callable[..., None] = getattr(testing, _COMPARE[kind])
        try:
            compare(first, second, check_exact=False, rtol=TOLERANCE, atol=NEAR_ZERO)
        except AssertionError:
            return False
        return self.is_same(getattr(first, "attrs", None), getattr(second, "attrs", None)) and all(
            list(map(type, cells)) == list(map(type, others))
            for cells, others in zip(_objects(first, kind), _objects(second, kind), strict=True)
        )


def _objects(frame: Any, kind: str) -> list[Any]:
    """Return the columns of a frame that hold objects: pandas compares those without their types."""
    if kind == "DataFrame":
        columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    else:
        columns = [frame]
    return [column for column in columns if getattr(column.dtype, "hasobject", False)]


def _methods(kind: type) -> set[str]:
    """Return the names that a class or one of its bases defines, but for ``object``."""
    return {name for base in kind.__mro__[:-1] for name in vars(base)}


def _is_scalar_of_numpy(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def _is_close(first: float, second: float) -> bool:
    is_close = math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=NEAR_ZERO)
    return is_close or (first != first and second != second)
