"""Objects that others refer to, read without harm to the interpreter."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from types import ModuleType
from typing import Any


def referents(objects: Iterable[Any]) -> list[Any]:
    """Return the objects that the given ones refer to directly, as :func:`gc.get_referents` does.

    Of a module only the namespace is returned. Modules in C may show their free lists too, as asyncio
    does in Python 3.12: to refer to an object there and drop it frees it twice, after which the next
    garbage collection never ends.
    """
    namespaces: list[Any] = []
    others: list[Any] = []
    for value in objects:
        if issubclass(type(value), ModuleType):
            namespaces.append(ModuleType.__getattribute__(value, "__dict__"))
        else:
            others.append(value)
    return namespaces + gc.get_referents(*others)
