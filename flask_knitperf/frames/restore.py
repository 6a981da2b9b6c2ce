"""The way back: a column as it was before a plan, in its first type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .conversions import Converted, Step, is_text
from .conversions_pack import Dates
from .packed_array import PackedDtype
from .verify import content_difference, decoded, kind_of


def unpacked(values: pd.Series[Any], step: Step, dtype: Any) -> Converted:
    """Return a column in the type that it had; as it is where its values are of another kind by now.

    Where they are of that kind and the type does not hold one of them, it stays too, with a notice.

    Args:
        values: what the step made, or a part of it, or what was worked out from it.
        step: what was done.
        dtype: the type before it, with all categories that it had.
    """
    if isinstance(dtype, pd.CategoricalDtype):
        return _categories(values, dtype)
    if values.dtype == dtype:
        return Converted(values)
    if isinstance(step, Dates) and pd.api.types.is_datetime64_any_dtype(values.dtype):
        return Converted(step.back(values, dtype))
    if isinstance(values.dtype, pd.CategoricalDtype):
        made: Any = decoded(values)
        made.index, made.name = values.index, values.name
    elif isinstance(values.dtype, PackedDtype):
        made = pd.Series(values.to_numpy(), index=values.index, name=values.name)
    else:
        made = values
    if made.dtype == dtype or _family(made.dtype) != _family(dtype):
        return Converted(made)
    return _in_type(made, dtype)


def _family(dtype: Any) -> str:
    """Return the kind of a type; unsigned numbers may become signed ones again where those hold them."""
    return kind_of(dtype).removeprefix("unsigned ")


def _in_type(values: pd.Series[Any], dtype: Any) -> Converted:
    stay = Converted(values, f"{dtype} does not hold its values, so it stays {values.dtype}")
    objects = isinstance(dtype, pd.StringDtype) and pd.api.types.is_object_dtype(values.dtype)
    if objects and values.notna().any() and not is_text(values):
        return stay  # numbers would become their digits
    try:
        made: pd.Series[Any] = values.astype(dtype)
    except UnicodeEncodeError:  # half of a surrogate pair
        return stay
    narrows = pd.api.types.is_numeric_dtype(dtype) and not _widens(values.dtype, dtype)
    if narrows and content_difference(values, made):
        return stay  # ``astype`` wraps without a word
    return Converted(made)


def _widens(one: Any, other: Any) -> bool:
    """Return whether a type of numbers holds all of another."""
    held, wanted = (getattr(each, "numpy_dtype", each) for each in (one, other))
    return isinstance(held, np.dtype) and np.can_cast(held, wanted, "safe")


def _categories(values: pd.Series[Any], dtype: Any) -> Converted:
    """Return a column with the first categories and their order, where its values are among them."""
    now: Any = values.dtype
    if kind_of(now) != kind_of(dtype):
        return Converted(values)
    if not isinstance(now, pd.CategoricalDtype):
        places = dtype.categories.get_indexer(pd.Index(values))
        array = pd.Categorical.from_codes(places, dtype=dtype)
    elif now.ordered == dtype.ordered and now.categories.identical(dtype.categories):
        return Converted(values)
    else:
        array = values.array.set_categories(dtype.categories, ordered=dtype.ordered)
    made = pd.Series(array, index=values.index, name=values.name, copy=False)
    if content_difference(values, made):
        return Converted(
            values, "not all of its values are among the first categories, so it stays"
        )
    return Converted(made)
