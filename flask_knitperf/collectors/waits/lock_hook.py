"""Hook for waits for another thread: its end, or a queue, an event, a semaphore, a condition, a barrier.

All but the first wait in ``threading.Condition.wait``, which is written in Python, and is only called
where there is something to wait for: one that is free costs nothing more. ``threading.Lock`` and
``RLock`` are classes in C; where the stacks of requests are sampled, those show them.

Pools of connections wait in the same way, and have their name.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from ...core.code_locations import is_ours, is_own
from ...metrics.catalogue import PartKind
from . import names
from .replacements import Switch
from .request_waits import MIN_WAIT_NS, begin, end

_MODULES = ("threading", "queue")
_KINDS = {
    "Event.wait": "event", "Semaphore.acquire": "semaphore", "Barrier.wait": "barrier",
    "Queue.get": "queue", "Queue.put": "queue", "Queue.join": "queue", "Thread.start": "",
}  # fmt: skip
"""Functions that wait for a condition by what they wait for; a thread that is started is not a wait."""
_POOLS = frozenset({"dbutils", "psycopg_pool", "redis", "sqlalchemy", "urllib3", "valkey"})
"""Libraries that wait for a connection of a pool."""
_WATCHED = "sqlalchemy"  # whose statements are timed, and waiting for pools of watched engines
_FRAMEWORKS = frozenset({"flask", "werkzeug"})
"""Libraries between those that a request calls and our own frames around the request."""
_EXCLUDED = frozenset({"asgiref", "asyncio", "concurrent"})
"""Libraries that wait for work of the request itself."""
_MAX_DEPTH = 40  # frames between a wait and the call that is timed


def wait_for_condition(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    """Return a replacement of ``threading.Condition.wait``."""
    return _timed(original, switch, "condition")


def wait_for_thread(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    """Return a replacement of ``threading.Thread.join``."""
    return _timed(original, switch, "thread")


def _timed(original: Callable[..., Any], switch: Switch, kind: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def wait(self: Any, timeout: Any = None) -> Any:
        begun = begin() if switch.is_on else None
        if begun is None:
            return original(self, timeout)
        try:
            return original(self, timeout)
        finally:
            try:
                part, times = _part(sys._getframe(1), kind)
                if part is not None and begun.exclusive_ns() >= MIN_WAIT_NS:
                    end(begun, part, times)
            except Exception as error:
                begun.span.owner.failed("waits", error)

    return wait


def _part(frame: FrameType | None, kind: str) -> tuple[str | None, int]:
    """Return the name of the part for a wait that a frame calls, ``None`` for none, and its number.

    Args:
        frame: the frame.
        kind: of what it waits for, unless functions of the standard library in between are more exact.
    """
    while frame is not None and frame.f_globals.get("__name__") in _MODULES:
        kind = _KINDS.get(frame.f_code.co_qualname, kind)
        frame = frame.f_back
    if frame is None or not kind or is_ours(frame.f_code):
        return None, 0
    if is_own(frame.f_code):
        return f"{PartKind.LOCK}:{kind}", 1
    library = names.library(frame.f_globals.get("__name__"))
    if library in _EXCLUDED:
        return None, 0
    if library == _WATCHED:
        return PartKind.POOL.value, 0 if _is_counted(frame) else 1
    if library in _POOLS:
        return names.POOL.of(library), 1
    return (None, 0) if _is_timed(frame) else (names.LOCK.of(library), 1)


def _is_counted(frame: FrameType | None) -> bool:
    """Return whether our hook of the pool, which counts the wait, is on the stack."""
    for _ in range(_MAX_DEPTH):
        if frame is None or is_own(frame.f_code):
            return False
        if is_ours(frame.f_code):
            return True
        frame = frame.f_back
    return False


def _is_timed(frame: FrameType | None) -> bool:
    """Return whether a library's frame runs within a call that is timed: a statement, an HTTP call.

    Drivers may wait for a thread of theirs; that is part of the statement.
    """
    for _ in range(_MAX_DEPTH):
        if frame is None or is_own(frame.f_code):
            return False
        library = names.library(frame.f_globals.get("__name__"))
        if library == _WATCHED or is_ours(frame.f_code):
            return True
        if library in _FRAMEWORKS:
            return False
        frame = frame.f_back
    return False
