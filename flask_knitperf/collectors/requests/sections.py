"""Sections and profiled functions: parts of a request that the application names.

A section inside a request is a part of it; a profiled function also has a histogram, inside a request or
not. Functions, coroutines and generators keep their kind and their signature. A generator is timed while
it runs, not while its consumer works on an item.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import CodeType, MethodType
from typing import Any, TypeVar

from ...core.code_locations import short
from ...core.errors import KnitPerfError
from ...metrics.catalogue import FUNCTION
from ...recording.collector import CallWatch, CallWatches
from ...recording.recorder import Recorder
from ...recording.span import CURRENT, OpenPart

ResolveRecorder = Callable[[], "Recorder | None"]
Outside = Callable[["Recorder | None", str], AbstractContextManager[None]]
_Function = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])
_NO_CONTEXT = nullcontext()
_WATCH = "caching what-if"  # name of the part, in reports of its failures


def section(name: str) -> AbstractContextManager[None]:
    """Return a context whose code is timed as a part of the request that runs here, if any.

    Args:
        name: of the section.
    """
    span = CURRENT.get()
    if span is None or span.ended:
        return _NO_CONTEXT
    return OpenPart(span, f"section:{name}")


class _Profiled:
    """A function whose calls are timed.

    Args:
        function: the function.
        resolve: returns the recorder of the current application, ``None`` outside one.
        name: in the report.
        outside: context of a call outside of requests.

    Attributes:
        function: see above.
        name: see above.
        where: ``file:line``.
        outside: see above.
        is_cached: whether a cache calls it, so that its calls are loads, which are not watched.
    """

    def __init__(
        self, function: _Function, resolve: ResolveRecorder, name: str, outside: Outside | None
    ) -> None:
        self.function, self.name, self.outside = function, name, outside
        self.where = location_of(function)
        self.is_cached = False
        self._resolve = resolve
        self._instance = function.__self__ if isinstance(function, MethodType) else None
        self._watched_by: CallWatches | None = None
        self._watch: CallWatch | None = None

    def start(self) -> _Call:
        """Return a call that starts."""
        return _Call(self, self._resolve())

    def start_watched(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """Return a call that starts, watched if functions are."""
        call = _Call(self, self._resolve())
        recorder = call.recorder
        if recorder is None or self.is_cached:
            return call
        try:
            if recorder.call_watches is not self._watched_by:
                self._find_watch(recorder)
            watch = self._watch
            if watch is not None:
                instance = self._instance
                watched = watch.begin(args if instance is None else (instance, *args), kwargs)
                if watched is not None:
                    call.watch, call.watched = watch, watched
        except Exception as error:
            recorder.failed(_WATCH, error)
            self.end_watch()
        return call

    def _find_watch(self, recorder: Recorder) -> None:
        watches = self._watched_by = recorder.call_watches
        self._watch = None
        if watches is not None:
            self._watch = watches.of(self.function, self.name, self.where)

    def end_watch(self) -> None:
        """Watch the function no longer: its watch has failed."""
        self._watch = None


class _Call:
    """One call of a profiled function; a generator runs in several steps.

    Attributes:
        recorder: of the application, ``None`` outside one.
        watch: watches the call, ``None`` if nothing does.
        watched: the call as the watch has it.
    """

    def __init__(self, function: _Profiled, recorder: Recorder | None) -> None:
        self.recorder = recorder
        self.watch: CallWatch | None = None
        self.watched: Any = None
        self._function = function
        self._began = self._wall = 0

    def context(self) -> AbstractContextManager[None]:
        """Return the context of a call outside of requests, one without effect for any other call."""
        recorder, outside = self.recorder, self._function.outside
        if recorder is None or outside is None or recorder.span() is not None:
            return _NO_CONTEXT
        return outside(recorder, self._function.name)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time one step."""
        recorder = self.recorder
        if recorder is None:
            yield
            return
        began = self._began = recorder.clock.monotonic_ns()
        try:
            with section(self._function.name):
                yield
        finally:
            self._wall += recorder.clock.monotonic_ns() - began

    def returns(self, result: Any) -> None:
        """Have the watch note the result."""
        watch, recorder = self.watch, self.recorder
        if watch is None or recorder is None:
            return
        self.watch = None
        try:
            watch.end(self.watched, self._began, self._began + self._wall, result)
        except Exception as error:
            recorder.failed(_WATCH, error)
            self._function.end_watch()

    def _raises(self, watch: CallWatch, recorder: Recorder) -> None:
        """Have the watch note that the call has raised."""
        try:
            watch.fail(self.watched, self._began, self._began + self._wall)
        except Exception as error:
            recorder.failed(_WATCH, error)
            self._function.end_watch()

    def end(self) -> None:
        """Record the call."""
        recorder = self.recorder
        if recorder is None:
            return
        if self.watch is not None:
            self._raises(self.watch, recorder)
        try:
            series = recorder.series(FUNCTION, self._function.name, self._function.where)
            recorder.record((series, float(self._wall)))
        except Exception as error:
            recorder.failed("function", error)


