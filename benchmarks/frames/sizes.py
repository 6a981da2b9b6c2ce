"""Bytes of a frame: each buffer and each object once, regardless of the cells that refer to it.

pandas' ``deep`` counts an object once per cell, so a frame of shared texts appears larger than it is,
and so does its saving. Both counts are made here, independently of the package that is judged.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd

_Sizes = dict[tuple[Any, ...], int]
"""Bytes by identity of the buffer or object."""


def true_bytes(frame: pd.DataFrame) -> int:
    """Return the bytes of all buffers and objects of a frame, its row labels included."""
    return sum(_sizes(frame).values())


def own_bytes(frame: pd.DataFrame, other: pd.DataFrame) -> int:
    """Return the bytes of those buffers and objects of a frame that another one does not share."""
    shared = _sizes(other)
    return sum(size for key, size in _sizes(frame).items() if key not in shared)


def _sizes(frame: pd.DataFrame) -> _Sizes:
    sizes: _Sizes = {}
    for position in range(frame.shape[1]):
        _walk(frame.iloc[:, position].array, sizes)
    if not isinstance(frame.index, pd.RangeIndex):
        for level in _levels(frame.index):
            _walk(level, sizes)
    return sizes


def deep_bytes(frame: pd.DataFrame) -> int:
    """Return the bytes that pandas counts with ``deep=True``."""
    labels = not isinstance(frame.index, pd.RangeIndex)
    return int(frame.memory_usage(index=labels, deep=True).sum())


def column_bytes(values: pd.Series[Any]) -> int:
    """Return the bytes of a column without its row labels."""
    sizes: _Sizes = {}
    _walk(values.array, sizes)
    return sum(sizes.values())


def _levels(index: pd.Index[Any]) -> list[Any]:
    if isinstance(index, pd.MultiIndex):
        return [*index.codes, *(level.array for level in index.levels)]
    return [index.array]


def _walk(array: Any, sizes: _Sizes) -> None:
    """Add all buffers and objects that an array refers to."""
    if isinstance(array, pd.arrays.NumpyExtensionArray):
        array = array.to_numpy()
    if isinstance(array, np.ndarray):
        _numpy(array, sizes)
    elif isinstance(array, pd.Categorical):
        _numpy(array.codes, sizes)
        _walk(array.categories.array, sizes)
        engine = getattr(array.categories, "_cache", {}).get("_engine")
        if hasattr(engine, "sizeof"):  # the hash table that a lookup left
            sizes["engine", id(engine)] = int(engine.sizeof())
    elif hasattr(array, "_pa_array"):
        for chunk in array._pa_array.chunks:
            for buffer in filter(None, chunk.buffers()):
                sizes["arrow", buffer.address] = buffer.size
    else:
        _parts(array, sizes)


def _parts(array: Any, sizes: _Sizes) -> None:
    """Add the arrays of which an array of another kind consists, those of its type included."""
    before = len(sizes)
    for owner in (array, array.dtype):
        names = [*getattr(owner, "__dict__", {}), *getattr(type(owner), "__slots__", ())]
        for name in names:
            part = getattr(owner, name, None)
            if isinstance(part, np.ndarray | pd.api.extensions.ExtensionArray):
                _walk(part, sizes)
    if isinstance(array, pd.arrays.SparseArray):
        _numpy(array.sp_values, sizes)
        sizes["sparse", id(array.sp_index)] = int(array.sp_index.nbytes)
    if isinstance(array, pd.arrays.IntervalArray):
        _walk(array.left.array, sizes)
        _walk(array.right.array, sizes)
    if len(sizes) == before:
        sizes["other", id(array)] = int(array.nbytes)


def _numpy(array: Any, sizes: _Sizes) -> None:
    sizes["numpy", array.__array_interface__["data"][0], array.nbytes] = int(array.nbytes)
    if array.dtype == object:
        for key, cell in {id(cell): cell for cell in array.ravel()}.items():
            sizes["object", key] = sys.getsizeof(cell)
