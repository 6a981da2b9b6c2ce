"""Which DataFrames are alive in this process, and what each of them really holds.

They are found when somebody asks, by one walk of the collector over its objects: nothing of pandas is
replaced, no registry kept, and no frame lives a moment longer for it. Bytes are those of the buffers
behind a frame, each counted once: frames that share their columns share them here too, and a view of
ten rows is shown with all that it keeps from being freed.
"""

from __future__ import annotations

import gc
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.provenance import ORIGINS
from ..core.units import MB
from .memory_usage import size_of

LISTED = 200
"""Frames that are listed, the largest; all are counted."""
_COMPARED = 2_000
_SAMPLED = 20_000
"""Cells of a column of objects that are weighed; more are estimated from so many."""

_BEGINNING = 1_000
"""Rows that are compared before all are."""
_PIECE = 20_000

Key = tuple[int, int]
"""Address and length of a buffer."""


@dataclass(slots=True)
class LiveFrame:
    """A frame that is alive.

    Attributes:
        rows: how many.
        columns: how many.
        bytes: of the buffers behind it, as far as it shows them.
        shared: of those, bytes that other frames show too.
        pinned: bytes of its buffers that no live frame shows; they are freed with it.
        copies: how many other frames hold the same in buffers of their own.
        origin: where it came from, in words, empty where nobody told.
        where: the line that asked for it, empty where unknown.
        saves: bytes that a plan would save, ``None`` where none was asked for.
        names: the first of its columns.
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
    """What was alive at one moment.

    Attributes:
        frames: those first that hold most, with what they pin; so many as are listed.
        count: of all frames.
        bytes: of all buffers behind them, each once.
        duplicated: bytes of frames that hold the same as another one.
        pinned: bytes that only views keep.
        stalled_ns: how long the walk stopped all threads.
        frozen: objects that ``gc.freeze`` took in; frames among them are not seen.
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


@dataclass(slots=True)
class _Buffer:
    """A piece of memory that frames refer to.

    Attributes:
        whole: its bytes.
        shown: the most of it that one frame shows.
        users: frames that refer to it, by their place.
    """

    whole: int
    shown: int = 0
    users: set[int] = field(default_factory=set)


def alive(plan: Callable[[Any, int], int | None] | None = None) -> Scan:
    """Return the DataFrames that are alive in this process; none where pandas is not loaded.

    Args:
        plan: returns the bytes that a plan for a frame of so many would save, ``None`` where it was not
            worked out; asked for the listed ones, the largest first.
    """
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "DataFrame"):
        return Scan([], 0, 0, 0, 0, 0)
    found, stalled = _found(pandas.DataFrame)
    try:
        return _described(found, stalled, plan)
    finally:
        found.clear()


def _found(kind: type) -> tuple[list[Any], int]:
    """Return all frames, and how long all threads were stopped to find them.

    An instance refers to its class, so one walk finds those of all subclasses too.
    """
    classes: list[type[Any]] = [kind]
    for each in classes:
        classes += [one for one in each.__subclasses__() if one not in classes]
    began = time.perf_counter_ns()
    referring = gc.get_referrers(*classes)
    stalled = time.perf_counter_ns() - began
    return [one for one in referring if isinstance(one, kind)], stalled


def _described(
    frames: list[Any], stalled: int, plan: Callable[[Any, int], int | None] | None
) -> Scan:  # fmt: skip
    buffers: dict[Key, _Buffer] = {}
    shown: list[dict[Key, int]] = []
    for place, frame in enumerate(frames):
        own: dict[Key, int] = {}
        for key, whole, seen in _buffers(frame):
            own[key] = max(own.get(key, 0), seen)
            buffer = buffers.setdefault(key, _Buffer(whole))
            buffer.users.add(place)
        for key, seen in own.items():
            buffers[key].shown = max(buffers[key].shown, seen)
        shown.append(own)
    sizes = [_size(own) for own in shown]
    pinned = [
        sum(buffers[key].whole - buffers[key].shown for key in own if len(buffers[key].users) == 1)
        for own in shown
    ]
    order = sorted(range(len(frames)), key=lambda place: -sizes[place] - pinned[place])
    copies = _copies([(place, frames[place]) for place in order[:_COMPARED]], shown)
    listed = []
    for place in order[:LISTED]:
        frame, own = frames[place], shown[place]
        origin = ORIGINS.of(frame)
        rows, columns = frame.shape
        listed.append(LiveFrame(
            rows, columns, sizes[place],
            sum(seen for key, seen in own.items() if len(buffers[key].users) > 1),
            pinned[place],
            len(copies.get(place, ())),
            "" if origin is None else origin.what, "" if origin is None else origin.where,
            None if plan is None else plan(frame, sizes[place]),
            tuple(str(name)[:40] for name in frame.columns[:8]),
        ))  # fmt: skip
    twice = sum(
        sizes[place] - _shared(shown, place, min(others))
        for place, others in copies.items() if place > min(others)
    )  # fmt: skip
    return Scan(
        listed, len(frames), sum(b.whole for b in buffers.values()), twice,
        sum(b.whole - b.shown for b in buffers.values()), stalled, gc.get_freeze_count(),
    )  # fmt: skip


# -- the memory behind a frame ---------------------------------------------------------------------


