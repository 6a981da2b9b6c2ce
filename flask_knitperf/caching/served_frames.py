"""Recognition of frames that came out of the cache, by their buffers.

A cached frame of pandas 3 shares its arrays with every copy that is served, and they are read-only
while it is cached: a copy that is written to has other arrays from then on. So a frame whose arrays and
labels lie where those of a cached frame lie has its content, and need not be hashed again.

Only frames whose parts are all known here are recognised; any other is hashed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any

from .frame_copies import extra_attributes
from .instance_state import is_of_library

MAX_COLUMNS = 200
"""Number of columns above which a frame is not looked up."""
MAX_SERVED = 1000
"""Number of cached frames that are remembered."""
_LIBRARIES = frozenset({"pandas"})


class _Served:
    """A cached frame, and the digest of its content once it was a key."""

    __slots__ = ("digest", "frame")

    def __init__(self, frame: Any, forget: Callable[[Any], None]) -> None:
        self.frame = weakref.ref(frame, forget)
        self.digest: bytes | None = None


_SERVED: dict[Hashable, _Served] = {}


def note(frame: Any) -> None:
    """Remember a frame whose arrays are read-only from now on, as long as it lives."""
    layout = _layout(frame)
    if layout is None or len(_SERVED) >= MAX_SERVED:
        return

    def forget(reference: Any) -> None:
        served = _SERVED.get(layout)
        if served is not None and served.frame is reference:
            del _SERVED[layout]

    _SERVED[layout] = _Served(frame, forget)


def digest_of(value: Any, compute: Callable[[], bytes]) -> bytes:
    """Return the digest of a frame or an array, without hashing it if it is that of a cached one.

    Args:
        value: the frame or array.
        compute: returns its digest.
    """
    served = _SERVED.get(_layout(value)) if _SERVED else None
    if served is None or served.frame() is None:
        return compute()
    if served.digest is None:
        digest = compute()
        if served.frame() is not None:  # its arrays were read-only all the time
            served.digest = digest
        return digest
    return served.digest


def _layout(frame: Any) -> Hashable:
    """Return the places of the arrays and labels of a frame, ``None`` if it is not recognised."""
    manager = getattr(frame, "_mgr", None)
    if manager is None or not is_of_library(type(frame), _LIBRARIES):
        return None
    if frame.attrs or len(manager.blocks) > MAX_COLUMNS or extra_attributes(frame):
        return None
    parts: list[Any] = [type(frame), frame.flags.allows_duplicate_labels]
    if hasattr(frame, "name"):
        if type(frame.name) not in _NAMES:
            return None
        parts.append((type(frame.name), frame.name))
    for block in manager.blocks:
        place = _place(block.values)
        if place is None:
            return None
        indexer = block.mgr_locs.indexer
        parts.append((place, repr(indexer) if type(indexer) is slice else indexer.tobytes()))
    for axis in manager.axes:
        labels = _labels(axis)
        if labels is None:
            return None
        parts.append(labels)
    return tuple(parts)


_NAMES = frozenset({str, int, type(None)})


def _place(values: Any) -> Hashable:
    """Return the address, shape and dtype of the array behind some values.

    An array of pyarrow is immutable, so it is known by its identity.
    """
    immutable = getattr(values, "_pa_array", None)
    if immutable is not None:
        return type(values), id(immutable), values.dtype
    array = getattr(values, "_ndarray", values)
    kind = type(array)
    if kind.__module__ != "numpy" or kind.__name__ != "ndarray":
        return None
    dtype, zone = values.dtype, getattr(values.dtype, "tz", None)
    is_known = array is values or dtype.kind in "mM" or type(dtype).__name__ == "StringDtype"
    if not is_known or type(dtype).__name__ == "PeriodDtype":
        return None
    return (
        type(values), array.__array_interface__["data"][0],
        array.shape, array.strides, array.dtype, dtype,
        None if zone is None else (type(zone), id(zone)),
    )  # fmt: skip


def _labels(axis: Any) -> Hashable:
    """Return the place of the labels of an index, ``None`` if it is not recognised."""
    if type(axis.name) not in _NAMES or extra_attributes(axis):
        return None
    limits = getattr(axis, "_range", None)
    if limits is not None:
        return type(axis), limits, type(axis.name), axis.name
    if type(axis).__name__ not in ("Index", "DatetimeIndex"):
        return None
    place = _place(axis._data)
    if place is None:
        return None
    return type(axis), place, type(axis.name), axis.name, repr(getattr(axis, "freq", None))
