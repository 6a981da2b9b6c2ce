"""State of instances, read past their classes.

A class may hide an attribute (``__dict__`` as a property, ``__getattribute__``), and two of its bases
may each have a slot of one name. So attributes are read through the descriptors that the interpreter has
created, which no method of the class can override. A class may also bear the name of one that a library
defines, so a library's class is one that the library's module refers to.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

from ..core.host_exceptions import raise_if_of_host

_HEAP_TYPE = 1 << 9
"""Flag of classes that are created while a program runs, by ``class`` or by a module written in C."""
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
_SCALARS = ("Timestamp", "Timedelta", "Period", "Interval")
_MISSING = ("NaT", "NA")


def instance_dict(value: Any) -> dict[str, Any]:
    """Return the attributes of an instance besides its slots, an empty dict where it has none."""
    for base in type(value).__mro__:
        descriptor: Any = base.__dict__.get("__dict__")
        if type(descriptor) in _DESCRIPTORS:
            attributes = descriptor.__get__(value)
            return attributes if type(attributes) is dict else {}  # that of a class is a view
    return {}


def slots(value: Any) -> Iterator[tuple[types.MemberDescriptorType, Any]]:
    """Yield the slots of an instance that have a value: descriptors and values."""
    for base in type(value).__mro__:
        if _is_static(base):
            continue
        for name, descriptor in base.__dict__.items():
            if type(descriptor) is not types.MemberDescriptorType or name.startswith("__"):
                continue
            try:
                yield descriptor, descriptor.__get__(value)
            except AttributeError as error:  # the slot has no value
                raise_if_of_host(error)


def attributes(value: Any) -> list[tuple[str, Any]]:
    """Return the names and values of all attributes of an instance, those in slots too."""
    return [
        *instance_dict(value).items(),
        *((descriptor.__name__, item) for descriptor, item in slots(value)),
    ]


def is_plain(kind: type) -> bool:
    """Return whether the state of an instance is in its attributes, and not in a base written in C."""
    return all(base is object or not _is_static(base) for base in kind.__mro__)


def static_base(kind: type) -> type:
    """Return the first base class that is built into the interpreter or an extension module."""
    return next(base for base in kind.__mro__ if _is_static(base))


def _is_static(kind: type) -> bool:
    return not kind.__flags__ & _HEAP_TYPE


def is_importable(kind: Any) -> bool:
    """Return whether a class or function is the one that its module and qualified name refer to."""
    target: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        target = getattr(target, name, None)
    return target is kind


def is_of_library(kind: type, packages: frozenset[str]) -> bool:
    """Return whether one of some packages defines a class, rather than a class with its name."""
    package = str(kind.__module__).partition(".")[0]
    return package in packages and (_is_static(kind) or is_importable(kind))


def is_global_of_library(value: Any, packages: frozenset[str]) -> bool:
    """Return whether a value is a function or class that a module of some packages refers to."""
    if getattr(value, "__qualname__", None) is None:
        return False
    return str(value.__module__).partition(".")[0] in packages and is_importable(value)


def is_pandas_scalar(kind: type) -> bool:
    """Return whether a class is that of a scalar of pandas, or of its missing values."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not str(kind.__module__).startswith("pandas"):
        return False
    return any(kind is getattr(pandas, name, None) for name in _SCALARS) or any(
        kind is type(getattr(pandas, name, None)) for name in _MISSING
    )
