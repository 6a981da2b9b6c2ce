"""Format of the log: the observations of a worker in order, safe at any instant of ``kill -9``.

A log is a file of fixed size, initially all zeros, that one process maps and appends to. Its unit is a
cell of 16 bytes::

    observation   u32 series | END    u32 weight    f64 value        (zero is written as -0.0)
    definition    u32 DEFINE          u32 length    u32 crc32   u32 series    then JSON, padded
    evidence      u32 NOTE            u32 length    u32 crc32   u32 1         then JSON, padded

All observations of one request form a **group** and go out in one ``mmap.write``: under the GIL the
copy and the advance of the position are one C call, so threads need no lock and leave no gap.

*Why this is safe.* A killed process, or a reader in another process, may see a partial copy. Both
8-byte halves of every committed cell are non-zero (a series id is at least 1, zero is written as minus
zero), and the file started as zeros. So a cell is complete exactly when both halves are non-zero,
whatever order the copy took, and a group is complete when every cell up to and including the one
marked END is. A definition is complete when its checksum matches. The first incomplete item ends the
log: it is not counted, and never guessed.

``parse`` is pure: bytes in, arrays and definitions out.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

CELL = 16
END = 1 << 31
DEFINE = 0xFFFFFFFF
NOTE = 0xFFFFFFFE
_HEADER = struct.Struct("<IIII")
_PACKERS = tuple(struct.Struct("<" + "IId" * n) for n in range(65))
_CELLS = np.dtype([("series", "<u4"), ("weight", "<u4"), ("value", "<f8")])

Observation = tuple[int, int, float]
"""series id, weight, value"""


def with_total(series: int, count: int, total: float) -> list[Observation]:
    """Return ``count`` observations, 1 or more, that sum to ``total``: the first carries the sum."""
    first = (series, 1, float(total))
    return [first] if count == 1 else [first, (series, count - 1, 0.0)]


def pack(observations: list[Observation]) -> bytes:
    """Return the bytes of one group of up to 64 observations."""
    flat: list[float] = []
    for series, weight, value in observations:
        flat += (series, weight, value or -0.0)
    flat[-3] = int(flat[-3]) | END
    return _PACKERS[len(observations)].pack(*flat)


def pack_many(series: int, values: Sequence[int]) -> bytes:
    """Return the bytes of one group of values of one series."""
    if len(values) < len(_PACKERS):
        return pack([(series, 1, value) for value in values])
    cells = np.empty(len(values), _CELLS)
    cells["series"] = series
    cells["weight"] = 1
    cells["value"] = values
    cells["value"][cells["value"] == 0] = -0.0
    cells["series"][-1] |= END
    return cells.tobytes()


def pack_json(tag: int, series: int, document: Any) -> bytes:
    """Return the bytes of a definition (``tag`` DEFINE) or of evidence (NOTE)."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()
    padded = text + b" " * (-len(text) % CELL)
    return _HEADER.pack(tag, len(padded), zlib.crc32(padded), series) + padded


@dataclass(slots=True, eq=False, repr=False)
class Parsed:
    """Complete content of a log.

    Attributes:
        series: id of each observation, END removed (``uint32``).
        weight: weight of each observation (``uint32``).
        value: value of each observation (``float64``).
        definitions: JSON document by series id.
        notes: evidence, as JSON documents.
        end: offset behind the last complete item.
        incomplete: whether an incomplete item follows ``end``.
    """

    series: npt.NDArray[np.uint32]
    weight: npt.NDArray[np.uint32]
    value: npt.NDArray[np.float64]
    definitions: dict[int, Any] = field(default_factory=dict)
    notes: list[Any] = field(default_factory=list)
    end: int = 0
    incomplete: bool = False


def parse(data: bytes, start: int = 0) -> Parsed:
    """Parse a log from an offset.

    Args:
        data: the log's bytes.
        start: an offset that an earlier ``parse`` returned as ``end``.
    """
    usable = len(data) - len(data) % CELL
    start = min(start, usable)
    cells = np.frombuffer(data, dtype=_CELLS, count=(usable - start) // CELL, offset=start)
    halves = np.frombuffer(data, dtype="<u8", count=len(cells) * 2, offset=start)
    tags = cells["series"]
    parsed = Parsed(tags[:0], cells["weight"][:0], cells["value"][:0])
    keep: list[npt.NDArray[np.void]] = []
    position = 0  # JSON is ASCII, so it contains no marker
    markers = iter([*np.flatnonzero(tags >= NOTE).tolist(), len(cells)])
    while True:
        marker = next(markers)
        stop = _last_group(halves, tags, position, marker)
        keep.append(cells[position:stop])
        position = stop
        if stop < marker or marker == len(cells):
            break
        length = _read_json(data, start + marker * CELL, usable, parsed)
        if not length:
            break
        position = marker + 1 + length // CELL
    chosen = keep[0] if len(keep) == 1 else np.concatenate(keep)
    parsed.series = chosen["series"] & np.uint32(END - 1)
    parsed.weight = chosen["weight"].copy()
    parsed.value = chosen["value"] + 0.0
    parsed.end = start + position * CELL
    parsed.incomplete = bool(halves[2 * position :].any())
    return parsed


def _last_group(
    halves: npt.NDArray[np.uint64], tags: npt.NDArray[np.uint32], begin: int, limit: int
) -> int:
    """Return the index behind the last complete group between two cells.

    Each array operation here lets the threads of requests run in between, so the usual log, which has
    neither a gap nor an incomplete end, takes few of them.
    """
    stop = limit
    if not halves[2 * begin : 2 * limit].all():
        stop = begin + int(np.argmin(halves[2 * begin : 2 * limit] != 0)) // 2
    if stop > begin and tags[stop - 1] & END:
        return stop
    ends = np.flatnonzero(tags[begin:stop] & np.uint32(END))
    return begin + int(ends[-1]) + 1 if len(ends) else begin


def _read_json(data: bytes, offset: int, usable: int, parsed: Parsed) -> int:
    """Parse the definition or evidence at an offset; return its padded length, 0 if incomplete."""
    tag, length, crc, series = _HEADER.unpack_from(data, offset)
    body = data[offset + CELL : offset + CELL + length]
    if not length or length % CELL or offset + CELL + length > usable or zlib.crc32(body) != crc:
        return 0
    document = json.loads(body)
    if tag == DEFINE:
        parsed.definitions[series] = document
    else:
        parsed.notes.append(document)
    return int(length)
