"""Rows of whole numbers as bytes, many rows at a time.

A number is a varint: seven bits per byte, the lowest first, the highest bit of a byte set where another
one follows. Differences and other signed numbers are zig-zag encoded first, so that small ones are
short. All rows are encoded, and decoded, by array operations on all of their numbers.

Source: Protocol Buffers, "Encoding", base 128 varints and ZigZag.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.errors import HistoryError

Ints = npt.NDArray[np.int64]
Unsigned = npt.NDArray[np.uint64]

_BITS = 7
_FOLLOWS = 0x80
_MAX_BYTES = 10
_LIMITS = np.array([1 << (_BITS * size) for size in range(1, _MAX_BYTES)], np.uint64)
"""The least number of each length but the first, in bytes."""


class Rows(NamedTuple):
    """Rows of unsigned numbers.

    Attributes:
        values: of all rows, one row after another.
        starts: index of the first value of each row, and the number of all values.
    """

    values: Unsigned
    starts: Ints


def zigzag(numbers: Ints) -> Unsigned:
    """Return signed numbers as unsigned ones, small where they are close to zero."""
    return ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)


def unzigzag(numbers: Unsigned) -> Ints:
    """Return the argument of :func:`zigzag`."""
    return (numbers >> np.uint64(1)).view(np.int64) ^ -(numbers & np.uint64(1)).view(np.int64)


def encode(rows: Rows) -> list[bytes]:
    """Return the bytes of each row."""
    values = rows.values
    if not len(values):
        return [b""] * (len(rows.starts) - 1)
    sizes = np.searchsorted(_LIMITS, values, side="right") + 1
    ends = np.cumsum(sizes)
    begins = ends - sizes
    data = np.zeros(int(ends[-1]), np.uint8)
    for place in range(int(sizes.max())):
        has_byte = sizes > place
        chosen = (values[has_byte] >> np.uint64(_BITS * place)).astype(np.uint8) & (_FOLLOWS - 1)
        chosen[sizes[has_byte] > place + 1] |= _FOLLOWS
        data[begins[has_byte] + place] = chosen
    whole = data.tobytes()
    bounds = np.append(begins, ends[-1])[rows.starts].tolist()
    return [whole[begin:end] for begin, end in pairwise(bounds)]


def decode(blobs: Sequence[bytes]) -> Rows:
    """Return the argument of :func:`encode`.

    Raises:
        HistoryError: the bytes are damaged.
    """
    data = np.frombuffer(b"".join(blobs), np.uint8)
    bounds = np.cumsum([0, *map(len, blobs)])
    if not len(data):
        return Rows(np.empty(0, np.uint64), np.zeros(len(bounds), np.int64))
    ends = np.flatnonzero(data < _FOLLOWS) + 1
    begins = np.append(0, ends[:-1])
    last_bytes = bounds[1:][np.diff(bounds) > 0] - 1
    if not len(ends) or (data[last_bytes] >= _FOLLOWS).any() or (ends - begins).max() > _MAX_BYTES:
        raise HistoryError("a row of the history is damaged: it ends within a number")
    place = np.arange(len(data)) - np.repeat(begins, ends - begins)
    parts = (data & (_FOLLOWS - 1)).astype(np.uint64) << (place * _BITS).astype(np.uint64)
    return Rows(np.add.reduceat(parts, begins), np.searchsorted(begins, bounds))
