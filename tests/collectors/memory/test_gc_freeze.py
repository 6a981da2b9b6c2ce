"""Freezing what is there once a worker is warm."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from flask_knitperf.collectors.memory import gc_freeze
from flask_knitperf.collectors.memory.gc_freeze import WARM, WARM_S, Freezer, Frozen, freeze
from flask_knitperf.recording.recorder import Recorder


@pytest.fixture
def froze(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have nothing be frozen; return what would have been."""
    done: list[int] = []

    def instead(_: Any) -> Frozen:
        done.append(1)
        return Frozen(1_000, 80_000_000, 2_000_000)

    monkeypatch.setattr(gc_freeze, "freeze", instead)
    return done


def test_what_is_there_is_passed_over_from_then_on() -> None:
    ticks = iter(range(0, 1_000, 10))
    try:
        found = freeze(lambda: next(ticks))
        assert found.objects == pytest.approx(gc.get_freeze_count(), abs=100)
        assert (found.before_ns, found.after_ns) == (10, 10)
    finally:
        gc.unfreeze()


def test_garbage_is_not_kept_for_good() -> None:
    class Node:
        """Refers to itself."""

        def __init__(self) -> None:
            self.me = self

    Node()
    try:
        freeze(lambda: 0)
        assert not any(isinstance(one, Node) for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_a_cold_worker_is_not_frozen(recorder: Recorder, froze: list[int]) -> None:
    assert Freezer(recorder, lambda: WARM - 1).turn() is None
    assert not froze


def test_a_warm_worker_is_frozen_once(recorder: Recorder, froze: list[int]) -> None:
    freezer = Freezer(recorder, lambda: WARM)
    for _ in range(5):
        freezer.turn()
    assert froze == [1]


def test_a_worker_with_few_requests_is_warm_after_a_while(
    recorder: Recorder, froze: list[int], time: Any
) -> None:
    freezer = Freezer(recorder, lambda: 3)
    freezer.turn()
    assert not froze
    time.pass_(WARM_S)
    freezer.turn()
    assert froze == [1]


def test_it_waits_for_a_moment_between_requests_but_not_for_ever(
    recorder: Recorder, froze: list[int]
) -> None:
    freezer = Freezer(recorder, lambda: WARM)
    recorder.spans[object()] = None  # type: ignore[index]
    turns = 0
    while not froze:
        freezer.turn()
        turns += 1
    recorder.spans.clear()
    assert turns == gc_freeze._PATIENCE + 1


def test_what_it_did_is_reported(recorder: Recorder, froze: list[int]) -> None:
    Freezer(recorder, lambda: WARM).turn()
    (note,) = recorder.snapshot().totals.evidence.values()
    assert note["kind"] == "freeze"
    told = note["detail"]
    assert (told["objects"], told["before_ns"], told["after_ns"]) == (1_000, 80_000_000, 2_000_000)


def test_another_process_is_frozen_anew(recorder: Recorder, froze: list[int]) -> None:
    freezer = Freezer(recorder, lambda: WARM)
    freezer.turn()
    recorder.close()
    freezer.turn()
    assert froze == [1, 1]


def test_an_application_freezes_when_it_is_told_to(make_app: Any, froze: list[int]) -> None:
    mill = make_app(KNITPERF_GC_FREEZE=True)
    for _ in range(WARM):
        mill.get("/")
    for _, job in mill.session.recorder._jobs:
        if getattr(job, "__qualname__", "").startswith("Freezer"):
            job()
    (told,) = mill.session.memory()["frozen"]
    assert (told["before_ms"], told["after_ms"]) == (80.0, 2.0)
