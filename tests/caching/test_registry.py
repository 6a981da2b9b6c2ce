"""Registered caches: expired on schedule, only under their lock, and never kept alive."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import cachetools
import pytest

from flask_knitperf import KnitPerf, KnitPerfError
from flask_knitperf.caching.registry import Caches


@pytest.fixture
def expired_cache() -> Any:
    """Return a cache whose only entry has expired, its lock, and its clock."""
    moment = [0.0]
    cache = cachetools.TTLCache(10, ttl=5, timer=lambda: moment[0])
    cache["k"] = "v"
    moment[0] = 20.0
    return cache, threading.Lock(), moment


def is_kept(cache: Any, moment: list[float]) -> bool:
    """Return whether the entry is still stored; the clock goes back to a time before its expiry."""
    moment[0] = 1.0
    return "k" in cache


def test_expired_entries_are_dropped(expired_cache: Any) -> None:
    cache, lock, moment = expired_cache
    caches = Caches()
    caches.register(cache, lock)
    assert (caches.expire(), caches.expired, is_kept(cache, moment)) == (1, 1, False)


def test_a_cache_is_changed_only_while_its_lock_is_held() -> None:
    seen: list[str] = []

    class Lock:
        def __enter__(self) -> None:
            seen.append("acquired")

        def __exit__(self, *_: Any) -> None:
            seen.append("released")

    class Watched:
        def expire(self) -> list[Any]:
            seen.append("expired")
            return [1]

        def __len__(self) -> int:
            return 1

    watched = Watched()
    caches = Caches()
    caches.register(watched, Lock())
    caches.expire()
    assert seen == ["acquired", "expired", "released"]


@pytest.mark.parametrize("operation", ["expire", "statistics"])
def test_a_lock_held_by_a_request_blocks_neither_housekeeper_nor_page(
    expired_cache: Any, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_knitperf.caching.registry.MAX_LOCK_WAIT_S", 0.001)
    cache, lock, moment = expired_cache
    caches = Caches()
    caches.register(cache, lock)
    with lock:
        getattr(caches, operation)()
    assert is_kept(cache, moment) and not lock.locked()


@pytest.mark.parametrize("operation", ["expire", "statistics"])
def test_a_cache_without_a_lock_is_never_changed(expired_cache: Any, operation: str) -> None:
    cache, _, moment = expired_cache
    caches = Caches()
    caches.register(cache)
    getattr(caches, operation)()
    assert is_kept(cache, moment)


def test_a_cache_without_expiry_is_not_changed() -> None:
    cache: Any = cachetools.LRUCache(10)
    cache["k"] = "v"
    caches = Caches()
    caches.register(cache, threading.Lock())
    assert (caches.expire(), cache["k"]) == (0, "v")


def test_registering_keeps_no_cache_alive() -> None:
    cache: Any = cachetools.TTLCache(10, 5)
    caches, gone = Caches(), weakref.ref(cache)
    caches.register(cache, threading.Lock())
    del cache
    gc.collect()
    assert (gone(), caches.expire(), caches.statistics()) == (None, 0, [])


def test_unnamed_caches_have_unique_names_after_others_were_collected() -> None:
    caches = Caches()
    first, second = cachetools.LRUCache(1), cachetools.LRUCache(2)
    caches.register(first)
    caches.register(second)
    del first
    gc.collect()
    caches.statistics()
    third: Any = cachetools.LRUCache(3)
    caches.register(third)
    rows = caches.statistics()
    assert [row.max_size for row in rows] == [2, 3] and len({row.name for row in rows}) == 2
    assert second is not None


def test_a_failing_cache_does_not_keep_others_from_expiring(expired_cache: Any) -> None:
    cache, lock, moment = expired_cache

    class Broken:
        def expire(self) -> None:
            raise RuntimeError("no yarn")

        def __len__(self) -> int:
            return 0

    broken, caches = Broken(), Caches()
    caches.register(broken, threading.Lock(), "broken")
    caches.register(cache, lock, "good")
    with pytest.raises(RuntimeError, match="no yarn"):  # after all others
        caches.expire()
    assert not is_kept(cache, moment)


class CacheManager:
    """A cache of the application's own kind."""

    def get(self, key: str) -> object:
        return None

    def set(self, key: str, value: object) -> None:
        pass


def test_an_object_without_a_length_is_refused_at_once() -> None:
    with pytest.raises(
        KnitPerfError, match="a CacheManager cannot be registered: it has no length"
    ):
        Caches().register(CacheManager())


class Unreadable(cachetools.LRUCache[str, int]):
    """A cache whose figures cannot be read."""

    def statistics(self) -> dict[str, float]:
        raise RuntimeError("the server is away")


def test_a_cache_that_cannot_be_read_is_logged_once_and_hides_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caches = Caches()
    away, orders = Unreadable(9), cachetools.LRUCache[str, int](9)
    orders["a"] = 1
    caches.register(away, name="away")
    caches.register(orders, name="orders")
    assert [state.name for state in caches.statistics()] == ["orders"]
    assert caches.entry_count() == 1
    [record] = caplog.records
    assert "cache away cannot be read" in record.getMessage()


def test_an_object_without_weak_references_is_refused() -> None:
    with pytest.raises(KnitPerfError, match="dict"):
        KnitPerf().register_cache({})


def test_a_cache_can_be_registered_before_init_app(
    make_app: Callable[..., Any],
) -> None:
    perf, cache = KnitPerf(), cachetools.LRUCache(4)
    perf.register_cache(cache, threading.Lock(), "yarn")
    mill = make_app(perf=perf, TESTING=True)
    (row,) = mill.session.documents.memory()["caches"]
    assert (row["name"], row["max_size"]) == ("yarn", 4)


def test_the_housekeeper_expires_registered_caches(
    make_app: Callable[..., Any], expired_cache: Any
) -> None:
    cache, lock, moment = expired_cache
    mill = make_app()
    mill.perf.register_cache(cache, lock)
    mill.get("/")
    all_ran = threading.Event()
    mill.session.recorder.every(0.01, all_ran.set)
    assert all_ran.wait(10)  # by then every job has run once
    mill.session.close()
    assert not is_kept(cache, moment)
