"""Drawing columns: seeded, vectorised ways to get a column of a stated shape.

Every function takes the generator of random numbers and answers an array of `rows` values, so
a table's builder reads as the specification does: a number of values, a share of them missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Draw:
    """A source of columns.

    Attributes:
        rng: numpy's generator.
        scale: multiplies the row counts, 1 = the mill's sizes.
    """

    rng: np.random.Generator
    scale: float

    def count(self, base: int, least: int = 8) -> int:
        """`base` rows at scale 1, never fewer than `least`."""
        return max(least, round(base * self.scale))

    def spread(self, values: Sequence[Any] | Column, rows: int) -> Column:
        """`rows` values in which every one of `values` occurs (if there is room), shuffled."""
        pool = np.asarray(values)
        if len(pool) >= rows:
            return self.rng.permutation(pool)[:rows]
        more = pool[self.rng.integers(0, len(pool), rows - len(pool))]
        return self.rng.permutation(np.concatenate([pool, more]))

    def mask(self, rows: int, share: float) -> npt.NDArray[np.bool_]:
        """True in exactly `share` of `rows` places."""
        chosen = np.zeros(rows, dtype=bool)
        chosen[self.rng.permutation(rows)[: round(share * rows)]] = True
        return chosen

    def blank(self, values: Column, share: float) -> Column:
        """The same values with `share` of them missing (None in object columns, else NaN)."""
        hidden = self.mask(len(values), share)
        if values.dtype.kind == "f":
            return np.where(hidden, np.nan, values)
        column = values.astype(object)
        column[hidden] = None
        return column

    def amounts(self, rows: int, low: float, high: float, zeros: float = 0.0) -> Column:
        """Floats of two decimals in `low`..`high`, a share of them zero."""
        values = self.rng.uniform(low, high, rows).round(2)
        values[self.mask(rows, zeros)] = 0.0
        return values

    def dates(self, rows: int, first: str = "2024-01-01", days: int = 500) -> Column:
        """Days as datetime64[D]."""
        return np.datetime64(first) + self.rng.integers(0, days, rows).astype("timedelta64[D]")

    def moments(self, rows: int) -> Column:
        """Times as datetime64[s] within a year."""
        seconds = self.rng.integers(0, 365 * 86_400, rows)
        return np.datetime64("2024-06-01T00:00:00") + seconds.astype("timedelta64[s]")


def texts(pattern: str, numbers: Column | range) -> Column:
    """`pattern` formatted with each number, as an object array."""
    return np.array([pattern.format(number) for number in numbers], dtype=object)


def money(values: Column, *, padded: bool = False) -> Column:
    """Dollars as the ERP exports them: "$9.99", or " $9,999.99 " when padded."""
    edge = " " if padded else ""
    return np.array([f"{edge}${value:,.2f}{edge}" for value in values], dtype=object)


def put(column: Column, row: int, value: object) -> None:
    """Plants one edge value, wherever that row is in a small table."""
    column[row % len(column)] = value
