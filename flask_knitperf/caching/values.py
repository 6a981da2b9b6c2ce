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
import dataclasses
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host
from . import served_frames
from .cacheability import NotCacheable, refuse
from .exception_copies import copy_of_exception
from .frame_copies import (
    copy_of_frame,
    is_array,
    is_shallow,
    isolate_frame,
    kind_of,
    with_copied_cells,
)
from .immutability import ATOMIC, LIBRARIES, is_immutable
from .instance_state import (
    attributes,
    instance_dict,
    is_importable,
    is_of_library,
    slots,
    static_base,
)  # fmt: skip
from .sizes import size_of


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
            size = sys.getsizeof(value) if type(value) in ATOMIC else size_of((value,))
            return Isolated(value, None, size)
        refuse(value)
        kind = kind_of(value)
        if kind is not None:
            kept, copier = isolate_frame(value, kind, lambda: Copier().of, owned=owned)
            if is_shallow(copier):
                served_frames.note(kept)
        else:
            kept, copier = Copier(detach=True, owned=owned).of(value), _deep
        return Isolated(kept, copier, size_of((kept,)))
    except NotCacheable:
        raise
    except Exception as error:
        raise_if_of_host(error)
        raise NotCacheable(f"a {type(value).__qualname__} cannot be copied ({error!r})") from error


def _deep(value: Any) -> Any:
    """Return a copy of a value, of everything in it, and of the cells of frames in it."""
    return Copier().of(value)


class Copier:
    """One deep copy: an object that is referred to twice is copied once.

    The content of instances is read and written past the methods of their classes, except for classes of
    :data:`.immutability.LIBRARIES`, whose form for pickles is complete.

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
        if issubclass(kind, BaseException):
            return copy_of_exception(value, self.of)
        if not is_of_library(kind, LIBRARIES):
            return self._instance(value, kind)
        if getattr(getattr(value, "dtype", None), "hasobject", False) is True:
            if not is_array(value):
                raise NotCacheable(f"a {kind.__qualname__} holds objects; return an array of them")
            return with_copied_cells(value, self.of)
        if self._owned and is_array(value):
            return value
        if hasattr(kind, "__deepcopy__") and not is_of_library(kind, _STANDARD):
            for _, part in attributes(value):  # they are checked too; deepcopy takes their copies
                self.of(part)
            return copy.deepcopy(value, self._memo)
        return self._reduced(value, kind)

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
        """Return a copy of an instance of a class that is not of a library.

        Raises:
            NotCacheable: the class, or a base that is written in C, decides what a copy contains.
        """
        base: Any = static_base(kind)
        is_named_tuple = base is tuple and hasattr(kind, "_fields") and not attributes(value)
        _refuse_custom_copies(kind, {"__getnewargs__"} if is_named_tuple else set())
        if base in (tuple, frozenset):
            copied: Any = base.__new__(kind, map(self.of, base.__iter__(value)))
        elif base in (str, bytes, int, float):
            copied = base.__new__(kind, _CONTENT[base](value))
        elif base in (object, dict, list, set):
            copied = base.__new__(kind)
        else:
            raise NotCacheable(
                f"a {kind.__qualname__} is derived from {base.__qualname__}; return plain values"
            )
        if base is object:  # raises if a base written in C has state
            object.__reduce_ex__(value, 4)
        self._memo[id(value)] = copied
        if base is dict:
            for key, item in dict.items(value):
                dict.__setitem__(copied, self.of(key), self.of(item))
        elif base is list:
            list.extend(copied, map(self.of, list.__iter__(value)))
        elif base is set:
            set.update(copied, map(self.of, set.__iter__(value)))
        own = instance_dict(copied)
        for name, item in instance_dict(value).items():
            own[name] = self.of(item)
        for descriptor, item in slots(value):
            descriptor.__set__(copied, self.of(item))
        return copied

    def _reduced(self, value: Any, kind: Any) -> Any:
        """Return a copy that is created from the form of a value for pickles, each part copied."""
        reduced = value.__reduce_ex__(4)
        if isinstance(reduced, str):
            if getattr(sys.modules.get(kind.__module__), reduced, None) is value or (
                hasattr(value, "__qualname__") and is_importable(value)
            ):
                return value
            raise NotCacheable(f"a {kind.__qualname__} is shared by all that refer to it")
        create, arguments, *rest = reduced
        state, items, pairs = (*rest, None, None, None)[:3]
        copied: Any = create(*(part if part is kind else self.of(part) for part in arguments))
        if type(copied) is not kind:
            raise NotCacheable(
                f"a {kind.__qualname__} has no form from which it can be created again"
            )
        self._memo[id(value)] = copied
        if state is not None:
            self._set_state(copied, self.of(state))
        for item in items or ():
            copied.append(self.of(item))
        for key, item in pairs or ():
            copied[self.of(key)] = self.of(item)
        return copied

    @staticmethod
    def _set_state(copied: Any, state: Any) -> None:
        if hasattr(copied, "__setstate__"):
            copied.__setstate__(state)
            return
        own, slotted = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        copied.__dict__.update(own or {})
        for name, item in (slotted or {}).items():
            object.__setattr__(copied, name, item)


_STANDARD = frozenset(sys.stdlib_module_names)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_CONTENT: dict[type, Callable[[Any], Any]] = {
    str: str.__str__, bytes: bytes.__bytes__, int: int.__int__, float: float.__float__,
}  # fmt: skip
_CUSTOM = ("__deepcopy__", "__copy__", "__getnewargs__", "__getnewargs_ex__", "__setstate__")
_INHERITED = ("__reduce__", "__reduce_ex__", "__getstate__")


_GENERATED = tuple(
    vars(dataclasses).get(name) for name in ("_dataclass_getstate", "_dataclass_setstate")
)
"""Methods of dataclasses with slots, which leave out no attribute."""


def _refuse_custom_copies(kind: type, ignored: set[str]) -> None:
    """Raise for a class that decides what a copy of an instance contains.

    Args:
        kind: the class.
        ignored: names of methods that it may define.

    Raises:
        NotCacheable: it does.
    """
    base = static_base(kind)
    for name in (*_CUSTOM, *_INHERITED):
        method = getattr(kind, name, None)
        if method is getattr(base, name, None) or method in _GENERATED or name in ignored:
            continue
        raise NotCacheable(
            f"the class of a {kind.__qualname__} defines what a copy of it contains; return plain values"
        )
