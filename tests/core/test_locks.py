"""Locks that survive a fork."""

from __future__ import annotations


def test_a_lock_held_by_another_thread_is_free_in_a_forked_child() -> None:
    from flask_knitperf.core import locks

    lock = locks.Lock()
    with lock:
        locks.renew()
        with lock:
            pass
        lock._lock.acquire()
