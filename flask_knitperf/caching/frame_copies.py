"""Copies of DataFrames, Series and indexes, one for each caller of a cached value.

Frames of pandas 3 share their cells until one of them is written (copy on write), so a shallow copy is
separate, and takes microseconds at any size. Their arrays are read-only while they are cached: code that
gets hold of one would write into the cached frame.

Frames of pandas 2 have no such protection, and no copy protects cells that are lists or dicts. Such a
frame is cached as a pickle with its arrays beside it, and each hit copies the arrays. A deep copy of
pandas would not do: it merges blocks, which changes what is a view of what, and it shares the index and
all cells.
"""

from __future__ import annotations

import io
import operator
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host

Copy = Callable[[Any], Any]

_CELLS = frozenset({
    "string", "bytes", "floating", "integer", "mixed-integer-float", "decimal", "complex", "boolean",
    "datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period", "empty",
})  # fmt: skip
"""Kinds of object cells, as ``pandas.api.types.infer_dtype`` names them, that are immutable."""


def kind_of(value: Any) -> str | None:
    """Return ``DataFrame``, ``Series`` or ``Index`` for an instance of it, else ``None``."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    for name in ("DataFrame", "Series", "Index"):
        if isinstance(value, getattr(pandas, name)):
            return name
    return None


def isolate_frame(
    value: Any, kind: str, copier: Callable[[], Copy], *, owned: bool = False
) -> tuple[Any, Copy]:  # fmt: skip
    """Return a frame in the form in which it is cached, and what returns a copy of it.

    Args:
        value: the frame.
        kind: of :func:`kind_of`.
        copier: returns a function for one copy of the frame: it copies a cell, and returns an immutable
            one itself.
        owned: whether no other object refers to the frame or its arrays.

    Raises:
        Exception: it cannot be copied.
    """
    if can_share(value, kind, copier()):
        kept = value if owned else detached(value)
        if type(_shallow(kept)) is type(value):
            protect(kept)
            has_levels = any(hasattr(axis, "levels") for axis in kept.axes)
            return kept, _shallow_with_levels if has_levels else _shallow
    return freeze(value, copier, owned=owned), thaw


def can_share(value: Any, kind: str, copy_cell: Copy) -> bool:
    """Return whether a shallow copy of a frame is a separate one."""
    if kind == "Index" or int(sys.modules["pandas"].__version__.partition(".")[0]) < 3:
        return False
    return not any(_are_mutable(column.array, copy_cell) for column in _object_columns(value, kind))


def copy_of_frame(
    value: Any, kind: str, copy_cell: Copy, *, detach: bool, owned: bool = False
) -> Any:  # fmt: skip
    """Return a copy of a frame that is a part of a value.

    Args:
        value: the frame.
        kind: of :func:`kind_of`.
        copy_cell: returns a copy of a cell, itself if it is immutable.
        detach: whether the copy is to be cached.
        owned: whether no other object refers to the frame or its arrays.
    """
    if not can_share(value, kind, copy_cell):
        return thaw(freeze(value, lambda: copy_cell, owned=owned))
    if not detach:
        return _shallow_with_levels(value)
    kept = value if owned else detached(value)
    protect(kept)
    return kept


def _object_columns(value: Any, kind: str) -> list[Any]:
    if kind == "DataFrame":
        return [
            value.iloc[:, place]
            for place, dtype in enumerate(value.dtypes)
            if str(dtype) == "object"
        ]
    return [value] if str(value.dtype) == "object" else []


def _are_mutable(cells: Any, copy_cell: Copy) -> bool:
    """Return whether an array of objects holds one that a caller could change."""
    if sys.modules["pandas"].api.types.infer_dtype(cells, skipna=True) in _CELLS:
        return False
    return any(copy_cell(cell) is not cell for cell in cells)


_shallow = operator.methodcaller("copy", deep=False)


def _shallow_with_levels(value: Any) -> Any:
    """Return a shallow copy whose MultiIndexes share no array of labels: it could be written to."""
    copied = _shallow(value)
    for axis in copied.axes:
        if hasattr(axis, "levels"):
            axis._cache = {}
    return copied


def is_shallow(copy: Copy | None) -> bool:
    """Return whether a copy shares the cells of the cached frame until one of both is written."""
    return copy in (_shallow, _shallow_with_levels)


# -- pickles with their arrays beside them -----------------------------------------------------------


class Frozen(NamedTuple):
    """A frame as a pickle.

    Attributes:
        stream: its schema.
        arrays: its arrays of numpy.
        copier: returns a function that copies cells; ``None`` where all cells are immutable.
    """

    stream: bytes
    arrays: list[Any]
    copier: Callable[[], Copy] | None


class _Freezer(pickle.Pickler):
    """Pickler that copies arrays of numpy instead of writing them into the stream."""

    def __init__(self, stream: io.BytesIO, arrays: list[Any], *, owned: bool) -> None:
        super().__init__(stream, protocol=5)
        self._arrays, self._owned = arrays, owned

    def persistent_id(self, value: Any) -> int | None:
        """Return the number of an array, ``None`` for anything else."""
        if type(value).__name__ != "ndarray":
            return None
        self._arrays.append(value if self._owned else value.copy(order="K"))
        return len(self._arrays) - 1


class _Thawer(pickle.Unpickler):
    """Unpickler that copies the arrays."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__(io.BytesIO(frozen.stream))
        self._arrays = frozen.arrays
        self._copy_cell = None if frozen.copier is None else frozen.copier()

    def persistent_load(self, number: Any) -> Any:
        """Return a copy of an array."""
        array = self._arrays[number]
        if self._copy_cell is None or not array.dtype.hasobject:
            return array.copy(order="K")
        return _with_copied_cells(array, self._copy_cell)


