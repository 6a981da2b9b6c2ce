"""Registered caches: expired on schedule, only under their lock, and never kept alive."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import cachetools
import numpy as np
import pytest

from flask_knitperf import KnitPerf, KnitPerfError
from flask_knitperf.caching.registry import Caches

from ..web.clients import BEARER, TOKEN


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


class Away(dict[str, int]):
    """A cache on a server that does not answer."""

    def __len__(self) -> int:
        raise RuntimeError("the server is away")


def test_a_cache_that_cannot_be_read_is_shown_without_figures_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caches = Caches()
    away, orders = Away(), cachetools.LRUCache[str, int](9)
    orders["a"] = 1
    caches.register(away, name="away")
    caches.register(orders, name="orders")
    assert [(row.name, row.entries) for row in caches.statistics()] == [
        ("away", None),
        ("orders", 1),
    ]
    assert caches.entry_count() == 1
    [record] = caplog.records
    assert "cache away cannot be read" in record.getMessage()


def raising(*names: str) -> Any:
    """Return a cache of which some attributes raise."""

    def fail(self: object) -> None:
        raise RuntimeError("no yarn")

    return type("Raising", (dict,), dict.fromkeys(names, property(fail)))()


def offering(**attributes: Any) -> Any:
    """Return a cache with attributes of any kind."""
    return type("Offering", (dict,), attributes)()


class Disguised:
    """An object that does not reveal its class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        pass

    def __len__(self) -> int:
        return 1


ODD_CACHES = {
    "an infinite bound": offering(maxsize=float("inf")),
    "a bound that is not a number": offering(maxsize=float("nan")),
    "a bound beyond all numbers": offering(maxsize=10**400),
    "a bound of numpy": offering(maxsize=np.int64(4)),
    "a bound in words": offering(maxsize="ten"),
    "a method for a bound": offering(maxsize=lambda self: 3),
    "an object for a bound": offering(maxsize=object()),
    "statistics with an argument": offering(statistics=lambda self, key: {}),
    "statistics without a hit rate": offering(statistics=lambda self: {}),
    "statistics in per cent": offering(statistics=lambda self: {"hit_rate": 93.5}),
    "attributes that raise": raising("maxsize", "statistics", "lock", "name", "expire", "popitem"),
    "a hidden class": Disguised(),
    "a mock": MagicMock(),
    "a bound method for a lock": offering(lock=lambda self, name: None, name=lambda self: "x"),
    "an expire of one key": offering(expire=lambda self, key, seconds: None),
    "no constructor": cachetools.LRUCache.__new__(cachetools.LRUCache),
}


@pytest.mark.parametrize("kind", ODD_CACHES)
def test_an_odd_cache_is_shown_by_what_it_offers(make_app: Callable[..., Any], kind: str) -> None:
    cache = ODD_CACHES[kind]
    mill = make_app(TESTING=True, KNITPERF_ACCESS_TOKEN=TOKEN, PROPAGATE_EXCEPTIONS=False)
    mill.perf.register_cache(cache, threading.Lock())
    for accept in ("text/html", "application/json"):
        assert mill.get("/perf/memory", HTTP_ACCEPT=accept, **BEARER).code == 200
    document = mill.perf.memory.get_memory_report()
    (row,) = json.loads(json.dumps(document, allow_nan=False))["caches"]
    assert row["hit_rate"] is None
    assert row["max_size"] in (None, 4)


@pytest.mark.parametrize("operation", ["expire", "shrink"])
def test_what_a_cache_does_not_offer_is_not_called(operation: str) -> None:
    cache = offering(expire=lambda self, key: 1 / 0, shrink=lambda self, n: 1 / 0, popitem=None)
    cache["a"] = 1
    caches = Caches()
    caches.register(cache, threading.Lock())
    assert (caches.expire() if operation == "expire" else caches.shrink(0.0)) == 0
    assert cache == {"a": 1}


def test_a_coroutine_is_not_called() -> None:
    async def expire(self: object) -> None:
        pass

    caches, cache = Caches(), offering(expire=expire)
    caches.register(cache, threading.Lock())
    assert caches.expire() == 0


class WithoutTimeout:
    """A lock whose ``acquire`` has no timeout."""

    def __init__(self) -> None:
        self.inner = threading.Lock()

    def acquire(self) -> bool:
        return self.inner.acquire()

    def release(self) -> None:
        self.inner.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_a_lock_without_a_timeout_is_waited_for(expired_cache: Any) -> None:
    cache, _, moment = expired_cache
    caches, lock = Caches(), WithoutTimeout()
    caches.register(cache, lock)
    assert caches.expire() == 1
    assert not lock.inner.locked()
    assert not is_kept(cache, moment)


@pytest.mark.parametrize("lock", [3, threading.Lock, threading.RLock, asyncio.Lock(), "lock"])
def test_what_no_thread_can_hold_is_refused_as_a_lock(lock: Any) -> None:
    with pytest.raises(KnitPerfError, match=f"cannot be a {type(lock).__name__}"):
        Caches().register(cachetools.LRUCache(3), lock)


@pytest.mark.parametrize("name", [b"prices", 3, ["prices"]])
def test_a_name_that_is_not_a_text_is_refused(name: Any) -> None:
    with pytest.raises(KnitPerfError, match=f"must be a text, not a {type(name).__name__}"):
        Caches().register(cachetools.LRUCache(3), name=name)


def test_two_caches_of_one_name_are_both_registered() -> None:
    caches, (prices, others) = Caches(), (cachetools.LRUCache(3), cachetools.LRUCache(4))
    for cache in (prices, others, prices):  # the last one is registered already
        caches.register(cache, name="prices")
    assert [(row.name, row.max_size) for row in caches.statistics()] == [
        ("prices", 3),
        ("prices 2", 4),
    ]
    del prices, cache
    third = cachetools.LRUCache(5)
    caches.register(third, name="prices")
    assert [(row.name, row.max_size) for row in caches.statistics()] == [
        ("prices", 5),
        ("prices 2", 4),
    ]


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
