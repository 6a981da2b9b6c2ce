"""The way back: a column as it was before a plan, in its first type."""

from __future__ import annotations

from typing import Any

import pandas as pd

from .packed import PackedDtype
from .steps import Step
from .stronger import Dates
from .verify import decoded, kind_of


def unpacked(values: pd.Series[Any], step: Step, dtype: Any) -> pd.Series[Any]:
    """Return a column in the type that it had; as it is where its values are of another kind by now.

    Args:
        values: what the step made, or a part of it, or what was worked out from it.
        step: what was done.
        dtype: the type before it. Categories stay those that there are.
    """
    if values.dtype == dtype or isinstance(dtype, pd.CategoricalDtype):
        return values
    if isinstance(step, Dates) and pd.api.types.is_datetime64_any_dtype(values.dtype):
        return step.back(values, dtype)
    if isinstance(values.dtype, pd.CategoricalDtype):
        made: Any = decoded(values)
        made.index, made.name = values.index, values.name
    elif isinstance(values.dtype, PackedDtype):
        made = pd.Series(values.to_numpy(), index=values.index, name=values.name)
    else:
        made = values
    if kind_of(made.dtype) == kind_of(dtype):
        made = made.astype(dtype)
    return made  # type: ignore[no-any-return]
