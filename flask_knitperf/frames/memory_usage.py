"""How many bytes a column takes: as pandas counts them, and as they are.

pandas' ``deep`` counts a Python object each time that a cell refers to it, though it is there once: a
column of 10,000 cells that share one string reads as 570 kB and is 80 kB. :class:`Size` gives both.
Arrow's buffers are counted where a column refers to them; a slice counts its own part.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .object_arrays import objects_of, pointers


class Size(NamedTuple):
    """Bytes.

    Attributes:
        true: what is there, each object once.
        deep: what ``memory_usage(deep=True)`` says, each object as often as a cell refers to it.
    """

    true: int
    deep: int

    def __add__(self, other: Any) -> Size:
        return Size(self.true + other.true, self.deep + other.deep)


NOTHING = Size(0, 0)


def size_of(values: Any) -> Size:
    """Return the bytes of a column.

    Args:
        values: a Series, an Index or an array of pandas or numpy; its own index is left out.
    """
    if isinstance(values, pd.MultiIndex):
        codes = sum(int(each.nbytes) for each in values.codes)
        return Size(codes, codes) + total(map(size_of, values.levels))
    array = getattr(values, "array", values)
    dtype = array.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        codes = int(array.codes.nbytes)
        engine = _engine_bytes(dtype.categories)
        return Size(codes + engine, codes + engine) + size_of(dtype.categories)
    plain = array.to_numpy() if isinstance(array, pd.arrays.NumpyExtensionArray) else array
    held = _objects(plain)
    if held is None:
        return Size(int(plain.nbytes), int(plain.nbytes))
    true, deep = _objects_bytes(held)
    return Size(int(held.nbytes) + true, int(held.nbytes) + deep)


def total(sizes: Iterable[Size]) -> Size:
    """Return the sum of sizes."""
    made = NOTHING
    for size in sizes:
        made += size
    return made


def clear_hash_table(values: Any) -> None:
    """Let go of the hash table that a lookup left behind in a category's or an index's values.

    It doubles their bytes, and is made anew by the next lookup.
    """
    categories = getattr(values, "categories", values)
    clear = getattr(getattr(categories, "_engine", None), "clear_mapping", None)
    if clear is not None:
        clear()


def _objects(array: Any) -> Any:
    """Return the objects that an array refers to as a numpy array; ``None`` where it holds values."""
    if isinstance(array, np.ndarray):
        return array if array.dtype == object else None
    held = getattr(array, "_ndarray", None)  # strings that are stored as Python's
    return held if isinstance(held, np.ndarray) and held.dtype == object else None


def _objects_bytes(held: Any) -> tuple[int, int]:
    """Return the bytes of the objects of an array: each once, and each as often as it is there."""
    found = objects_of(held.ravel())
    if found.places is None:
        deep = _sum(found.each)
        again = pd.Series(pointers(found.each)).duplicated().to_numpy()
        return (deep - _sum(found.each[again]) if again.any() else deep), deep
    each = np.array([sys.getsizeof(one) for one in found.each], dtype=np.int64)
    return int(each.sum()), int(found.spread(each).sum())


def _sum(objects: Any) -> int:
    """Return the bytes of objects, each counted as often as it is there."""
    held = pd.Series(objects, dtype=object).memory_usage(index=False, deep=True)
    return int(held) - int(objects.nbytes)


def _engine_bytes(index: Any) -> int:
    engine = getattr(index, "_cache", {}).get("_engine")
    sizeof = getattr(engine, "sizeof", None)  # the tree of an index of intervals cannot tell
    return 0 if sizeof is None else int(sizeof())
