"""Isolation of cached values: no caller can change what another one gets.

A value is copied when it is cached, and each hit gets another copy, unless the value is immutable.
Frames of pandas 3 share their cells until one of them is written (copy on write), so their copies cost
microseconds at any size; frames of pandas 2 are copied in full. Cells that are lists or dicts are shared
by every kind of copy that pandas makes, so they are copied one by one.

Some values cannot be cached: an iterator is used up by its first reader, a file or a database connection
belongs to one request. :func:`isolate` refuses them with a reason.
"""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import enum
import fractions
import io
import pathlib
import sys
import types
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..core.errors import KnitPerfError
from ..core.host_exceptions import raise_if_of_host
from .frame_copies import copy_of_frame, isolate_frame, kind_of
from .keys import attributes, is_plain
from .sizes import size_of

IMMUTABLE: frozenset[type] = frozenset({
    type(None), type(...), type(NotImplemented), bool, int, float, complex, str, bytes, range,
    decimal.Decimal, fractions.Fraction, uuid.UUID,
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
    types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type,
})  # fmt: skip
"""Types without state that a caller could change."""


OBSERVED = "__knitperf_observed__"
"""Attribute of the classes that the objects of a request have while their reads are recorded."""


class NotCacheable(KnitPerfError):  # noqa: N818 (not a fault)
    """A value that cannot be given to another caller; the reason."""


class Isolated(NamedTuple):
    """A value as it is cached.

    Attributes:
        value: independent of the one that the loader returned.
        copy: returns a copy for one caller; ``None`` where the value is immutable.
        size: estimated bytes.
    """

    value: Any
    copy: Callable[[Any], Any] | None
    size: int


def isolate(value: Any, *, owned: bool = False) -> Isolated:
    """Return a value in the form in which it is cached.

    Args:
        value: the value.
        owned: whether no other object refers to it or to its arrays, which are then taken as they are.

    Raises:
        NotCacheable: another caller could not use it.
    """
    try:
        if is_immutable(value):
            return Isolated(value, None, size_of((value,)))
        refuse(value)
        kind = kind_of(value)
        if kind is not None:
            kept, copier = isolate_frame(value, kind, lambda: Copier().of, owned=owned)
        else:
            kept, copier = Copier(detach=True, owned=owned).of(value), _deep
        return Isolated(kept, copier, size_of((kept,)))
    except NotCacheable:
        raise
    except Exception as error:
        raise_if_of_host(error)
        raise NotCacheable(f"a {type(value).__qualname__} cannot be copied ({error!r})") from error


def is_immutable(value: Any) -> bool:
    """Return whether no caller can change a value."""
    kind = type(value)
    if kind in IMMUTABLE:
        return True
    if kind is tuple or kind is frozenset:
        return _all_immutable(value, set())
    if isinstance(value, enum.Enum | pathlib.PurePath) or kind is object:
        return True
    if issubclass(kind, str | bytes | int | float) and not attributes(value):
        return True
    root = str(kind.__module__).partition(".")[0]
    if root == "numpy":
        return hasattr(value, "dtype") and not hasattr(value, "__len__") and kind.__name__ != "void"
    return root == "pandas" and kind.__name__ in _PANDAS_SCALARS


def _all_immutable(values: Any, seen: set[int]) -> bool:
    """Return whether all items of a tuple are immutable; a tuple that occurs twice is judged once."""
    for value in values:
        if type(value) is tuple or type(value) is frozenset:
            if id(value) not in seen:
                seen.add(id(value))
                if not _all_immutable(value, seen):
                    return False
        elif not is_immutable(value):
            return False
    return True


_PANDAS_SCALARS = ("Timestamp", "Timedelta", "Period", "Interval", "NaTType", "NAType")


# -- copies ----------------------------------------------------------------------------------------


def refuse(value: Any) -> None:
    """Raise for a value that belongs to one caller.

    Raises:
        NotCacheable: it is an iterator, a file, a coroutine, or bound to a session or connection.
    """
    kind = type(value)
    name = kind.__qualname__
    if hasattr(kind, OBSERVED):
        raise NotCacheable(f"a {name} belongs to one request; return values of it")
    if isinstance(value, Iterator) or hasattr(kind, "__anext__"):
        raise NotCacheable(f"a {name} is used up by its first reader; return a list")
    if isinstance(value, io.IOBase):
        raise NotCacheable(f"a {name} is an open file; return its content")
    if hasattr(kind, "__await__"):
        raise NotCacheable(f"a {name} is awaited once; await it in the function")
    if hasattr(kind, "get_wsgi_response"):
        raise NotCacheable(
            f"a {name} is cached only as the result of a function; return or put its content"
        )
    if hasattr(kind, "_sa_class_manager"):
        raise NotCacheable(f"a {name} is bound to a database session; return plain values")
    if hasattr(kind, "cursor") or (hasattr(kind, "fetchone") and hasattr(kind, "close")):
        raise NotCacheable(f"a {name} is a database connection or cursor; return its rows")


