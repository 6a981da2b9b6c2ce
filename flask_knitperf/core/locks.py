"""Locks that are always free in a forked child, and that no signal handler leaves acquired.

A fork copies memory, acquired locks included, but only the forking thread. A lock acquired by any
other thread would stay locked in the child for ever.

A signal handler of the host runs between any two instructions of Python code, and may raise there. In a
method ``__enter__`` in Python that is between the acquisition and the block whose end releases the lock;
the methods of a lock written in C are never interrupted.
"""

from __future__ import annotations

import _thread
import os
import weakref


class Lock(_thread.RLock):  # type: ignore[misc]  # final in the stubs only
    """A lock for ``with`` that is free in a forked child. Its thread may acquire it again."""

    __slots__ = ()

    def __init__(self) -> None:
        _ALL.add(self)

    def renew(self) -> None:
        """Release the lock, in a process whose only thread does not hold it."""
        self._at_fork_reinit()  # type: ignore[attr-defined]


_ALL: weakref.WeakSet[Lock] = weakref.WeakSet()


def renew() -> None:
    """Renew every lock of this package; called in a forked child."""
    for lock in list(_ALL):
        lock.renew()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=renew)
