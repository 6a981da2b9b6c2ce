"""Locks that survive a fork, and signal handlers."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from flask_knitperf.core import locks

ROOT = Path(__file__).parents[2]
GREENLETS = """
from gevent import monkey
monkey.patch_all()

import gevent, time
from flask_knitperf.core import locks

lock = locks.create_lock()

def holds():
    with lock:
        time.sleep(0.05)

holder = gevent.spawn(holds)
gevent.sleep(0)
assert not lock.acquire(blocking=False)
locks.renew()
assert lock.acquire(blocking=False)
"""


def test_a_lock_held_by_another_thread_is_free_in_a_forked_child() -> None:
    lock = locks.create_lock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert not lock.acquire(blocking=False)
    locks.renew()
    with lock:
        pass


def test_a_lock_keeps_out_the_other_greenlets_of_its_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_no_signal_handler_runs_while_a_lock_is_acquired() -> None:
    """Python calls a handler between two instructions of Python code only."""
    kind = type(locks.create_lock())
    for method in (kind.__enter__, kind.__exit__):
        assert not hasattr(method, "__code__")
