"""What small codes stand for: each value written down once, or a whole number of tenths or hundredths.

A book gives for each code the very number that was there, bit for bit: ``-0.0`` is not ``0.0``. Which
book takes the fewest bytes is decided on exact bytes (:func:`written`); samples only say no early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .bitpacking import WIDTHS, Codes, Rare, packed_bytes, rare, width

_SAMPLE = 2048
_NEARLY_UNIQUE = 0.9
EXACT = 1 << 53
"""Whole numbers below are doubles too."""
_LARGEST = int(np.iinfo(np.int64).max)
_BLOCK = 1 << 15
_DECIMALS = 10
"""Places behind the point that are tried."""


class NotInDictionaryError(LookupError):
    """A book has no code for a value, which is its argument."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Each value once, in order; NaN the last of them.

    Attributes:
        values: that codes stand for, doubles or 64-bit integers.
    """

    values: Any

    @property
    def missing(self) -> int | None:
        """The code of NaN; ``None`` where there is none."""
        there = len(self.values) and self.values.dtype.kind == "f" and np.isnan(self.values[-1])
        return len(self.values) - 1 if there else None

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return int(self.values.nbytes)

    def read(self, codes: Any) -> Any:
        """Return what codes stand for."""
        return self.values.take(codes)

    def write(self, values: Any) -> Any:
        """Return the codes of values."""
        places = pd.Index(_bits(self.values)).get_indexer(pd.Index(_bits(values)))
        if self.missing is not None:
            places[np.isnan(values)] = self.missing
        _check(places >= 0, values)
        return places

    def __str__(self) -> str:
        count = len(self.values) - (self.missing is not None)
        return f"{count:,} values, each written down once"


@dataclass(frozen=True)
class Scaled:
    """Whole numbers from one on, divided by a power of ten.

    Attributes:
        first: what code 0 stands for, before it is divided.
        scale: a power of ten.
        most: the largest code of a number.
        missing: the code of NaN; ``None`` where there is none.
        dtype: of the numbers that are read.
    """

    first: int
    scale: int
    most: int
    missing: int | None
    dtype: Any

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return 0

    def read(self, codes: Any) -> Any:
        """Return what codes stand for."""
        made = codes.astype(self.dtype)
        made += self.first
        if self.scale != 1:
            made /= (
                self.scale
            )  # whole numbers below 2⁵³ by a power of ten: as exact as it was written
        if self.missing is not None:
            made[codes == self.missing] = np.nan
        return made

    def write(self, values: Any) -> Any:
        """Return the codes of values."""
        gone = np.isnan(values) if self.missing is not None else np.zeros(len(values), dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.rint(values * self.scale) if values.dtype.kind == "f" else values
            held = (whole >= self.first) & (whole <= min(self.first + self.most, _LARGEST))
            codes = np.where(held, whole - self.first, 0).astype(np.int64)
        if self.missing is not None:
            codes[gone] = self.missing
        _check(gone | (held & (_bits(self.read(codes)) == _bits(values))), values)
        return codes

    def __str__(self) -> str:
        return "whole numbers" if self.scale == 1 else f"whole numbers of 1/{self.scale:,}"


@dataclass(frozen=True)
class Plain:
    """Numbers as they are, or in single precision where that keeps each of them.

    Attributes:
        dtype: of the numbers that are read.
        held: of the numbers that are held.
    """

    dtype: Any
    held: Any
    missing = None

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return 0

    def read(self, codes: Any) -> Any:
        """Return the numbers."""
        return codes.astype(self.dtype)

    def write(self, values: Any) -> Any:
        """Return how numbers are held."""
        with np.errstate(over="ignore", invalid="ignore"):
            made = values.astype(self.held)
        back = self.read(made)
        _check((_bits(back) == _bits(values)) | (back != back), values)
        return made

    def __str__(self) -> str:
        return "numbers that single precision keeps" if self.held != self.dtype else "numbers"


Book = Dictionary | Scaled | Plain


class Written(NamedTuple):
    """Values as codes, and the book that reads them."""

    codes: Codes | Rare
    book: Book

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.codes.nbytes + self.book.nbytes


def plain(values: Any) -> tuple[Codes, Plain]:
    """Return doubles or integers as they are."""
    return Codes.plain(values), Plain(values.dtype, values.dtype)


def written(values: Any) -> Written:
    """Return values as codes in the fewest bytes that keep every bit of them; NaN stays any NaN.

    Args:
        values: doubles or 64-bit integers; what is returned may hold the very array.
    """
    gone = np.isnan(values) if values.dtype.kind == "f" else None
    if gone is not None and not gone.any():
        gone = None
    there = values if gone is None else values[~gone]
    dense = _dense(values, there, gone)
    fewer = rare(dense.codes)
    return dense if fewer is None else Written(fewer, dense.book)


def _dense(values: Any, there: Any, gone: Any) -> Written:
    """Return values as codes in the fewest bytes, each written down."""
    best = _scaled(values, there, gone) or Written(*plain(values))
    distinct = _dictionary(values, gone, best)
    if distinct is not None and distinct.nbytes < best.nbytes:
        best = distinct
    if best.codes.bits == 64 and values.dtype.kind == "f":
        best = _single(values) or best
    return best


def _scaled(values: Any, there: Any, gone: Any) -> Written | None:
    """Return values as whole numbers of a power of ten, where all are."""
    if not len(there):
        return None
    found = _whole(there) if values.dtype.kind == "f" else (there, 1)
    if found is None:
        return None
    whole, scale = found
    low, high = int(whole.min()), int(whole.max())
    bits = width(high - low + 1 + (gone is not None))
    if bits is None:
        return None
    room = 1 << bits
    missing = room - 1 if values.dtype.kind == "f" and high - low + 1 < room else None
    kind = np.uint8 if bits <= 8 else f"uint{bits}"
    codes = np.empty(len(whole), dtype=kind)
    np.subtract(whole, low, out=codes, dtype=whole.dtype, casting="unsafe")
    if gone is not None:
        there_only, codes = codes, np.full(len(values), missing, dtype=kind)
        codes[~gone] = there_only
    most = room - 1 - (missing is not None)
    return Written(Codes.of(codes, bits), Scaled(low, scale, most, missing, values.dtype))


def _whole(there: Any) -> tuple[Any, int] | None:
    """Return doubles times a power of ten, where all are whole then, and back give every bit."""
    sample = there[:: max(1, len(there) // _SAMPLE)]
    for places in range(_DECIMALS):
        scale = 10**places
        if _times(sample, scale) is None:
            continue
        whole = _times(there, scale)
        if whole is not None:
            return whole, scale
    return None


def _times(there: Any, scale: int) -> Any:
    """Return doubles times a number, ``None`` where one is not whole then; a block at a time."""
    made = np.empty_like(there)
    for start in range(0, len(there), _BLOCK):
        given, whole = there[start : start + _BLOCK], made[start : start + _BLOCK]
        with np.errstate(over="ignore"):
            np.multiply(given, scale, out=whole)
        np.rint(whole, out=whole)
        whole += 0.0  # of -0.0 makes 0.0, which is another
        if not -EXACT < whole.min() <= whole.max() < EXACT:
            return None
        if not (_bits(whole / scale) == _bits(given)).all():
            return None
    return made


def _dictionary(values: Any, gone: Any, best: Written) -> Written | None:
    """Return values as places in a list of them, where that may take fewer bytes."""
    keys = _bits(values)
    narrower = [bits for bits in WIDTHS if bits < best.codes.bits]
    if not narrower:
        return None
    sample = keys[:: max(1, len(keys) // _SAMPLE)]
    distinct = len(pd.unique(sample))
    if distinct > 1 << narrower[-1] or (
        len(keys) >= _SAMPLE and distinct > _NEARLY_UNIQUE * len(sample)
    ):
        return None
    if gone is not None:
        keys = keys.copy()
        keys[gone] = _bits(np.array([np.nan]))[0]
    codes, found = pd.factorize(keys)
    bits = width(len(found))
    if bits is None or packed_bytes(len(keys), bits) + 8 * len(found) >= best.nbytes:
        return None
    held = found.view(values.dtype)
    order = np.argsort(held, kind="stable")  # NaN last
    place = np.empty(len(order), dtype=np.uint8 if bits <= 8 else f"uint{bits}")
    place[order] = np.arange(len(order))
    held = held[order]
    if values.dtype.kind == "f" and gone is None and len(held) < 1 << bits:
        held = np.append(held, np.nan)  # there is room for a cell that will be empty
    return Written(Codes.of(place[codes], bits), Dictionary(held))


def _single(values: Any) -> Written | None:
    """Return doubles in single precision, where that keeps each of them."""
    book = Plain(values.dtype, np.dtype(np.float32))
    try:
        book.write(values[:: max(1, len(values) // _SAMPLE)])
        return Written(Codes.plain(book.write(values)), book)
    except NotInDictionaryError:
        return None


def _bits(values: Any) -> Any:
    return np.ascontiguousarray(values).view(np.int64)


def _check(held: Any, values: Any) -> None:
    if not held.all():
        raise NotInDictionaryError(values[int(np.argmin(held))])
