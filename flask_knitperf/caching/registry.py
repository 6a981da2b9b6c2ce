"""Registry of the application's caches, so that the housekeeper can expire and shrink them."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cachetools

from ..core.errors import KnitPerfError
from ..core.locks import Lock

log = logging.getLogger("flask_knitperf")
MAX_LOCK_WAIT_S = 1.0  # a cache whose lock is held longer is skipped until the next tick


class CacheState(NamedTuple):
    """State of one registered cache.

    Attributes:
        name: as it is shown.
        type: name of its class.
        entries: number of entries.
        size: in the cache's own unit, ``None`` where it has none.
        max_size: upper bound of its size, ``None`` where it has none.
        hit_rate: share of look-ups that hit, ``None`` where it is not counted.
    """

    name: str
    type: str
    entries: int
    size: float | None
    max_size: float | None
    hit_rate: float | None


class _Entry(NamedTuple):
    """A registered cache that is alive, and the lock that guards it."""

    name: str
    cache: Any
    lock: Any


class Caches:
    """Registered caches, held weakly: registration keeps no cache alive.

    Attributes:
        expired: entries that were dropped because they had expired.
    """

    def __init__(self) -> None:
        self._registered: dict[str, tuple[weakref.ref[Any], Any]] = {}
        self._numbers = itertools.count(1)
        self._lock = Lock()
        self._unreadable: set[str] = set()  # names of caches whose failure was logged
        self.expired = 0

    def register(self, cache: Any, lock: Any = None, name: str | None = None) -> None:
        """Register any cachetools cache.

        Args:
            cache: a cache; if it has ``expire()`` (TTLCache, TLRUCache) it is called on schedule.
            lock: the lock that guards it, if it is shared between threads. Without one a cache
                is only counted, never changed: expiring it while a request uses it is unsafe.
            name: its name in the report.

        Raises:
            KnitPerfError: its type has no length, or does not support weak references, such as ``dict``.
        """
        type_name = type(cache).__name__
        if not hasattr(type(cache), "__len__"):
            raise KnitPerfError(
                f"a {type_name} cannot be registered: it has no length (__len__); "
                "register the cache that it holds"
            )
        try:
            reference = weakref.ref(cache)
        except TypeError as error:
            raise KnitPerfError(
                f"a {type_name} cannot be registered: it does not support weak references; "
                "use a cachetools cache"
            ) from error
        with self._lock:
            lock = getattr(cache, "lock", None) if lock is None else lock
            name = name or getattr(cache, "name", None)
            self._registered[name or f"{type_name} {next(self._numbers)}"] = (reference, lock)

    def entry_count(self) -> int:
        """Return the number of entries of all caches."""
        return sum(state.entries for state in self.statistics())

    def expire(self) -> int:
        """Drop the expired entries of every cache that has a lock; return their number.

        Raises:
            Exception: that of the last failing cache, after all others were processed.
        """
        dropped = self._drop(
            _expire, [entry for entry in self._live() if hasattr(entry.cache, "expire")]
        )
        self.expired += dropped
        return dropped

    def shrink(self, kept: float) -> int:
        """Shrink every cache that has a lock to a share of its entries; return the number dropped.

        Expired entries go first, then those that the cache itself would evict next.

        Args:
            kept: 0 to 1.

        Raises:
            Exception: that of the last failing cache, after all others were processed.
        """
        return self._drop(lambda cache: _shrink(cache, kept), self._live())

    def _drop(self, drop: Callable[[Any], int], entries: list[_Entry]) -> int:
        """Call ``drop`` for each cache under its lock; return the sum."""
        dropped, failure = 0, None
        for entry in entries:
            if entry.lock is None:
                continue
            try:
                with _acquired(entry.lock) as acquired:
                    if acquired:
                        dropped += drop(entry.cache)
            except Exception as error:
                failure = error
        if failure is not None:
            raise failure
        return dropped

    def statistics(self) -> list[CacheState]:
        """Return the state of each cache that can be read, expired entries included.

        No lock is acquired: a page must not wait for a request that holds it.
        """
        rows = []
        for entry in self._live():
            try:
                rows.append(_state(entry))
            except Exception as error:
                if entry.name not in self._unreadable:
                    self._unreadable.add(entry.name)
                    log.error("flask_knitperf: cache %s cannot be read", entry.name, exc_info=error)
        return rows

    def _live(self) -> list[_Entry]:
        with self._lock:
            entries = [
                _Entry(name, reference(), lock)
                for name, (reference, lock) in self._registered.items()
            ]
            for entry in entries:
                if entry.cache is None:
                    del self._registered[entry.name]
        return [entry for entry in entries if entry.cache is not None]


def _state(entry: _Entry) -> CacheState:
    count, size = _measure(entry.cache)
    kind, maximum = type(entry.cache).__name__, getattr(entry.cache, "maxsize", None)
    return CacheState(entry.name, kind, count, size, maximum, _hit_rate(entry.cache))


def _expire(cache: Any) -> int:
    before = _measure(cache)[0]
    cache.expire()  # its return value depends on the version of cachetools
    return before - _measure(cache)[0]


def _shrink(cache: Any, kept: float) -> int:
    if hasattr(cache, "shrink"):
        return int(cache.shrink(kept))
    before = _measure(cache)[0]
    if hasattr(cache, "expire"):
        cache.expire()
    for _ in range(max(0, _measure(cache)[0] - int(before * kept))):
        try:
            cache.popitem()
        except KeyError:  # the rest was removed meanwhile
            break
    return before - _measure(cache)[0]


@contextmanager
def _acquired(lock: Any) -> Iterator[bool]:
    """Hold a lock for the block, if it is free in time; a lock without a timeout is waited for."""
    acquire = getattr(lock, "acquire", None)
    if acquire is None:
        with lock:
            yield True
        return
    acquired = acquire(timeout=MAX_LOCK_WAIT_S)
    try:
        yield acquired
    finally:
        if acquired:
            lock.release()


def _hit_rate(cache: Any) -> float | None:
    """Return the share of look-ups that hit, where a cache counts them."""
    statistics = getattr(cache, "statistics", None)
    rate = statistics()["hit_rate"] if callable(statistics) else None
    return None if rate is None else round(float(rate), 4)


def _measure(cache: Any) -> tuple[int, float | None]:
    """Return entries and size. ``len`` of a timed cache expires it, so its base class is called."""
    if isinstance(cache, cachetools.Cache):
        return cachetools.Cache.__len__(cache), cachetools.Cache.currsize.__get__(cache)
    return len(cache), None
