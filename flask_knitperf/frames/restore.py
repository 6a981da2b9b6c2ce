"""Restoring a converted column to its original dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .conversions import Converted, Step, is_text
from .conversions_pack import ParseDates
from .packed_array import PackedDtype
from .verify import content_difference, decoded, kind_of


def restore_column(values: pd.Series[Any], step: Step, dtype: Any) -> Converted:
    """Return a column in its original dtype; unchanged where its values are of another kind by now.

    It is unchanged too, with a notice, where the original dtype cannot hold a current value.

    Args:
        values: the converted column, or a selection or result of it.
        step: the conversion.
        dtype: the original dtype, with all of its categories.
    """
    if isinstance(dtype, pd.CategoricalDtype):
        return _restore_categories(values, dtype)
    if values.dtype == dtype:
        return Converted(values)
    if isinstance(step, ParseDates) and pd.api.types.is_datetime64_any_dtype(values.dtype):
        return Converted(step.restore(values, dtype))
    if isinstance(values.dtype, pd.CategoricalDtype):
        plain: Any = decoded(values)
        plain.index, plain.name = values.index, values.name
    elif isinstance(values.dtype, PackedDtype):
        plain = pd.Series(values.to_numpy(), index=values.index, name=values.name)
    else:
        plain = values
    if plain.dtype == dtype or _signed_kind(plain.dtype) != _signed_kind(dtype):
        return Converted(plain)
    return _cast(plain, dtype)


def _signed_kind(dtype: Any) -> str:
    """Return the kind of a dtype, the same for unsigned integers: signed ones may hold their values."""
    return kind_of(dtype).removeprefix("unsigned ")


def _cast(values: pd.Series[Any], dtype: Any) -> Converted:
    unchanged = Converted(
        values, f"{dtype} cannot hold its values, so it is unchanged ({values.dtype})"
    )
    from_objects = isinstance(dtype, pd.StringDtype) and pd.api.types.is_object_dtype(values.dtype)
    if from_objects and values.notna().any() and not is_text(values):
        return unchanged  # a cast would format numbers as text
    try:
        cast: pd.Series[Any] = values.astype(dtype)
    except UnicodeEncodeError:  # a lone surrogate
        return unchanged
    narrows = pd.api.types.is_numeric_dtype(dtype) and not _is_safe_cast(values.dtype, dtype)
    if narrows and content_difference(values, cast):
        return unchanged  # ``astype`` wraps without an error
    return Converted(cast)


def _is_safe_cast(source: Any, target: Any) -> bool:
    """Return whether one numeric dtype holds all values of another."""
    one, other = (getattr(dtype, "numpy_dtype", dtype) for dtype in (source, target))
    return isinstance(one, np.dtype) and np.can_cast(one, other, "safe")


def _restore_categories(values: pd.Series[Any], dtype: Any) -> Converted:
    """Return a column with its original categories in their order, where they contain its values."""
    current: Any = values.dtype
    if kind_of(current) != kind_of(dtype):
        return Converted(values)
    if not isinstance(current, pd.CategoricalDtype):
        codes = dtype.categories.get_indexer(pd.Index(values))
        array = pd.Categorical.from_codes(codes, dtype=dtype)
    elif current.ordered == dtype.ordered and current.categories.identical(dtype.categories):
        return Converted(values)
    else:
        array = values.array.set_categories(dtype.categories, ordered=dtype.ordered)
    column = pd.Series(array, index=values.index, name=values.name, copy=False)
    if content_difference(values, column):
        notice = "the original categories do not contain all of its values, so it is unchanged"
        return Converted(values, notice)
    return Converted(column)
