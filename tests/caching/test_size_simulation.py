"""Simulated caches have the hit rates that caches of their size really have."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf import CacheOptimizer
from flask_knitperf.caching.invalidation import Invalidation, namespace_slot
from flask_knitperf.caching.region import OVERHEAD_BYTES, Entry, Region
from flask_knitperf.caching.size_simulation import (
    FACTORS,
    MAX_FOLLOWED,
    Outcome,
    SizeSimulation,
    predicted,
    size_advice,
)
from flask_knitperf.caching.store import Store


class Replay:
    """A store with values of equal size, and the simulation beside it."""

    def __init__(self, room: float, *, simulates: bool = True) -> None:
        self.now, self.hits, self.lookups = 0.0, 0, 0
        self.store = Store(round(room), clock=lambda: self.now, seed=1)
        self.region, self.invalidation = Region("n"), Invalidation()
        self.simulation = (
            SizeSimulation(self.store, self.invalidation, lambda: self.now) if simulates else None
        )

    def look_up(
        self, key: Any, *, size: int = 1000, ttl: float = float("inf"), **more: Any
    ) -> None:
        self.now += 0.01
        self.lookups += 1
        entry = self.region.entries.get(key)
        if entry is None or entry.expires <= self.now:
            expires = self.now + ttl
            self.store.add(Entry(
                self.region, key, None, size=size - OVERHEAD_BYTES, cost=1.0, expires=expires, **more
            ))  # fmt: skip
        else:
            entry.uses += 1
            self.hits += 1
        if self.simulation is not None and not self.lookups % 50:
            self.simulation.tick()

    @property
    def rate(self) -> float:
        return self.hits / self.lookups

    def rates(self) -> dict[float, float]:
        assert self.simulation is not None
        self.simulation.tick()
        rows = size_advice(self.simulation.totals, self.rate, self.store.maxsize)
        return {row["factor"]: row["hit_rate"] for row in rows}


def _zipf(keys: int, requests: int, seed: int = 1) -> list[int]:
    weights = [1 / (rank + 1) for rank in range(keys)]
    return random.Random(seed).choices(range(keys), weights, k=requests)


def _truth(factor: float, room: float, feed: Callable[[Replay], None]) -> float:
    replay = Replay(room * factor, simulates=False)
    feed(replay)
    return replay.rate


@pytest.mark.slow
@pytest.mark.parametrize("room", [50_000, 200_000])
def test_larger_and_smaller_caches_have_the_simulated_rates(room: int) -> None:
    def feed(replay: Replay) -> None:
        for key in _zipf(2000, 6000):
            replay.look_up(key)

    replay = Replay(room)
    feed(replay)
    for factor, rate in replay.rates().items():
        assert rate == pytest.approx(_truth(factor, room, feed), abs=0.02)


@pytest.mark.slow
def test_of_many_values_a_part_is_followed() -> None:
    def feed(replay: Replay) -> None:
        for key in _zipf(20_000, 40_000):
            replay.look_up(key)

    replay = Replay(3_000_000)
    feed(replay)
    rates = replay.rates()
    assert replay.simulation is not None and len(replay.simulation._followed) <= MAX_FOLLOWED
    for factor in (2.0, 4.0):
        assert rates[factor] == pytest.approx(_truth(factor, 3_000_000, feed), abs=0.025)


def test_more_room_does_not_help_values_that_expire() -> None:
    replay = Replay(100_000)
    for number in range(6000):
        replay.look_up(number % 90, ttl=0.5)
    assert replay.rates()[4.0] == pytest.approx(replay.rate, abs=0.02)


@pytest.mark.slow
def test_more_room_helps_values_that_are_evicted() -> None:
    replay = Replay(50_000)
    for number in range(6000):
        replay.look_up(number % 90)
    assert replay.rate < 0.7 and replay.rates()[4.0] > 0.9


@pytest.mark.slow
def test_an_invalidated_value_is_none_in_a_larger_cache_either() -> None:
    replay = Replay(50_000)
    slots = (namespace_slot("n"),)
    for number in range(6000):
        if number % 90 == 0:
            replay.invalidation.namespace("n")
            for entry in replay.store.entries():
                replay.store.remove(entry)
        epoch, versions = replay.invalidation.take(slots)
        replay.look_up(number % 90, epoch=epoch, slots=slots, versions=versions)
    assert replay.rates()[4.0] < 0.05


def test_a_cache_that_is_not_half_full_is_not_simulated() -> None:
    replay = Replay(1_000_000)
    for number in range(2000):
        replay.look_up(number % 90)
    assert replay.rates() == {} and replay.simulation is not None
    assert not replay.simulation._loads and not replay.simulation._followed


def test_values_that_were_removed_are_freed() -> None:
    class Value:
        pass

    values, store = [], Store(10_000, clock=lambda: 0.0, seed=1)
    region, simulation = Region("n"), SizeSimulation(store, Invalidation(), lambda: 0.0)
    for number in range(50):
        value = Value()
        values.append(weakref.ref(value))
        store.add(Entry(region, number, value, size=400, cost=1.0))
        del value
        if number == 25:
            simulation.tick()
    assert sum(reference() is not None for reference in values) == len(store) == 10


def test_outcomes_are_taken_once_and_stay_in_the_totals() -> None:
    replay = Replay(50_000)
    for number in range(1000):
        replay.look_up(number % 90)
    simulation: Any = replay.simulation
    simulation.tick()
    before = simulation.totals
    taken = simulation.take()
    assert set(taken) == {("n", factor) for factor in FACTORS} and simulation.take() == {}
    assert simulation.totals == before == taken
    assert all(one.hits + one.misses > 800 for one in taken.values())


def test_a_dropped_simulation_counts_nothing_of_its_parent() -> None:
    replay = Replay(50_000)
    for number in range(1049):
        replay.look_up(number % 90)
    simulation: Any = replay.simulation
    simulation.drop()
    simulation.tick()
    assert sum(one.misses for one in simulation.take().values()) == 0


@pytest.mark.parametrize(
    ("real", "simulated", "same", "expected"),
    [(0.5, 0.7, 0.55, 0.65), (0.9, 1.0, 0.8, 1.0), (0.1, 0.1, 0.3, 0.0)],
)
def test_the_difference_to_the_present_size_counts(
    real: float, simulated: float, same: float, expected: float
) -> None:
    assert predicted(real, simulated, same) == pytest.approx(expected)


def test_the_advice_is_a_sentence() -> None:
    totals = {("bom", 1.0): Outcome(71, 29), ("bom", 4.0): Outcome(84, 16)}
    (row,) = size_advice(totals, 0.71, 64 * 1024**2)
    assert row["text"] == "At 4 × the room (256 MB): 71\u00a0% → 84\u00a0% of look-ups hit."
    assert size_advice(totals, None, 1) == [] and size_advice({}, 0.5, 1) == []


@pytest.mark.slow
def test_the_public_method_simulates_a_full_cache() -> None:
    optimizer = CacheOptimizer(max_mb=0.2)
    cached = optimizer.cached(lambda key: "x" * 4000)
    for number in range(3000):
        cached(number % 90)
        if number % 50 == 0:
            optimizer.advise()
    rows = {row["factor"]: row["hit_rate"] for row in optimizer.advise()}
    assert rows[4.0] > 0.9 > rows[0.5] and optimizer.advise()[0]["max_mb"] == pytest.approx(0.1)
