"""Bypass: code in which calls of cached functions go to the functions themselves.

A hit must not pay for the question whether it is bypassed, so it looks at one list that is nearly always
empty, :data:`SLOW_PATH`, and only the slow path looks closer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

SLOW_PATH: list[Any] = []
"""Sends hits to the slow path while it is not empty: while any code bypasses the cache, and while loads
run whose dependencies are detected."""
SERVED: ContextVar[list[tuple[Any, ...]] | None] = ContextVar("knitperf_served", default=None)
"""Hits of a load whose value is out of date: cache, entry, key, arguments and keyword arguments."""
_BYPASSED: ContextVar[bool] = ContextVar("knitperf_bypass", default=False)
_COUNTED: ContextVar[bool] = ContextVar("knitperf_bypass_counted", default=True)


@contextmanager
def bypass(*, counted: bool = True) -> Iterator[None]:
    """Call functions themselves within the block, and cache none of their results.

    Args:
        counted: whether these calls are among the statistics.
    """
    before, before_counted, marker = _BYPASSED.get(), _COUNTED.get(), object()
    try:
        SLOW_PATH.append(marker)
        _BYPASSED.set(True)
        _COUNTED.set(counted)
        yield
    finally:
        _COUNTED.set(before_counted)
        _BYPASSED.set(before)
        if marker in SLOW_PATH:
            SLOW_PATH.remove(marker)


def is_bypassed() -> bool:
    """Return whether the current code bypasses the cache."""
    return _BYPASSED.get()


def is_counted() -> bool:
    """Return whether the calls that bypass the cache here are counted."""
    return _COUNTED.get()
