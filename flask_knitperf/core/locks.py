"""Locks that are always free in a forked child, and that no signal handler leaves acquired.

A fork copies memory, acquired locks included, but only the forking thread. A lock acquired by any
other thread would stay locked in the child for ever.

A signal handler of the host runs between any two instructions of Python code, and may raise there. In a
method ``__enter__`` in Python that is between the acquisition and the block whose end releases the lock;
the methods of a lock written in C are never interrupted. So these are plain locks of ``threading``, not
objects around them. Where gevent has replaced that, they are locks of greenlets: a lock that only keeps
out other threads (``RLock`` of ``_thread``) would let greenlets of one thread in together.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any


def create_lock() -> threading.Lock:
    """Return a lock for ``with`` that is free in a forked child."""
    lock = threading.Lock()
    _ALL.add(lock)
    return lock


def create_reentrant_lock() -> Any:
    """Return a lock that its holder may acquire again, free in a forked child like the other."""
    lock = threading.RLock()
    _ALL.add(lock)
    return lock


_ALL: weakref.WeakSet[Any] = weakref.WeakSet()


def renew() -> None:
    """Free every lock of this package, in a process whose only thread holds none; after a fork."""
    for lock in list(_ALL):
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=renew)
