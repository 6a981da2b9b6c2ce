"""Steps of a worker under memory pressure, and their order."""

from __future__ import annotations

from typing import Any

import cachetools
import pytest

from flask_knitperf.caching.registry import Caches
from flask_knitperf.collectors.memory import pressure_relief, process
from flask_knitperf.collectors.memory.pressure_relief import Pressure
from flask_knitperf.collectors.memory.process import MB, CollectionResult, GCScheduler
from flask_knitperf.core.locks import create_lock
from flask_knitperf.core.memory_levels import CRITICAL, FINE, WARNING, Shares
from flask_knitperf.metrics.catalogue import RELIEF
from flask_knitperf.recording.recorder import Recorder

LIMIT = 500 * MB
RESULT = CollectionResult(
    before=700 * MB, collected=600 * MB, trimmed=550 * MB, objects=9, pause_ns=1_000_000
)


class Host:
    """A worker on a machine whose memory is set by the test."""

    def __init__(self, recorder: Recorder, time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rss, self.total, self.available = 100 * MB, 10_000 * MB, 8_000 * MB
        self.limit: int | None = None
        self.used: int | None = None
        self.steps: list[str] = []
        self.cached = 10
        self.recorder, self.time = recorder, time
        monkeypatch.setattr(pressure_relief, "rss", lambda: self.rss)
        monkeypatch.setattr(process, "rss", lambda: self.rss)
        monkeypatch.setattr(pressure_relief, "machine", self._machine)
        monkeypatch.setattr(process, "collect", self._collect)
        self.pressure = Pressure(recorder, GCScheduler(recorder, LIMIT, 30), self._shrink, LIMIT)

    def _machine(self) -> process.MachineMemory:
        return process.MachineMemory(self.total, self.available, 0.0, self.limit, self.used)

    def _collect(self, _: Any) -> CollectionResult:
        self.steps.append("collect")
        return RESULT

    def _shrink(self, share: float) -> int:
        self.steps.append(f"shrink to {share}")
        removed = self.cached - int(self.cached * share)
        self.cached -= removed
        return removed

    def ticks(self, number: int, seconds: float = 1.0) -> list[str]:
        for _ in range(number):
            self.time.pass_(seconds)
            self.pressure.tick()
        return self.steps


@pytest.fixture
def host(recorder: Recorder, time: Any, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(recorder, time, monkeypatch)


def test_without_pressure_nothing_is_done(host: Host) -> None:
    assert host.ticks(20) == []


def test_caches_shrink_before_the_collector_runs(host: Host) -> None:
    host.rss = 700 * MB
    assert host.ticks(1) == ["shrink to 0.5"]
    assert host.ticks(1) == ["shrink to 0.5", "collect"]


def test_garbage_is_not_collected_where_shrinking_was_enough(host: Host) -> None:
    host.rss = 700 * MB
    host.ticks(1)
    host.rss = 400 * MB
    assert host.ticks(5) == ["shrink to 0.5"]


def test_without_anything_to_shrink_it_collects_at_once(host: Host) -> None:
    host.rss, host.cached = 700 * MB, 0
    assert host.ticks(1) == ["shrink to 0.5", "collect"]


def test_at_the_critical_level_caches_are_emptied(host: Host) -> None:
    host.rss = 1_100 * MB
    assert host.ticks(1) == ["shrink to 0.0"]


def test_a_level_that_becomes_critical_shrinks_again(host: Host) -> None:
    host.rss = 700 * MB
    host.ticks(1)
    host.rss = 1_100 * MB
    assert host.ticks(1) == ["shrink to 0.5", "shrink to 0.0"]


def test_caches_that_refill_are_not_shrunk_again_for_a_while(host: Host) -> None:
    host.rss = 700 * MB
    host.ticks(1)
    host.cached = 10
    assert [step for step in host.ticks(100) if step.startswith("shrink")] == ["shrink to 0.5"]
    assert [step for step in host.ticks(3, 150) if step.startswith("shrink")] == [
        "shrink to 0.5"
    ] * 2


def test_a_machine_short_of_memory_shrinks_the_caches_of_small_workers_too(host: Host) -> None:
    host.available = 1_000 * MB
    assert host.ticks(3) == ["shrink to 0.5"]


def test_a_machine_out_of_memory_has_small_workers_collect_too(host: Host) -> None:
    host.available = 300 * MB
    assert host.ticks(2) == ["shrink to 0.0", "collect"]


def test_a_container_at_its_limit_is_critical(host: Host) -> None:
    host.limit, host.used = 1_000 * MB, 960 * MB
    assert host.ticks(2) == ["shrink to 0.0", "collect"]


def test_each_step_is_recorded_with_its_effect(host: Host) -> None:
    host.rss = 700 * MB
    host.ticks(2)
    notes = sorted(host.recorder.snapshot().totals.notes(RELIEF), key=lambda note: note.weight)
    details = [note.detail for note in notes]
    assert [note.key.step for note in notes] == ["caches", "collect"]
    assert details[0]["dropped"] == 5
    assert (details[1]["collected"], details[1]["trimmed"]) == (100 * MB, 50 * MB)


@pytest.mark.parametrize(
    ("used", "level"), [(0, FINE), (80, FINE), (81, WARNING), (95, WARNING), (96, CRITICAL)]
)
def test_levels_are_ordered_shares_of_a_limit(used: float, level: int) -> None:
    assert Shares(0.8, 0.95).level(used, 100) == level


def test_without_a_limit_there_is_no_pressure() -> None:
    assert Shares(0.8, 0.95).level(1e12, 0) == FINE


# -- registered caches -----------------------------------------------------------------------------


def test_a_cache_with_a_lock_keeps_a_share_of_its_entries() -> None:
    caches, cache, lock = Caches(), cachetools.LRUCache(100), create_lock()
    for number in range(10):
        cache[number] = number
    caches.register(cache, lock)
    assert caches.shrink(0.5) == 5
    assert sorted(cache) == [5, 6, 7, 8, 9]


def test_a_cache_without_a_lock_is_left_alone() -> None:
    caches, cache = Caches(), cachetools.LRUCache(100)
    cache["a"] = 1
    caches.register(cache)
    assert caches.shrink(0.0) == 0
    assert len(cache) == 1


def test_expired_entries_are_removed_first() -> None:
    now = [0.0]
    caches, cache = Caches(), cachetools.TTLCache(100, 10, lambda: now[0])
    for number in range(4):
        cache[number] = number
    now[0] = 6.0
    for number in range(4, 8):
        cache[number] = number
    now[0] = 11.0
    caches.register(cache, create_lock())
    assert caches.shrink(0.5) == 4
    assert sorted(cache) == [4, 5, 6, 7]


def test_a_cache_that_fails_does_not_keep_others_from_shrinking() -> None:
    class Broken(cachetools.LRUCache[Any, Any]):
        """A cache whose eviction fails."""

        def popitem(self) -> Any:
            raise RuntimeError("broken")

    caches, broken, intact = Caches(), Broken(10), cachetools.LRUCache(10)
    broken["a"] = intact["a"] = 1
    caches.register(broken, create_lock())
    caches.register(intact, create_lock())
    with pytest.raises(RuntimeError, match="broken"):
        caches.shrink(0.0)
    assert len(intact) == 0
