"""Lossless bound: the fewest bytes of a frame's values, in types that behave like its columns' types.

Integers in the narrowest signed type, doubles as singles if all of them are exact, text as categories or
with 32-bit offsets, whichever is smallest. Denser encodings (dictionaries of numbers, bits, runs) behave
differently and are not in this bound; the level ``pack`` may pass it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .sizes import column_bytes, true_bytes

_OFFSET = 4
"""Bytes of an offset."""


class Bound(NamedTuple):
    """The bound of a column.

    Attributes:
        bytes: the fewest.
        encoding: that reaches them.
    """

    bytes: int
    encoding: str


def bound(frame: pd.DataFrame) -> tuple[int, list[Bound]]:
    """Return the bound of a frame, row labels unchanged, and those of its columns."""
    columns = [column_bound(frame.iloc[:, position]) for position in range(frame.shape[1])]
    labels = true_bytes(frame.iloc[:, :0])
    return labels + sum(column.bytes for column in columns), columns


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
        doubles = values.to_numpy()
        with np.errstate(over="ignore"):
            singles = doubles.astype(np.float32).astype(np.float64)
        exact = np.array_equal(doubles, singles, equal_nan=True)
        return Bound(count * (4 if exact else 8), "exact singles" if exact else "doubles")
    if _is_text(values):
        return _text(values)
    return Bound(column_bytes(values), f"{dtype} unchanged")


def _text(values: pd.Series[Any]) -> Bound:
    present = values.dropna()
    lengths = present.map(lambda text: len(text.encode("utf-8", "surrogatepass"))).astype(np.int64)
    masked = (len(values) + 7) // 8 if len(present) < len(values) else 0
    plain = int(lengths.sum()) + _OFFSET * (len(values) + 1) + masked
    first = ~present.duplicated().to_numpy()
    categories = int(lengths.to_numpy()[first].sum()) + _OFFSET * (int(first.sum()) + 1)
    codes = _codes(int(first.sum())) * len(values) + categories
    return Bound(codes, "categories") if codes < plain else Bound(plain, "text with 32-bit offsets")


def _is_text(values: pd.Series[Any]) -> bool:
    if isinstance(values.dtype, pd.StringDtype):
        return True
    if values.dtype != object:
        return False
    cells = values.to_numpy()
    kinds = set(map(type, cells[~values.isna().to_numpy()]))
    return kinds == {str} and not any(cell is None for cell in cells)


def _codes(count: int) -> int:
    """Return the width of a code for that many values, in bytes."""
    return _width(-1, count - 1)


def _width(low: int, high: int) -> int:
    return next(
        bits // 8 for bits in (8, 16, 32, 64) if -(1 << bits - 1) <= low and high < 1 << bits - 1
    )
