"""Caches that the application registered, so that the housekeeper can expire what is old."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cachetools

from ..core.errors import KnitPerfError
from ..core.locks import Lock

_PATIENCE = 1.0
"""Seconds to wait for a cache's lock; who holds it longer is passed over until the next turn."""


class Caches:
    """Registered caches, held weakly: registering keeps no cache alive."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[weakref.ref[Any], Any]] = {}
        self._numbers = itertools.count(1)
        self._turn = Lock()
        self.expired = 0

    def register(self, cache: Any, lock: Any = None, name: str | None = None) -> None:
        """Register any cachetools cache.

        Args:
            cache: a cache; if it has ``expire()`` (TTLCache, TLRUCache) it is called on schedule.
            lock: the lock that guards it, if it is shared between threads. Without one a cache
                is only counted, never changed: expiring it beside a running request is unsafe.
            name: how to show it.

        Raises:
            KnitPerfError: it is of a kind that cannot be held weakly, such as ``dict``.
        """
        kind = type(cache).__name__
        try:
            held = weakref.ref(cache)
        except TypeError as error:
            raise KnitPerfError(
                f"a {kind} cannot be registered: it cannot be held weakly; use a cachetools cache"
            ) from error
        with self._turn:
            lock = getattr(cache, "lock", None) if lock is None else lock
            name = name or getattr(cache, "name", None)
            self._known[name or f"{kind} {next(self._numbers)}"] = (held, lock)

    def _live(self) -> list[tuple[str, Any, Any]]:
        with self._turn:
            found = [(name, ref(), lock) for name, (ref, lock) in self._known.items()]
            for name, cache, _ in found:
                if cache is None:
                    del self._known[name]
        return [row for row in found if row[1] is not None]

    def expire(self) -> int:
        """Drop what is past its time in every cache that has a lock; return how many entries.

        Raises:
            Exception: what the last failing cache raised, once all others had their turn.
        """
        dropped, failure = 0, None
        for _, cache, lock in self._live():
            if lock is None or not hasattr(cache, "expire"):
                continue
            try:
                with _held(lock) as got:
                    if got:  # what expire() returns, if anything, depends on the version
                        before = _measure(cache)[0]
                        cache.expire()
                        dropped += before - _measure(cache)[0]
            except Exception as error:
                failure = error
        self.expired += dropped
        if failure is not None:
            raise failure
        return dropped

    def shrink(self, kept: float) -> int:
        """Have every cache that has a lock keep a share of its entries; return how many went.

        What is past its time goes first, then what the cache itself would give up next.

        Args:
            kept: 0 to 1.

        Raises:
            Exception: what the last failing cache raised, once all others had their turn.
        """
        dropped, failure = 0, None
        for _, cache, lock in self._live():
            if lock is None:
                continue
            try:
                with _held(lock) as got:
                    if got:
                        dropped += _shrunk(cache, kept)
            except Exception as error:
                failure = error
        if failure is not None:
            raise failure
        return dropped

    def statistics(self) -> list[dict[str, Any]]:
        """Return name, type, entries and size of each, those past their time included.

        Takes no lock: the page must come even while a request holds it.
        """
        rows = []
        for name, cache, _ in self._live():
            entries, size = _measure(cache)
            rows.append({
                "name": name, "type": type(cache).__name__, "entries": entries, "size": size,
                "max_size": getattr(cache, "maxsize", None),
                "hit_rate": _hit_rate(cache),
            })  # fmt: skip
        return rows


def _shrunk(cache: Any, kept: float) -> int:
    """Shrink one cache; return how many entries went."""
    if hasattr(cache, "shrink"):
        return int(cache.shrink(kept))
    before = _measure(cache)[0]
    if hasattr(cache, "expire"):
        cache.expire()
    for _ in range(max(0, _measure(cache)[0] - int(before * kept))):
        try:
            cache.popitem()
        except KeyError:  # the rest went meanwhile
            break
    return before - _measure(cache)[0]


@contextmanager
def _held(lock: Any) -> Iterator[bool]:
    """Hold a cache's lock, if it can be had in time; of other than the usual kinds, in any time."""
    acquire = getattr(lock, "acquire", None)
    if acquire is None:
        with lock:
            yield True
        return
    got = acquire(timeout=_PATIENCE)
    try:
        yield got
    finally:
        if got:
            lock.release()


def _hit_rate(cache: Any) -> float | None:
    """Return the share of look-ups that hit, where a cache counts them."""
    told = getattr(cache, "statistics", None)
    found = told()["hit_rate"] if callable(told) else None
    return None if found is None else round(float(found), 4)


def _measure(cache: Any) -> tuple[int, float | None]:
    """Return entries and size; asking a timed cache itself would expire it, so its base is asked."""
    if isinstance(cache, cachetools.Cache):
        return cachetools.Cache.__len__(cache), cachetools.Cache.currsize.__get__(cache)
    return len(cache), None
