"""Selection of the steps of the level ``pack`` beyond those of ``compact``, by exact bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from .conversions import Converted, Decision
from .conversions_pack import DATETIME_BYTES, PackNumbers, ParseDates, date_format
from .memory_usage import size_of
from .packed_array import PackedArray

_SAMPLE_SIZE = 2048
_PACKED_RISKS = (
    "every operation decodes the whole column first, and a series of small ones is slow",
    "assigning a number without a code stores the column at its original size",
    "groups, indexes and sorted rows of its values are packed too",
    "`values` and `to_numpy()` of several packed columns are objects, unless a dtype is passed",
    "`merge_asof` needs the other column packed too, and `describe()` returns Float64",
    "a pickle or Parquet file of it is readable only where flask_knitperf.frames is imported",
)
_PACKED_INTEGER_RISKS = (
    "outer joins on it return float64, and a merge with a float64 key raises",
    "a missing value or a fraction cannot be assigned: `astype('float64')` first",
)
_DATE_RISKS = (
    "it contains datetimes and not text: string methods raise, and it compares with datetimes",
    "files contain it as pandas formats datetimes",
)


def select_packing(values: pd.Series[Any], max_bytes: int) -> Decision | None:
    """Return the decision to pack float64 or int64 numbers; ``None`` unless that takes fewer bytes.

    Args:
        values: the column.
        max_bytes: bytes that the packed column must stay below.
    """
    packed = PackedArray.if_smaller(values.to_numpy(), max_bytes)
    if packed is None:
        return None
    risks = _PACKED_RISKS + (_PACKED_INTEGER_RISKS if packed.dtype.kind == "i" else ())
    step = PackNumbers(packed.bits, packed.is_sparse)
    return Decision(step, size_of(packed), packed.encoding_name, risks, Converted(packed))


def select_dates(values: pd.Series[Any], max_bytes: Callable[[], int]) -> Decision | None:
    """Return the decision to parse date strings; ``None`` unless that takes fewer bytes.

    Args:
        values: text, with NaN as the only missing value.
        max_bytes: returns the bytes that the datetimes must stay below; a function, because counting
            the bytes of objects is slow.
    """
    form = date_format(values.iloc[:: max(1, len(values) // _SAMPLE_SIZE)])
    if form is None or DATETIME_BYTES * len(values) >= max_bytes():
        return None
    step = ParseDates(form)
    parsed = step.convert(values)
    if parsed.notice:
        return None
    return Decision(
        step, size_of(parsed.values), f"every text is a date like {form}", _DATE_RISKS, parsed
    )
