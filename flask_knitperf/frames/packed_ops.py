"""Operations of a packed column: its numbers are decoded, and pandas computes the result.

So every result equals that of an ordinary column with the same numbers. A result that consists of the
column's numbers, reordered or repeated, is packed again; any other is an ordinary array.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .encodings import EXACT_LIMIT

_SELECTING_AGGREGATIONS = ("first", "last", "min", "max")
"""Aggregations whose result is one of the group's numbers."""
_REDUCTIONS = (
    "sum", "prod", "min", "max", "mean", "median", "std", "var", "sem", "skew", "kurt", "any", "all",
)  # fmt: skip
_NO_FILL_VALUE: Any = object()


class PackedOperations:
    """Mixin of :class:`.PackedArray`: operations on the decoded numbers."""

    __array_priority__ = 1000
    to_numpy: Any
    from_numpy: Any
    dtype: Any
    _shifted_from: tuple[Any, int] | None = None
    """The integers that this array is a shift of, and the number of rows; see :meth:`shift`."""

    def _series(self) -> pd.Series[Any]:
        return pd.Series(self.to_numpy())

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, pd.Series | pd.Index | pd.DataFrame) for value in inputs):
            return NotImplemented
        if any(isinstance(value, PackedOperations) for value in kwargs.get("out", ())):
            return NotImplemented
        return getattr(ufunc, method)(*map(_decoded, inputs), **kwargs)

    def _reduce(
        self, name: str, *, skipna: bool = True, keepdims: bool = False, **options: Any
    ) -> Any:
        result = getattr(self._series(), name)(skipna=skipna, **options)
        return np.array([result]) if keepdims else result

    def _accumulate(self, name: str, *, skipna: bool = True, **options: Any) -> Any:
        return to_64_bits(getattr(self._series(), name)(skipna=skipna, **options))

    def _groupby_op(self, *, how: str, **options: Any) -> Any:
        # by a masked array, which skips missing values as a float64 column does
        values = self.to_numpy()
        masked: Any = pd.array(values, dtype="Float64" if values.dtype.kind == "f" else "Int64")
        result = masked._groupby_op(how=how, **options)
        if isinstance(result, pd.arrays.IntegerArray | pd.arrays.FloatingArray):
            is_missing = np.asarray(result.isna())
            data = result.to_numpy(dtype=result.dtype.numpy_dtype, na_value=0)
            result = with_missing(data, is_missing)
        packs = how in _SELECTING_AGGREGATIONS and isinstance(result, np.ndarray)
        return self.from_numpy(result) if packs else result

    def _quantile(self, qs: Any, interpolation: Any) -> Any:
        quantiles: Any = self._series().quantile(list(qs), interpolation=interpolation)
        return self.from_numpy(to_64_bits(quantiles))

    def interpolate(self, *, method: Any, index: Any, **options: Any) -> Any:
        """Return a new column with missing values interpolated."""
        options = {name: value for name, value in options.items() if name not in ("axis", "copy")}
        filled = pd.Series(self.to_numpy(), index=index).interpolate(method=method, **options)
        return self.from_numpy(to_64_bits(filled))

    def _pad_or_backfill(
        self, *, method: Any, limit: Any = None, limit_area: Any = None, **_: Any
    ) -> Any:
        values = self._series()
        fill = values.ffill if method in ("pad", "ffill") else values.bfill
        return self.from_numpy(to_64_bits(fill(limit=limit, limit_area=limit_area)))

    def round(self, decimals: int = 0) -> Any:
        """Return a new column of rounded numbers."""
        return self.from_numpy(np.round(self.to_numpy(), decimals))

    def shift(self, periods: int = 1, fill_value: Any = _NO_FILL_VALUE) -> Any:
        """Return a new column whose values are shifted down by a number of rows."""
        no_value = fill_value is _NO_FILL_VALUE or fill_value is None or pd.isna(fill_value)
        values = self._series()
        shifted = values.shift(periods, fill_value=np.nan if no_value else fill_value)
        result = self.from_numpy(to_64_bits(shifted))
        if fill_value is _NO_FILL_VALUE and self.dtype.kind == "i":
            # ``diff`` subtracts this result, and its float64 values do not hold every integer
            result._shifted_from = values.to_numpy(), int(periods)
        return result

    def value_counts(self, dropna: bool = True) -> Any:
        """Return the number of occurrences of each number."""
        return self._series().value_counts(dropna=dropna)

    def unique(self) -> Any:
        """Return the distinct numbers, in order of appearance."""
        return self.from_numpy(pd.unique(self.to_numpy()))

    def searchsorted(self, value: Any, side: Any = "left", sorter: Any = None) -> Any:
        """Return the positions at which to insert values so that the order is preserved."""
        return self.to_numpy().searchsorted(_decoded(value), side=side, sorter=sorter)

    def _values_for_argsort(self) -> Any:
        return self.to_numpy()

    def _values_for_factorize(self) -> tuple[Any, Any]:
        return self.to_numpy(), np.nan if self.dtype.kind == "f" else None

    def __neg__(self) -> Any:
        return -self.to_numpy()

    def __pos__(self) -> Any:
        return +self.to_numpy()

    def __abs__(self) -> Any:
        return abs(self.to_numpy())

    def __invert__(self) -> Any:
        return ~self.to_numpy()


