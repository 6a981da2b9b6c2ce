"""Caches that the application registered, so that the housekeeper can expire what is old."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Any

from ..core.locks import Lock


class Caches:
    """Registered caches, held weakly: registering keeps no cache alive."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[weakref.ref[Any], Any]] = {}
        self._turn = Lock()
        self.expired = 0

    def register(self, cache: Any, lock: Any = None, name: str | None = None) -> None:
        """Register any cachetools cache.

        Args:
            cache: a mapping; if it has ``expire()`` (TTLCache, TLRUCache) it is called on schedule.
            lock: the lock that guards it, if it is shared between threads. Without one a cache
                is only counted, never changed: expiring it beside a running request is unsafe.
            name: how to show it.
        """
        with self._turn:
            called = name or f"{type(cache).__name__} {len(self._known) + 1}"
            self._known[called] = (weakref.ref(cache), lock)

    def _live(self) -> list[tuple[str, Any, Any]]:
        with self._turn:
            found = [(name, ref(), lock) for name, (ref, lock) in self._known.items()]
            for name, cache, _ in found:
                if cache is None:
                    del self._known[name]
        return [row for row in found if row[1] is not None]

    def expire(self) -> int:
        """Drop what is past its time in every cache that has a lock; return how many entries."""
        dropped = 0
        for _, cache, lock in self._live():
            if lock is None or not hasattr(cache, "expire"):
                continue
            with lock:
                gone = cache.expire()
            dropped += len(gone or ())
        self.expired += dropped
        return dropped

    def statistics(self) -> list[dict[str, Any]]:
        """Return name, type, entries and size of each."""
        rows = []
        for name, cache, lock in self._live():
            with lock or nullcontext():
                rows.append(
                    {
                        "name": name,
                        "type": type(cache).__name__,
                        "entries": cache.__len__(),
                        "size": getattr(cache, "currsize", None),
                        "max_size": getattr(cache, "maxsize", None),
                    }
                )
        return rows
