"""Lifetimes follow changes, calls and load times, within the budget of outdated hits."""

from __future__ import annotations

import bisect
import math
import random
from typing import Any

import pytest

from flask_knitperf.caching.ttl_tuning import (
    FIRST_TTL_S,
    FIRST_VERSIONED_TTL_S,
    MAX_KEYS,
    MAX_TTL_S,
    StalePrice,
    TTLTuner,
    share_of,
)


def _tuner(budget: float = 0.05) -> TTLTuner:
    return TTLTuner(StalePrice(lambda: budget))


class _Key:
    """One key under traffic: its requests, its changes, and what the cache does with them."""

    def __init__(self, tuner: TTLTuner, rate: float, change_every: float, cost: float) -> None:
        self.tuner, self.rate, self.change_every, self.cost = tuner, rate, change_every, cost
        self.random = random.Random(1)
        self.now = 0.0
        self.hits = self.stale = self.loads = 0

    def run(self, seconds: float, name: str = "k") -> float:
        """Send requests for some seconds; return the latest lifetime."""
        end, changes = self.now + seconds, [self.now]
        while changes[-1] < end:
            changes.append(changes[-1] + self.random.expovariate(1 / self.change_every))
        now, born, ttl, hits, seen = self.now, None, 0.0, 0, 0
        while now < end:
            now += self.random.expovariate(self.rate)
            version = bisect.bisect(changes, now)
            if born is not None and now < born + ttl:
                hits += 1
                self.hits += 1
                self.stale += version != seen
                continue
            changed = None if born is None else version != seen
            ttl = self.tuner.loaded(name, now, self.cost, changed=changed, hits=hits)
            born, seen, hits = now, version, 0
            self.loads += 1
        self.now = now
        return ttl


def test_a_value_of_which_nothing_is_known_lives_for_a_moment() -> None:
    assert _tuner().loaded("k", 0.0, 1.0) == FIRST_TTL_S
    assert _tuner().loaded("k", 0.0, 1.0, has_versions=True) == FIRST_VERSIONED_TTL_S
    assert _tuner().planned("unknown") == FIRST_TTL_S


def test_the_lifetime_at_most_doubles_the_time_that_a_value_was_seen_unchanged() -> None:
    tuner, now, lifetimes = _tuner(), 0.0, list[float]()
    ttl = tuner.loaded("k", now, 1.0)
    for _ in range(30):
        now += ttl
        ttl = tuner.loaded("k", now, 1.0, changed=False, hits=100)
        assert ttl <= max(FIRST_TTL_S, 2 * now)
        lifetimes.append(ttl)
    assert 1000 < lifetimes[-1] <= MAX_TTL_S


@pytest.mark.slow
@pytest.mark.parametrize("change_every", [60.0, 600.0, 7200.0])
def test_the_share_of_outdated_hits_meets_the_budget(change_every: float) -> None:
    key = _Key(_tuner(), 2.0, change_every, 0.5)
    key.run(change_every * 400)
    assert 0.02 < key.stale / key.hits < 0.06


@pytest.mark.slow
def test_values_that_change_rarely_live_longer() -> None:
    lifetimes = [_Key(_tuner(), 2.0, every, 0.5).run(every * 300) for every in (60, 600, 6000)]
    assert lifetimes[0] * 3 < lifetimes[1] < lifetimes[2] / 3


@pytest.mark.slow
def test_expensive_values_live_longer_than_cheap_ones_that_change_as_often() -> None:
    tuner = _tuner()
    ends = {}
    keys = {name: _Key(tuner, 1.0, 300.0, cost) for name, cost in (("cheap", 0.01), ("dear", 10.0))}
    for _ in range(10):
        for name, key in keys.items():
            ends[name] = key.run(9000, name)
    assert ends["dear"] > 2 * ends["cheap"]


@pytest.mark.slow
def test_a_value_that_begins_to_change_lives_shorter() -> None:
    tuner = _tuner()
    key = _Key(tuner, 1.0, 1e9, 0.5)
    long = key.run(2_000)
    key.change_every = 20.0
    assert key.run(40_000) < long / 20


