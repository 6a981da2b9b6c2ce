"""The cache that drops values which nothing else references."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pandas as pd
import pytest

from flask_knitperf import KnitPerf, KnitPerfError, WeakCache
from flask_knitperf.api.memory import MemoryOptimizer


class Value:
    """An object that supports weak references."""


def test_a_referenced_value_is_returned() -> None:
    cache: WeakCache[str, Value] = WeakCache(strong=0)
    value = cache["a"] = Value()
    assert cache["a"] is value
    assert cache.get("a") is value


def test_an_unreferenced_value_is_dropped_at_once() -> None:
    cache: WeakCache[str, Value] = WeakCache(strong=0)
    cache["a"] = Value()
    assert "a" not in cache
    assert len(cache) == 0
    assert cache.statistics()["gone"] == 1


def test_values_used_last_are_kept_without_other_references() -> None:
    cache: WeakCache[int, Value] = WeakCache(strong=2)
    for number in range(5):
        cache[number] = Value()
    assert list(cache) == [3, 4]


def test_a_look_up_counts_as_a_use() -> None:
    cache: WeakCache[int, Value] = WeakCache(strong=2)
    cache[1], cache[2] = Value(), Value()
    assert 1 in cache
    cache.get(1)
    cache[3] = Value()
    assert list(cache) == [1, 3]


def test_frames_are_dropped_and_returned_like_other_values() -> None:
    cache: WeakCache[str, pd.DataFrame] = WeakCache(strong=0)
    frame = pd.DataFrame({"pounds": [1.5, 2.5]})
    cache["bom"] = frame
    assert cache["bom"] is frame
    del frame
    gc.collect()
    assert cache.get("bom") is None


def test_a_value_in_a_reference_cycle_is_dropped_by_a_collection() -> None:
    cache: WeakCache[str, Any] = WeakCache(strong=0)
    value: Any = Value()
    value.me = value
    cache["a"] = value
    del value
    assert "a" in cache
    gc.collect()
    assert "a" not in cache


@pytest.mark.parametrize("value", [1, "text", {"a": 1}, [1], (1,), None])
def test_a_value_without_weak_references_is_refused(value: Any) -> None:
    with pytest.raises(
        KnitPerfError, match=f"type {type(value).__name__} does not support weak references"
    ):
        WeakCache()["a"] = value


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(KeyError):
        WeakCache()["a"]
    with pytest.raises(KeyError):
        del WeakCache()["a"]


def test_a_negative_strong_tail_is_refused() -> None:
    with pytest.raises(KnitPerfError, match="0 or more"):
        WeakCache(strong=-1)


def test_a_new_value_under_the_key_of_a_dropped_one_stays() -> None:
    cache: WeakCache[str, Value] = WeakCache(strong=0)
    cache["a"] = Value()  # dropped at once; its key waits in the queue
    value = cache["a"] = Value()
    assert len(cache) == 1
    assert cache["a"] is value


def test_values_are_removed_by_pop_del_and_clear() -> None:
    cache: WeakCache[str, Value] = WeakCache()
    value = cache["a"] = Value()
    assert cache.pop("a") is value
    assert cache.pop("a", "nothing") == "nothing"
    cache["b"] = value
    del cache["b"]
    cache["c"] = value
    cache.clear()
    assert list(cache) == []


def test_look_ups_are_counted() -> None:
    cache: WeakCache[str, Value] = WeakCache()
    assert cache.statistics()["hit_rate"] is None
    value = cache["a"] = Value()
    for key in ("a", "a", "a", "b"):
        cache.get(key)
    assert cache["a"] is value
    assert cache.statistics() == {
        "hits": 4, "misses": 1, "hit_rate": 0.8, "entries": 1, "strong": 1, "gone": 0,
    }  # fmt: skip


def test_shrink_releases_the_least_recently_used_values() -> None:
    cache: WeakCache[int, Value] = WeakCache(strong=4)
    for number in range(4):
        cache[number] = Value()
    assert cache.shrink(0.5) == 2
    assert list(cache) == [2, 3]
    assert cache.shrink(0.0) == 2
    assert cache.expire() == 0


def test_concurrent_calls_load_a_missing_value_once() -> None:
    cache: WeakCache[str, Value] = WeakCache()
    loads, gate, values = [], threading.Barrier(8), []

    def load() -> Value:
        loads.append(1)
        return Value()

    def look_up() -> None:
        gate.wait()
        values.append(cache.get_or_load("a", load))

    threads = [threading.Thread(target=look_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(value) for value in values}) == 1


def test_a_failed_load_is_retried_by_the_next_call() -> None:
    cache: WeakCache[str, Value] = WeakCache()

    def fail() -> Value:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        cache.get_or_load("a", fail)
    assert isinstance(cache.get_or_load("a", Value), Value)


def test_concurrent_stores_leave_no_dead_keys() -> None:
    cache: WeakCache[int, Value] = WeakCache(strong=3)

    def churn(seed: int) -> None:
        for number in range(3_000):
            cache[(seed * number) % 40] = Value()
            cache.get(number % 40)

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) <= 3
    assert cache.statistics()["strong"] <= 3


def test_a_cache_of_the_memory_optimizer_is_registered(make_app: Any) -> None:
    perf = KnitPerf()
    mill = make_app(perf=perf)
    cache = perf.memory.weak_cache("frames of orders", strong=2)
    cache["a"] = Value()
    cache.get("a")
    (row,) = mill.session.documents.memory()["caches"]
    assert (row["name"], row["type"], row["entries"]) == ("frames of orders", "WeakCache", 1)
    assert (row["max_size"], row["hit_rate"]) == (2, 1.0)


def test_the_memory_optimizer_creates_caches_without_an_application() -> None:
    cache = MemoryOptimizer().weak_cache("alone")
    value = cache["a"] = Value()
    assert cache["a"] is value
