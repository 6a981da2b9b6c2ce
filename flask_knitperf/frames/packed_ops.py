"""What is worked out from a packed column: its numbers are read, and pandas does the rest.

So every result is the one that an ordinary column of the same numbers gives. What holds numbers of the
column itself, in another order or number, is packed again; all else is an ordinary array.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .encodings import EXACT

_GIVE_THEIR_OWN = ("first", "last", "min", "max")
"""What gives of each group a number that is in it."""
_NOT_SAID: Any = object()
_REDUCTIONS = (
    "sum", "prod", "min", "max", "mean", "median", "std", "var", "sem", "skew", "kurt", "any", "all",
)  # fmt: skip


class Working:
    """The operations of :class:`.PackedArray`, on its numbers."""

    __array_priority__ = 1000
    to_numpy: Any
    of: Any
    dtype: Any
    _exact: tuple[Any, int] | None = None
    """Integers that are shifted here, and by how many rows, where nothing was said to fill up with."""

    def _series(self) -> pd.Series[Any]:
        return pd.Series(self.to_numpy())

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, pd.Series | pd.Index | pd.DataFrame) for each in inputs):
            return NotImplemented
        if any(isinstance(each, Working) for each in kwargs.get("out", ())):
            return NotImplemented
        return getattr(ufunc, method)(*map(_read, inputs), **kwargs)

    def _reduce(
        self, name: str, *, skipna: bool = True, keepdims: bool = False, **more: Any
    ) -> Any:
        found = getattr(self._series(), name)(skipna=skipna, **more)
        return np.array([found]) if keepdims else found

    def _accumulate(self, name: str, *, skipna: bool = True, **more: Any) -> Any:
        return dense(getattr(self._series(), name)(skipna=skipna, **more))

    def _groupby_op(self, *, how: str, **more: Any) -> Any:
        # a masked column of pandas works it out, which skips what is missing as one of doubles does
        values = self.to_numpy()
        masked: Any = pd.array(values, dtype="Float64" if values.dtype.kind == "f" else "Int64")
        found = masked._groupby_op(how=how, **more)
        if isinstance(found, pd.arrays.IntegerArray | pd.arrays.FloatingArray):
            gone = np.asarray(found.isna())
            found = with_gaps(found.to_numpy(dtype=found.dtype.numpy_dtype, na_value=0), gone)
        ours = how in _GIVE_THEIR_OWN and isinstance(found, np.ndarray)
        return self.of(found) if ours else found

    def _quantile(self, qs: Any, interpolation: Any) -> Any:
        found: Any = self._series().quantile(list(qs), interpolation=interpolation)
        return self.of(dense(found))

    def interpolate(self, *, method: Any, index: Any, **more: Any) -> Any:
        """Return a new column with values between others where nothing was."""
        more = {name: value for name, value in more.items() if name not in ("axis", "copy")}
        made = pd.Series(self.to_numpy(), index=index).interpolate(method=method, **more)
        return self.of(dense(made))

    def _pad_or_backfill(
        self, *, method: Any, limit: Any = None, limit_area: Any = None, **_: Any
    ) -> Any:
        values = self._series()
        fill = values.ffill if method in ("pad", "ffill") else values.bfill
        return self.of(dense(fill(limit=limit, limit_area=limit_area)))

    def round(self, decimals: int = 0) -> Any:
        """Return a new column of rounded numbers."""
        return self.of(np.round(self.to_numpy(), decimals))

    def shift(self, periods: int = 1, fill_value: Any = _NOT_SAID) -> Any:
        """Return a new column whose values are so many rows further down."""
        nothing = fill_value is _NOT_SAID or fill_value is None or pd.isna(fill_value)
        values = self._series()
        made = self.of(dense(values.shift(periods, fill_value=np.nan if nothing else fill_value)))
        if fill_value is _NOT_SAID and self.dtype.kind == "i":
            # pandas takes a difference so: from doubles, that do not hold every integer
            made._exact = values.to_numpy(), int(periods)
        return made

    def value_counts(self, dropna: bool = True) -> Any:
        """Return how often each number is there."""
        return self._series().value_counts(dropna=dropna)

    def unique(self) -> Any:
        """Return each number once, in order of appearance."""
        return self.of(pd.unique(self.to_numpy()))

    def searchsorted(self, value: Any, side: Any = "left", sorter: Any = None) -> Any:
        """Return where values would have to be put so that the order stays."""
        return self.to_numpy().searchsorted(_read(value), side=side, sorter=sorter)

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


def _operation(work: Callable[[Any, Any], Any], reverse: bool) -> Any:
    """Return a method that works on the numbers as pandas does on those of an ordinary column."""

    def method(self: Working, other: Any) -> Any:
        if isinstance(other, pd.Series | pd.Index | pd.DataFrame):
            return NotImplemented
        exact = getattr(other, "_exact", None)
        if exact is not None and work is operator.sub and not reverse and self.dtype.kind == "i":
            return _difference(self.to_numpy(), *exact)
        one, two = self._series(), _read(other)
        made = work(two, one) if reverse else work(one, two)
        if isinstance(made, tuple):
            return tuple(plain_array(each) for each in made)
        return plain_array(made)

    return method


def _reduction(name: str) -> Any:
    def method(self: Working, *, skipna: bool = True, **more: Any) -> Any:
        return self._reduce(name, skipna=skipna, **more)

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    _work = getattr(operator, f"__{_name}__")
    setattr(Working, f"__{_name}__", _operation(_work, reverse=False))
    setattr(Working, f"__r{_name}__", _operation(_work, reverse=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Working, f"__{_name}__", _operation(getattr(operator, _name), reverse=False))
for _name, _reverse in (("__divmod__", False), ("__rdivmod__", True)):
    setattr(Working, _name, _operation(divmod, _reverse))
for _name in _REDUCTIONS:
    setattr(Working, _name, _reduction(_name))


def _difference(values: Any, others: Any, periods: int) -> Any:
    """Return integers less others that are so many rows further up, as doubles as pandas does."""
    made = np.full(len(values), np.nan)
    if len(values) == len(others) and abs(periods) < len(values):
        to, by = slice(max(0, periods), len(values) + min(0, periods)), max(0, -periods)
        made[to] = values[to] - others[by : by + to.stop - to.start]
    return made


def with_gaps(values: Any, gone: Any) -> Any:
    """Return numbers of which some are missing: as doubles where those hold all of them, else masked."""
    if not gone.any():
        return values
    doubles = values.astype(np.float64)
    if values.dtype.kind == "f" or (np.abs(doubles[~gone]) < EXACT).all():
        doubles[gone] = np.nan
        return doubles
    return pd.arrays.IntegerArray(values, gone)


def plain_array(values: pd.Series[Any]) -> Any:
    """Return what a column holds: an array of numpy, where it is one."""
    array = values.array
    return array.to_numpy() if type(array) is pd.arrays.NumpyExtensionArray else array


def dense(values: Any) -> Any:
    """Return a column's numbers as doubles or 64-bit integers."""
    held = values.to_numpy()
    return held if held.dtype in (np.int64, np.float64) else held.astype(np.float64)


def _read(value: Any) -> Any:
    return value.to_numpy() if isinstance(value, Working) else value
