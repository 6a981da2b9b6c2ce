"""Locks that a forked child finds free, whoever held them in its parent.

A fork copies memory, held locks included, but only the thread that forked. A lock that another thread
held would stay held in the child for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType


class Lock:
    """A lock for ``with``, free again in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _ALL.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Be free, in a process where nobody can hold it."""
        self._lock = threading.Lock()


_ALL: weakref.WeakSet[Lock] = weakref.WeakSet()


def renew() -> None:
    """Free every lock of ours; called in a forked child."""
    for lock in list(_ALL):
        lock.renew()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=renew)
