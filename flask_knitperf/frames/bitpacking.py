"""Bit packing of small unsigned codes: 8, 4 or 2 of them per byte where 1, 2 or 4 bits suffice.

A slice shares its bytes with the whole, wherever it starts, so that a slice of a column is a view of it
as pandas requires. Where nearly all codes are equal, only the exceptions are stored
(:class:`SparseCodes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

WIDTHS = (1, 2, 4, 8, 16, 32)
"""Bits that a code may take."""
_DTYPES = {8: np.uint8, 16: np.uint16, 32: np.uint32}
_SAMPLE_SIZE = 2048


def width(count: int) -> int | None:
    """Return the fewest bits that distinguish ``count`` values; ``None`` where 32 do not."""
    return next((bits for bits in WIDTHS if count <= 1 << bits), None)


def packed_bytes(count: int, bits: int) -> int:
    """Return the bytes that ``count`` packed codes take."""
    return -(-count * bits // 8)


class Codes:
    """Array of codes of equal width, or a view of a part of one. Create it with :meth:`pack`.

    Attributes:
        bits: per code.
    """

    __slots__ = ("_data", "_length", "_offset", "bits")

    def __init__(self, data: Any, bits: int, offset: int, length: int) -> None:
        self._data, self.bits, self._offset, self._length = data, bits, offset, length

    @classmethod
    def pack(cls, numbers: Any, bits: int) -> Codes:
        """Return numbers as codes of a width.

        Args:
            numbers: an array of integers from 0 to 2**bits - 1.
            bits: one of :data:`WIDTHS`.
        """
        length = len(numbers)
        if bits >= 8:
            return cls(numbers.astype(_DTYPES[bits], copy=False), bits, 0, length)
        per_byte = 8 // bits
        rows = np.zeros((-(-length // per_byte), per_byte), dtype=np.uint8)
        rows.reshape(-1)[:length] = numbers
        data = rows[:, 0].copy()
        for column in range(1, per_byte):
            data |= rows[:, column] << np.uint8(bits * column)
        return cls(data, bits, 0, length)

    @classmethod
    def unpacked(cls, numbers: Any) -> Codes:
        """Return an array of any numbers as codes of its item size, without copying it."""
        return cls(numbers, 8 * numbers.dtype.itemsize, 0, len(numbers))

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return int(self._data.nbytes)

    def all(self) -> Any:
        """Return all codes, one per array element; not a copy if they have 8 bits or more."""
        if self.bits >= 8:
            return self._data
        numbers = _unpacking_table(self.bits)[self._data].reshape(-1)
        return numbers[self._offset : self._offset + self._length]

    def take(self, positions: Any) -> Codes:
        """Return the codes at some positions, none of them negative."""
        numbers = self.at(positions)
        return Codes.unpacked(numbers) if self.bits >= 8 else Codes.pack(numbers, self.bits)

    def at(self, positions: Any) -> Any:
        """Return the codes at some positions as an array."""
        if self.bits >= 8:
            return self._data[positions]
        byte_positions, shifts = self._locate(positions)
        return (self._data[byte_positions] >> shifts) & np.uint8((1 << self.bits) - 1)

    def put(self, positions: Any, numbers: Any) -> None:
        """Overwrite codes in place; if a position is repeated, the last number wins.

        Args:
            positions: none of them negative.
            numbers: one, or as many as positions.
        """
        if self.bits >= 8:
            self._data[positions] = numbers
            return
        positions = np.asarray(positions, dtype=np.intp)
        numbers = np.broadcast_to(np.asarray(numbers, dtype=np.uint8), positions.shape)
        positions, last = np.unique(positions[::-1], return_index=True)
        byte_positions, shifts = self._locate(positions)
        mask = np.uint8((1 << self.bits) - 1)
        np.bitwise_and.at(self._data, byte_positions, ~(mask << shifts))
        np.bitwise_or.at(self._data, byte_positions, numbers[::-1][last] << shifts)

    def slice(self, start: int, stop: int) -> Codes:
        """Return a view of a part."""
        length = max(0, stop - start)
        if self.bits >= 8:
            return Codes(self._data[start : start + length], self.bits, 0, length)
        per_byte = 8 // self.bits
        first = self._offset + start
        data = self._data[first // per_byte : -(-(first + length) // per_byte)]
        return Codes(data, self.bits, first % per_byte, length)

    def copy(self) -> Codes:
        """Return a copy that shares no bytes."""
        return Codes(self._data.copy(), self.bits, self._offset, self._length)

    def dense(self) -> Codes:
        """Return the codes themselves; see :meth:`SparseCodes.dense`."""
        return self

    def _locate(self, positions: Any) -> tuple[Any, Any]:
        """Return for each position the byte that holds the code, and the shift within it."""
        per_byte = 8 // self.bits
        slots = np.asarray(positions, dtype=np.intp) + self._offset
        return slots // per_byte, ((slots % per_byte) * self.bits).astype(np.uint8)


class SparseCodes:
    """Array of codes nearly all of which equal a fill value. Create it with :func:`sparse`.

    Attributes:
        bits: per code, as in the dense form.
    """

    __slots__ = ("_exceptions", "_fill", "_length", "_positions", "bits")

    def __init__(self, positions: Any, exceptions: Any, fill: Any, bits: int, length: int) -> None:
        self._positions, self._exceptions, self._fill = positions, exceptions, fill
        self.bits, self._length = bits, length

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of the exceptions and their positions."""
        return int(self._positions.nbytes + self._exceptions.nbytes)

    @property
    def exception_count(self) -> int:
        """Number of codes that differ from the fill value."""
        return len(self._positions)

    def all(self) -> Any:
        """Return all codes, one per array element."""
        numbers = np.full(self._length, self._fill, dtype=self._exceptions.dtype)
        numbers[self._positions] = self._exceptions
        return numbers

    def at(self, positions: Any) -> Any:
        """Return the codes at some positions as an array."""
        return self.take(positions).all()

    def take(self, positions: Any) -> SparseCodes:
        """Return the codes at some positions, none of them negative."""
        candidates = np.searchsorted(self._positions, positions)
        matches = candidates < len(self._positions)
        matches[matches] = self._positions[candidates[matches]] == positions[matches]
        taken = np.flatnonzero(matches).astype(np.uint32)
        exceptions = self._exceptions[candidates[matches]]
        return SparseCodes(taken, exceptions, self._fill, self.bits, len(positions))

    def slice(self, start: int, stop: int) -> SparseCodes:
        """Return a part; writing into it does not change the whole."""
        low, high = np.searchsorted(self._positions, (start, stop))
        positions = self._positions[low:high] - np.uint32(start)
        exceptions = self._exceptions[low:high]
        return SparseCodes(positions, exceptions, self._fill, self.bits, max(0, stop - start))

    def copy(self) -> SparseCodes:
        """Return a copy that shares no bytes."""
        positions, exceptions = self._positions.copy(), self._exceptions.copy()
        return SparseCodes(positions, exceptions, self._fill, self.bits, self._length)

    def dense(self) -> Codes:
        """Return all codes as :class:`Codes`."""
        numbers = self.all()
        return Codes.unpacked(numbers) if self.bits >= 8 else Codes.pack(numbers, self.bits)


