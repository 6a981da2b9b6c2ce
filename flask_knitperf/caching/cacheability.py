"""Values that cannot be cached, since they belong to one caller."""

from __future__ import annotations

import io
import types
from collections.abc import Iterator
from typing import Any

from ..core.errors import KnitPerfError

OBSERVED = "__knitperf_observed__"
"""Attribute of the classes that the objects of a request have while their reads are recorded."""


class NotCacheable(KnitPerfError):  # noqa: N818 (not a fault)
    """A value that cannot be given to another caller; the reason."""


def refuse(value: Any) -> None:
    """Raise for a value that belongs to one caller.

    Raises:
        NotCacheable: it is an iterator, a file, a coroutine, a function with state, or bound to a
            request, a session or a connection.
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
    if kind is types.FunctionType or issubclass(kind, type):
        raise NotCacheable(
            f"the {'function' if kind is types.FunctionType else 'class'} {value.__qualname__} is "
            "created by each call, and its callers would share its state; define it in a module"
        )
