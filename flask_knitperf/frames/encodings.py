"""Encodings of numbers as small codes: dictionary, scaled integers, or plain.

An encoding decodes to the original number bit for bit: ``-0.0`` is not ``0.0``. :func:`encode` chooses
the one with the fewest bytes, by exact sizes; samples are only used to rule an encoding out early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .bitpacking import WIDTHS, Codes, SparseCodes, packed_bytes, sparse, width

EXACT_LIMIT = 1 << 53
"""Integers below this magnitude are exact as float64."""
MAX_DECIMALS = 9
"""Decimal places that are tried for scaled integers."""
_MAX_INT64 = int(np.iinfo(np.int64).max)
_SAMPLE_SIZE = 2048
_NEARLY_UNIQUE = 0.9
"""Share of distinct values in the sample above which no dictionary is built."""
_BLOCK_ROWS = 1 << 15
"""Rows that are scaled at a time, so that the block fits the CPU's cache."""


class NotInDictionaryError(LookupError):
    """Raised with the value that the encoding has no code for."""


@dataclass(frozen=True, eq=False)
class DictionaryEncoding:
    """Each distinct value once, sorted; a code is a position among them. NaN is the last one.

    Attributes:
        values: the distinct values, float64 or int64.
    """

    values: Any

    @property
    def missing(self) -> int | None:
        """The code of NaN; ``None`` if the dictionary has none."""
        values = self.values
        has_nan = len(values) and values.dtype.kind == "f" and np.isnan(values[-1])
        return len(values) - 1 if has_nan else None

    @property
    def nbytes(self) -> int:
        """Bytes of the dictionary."""
        return int(self.values.nbytes)

    def decode(self, codes: Any) -> Any:
        """Return the values of codes."""
        return self.values.take(codes)

    def encode(self, values: Any) -> Any:
        """Return the codes of values.

        Raises:
            NotInDictionaryError: a value has no code.
        """
        codes = pd.Index(_bits(self.values)).get_indexer(pd.Index(_bits(values)))
        if self.missing is not None:
            codes[np.isnan(values)] = self.missing
        _check_encoded(codes >= 0, values)
        return codes

    def __str__(self) -> str:
        count = len(self.values) - (self.missing is not None)
        return f"dictionary of {count:,} {'value' if count == 1 else 'values'}"


