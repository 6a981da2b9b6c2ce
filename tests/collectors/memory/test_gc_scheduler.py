"""When the housekeeper collects garbage, how often, and what it reports."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import pytest

from flask_knitperf.collectors.memory import process
from flask_knitperf.collectors.memory.process import MB, CollectionResult, GCScheduler
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import PEAK_RSS, PSS, RELIEF, RSS
from flask_knitperf.recording.housekeeper import Housekeeper, Job

ALWAYS, NEVER = 1, 1 << 60
EFFECTIVE = CollectionResult(
    before=900 * MB, collected=700 * MB, trimmed=600 * MB, objects=7, pause_ns=9_000_000
)
INEFFECTIVE = CollectionResult(
    before=900 * MB, collected=900 * MB, trimmed=899 * MB, objects=0, pause_ns=5_000_000
)


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[CollectionResult]:
    """Return the results of the next collections; the last one repeats."""
    queue = [EFFECTIVE]
    monkeypatch.setattr(
        process, "collect", lambda clock: queue.pop(0) if len(queue) > 1 else queue[0]
    )
    return queue


def collections(recorder: Any) -> list[dict[str, Any]]:
    notes = recorder.snapshot().totals.notes(RELIEF)
    return [
        {"step": note.key.step, **note.detail}
        for note in sorted(notes, key=lambda note: note.weight)
    ]


def test_below_the_threshold_nothing_is_collected(
    recorder: Any, results: list[CollectionResult]
) -> None:
    assert GCScheduler(recorder, NEVER, 30).tick() is None


def test_above_the_threshold_it_collects(recorder: Any, results: list[CollectionResult]) -> None:
    assert GCScheduler(recorder, ALWAYS, 30).tick() is EFFECTIVE


@pytest.mark.parametrize(("later", "again"), [(0, False), (29.9, False), (30, True), (500, True)])
def test_collections_are_separated_by_a_minimum_interval(
    recorder: Any, results: list[CollectionResult], time: Any, later: float, again: bool
) -> None:
    scheduler = GCScheduler(recorder, ALWAYS, 30)
    scheduler.tick()
    time.pass_(later)
    assert (scheduler.tick() is not None) is again


def deferred(recorder: Any, threshold: int) -> GCScheduler:
    """Return a scheduler whose collections wait for the end of a response."""
    return GCScheduler(recorder, threshold, 30, recorder.after_response)


def test_a_worker_that_serves_requests_collects_after_a_response(
    recorder: Any, results: list[CollectionResult]
) -> None:
    scheduler = deferred(recorder, ALWAYS)
    assert scheduler.tick() is None and not collections(recorder)
    recorder.after_response.run()
    assert [step["why"] for step in collections(recorder)] == ["above the threshold"]


def test_a_collection_is_withdrawn_once_memory_is_below_the_threshold(
    recorder: Any, results: list[CollectionResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = deferred(recorder, 100 * MB)
    monkeypatch.setattr(process, "rss", lambda: 200 * MB)
    scheduler.tick()
    monkeypatch.setattr(process, "rss", lambda: 50 * MB)
    scheduler.tick()
    recorder.after_response.run()
    assert not collections(recorder)


def test_no_second_collection_waits_while_one_runs(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = deferred(recorder, ALWAYS)

    def collect(_: Any) -> CollectionResult:
        scheduler.tick()  # by the housekeeper, meanwhile
        return EFFECTIVE

    monkeypatch.setattr(process, "collect", collect)
    scheduler.tick()
    recorder.after_response.run()
    assert not recorder.after_response


def test_an_idle_worker_returns_free_memory_once_without_a_collection(
    recorder: Any, results: list[CollectionResult]
) -> None:
    scheduler = deferred(recorder, ALWAYS)
    trims = [scheduler.tick() is not None for _ in range(20)]
    (step,) = collections(recorder)
    assert trims == [False] * 4 + [True] + [False] * 15
    assert step["objects"] == 0 and "after the next response" in step["why"]


def test_a_busy_worker_does_not_trim_before_it_collects(recorder: Any) -> None:
    scheduler = deferred(recorder, ALWAYS)
    recorder.spans[1] = object()
    for _ in range(20):
        scheduler.tick()
    recorder.spans.clear()
    assert not collections(recorder)


def test_a_requested_collection_of_the_housekeeper_waits_for_a_response(
    recorder: Any, results: list[CollectionResult]
) -> None:
    scheduler = deferred(recorder, NEVER)
    done = threading.Event()
    housekeeper = Housekeeper(
        [Job(60, scheduler.request), Job(60, done.set)], lambda name, error: pytest.fail(name)
    )
    housekeeper.start()
    assert done.wait(5)
    housekeeper.stop()
    assert not collections(recorder)
    recorder.after_response.run()
    assert [step["why"] for step in collections(recorder)] == ["requested"]


def intervals(scheduler: Any, time: Any, number: int) -> list[float]:
    """Return the seconds between consecutive collections."""
    seconds = []
    scheduler.tick()
    for _ in range(number):
        waited = 0.0
        while scheduler.tick() is None:
            time.pass_(1)
            waited += 1
        seconds.append(waited)
    return seconds


def test_ineffective_collections_double_the_interval(
    recorder: Any, results: list[CollectionResult], time: Any
) -> None:
    results[:] = [INEFFECTIVE]
    assert intervals(GCScheduler(recorder, ALWAYS, 10), time, 4) == [20, 40, 80, 160]


def test_the_interval_is_bounded(recorder: Any, results: list[CollectionResult], time: Any) -> None:
    results[:] = [INEFFECTIVE]
    assert intervals(GCScheduler(recorder, ALWAYS, 1), time, 10)[-3:] == [128] * 3


def test_an_effective_collection_resets_the_interval(
    recorder: Any, results: list[CollectionResult], time: Any
) -> None:
    results[:] = [INEFFECTIVE, INEFFECTIVE, EFFECTIVE]
    assert intervals(GCScheduler(recorder, ALWAYS, 10), time, 3) == [20, 40, 10]


@pytest.mark.parametrize(
    ("result", "reason"), [(EFFECTIVE, "above the threshold"), (INEFFECTIVE, "so it waits longer")]
)
def test_a_collection_reports_its_reason_and_whether_it_backs_off(
    recorder: Any, results: list[CollectionResult], result: CollectionResult, reason: str
) -> None:
    results[:] = [result]
    GCScheduler(recorder, ALWAYS, 30).tick()
    (step,) = collections(recorder)
    assert reason in step["why"]


def test_a_collection_reports_freed_bytes_and_the_next_interval(
    recorder: Any, results: list[CollectionResult]
) -> None:
    GCScheduler(recorder, ALWAYS, 30).tick()
    (step,) = collections(recorder)
    assert step == {
        "step": "collect", "dropped": 0, "trimmed": 100 * MB,
        "before": 900 * MB, "after": 600 * MB, "collected": 200 * MB, "objects": 7,
        "pause_ns": 9_000_000, "next_in_seconds": 30, "why": "above the threshold",
    }  # fmt: skip


def test_a_requested_collection_runs_at_once(
    recorder: Any, results: list[CollectionResult]
) -> None:
    scheduler = GCScheduler(recorder, NEVER, 30)
    assert [scheduler.collect("requested") for _ in range(2)] == [EFFECTIVE] * 2


@pytest.mark.parametrize(
    ("trimmed", "effective"), [(990, True), (991, False), (1000, False), (1100, False), (0, True)]
)
def test_a_collection_is_effective_when_it_frees_one_per_cent(
    trimmed: int, effective: bool
) -> None:
    assert CollectionResult(1000, 1000, trimmed, 0, 0).effective is effective


def test_a_real_collection_finds_unreachable_cycles(recorder: Any) -> None:
    class Knot:
        pass

    def tie() -> weakref.ref[Any]:
        one, two = Knot(), Knot()
        one.other, two.other = two, one  # type: ignore[attr-defined]
        return weakref.ref(one)

    gc.disable()
    try:
        lost = tie()
        result = GCScheduler(recorder, ALWAYS, 30).collect("requested")
    finally:
        gc.enable()
    assert lost() is None and result.objects >= 2 and result.before > 0


def test_gauges_are_the_memory_of_this_process(recorder: Any) -> None:
    GCScheduler(recorder, NEVER, 30).record_gauges()
    series = columns.series(recorder.snapshot().columns)
    gauges = {key.meter: max(s.gauge.values()) for key, s in series.items() if s.gauge}
    assert 0 < gauges[PSS.name] <= gauges[RSS.name] * 1.01 <= gauges[PEAK_RSS.name] * 1.02


@pytest.mark.slow
def test_the_trend_is_the_lowest_size_of_each_minute_of_an_hour(
    recorder: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = GCScheduler(recorder, NEVER, 30)
    time.epoch = 1_800_000_000.0 // 60 * 60
    for second in range(0, 70 * 60, 20):
        monkeypatch.setattr(process, "rss", lambda second=second: (100 + second % 60) * MB)
        scheduler.record_gauges()
        time.pass_(20)
    trend = recorder.worker.identity["trend"]
    assert (len(trend), {size for _, size in trend}) == (60, {100.0})


def test_trim_needs_neither_malloc_trim_nor_arrow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: object())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    process.trim()


def test_trim_empties_the_pool_of_arrow() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pyarrow.array(range(1000))
    process.trim()
