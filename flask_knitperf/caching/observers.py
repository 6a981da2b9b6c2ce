"""Observers of caches that the application already has: mappings, and classes with ``get`` and ``set``.

An object that is observed gets a subclass of its class, so every reference to it is observed. The
methods of the subclass call those of the class, once and with the same arguments, and count afterwards;
so results, exceptions, the order of evictions and the locks are those of the class. An object of a
built-in class, such as a ``dict``, cannot change its class: an equal one takes its place. A class is
observed by replacing two of its methods.

What a method of a cache calls in turn of the same cache is not counted: ``cachetools`` implements
``get`` by ``in`` and ``[]``. It shows whether the key was there, which the result alone may not.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Callable, ItemsView, Mapping, MutableMapping, ValuesView
from threading import get_ident
from types import CoroutineType, FunctionType
from typing import Any

from ..core.errors import KnitPerfError
from .observed import Inner, ObservedCache

_BUILT_IN = (dict, OrderedDict, defaultdict)
_MARK = "__knitperf_observed__"
_ABSENT: Any = object()
_PLAIN = (int, str, bytes, float, bool, tuple)
"""Types that are compared by value where a method returns one for a miss."""
# looking up a member of an enumeration takes as long as a look-up in a dict
_NOTHING, _THERE, _MISSING, _WRITTEN = Inner.NOTHING, Inner.THERE, Inner.MISSING, Inner.WRITTEN
Method = Callable[..., Any]


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
        make = _dict_methods if kind is dict else _mapping_methods
        observing = _subclass(kind, observed, make(kind, observed))
        equal: Any = kind.__new__(observing)
        if isinstance(cache, defaultdict):
            equal.default_factory = cache.default_factory
        kind.update(equal, cache) if kind is not OrderedDict else _fill(equal, cache)
        return equal
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


def _fill(equal: Any, cache: Any) -> None:
    for key, value in OrderedDict.items(cache):
        OrderedDict.__setitem__(equal, key, value)


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


def _dict_methods(kind: type[Any], observed: ObservedCache) -> dict[str, Method]:
    """Return the methods of a ``dict``, none of which calls another one."""
    get_item, set_item, contains_item = dict.__getitem__, dict.__setitem__, dict.__contains__
    get_value, set_default = dict.get, dict.setdefault
    hit, miss, write = observed.count_hit, observed.count_miss, observed.count_write

    def get_item_(self: Any, key: Any) -> Any:
        try:
            value = get_item(self, key)
        except KeyError:
            miss(key)
            raise
        hit(key)
        return value

    def contains_(self: Any, key: Any) -> bool:
        is_there = contains_item(self, key)
        _count_test(observed, key, is_there)
        return is_there

    @functools.wraps(get_value)
    def get(self: Any, key: Any, /, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) > 1:
            return get_value(self, key, *args, **kwargs)  # raises
        value = get_value(self, key, _ABSENT)
        if value is not _ABSENT:
            hit(key)
            return value
        miss(key)
        return args[0] if args else None

    def set_item_(self: Any, key: Any, value: Any) -> None:
        set_item(self, key, value)
        write(key)

    @functools.wraps(set_default)
    def setdefault(self: Any, key: Any, /, *args: Any, **kwargs: Any) -> Any:
        was_there = contains_item(self, key)
        value = set_default(self, key, *args, **kwargs)
        observed.count_set_default(key, was_there)
        return value

    return {
        "__getitem__": get_item_, "__contains__": contains_, "get": get,
        "__setitem__": set_item_, "setdefault": setdefault, **_other_methods(kind, observed),
    }  # fmt: skip


def _count_test(observed: ObservedCache, key: Any, is_there: bool) -> None:
    """Count an ``in``; what is there is read next, so it is not a hit."""
    if is_there:
        observed.count_other(key)
    else:
        observed.count_miss(key, by_test=True)


def _mapping_methods(kind: type[Any], observed: ObservedCache) -> dict[str, Method]:
    """Return the methods of a mapping that look up or write; they may call one another."""
    get_item, set_item, contains_item = kind.__getitem__, kind.__setitem__, kind.__contains__
    inside, hit, miss = observed.inside, observed.count_hit, observed.count_miss
    write, set_default_ = observed.count_write, observed.count_set_default

    def get_item_(self: Any, key: Any) -> Any:
        if (thread := get_ident()) in inside:
            value = get_item(self, key)
            if inside[thread] is not _WRITTEN:
                inside[thread] = _THERE
            return value
        inside[thread] = _NOTHING
        try:
            value = get_item(self, key)
        except KeyError:
            miss(key)
            raise
        finally:
            inner = inside.pop(thread, _NOTHING)
        if inner is _WRITTEN:  # by __missing__
            set_default_(key, False)
        else:
            hit(key)
        return value

    def contains_(self: Any, key: Any) -> bool:
        if (thread := get_ident()) in inside:
            is_there = bool(contains_item(self, key))
            if inside[thread] is not _WRITTEN:
                inside[thread] = _THERE if is_there else _MISSING
            return is_there
        inside[thread] = _NOTHING
        try:
            is_there = bool(contains_item(self, key))
        finally:
            inside.pop(thread, None)
        _count_test(observed, key, is_there)
        return is_there

    def set_item_(self: Any, key: Any, value: Any) -> None:
        if (thread := get_ident()) in inside:
            set_item(self, key, value)
            inside[thread] = _WRITTEN
            return
        inside[thread] = _NOTHING
        try:
            set_item(self, key, value)
        finally:
            inside.pop(thread, None)
        write(key)

    methods: dict[str, Method] = {
        "__getitem__": get_item_, "__contains__": contains_, "__setitem__": set_item_,
        **_other_methods(kind, observed),
    }  # fmt: skip
    get_value, set_default = getattr(kind, "get", None), getattr(kind, "setdefault", None)
    if callable(get_value):

        @functools.wraps(get_value)
        def get(self: Any, key: Any, /, *args: Any, **kwargs: Any) -> Any:
            if (thread := get_ident()) in inside:
                return get_value(self, key, *args, **kwargs)
            inside[thread] = _NOTHING
            try:
                value = get_value(self, key, *args, **kwargs)
            finally:
                inner = inside.pop(thread, _NOTHING)
            if inner is _WRITTEN:
                set_default_(key, False)
            elif inner is _THERE or (
                inner is _NOTHING and value is not (args[0] if args else kwargs.get("default"))
            ):
                hit(key)
            else:
                miss(key)
            return value

        methods["get"] = get
    if callable(set_default):

        @functools.wraps(set_default)
        def setdefault(self: Any, key: Any, /, *args: Any, **kwargs: Any) -> Any:
            if (thread := get_ident()) in inside:
                return set_default(self, key, *args, **kwargs)
            was_there = dict.__contains__(self, key) if isinstance(self, dict) else None
            inside[thread] = _NOTHING
            try:
                value = set_default(self, key, *args, **kwargs)
            finally:
                inner = inside.pop(thread, _NOTHING)
            set_default_(key, inner is not _WRITTEN if was_there is None else was_there)
            return value

        methods["setdefault"] = setdefault
    return methods


def _other_methods(kind: type[Any], observed: ObservedCache) -> dict[str, Method]:
    """Return the methods that remove values, or read or write many: they are uses of another kind."""
    inside = observed.inside

    def uncounted(name: str, method: Method) -> Method:
        @functools.wraps(method)
        def use(self: Any, *args: Any, **kwargs: Any) -> Any:
            if (thread := get_ident()) in inside:
                return method(self, *args, **kwargs)
            inside[thread] = _NOTHING
            try:
                return method(self, *args, **kwargs)
            finally:
                inside.pop(thread, None)
                if name == "pop" and args:
                    observed.count_other(args[0])
                elif name in ("update", "__ior__"):
                    observed.count_other(of_all=True)

        return use

    def viewed(view: type[Any]) -> Method:
        def use(self: Any) -> Any:
            observed.count_other(of_all=True)
            return view(_Plain(self, kind))

        return use

    methods = {
        name: uncounted(name, method)
        for name in ("pop", "popitem", "expire", "clear", "update", "__ior__")
        if callable(method := getattr(kind, name, None))
    }
    if getattr(kind, "items", None) is Mapping.items:
        return {**methods, "items": viewed(ItemsView), "values": viewed(ValuesView)}
    for name in ("items", "values"):
        if callable(method := getattr(kind, name, None)):
            methods[name] = _read_of_all(method, observed)
    return methods


def _read_of_all(method: Method, observed: ObservedCache) -> Method:
    @functools.wraps(method)
    def use(self: Any) -> Any:
        observed.count_other(of_all=True)
        return method(self)

    return use


class _Plain(Mapping[Any, Any]):
    """A mapping as its own class shows it, so that views of it are not look-ups."""

    def __init__(self, cache: Any, kind: type[Any]) -> None:
        self._cache, self._kind = cache, kind

    def __getitem__(self, key: Any) -> Any:
        return self._kind.__getitem__(self._cache, key)

    def __contains__(self, key: object) -> bool:
        return bool(self._kind.__contains__(self._cache, key))

    def __iter__(self) -> Any:
        return iter(self._cache)

    def __len__(self) -> int:
        return len(self._cache)

    def __repr__(self) -> str:
        return repr(self._cache)


# -- classes -------------------------------------------------------------------------------------------


def _pair(
    kind: type[Any], observed: ObservedCache, reader: str, writer: str, missing: Any
) -> dict[str, Method]:
    """Return the method of a class that looks up, and the one that writes."""
    read, read_key = _method(kind, reader)
    written, written_key = _method(kind, writer)
    inside, by_value = observed.inside, type(missing) in _PLAIN

    @functools.wraps(read)
    def observed_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (thread := get_ident()) in inside:
            return read(self, *args, **kwargs)
        key = args[0] if args else kwargs.get(read_key, _ABSENT)
        inside[thread] = _NOTHING
        try:
            value = read(self, *args, **kwargs)
        except KeyError:
            observed.count_miss(key)
            raise
        finally:
            inside.pop(thread, None)
        default = args[1] if len(args) > 1 else kwargs.get("default", missing)
        if key is _ABSENT or type(value) is CoroutineType:
            observed.count_other(of_all=True)
        elif (
            value is missing
            or value is default
            or (by_value and type(value) is type(missing) and value == missing)
        ):
            observed.count_miss(key)
        else:
            observed.count_hit(key)
        return value

    @functools.wraps(written)
    def observed_write(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (thread := get_ident()) in inside:
            return written(self, *args, **kwargs)
        key = args[0] if args else kwargs.get(written_key, _ABSENT)
        inside[thread] = _NOTHING
        try:
            result = written(self, *args, **kwargs)
        finally:
            inside.pop(thread, None)
        if key is _ABSENT:
            observed.count_other(of_all=True)
        else:
            observed.count_write(key)
        return result

    return {reader: observed_read, writer: observed_write}


def _method(kind: type[Any], name: str) -> tuple[Method, str]:
    """Return a method of a class, and the name of its parameter for the key.

    Raises:
        KnitPerfError: it is not a method of instances, or is asynchronous.
    """
    method = inspect.getattr_static(kind, name)
    if not isinstance(method, FunctionType):
        raise KnitPerfError(
            f"{kind.__name__}.{name}() cannot be observed: it is not a plain method"
        )
    if inspect.iscoroutinefunction(method):
        raise KnitPerfError(f"{kind.__name__}.{name}() cannot be observed: it is asynchronous")
    parameters = list(inspect.signature(method).parameters)
    key = parameters[1] if len(parameters) > 1 else ""
    if name in vars(kind):
        return method, key

    @functools.wraps(method)
    def inherited(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(kind, self), name)(*args, **kwargs)

    return inherited, key
