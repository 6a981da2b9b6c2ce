"""Steps of the level ``pack``: codes that read as the numbers, and moments in place of text.

Each gives its column back exactly (:func:`.restore.unpacked`), and each checks that as it goes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .conversions import Converted, equal, is_text, other_kind, other_missing
from .packed_array import PackedArray

_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S",
    "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y", "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S", "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d-%m-%Y", "%m-%d-%Y",
)  # fmt: skip
"""Formats of dates that are known. None is all digits: such text may be a number or a name."""
_DIGITS = {"%Y": r"\d{4}", "%f": r"\d{6}"}
MOMENT = 8
"""Bytes of a moment."""


@dataclass(frozen=True)
class Pack:
    """Holds doubles or 64-bit integers in codes; see :mod:`.packed_array`.

    Attributes:
        bits: of each code.
        rare: whether only cells that differ from one number are written down.
    """

    bits: int
    rare: bool = False

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column packed, in wider codes or more of them where it needs that, or as it is."""
        if values.dtype not in (np.dtype("float64"), np.dtype("int64")):
            return other_kind(values)
        held = values.to_numpy()
        made = PackedArray.smaller(held, held.nbytes)
        if made is None:
            return Converted(values, f"its values fit no codes, so it stays {values.dtype}")
        notice = ""
        if made.bits > self.bits:
            notice = f"values need {made.bits} bits each, and {self.bits} were planned"
        elif self.rare and not made.rare:
            notice = "too many cells differ, so all are written down"
        return Converted(made, notice)


@dataclass(frozen=True)
class Dates:
    """Makes moments of dates that are text, where writing them in the same format gives each text again.

    Attributes:
        format: as ``strftime`` has it.
    """

    format: str

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column as moments, or as it is."""
        if not is_text(values):
            return other_kind(values)
        other = other_missing(values)
        if other:
            return Converted(values, f"it holds {other} now, so it stays {values.dtype}")
        made = moments(values, self.format)
        if made is None:
            return Converted(
                values, f"not all texts are dates like {self.format}, so they stay text"
            )
        return Converted(made)

    def back(self, values: pd.Series[Any], dtype: Any) -> pd.Series[Any]:
        """Return moments as the text that they were."""
        made: pd.Series[Any] = _written(values, self.format).astype(dtype)
        return made


def date_format(sample: pd.Series[Any]) -> str | None:
    """Return the one known format in which all texts of a sample are dates, ``None`` without one.

    Where days and months could be taken for each other there are two, so there is none.
    """
    texts = sample.dropna().unique().tolist()
    if not texts:
        return None
    likely = [each for each in _FORMATS if all(map(_pattern(each).fullmatch, texts))]
    fitting = [each for each in likely if moments(pd.Series(texts), each) is not None]
    return fitting[0] if len(fitting) == 1 else None


def moments(values: pd.Series[Any], form: str) -> Any:
    """Return texts as an array of moments; ``None`` where one would not be written as it is."""
    found = pd.to_datetime(values, format=form, exact=True, errors="coerce")
    if not np.array_equal(found.isna().to_numpy(), values.isna().to_numpy()):
        return None
    there = values.notna().to_numpy()
    again = _written(found, form).astype(values.dtype)
    return found.array if equal(values.array, again.array)[there].all() else None


def _written(values: pd.Series[Any], form: str) -> pd.Series[Any]:
    """Return moments in a format. What pandas writes quickly is made into what is like it."""
    if "T" in form:
        apart = _written(values, form.replace("T", " "))
        joined: pd.Series[Any] = apart.str.replace(" ", "T", regex=False)
        return joined
    written: pd.Series[Any] = values.dt.strftime(form)
    return written


def _pattern(form: str) -> re.Pattern[str]:
    parts = re.split(r"(%\w)", form)
    return re.compile("".join(
        _DIGITS.get(part, r"\d{2}") if part.startswith("%") else re.escape(part) for part in parts
    ), re.ASCII)  # fmt: skip
