"""A cache that holds its values weakly: a value is dropped when nothing else references it.

A frame that five requests work on exists once. When the last of them ends it is dropped, unless it is
among the few values used last, which the cache references itself (its *strong tail*, so that a value
survives the moment between two requests). So memory is bounded by what is in use.

The callback of a weak reference runs in whichever thread drops the value, even within a garbage
collection, so it must not take a lock: it puts the reference into a queue, and the next operation
removes the key.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar, cast

from ..core.errors import KnitPerfError
from .shrinkable import Shrinkable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_MISSING = object()


class _Reference(weakref.ref[Any]):
    """Weak reference to a value, with its key."""

    __slots__ = ("key",)
    key: Any


class WeakCache(Shrinkable, Generic[K, V]):
    """Thread-safe cache with weak references to its values, strong ones to those used last.

    >>> import pandas as pd
    >>> cache = WeakCache(strong=1)
    >>> cache["bom"] = pd.DataFrame({"style": ["12/1A"]})
    >>> len(cache["bom"])
    1

    Args:
        strong: number of values, those used last, that are kept although nothing else references them.
        name: its name in the report.

    Attributes:
        lock: guards it; operations acquire it themselves.

    Raises:
        KnitPerfError: ``strong`` is negative.
    """

    def __init__(self, strong: int = 16, name: str | None = None) -> None:
        if strong < 0:
            raise KnitPerfError(f"strong must be 0 or more, not {strong}")
        self.name = name
        self.lock = threading.RLock()
        self._strong = strong
        self._references: dict[K, _Reference] = {}
        self._tail: OrderedDict[K, V] = OrderedDict()
        self._dead: deque[_Reference] = deque()
        self._loading: dict[K, threading.Lock] = {}
        self._hits = self._misses = self._dropped = 0

    @property
    def maxsize(self) -> int:
        """Number of values that are kept; there may be more, which other code references."""
        return self._strong

    def __setitem__(self, key: K, value: V) -> None:
        """Store a value.

        Raises:
            KnitPerfError: its type does not support weak references, such as ``str`` or ``dict``.
        """
        try:
            reference = _Reference(value, self._dead.append)
        except TypeError as error:
            raise KnitPerfError(
                f"a value of type {type(value).__name__} does not support weak references; a "
                "WeakCache is for DataFrames, arrays and instances of classes"
            ) from error
        reference.key = key
        with self.lock:
            self._remove_dead()
            self._references[key] = reference
            self._touch(key, value)

    def __getitem__(self, key: K) -> V:
        """Return a value.

        Raises:
            KeyError: it was never stored, or was dropped.
        """
        value = self._look_up(key)
        if value is _MISSING:
            raise KeyError(key)
        return cast("V", value)

    def get(self, key: K, default: Any = None) -> Any:
        """Return a value, or ``default`` where it was never stored or was dropped."""
        value = self._look_up(key)
        return default if value is _MISSING else value

    def get_or_load(self, key: K, load: Callable[[], V]) -> V:
        """Return a value; load it where it is missing. Of several concurrent calls only one loads.

        Args:
            key: the key.
            load: returns the value. An exception is raised to the caller, and the next call tries again.
        """
        value = self._look_up(key)
        if value is not _MISSING:
            return cast("V", value)
        with self.lock:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            value = self._look_up(key, count=False)  # another thread may have loaded it meanwhile
            if value is _MISSING:
                value = load()
                self[key] = value
        with self.lock:
            self._loading.pop(key, None)
        return cast("V", value)

    def pop(self, key: K, default: Any = None) -> Any:
        """Remove a value and return it, or ``default``."""
        with self.lock:
            self._tail.pop(key, None)
            reference = self._references.pop(key, None)
        value = None if reference is None else reference()
        return default if value is None else value

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
            self._remove_dead()
            return len(self._references)

    def __iter__(self) -> Iterator[K]:
        with self.lock:
            self._remove_dead()
            return iter(list(self._references))

    def clear(self) -> None:
        """Remove all values."""
        with self.lock:
            self._tail.clear()
            self._references.clear()

    def expire(self) -> int:
        """Remove the keys of dropped values; return the number of values that remain."""
        return len(self)

    def shrink(self, kept: float) -> int:
        """Release a part of the strong tail, when memory is short; return the number released.

        Args:
            kept: share of the tail that is kept, 0 to 1, the values used last.
        """
        with self.lock:
            before = len(self._tail)
            for _ in range(before - int(before * kept)):
                self._tail.popitem(last=False)
            return before - len(self._tail)

    def statistics(self) -> dict[str, Any]:
        """Return ``{hits, misses, hit_rate, entries, strong, gone}``.

        ``hit_rate`` is ``None`` before the first look-up; ``gone`` is the number of values that were
        dropped because nothing else referenced them.
        """
        with self.lock:
            self._remove_dead()
            look_ups = self._hits + self._misses
            return {
                "hits": self._hits, "misses": self._misses,
                "hit_rate": self._hits / look_ups if look_ups else None,
                "entries": len(self._references), "strong": len(self._tail), "gone": self._dropped,
            }  # fmt: skip

    def _look_up(self, key: K, *, count: bool = True) -> Any:
        with self.lock:
            self._remove_dead()
            reference = self._references.get(key)
            value = None if reference is None else reference()
            if count:
                self._hits += value is not None
                self._misses += value is None
            if value is None:
                return _MISSING
            self._touch(key, value)
            return value

    def _touch(self, key: K, value: V) -> None:
        """Move a value to the end of the strong tail."""
        tail = self._tail
        tail[key] = value
        tail.move_to_end(key)
        while len(tail) > self._strong:
            tail.popitem(last=False)

    def _remove_dead(self) -> None:
        """Remove the keys of dropped values, except where another value was stored since."""
        while self._dead:
            reference = self._dead.popleft()
            if self._references.get(reference.key) is reference:
                del self._references[reference.key]
                self._dropped += 1