def sparse(codes: Codes | SparseCodes) -> SparseCodes | None:
    """Return codes without their most frequent one, ``None`` where that does not save bytes.

    The most frequent code is estimated from a sample.
    """
    numbers = codes.all()
    # floats by their bits, so that NaN equals NaN
    keys = numbers.view(f"i{numbers.dtype.itemsize}") if numbers.dtype.kind == "f" else numbers
    uniques, counts = np.unique(keys[:: max(1, len(keys) // _SAMPLE_SIZE)], return_counts=True)
    if not len(uniques):
        return None
    fill = uniques[np.argmax(counts)]
    exception_bytes = 4 + numbers.dtype.itemsize
    share = 1 - counts.max() / counts.sum()
    hopeless = share * exception_bytes * len(keys) > 2 * codes.nbytes
    if hopeless or len(keys) > np.iinfo(np.uint32).max:
        return None
    positions = np.flatnonzero(keys != fill)
    if exception_bytes * len(positions) >= codes.nbytes:
        return None
    fill_value = numbers[int(np.argmax(keys == fill))]
    return SparseCodes(
        positions.astype(np.uint32), numbers[positions], fill_value, codes.bits, len(codes)
    )


def _unpacking_table(bits: int) -> Any:
    """Return the codes in each of the 256 possible bytes, one row per byte."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    possible_bytes = np.arange(256, dtype=np.uint8)
    return (possible_bytes[:, None] >> shifts) & np.uint8((1 << bits) - 1)