@dataclass(frozen=True)
class ScaledEncoding:
    """Integers with an offset, divided by a power of ten: 19.99 is (1999 - offset) with scale 100.

    Attributes:
        offset: integer that code 0 stands for, before the division.
        scale: a power of ten.
        max_code: the largest code of a number.
        missing: the code of NaN; ``None`` without one.
        dtype: of the decoded numbers.
    """

    offset: int
    scale: int
    max_code: int
    missing: int | None
    dtype: Any

    @property
    def nbytes(self) -> int:
        """Bytes beside the codes: none."""
        return 0

    def decode(self, codes: Any) -> Any:
        """Return the values of codes."""
        values = codes.astype(self.dtype)
        values += self.offset
        if self.scale != 1:
            # correctly rounded, as parsing the decimal is, since both are below 2**53
            values /= self.scale
        if self.missing is not None:
            values[codes == self.missing] = np.nan
        return values

    def encode(self, values: Any) -> Any:
        """Return the codes of values.

        Raises:
            NotInDictionaryError: a value has no code.
        """
        is_nan = np.isnan(values) if self.missing is not None else np.zeros(len(values), dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint(values * self.scale) if values.dtype.kind == "f" else values
            largest = min(self.offset + self.max_code, _MAX_INT64)
            in_range = (scaled >= self.offset) & (scaled <= largest)
            codes = np.where(in_range, scaled - self.offset, 0).astype(np.int64)
        if self.missing is not None:
            codes[is_nan] = self.missing
        exact = in_range & (_bits(self.decode(codes)) == _bits(values))
        _check_encoded(is_nan | exact, values)
        return codes

    def __str__(self) -> str:
        return "integers" if self.scale == 1 else f"integers in units of 1/{self.scale:,}"


@dataclass(frozen=True)
class PlainEncoding:
    """Numbers as they are, or as float32 where that preserves each of them.

    Attributes:
        dtype: of the decoded numbers.
        storage_dtype: of the stored numbers.
    """

    dtype: Any
    storage_dtype: Any
    missing = None

    @property
    def nbytes(self) -> int:
        """Bytes beside the numbers: none."""
        return 0

    def decode(self, codes: Any) -> Any:
        """Return the numbers."""
        return codes.astype(self.dtype)

    def encode(self, values: Any) -> Any:
        """Return the numbers as they are stored.

        Raises:
            NotInDictionaryError: float32 does not preserve a number.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            stored = values.astype(self.storage_dtype)
        decoded = self.decode(stored)
        _check_encoded((_bits(decoded) == _bits(values)) | (decoded != decoded), values)
        return stored

    def __str__(self) -> str:
        return "numbers" if self.storage_dtype == self.dtype else "numbers exact in float32"


Encoding = DictionaryEncoding | ScaledEncoding | PlainEncoding


class Encoded(NamedTuple):
    """Codes, and the encoding that decodes them."""

    codes: Codes | SparseCodes
    encoding: Encoding

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.codes.nbytes + self.encoding.nbytes


def encode_plain(values: Any) -> tuple[Codes, PlainEncoding]:
    """Return float64 or int64 values in plain encoding; they are not copied."""
    return Codes.unpacked(values), PlainEncoding(values.dtype, values.dtype)


def encode(values: Any) -> Encoded:
    """Return values in the encoding with the fewest bytes that preserves every bit; NaN payloads may go.

    Args:
        values: float64 or int64; plain encoding refers to this very array.
    """
    is_nan = np.isnan(values) if values.dtype.kind == "f" else None
    if is_nan is not None and not is_nan.any():
        is_nan = None
    present = values if is_nan is None else values[~is_nan]
    dense = _encode_dense(values, present, is_nan)
    exceptions = sparse(dense.codes)
    return dense if exceptions is None else Encoded(exceptions, dense.encoding)


def _encode_dense(values: Any, present: Any, is_nan: Any) -> Encoded:
    """Return values in the encoding with the fewest bytes, one code per value.

    Args:
        values: all of them.
        present: those that are not NaN.
        is_nan: mask of NaN, ``None`` without any.
    """
    best = _encode_scaled(values, present, is_nan) or Encoded(*encode_plain(values))
    dictionary = _encode_dictionary(values, is_nan, best)
    if dictionary is not None and dictionary.nbytes < best.nbytes:
        best = dictionary
    if best.codes.bits == 64 and values.dtype.kind == "f":
        best = _encode_float32(values) or best
    return best


def _encode_scaled(values: Any, present: Any, is_nan: Any) -> Encoded | None:
    """Return values as scaled integers, ``None`` where one of them is not."""
    if not len(present):
        return None
    scaled = _scale(present) if values.dtype.kind == "f" else (present, 1)
    if scaled is None:
        return None
    integers, scale = scaled
    low, high = int(integers.min()), int(integers.max())
    bits = width(high - low + 1 + (is_nan is not None))
    if bits is None:
        return None
    capacity = 1 << bits
    spare_code = values.dtype.kind == "f" and high - low + 1 < capacity
    missing = capacity - 1 if spare_code else None
    dtype = np.uint8 if bits <= 8 else f"uint{bits}"
    codes = np.empty(len(integers), dtype=dtype)
    np.subtract(integers, low, out=codes, dtype=integers.dtype, casting="unsafe")
    if is_nan is not None:
        present_codes, codes = codes, np.full(len(values), missing, dtype=dtype)
        codes[~is_nan] = present_codes
    max_code = capacity - 1 - (missing is not None)
    encoding = ScaledEncoding(low, scale, max_code, missing, values.dtype)
    return Encoded(Codes.pack(codes, bits), encoding)


def _scale(present: Any) -> tuple[Any, int] | None:
    """Return floats times the smallest power of ten that makes all of them exact integers, and it."""
    sample = present[:: max(1, len(present) // _SAMPLE_SIZE)]
    for decimals in range(MAX_DECIMALS + 1):
        scale = 10**decimals
        if _scale_by(sample, scale) is None:
            continue
        integers = _scale_by(present, scale)
        if integers is not None:
            return integers, scale
    return None


def _scale_by(present: Any, scale: int) -> Any:
    """Return floats times a factor; ``None`` where the product is not an integer that divides back."""
    scaled = np.empty_like(present)
    for start in range(0, len(present), _BLOCK_ROWS):
        block = present[start : start + _BLOCK_ROWS]
        integers = scaled[start : start + _BLOCK_ROWS]
        with np.errstate(over="ignore"):
            np.multiply(block, scale, out=integers)
        np.rint(integers, out=integers)
        integers += 0.0  # turns -0.0 into 0.0, whose bits differ from the original's
        if not -EXACT_LIMIT < integers.min() <= integers.max() < EXACT_LIMIT:
            return None
        if not (_bits(integers / scale) == _bits(block)).all():
            return None
    return scaled


def _encode_dictionary(values: Any, is_nan: Any, best: Encoded) -> Encoded | None:
    """Return values in dictionary encoding, ``None`` where that takes no fewer bytes."""
    keys = _bits(values)
    narrower = [bits for bits in WIDTHS if bits < best.codes.bits]
    if not narrower:
        return None
    sample = keys[:: max(1, len(keys) // _SAMPLE_SIZE)]
    distinct = len(pd.unique(sample))
    nearly_unique = len(keys) >= _SAMPLE_SIZE and distinct > _NEARLY_UNIQUE * len(sample)
    if distinct > 1 << narrower[-1] or nearly_unique:
        return None
    if is_nan is not None:
        keys = keys.copy()
        keys[is_nan] = _bits(np.array([np.nan]))[0]
    codes, uniques = pd.factorize(keys)
    bits = width(len(uniques))
    if bits is None or packed_bytes(len(keys), bits) + 8 * len(uniques) >= best.nbytes:
        return None
    dictionary = uniques.view(values.dtype)
    order = np.argsort(dictionary, kind="stable")  # NaN last
    new_code = np.empty(len(order), dtype=np.uint8 if bits <= 8 else f"uint{bits}")
    new_code[order] = np.arange(len(order))
    dictionary = dictionary[order]
    if values.dtype.kind == "f" and is_nan is None and len(dictionary) < 1 << bits:
        dictionary = np.append(dictionary, np.nan)  # a spare code, so that a cell can become empty
    return Encoded(Codes.pack(new_code[codes], bits), DictionaryEncoding(dictionary))


def _encode_float32(values: Any) -> Encoded | None:
    """Return float64 values as float32, ``None`` where one of them is not preserved."""
    encoding = PlainEncoding(values.dtype, np.dtype(np.float32))
    try:
        encoding.encode(values[:: max(1, len(values) // _SAMPLE_SIZE)])
        return Encoded(Codes.unpacked(encoding.encode(values)), encoding)
    except NotInDictionaryError:
        return None


def _bits(values: Any) -> Any:
    """Return 64-bit numbers as integers with the same bits."""
    return np.ascontiguousarray(values).view(np.int64)


def _check_encoded(encoded: Any, values: Any) -> None:
    if not encoded.all():
        raise NotInDictionaryError(values[int(np.argmin(encoded))])
