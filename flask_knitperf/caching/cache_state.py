"""State of a cache of any kind, read from whatever it offers.

A registered cache is the application's object: an attribute may be missing, be of another type, be a
method with the same name and another meaning, or raise. Each figure is read on its own, and one that is
not a finite number is unknown.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import cachetools

from ..core.host_exceptions import raise_if_of_host
from .shrinkable import Shrinkable

_LARGEST_COUNT = 2**63 - 1
"""Largest number that a report shows: a bound beyond it, such as infinity, is none."""


class CacheState(NamedTuple):
    """State of one registered cache.

    Attributes:
        name: as it is shown.
        type: name of its class.
        entries: number of entries, ``None`` where it cannot be read.
        size: in the cache's own unit, ``None`` where it has none.
        max_size: upper bound of its size, ``None`` where it has none.
        hit_rate: share of look-ups that hit, ``None`` where it is not counted.
    """

    name: str
    type: str
    entries: int | None
    size: float | None
    max_size: float | None
    hit_rate: float | None


def state(name: str, cache: Any, entries: int | None) -> CacheState:
    """Return the state of a cache.

    Args:
        name: as it is shown.
        cache: the cache.
        entries: number of its entries, ``None`` where it could not be read.
    """
    maximum = _number(attribute(cache, "maxsize"))
    return CacheState(name, type(cache).__name__, entries, _size(cache), maximum, _hit_rate(cache))


def entry_count(cache: Any) -> int:
    """Return the number of entries, expired ones included.

    ``len`` of a timed cache expires it, so its base class is called.

    Raises:
        Exception: raised by the cache.
    """
    if isinstance(cache, cachetools.Cache):
        return cachetools.Cache.__len__(cache)
    return len(cache)


def attribute(cache: Any, name: str) -> Any:
    """Return an attribute of an object, ``None`` if it is missing or cannot be read."""
    try:
        return getattr(cache, name, None)
    except Exception as error:  # a property of the application, whose failure is not ours to report
        raise_if_of_host(error)
        return None


def method(cache: Any, name: str) -> Callable[[], Any] | None:
    """Return a method that can be called without arguments and without an event loop, if it has one."""
    function: Callable[[], Any] | None = attribute(cache, name)
    if not callable(function) or inspect.iscoroutinefunction(function):
        return None
    try:
        inspect.signature(function).bind()
    except TypeError:
        return None  # a method with the same name and another meaning
    except ValueError as error:  # written in C: it has no signature
        raise_if_of_host(error)
    return function


def _size(cache: Any) -> float | None:
    """Return the size in the cache's own unit, where it has one."""
    try:
        if isinstance(cache, cachetools.Cache):
            return _number(cachetools.Cache.currsize.__get__(cache))
        if isinstance(cache, Shrinkable):
            return _number(cache.currsize)
    except Exception as error:  # its own class has not called the constructor, or hides what it is
        raise_if_of_host(error)
        return None
    return None


def _hit_rate(cache: Any) -> float | None:
    """Return the share of look-ups that hit, where a cache counts them."""
    statistics = method(cache, "statistics")
    try:
        rate = _number(statistics()["hit_rate"]) if statistics is not None else None
    except Exception as error:  # unknown, as that of a cache without statistics
        raise_if_of_host(error)
        return None
    return round(rate, 4) if rate is not None and 0 <= rate <= 1 else None


def _number(value: Any) -> float | None:
    """Return a number that JSON can hold: an ``int``, a finite ``float``, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if isinstance(value, Integral):
        return int(value) if abs(int(value)) <= _LARGEST_COUNT else None
    return float(value) if math.isfinite(value) else None
