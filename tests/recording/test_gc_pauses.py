"""Pauses of the garbage collector, timed by a callback, in Python and in C."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from flask_knitperf.recording.fastpath import SHORT_PAUSE_NS
from flask_knitperf.recording.gc_pauses import GCWatch
from tests.recording.harness import in_c, in_pure_python


@pytest.fixture(params=[in_pure_python, in_c], ids=["python", "c"])
def watch(request: pytest.FixtureRequest) -> Any:
    class Watch(request.param().PauseTotalBase):  # type: ignore[misc]
        __call__ = request.param().PauseTotalBase.__call__
        own, hold, let_go = GCWatch.own, GCWatch.hold, GCWatch.let_go

    one = Watch()
    GCWatch.__init__(one)
    return one


@pytest.mark.slow
def test_collections_are_timed_while_the_watch_has_a_user(watch: Any) -> None:
    watch.hold()
    watch.hold()
    gc.collect()
    watch.let_go()
    gc.collect()
    assert watch.pauses[2][0] == 2
    assert watch.total > 0
    watch.let_go()
    assert watch not in gc.callbacks
    watch.let_go()
    gc.collect()
    assert watch.pauses[2][0] == 2


def test_a_collection_that_started_before_the_watch_is_not_counted(watch: Any) -> None:
    watch("stop", {"generation": 0})
    assert watch.pauses == [[0, 0]] * 3 and watch.total == 0


def test_pauses_that_are_not_short_are_summed_by_thread_and_start_time(watch: Any) -> None:
    ms = SHORT_PAUSE_NS
    times = iter([10 * ms, 15 * ms, 20 * ms, 21 * ms, 30 * ms, 33 * ms])
    watch.now = lambda: next(times)
    for _ in range(3):
        watch("start", {"generation": 1})
        watch(phase="stop", info={"generation": 1})
    me = threading.get_ident()
    assert watch.pauses == [[0, 0], [3, 9 * ms], [0, 0]] and watch.total == 9 * ms
    assert list(watch.latest) == [(10 * ms, 15 * ms, me), (30 * ms, 33 * ms, me)]
    assert watch.own(me, 0) == 8 * ms
    assert watch.own(me, 30 * ms) == 3 * ms
    assert watch.own(me + 1, 0) == 0


@pytest.mark.parametrize(
    ("info", "pauses"),
    [
        ({}, [[0, 0]]),
        ({"generation": "two"}, [[0, 0]]),
        ({"generation": 3}, [[0, 0]]),
        ({"generation": 0}, [[0]]),
        ({"generation": 0}, [["none", 0]]),
        ({"generation": 0}, [7]),
    ],
)
def test_what_gc_never_passes_raises_and_crashes_nothing(
    watch: Any, info: Any, pauses: Any
) -> None:
    watch.pauses, watch.latest = pauses, deque()
    watch("start", {"generation": 0})
    with pytest.raises((TypeError, KeyError, IndexError, AttributeError)):
        watch("stop", info)


def test_a_watch_without_its_fields_raises_and_crashes_nothing(watch: Any) -> None:
    for name, phase in (("pauses", "stop"), ("latest", "stop"), ("now", "start")):
        times = iter([1, 1 + 2 * SHORT_PAUSE_NS])
        if name != "now":
            watch.now = lambda times=times: next(times)
            watch("start", {"generation": 0})
        value = getattr(watch, name)
        delattr(watch, name)
        with pytest.raises(AttributeError):
            watch(phase, {"generation": 0})
        setattr(watch, name, value)


@pytest.fixture
def alarm() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_what_a_signal_handler_raises_during_a_collection_reaches_the_host() -> None:
    if not hasattr(signal, "setitimer"):
        pytest.skip("there are no alarms on this system")
    watch: Any = in_c().PauseTotalBase()
    watch.pauses, watch.latest = [[0, 0], [0, 0], [0, 0]], deque()
    watch.now = time.perf_counter_ns
    gc.freeze()  # what other tests left: a collection takes long enough without it
    heap = [[number] for number in range(200_000)]
    others, gc.callbacks[:] = gc.callbacks[:], [watch]  # those of test tools are in Python
    tries = rung = 0
    try:
        while watch.pauses[2][0] < 20:  # an alarm may also come before the collection
            tries += 1
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002)
                gc.collect()
                time.sleep(0.5)  # if that was faster
            except TimeoutError:
                rung += 1
    finally:
        gc.callbacks[:] = others
    assert rung == tries and heap
