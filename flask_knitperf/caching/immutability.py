"""Values that no caller can change, so that all callers may have the same object."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import sys
import types
import uuid
from typing import Any

from .instance_state import (
    attributes,
    instance_dict,
    is_global_of_library,
    is_importable,
    is_of_library,
    is_pandas_scalar,
)

ATOMIC: frozenset[type] = frozenset({
    type(None), type(...), type(NotImplemented), bool, int, float, complex, str, bytes, range, object,
    decimal.Decimal, fractions.Fraction, uuid.UUID, dt.date, dt.timedelta, dt.timezone, re.Pattern,
    types.ModuleType,
})  # fmt: skip
"""Types of values without state that a caller could change."""
_MUTABLE = frozenset({list, dict, set, bytearray})
_TIMES = frozenset({dt.datetime, dt.time})
SCALARS = ATOMIC | _TIMES
"""Types of scalars; those of times refer to a time zone."""
LIBRARIES = frozenset({*sys.stdlib_module_names, "numpy", "pandas", "pyarrow", "polars", "scipy"})
"""Packages whose classes copy and pickle all of an instance."""
_ZONES = frozenset({"datetime", "zoneinfo", "pytz", "dateutil", "psycopg2"})
"""Packages whose time zones are immutable, and complete in a pickle."""
_STDLIB = frozenset({"pathlib"})
_NUMPY = frozenset({"numpy"})


def is_immutable(value: Any) -> bool:
    """Return whether no caller can change a value."""
    kind = type(value)
    if kind in ATOMIC:
        return True
    if kind in _MUTABLE:
        return False
    if kind is tuple or kind is frozenset:
        return _all_immutable(value, set())
    if kind in _TIMES:
        return value.tzinfo is None or is_zone(type(value.tzinfo))
    if kind is types.FunctionType:
        return is_importable(value) or _is_stateless(value)
    if kind is types.BuiltinFunctionType:  # bound to an object, if it is not of a module
        return value.__self__ is None or isinstance(value.__self__, types.ModuleType | type)
    if issubclass(kind, type):
        return is_importable(value)
    if issubclass(kind, enum.Enum) or is_pandas_scalar(kind) or is_zone(kind):
        return True
    if issubclass(kind, pathlib.PurePath):
        return is_of_library(kind, _STDLIB)
    if is_of_library(kind, _NUMPY) and hasattr(value, "dtype"):
        return not hasattr(value, "__len__") and kind.__name__ != "void"
    return issubclass(kind, str | bytes | int | float) and not attributes(value)


def is_zone(kind: type) -> bool:
    """Return whether a class is that of a time zone of a library; pytz creates one for each zone."""
    package = str(kind.__module__).partition(".")[0]
    if not issubclass(kind, dt.tzinfo) or package not in _ZONES:
        return False
    packages = frozenset({package})
    return any(is_of_library(base, packages) for base in kind.__mro__)


def is_complete_in_pickle(value: Any) -> bool:
    """Return whether a pickle of a value holds all of it: no class of the application decides that.

    Its parts have to be judged too.
    """
    kind = type(value)
    return (
        kind in SCALARS
        or is_of_library(kind, LIBRARIES)
        or is_zone(kind)
        or is_global_of_library(value, LIBRARIES)
    )


def are_scalars(cells: Any) -> bool:
    """Return whether all cells of an array are scalars that no caller can change.

    Cells are judged by their types, which is several times as fast as one by one.
    """
    kinds = set(map(type, cells)) - ATOMIC
    zones = (
        {type(cell.tzinfo) for cell in cells if type(cell) in _TIMES} if kinds & _TIMES else set()
    )
    return all(map(is_pandas_scalar, kinds - _TIMES)) and all(
        zone is type(None) or is_zone(zone) for zone in zones
    )


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


def _is_stateless(function: types.FunctionType) -> bool:
    """Return whether a function has nothing that one of its calls could change for the next."""
    defaults = (function.__defaults__, *(function.__kwdefaults__ or {}).values())
    module = sys.modules.get(function.__module__)
    return (
        function.__closure__ is None
        and module is not None
        and function.__globals__ is vars(module)
        and not instance_dict(function)
        and all(map(is_immutable, defaults))
    )