@pytest.mark.slow
def test_a_smaller_budget_gives_shorter_lifetimes() -> None:
    small, large = (_Key(_tuner(budget), 2.0, 600.0, 0.5) for budget in (0.01, 0.2))
    assert small.run(200_000) * 3 < large.run(200_000)
    assert small.stale / small.hits < 0.02


@pytest.mark.slow
def test_a_budget_of_zero_serves_next_to_nothing_outdated() -> None:
    key = _Key(_tuner(0.0), 2.0, 60.0, 0.5)
    key.run(20_000)
    assert key.stale < 0.03 * (key.hits + key.loads)


def test_a_new_key_begins_with_what_its_function_has_shown() -> None:
    tuner = _tuner()
    for number in range(20):
        _Key(tuner, 1.0, 7200.0, 0.5).run(20_000, f"k{number}")
    now, ttl = 0.0, 0.0
    for step in range(4):
        ttl = tuner.loaded("new", now, 0.5, changed=False if step else None, hits=50)
        now += ttl
    assert ttl > 2 * FIRST_TTL_S


def test_verified_hits_are_checks_too() -> None:
    tuner = _tuner()
    for now in (0.0, 5.0, 15.0):
        tuner.loaded("k", now, 1.0, changed=False if now else None, hits=9)
    for _ in range(10):
        tuner.check("k", 3.0, changed=True)
    rate = tuner.change_rate
    assert rate is not None and rate > 0.3 and (tuner.checks, tuner.changes) == (12, 10)
    tuner.check("unknown", 3.0, changed=True), tuner.check("k", 0.0, changed=True)
    assert tuner.checks == 12


def test_histories_are_bounded_and_the_oldest_are_forgotten() -> None:
    tuner = _tuner()
    for number in range(MAX_KEYS + 100):
        tuner.loaded(number, 1.0, 0.1)
    assert len(tuner) == MAX_KEYS and tuner.digest(0) is None
    tuner.loaded("with", 1.0, 0.1, digest=b"x")
    assert tuner.digest("with") == b"x"


@pytest.mark.parametrize("step", [-100.0, 0.0, 1e12])
def test_a_clock_that_jumps_gives_a_lifetime_within_bounds(step: float) -> None:
    tuner, now = _tuner(), 1000.0
    for number in range(20):
        ttl = tuner.loaded("k", now, 1.0, changed=number % 2 == 0, hits=10)
        assert 0 < ttl <= MAX_TTL_S
        now += step


@pytest.mark.parametrize("cost", [0.0, 1e-9, 1e6])
@pytest.mark.parametrize("change_every", [1e-6, 1e9])
def test_extreme_loads_and_changes_give_a_lifetime_within_bounds(
    cost: float, change_every: float
) -> None:
    ttl = _Key(_tuner(), 100.0, change_every, cost).run(min(200.0, change_every * 1000))
    assert 0 < ttl <= MAX_TTL_S and math.isfinite(ttl)


def test_the_estimated_share_is_that_of_a_simulation() -> None:
    draw = random.Random(3)
    for change_every, ttl in ((100.0, 10.0), (100.0, 300.0), (10.0, 500.0)):
        hits = stale = requests = 0
        for _ in range(400):
            change, now = draw.expovariate(1 / change_every), draw.expovariate(2.0)
            requests += 1
            while now < ttl:
                requests += 1
                hits += 1
                stale += now > change
                now += draw.expovariate(2.0)
        share: Any = share_of(2.0, 1 / change_every, ttl)
        assert share.hits / 2.0 == pytest.approx(hits / requests, abs=0.02)
        assert share.stale / share.hits == pytest.approx(stale / hits, abs=0.03)


@pytest.mark.parametrize("changed", [True, False])
def test_a_price_that_moves_in_one_direction_stays_within_bounds(changed: bool) -> None:
    price = StalePrice(lambda: 0.05)
    tuner = TTLTuner(price)
    now = 0.0
    for number in range(4000):
        now += 1e-6 if changed else 10_000.0
        ttl = tuner.loaded("k", now, 1e-9, changed=changed and number > 1, hits=0)
        assert 0 < ttl <= MAX_TTL_S
    assert price.value is not None and 0 < price.value < math.inf
