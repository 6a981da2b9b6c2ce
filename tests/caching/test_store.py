"""The store: bounded in bytes, and the entry that saves least load time per byte goes first."""

from __future__ import annotations

import math
import random
import threading
from typing import Any

import pytest

from flask_knitperf.caching.region import OVERHEAD_BYTES, Entry, Region
from flask_knitperf.caching.registry import Caches
from flask_knitperf.caching.store import Store
from flask_knitperf.core.errors import KnitPerfError

SIZE = 1000


class Shelf:
    """A store with a clock that the test moves, and one region."""

    def __init__(self, count: int) -> None:
        self.now = 0.0
        self.store = Store(count * SIZE, clock=lambda: self.now, seed=7)
        self.region = Region("n")

    def add(self, key: Any, *, size: int = SIZE, cost: float = 1.0, **more: Any) -> Entry:
        self.now += 1
        entry = Entry(self.region, key, key, size=size - OVERHEAD_BYTES, cost=cost, **more)
        self.store.add(entry)
        return entry

    def use(self, key: Any, times: int = 1) -> None:
        self.region.entries[key].uses += times

    @property
    def keys(self) -> set[Any]:
        return set(self.region.entries)


def test_it_stays_within_its_bytes() -> None:
    shelf, numbers = Shelf(20), random.Random(3)
    for key in range(2000):
        shelf.add(key % 300, size=numbers.randrange(OVERHEAD_BYTES, 5 * SIZE))
        entries = shelf.store.entries()
        assert shelf.store.currsize == sum(entry.size for entry in entries) <= 20 * SIZE
        assert {entry.key for entry in entries} == shelf.keys and len(shelf.store) == len(entries)
        assert [entry.place for entry in entries] == list(range(len(entries)))


def test_the_least_used_entry_goes_first() -> None:
    shelf = Shelf(3)
    for key in "abc":
        shelf.add(key)
    shelf.use("a"), shelf.use("c", 2)
    shelf.add("d")
    assert shelf.keys == {"a", "c", "d"} and shelf.store.evicted == 1


def test_an_expensive_or_small_entry_outlives_a_cheap_or_large_one() -> None:
    shelf = Shelf(4)
    shelf.add("expensive", cost=9.0), shelf.add("cheap", cost=0.1), shelf.add("small")
    shelf.add("other"), shelf.add("more")
    assert "cheap" not in shelf.keys
    shelf = Shelf(4)
    shelf.add("large", size=2 * SIZE), shelf.add("small"), shelf.add("another"), shelf.add("more")
    assert "large" not in shelf.keys


def test_old_uses_count_less_than_new_ones() -> None:
    shelf = Shelf(50)
    for key in range(50):
        shelf.add(key)
    shelf.use(0, 5)
    for key in range(1000, 9000):
        shelf.add(key)
        if key > 8900:
            shelf.use(key, 3)
    assert 0 not in shelf.keys


def test_an_evicted_key_that_returns_has_its_rate() -> None:
    shelf = Shelf(2)
    shelf.add("a"), shelf.add("b")
    shelf.use("a", 3), shelf.use("b", 9)
    shelf.add("c")
    assert shelf.keys == {"b", "c"}
    assert shelf.add("a").rate > 2.5
    assert shelf.add("new").rate == 1.0


def test_rates_of_evicted_keys_are_bounded() -> None:
    shelf = Shelf(10)
    for key in range(5000):
        shelf.add(key)
    assert len(shelf.store._ghosts) <= 100


def test_an_entry_replaces_the_one_with_its_key_and_keeps_its_rate() -> None:
    shelf = Shelf(5)
    first = shelf.add("a")
    shelf.use("a", 4)
    second = shelf.add("a")
    assert first not in shelf.store and second in shelf.store and len(shelf.store) == 1
    assert second.rate > 4 and "a" not in shelf.store
    assert not shelf.store.remove(first)


def test_an_entry_that_is_larger_than_all_is_refused() -> None:
    shelf = Shelf(2)
    shelf.add("a")
    assert not shelf.store.add(Entry(shelf.region, "b", 1, size=9 * SIZE))
    assert shelf.keys == {"a"}


def test_it_is_shrunk_by_bytes_and_popped_like_other_caches() -> None:
    shelf = Shelf(10)
    for key in range(10):
        shelf.add(key)
        shelf.use(key, key)
    assert shelf.store.popitem() == (0, 0)
    assert shelf.store.shrink(0.5) == 5 and shelf.keys == {6, 7, 8, 9}
    shelf.store.maxsize = 2 * SIZE
    assert shelf.keys == {8, 9} and shelf.store.maxsize == 2 * SIZE
    assert shelf.store.shrink(0) == 2 and shelf.store.currsize == 0
    with pytest.raises(KeyError):
        shelf.store.popitem()
    with pytest.raises(KnitPerfError, match=r"maxsize.*-1"):
        shelf.store.maxsize = -1


def test_expired_entries_are_removed_on_request() -> None:
    shelf = Shelf(5)
    shelf.add("a", expires=10.0), shelf.add("b", expires=math.inf)
    shelf.now = 9.9
    assert shelf.store.expire() == 0
    shelf.now = 10.0
    assert shelf.store.expire() == 1 and shelf.keys == {"b"}


def test_the_registry_expires_and_shrinks_it_as_it_does_others() -> None:
    shelf, caches = Shelf(4), Caches()
    caches.register(shelf.store, name="function results")
    for key in range(4):
        shelf.add(key, expires=100.0 if key else 5.0)
    shelf.now = 50.0
    assert caches.expire() == 1
    (state,) = caches.statistics()
    assert (state.name, state.entries, state.size, state.max_size) == (
        "function results", 3, 3 * SIZE, 4 * SIZE,
    )  # fmt: skip
    assert caches.shrink(0.5) == 2


def test_worth_is_rate_by_seconds_per_byte() -> None:
    shelf = Shelf(5)
    entry = shelf.add("a", cost=3.0)
    shelf.use("a", 4)
    assert shelf.store.worth(entry) == pytest.approx(5 * 3.0 / SIZE)


def test_threads_leave_it_consistent() -> None:
    shelf = Shelf(50)

    def work(seed: int) -> None:
        numbers = random.Random(seed)
        for _ in range(400):
            key = numbers.randrange(200)
            if numbers.random() < 0.1:
                entry = shelf.region.entries.get(key)
                if entry is not None:
                    shelf.store.remove(entry)
            else:
                shelf.add(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = shelf.store.entries()
    assert shelf.store.currsize == sum(entry.size for entry in entries) <= 50 * SIZE
    assert {entry.key for entry in entries} == shelf.keys
