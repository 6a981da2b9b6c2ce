"""A cache whose values may go as soon as nobody else holds them.

A frame that five requests work on is there once; when the last of them is done it goes, unless it is
among the few used last, which the cache holds itself (its *strong tail*, so that a value survives the
moment between two requests). So memory is bounded by what is in use, not by what was ever asked for.

That a value is gone is told by its weak reference, from whichever thread dropped it, even in the midst
of a collection. So that takes no lock: it leaves the key in a queue, and the next operation clears up.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar, cast

from ..core.errors import KnitPerfError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_MISSING = object()


class _Reference(weakref.ref[Any]):
    """A weak reference that knows its key."""

    __slots__ = ("key",)
    key: Any


class WeakCache(Generic[K, V]):
    """Holds values weakly, and the ones used last strongly. Safe to use from several threads.

    >>> import pandas as pd
    >>> cache = WeakCache(strong=1)
    >>> cache["bom"] = pd.DataFrame({"style": ["12/1A"]})
    >>> len(cache["bom"])
    1

    Args:
        strong: how many values, the ones used last, it keeps from going.
        name: how it is shown.

    Attributes:
        lock: guards it; operations take it by themselves.

    Raises:
        KnitPerfError: ``strong`` is negative.
    """

    def __init__(self, strong: int = 16, name: str | None = None) -> None:
        if strong < 0:
            raise KnitPerfError(f"a cache holds 0 or more values itself, not {strong}")
        self.name = name
        self.lock = threading.RLock()
        self._strong = strong
        self._references: dict[K, _Reference] = {}
        self._tail: OrderedDict[K, V] = OrderedDict()
        self._gone: deque[_Reference] = deque()
        self._loading: dict[K, threading.Lock] = {}
        self._hits = self._misses = self._went = 0

    @property
    def maxsize(self) -> int:
        """How many values it keeps from going; there may be more, which others hold."""
        return self._strong

    def __setitem__(self, key: K, value: V) -> None:
        """Put a value in.

        Raises:
            KnitPerfError: it is of a kind that cannot be held weakly, such as ``str`` or ``dict``.
        """
        try:
            reference = _Reference(value, self._gone.append)
        except TypeError as error:
            raise KnitPerfError(
                f"a value of type {type(value).__name__} cannot be held weakly; a WeakCache is for "
                "DataFrames, arrays and objects of classes"
            ) from error
        reference.key = key
        with self.lock:
            self._clear_up()
            self._references[key] = reference
            self._use(key, value)

    def __getitem__(self, key: K) -> V:
        """Return a value that is there.

        Raises:
            KeyError: it is not, or not any more.
        """
        found = self._find(key)
        if found is _MISSING:
            raise KeyError(key)
        return cast("V", found)

    def get(self, key: K, default: Any = None) -> Any:
        """Return a value, or ``default`` where it is not there (any more)."""
        found = self._find(key)
        return default if found is _MISSING else found

    def get_or_load(self, key: K, load: Callable[[], V]) -> V:
        """Return a value; load it where it is not there. Of several threads that ask at once, one loads.

        Args:
            key: names the value.
            load: makes it; what it raises is passed on, and the next who asks tries again.
        """
        found = self._find(key)
        if found is not _MISSING:
            return cast("V", found)
        with self.lock:
            turn = self._loading.setdefault(key, threading.Lock())
        with turn:
            found = self._find(key, count=False)  # another thread may have been quicker
            if found is _MISSING:
                found = load()
                self[key] = found
        with self.lock:
            self._loading.pop(key, None)
        return cast("V", found)

    def pop(self, key: K, default: Any = None) -> Any:
        """Take a value out and return it, or ``default``."""
        with self.lock:
            self._tail.pop(key, None)
            reference = self._references.pop(key, None)
        found = None if reference is None else reference()
        return default if found is None else found

    def __delitem__(self, key: K) -> None:
        with self.lock:
            if self._references.pop(key, None) is None:
                raise KeyError(key)
            self._tail.pop(key, None)

    def __contains__(self, key: object) -> bool:
        reference = self._references.get(cast("K", key))
        return reference is not None and reference() is not None

    def __len__(self) -> int:
        with self.lock:
            self._clear_up()
            return len(self._references)

    def __iter__(self) -> Iterator[K]:
        with self.lock:
            self._clear_up()
            return iter(list(self._references))

    def clear(self) -> None:
        """Take all values out."""
        with self.lock:
            self._tail.clear()
            self._references.clear()

    def expire(self) -> int:
        """Forget what is gone; return how many values are left."""
        return len(self)

    def shrink(self, kept: float) -> int:
        """Hold fewer values, for memory presses; return how many were let go.

        Args:
            kept: share of the strong tail that stays, 0 to 1, the ones used last.
        """
        with self.lock:
            before = len(self._tail)
            for _ in range(before - int(before * kept)):
                self._tail.popitem(last=False)
            return before - len(self._tail)

    def statistics(self) -> dict[str, Any]:
        """Return ``{hits, misses, hit_rate, entries, strong, gone}`` so far.

        ``hit_rate`` is ``None`` before anybody asked; ``gone`` are values that went because nobody held
        them any more.
        """
        with self.lock:
            self._clear_up()
            asked = self._hits + self._misses
            return {
                "hits": self._hits, "misses": self._misses,
                "hit_rate": self._hits / asked if asked else None,
                "entries": len(self._references), "strong": len(self._tail), "gone": self._went,
            }  # fmt: skip

    def _find(self, key: K, *, count: bool = True) -> Any:
        with self.lock:
            self._clear_up()
            reference = self._references.get(key)
            found = None if reference is None else reference()
            if count:
                self._hits, self._misses = (
                    self._hits + (found is not None), self._misses + (found is None)
                )  # fmt: skip
            if found is None:
                return _MISSING
            self._use(key, found)
            return found

    def _use(self, key: K, value: V) -> None:
        """Have a value be among those used last."""
        tail = self._tail
        tail[key] = value
        tail.move_to_end(key)
        while len(tail) > self._strong:
            tail.popitem(last=False)

    def _clear_up(self) -> None:
        """Forget the keys whose values went; one that has another value since then stays."""
        while self._gone:
            reference = self._gone.popleft()
            if self._references.get(reference.key) is reference:
                del self._references[reference.key]
                self._went += 1