def _deep(value: Any) -> Any:
    """Return a copy of a value, of everything in it, and of the cells of frames in it."""
    return Copier().of(value)


class Copier:
    """One deep copy: an object that is referred to twice is copied once.

    Args:
        detach: whether the copy is to be cached.
        owned: whether no other object refers to the arrays and frames in the value.
    """

    def __init__(self, *, detach: bool = False, owned: bool = False) -> None:
        self._detach, self._owned = detach, owned
        self._memo: dict[int, Any] = {}
        self._alive: list[Any] = []  # an id stays that of its object

    def of(self, value: Any) -> Any:
        """Return a copy of a value.

        Raises:
            NotCacheable: something in it cannot be copied faithfully.
        """
        if is_immutable(value):
            return value
        known = self._memo.get(id(value))
        if known is not None:
            return known
        self._alive.append(value)
        copied = self._memo[id(value)] = self._new(value)
        return copied

    def _new(self, value: Any) -> Any:
        kind = type(value)
        if kind in _CONTAINERS:
            return self._container(value, kind)
        refuse(value)
        pandas_kind = kind_of(value)
        if pandas_kind is not None:
            return copy_of_frame(
                value, pandas_kind, self.of, detach=self._detach, owned=self._owned
            )
        if self._owned and kind.__name__ == "ndarray" and not value.dtype.hasobject:
            return value
        if str(kind.__module__).partition(".")[0] not in _FAITHFUL:
            if issubclass(kind, tuple) and hasattr(kind, "_make") and not attributes(value):
                return kind._make(map(self.of, value))
            _refuse_custom_copies(kind)
            if is_plain(kind):
                return self._instance(value, kind)
        for part in _parts(value):  # they are checked too; deepcopy takes their copies
            self.of(part)
        return copy.deepcopy(value, self._memo)

    def _container(self, value: Any, kind: type) -> Any:
        if kind is tuple or kind is frozenset:
            items = [self.of(item) for item in value]
            known = self._memo.get(id(value))  # it contains itself, by way of a list
            return kind(items) if known is None else known
        copied: Any = kind()
        self._memo[id(value)] = copied
        if kind is dict:
            for key, item in value.items():
                copied[self.of(key)] = self.of(item)
        elif kind is list:
            copied.extend(self.of(item) for item in value)
        else:
            copied.update(self.of(item) for item in value)
        return copied

    def _instance(self, value: Any, kind: type) -> Any:
        """Return a copy of an instance of a class whose attributes are all of its state."""
        copied: Any = object.__new__(kind)
        self._memo[id(value)] = copied
        own = getattr(value, "__dict__", {})
        for name in attributes(value):
            if name in own:
                copied.__dict__[name] = self.of(own[name])
            else:
                object.__setattr__(copied, name, self.of(object.__getattribute__(value, name)))
        return copied


_CONTAINERS = (dict, list, tuple, set, frozenset)
_FAITHFUL = frozenset({*sys.stdlib_module_names, "numpy", "pandas", "pyarrow", "polars", "scipy"})
"""Packages whose classes copy all of an instance."""
_CUSTOM = ("__deepcopy__", "__copy__", "__getnewargs__", "__getnewargs_ex__")
_INHERITED = ("__reduce__", "__reduce_ex__", "__getstate__")
_WRITES = ("__setitem__", "append", "extend", "add", "update")


def _refuse_custom_copies(kind: type) -> None:
    """Raise for a class that decides what a copy of an instance contains.

    Raises:
        NotCacheable: it does.
    """
    if any(hasattr(kind, name) for name in _CUSTOM) or any(
        getattr(kind, name, None) not in _ours(name)
        for name in _INHERITED + (_WRITES if issubclass(kind, _CONTAINERS) else ())
    ):
        raise NotCacheable(
            f"the class of a {kind.__qualname__} defines what a copy of it contains; return plain values"
        )


def _ours(name: str) -> list[Any]:
    """Return the methods of Python's own classes by a name."""
    return [getattr(base, name, None) for base in (object, *_CONTAINERS, BaseException)]


def _parts(value: Any) -> list[Any]:
    """Return the items and attributes of an object."""
    own = [getattr(value, name) for name in attributes(value)]
    if type(value).__name__ == "ndarray" and value.dtype.hasobject:
        return [*own, *value.ravel().tolist()]
    if isinstance(value, dict):
        return own + [part for item in dict.items(value) for part in item]
    return own + (list(value) if isinstance(value, list | tuple | set | frozenset | deque) else [])
