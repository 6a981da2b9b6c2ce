"""Clocks: runnable time and run-queue wait."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flask_knitperf.core.clock import SYSTEM, Clock


def test_runnable_time_is_cpu_time_plus_run_queue_wait() -> None:
    assert Clock(thread_ns=lambda: 5, run_queue_ns=lambda: 7).runnable_ns() == 12


@pytest.mark.skipif(
    not Path("/proc/thread-self/schedstat").exists(), reason="this system has no schedstat"
)
def test_run_queue_wait_never_decreases_and_is_per_thread() -> None:
    first = SYSTEM.run_queue_ns()
    waits: list[int] = []
    thread = threading.Thread(target=lambda: waits.append(SYSTEM.run_queue_ns()))
    thread.start()
    thread.join()
    assert SYSTEM.run_queue_ns() >= first >= 0
    assert waits[0] >= 0


def test_run_queue_wait_is_zero_on_systems_without_schedstat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flask_knitperf.core import clock

    def missing(*_: object) -> int:
        raise FileNotFoundError

    schedules = clock._Schedules()
    monkeypatch.setattr(os, "open", missing)
    schedules.renew()
    assert schedules.run_queue_ns() == 0
