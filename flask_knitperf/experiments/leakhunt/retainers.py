"""Growth of containers and types between requests, as candidates for what retains memory.

An allocation site names the line that allocates. The memory is retained by something else: a list of a
module, a cache, a closure, a context variable. :mod:`.retaining_path` connects the two.
"""

from __future__ import annotations

import collections
import functools
import gc
import itertools
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cachetools

from .growth import estimate_growth
from .referents import referents

MIN_ITEMS_PER_REQUEST = 0.4
"""Items (or objects of a type) per request below which a container (or type) does not grow."""
LRU_CACHE = type(functools.lru_cache(int))
"""Type of functions decorated with ``functools.lru_cache``."""
_CONTAINERS = (list, dict, set, collections.deque)
_OWN_TYPES = ("flask_knitperf.experiments.", "flask_knitperf.collectors.memory.")
_MAX_REFERENTS = 100_000
"""References above which objects that the collector does not track are not counted."""
_NEWEST_ITEMS = 100
"""Items at the end of a container whose types are counted."""


@dataclass(frozen=True, slots=True)
class Retainer:
    """Named object that retains the growing memory.

    Attributes:
        path: the retaining path, from the GC root to the growing container or object.
        items: number of items now, ``None`` if it is not a container.
        items_per_request: growth, ``None`` if it is not a container.
        bound: largest number of items it can have, ``None`` without a bound.
        dead_references: whether its newest items are weak references to objects that are freed.
    """

    path: str
    items: int | None
    items_per_request: float | None
    bound: int | None
    dead_references: bool = False


def type_name(cls: type) -> str:
    """Return the qualified name of a class; without a module for built-in ones."""
    module: object = cls.__module__  # a descriptor for some types implemented in C
    if type(module) is not str or module == "builtins":
        return cls.__qualname__
    return f"{module}.{cls.__qualname__}"


# -- types -----------------------------------------------------------------------------------------


def count_types(ignored: Collection[int] = ()) -> collections.Counter[str]:
    """Return the number of objects by type, of those that exist since :func:`gc.freeze`.

    Objects that the collector does not track are counted too if one of these refers to them.

    Args:
        ignored: ids of objects that are not counted.
    """
    objects = [value for value in gc.get_objects() if id(value) not in ignored]
    counts = collections.Counter(map(type, objects))
    referenced = referents(objects)
    if len(referenced) <= _MAX_REFERENTS:
        counted = set()
        for value in referenced:
            if not gc.is_tracked(value) and id(value) not in counted:
                counted.add(id(value))
                counts[type(value)] += 1
    by_name: collections.Counter[str] = collections.Counter()
    for cls, count in counts.items():
        by_name[type_name(cls)] += count
    return collections.Counter(
        {name: count for name, count in by_name.items() if not name.startswith(_OWN_TYPES)}
    )


def growing_types(counts: Sequence[tuple[int, Mapping[str, int]]]) -> dict[str, float]:
    """Return the retained objects per request by type, the most first.

    Args:
        counts: requests served by then, and the number of objects by type.
    """
    if not counts:
        return {}
    growing = {}
    for name in counts[-1][1]:
        samples = [(requests, float(by_name.get(name, 0))) for requests, by_name in counts]
        growth = estimate_growth(samples, MIN_ITEMS_PER_REQUEST)
        if growth.steady:
            growing[name] = round(growth.per_request, 2)
    return dict(sorted(growing.items(), key=lambda item: -item[1]))


# -- containers ------------------------------------------------------------------------------------


def _base(container: Any) -> Any:
    """Return the built-in class, whose methods have no side effects that a subclass may add."""
    return next(base for base in _CONTAINERS if issubclass(type(container), base))


def _length(container: Any) -> int:
    cls = type(container)
    return len(container) if cls in _CONTAINERS else int(_base(container).__len__(container))


