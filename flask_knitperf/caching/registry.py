"""Registry of the application's caches, so that the housekeeper can expire and shrink them."""

from __future__ import annotations

import inspect
import itertools
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..core.errors import KnitPerfError
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock
from ..core.printable import printable
from .cache_state import CacheState, attribute, entry_count, method, state
from .shrinkable import Shrinkable

log = logging.getLogger("flask_knitperf")
MAX_LOCK_WAIT_S = 1.0  # a cache whose lock is held longer is skipped until the next tick


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
        self._lock = create_lock()
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
            KnitPerfError: its type has no length, or does not support weak references, such as ``dict``;
                the lock is not a lock, or the name is not a text.
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
        if lock is not None and not _is_lock(lock):
            raise KnitPerfError(
                f"the lock of a {type_name} cannot be a {type(lock).__name__}: it must have acquire() "
                "and release(), or be a context manager, such as threading.create_lock()"
            )
        if name is not None and not isinstance(name, str):
            raise KnitPerfError(
                f"the name of a {type_name} must be a text, not a {type(name).__name__}"
            )
        if lock is None and _is_lock(own := attribute(cache, "lock")):
            lock = own
        name = name or _own_name(cache)
        with self._lock:
            self._registered[self._unused(name, type_name, cache)] = (reference, lock)

    def _unused(self, name: str, type_name: str, cache: Any) -> str:
        """Return a name that no other living cache has: the given one, else it with a number."""
        if not name:
            return f"{type_name} {next(self._numbers)}"
        names = itertools.chain((name,), (f"{name} {number}" for number in itertools.count(2)))
        return next(unused for unused in names if self._is_free(unused, cache))

    def _is_free(self, name: str, cache: Any) -> bool:
        registered = self._registered.get(name)
        other = None if registered is None else registered[0]()
        return other is None or other is cache

    def entry_count(self) -> int:
        """Return the number of entries of all caches."""
        return sum(row.entries or 0 for row in self.statistics())

    def expire(self) -> int:
        """Drop the expired entries of every cache that has a lock; return their number.

        Raises:
            Exception: that of the last failing cache, after all others were processed.
        """
        dropped = self._drop(_expire, self._live())
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
                raise_if_of_host(error)
                failure = error
        if failure is not None:
            raise failure
        return dropped

    def statistics(self) -> list[CacheState]:
        """Return the state of each cache, expired entries included.

        No lock is acquired: a page must not wait for a request that holds it.
        """
        return [state(entry.name, entry.cache, self._entry_count(entry)) for entry in self._live()]

    def _entry_count(self, entry: _Entry) -> int | None:
        """Return the number of entries; ``None`` if the cache raises, which is logged once."""
        try:
            return entry_count(entry.cache)
        except Exception as error:
            raise_if_of_host(error)
            if entry.name not in self._unreadable:
                self._unreadable.add(entry.name)
                log.error(
                    "flask_knitperf: cache %s cannot be read", printable(entry.name), exc_info=error
                )
            return None

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


def _own_name(cache: Any) -> str:
    """Return the name that a cache has itself, empty if it has none."""
    name = attribute(cache, "name")
    return name if isinstance(name, str) else ""


def _expire(cache: Any) -> int:
    if (expire := method(cache, "expire")) is None:
        return 0
    before = entry_count(cache)
    expire()  # its return value depends on the version of cachetools
    return before - entry_count(cache)


def _shrink(cache: Any, kept: float) -> int:
    if isinstance(cache, Shrinkable):
        return cache.shrink(kept)
    before = entry_count(cache)
    _expire(cache)
    if (popitem := method(cache, "popitem")) is None:
        return before - entry_count(cache)
    for _ in range(max(0, entry_count(cache) - int(before * kept))):
        try:
            popitem()
        except KeyError as error:  # the rest was removed meanwhile
            raise_if_of_host(error)
            break
    return before - entry_count(cache)


def _is_lock(lock: Any) -> bool:
    """Return whether a thread can hold an object: classes and locks of event loops cannot be held."""
    kind = type(lock)
    if hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
        return True
    acquire = getattr(kind, "acquire", None)
    return (
        callable(acquire)
        and callable(getattr(kind, "release", None))
        and not inspect.iscoroutinefunction(acquire)
    )


@contextmanager
def _acquired(lock: Any) -> Iterator[bool]:
    """Hold a lock for the block, if it is free in time; a lock without a timeout is waited for."""
    try:
        acquired = lock.acquire(timeout=MAX_LOCK_WAIT_S)
    except (AttributeError, TypeError):  # it is a context manager, or has another kind of timeout
        with lock:
            yield True
        return
    try:
        yield acquired
    finally:
        if acquired:
            lock.release()
