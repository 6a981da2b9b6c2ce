"""Scan for the DataFrames that are alive in this process, with the memory that each of them keeps.

A scan runs on demand: one walk of the garbage collector over its objects. pandas is not patched, there
is no registry, and no frame lives longer for being scanned. Bytes are those of the buffers behind a
frame, each counted once: frames that share columns share them here too, and a view of ten rows is
listed with all the memory that it keeps from being freed.
"""

from __future__ import annotations

import gc
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..core.provenance import ORIGINS
from ..core.units import MB
from .memory_usage import size_of

MAX_LISTED = 200
"""Frames in the list, the largest ones; all are counted."""
MAX_LISTED_NAMES = 8
"""Column names per listed frame, of :data:`MAX_NAME_LENGTH` characters each."""
MAX_NAME_LENGTH = 40
_MAX_COMPARED = 2_000
"""Frames that are compared for equal content, the largest ones."""
_MAX_SAMPLED_OBJECTS = 20_000
"""Objects of a column whose sizes are added up; those of a longer column are extrapolated."""
_HEAD_ROWS = 1_000
"""Rows that are compared before whole frames are."""
_HASHED_ROWS = 20_000
"""Rows that are hashed at a time, so that other threads run in between."""

BufferKey = tuple[int, int]
"""Address and length of a buffer."""
EstimateSavings = Callable[[Any, int], int | None]
"""Function of a frame and its bytes that returns the bytes a plan would save; ``None`` if unknown."""


@dataclass(slots=True)
class LiveFrame:
    """Frame that is alive.

    Attributes:
        rows: number of rows.
        columns: number of columns.
        bytes: parts of the buffers that it uses.
        shared: bytes among them that other frames use too.
        pinned: bytes of its buffers that no live frame uses; they are freed with it.
        copies: number of other frames with equal content in separate buffers.
        origin: its source, such as ``read_csv stock.csv``, empty if unknown.
        where: the line of the application that created it, empty if unknown.
        saves: bytes that a plan would save, ``None`` if not estimated.
        names: its first column labels.
    """

    rows: int
    columns: int
    bytes: int
    shared: int
    pinned: int
    copies: int
    origin: str
    where: str
    saves: int | None
    names: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "rows": self.rows, "columns": self.columns, "names": list(self.names),
            "mb": _mb(self.bytes), "shared_mb": _mb(self.shared), "pinned_mb": _mb(self.pinned),
            "copies": self.copies, "origin": self.origin or None, "where": self.where or None,
            "saves_mb": None if self.saves is None else _mb(self.saves),
        }  # fmt: skip


@dataclass(slots=True)
class Scan:
    """Frames that are alive at one moment.

    Attributes:
        frames: the listed ones, those with the most bytes (used and pinned) first.
        count: number of all frames.
        bytes: of all buffers behind them, each counted once.
        duplicated: bytes of frames whose content equals that of another one.
        pinned: bytes of buffers that no frame uses, but views keep.
        stalled_ns: how long the walk stopped all threads.
        frozen: number of objects excluded by ``gc.freeze``; frames among them are not listed.
    """

    frames: list[LiveFrame]
    count: int
    bytes: int
    duplicated: int
    pinned: int
    stalled_ns: int
    frozen: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "count": self.count, "mb": _mb(self.bytes), "duplicated_mb": _mb(self.duplicated),
            "pinned_mb": _mb(self.pinned), "stalled_ms": round(self.stalled_ns / 1e6, 2),
            "frozen": self.frozen,
            "frames": [frame.as_dict() for frame in self.frames],
        }  # fmt: skip


class _BufferUse(NamedTuple):
    """Use of a buffer by an array.

    Attributes:
        key: the buffer.
        nbytes: of the whole buffer.
        used: bytes that the array uses.
    """

    key: BufferKey
    nbytes: int
    used: int


@dataclass(slots=True)
class _Buffer:
    """Buffer that frames refer to.

    Attributes:
        nbytes: its bytes.
        used: the most of them that one frame uses.
        users: positions of the frames that refer to it.
    """

    nbytes: int
    used: int = 0
    users: set[int] = field(default_factory=set)


