"""A cache counts the time that it takes itself."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from flask_knitperf.analysis.caches import MIN_LOOKUPS, CacheUse


def test_plain_keys_and_immutable_values_cost_nothing_that_is_counted_per_hit(cache: Any) -> None:
    cached = cache.cached(lambda key: (key, 1.5))
    cached("a")
    before = cache.counts(cached)["overhead_seconds"]
    for _ in range(1000):
        cached("a")
    assert cache.counts(cached)["overhead_seconds"] == before


def test_keys_by_content_count_with_each_call(cache: Any) -> None:
    cached = cache.cached(lambda array: 1)
    array = np.arange(200_000.0)
    cached(array)
    first = cache.counts(cached)["overhead_seconds"]
    began = time.perf_counter()
    for _ in range(5):
        cached(array)
    took = time.perf_counter() - began
    assert 0 < cache.counts(cached)["overhead_seconds"] - first <= took


def test_copies_count_with_each_hit_also_once_the_value_is_gone(cache: Any) -> None:
    cached = cache.cached(lambda: [{"a": number} for number in range(20_000)], ttl=60.0)
    cached()
    first = cache.counts(cached)["overhead_seconds"]
    for _ in range(4):
        cached()
    entries = list(cached.cache.region.entries.values())
    expected = first + 4 * entries[0].hit_cost
    assert entries[0].hit_cost > 0
    assert cache.counts(cached)["overhead_seconds"] == pytest.approx(expected)
    cache.store.clear()
    assert cache.counts(cached)["overhead_seconds"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("hits", "saved_s", "overhead_s", "costs_more"),
    [
        (MIN_LOOKUPS, 1.0, 1.5, "its keys and copies took 1.5\u00a0s, and its hits saved 1.0\u00a0s"),
        (MIN_LOOKUPS, 1.0, 1.0, ""), (MIN_LOOKUPS - 1, 1.0, 1.5, ""), (MIN_LOOKUPS, None, 1.5, ""),
        (0, 0.0, 1.5, ""),
    ],
)  # fmt: skip
def test_a_namespace_costs_more_than_it_saves_where_that_was_measured(
    hits: int, saved_s: float | None, overhead_s: float, costs_more: str
) -> None:
    assert CacheUse("n", hits, saved_s, 1.0, overhead_s=overhead_s).costs_more == costs_more
