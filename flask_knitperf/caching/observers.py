"""Observers of caches that the application already has: mappings, and classes with ``get`` and ``set``.

An object that is observed gets a subclass of its class, so every reference to it is observed. The
methods of the subclass call those of the class, once and with the same arguments, and count afterwards;
so results, exceptions, the order of evictions and the locks are those of the class. An object of a
built-in class, such as a ``dict``, cannot change its class: an equal one takes its place. A class is
observed by replacing two of its methods.

What a method of a cache calls in turn is not counted: ``cachetools`` implements ``get`` by ``in`` and
``[]``.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Callable, MutableMapping
from threading import get_ident
from typing import Any

from ..core.errors import KnitPerfError
from .observed import ObservedCache

_BUILT_IN = (dict, OrderedDict, defaultdict)
_MARK = "__knitperf_observed__"
Method = Callable[..., Any]


_INSIDE: dict[int, bool | None] = {}
"""Threads in which a method of an observed cache runs, by identity, and whether its key was there."""


def observe(cache: Any, observed: ObservedCache) -> Any:
    """Observe a cache; return it, or an equal one where its class is built in.

    Args:
        cache: a mapping, or an object with ``get`` and ``set``.
        observed: counts its use.

    Raises:
        KnitPerfError: it is neither, or cannot be observed.
    """
    kind = type(cache)
    if hasattr(kind, _MARK):
        raise KnitPerfError(f"this {kind.__name__} is already observed")
    if kind in _BUILT_IN:
        observing = _subclass(kind, observed, _built_in_methods(kind, observed))
        if isinstance(cache, defaultdict):
            return observing(cache.default_factory, cache)
        return observing(cache)
    if issubclass(kind, MutableMapping | dict):
        methods = _mapping_methods(kind, observed)
    elif callable(getattr(kind, "get", None)) and callable(getattr(kind, "set", None)):
        methods = _pair(kind, observed, "get", "set", None)
    else:
        raise KnitPerfError(
            f"a {kind.__name__} cannot be observed: it is neither a mapping nor has it get() and set()"
        )
    try:
        cache.__class__ = _subclass(kind, observed, methods)
    except TypeError as error:
        raise KnitPerfError(f"a {kind.__name__} cannot be observed: {error}") from error
    return cache


def observe_class(
    kind: type[Any], observed: ObservedCache, reader: str, writer: str, missing: Any
) -> None:
    """Observe all instances of a class, together.

    Args:
        kind: the class.
        observed: counts their use.
        reader: name of the method that looks up; its first argument is the key.
        writer: name of the method that writes; its first argument is the key.
        missing: result of ``reader`` that is a miss.

    Raises:
        KnitPerfError: it lacks one of the methods, or cannot be observed.
    """
    if _MARK in vars(kind):
        raise KnitPerfError(f"{kind.__name__} is already observed")
    for name in (reader, writer):
        if not callable(getattr(kind, name, None)):
            raise KnitPerfError(f"{kind.__name__} has no method {name}()")
    for name, method in _pair(kind, observed, reader, writer, missing).items():
        setattr(kind, name, method)
    setattr(kind, _MARK, observed)


def _subclass(kind: type[Any], observed: ObservedCache, methods: dict[str, Method]) -> type[Any]:
    """Return a class with other methods that has the name of ``kind``."""
    plain: Method = kind.__reduce_ex__
    make_class: Callable[..., type[Any]] = type(kind)

    def reduce(self: Any, protocol: Any) -> Any:
        """Be copied and pickled as an object of ``kind``."""
        reduced = plain(self, protocol)
        if not isinstance(reduced, tuple):
            return reduced
        make, args, *rest = reduced
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            make = kind.__new__  # pickle compares the class of the other one
        elif make is type(self):
            make = kind
        return make, tuple(kind if part is type(self) else part for part in args), *rest

    return make_class(kind.__name__, (kind,), {
        "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__,
        "__slots__": (), _MARK: observed, "__reduce_ex__": reduce, **methods,
    })  # fmt: skip


def _built_in_methods(kind: type[Any], observed: ObservedCache) -> dict[str, Method]:
    """Return the methods of a built-in mapping, none of which calls another one."""
    get_item, set_item, contains_item = kind.__getitem__, kind.__setitem__, kind.__contains__
    get_value, set_default, missing = kind.get, kind.setdefault, object()
    look_up, write = observed.count_look_up, observed.count_write

    def get_item_(self: Any, key: Any) -> Any:
        if not contains_item(self, key):
            look_up(key, False)
            return get_item(self, key)  # raises, or creates a default
        value = get_item(self, key)
        look_up(key, True)
        return value

    def contains_(self: Any, key: Any) -> bool:
        is_there: bool = contains_item(self, key)
        if not is_there:  # what is there is read next
            look_up(key, False)
        return is_there

    @functools.wraps(get_value)
    def get(self: Any, key: Any, /, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) > 1:
            return get_value(self, key, *args, **kwargs)  # raises
        value = get_value(self, key, missing)
        if value is not missing:
            look_up(key, True)
            return value
        look_up(key, False)
        return args[0] if args else None

    def set_item_(self: Any, key: Any, value: Any) -> None:
        set_item(self, key, value)
        write(key)

    @functools.wraps(set_default)
    def setdefault(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = len(self)
        value = set_default(self, *args, **kwargs)
        key, was_there = args[0] if args else kwargs["key"], len(self) == before
        look_up(key, was_there)
        if not was_there:
            write(key)
        return value

    return {
        "__getitem__": get_item_, "__contains__": contains_, "get": get,
        "__setitem__": set_item_, "setdefault": setdefault,
    }  # fmt: skip


def _mapping_methods(kind: type[Any], observed: ObservedCache) -> dict[str, Method]:
    """Return the methods of a mapping that look up or write; they may call one another."""
    get_item, set_item, contains_item = kind.__getitem__, kind.__setitem__, kind.__contains__
    get_value, set_default = kind.get, kind.setdefault
    inside, look_up, write = _INSIDE, observed.count_look_up, observed.count_write

    def get_item_(self: Any, key: Any) -> Any:
        if (thread := get_ident()) in inside:
            value = get_item(self, key)
            inside[thread] = True
            return value
        inside[thread] = None
        try:
            value = get_item(self, key)
        except KeyError:
            look_up(key, False)
            raise
        finally:
            del inside[thread]
        look_up(key, True)
        return value

    def contains_(self: Any, key: Any) -> bool:
        if (thread := get_ident()) in inside:
            inside[thread] = is_there = bool(contains_item(self, key))
            return is_there
        inside[thread] = None
        try:
            is_there = bool(contains_item(self, key))
        finally:
            del inside[thread]
        if not is_there:  # what is there is read next
            look_up(key, False)
        return is_there

    @functools.wraps(get_value)
    def get(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        if (thread := get_ident()) in inside:
            return get_value(self, key, *args, **kwargs)
        inside[thread] = None
        try:
            value = get_value(self, key, *args, **kwargs)
            is_hit = inside[thread]  # by what it called
            if is_hit is None:
                default = args[0] if args else kwargs.get("default")
                is_hit = value is not default or bool(contains_item(self, key))
        finally:
            del inside[thread]
        look_up(key, is_hit)
        return value

    def set_item_(self: Any, key: Any, value: Any) -> None:
        if (thread := get_ident()) in inside:
            set_item(self, key, value)
            return
        inside[thread] = None
        try:
            set_item(self, key, value)
        finally:
            del inside[thread]
        write(key)

    @functools.wraps(set_default)
    def setdefault(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        if (thread := get_ident()) in inside:
            return set_default(self, key, *args, **kwargs)
        inside[thread] = None
        try:
            was_there = bool(contains_item(self, key))
            value = set_default(self, key, *args, **kwargs)
        finally:
            del inside[thread]
        look_up(key, was_there)
        if not was_there:
            write(key)
        return value

    methods: dict[str, Method] = {
        "__getitem__": get_item_, "__contains__": contains_, "get": get,
        "__setitem__": set_item_, "setdefault": setdefault,
    }  # fmt: skip
    inner = {
        name: _uncounted(getattr(kind, name))
        for name in ("pop", "popitem", "expire", "clear")
        if callable(getattr(kind, name, None))
    }
    return {**methods, **inner}


def _uncounted(method: Method) -> Method:
    """Return a method that removes values: what it calls is not counted."""
    inside = _INSIDE

    @functools.wraps(method)
    def uncounted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (thread := get_ident()) in inside:
            return method(self, *args, **kwargs)
        inside[thread] = None
        try:
            return method(self, *args, **kwargs)
        finally:
            del inside[thread]

    return uncounted


def _pair(
    kind: type[Any], observed: ObservedCache, reader: str, writer: str, missing: Any
) -> dict[str, Method]:
    """Return the method of a class that looks up, and the one that writes."""
    read, written = getattr(kind, reader), getattr(kind, writer)
    for method in (read, written):
        if inspect.iscoroutinefunction(method):
            raise KnitPerfError(
                f"{kind.__name__}.{method.__name__}() cannot be observed: it is asynchronous"
            )
    inside, look_up, write = _INSIDE, observed.count_look_up, observed.count_write

    @functools.wraps(read)
    def observed_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (thread := get_ident()) in inside:
            return read(self, *args, **kwargs)
        inside[thread] = None
        try:
            value = read(self, *args, **kwargs)
        finally:
            del inside[thread]
        if args or kwargs:
            look_up(args[0] if args else next(iter(kwargs.values())), value is not missing)
        return value

    @functools.wraps(written)
    def observed_write(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (thread := get_ident()) in inside:
            return written(self, *args, **kwargs)
        inside[thread] = None
        try:
            result = written(self, *args, **kwargs)
        finally:
            del inside[thread]
        if args or kwargs:
            write(args[0] if args else next(iter(kwargs.values())))
        return result

    return {reader: observed_read, writer: observed_write}
