"""Shortest retaining path from a GC root with a name to an object, found with the garbage collector.

The search starts at the object and follows referrers upwards, breadth first, until it reaches a module,
a class, a frame or a context.
"""

from __future__ import annotations

import collections
import contextvars
import gc
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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

from ...core.package_folder import PACKAGE
from .referents import referents
from .retainers import LRU_CACHE, is_context_storage, type_name

MAX_DEPTH = 20
MAX_SEARCH_S = 10.0
"""Duration after which a search is abandoned: a path among millions of objects may lead anywhere."""
MAX_PER_TYPE = 5
MAX_DICTS = 20
"""Referrers of one type that are followed per level; more dicts, since they hold attributes too."""


def retaining_path(
    samples: Sequence[Any], ignored: Iterable[int] = (), root: Any = None,
    max_search_s: float = MAX_SEARCH_S,
) -> list[Any]:  # fmt: skip
    """Return the shortest path from a GC root to one of the samples, root first; empty without one.

    Args:
        samples: retained objects.
        ignored: ids of objects that are not followed.
        root: an object that counts as a root too.
        max_search_s: duration after which the search is abandoned.
    """
    deadline = time.monotonic() + max_search_s
    objects = {id(sample): sample for sample in samples}
    child: dict[int, int] = {}
    frontier = list(samples)
    hidden = {
        id(objects),
        id(child),
        id(samples),
        *ignored,
    }  # the search's containers are referrers
    for _ in range(MAX_DEPTH):
        hidden |= {id(frontier), id(hidden)}
        referrers = gc.get_referrers(*frontier)
        frontier_ids = {id(value) for value in frontier}
        hidden |= {id(referrers), id(frontier_ids)}
        reached: list[Any] = []
        hidden.add(id(reached))
        for referrer in referrers:
            if time.monotonic() > deadline:
                return []
            key = id(referrer)
            if key in objects or key in hidden or _is_frame_of_package(referrer):
                continue
            # no variable holds the referents, which would make it a referrer
            below = next((id(v) for v in referents((referrer,)) if id(v) in frontier_ids), None)
            if below is None:
                continue
            objects[key], child[key] = referrer, below
            if referrer is root or _is_root(referrer):
                return _path_down(key, objects, child)
            reached.append(referrer)
        frontier = _limit_per_type(reached)
        if not frontier:
            break
    return []


def _limit_per_type(reached: Iterable[Any]) -> list[Any]:
    """Return some objects of each type; following one costs a traversal of all objects."""
    counts: collections.Counter[type] = collections.Counter()
    limited = []
    for value in reached:
        cls = type(value)
        counts[cls] += 1
        if counts[cls] <= (MAX_DICTS if cls is dict else MAX_PER_TYPE):
            limited.append(value)
    return limited


def _path_down(key: int, objects: Mapping[int, Any], child: Mapping[int, int]) -> list[Any]:
    path = [objects[key]]
    while key in child:
        key = child[key]
        path.append(objects[key])
    return path


def _is_frame_of_package(value: Any) -> bool:
    return isinstance(value, FrameType) and value.f_code.co_filename.startswith(PACKAGE)


def _module_of(namespace: Any) -> str | None:
    """Return the name of the module that a dict is the namespace of."""
    if type(namespace) is not dict:
        return None
    name = namespace.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    return name if type(module) is ModuleType and vars(module) is namespace else None


def _is_root(value: Any) -> bool:
    cls = type(value)
    if issubclass(cls, type) or cls in (contextvars.Context, FrameType):
        return True
    return _module_of(value) is not None


# -- description -----------------------------------------------------------------------------------


def describe_path(path: Sequence[Any], root: Any = None) -> str:
    """Return a retaining path as text: ``NOTES of module app → list of 640``.

    Args:
        path: from the GC root on.
        root: the closure that serves the application, if the path may start there.
    """
    remaining = list(path)
    steps: list[str] = []
    if remaining and remaining[0] is root:
        steps, remaining = ["application"], remaining[1:]
    while remaining:
        value = remaining.pop(0)
        if remaining and _is_namespace_of(remaining[0], value):
            remaining.pop(0)
        step = _describe(value, remaining[0] if remaining else None, path)
        if step:
            steps.append(step)
    return " → ".join(steps)


def _is_namespace_of(namespace: Any, owner: Any) -> bool:
    """Return whether a dict holds the attributes of an object or a class."""
    if type(namespace) is not dict:
        return False
    if issubclass(type(owner), type):
        return bool(namespace.keys() == vars(owner).keys())
    attributes: object = getattr(owner, "__dict__", None)
    return attributes is namespace


def _describe(value: Any, below: Any, path: Sequence[Any]) -> str:
    """Return the text for an object of a path, with the attribute that refers to the next one."""
    cls = type(value)
    module = _module_of(value)
    if module is not None:
        return f"{_attribute(value, below) or 'a variable'} of module {module}"
    if cls is contextvars.Context:
        names = [var.name for var, content in value.items() if any(content is v for v in path)]
        return f"context variable {names[0]}" if names else "a context of variables"
    if is_context_storage(value) or (cls is tuple and type(below) is CellType):
        return ""  # internal storage of a context and of a closure
    name = "" if below is None or cls is dict else _attribute(value, below)
    text = next((form(value) for base, form in _FORMS if issubclass(cls, base)), cls.__name__)
    return f"{text}.{name}" if name else text


def _attribute(owner: Any, value: Any) -> str:
    """Return the name of the attribute or variable that refers to a value, or ``""``."""
    namespace = owner if type(owner) is dict else getattr(owner, "__dict__", None)
    if isinstance(owner, FrameType):
        namespace = owner.f_locals
    if isinstance(namespace, Mapping):
        for name, content in namespace.items():
            if content is value and type(name) is str and name.isidentifier():
                return name
    return ""


_FORMS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (LRU_CACHE, lambda value: f"lru_cache of {getattr(value, '__qualname__', '?')}"),
    (type, lambda value: f"class {type_name(value)}"),
    (FunctionType, lambda value: f"function {value.__qualname__}"),
    (MethodType, lambda value: f"method {value.__func__.__qualname__}"),
    (CellType, lambda _: "its closure"),
    (GeneratorType, lambda value: f"generator {value.__qualname__}"),
    (FrameType, lambda value: f"variables of {value.f_code.co_qualname}"),
    (TracebackType, lambda _: "traceback"),
    (list, lambda value: f"{type(value).__name__} of {len(value):,}"),
    (set, lambda value: f"{type(value).__name__} of {len(value):,}"),
    (collections.deque, lambda value: f"deque of {len(value):,}"),
    (tuple, lambda value: f"tuple of {len(value):,}"),
    (dict, lambda value: f"{type(value).__name__} of {dict.__len__(value):,}"),
)  # fmt: skip
