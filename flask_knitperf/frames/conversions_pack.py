"""Steps of the level ``pack``: packed numbers, and datetimes in place of date strings.

Both are reversible without loss (:func:`.restore.restore_column`), and check that while they convert.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .conversions import Converted, equal, is_text, other_dtype, other_missing
from .packed_array import PackedArray

# No format consists of digits only: such text may be a number or an identifier.
_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S",
    "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y", "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S", "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d-%m-%Y", "%m-%d-%Y",
)  # fmt: skip
_DIGITS = {"%Y": r"\d{4}", "%f": r"\d{6}"}
DATETIME_BYTES = 8
"""Bytes of a cell of a datetime column."""


@dataclass(frozen=True)
class PackNumbers:
    """Packs float64 or int64; see :mod:`.packed_array`.

    Attributes:
        bits: planned bits per code.
        is_sparse: whether only the cells that differ from a fill value are planned to be stored.
    """

    bits: int
    is_sparse: bool = False

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column packed, with more bits or codes than planned if needed, or unchanged."""
        if values.dtype not in (np.dtype("float64"), np.dtype("int64")):
            return other_dtype(values)
        array = values.to_numpy()
        packed = PackedArray.if_smaller(array, array.nbytes)
        if packed is None:
            notice = f"its values fit no encoding, so it is unchanged ({values.dtype})"
            return Converted(values, notice)
        notice = ""
        if packed.bits > self.bits:
            notice = f"values need {packed.bits} bits per code, and {self.bits} were planned"
        elif self.is_sparse and not packed.is_sparse:
            notice = "too many cells differ from the fill value, so all cells are stored"
        return Converted(packed, notice)


@dataclass(frozen=True)
class ParseDates:
    """Parses date strings, where formatting the datetimes restores every string.

    Attributes:
        format: of the strings, as ``strftime`` takes it.
    """

    format: str

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column as datetimes, or unchanged."""
        if not is_text(values):
            return other_dtype(values)
        missing = other_missing(values)
        if missing:
            return Converted(values, f"it contains {missing}, so it is unchanged ({values.dtype})")
        parsed = parse_dates(values, self.format)
        if parsed is None:
            return Converted(
                values, f"not all texts are dates like {self.format}, so it is unchanged"
            )
        return Converted(parsed)

    def restore(self, values: pd.Series[Any], dtype: Any) -> pd.Series[Any]:
        """Return datetimes as the original strings."""
        texts: pd.Series[Any] = _format_dates(values, self.format).astype(dtype)
        return texts


def date_format(sample: pd.Series[Any]) -> str | None:
    """Return the format in which all texts of a sample are dates; ``None`` unless it is unique.

    Where day and month could be confused two formats match.
    """
    texts = sample.dropna().unique().tolist()
    if not texts:
        return None
    candidates = [form for form in _FORMATS if all(map(_pattern(form).fullmatch, texts))]
    matching = [form for form in candidates if parse_dates(pd.Series(texts), form) is not None]
    return matching[0] if len(matching) == 1 else None


def parse_dates(values: pd.Series[Any], form: str) -> Any:
    """Return texts as a datetime array; ``None`` where formatting would not restore one of them."""
    parsed = pd.to_datetime(values, format=form, exact=True, errors="coerce")
    if not np.array_equal(parsed.isna().to_numpy(), values.isna().to_numpy()):
        return None
    present = values.notna().to_numpy()
    formatted = _format_dates(parsed, form).astype(values.dtype)
    return parsed.array if equal(values.array, formatted.array)[present].all() else None


def _format_dates(values: pd.Series[Any], form: str) -> pd.Series[Any]:
    """Return datetimes as text. pandas is fast for a space, not for ``T``, so that is substituted."""
    if "T" in form:
        spaced = _format_dates(values, form.replace("T", " "))
        substituted: pd.Series[Any] = spaced.str.replace(" ", "T", regex=False)
        return substituted
    texts: pd.Series[Any] = values.dt.strftime(form)
    return texts


def _pattern(form: str) -> re.Pattern[str]:
    parts = re.split(r"(%\w)", form)
    return re.compile("".join(
        _DIGITS.get(part, r"\d{2}") if part.startswith("%") else re.escape(part) for part in parts
    ), re.ASCII)  # fmt: skip
