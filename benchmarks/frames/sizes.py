"""How many bytes a frame takes: each buffer and each object once, however many cells refer to it.

pandas' ``deep`` counts an object once for every cell, so a frame of shared texts reads larger than it
is, and its saving reads larger too. Both are measured, here and without the package that is judged.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd

_Found = dict[tuple[Any, ...], int]


def true_bytes(frame: pd.DataFrame) -> int:
    """Return the bytes of all buffers and objects of a frame, its row labels included."""
    return sum(_found(frame).values())


def own_bytes(frame: pd.DataFrame, other: pd.DataFrame) -> int:
    """Return the bytes of those buffers and objects of a frame that another one has not."""
    shared = _found(other)
    return sum(size for key, size in _found(frame).items() if key not in shared)


def _found(frame: pd.DataFrame) -> _Found:
    found: _Found = {}
    for place in range(frame.shape[1]):
        _walk(frame.iloc[:, place].array, found)
    if not isinstance(frame.index, pd.RangeIndex):
        for level in _levels(frame.index):
            _walk(level, found)
    return found


def deep_bytes(frame: pd.DataFrame) -> int:
    """Return what pandas counts with ``deep=True``."""
    labels = not isinstance(frame.index, pd.RangeIndex)
    return int(frame.memory_usage(index=labels, deep=True).sum())


def column_bytes(values: pd.Series[Any]) -> int:
    """Return the bytes of a column without its row labels."""
    found: _Found = {}
    _walk(values.array, found)
    return sum(found.values())


def _levels(index: pd.Index[Any]) -> list[Any]:
    if isinstance(index, pd.MultiIndex):
        return [*index.codes, *(each.array for each in index.levels)]
    return [index.array]


def _walk(array: Any, found: _Found) -> None:
    """Add all that an array refers to."""
    if isinstance(array, pd.arrays.NumpyExtensionArray):
        array = array.to_numpy()
    if isinstance(array, np.ndarray):
        _numpy(array, found)
    elif isinstance(array, pd.Categorical):
        _numpy(array.codes, found)
        _walk(array.categories.array, found)
        engine = getattr(array.categories, "_cache", {}).get("_engine")
        if hasattr(engine, "sizeof"):  # the hash table that a lookup left
            found["engine", id(engine)] = int(engine.sizeof())
    elif hasattr(array, "_pa_array"):
        for chunk in array._pa_array.chunks:
            for buffer in filter(None, chunk.buffers()):
                found["arrow", buffer.address] = buffer.size
    else:
        _parts(array, found)


def _parts(array: Any, found: _Found) -> None:
    """Add the arrays that an array of another kind is made of, its type's among them."""
    held = len(found)
    for owner in (array, array.dtype):
        names = [*getattr(owner, "__dict__", {}), *getattr(type(owner), "__slots__", ())]
        for name in names:
            part = getattr(owner, name, None)
            if isinstance(part, np.ndarray | pd.api.extensions.ExtensionArray):
                _walk(part, found)
    if isinstance(array, pd.arrays.SparseArray):
        _numpy(array.sp_values, found)
        found["sparse", id(array.sp_index)] = int(array.sp_index.nbytes)
    if isinstance(array, pd.arrays.IntervalArray):
        _walk(array.left.array, found)
        _walk(array.right.array, found)
    if len(found) == held:
        found["other", id(array)] = int(array.nbytes)


def _numpy(array: Any, found: _Found) -> None:
    found["numpy", array.__array_interface__["data"][0], array.nbytes] = int(array.nbytes)
    if array.dtype == object:
        for key, each in {id(each): each for each in array.ravel()}.items():
            found["object", key] = sys.getsizeof(each)
