"""Who holds what grows: containers that get longer, types that become more, and the way to a root.

The line tells where memory was allocated. It is held by something else: a list of a module, a cache, a
closure, a context variable. The collector knows what refers to what, so it is asked, from what grows
upwards, until something is found that has a name.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import gc
import itertools
import sys
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import (
    CellType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any

import cachetools

from ...core.code_locations import PACKAGE
from .growth import judge

_SIZED = (list, dict, set, collections.deque)
_LRU = type(functools.lru_cache(int))
_HUNT_TYPES = ("flask_knitperf.experiments.", "flask_knitperf.collectors.memory.")
_DEEPEST = 20
_ALIKE, _SPACES = 5, 20
"""So many of a type are followed, of dictionaries more: a class's lies among those of its objects."""
_REFERENTS = 100_000
"""Beyond so many references, what the collector does not track is not counted."""
_NEWEST = 100
_PATIENCE = 10.0
_HALF = 0.4
"""The least items per request by which a container is said to grow."""


def type_name(kind: type) -> str:
    """Return a type as people write it."""
    module: object = kind.__module__  # a descriptor in some types of C
    if type(module) is not str or module == "builtins":
        return kind.__qualname__
    return f"{module}.{kind.__qualname__}"


# -- what becomes more -----------------------------------------------------------------------------


def count_types(ignore: Collection[int] = ()) -> collections.Counter[str]:
    """Count the objects that came to be since :func:`gc.freeze`, and what they alone refer to.

    Args:
        ignore: identities of what is not to be counted.
    """
    objects = [each for each in gc.get_objects() if id(each) not in ignore]
    counts = collections.Counter(map(type, objects))
    referents = gc.get_referents(*objects)
    if len(referents) <= _REFERENTS:
        seen = set()
        for each in referents:
            if not gc.is_tracked(each) and id(each) not in seen:
                seen.add(id(each))
                counts[type(each)] += 1
    named: collections.Counter[str] = collections.Counter()
    for kind, count in counts.items():
        named[type_name(kind)] += count
    return collections.Counter(
        {name: count for name, count in named.items() if not name.startswith(_HUNT_TYPES)}
    )


def growing_types(counts: Sequence[tuple[int, Mapping[str, int]]]) -> dict[str, float]:
    """Return the types of which objects stay, and how many of each request, the most first."""
    if not counts:
        return {}
    found = {}
    for name in counts[-1][1]:
        growth = judge([(at, float(each.get(name, 0))) for at, each in counts], _HALF)
        if growth.steady:
            found[name] = round(growth.per_request, 2)
    return dict(sorted(found.items(), key=lambda each: -each[1]))


# -- what gets longer ------------------------------------------------------------------------------


def _base(container: Any) -> Any:
    """Return the type whose methods do nothing but what they do for plain containers."""
    return next(base for base in _SIZED if issubclass(type(container), base))


def _length(container: Any) -> int:
    kind = type(container)
    return len(container) if kind in _SIZED else int(_base(container).__len__(container))


def _sized() -> list[Any]:
    """Return all containers that the collector knows, and those that it need not: of plain values."""
    objects = gc.get_objects()
    found = [each for each in objects if issubclass(type(each), _SIZED)]
    found += {
        id(each): each for each in gc.get_referents(*objects)
        if issubclass(type(each), _SIZED) and not gc.is_tracked(each)
    }.values()  # fmt: skip
    return found


