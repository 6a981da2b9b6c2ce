"""Observer of the reads of ``session``, ``request`` and ``g`` while a cached value is loaded.

For the time of a load the three objects are instances of subclasses of their classes, which record a
read and then do what the class itself does. So every way to them is covered (the proxies, a reference, a
template, another extension), and code outside of loads costs nothing.

Some reads are left out, since results rarely depend on them: anything that is read while a log record
is made, and resources on ``g`` such as a database connection. What Flask-Login reads is recorded as one
read of ``current_user``. A thread that runs with the request of a load records into that load.
"""

from __future__ import annotations

import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import FrameType
from typing import Any, NamedTuple

from flask import current_app
from flask.globals import _cv_app, _cv_request

from ..caching.cacheability import OBSERVED
from ..caching.function_cache import FunctionCache
from ..caching.load_reads import CURRENT_READS, CurrentRequest, LoadReads
from ..collectors.requests.endpoint_series import endpoint_of
from ..collectors.requests.sections import CALLERS
from ..core.code_locations import caller, is_own, is_own_file
from ..core.host_exceptions import SuppressOwn, raise_if_of_host
from ..core.locks import create_reentrant_lock
from ..recording.span import CURRENT, current

ROUTING = frozenset({
    "method", "path", "endpoint", "blueprint", "blueprints", "url_rule", "root_path", "script_root",
    "scheme", "is_secure",
})  # fmt: skip
"""Attributes of a request on which a value may depend, and rarely does."""
HOST = "host header"
"""Name under which the host of a request is part of its routing data."""
FLASHES = "flashed messages"
"""Name under which messages for the client are part of its routing data: most pages read them, most
requests have none, and reading them in a load is a change of the session besides."""
UNRECORDED = frozenset({
    "is_json", "mimetype", "mimetype_params", "content_length", "max_content_length",
    "max_form_memory_size", "max_form_parts", "routing_exception", "json_module", "shallow",
    "trusted_hosts", "close", "on_json_loading_failure",
})  # fmt: skip
"""Attributes of a request that are not recorded."""
_RESOURCE = ("cursor", "execute", "fileno")
"""Methods of objects of libraries on ``g`` that are not data."""
_SESSION_READS = {
    "__getitem__": True, "get": True, "__contains__": True, "setdefault": True, "pop": True,
    "__iter__": False, "keys": False, "values": False, "items": False, "__len__": False,
    "copy": False, "popitem": False, "__eq__": False, "__ne__": False, "__or__": False,
    "__ror__": False, "__repr__": False, "__str__": False, "__format__": False,
}  # fmt: skip
"""Methods of a session that read, and whether their first argument is the key."""
_SESSION_WRITES = {
    "__setitem__": True, "__delitem__": True, "setdefault": True, "pop": True,
    "popitem": False, "clear": False, "update": False, "__ior__": False,
}  # fmt: skip
"""Methods of a session that change it, and whether their first argument is the key."""
_MAX_DECORATORS = 100
"""Number of decorators of a view beyond which they are not followed."""
_LOADS = CALLERS | {FunctionCache._load.__code__, FunctionCache._load_async.__code__}
"""Code that calls a cached function, or one that is observed as if it were."""
_SESSION_STATE = frozenset({
    "accessed", "modified", "new", "permanent", "on_update", "fromkeys",
})  # fmt: skip
"""Attributes of a session that are not its data."""
_ABSENT = object()
_READING: ContextVar[bool] = ContextVar("knitperf_reading_request", default=False)
"""Whether an attribute of the request is read, which may be computed from others."""


def _record(observed: Any, source: str, name: Any) -> None:
    """Record a read of an observed object."""
    active = _reads_of(observed)
    try:
        _add(active, source, str(name))
    except (
        Exception
    ) as error:  # such as a text whose methods raise: the read counts, without a line
        raise_if_of_host(error)
        for reads in active:
            reads.call_sites[source, "?"] = ""


def _add(active: list[LoadReads], source: str, name: str) -> None:
    if not active:
        return
    if source == "request" and name in ROUTING:
        for reads in active:
            reads.add_routing(name)
            reads.add_routing(HOST)  # of the links that ``url_for`` makes
        return
    if (source, name) == ("session", "_flashes"):
        for reads in active:
            reads.add_routing(FLASHES)
        return
    package = _reading_package()
    if package == "logging":
        return
    if package == "flask_login":
        source, name = "current_user", ""
    for reads in active:
        reads.add(source, name, caller)


