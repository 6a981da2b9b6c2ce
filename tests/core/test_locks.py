"""Locks that survive a fork, and signal handlers."""

from __future__ import annotations

import threading

from flask_knitperf.core import locks


def test_a_lock_held_by_another_thread_is_free_in_a_forked_child() -> None:
    lock = locks.Lock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert not lock.acquire(blocking=False)
    locks.renew()
    with lock:
        pass


def test_no_signal_handler_runs_while_a_lock_is_acquired() -> None:
    """Python calls a handler between two instructions of Python code only."""
    for method in (locks.Lock.__enter__, locks.Lock.__exit__):
        assert not hasattr(method, "__code__")