class Containers:
    """The lengths of all lists, dictionaries, sets and deques.

    Made once the application is loaded; what is there then is remembered, for :func:`gc.freeze` hides it
    from those who ask later.
    """

    def __init__(self) -> None:
        self.old = _sized()
        self._lengths: list[tuple[int, dict[int, int]]] = []

    def _all(self) -> Iterable[Any]:
        yield from self.old
        yield from _sized()

    def look(self, at: int) -> None:
        """Take note of all lengths after so many requests."""
        self._lengths.append((at, {id(each): _length(each) for each in self._all()}))

    def growing(self) -> list[tuple[Any, float]]:
        """Return what got longer between all looks, with items per request, the most first."""
        if len(self._lengths) < 2:
            return []
        pairs = list(itertools.pairwise(self._lengths))
        (first, before), (last, _) = self._lengths[0], self._lengths[-1]
        done = {id(self.old), *(id(lengths) for _, lengths in self._lengths)}
        found = []
        for each in self._all():
            key = id(each)
            if key in done or key not in before:
                continue
            done.add(key)
            if all(later[1].get(key, 0) - sooner[1].get(key, 0) >= _HALF * (later[0] - sooner[0])
                   for sooner, later in pairs):  # fmt: skip
                found.append((each, (_length(each) - before[key]) / max(1, last - first)))
        return sorted(found, key=lambda pair: (_is_weak(pair[0]), -pair[1]))


def newest_types(container: Any, per_request: float) -> dict[str, float]:
    """Return the types of what came last into a container, with objects per request.

    What the collector does not track, such as text in a list, is counted nowhere else.
    """
    base = _base(container)
    items = dict.values(container) if base is dict else base.__iter__(container)
    last = collections.deque(items, _NEWEST)
    counts = collections.Counter(type_name(type(each)) for each in last if not gc.is_tracked(each))
    return {name: per_request * count / len(last) for name, count in counts.items()}


def _is_weak(container: Any) -> bool:
    """Return whether a container only refers weakly to what is in it, by its first item."""
    base = _base(container)
    first = [next(base.__iter__(container), None)]
    if base is dict:
        first.append(next(iter(dict.values(container)), None))
    return any(issubclass(type(each), weakref.ReferenceType) for each in first)


# -- who holds it ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holder:
    """Something with a name that holds what grows.

    Attributes:
        path: the way from there to what grows.
        items: what it holds now, ``None`` where that is no number.
        per_request: items that come with a request, ``None`` where that is not known.
        bound: the most that it will ever hold, ``None`` where it has no bound.
    """

    path: str
    items: int | None
    per_request: float | None
    bound: int | None


def bound_of(thing: Any) -> int | None:
    """Return how many items a container may hold at most, ``None`` where it has no bound."""
    if isinstance(thing, _LRU):
        return thing.cache_info().maxsize
    if issubclass(type(thing), collections.deque):
        return None if thing.maxlen is None else int(thing.maxlen)
    if issubclass(type(thing), cachetools.Cache):
        return None if thing.maxsize == float("inf") else int(thing.maxsize)
    return None


def chain(
    samples: Sequence[Any], ignore: Iterable[int] = (), root: Any = None,
    patience: float = _PATIENCE,
) -> list[Any]:  # fmt: skip
    """Return the shortest way from something with a name to one of the samples, empty without one.

    Args:
        samples: what is held.
        ignore: identities of what is not to count as holding it.
        root: what else counts as having a name.
        patience: seconds after which it is given up: among millions of objects a way may lead anywhere.
    """
    until = time.monotonic() + patience
    objects = {id(each): each for each in samples}
    child: dict[int, int] = {}
    frontier = list(samples)
    hidden = {id(objects), id(child), id(samples), *ignore}
    for _ in range(_DEEPEST):
        hidden |= {id(frontier), id(hidden)}
        referrers = gc.get_referrers(*frontier)
        wanted = {id(each) for each in frontier}
        hidden |= {id(referrers), id(wanted)}
        reached: list[Any] = []
        hidden.add(id(reached))
        for each in referrers:
            if time.monotonic() > until:
                return []
            key = id(each)
            if key in objects or key in hidden or _is_ours(each):
                continue
            below = next((id(r) for r in gc.get_referents(each) if id(r) in wanted), None)
            if below is None:
                continue
            objects[key], child[key] = each, below
            if each is root or _is_root(each):
                return _way(key, objects, child)
            reached.append(each)
        frontier = _some(reached)
        if not frontier:
            break
    return []


def _some(reached: Iterable[Any]) -> list[Any]:
    """Return some of each type, for each that is followed costs a look at all there is."""
    seen: collections.Counter[type] = collections.Counter()
    found = []
    for each in reached:
        kind = type(each)
        seen[kind] += 1
        if seen[kind] <= (_SPACES if kind is dict else _ALIKE):
            found.append(each)
    return found