def _reads_of(observed: Any) -> list[LoadReads]:
    """Return the reads to which those of this code belong."""
    reads = CURRENT_READS.get()
    if reads is not None and not reads.ended:
        return [reads]
    if threading.current_thread().name.startswith("flask_knitperf"):
        return []  # this package reads it to name the request
    entry = _OBSERVED.get(id(observed))  # another thread reads what a load passed to it
    return [] if entry is None else list(entry.loads)


def _reading_package() -> str:
    """Return ``logging`` or ``flask_login`` if that makes a read, "" if the load itself does.

    Between the read and the load a log record is made; between the read and the next code of the
    application Flask-Login looks for its user.
    """
    frame: FrameType | None = sys._getframe(4)
    is_library = True
    while frame is not None and frame.f_code not in _LOADS:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package == "logging" or (package == "flask_login" and is_library):
            return str(package)
        is_library = is_library and not is_own(frame.f_code)
        frame = frame.f_back
    return ""


@functools.lru_cache(maxsize=64)
def _request_class(base: Any) -> type:
    def getattribute(self: Any, name: str) -> Any:
        if name.startswith("_") or name in UNRECORDED or _READING.get():
            return base.__getattribute__(self, name)
        _record(self, "request", name)
        token = _READING.set(True)
        try:
            return base.__getattribute__(self, name)
        finally:
            _READING.reset(token)

    return _subclass(base, {"__getattribute__": getattribute})


@functools.lru_cache(maxsize=64)
def _session_class(base: Any) -> type:
    methods = {
        name: _reading_method(getattr(base, name), has_key)
        for name, has_key in _SESSION_READS.items() if callable(getattr(base, name, None))
    }  # fmt: skip
    methods |= {
        name: _writing_method(methods.get(name, getattr(base, name)), has_key)
        for name, has_key in _SESSION_WRITES.items() if callable(getattr(base, name, None))
    }  # fmt: skip

    def getattribute(self: Any, name: str) -> Any:
        if not name.startswith("_") and name not in _SESSION_STATE and name not in methods:
            _record(self, "session", name)
        return base.__getattribute__(self, name)

    return _subclass(base, methods | {"__getattribute__": getattribute})


