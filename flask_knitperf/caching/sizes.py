"""Bytes of cached values, and a dict within a limit of them."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Mapping
from types import ModuleType
from typing import Any

from ..core.units import MB

_CONTAINERS = (dict, list, tuple, set, frozenset)
_MAX_OBJECTS = 1_000_000  # of which the size is read; beyond, the result is a lower bound


def size_of(values: Iterable[Any]) -> int:
    """Return the memory of some values in bytes, each object once.

    Containers are followed; arrays and DataFrames have the size of their buffers. The size of an
    instance of another class is that of the instance and its attributes.
    """
    seen: set[int] = set()
    pending, total = list(values), 0
    while pending and len(seen) < _MAX_OBJECTS:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        total += _own_size(value)
        if isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, _CONTAINERS):
            pending += value
        elif type(value).__name__ == "ndarray" and value.dtype.hasobject:
            pending += value.ravel().tolist()
        elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType):
            pending += [] if _is_frame(value) else [vars(value)]
    return total


def size_of_key(key: Hashable) -> int:
    """Return the memory of a key in bytes, as far as it is not that of other keys too."""
    if type(key) is not tuple:
        return sys.getsizeof(key)
    return sys.getsizeof(key) + sum(map(sys.getsizeof, key))


def _is_frame(value: Any) -> bool:
    kind = type(value)
    return hasattr(kind, "memory_usage") and any(
        str(base.__module__).startswith("pandas.") for base in kind.__mro__
    )


def _own_size(value: Any) -> int:
    """Return the memory of one object without what it refers to, except for arrays and frames."""
    if _is_frame(value):  # DataFrame, Series or Index
        usage = value.memory_usage(deep=True)
        return int(usage.sum() if hasattr(usage, "sum") else usage)
    size = sys.getsizeof(value)
    nbytes = value.nbytes if type(value).__name__ in ("ndarray", "memoryview") else 0
    return int(max(size, nbytes))


def newest_within(cache: Mapping[Any, Any], max_mb: float) -> dict[Any, Any]:
    """Return a new dict with the newest entries whose sizes sum to at most a limit.

    Args:
        cache: entries in order of insertion.
        max_mb: in MB of 1024² bytes.
    """
    remaining = max_mb * MB
    newest = []
    for key, value in reversed(dict(cache).items()):
        remaining -= size_of((key, value))
        if remaining < 0:
            break
        newest.append((key, value))
    return dict(reversed(newest))