def _way(key: int, objects: Mapping[int, Any], child: Mapping[int, int]) -> list[Any]:
    found = [objects[key]]
    while key in child:
        key = child[key]
        found.append(objects[key])
    return found


def _is_ours(each: Any) -> bool:
    return isinstance(each, FrameType) and each.f_code.co_filename.startswith(PACKAGE)


def _module_of(space: Any) -> str | None:
    """Return the name of the module whose dictionary it is."""
    if type(space) is not dict:
        return None
    name = space.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    return name if type(module) is ModuleType and vars(module) is space else None


def _is_root(each: Any) -> bool:
    kind = type(each)
    if issubclass(kind, type) or kind in (contextvars.Context, FrameType):
        return True
    return _module_of(each) is not None


def _attribute(holder: Any, held: Any) -> str:
    """Return the name of the attribute or variable by which something is held, else nothing."""
    space = holder if type(holder) is dict else getattr(holder, "__dict__", None)
    if isinstance(holder, FrameType):
        space = holder.f_locals
    if isinstance(space, Mapping):
        for name, value in space.items():
            if value is held and type(name) is str and name.isidentifier():
                return name
    return ""


def stores_variables(each: Any) -> bool:
    """Return whether it is how a context stores its variables, made anew with each that is set."""
    return type(each).__name__.startswith("hamt")


def describe(way: Sequence[Any], root: Any = None) -> str:
    """Return a way in words: the name at its root, then what it leads through.

    Args:
        way: from the root on.
        root: the closure that serves the application, if the way may begin there.
    """
    left = list(way)
    told: list[str] = []
    if left and left[0] is root:
        told, left = ["application"], left[1:]
    while left:
        each = left.pop(0)
        space = left[0] if left and _is_space_of(left[0], each) else None
        if space is not None:
            left.pop(0)
        said = _said(each, left[0] if left else None, way)
        if said:
            told.append(said)
    return " → ".join(told)


def _is_space_of(space: Any, owner: Any) -> bool:
    """Return whether a dictionary holds the attributes of an object or a class."""
    if type(space) is not dict:
        return False
    if issubclass(type(owner), type):
        return bool(space.keys() == vars(owner).keys())
    its: object = getattr(owner, "__dict__", None)
    return its is space


def _said(each: Any, below: Any, way: Sequence[Any]) -> str:
    kind = type(each)
    module = _module_of(each)
    if module is not None:
        return f"{_attribute(each, below) or 'a variable'} of module {module}"
    if kind is contextvars.Context:
        names = [v.name for v, value in each.items() if any(value is held for held in way)]
        return f"context variable {names[0]}" if names else "a context of variables"
    if stores_variables(each) or (kind is tuple and type(below) is CellType):
        return ""  # how variables of a context and of a closure are stored
    name = "" if below is None or kind is dict else _attribute(each, below)
    said = next((say(each) for base, say in _WORDS if issubclass(kind, base)), kind.__name__)
    return f"{said}.{name}" if name else said


_WORDS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (_LRU, lambda each: f"lru_cache of {getattr(each, '__qualname__', '?')}"),
    (type, lambda each: f"class {type_name(each)}"),
    (FunctionType, lambda each: f"function {each.__qualname__}"),
    (MethodType, lambda each: f"method {each.__func__.__qualname__}"),
    (CellType, lambda _: "its closure"),
    (GeneratorType, lambda each: f"generator {each.__qualname__}"),
    (FrameType, lambda each: f"variables of {each.f_code.co_qualname}"),
    (TracebackType, lambda _: "traceback"),
    (list, lambda each: f"{type(each).__name__} of {len(each):,}"),
    (set, lambda each: f"{type(each).__name__} of {len(each):,}"),
    (collections.deque, lambda each: f"deque of {len(each):,}"),
    (tuple, lambda each: f"tuple of {len(each):,}"),
    (dict, lambda each: f"{type(each).__name__} of {dict.__len__(each):,}"),
)  # fmt: skip
