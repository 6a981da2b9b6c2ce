"""Pauses of the garbage collector, timed by a callback."""

from __future__ import annotations

import gc
import threading
from types import SimpleNamespace

import pytest

from flask_knitperf.recording import gc_pauses
from flask_knitperf.recording.gc_pauses import GCWatch


def test_collections_are_timed_while_the_watch_has_a_user() -> None:
    watch = GCWatch()
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


def test_a_collection_that_started_before_the_watch_is_not_counted() -> None:
    watch = GCWatch()
    watch("stop", {"generation": 0})
    assert watch.pauses == [[0, 0]] * 3


def test_noticeable_pauses_are_summed_by_thread_and_start_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ms = 1_000_000
    now = iter([10 * ms, 15 * ms, 20 * ms, 20 * ms + 1, 30 * ms, 33 * ms])
    monkeypatch.setattr(gc_pauses, "time", SimpleNamespace(perf_counter_ns=lambda: next(now)))
    watch = GCWatch()
    for _ in range(3):
        watch("start", {"generation": 1})
        watch("stop", {"generation": 1})
    me = threading.get_ident()
    assert watch.pauses[1][0] == 3
    assert len(watch.latest) == 2
    assert watch.own(me, 0) == 8 * ms
    assert watch.own(me, 30 * ms) == 3 * ms
    assert watch.own(me + 1, 0) == 0
