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

from .cacheability import NotCacheable
from .immutability import are_scalars, is_complete_in_pickle
from .instance_state import instance_dict, is_of_library

Copy = Callable[[Any], Any]

_EXTENSIONS = frozenset({"pandas", "numpy"})
"""Packages whose arrays are shared by copies on write."""
_PICKLED_BY = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


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
    if not can_share(value, kind, copier()):
        return freeze(value, copier, owned=owned), thaw
    kept = value if owned else detached(value)
    protect(kept)
    return kept, _shallow_with_labels if _has_labels(kept) else _shallow


def can_share(value: Any, kind: str, copy_cell: Copy) -> bool:
    """Return whether a shallow copy of a frame is a separate one.

    Raises:
        Exception: a cell or a label cannot be copied.
    """
    pandas = sys.modules["pandas"]
    if kind == "Index" or int(pandas.__version__.partition(".")[0]) < 3:
        return False
    if type(value) is not getattr(pandas, kind):  # a subclass may keep more in its copies
        return False
    columns, name = [value], None
    if kind == "DataFrame":
        columns = [value.iloc[:, n] for n, dtype in enumerate(value.dtypes) if _may_refer(dtype)]
    else:
        name = value.name
    parts = [*(column.array for column in columns), *value.axes, value.attrs, name]
    return all(_is_immutable_part(part, copy_cell) for part in parts)


def _may_refer(dtype: Any) -> bool:
    """Return whether cells of a dtype may be objects."""
    return not (type(dtype).__module__.startswith("numpy") and not dtype.hasobject)


def _is_immutable_part(part: Any, copy_cell: Copy) -> bool:
    """Return whether labels, an array or attributes may be shared by shallow copies."""
    if type(part) is dict:  # pandas copies it
        return all(copy_cell(item) is item for item in (*part, *part.values()))
    if kind_of(part) == "Index":
        if hasattr(part, "categories"):  # copies share them
            return False
        levels = part.levels if hasattr(part, "levels") else []
        # the array of numbers is not looked at: a range of labels would create its own
        arrays = [part.array] if not levels and _may_refer(part.dtype) else []
        parts = [*levels, *arrays, *part.names]
        return all(_is_immutable_part(inner, copy_cell) for inner in parts)
    dtype = getattr(part, "dtype", None)
    if dtype is None or not hasattr(part, "__len__"):
        return copy_cell(part) is part
    if not is_of_library(type(dtype), _EXTENSIONS):
        return False
    if hasattr(dtype, "categories"):
        return _is_immutable_part(dtype.categories, copy_cell)
    if hasattr(dtype, "subtype") and getattr(dtype.subtype, "hasobject", False):
        return False
    return str(dtype) != "object" or not _are_mutable(part, copy_cell)


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
        return _shallow_with_labels(value)
    kept = value if owned else detached(value)
    protect(kept)
    return kept


def _are_mutable(cells: Any, copy_cell: Copy) -> bool:
    """Return whether an array of objects holds one that a caller could change."""
    return not are_scalars(cells) and any(copy_cell(cell) is not cell for cell in cells)


def is_array(value: Any) -> bool:
    """Return whether a value is an array of numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray


def extra_attributes(value: Any) -> list[str]:
    """Return the attributes of a frame that its class does not define and copies do not have."""
    if kind_of(value) is None:
        return []
    known = {*getattr(value, "_accessors", ()), *getattr(value, "_metadata", ()), "sortorder"}
    return [
        name for name in instance_dict(value)
        if not name.startswith("_") and name not in known
    ]  # fmt: skip


_shallow = operator.methodcaller("copy", deep=False)


def _shallow_with_labels(value: Any) -> Any:
    """Return a shallow copy that shares no labels which can be written to or renamed.

    A MultiIndex keeps an array of its labels, and a categorical column the index of its categories.
    """
    copied = _shallow(value)
    for axis in copied.axes:
        if hasattr(axis, "levels"):
            axis._cache = {}
    for block in copied._mgr.blocks:
        dtype, cells = block.dtype, block.values
        if hasattr(dtype, "categories"):
            own = type(dtype)._from_fastpath(dtype.categories.view(), ordered=dtype.ordered)
            block.values = type(cells)._simple_new(cells._ndarray, own)
    return copied


def _has_labels(frame: Any) -> bool:
    """Return whether shallow copies of a frame have to be given separate labels."""
    return any(hasattr(axis, "levels") for axis in frame.axes) or any(
        hasattr(block.dtype, "categories") for block in frame._mgr.blocks
    )


def is_shallow(copy: Copy | None) -> bool:
    """Return whether a copy shares the cells of the cached frame until one of both is written."""
    return copy in (_shallow, _shallow_with_labels)


# -- pickles with their arrays beside them -----------------------------------------------------------


class Frozen(NamedTuple):
    """A frame as a pickle.

    Attributes:
        stream: its schema.
        parts: arrays of numpy, and objects in labels and attributes.
        copier: returns a function that copies cells; ``None`` where all cells are immutable.
    """

    stream: bytes
    parts: list[Any]
    copier: Callable[[], Copy] | None


class _Freezer(pickle.Pickler):
    """Pickler that copies arrays of numpy, and objects, instead of writing them into the stream.

    The class of an instance decides what it writes into a pickle, and what is read from it. So instances
    of other classes than those of libraries are copied as cells are.
    """

    def __init__(self, stream: io.BytesIO, frame: Any, copy_cell: Copy, *, owned: bool) -> None:
        super().__init__(stream, protocol=5)
        self.parts: list[Any] = []
        self.has_objects = False
        self._frame, self._copy_cell, self._owned = frame, copy_cell, owned

    def persistent_id(self, value: Any) -> int | None:
        """Return the number of a part, ``None`` for anything that is written into the stream."""
        if is_array(value):
            self.parts.append(value if self._owned else value.copy(order="K"))
        elif value is self._frame or is_complete_in_pickle(value):
            return None
        else:
            self.parts.append(self._copy_cell(value))
            self.has_objects = True
        return len(self.parts) - 1


class _Thawer(pickle.Unpickler):
    """Unpickler that copies the parts."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__(io.BytesIO(frozen.stream))
        self._parts = frozen.parts
        self._copy_cell = None if frozen.copier is None else frozen.copier()

    def persistent_load(self, number: Any) -> Any:
        """Return a copy of a part."""
        part = self._parts[number]
        if not is_array(part):
            return part if self._copy_cell is None else self._copy_cell(part)
        if self._copy_cell is None or not part.dtype.hasobject:
            return part.copy(order="K")
        return with_copied_cells(part, self._copy_cell)