class _BufferTable:
    """Buffers of all frames.

    Args:
        frames: all live frames; a frame is identified by its position.
    """

    def __init__(self, frames: list[Any]) -> None:
        self.buffers: dict[BufferKey, _Buffer] = {}
        self.used: list[dict[BufferKey, int]] = []
        """Bytes that each frame uses of each of its buffers."""
        for position, frame in enumerate(frames):
            used: dict[BufferKey, int] = {}
            for use in _buffers(frame):
                used[use.key] = max(used.get(use.key, 0), use.used)
                self.buffers.setdefault(use.key, _Buffer(use.nbytes)).users.add(position)
            for key, nbytes in used.items():
                self.buffers[key].used = max(self.buffers[key].used, nbytes)
            self.used.append(used)
        self.sizes = [sum(used.values()) for used in self.used]
        self.pinned = list(map(self._pinned, self.used))

    def _pinned(self, used: dict[BufferKey, int]) -> int:
        buffers = map(self.buffers.__getitem__, used)
        return sum(buffer.nbytes - buffer.used for buffer in buffers if len(buffer.users) == 1)

    def shared(self, position: int) -> int:
        """Return the bytes of a frame that other frames use too."""
        used = self.used[position]
        return sum(n for key, n in used.items() if len(self.buffers[key].users) > 1)

    def shared_with(self, position: int, other: int) -> int:
        """Return the bytes of a frame that lie in buffers of another one."""
        return sum(n for key, n in self.used[position].items() if key in self.used[other])


def scan(estimate_savings: EstimateSavings | None = None) -> Scan:
    """Return the DataFrames that are alive in this process; none if pandas is not imported.

    Args:
        estimate_savings: called for the listed frames, the largest first.
    """
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "DataFrame"):
        return Scan([], 0, 0, 0, 0, 0)
    frames, stalled_ns = _live_instances(pandas.DataFrame)
    try:
        return _describe(frames, stalled_ns, estimate_savings)
    finally:
        frames.clear()


def _live_instances(frame_class: type) -> tuple[list[Any], int]:
    """Return all instances of a class, and for how many nanoseconds all threads were stopped.

    An instance refers to its class, so one walk finds the instances of subclasses too.
    """
    classes: list[type[Any]] = [frame_class]
    for superclass in classes:  # grows while it is iterated
        classes += [cls for cls in superclass.__subclasses__() if cls not in classes]
    started = time.perf_counter_ns()
    referrers = gc.get_referrers(*classes)
    stalled_ns = time.perf_counter_ns() - started
    return [value for value in referrers if isinstance(value, frame_class)], stalled_ns


def _describe(
    frames: list[Any], stalled_ns: int, estimate_savings: EstimateSavings | None
) -> Scan:  # fmt: skip
    table = _BufferTable(frames)
    sizes = table.sizes
    order = sorted(range(len(frames)), key=lambda n: -sizes[n] - table.pinned[n])
    copies = _copies([(position, frames[position]) for position in order[:_MAX_COMPARED]], table)
    listed = []
    for position in order[:MAX_LISTED]:
        frame = frames[position]
        origin = ORIGINS.of(frame)
        rows, columns = frame.shape
        listed.append(LiveFrame(
            rows, columns, sizes[position], table.shared(position), table.pinned[position],
            len(copies.get(position, ())),
            "" if origin is None else origin.what, "" if origin is None else origin.where,
            None if estimate_savings is None else estimate_savings(frame, sizes[position]),
            tuple(str(name)[:MAX_NAME_LENGTH] for name in frame.columns[:MAX_LISTED_NAMES]),
        ))  # fmt: skip
    duplicated = sum(
        sizes[position] - table.shared_with(position, min(others))
        for position, others in copies.items() if position > min(others)
    )  # fmt: skip
    buffers = table.buffers.values()
    return Scan(
        listed, len(frames), sum(buffer.nbytes for buffer in buffers), duplicated,
        sum(buffer.nbytes - buffer.used for buffer in buffers), stalled_ns, gc.get_freeze_count(),
    )  # fmt: skip


# -- buffers behind a frame ------------------------------------------------------------------------


def _buffers(frame: Any) -> Iterator[_BufferUse]:
    """Yield the buffers behind a frame."""
    for array in _arrays(frame):
        yield from _buffers_of_array(array)
    index = frame.index
    if type(index).__name__ != "RangeIndex":
        levels = [*index.levels, *index.codes] if hasattr(index, "levels") else [index]
        for level in levels:
            yield from _buffers_of_array(getattr(level, "array", level))


def _arrays(frame: Any) -> Iterator[Any]:
    """Yield the arrays of a frame; several columns of one dtype may be one array."""
    blocks = getattr(getattr(frame, "_mgr", None), "blocks", None)
    if blocks is not None:
        yield from (block.values for block in blocks)
        return
    for position in range(frame.shape[1]):
        yield frame.iloc[:, position].array