def _all_containers() -> list[Any]:
    """Return all containers, also those of plain values, which the collector does not track."""
    objects = gc.get_objects()
    containers = [value for value in objects if issubclass(type(value), _CONTAINERS)]
    containers += {
        id(value): value for value in referents(objects)
        if issubclass(type(value), _CONTAINERS) and not gc.is_tracked(value)
    }.values()  # fmt: skip
    return containers


class ContainerLengths:
    """Lengths of all lists, dicts, sets and deques over time.

    Create it after the application is loaded and before :func:`gc.freeze`, which hides the existing
    containers from the collector.

    Attributes:
        old: containers that exist at that time.
    """

    def __init__(self) -> None:
        self.old = _all_containers()
        self._lengths: list[tuple[int, dict[int, int]]] = []

    def _all(self) -> Iterable[Any]:
        yield from self.old
        yield from _all_containers()

    def record(self, requests: int) -> None:
        """Record all lengths.

        Args:
            requests: served by now.
        """
        lengths = {id(container): _length(container) for container in self._all()}
        self._lengths.append((requests, lengths))

    def growing(self) -> list[tuple[Any, float]]:
        """Return the containers that grew between all records, with items per request, most first.

        Containers of weak references come last, since they retain nothing.
        """
        if len(self._lengths) < 2:
            return []
        pairs = list(itertools.pairwise(self._lengths))
        (first, lengths_before), (last, _) = self._lengths[0], self._lengths[-1]
        examined = {id(self.old), *(id(lengths) for _, lengths in self._lengths)}
        growing = []
        for container in self._all():
            key = id(container)
            if key in examined or key not in lengths_before:
                continue
            examined.add(key)
            if all(
                later.get(key, 0) - earlier.get(key, 0) >= MIN_ITEMS_PER_REQUEST * (end - start)
                for (start, earlier), (end, later) in pairs
            ):
                added = _length(container) - lengths_before[key]
                growing.append((container, added / max(1, last - first)))
        return sorted(growing, key=lambda pair: (_has_weak_references(pair[0]), -pair[1]))


def types_of_newest_items(container: Any, items_per_request: float) -> dict[str, float]:
    """Return the objects per request by type, estimated from the items at the end of a container.

    Only objects that the collector does not track, such as text in a list: :func:`count_types` misses
    them.
    """
    newest = _newest_items(container)
    untracked = [value for value in newest if not gc.is_tracked(value)]
    counts = collections.Counter(type_name(type(value)) for value in untracked)
    return {name: items_per_request * count / len(newest) for name, count in counts.items()}


def _newest_items(container: Any) -> collections.deque[Any]:
    base = _base(container)
    items = dict.values(container) if base is dict else base.__iter__(container)
    return collections.deque(items, _NEWEST_ITEMS)


def refers_to_freed_objects(container: Any) -> bool:
    """Return whether most items at the end of a container are weak references to freed objects.

    The owner of such a container usually removes them, but only once it is long, or never.
    """
    newest = _newest_items(container)
    dead = sum(
        issubclass(type(value), weakref.ReferenceType) and weakref.ref.__call__(value) is None
        for value in newest
    )
    return 2 * dead > len(newest)


def _has_weak_references(container: Any) -> bool:
    """Return whether a container refers weakly to its items, judged by the first one."""
    base = _base(container)
    first = [next(base.__iter__(container), None)]
    if base is dict:
        first.append(next(iter(dict.values(container)), None))
    return any(issubclass(type(value), weakref.ReferenceType) for value in first)


def bound_of(value: Any) -> int | None:
    """Return the largest number of items of a bounded container, ``None`` for anything else."""
    if isinstance(value, LRU_CACHE):
        return value.cache_info().maxsize
    if issubclass(type(value), collections.deque):
        return None if value.maxlen is None else int(value.maxlen)
    if issubclass(type(value), cachetools.Cache):
        return None if value.maxsize == float("inf") else int(value.maxsize)
    return None


def is_context_storage(value: Any) -> bool:
    """Return whether an object stores the variables of a context; each assignment replaces it."""
    return type(value).__name__.startswith("hamt")