class _TimedGenerator:
    """The interface that ``yield from`` needs of a generator, each step timed."""

    def __init__(self, call: _Call, generator: Generator[Any, Any, Any]) -> None:
        self._call, self._generator = call, generator

    def __iter__(self) -> _TimedGenerator:
        return self

    def __next__(self) -> Any:
        with self._call.running():
            return next(self._generator)

    def send(self, value: Any) -> Any:
        with self._call.running():
            return self._generator.send(value)

    def throw(self, *error: Any) -> Any:
        with self._call.running():
            return self._generator.throw(*error)

    def close(self) -> None:
        with self._call.running():
            self._generator.close()


def location_of(function: Callable[..., Any]) -> str:
    """Return ``file:line`` of a function, empty for builtins."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return ""
    return short(code.co_filename, code.co_firstlineno)


def _timed_function(called: _Profiled) -> _Function:
    function = called.function

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        call = called.start_watched(args, kwargs)
        try:
            with call.context(), call.running():
                result = function(*args, **kwargs)
            call.returns(result)
            return result
        finally:
            call.end()

    return timed


def _timed_generator(called: _Profiled) -> _Function:
    function = called.function

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        call = called.start()
        try:
            return (yield from _TimedGenerator(call, function(*args, **kwargs)))
        finally:
            call.end()

    return timed


def _timed_coroutine(called: _Profiled) -> _Function:
    function = called.function

    @functools.wraps(function)
    async def timed(*args: Any, **kwargs: Any) -> Any:
        call = called.start_watched(args, kwargs)
        try:
            with call.context(), call.running():
                result = await function(*args, **kwargs)
            call.returns(result)
            return result
        finally:
            call.end()

    return timed


def _timed_async_generator(called: _Profiled) -> _Function:
    function = called.function

    @functools.wraps(function)
    async def timed(*args: Any, **kwargs: Any) -> Any:
        call, generator = called.start(), function(*args, **kwargs)
        step = anext(generator)
        try:
            while True:
                with call.running():
                    item = await step
                try:
                    step = generator.asend((yield item))
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = generator.athrow(error)
        except StopAsyncIteration:
            return
        finally:
            with call.running():
                await generator.aclose()
            call.end()

    return timed


def _codes() -> Iterator[CodeType]:
    """Yield the code of functions that call a profiled one."""
    for wrap in (_timed_function, _timed_coroutine):
        yield wrap(_Profiled(_codes, lambda: None, "", None)).__code__


CALLERS: frozenset[CodeType] = frozenset(_codes())
"""Code that calls a profiled function."""


def profiled(
    function: F, resolve: ResolveRecorder, name: str | None = None, outside: Outside | None = None
) -> F:
    """Return a function of the same kind whose calls are timed.

    Args:
        function: a function, a coroutine function, a generator or an async generator function.
        resolve: returns the recorder of the current application, ``None`` outside one.
        name: for the report; the qualified name by default.
        outside: context in which a call runs that is part of no request, but of a generator's steps.
    """
    label = name or function.__qualname__.replace("<locals>.", "")
    called = _Profiled(function, resolve, label, outside)
    if inspect.isasyncgenfunction(function):
        timed = _timed_async_generator(called)
    elif inspect.iscoroutinefunction(function):
        timed = _timed_coroutine(called)
    elif inspect.isgeneratorfunction(function):
        timed = _timed_generator(called)
    else:
        timed = _timed_function(called)
    timed.__knitperf__ = True  # type: ignore[attr-defined]
    timed.__knitperf_profiled__ = called  # type: ignore[attr-defined]
    return timed  # type: ignore[return-value]


def instrument(service: Any, resolve: ResolveRecorder, outside: Outside | None = None) -> Any:
    """Time every public method of an object or a class.

    Properties, static and class methods and names that start with an underscore are left alone.
    Instrumenting twice has no further effect.

    An instrumented object refers to itself through its methods: it is freed by the garbage collector,
    not with its last reference. Instrument the class where that matters.

    Returns:
        ``service``.

    Raises:
        KnitPerfError: the object accepts no attributes.
    """
    owner = service if inspect.isclass(service) else type(service)
    for name in dir(owner):
        method = inspect.getattr_static(owner, name)
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        if getattr(method, "__knitperf__", False):
            continue
        if getattr(getattr(service, name), "__knitperf__", False):
            continue
        label = f"{owner.__name__}.{name}"
        original = method if inspect.isclass(service) else getattr(service, name)
        try:
            setattr(service, name, profiled(original, resolve, label, outside))
        except AttributeError as error:
            raise KnitPerfError(
                f"{owner.__name__} accepts no attributes; instrument the class instead of the object"
            ) from error
    return service