def _buffers(frame: Any) -> Iterator[tuple[Key, int, int]]:
    """Give each buffer behind a frame: its key, its bytes, and how many of them the frame shows."""
    for array in _arrays(frame):
        yield from _of_array(array)
    index = frame.index
    if type(index).__name__ != "RangeIndex":
        levels = [*index.levels, *index.codes] if hasattr(index, "levels") else [index]
        for level in levels:
            yield from _of_array(getattr(level, "array", level))


def _arrays(frame: Any) -> Iterator[Any]:
    """Give the arrays of a frame: several columns of one type may be one array."""
    blocks = getattr(getattr(frame, "_mgr", None), "blocks", None)
    if blocks is not None:
        yield from (block.values for block in blocks)
        return
    for place in range(frame.shape[1]):
        yield frame.iloc[:, place].array


def _of_array(array: Any) -> Iterator[tuple[Key, int, int]]:
    if isinstance(array, np.ndarray):
        yield _of_numpy(array)
        if array.dtype == object and array.size:
            yield _objects(array)
        return
    chunks = getattr(getattr(array, "_pa_array", None), "chunks", None)
    if chunks is not None:
        share = 1.0
        for chunk in chunks:
            for buffer in chunk.buffers():
                if buffer is not None:
                    whole = int(buffer.size)
                    share = min(1.0, _share_of_chunk(chunk))
                    yield (int(buffer.address), whole), whole, round(whole * share)
        return
    parts = [getattr(array, name, None) for name in ("_ndarray", "_codes", "_data", "_mask",
                                                     "_sparse_values")]  # fmt: skip
    held = [part for part in parts if isinstance(part, np.ndarray)]
    for part in held:
        yield from _of_array(part)
    categories = getattr(getattr(array, "dtype", None), "categories", None)
    if categories is not None:
        yield from _of_array(categories.array)
    if not held and categories is None:
        size = int(getattr(array, "nbytes", 0))
        yield (id(array), size), size, size


def _share_of_chunk(chunk: Any) -> float:
    """Return which part of its buffers a piece of Arrow's shows: all, but for a slice."""
    whole = sum(buffer.size for buffer in chunk.buffers() if buffer is not None)
    return int(chunk.nbytes) / whole if whole else 1.0


def _of_numpy(array: Any) -> tuple[Key, int, int]:
    """Return the buffer that an array lies in: that of the array it is a view of, if it is one."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    seen = min(int(array.nbytes), int(root.nbytes))
    return (int(root.__array_interface__["data"][0]), int(root.nbytes)), int(root.nbytes), seen


def _objects(array: Any) -> tuple[Key, int, int]:
    """Return the objects of an array as a buffer of their own; of many, an estimate."""
    flat = array.ravel()
    step = max(1, len(flat) // _SAMPLED)
    sample = size_of(flat[::step])
    size = int((sample.true - flat[::step].nbytes) * step)
    return (-int(array.__array_interface__["data"][0]) - 1, array.size), size, size


# -- the same in several frames --------------------------------------------------------------------


def _copies(frames: list[tuple[int, Any]], shown: list[dict[Key, int]]) -> dict[int, set[int]]:
    """Return frames that hold the same in buffers of their own, by place.

    Frames of one shape and the same types are compared by what is in them; those that share half of
    their bytes are not copies.
    """
    alike: dict[Any, list[tuple[int, Any]]] = {}
    for place, frame in frames:
        if frame.size:
            key = (frame.shape, tuple(map(str, frame.dtypes)), tuple(map(str, frame.columns)))
            alike.setdefault(key, []).append((place, frame))
    found: dict[int, set[int]] = {}
    for group in alike.values():
        for likely in _split(group, _BEGINNING):
            for same in _split(likely, None):
                places = [place for place, _ in same]
                for place in places:
                    others = {
                        other for other in places
                        if other != place and _shared(shown, place, other) * 2 < _size(shown[place])
                    }  # fmt: skip
                    if others:
                        found[place] = others
    return found


def _size(own: dict[Key, int]) -> int:
    return sum(own.values())


def _shared(shown: list[dict[Key, int]], one: int, other: int) -> int:
    """Return the bytes of one frame that lie in buffers of another."""
    return sum(seen for key, seen in shown[one].items() if key in shown[other])


def _split(group: list[tuple[int, Any]], rows: int | None) -> list[list[tuple[int, Any]]]:
    """Return those of a group that hold the same in their first rows, or in all."""
    if len(group) < 2:
        return []
    same: dict[bytes, list[tuple[int, Any]]] = {}
    for place, frame in group:
        same.setdefault(_content(frame.iloc[:rows], place), []).append((place, frame))
    return [each for each in same.values() if len(each) > 1]


def _content(frame: Any, place: int) -> bytes:
    """Return a digest of a frame's cells, in pieces, so that other threads run meanwhile.

    A frame with cells of any kind of object, such as lists, is like no other.
    """
    from pandas.api.types import infer_dtype
    from pandas.util import hash_pandas_object

    digest = hashlib.blake2b(digest_size=16)
    for number in range(frame.shape[1]):
        column = frame.iloc[:, number]
        if column.dtype == object and infer_dtype(column, skipna=True) != "string":
            return str(place).encode()
        for start in range(0, len(column), _PIECE):
            piece = column.iloc[start : start + _PIECE]
            hashed = hash_pandas_object(piece, index=False, categorize=False).to_numpy()
            digest.update(hashed.data)
    return digest.digest()


def _mb(size: int) -> float:
    return round(size / MB, 3)
