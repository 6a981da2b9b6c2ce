"""What the level ``pack`` does beyond ``compact``, by exact bytes, and what behaves otherwise then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from .conversions import Converted, Step
from .conversions_pack import MOMENT, Dates, Pack, date_format
from .memory_usage import Size, size_of
from .packed_array import PackedArray

_SAMPLE = 2048
_PACKED_RISKS = (
    "every operation reads all of its codes first, so many small ones are slow",
    "a number that it has no code for, put into a cell, makes it as large as it was",
    "what is made of its own values (groups, indexes, sorted rows) is packed too",
    "`values` and `to_numpy()` of packed columns together hold objects, unless a type is asked for",
    "`merge_asof` wants the other column packed too, and `describe()` says Float64",
    "a pickle or a Parquet file of it is read only where flask_knitperf.frames is imported",
)
_WHOLE_RISKS = (
    "outer joins by it give doubles, and a merge with a key of doubles raises",
    "an empty cell or a fraction cannot be put into it: `astype('float64')` first",
)
_DATE_RISKS = (
    "it holds moments and no text: methods of text raise, and it compares with moments",
    "files show it as pandas writes moments",
)


class Stronger(NamedTuple):
    """What a column may become, and why.

    Attributes:
        step: how.
        made: the column then.
        after: its bytes then.
        reason: why, for a person.
        risks: what behaves in another way then.
    """

    step: Step
    made: Converted
    after: Size
    reason: str
    risks: tuple[str, ...]


def stronger_numbers(values: pd.Series[Any], most: int) -> Stronger | None:
    """Return what doubles or 64-bit integers become in fewer than some bytes; ``None`` where nothing.

    Args:
        values: the column.
        most: bytes that it takes without.
    """
    packed = PackedArray.smaller(values.to_numpy(), most)
    if packed is None:
        return None
    risks = _PACKED_RISKS + (_WHOLE_RISKS if packed.dtype.kind == "i" else ())
    step = Pack(packed.bits, packed.rare)
    return Stronger(step, Converted(packed), size_of(packed), packed.held_as, risks)


def stronger_text(values: pd.Series[Any], most: Callable[[], int]) -> Stronger | None:
    """Return what text of dates becomes in fewer than some bytes; ``None`` where nothing.

    Args:
        values: text, and nothing but NaN where none is.
        most: tells the bytes that it takes without; counting those of objects takes long.
    """
    form = date_format(values.iloc[:: max(1, len(values) // _SAMPLE)])
    if form is None or MOMENT * len(values) >= most():
        return None
    step = Dates(form)
    made = step.convert(values)
    if made.notice:
        return None
    return Stronger(
        step, made, size_of(made.values), f"every text is a date like {form}", _DATE_RISKS
    )
