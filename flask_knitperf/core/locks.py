"""Locks that are always free in a forked child.

A fork copies memory, acquired locks included, but only the forking thread. A lock acquired by any
other thread would stay locked in the child for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType


class Lock:
    """A lock for ``with`` that a forked child replaces by a new one."""

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
        """Replace the lock by a free one, in a process whose only thread does not hold it."""
        self._lock = threading.Lock()


_ALL: weakref.WeakSet[Lock] = weakref.WeakSet()


def renew() -> None:
    """Renew every lock of this package; called in a forked child."""
    for lock in list(_ALL):
        lock.renew()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=renew)
