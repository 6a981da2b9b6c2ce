"""CPU clocks and scheduler states of threads."""

from __future__ import annotations

import os
import threading
import time

import pytest

from flask_knitperf.collectors.sampler import thread_clocks
from flask_knitperf.collectors.sampler.thread_clocks import ThreadClocks, running_share

from .applications import MS, linux, wait_for_rest


@pytest.mark.parametrize(
    ("used", "window", "share"),
    [
        (95, 100, 1.0),  # computes
        (75, 100, 1.0),  # computes, after it got back the GIL
        (25, 100, 0.25),  # does both by turns, or changed from one to the other
        (5, 100, 0.0),  # waits
        (0, 100, 0.0),
        (2_000_000, 4_000_000, 1.0),  # others computed as well, but it did first
        (1_000_000, 4_000_000, 0.0),
        (500, 100, 1.0),  # clocks that do not agree
        (-1, 100, 0.0),
        (0, 0, 1.0),
    ],
)
def test_a_stack_runs_if_its_thread_did_in_the_window_after_the_sample(
    used: int, window: int, share: float
) -> None:
    assert running_share(5, 5 + used, window) == share


def test_without_a_clock_a_stack_counts_as_running() -> None:
    assert running_share(None, 5, 100) == running_share(5, None, 100) == 1.0


@linux
def test_only_live_threads_have_a_clock() -> None:
    clocks = ThreadClocks()
    before = clocks.cpu_ns(threading.get_ident())
    ends = time.thread_time() + 0.01
    while time.thread_time() < ends:
        pass
    after = clocks.cpu_ns(threading.get_ident())
    assert before is not None and after is not None and after - before >= 5 * MS
    thread = threading.Thread(target=lambda: clocks.cpu_ns(threading.get_ident()))
    thread.start()
    ident = thread.ident
    thread.join()
    assert ident is not None
    until = time.monotonic() + 10
    while clocks.cpu_ns(ident) is not None:  # the system may need a moment to remove it
        assert time.monotonic() < until
    assert clocks.cpu_ns(12345) is None and not clocks.runnable(12345)
    clocks.close()


@linux
def test_a_machine_is_oversubscribed_with_more_runnable_threads_than_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = ThreadClocks()
    monkeypatch.setattr(thread_clocks, "_CORES", 0)
    assert [clocks.oversubscribed() for _ in range(8)] == [True] * 8
    monkeypatch.setattr(thread_clocks, "_CORES", 1_000_000)
    assert [clocks.oversubscribed() for _ in range(8)] == [False] * 8
    monkeypatch.setattr(clocks, "_read", lambda _: b"")
    assert not clocks.oversubscribed()
    clocks.close()


@linux
def test_a_thread_is_runnable_while_it_computes_or_is_queued_and_not_while_it_waits() -> None:
    clocks, done = ThreadClocks(), threading.Event()
    assert not clocks.runnable(threading.get_ident())  # its system id is not cached yet
    clocks.cpu_ns(threading.get_ident())
    assert clocks.runnable(threading.get_ident())
    waits = threading.Thread(target=done.wait, name="waits) R (here")
    waits.start()
    wait_for_rest(waits)
    clocks.cpu_ns(waits.ident or 0)
    runnable = clocks.runnable(waits.ident or 0)
    done.set()
    waits.join()
    clocks.close()
    assert not runnable


@linux
def test_a_forked_process_reads_the_clock_of_its_main_thread() -> None:
    child = os.fork()
    if not child:
        clocks, me = ThreadClocks(), threading.get_ident()
        before = clocks.cpu_ns(me)
        ends = time.thread_time() + 0.02
        while time.thread_time() < ends:
            pass
        after = clocks.cpu_ns(me)
        plausible = (
            before is not None and after is not None and 10 * MS < after - before < 5000 * MS
        )
        os._exit(0 if plausible else 1)
    assert os.waitpid(child, 0)[1] == 0
