"""Small numbers in as few bits as they need: several to a byte where 1, 2 or 4 bits do.

A part of them shares its bytes with the whole, wherever it begins, so that a slice of a column is a view
of it, as pandas wants it. Where nearly all are one number, only the others are written down
(:class:`Rare`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

_TYPES = {8: np.uint8, 16: np.uint16, 32: np.uint32}
_SAMPLE = 2048
WIDTHS = (1, 2, 4, 8, 16, 32)
"""Bits that a number may take."""


def width(count: int) -> int | None:
    """Return the fewest bits that tell so many things apart; ``None`` where 32 do not."""
    return next((bits for bits in WIDTHS if count <= 1 << bits), None)


def packed_bytes(count: int, bits: int) -> int:
    """Return the bytes that so many numbers take."""
    return -(-count * bits // 8)


class Codes:
    """Numbers of equal width. Make them with :meth:`of`.

    Attributes:
        bits: of each.
    """

    __slots__ = ("_count", "_first", "_held", "bits")

    def __init__(self, held: Any, bits: int, first: int, count: int) -> None:
        self._held, self.bits, self._first, self._count = held, bits, first, count

    @classmethod
    def of(cls, numbers: Any, bits: int) -> Codes:
        """Return numbers of that width.

        Args:
            numbers: an array of them, none negative or too large.
            bits: one of :data:`WIDTHS`.
        """
        count = len(numbers)
        if bits >= 8:
            return cls(numbers.astype(_TYPES[bits], copy=False), bits, 0, count)
        each = 8 // bits
        rows = np.zeros((-(-count // each), each), dtype=np.uint8)
        rows.reshape(-1)[:count] = numbers
        held = rows[:, 0].copy()
        for place in range(1, each):
            held |= rows[:, place] << np.uint8(bits * place)
        return cls(held, bits, 0, count)

    @classmethod
    def plain(cls, held: Any) -> Codes:
        """Return an array of any numbers as it is."""
        return cls(held, 8 * held.dtype.itemsize, 0, len(held))

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return int(self._held.nbytes)

    def all(self) -> Any:
        """Return all numbers, each in a byte or more; from 8 bits on not a copy."""
        if self.bits >= 8:
            return self._held
        spread = _spread(self.bits)[self._held].reshape(-1)
        return spread[self._first : self._first + self._count]

    def take(self, places: Any) -> Codes:
        """Return the numbers at some places, none of them negative."""
        found = self.at(places)
        return Codes.plain(found) if self.bits >= 8 else Codes.of(found, self.bits)

    def at(self, places: Any) -> Any:
        """Return the numbers at some places as an array."""
        if self.bits >= 8:
            return self._held[places]
        bytes_, shifts = self._found(places)
        return (self._held[bytes_] >> shifts) & np.uint8((1 << self.bits) - 1)

    def put(self, places: Any, numbers: Any) -> None:
        """Put numbers, one or as many, where others were; of a place that is named twice the last."""
        if self.bits >= 8:
            self._held[places] = numbers
            return
        places = np.asarray(places, dtype=np.intp)
        numbers = np.broadcast_to(np.asarray(numbers, dtype=np.uint8), places.shape)
        places, last = np.unique(places[::-1], return_index=True)
        bytes_, shifts = self._found(places)
        mask = np.uint8((1 << self.bits) - 1)
        np.bitwise_and.at(self._held, bytes_, ~(mask << shifts))
        np.bitwise_or.at(self._held, bytes_, numbers[::-1][last] << shifts)

    def part(self, start: int, stop: int) -> Codes:
        """Return a part, which shares the bytes."""
        count = max(0, stop - start)
        if self.bits >= 8:
            return Codes(self._held[start : start + count], self.bits, 0, count)
        each = 8 // self.bits
        first = self._first + start
        held = self._held[first // each : -(-(first + count) // each)]
        return Codes(held, self.bits, first % each, count)

    def copy(self) -> Codes:
        """Return them with bytes of their own."""
        return Codes(self._held.copy(), self.bits, self._first, self._count)

    def dense(self) -> Codes:
        """Return them each written down, as they are."""
        return self

    def _found(self, places: Any) -> tuple[Any, Any]:
        """Return the byte of each place, and by how much it is shifted in it."""
        each = 8 // self.bits
        at = np.asarray(places, dtype=np.intp) + self._first
        return at // each, ((at % each) * self.bits).astype(np.uint8)


class Rare:
    """Numbers of which nearly all are one; the others, and where they are. Make them with :func:`rare`.

    Attributes:
        bits: of each.
    """

    __slots__ = ("_count", "_fill", "_others", "_places", "bits")

    def __init__(self, places: Any, others: Any, fill: Any, bits: int, count: int) -> None:
        self._places, self._others, self._fill = places, others, fill
        self.bits, self._count = bits, count

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return int(self._places.nbytes + self._others.nbytes)

    @property
    def others(self) -> int:
        """How many are not the one."""
        return len(self._places)

    def all(self) -> Any:
        """Return all numbers."""
        made = np.full(self._count, self._fill, dtype=self._others.dtype)
        made[self._places] = self._others
        return made

    def at(self, places: Any) -> Any:
        """Return the numbers at some places as an array."""
        return self.take(places).all()

    def take(self, places: Any) -> Rare:
        """Return the numbers at some places, none of them negative."""
        at = np.searchsorted(self._places, places)
        there = at < len(self._places)
        there[there] = self._places[at[there]] == places[there]
        found = np.flatnonzero(there).astype(np.uint32)
        return Rare(found, self._others[at[there]], self._fill, self.bits, len(places))

    def part(self, start: int, stop: int) -> Rare:
        """Return a part; what is put into it is not put into the whole."""
        low, high = np.searchsorted(self._places, (start, stop))
        places = self._places[low:high] - np.uint32(start)
        return Rare(places, self._others[low:high], self._fill, self.bits, max(0, stop - start))

    def copy(self) -> Rare:
        """Return them with bytes of their own."""
        return Rare(self._places.copy(), self._others.copy(), self._fill, self.bits, self._count)

    def dense(self) -> Codes:
        """Return them each written down."""
        found = self.all()
        return Codes.plain(found) if self.bits >= 8 else Codes.of(found, self.bits)


def rare(codes: Codes | Rare) -> Rare | None:
    """Return numbers of which the most frequent is not written down, where that takes fewer bytes."""
    found = codes.all()
    keys = found.view(f"i{found.dtype.itemsize}") if found.dtype.kind == "f" else found
    seen, counts = np.unique(keys[:: max(1, len(keys) // _SAMPLE)], return_counts=True)
    if not len(seen):
        return None
    fill = seen[np.argmax(counts)]
    each = 4 + found.dtype.itemsize
    share = 1 - counts.max() / counts.sum()
    if share * each * len(keys) > 2 * codes.nbytes or len(keys) > np.iinfo(np.uint32).max:
        return None
    places = np.flatnonzero(keys != fill)
    if each * len(places) >= codes.nbytes:
        return None
    one = found[int(np.argmax(keys == fill))]
    return Rare(places.astype(np.uint32), found[places], one, codes.bits, len(codes))


def _spread(bits: int) -> Any:
    """Return the numbers in each of the 256 bytes, one row a byte."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    bytes_ = np.arange(256, dtype=np.uint8)
    return (bytes_[:, None] >> shifts) & np.uint8((1 << bits) - 1)