def _binary_method(operation: Callable[[Any, Any], Any], reverse: bool) -> Any:
    """Return a method that computes on the decoded numbers, as pandas does for an ordinary column."""

    def method(self: PackedOperations, other: Any) -> Any:
        if isinstance(other, pd.Series | pd.Index | pd.DataFrame):
            return NotImplemented
        shifted_from = getattr(other, "_shifted_from", None)
        is_difference = operation is operator.sub and not reverse and self.dtype.kind == "i"
        if shifted_from is not None and is_difference:
            return _difference(self.to_numpy(), *shifted_from)
        numbers, operand = self._series(), _decoded(other)
        result = operation(operand, numbers) if reverse else operation(numbers, operand)
        if isinstance(result, tuple):  # of divmod
            return tuple(unwrapped(part) for part in result)
        return unwrapped(result)

    return method


def _reduction(name: str) -> Any:
    def method(self: PackedOperations, *, skipna: bool = True, **options: Any) -> Any:
        return self._reduce(name, skipna=skipna, **options)

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    _operation = getattr(operator, f"__{_name}__")
    setattr(PackedOperations, f"__{_name}__", _binary_method(_operation, reverse=False))
    setattr(PackedOperations, f"__r{_name}__", _binary_method(_operation, reverse=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _operation = getattr(operator, _name)
    setattr(PackedOperations, f"__{_name}__", _binary_method(_operation, reverse=False))
for _name, _reverse in (("__divmod__", False), ("__rdivmod__", True)):
    setattr(PackedOperations, _name, _binary_method(divmod, _reverse))
for _name in _REDUCTIONS:
    setattr(PackedOperations, _name, _reduction(_name))


def _difference(values: Any, others: Any, periods: int) -> Any:
    """Return integers minus those ``periods`` rows above, as float64 as pandas does."""
    result = np.full(len(values), np.nan)
    if len(values) == len(others) and abs(periods) < len(values):
        rows = slice(max(0, periods), len(values) + min(0, periods))
        first = max(0, -periods)
        result[rows] = values[rows] - others[first : first + rows.stop - rows.start]
    return result


def with_missing(values: Any, is_missing: Any) -> Any:
    """Return numbers of which some are missing: float64 where that is exact, else a masked array."""
    if not is_missing.any():
        return values
    floats = values.astype(np.float64)
    if values.dtype.kind == "f" or (np.abs(floats[~is_missing]) < EXACT_LIMIT).all():
        floats[is_missing] = np.nan
        return floats
    return pd.arrays.IntegerArray(values, is_missing)


def unwrapped(values: pd.Series[Any]) -> Any:
    """Return the array of a column; the numpy array if it has one."""
    array = values.array
    return array.to_numpy() if type(array) is pd.arrays.NumpyExtensionArray else array


def to_64_bits(values: Any) -> Any:
    """Return a column's numbers as float64 or int64."""
    array = values.to_numpy()
    return array if array.dtype in (np.int64, np.float64) else array.astype(np.float64)


def _decoded(value: Any) -> Any:
    return value.to_numpy() if isinstance(value, PackedOperations) else value