def _buffers_of_array(array: Any) -> Iterator[_BufferUse]:
    if isinstance(array, np.ndarray):
        yield _buffer_of_numpy(array)
        if array.dtype == object and array.size:
            yield _objects(array)
        return
    chunks = getattr(getattr(array, "_pa_array", None), "chunks", None)
    if chunks is not None:
        for chunk in chunks:
            yield from _buffers_of_arrow(chunk)
        return
    attributes = ("_ndarray", "_codes", "_data", "_mask", "_sparse_values")
    parts = [getattr(array, name, None) for name in attributes]
    numpy_arrays = [part for part in parts if isinstance(part, np.ndarray)]
    for part in numpy_arrays:
        yield from _buffers_of_array(part)
    categories = getattr(getattr(array, "dtype", None), "categories", None)
    if categories is not None:
        yield from _buffers_of_array(categories.array)
    if not numpy_arrays and categories is None:
        nbytes = int(getattr(array, "nbytes", 0))
        yield _BufferUse((id(array), nbytes), nbytes, nbytes)


def _buffers_of_arrow(chunk: Any) -> Iterator[_BufferUse]:
    """Yield the buffers of an Arrow array; a slice uses a share of them only."""
    buffers = [buffer for buffer in chunk.buffers() if buffer is not None]
    total = sum(buffer.size for buffer in buffers)
    share = min(1.0, int(chunk.nbytes) / total) if total else 1.0
    for buffer in buffers:
        nbytes = int(buffer.size)
        yield _BufferUse((int(buffer.address), nbytes), nbytes, round(nbytes * share))


def _buffer_of_numpy(array: Any) -> _BufferUse:
    """Return the buffer of a numpy array: that of the array it is a view of, if it is a view."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    nbytes = int(root.nbytes)
    address = int(root.__array_interface__["data"][0])
    return _BufferUse((address, nbytes), nbytes, min(int(array.nbytes), nbytes))


def _objects(array: Any) -> _BufferUse:
    """Return the objects of an array as one buffer, whose size may be extrapolated from a sample."""
    flat = array.ravel()
    step = max(1, len(flat) // _MAX_SAMPLED_OBJECTS)
    sample = size_of(flat[::step])
    nbytes = int((sample.true - flat[::step].nbytes) * step)
    # a negative address, since no buffer has one
    key = (-int(array.__array_interface__["data"][0]) - 1, array.size)
    return _BufferUse(key, nbytes, nbytes)


# -- equal frames ----------------------------------------------------------------------------------

_Positioned = tuple[int, Any]
"""Position of a frame, and the frame."""


def _copies(frames: list[_Positioned], table: _BufferTable) -> dict[int, set[int]]:
    """Return for each frame the positions of its copies: equal content in separate buffers.

    Frames with equal shape, dtypes and labels are compared by content; frames that share half of their
    bytes or more are not copies.
    """
    groups: dict[Any, list[_Positioned]] = {}
    for position, frame in frames:
        if frame.size:
            key = (frame.shape, tuple(map(str, frame.dtypes)), tuple(map(str, frame.columns)))
            groups.setdefault(key, []).append((position, frame))
    copies: dict[int, set[int]] = {}
    for group in groups.values():
        for candidates in _equal_groups(group, _HEAD_ROWS):
            for equal in _equal_groups(candidates, None):
                positions = [position for position, _ in equal]
                for position in positions:
                    others = {
                        other for other in positions
                        if other != position
                        and table.shared_with(position, other) * 2 < table.sizes[position]
                    }  # fmt: skip
                    if others:
                        copies[position] = others
    return copies


def _equal_groups(group: list[_Positioned], rows: int | None) -> list[list[_Positioned]]:
    """Return the frames of a group whose first rows (``None``: all rows) are equal, by content."""
    if len(group) < 2:
        return []
    by_digest: dict[bytes, list[_Positioned]] = {}
    for position, frame in group:
        digest = _digest(frame.iloc[:rows], position)
        by_digest.setdefault(digest, []).append((position, frame))
    return [frames for frames in by_digest.values() if len(frames) > 1]


def _digest(frame: Any, position: int) -> bytes:
    """Return a digest of a frame's cells.

    A frame whose cells are objects other than text, such as lists, has a unique one.
    """
    from pandas.api.types import infer_dtype
    from pandas.util import hash_pandas_object

    digest = hashlib.blake2b(digest_size=16)
    for number in range(frame.shape[1]):
        column = frame.iloc[:, number]
        if column.dtype == object and infer_dtype(column, skipna=True) != "string":
            return str(position).encode()
        for start in range(0, len(column), _HASHED_ROWS):
            rows = column.iloc[start : start + _HASHED_ROWS]
            hashes = hash_pandas_object(rows, index=False, categorize=False).to_numpy()
            digest.update(hashes.data)
    return digest.digest()


def _mb(n_bytes: int) -> float:
    return round(n_bytes / MB, 3)