def freeze(value: Any, copier: Callable[[], Copy], *, owned: bool = False) -> Frozen:
    """Return a frame as a pickle.

    Args:
        value: the frame.
        copier: returns a function that copies a cell, and returns an immutable one itself.
        owned: whether no other object refers to its arrays, so that they are taken as they are.

    Raises:
        Exception: an attribute, a label or a cell cannot be copied.
    """
    extra = extra_attributes(value)
    if extra:
        raise NotCacheable(
            f"a {type(value).__name__} has the attribute {extra[0]!r}, which its copies would lack; "
            "use attrs"
        )
    base = next(one for one in type(value).__mro__ if is_of_library(one, _EXTENSIONS))
    if any(getattr(type(value), n, None) is not getattr(base, n, None) for n in _PICKLED_BY):
        raise NotCacheable(f"the class {type(value).__name__} defines what a copy contains")
    copy_cell = copier()
    stream = io.BytesIO()
    freezer = _Freezer(stream, value, copy_cell, owned=owned)
    freezer.dump(value)
    parts, mutable = freezer.parts, freezer.has_objects
    for number, part in enumerate(parts):
        if is_array(part) and part.dtype.hasobject and _are_mutable(part.ravel(), copy_cell):
            parts[number] = with_copied_cells(part, copy_cell)
            mutable = True
    return Frozen(stream.getvalue(), parts, copier if mutable else None)


def thaw(frozen: Frozen) -> Any:
    """Return a frame with arrays and cells that no other has."""
    return _Thawer(frozen).load()


def with_copied_cells(array: Any, copy_cell: Copy) -> Any:
    """Return a copy of an array of objects, each of which is a copy.

    Raises:
        NotCacheable: it has fields, some of which are objects.
    """
    if array.dtype.names is not None:
        raise NotCacheable("an array has fields that are objects; return one array for each field")
    copied = array.copy(order="K")
    for place in range(array.size):
        copied.flat[place] = copy_cell(array.flat[place])
    return copied


def _same(cell: Any) -> Any:
    return cell


def detached(value: Any) -> Any:
    """Return a frame whose cells no other object refers to, with the same layout.

    Raises:
        Exception: an attribute or a label cannot be copied.
    """
    return thaw(freeze(value, lambda: _same))


# -- protection ------------------------------------------------------------------------------------


def protect(frame: Any) -> None:
    """Make the arrays of a frame read-only, for good.

    A copy shares them. pandas copies them before it writes, but code that gets hold of one, such as
    ``frame["kg"].array``, would write into the cached frame.

    pandas writes in place to what no other block refers to, as it would to the last copy once the cached
    frame is gone. So each block's list of references has one to the array itself, which lives as long as
    any copy.
    """
    for block in frame._mgr.blocks:
        owners = [array for array in _arrays([block.values]) if not is_array(array.base)]
        block.refs.referenced_blocks += [weakref.ref(array) for array in owners]
    for array in _arrays([*(block.values for block in frame._mgr.blocks), *_labels(frame)]):
        array.flags.writeable = False


def _labels(frame: Any) -> list[Any]:
    """Return the arrays of the labels of a frame, which a shallow copy shares."""
    indexes = [one for axis in frame.axes for one in getattr(axis, "levels", (axis,))]
    # a range creates its labels when they are first used, and keeps them
    stored = [one for one in indexes if not hasattr(one, "_range") or "_data" in one._cache]
    return [one._data for one in stored if getattr(one, "_data", None) is not None]


def _arrays(values: list[Any]) -> list[Any]:
    """Return the numpy arrays behind some arrays, bases before their views."""
    arrays: list[Any] = []
    pending = list(values)
    while pending:
        one = pending.pop()
        if hasattr(one, "flags") and hasattr(one, "base"):
            if not any(one is array for array in arrays):
                arrays.insert(0, one)
            pending += [] if one.base is None else [one.base]
        else:
            pending += [
                getattr(one, name) for name in _ARRAYS if getattr(one, name, None) is not None
            ]  # fmt: skip
    return arrays


_ARRAYS = (
    "_ndarray", "_data", "_mask", "_codes", "_sparse_values", "_sparse_index", "indices", "blocs",
    "blengths", "_left", "_right",
)  # fmt: skip
"""Attributes of extension arrays that are arrays in turn."""
