"""The fewest bytes in which a frame's values fit without loss, in types that behave like its own.

Integers in the narrowest signed type, doubles as singles where that keeps every one, text as categories
or with 32-bit offsets, whichever is smallest. What packs harder (dictionaries of numbers, bits, runs)
reads in another way and is not in this bound; the level ``pack`` may pass it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .sizes import column_bytes, true_bytes

_OFFSET = 4


class Bound(NamedTuple):
    """The bound of a column.

    Attributes:
        bytes: the fewest.
        means: in what they are reached.
    """

    bytes: int
    means: str


def bound(frame: pd.DataFrame) -> tuple[int, list[Bound]]:
    """Return the bound of a frame, its row labels as they are, and those of its columns."""
    columns = [column_bound(frame.iloc[:, place]) for place in range(frame.shape[1])]
    labels = true_bytes(frame.iloc[:, :0])
    return labels + sum(each.bytes for each in columns), columns


def column_bound(values: pd.Series[Any]) -> Bound:
    """Return the bound of a column."""
    dtype: Any = values.dtype
    count = len(values)
    if isinstance(dtype, pd.CategoricalDtype):
        used = pd.Series(dtype.categories[np.unique(values.cat.codes[values.notna()])])
        return Bound(_codes(len(used)) * count + column_bound(used).bytes, "categories")
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        width = _width(int(values.min()), int(values.max())) if count else 1
        return Bound(count * min(width, dtype.itemsize), f"{8 * width}-bit integers")
    if dtype == np.float64:
        held = values.to_numpy()
        with np.errstate(over="ignore"):
            short = held.astype(np.float32).astype(np.float64)
        exact = np.array_equal(held, short, equal_nan=True)
        return Bound(count * (4 if exact else 8), "exact singles" if exact else "doubles")
    if _is_text(values):
        return _text(values)
    return Bound(column_bytes(values), f"{dtype} as it is")


def _text(values: pd.Series[Any]) -> Bound:
    there = values.dropna()
    lengths = there.map(lambda text: len(text.encode("utf-8", "surrogatepass"))).astype(np.int64)
    masked = (len(values) + 7) // 8 if len(there) < len(values) else 0
    plain = int(lengths.sum()) + _OFFSET * (len(values) + 1) + masked
    first = ~there.duplicated().to_numpy()
    spelled = int(lengths.to_numpy()[first].sum()) + _OFFSET * (int(first.sum()) + 1)
    codes = _codes(int(first.sum())) * len(values) + spelled
    return Bound(codes, "categories") if codes < plain else Bound(plain, "text with 32-bit offsets")


def _is_text(values: pd.Series[Any]) -> bool:
    if isinstance(values.dtype, pd.StringDtype):
        return True
    if values.dtype != object:
        return False
    held = values.to_numpy()
    kinds = set(map(type, held[~values.isna().to_numpy()]))
    return kinds == {str} and not any(each is None for each in held)


def _codes(count: int) -> int:
    """Return the bytes of a code for so many values."""
    return _width(-1, count - 1)


def _width(low: int, high: int) -> int:
    return next(
        bits // 8 for bits in (8, 16, 32, 64) if -(1 << bits - 1) <= low and high < 1 << bits - 1
    )
