"""Keeps connections to SQLite closed while the process forks.

SQLite has the locks of a process in its memory too, where a forked child takes them for its own, without
those of the system. So a fork waits until no thread has a connection, and holds back those that would
open one.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import AbstractContextManager

from ..core.locks import create_lock

_POLL_S = 0.005


class ForkGate:
    """The connections of this process, and a lock that a fork holds."""

    def __init__(self) -> None:
        self._lock = create_lock()
        self._open: weakref.WeakSet[object] = weakref.WeakSet()
        self._forking = 0  # the thread that has the lock

    def opening(self) -> AbstractContextManager[object]:
        """Return a context for opening a connection, which waits for the end of a fork."""
        return self._lock

    def add(self, connection: object) -> None:
        """Note that a connection is open; to be called within :meth:`opening`."""
        self._open.add(connection)

    def remove(self, connection: object) -> None:
        """Note that a connection is closed."""
        self._open.discard(connection)

    def shut(self, seconds: float) -> bool:
        """Wait until no connection is open, and hold new ones back until :meth:`reopen`.

        Args:
            seconds: time to wait at most.

        Returns:
            Whether none is open.
        """
        ends = time.monotonic() + seconds
        is_shut = self._lock.acquire(timeout=seconds)  # another thread may fork
        if is_shut:
            self._forking = threading.get_ident()
        while self._open and time.monotonic() < ends:
            time.sleep(_POLL_S)
        return is_shut and not self._open

    def reopen(self) -> None:
        """Let connections be opened again."""
        if self._forking == threading.get_ident():
            self._forking = 0
            self._lock.release()

    def forget(self) -> None:
        """Forget the connections of the parent, in a forked child; its lock is free there."""
        self._forking = 0
        self._open.clear()


FORK_GATE = ForkGate()

if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=FORK_GATE.forget)
