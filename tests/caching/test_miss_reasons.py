"""Reasons of misses, also where the value was removed in between."""

from __future__ import annotations

from flask_knitperf import CacheOptimizer
from flask_knitperf.caching import region as region_module
from flask_knitperf.caching.region import Region
from flask_knitperf.metrics.catalogue import CacheEvent


def figures(cache: CacheOptimizer) -> dict[str, float | None]:
    return {
        name: value for name, value in cache.get_cache_statistics()["total"].items()
        if name in {"hits", "cold", "capacity", "expired", "invalidated", "attainable_rate"} and value
    }  # fmt: skip


def test_a_value_that_was_evicted_is_a_miss_for_want_of_room() -> None:
    cache = CacheOptimizer(max_mb=0.5)
    load = cache.cached(lambda number: [number] * 10_000)
    for number in range(20):
        load(number)
    evicted = cache.get_cache_statistics()["evictions"]
    assert evicted > 5
    before = figures(cache)
    for number in range(20):
        load(number)
    after = figures(cache)
    assert (before["cold"], after["cold"], "capacity" in before) == (20, 20, False)
    assert (after["capacity"] or 0) >= evicted
    hits, capacity = after.get("hits") or 0, after["capacity"] or 0
    assert hits + capacity == 20
    assert after["attainable_rate"] == 0.5


def test_a_value_that_expired_and_was_removed_is_an_expired_miss() -> None:
    cache = CacheOptimizer()
    cache.put("a", 1, ttl=0.001)
    while cache._store.expire() == 0:
        pass
    assert cache.get("a") is None
    assert figures(cache) == {"expired": 1}
    assert cache.get("a") is None  # that it had expired is known once
    assert figures(cache) == {"expired": 1, "cold": 1}


def test_a_reason_is_known_once_and_of_a_bounded_number_of_keys() -> None:
    region = Region("styles")
    for key in range(region_module.MAX_REMOVED + 5):
        region.remember_removed(key, CacheEvent.CAPACITY)
    assert region.count_missing(0) == CacheEvent.CAPACITY
    assert region.count_missing(0) == CacheEvent.COLD
    assert region.count_missing(region_module.MAX_REMOVED + 1) == CacheEvent.COLD
    assert (region.capacity, region.cold) == (1, 2)


def test_a_key_whose_load_read_no_routing_data_keeps_its_reason() -> None:
    region = Region("n")
    region.remember_removed(("a",), CacheEvent.CAPACITY)
    assert region.count_missing((("a",), "routing"), ("a",)) is CacheEvent.CAPACITY
    assert region.count_missing((("a",), "routing"), ("a",)) is CacheEvent.COLD
    assert (region.capacity, region.cold) == (1, 1)
