"""Freezing the long-lived objects of a warm worker."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from flask_knitperf.collectors.memory import gc_freeze
from flask_knitperf.collectors.memory.gc_freeze import (
    WARM_REQUESTS,
    WARM_S,
    Freezer,
    FreezeResult,
    freeze,
)
from flask_knitperf.metrics.catalogue import FREEZE
from flask_knitperf.recording.recorder import Recorder


@pytest.fixture
def freezes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """List with an entry for each call of ``freeze``, which does nothing in these tests."""
    calls: list[int] = []

    def fake_freeze(_: Any) -> FreezeResult:
        calls.append(1)
        return FreezeResult(1_000, 80_000_000, 2_000_000)

    monkeypatch.setattr(gc_freeze, "freeze", fake_freeze)
    return calls


@pytest.mark.slow
def test_the_collector_skips_frozen_objects(thawed: None) -> None:
    ticks = iter(range(0, 1_000, 10))
    result = freeze(lambda: next(ticks))
    assert result.objects == pytest.approx(gc.get_freeze_count(), abs=100)
    assert (result.before_ns, result.after_ns) == (10, 10)


@pytest.mark.slow
def test_garbage_is_collected_before_the_freeze(thawed: None) -> None:
    class Node:
        """Refers to itself."""

        def __init__(self) -> None:
            self.me = self

    Node()
    freeze(lambda: 0)
    assert not any(isinstance(candidate, Node) for candidate in gc.get_objects())


def tick(freezer: Freezer, recorder: Recorder) -> None:
    """Run the job of the housekeeper, then end a response."""
    freezer.tick()
    recorder.after_response.run()


def test_a_cold_worker_is_not_frozen(recorder: Recorder, freezes: list[int]) -> None:
    tick(Freezer(recorder, lambda: WARM_REQUESTS - 1), recorder)
    assert not freezes


def test_a_warm_worker_is_frozen_once(recorder: Recorder, freezes: list[int]) -> None:
    freezer = Freezer(recorder, lambda: WARM_REQUESTS)
    for _ in range(5):
        tick(freezer, recorder)
    assert freezes == [1]


def test_the_housekeeper_itself_does_not_freeze(recorder: Recorder, freezes: list[int]) -> None:
    freezer = Freezer(recorder, lambda: WARM_REQUESTS)
    freezer.tick(), freezer.tick()
    assert not freezes


def test_a_worker_with_few_requests_is_warm_after_a_while(
    recorder: Recorder, freezes: list[int], time: Any
) -> None:
    freezer = Freezer(recorder, lambda: 3)
    tick(freezer, recorder)
    assert not freezes
    time.pass_(WARM_S)
    tick(freezer, recorder)
    assert freezes == [1]


def test_the_result_is_recorded_as_evidence(recorder: Recorder, freezes: list[int]) -> None:
    tick(Freezer(recorder, lambda: WARM_REQUESTS), recorder)
    (note,) = recorder.snapshot().totals.notes(FREEZE)
    detail = note.detail
    assert (detail["objects"], detail["before_ns"], detail["after_ns"]) == (
        1_000,
        80_000_000,
        2_000_000,
    )


def test_another_process_is_frozen_again(recorder: Recorder, freezes: list[int]) -> None:
    freezer = Freezer(recorder, lambda: WARM_REQUESTS)
    tick(freezer, recorder)
    recorder.close()
    tick(freezer, recorder)
    assert freezes == [1, 1]


def test_an_application_freezes_when_the_setting_is_on(make_app: Any, freezes: list[int]) -> None:
    mill = make_app(KNITPERF_GC_FREEZE=True)
    for _ in range(WARM_REQUESTS):
        mill.get("/")
    for job in mill.session.recorder._jobs:
        if getattr(job.run, "__qualname__", "").startswith("Freezer"):
            job.run()
    mill.get("/")
    (row,) = mill.session.documents.memory()["frozen"]
    assert (row["before_ms"], row["after_ms"]) == (80.0, 2.0)