def freeze(value: Any, copier: Callable[[], Copy], *, owned: bool = False) -> Frozen:
    """Return a frame as a pickle.

    Args:
        value: the frame.
        copier: returns a function that copies a cell, and returns an immutable one itself.
        owned: whether no other object refers to its arrays, so that they are taken as they are.

    Raises:
        Exception: an attribute or a label cannot be pickled, or a cell cannot be copied.
    """
    arrays: list[Any] = []
    stream = io.BytesIO()
    _Freezer(stream, arrays, owned=owned).dump(value)
    copy_cell = copier()
    mutable = any(
        array.dtype.hasobject and _are_mutable(array.ravel(), copy_cell) for array in arrays
    )
    if mutable:
        arrays = [
            _with_copied_cells(array, copy_cell) if array.dtype.hasobject else array
            for array in arrays
        ]
    return Frozen(stream.getvalue(), arrays, copier if mutable else None)


def thaw(frozen: Frozen) -> Any:
    """Return a frame with arrays and cells that no other has."""
    return _Thawer(frozen).load()


def _with_copied_cells(array: Any, copy_cell: Copy) -> Any:
    copied = array.copy(order="K")
    for place in range(array.size):
        copied.flat[place] = copy_cell(array.flat[place])
    return copied


def _same(cell: Any) -> Any:
    return cell


def detached(value: Any) -> Any:
    """Return a frame whose cells no other object refers to, with the same layout."""
    try:
        return thaw(freeze(value, lambda: _same))
    except Exception as error:  # an attribute or a label that cannot be pickled
        raise_if_of_host(error)
        return value.copy(deep=True)


# -- protection ------------------------------------------------------------------------------------


def protect(frame: Any) -> None:
    """Make the arrays of a frame read-only while it is cached.

    A copy shares them. pandas copies them before it writes, but code that gets hold of one, such as
    ``frame["kg"].array``, would write into the cached frame. Once that is gone, they are writable again:
    pandas then writes to those of the last copy in place.
    """
    arrays = [array for array in _arrays(frame) if array.flags.writeable]
    for array in arrays:
        array.flags.writeable = False
    weakref.finalize(frame, _unprotect, arrays).atexit = False


def _unprotect(arrays: list[Any]) -> None:
    for array in arrays:
        array.flags.writeable = True


def _arrays(frame: Any) -> list[Any]:
    """Return the numpy arrays that hold the cells of a frame, bases before their views."""
    arrays: list[Any] = []
    pending = [block.values for block in frame._mgr.blocks]
    for axis in frame.axes:  # a shallow copy shares their labels
        labels = axis.levels if hasattr(axis, "levels") else (axis,)
        # a range creates its labels when they are first used, and keeps them
        stored = [one for one in labels if not hasattr(one, "_range") or "_data" in one._cache]
        pending += [one._data for one in stored if getattr(one, "_data", None) is not None]
    while pending:
        values = pending.pop()
        if hasattr(values, "flags") and hasattr(values, "base"):
            if not any(values is array for array in arrays):
                arrays.insert(0, values)
            pending += [] if values.base is None else [values.base]
        else:
            pending += [
                getattr(values, name) for name in _ARRAYS if getattr(values, name, None) is not None
            ]  # fmt: skip
    return arrays


_ARRAYS = ("_ndarray", "_data", "_mask", "_codes", "_sparse_values", "_left", "_right")
"""Attributes of extension arrays that are arrays in turn."""