def _reading_method(method: Callable[..., Any], has_key: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        _record(self, "session", args[0] if has_key and args else "")
        return method(self, *args, **kwargs)

    return read


def _writing_method(method: Callable[..., Any], has_key: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def write(self: Any, *args: Any, **kwargs: Any) -> Any:
        _record_effect(self, "session", args[0] if has_key and args else "")
        return method(self, *args, **kwargs)

    return write


def _record_effect(observed: Any, source: str, name: Any) -> None:
    """Record a change of the state of a request."""
    for reads in _reads_of(observed):
        try:
            reads.add_effect(source, str(name), caller)
        except Exception as error:  # a key whose methods raise
            raise_if_of_host(error)
            reads.effects[source, "?"] = ""


@functools.lru_cache(maxsize=64)
def _context_class(base: Any) -> type:
    """Return the class of a request context: flashed messages in it are of the session."""

    def flashes(self: Any) -> Any:
        _record(self, "session", "_flashes")
        return self.__dict__["flashes"]

    def after_request_functions(self: Any) -> Any:
        _record_effect(self, "after_this_request", "")
        return self.__dict__["_after_request_functions"]

    return _subclass(base, {
        "flashes": _attribute("flashes", flashes),
        "_after_request_functions": _attribute("_after_request_functions", after_request_functions),
    })  # fmt: skip


def _attribute(name: str, read: Callable[[Any], Any]) -> property:
    """Return a property in front of an attribute of an instance."""
    return property(read, lambda self, value: self.__dict__.__setitem__(name, value))


@functools.lru_cache(maxsize=64)
def _g_class(base: Any) -> type:
    def getattribute(self: Any, name: str) -> Any:
        if name.startswith("__") or hasattr(base, name):
            return base.__getattribute__(self, name)
        _record_g(self, name)
        return base.__getattribute__(self, name)

    def get(self: Any, name: str, default: Any = None) -> Any:
        _record_g(self, name)
        return base.get(self, name, default)

    def contains(self: Any, name: str) -> bool:
        _record_g(self, name)
        return bool(base.__contains__(self, name))

    def pop(self: Any, name: str, *default: Any) -> Any:
        _record_g(self, name)
        return base.pop(self, name, *default)

    def setdefault(self: Any, name: str, default: Any = None) -> Any:
        _record_g(self, name)
        _written(self, name)
        return base.setdefault(self, name, default)

    def iterate(self: Any) -> Any:
        _record(self, "g", "")
        return base.__iter__(self)

    def setattribute(self: Any, name: str, value: Any) -> None:
        _written(self, name)
        base.__setattr__(self, name, value)

    return _subclass(base, {
        "__getattribute__": getattribute, "get": get, "__contains__": contains, "pop": pop,
        "setdefault": setdefault, "__iter__": iterate, "__setattr__": setattribute,
    })  # fmt: skip


def _record_g(namespace: Any, name: str) -> None:
    value = object.__getattribute__(namespace, "__dict__").get(name, _ABSENT)
    if _is_resource(value):
        return
    active = [reads for reads in _reads_of(namespace) if name not in reads.written]
    if not active:
        return
    for reads in active:
        if value is _ABSENT and ("g", name) not in reads.call_sites:
            reads.absent.add(name)
    _record(namespace, "g", name)


def _written(namespace: Any, name: str) -> None:
    for reads in _reads_of(namespace):
        reads.write(name)


def _host(environ: Any) -> tuple[Any, ...]:
    """Return the parts of the environment on which the links of ``url_for`` depend."""
    return (
        environ.get("HTTP_HOST", environ.get("SERVER_NAME")), environ.get("SCRIPT_NAME"),
        environ.get("wsgi.url_scheme"), environ.get("REQUEST_METHOD"),
    )  # fmt: skip


def _is_resource(value: Any) -> bool:
    """Return whether an object on ``g`` is a connection or the like, of a class of a library."""
    kind = type(value)
    module = sys.modules.get(kind.__module__)
    if is_own_file(getattr(module, "__file__", None) or ""):
        return False
    return any(hasattr(kind, name) for name in _RESOURCE)


def _subclass(base: Any, methods: dict[str, Any]) -> type:
    """Return a subclass that looks like its base."""
    names = {
        OBSERVED: True,
        "__slots__": (),
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
    }
    return type(base.__name__, (base,), names | methods)


class _Observed(NamedTuple):
    """An object whose reads are recorded: itself, its class, and the loads that run with it."""

    item: Any
    original: type
    loads: list[LoadReads]


_OBSERVED: dict[int, _Observed] = {}
_LOCK = create_reentrant_lock()


class _RequestCopy:
    """A copy of a request: its URL and its session, what is on ``g``, and context variables.

    Functions for the start of a request have run for it already. What they have put on ``g`` is copied,
    but for connections and the like, which the end of the request closes.
    """

    def __init__(self, context: Any) -> None:
        self._request = context.copy()
        state = object.__getattribute__(_cv_app.get().g, "__dict__")
        self._g = {
            name: value
            for name, value in state.items()
            if not any(hasattr(type(value), method) for method in (*_RESOURCE, "close"))
        }
        self._variables = contextvars.copy_context()

    def run(self, function: Callable[[], object]) -> None:
        """Call a function in the context of the copy."""
        self._variables.copy().run(self._run, function)

    def _run(self, function: Callable[[], object]) -> None:
        _cv_app.set(None)  # type: ignore[arg-type]  # it has ended
        _cv_request.set(None)  # type: ignore[arg-type]
        CURRENT.set(None)
        with self._request:
            _cv_app.get().g.__dict__.update(self._g)
            function()


class FlaskReads:
    """Observer of the request and the application context of the current code."""

    def begin(self) -> object:
        """Start recording; return an object for :meth:`end`, ``None`` where no application runs."""
        request, application = _cv_request.get(None), _cv_app.get(None)
        objects: list[tuple[Any, Callable[[Any], type]]] = []
        if request is not None:
            session = getattr(request, "_session", None)  # reading ``session`` marks it as accessed
            objects.append((request, _context_class))
            objects.append((request.request, _request_class))
            if session is not None or not hasattr(request, "_session"):
                objects.append((request.session if session is None else session, _session_class))
        if application is not None:
            objects.append((application.g, _g_class))
        if not objects:
            return None
        reads = LoadReads(CURRENT_READS.get())
        observed = []
        with _LOCK:
            for item, create in objects:
                if _observe(item, create, reads):
                    observed.append(item)
                else:  # it may read anything there
                    reads.call_sites[type(item).__name__, "?"] = ""
        return observed, reads, CURRENT_READS.set(reads), _READING.set(False)

    def end(self, token: Any) -> None:
        """Stop recording."""
        observed, reads, context, reading = token
        reads.ended = True
        with _LOCK:
            for item in observed:
                entry = _OBSERVED[id(item)]
                entry.loads.remove(reads)
                if not entry.loads:
                    del _OBSERVED[id(item)]
                    object.__setattr__(item, "__class__", entry.original)
        with SuppressOwn(ValueError):  # the task of an abandoned load ends in another context
            _READING.reset(reading)
            CURRENT_READS.reset(context)

    def routing(self, names: Iterable[str]) -> tuple[Any, ...]:
        """Return routing data of the current request, plain values, ``None`` where no request runs."""
        context, token = _cv_request.get(None), _READING.set(True)
        try:
            return tuple(None if context is None else _plain(context, name) for name in names)
        finally:
            _READING.reset(token)

    def request(self, function: Callable[..., Any]) -> CurrentRequest:
        """Return the current request, as it concerns a function that callers use."""
        context, application = _cv_request.get(None), _cv_app.get(None)
        if context is None:
            app = None if application is None else application.app
            return CurrentRequest(None, self.is_view(app, function))
        read, request = (
            object.__getattribute__,
            context.request,
        )  # past the class that records reads
        rule = read(request, "url_rule")
        view = None if rule is None else context.app.view_functions.get(rule.endpoint)
        return CurrentRequest(read(request, "method"), _is_decorated(view, function))

    def endpoint(self) -> tuple[str, str]:
        """Return endpoint and method of the current request, as they label its series."""
        span, token = current(), _READING.set(True)
        try:
            return ("", "") if span is None else endpoint_of(span)
        finally:
            _READING.reset(token)

    def copy_request(self) -> _RequestCopy | None:
        """Return a copy of the current request, ``None`` where no request runs."""
        context = _cv_request.get(None)
        return None if context is None else _RequestCopy(context)

    def blank_request(self, application: Any) -> AbstractContextManager[Any]:
        """Return a context with a request of no client, for loads whose reads are to be recorded."""
        return nullcontext() if application is None else application.test_request_context()

    def is_view(self, application: Any, function: Callable[..., Any]) -> bool:
        """Return whether a function that callers use is a view of an application."""
        views = [] if application is None else list(application.view_functions.values())
        return any(_is_decorated(view, function) for view in views)

    def synchronous(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that returns the result of a function, or of a coroutine function."""
        return current_app.ensure_sync(function)


def _is_decorated(view: Any, function: Callable[..., Any]) -> bool:
    """Return whether a view is a function, or decorators around it."""
    for _ in range(_MAX_DECORATORS):
        if view is None or view is function:
            break
        view = getattr(view, "__wrapped__", None)
    return view is function


def _plain(context: Any, name: str) -> str:
    if name == HOST:
        return repr(_host(context.request.environ))
    if name == FLASHES:
        return repr(context.flashes or context.session.get("_flashes", []))
    return repr(getattr(context.request, name))


def _observe(item: Any, create: Callable[[type], type], reads: LoadReads) -> bool:
    """Have an object record its reads; return whether it does."""
    known = _OBSERVED.get(id(item))
    if known is not None:
        known.loads.append(reads)
        return True
    original = type(item)
    try:
        object.__setattr__(item, "__class__", create(original))
    except Exception as error:  # its layout, or its class, allows no other class
        raise_if_of_host(error)
        return False
    _OBSERVED[id(item)] = _Observed(item, original, [reads])
    return True
