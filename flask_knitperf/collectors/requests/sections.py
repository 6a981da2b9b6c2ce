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
from typing import Any, TypeVar

from ...core.code_locations import short
from ...core.errors import KnitPerfError
from ...metrics.catalogue import FUNCTION
from ...recording.recorder import Recorder
from ...recording.span import CURRENT, OpenPart

ResolveRecorder = Callable[[], "Recorder | None"]
Outside = Callable[["Recorder | None", str], AbstractContextManager[None]]
_Function = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])
_NO_CONTEXT = nullcontext()


def section(name: str) -> AbstractContextManager[None]:
    """Return a context whose code is timed as a part of the request that runs here, if any.

    Args:
        name: of the section.
    """
    span = CURRENT.get()
    if span is None or span.ended:
        return _NO_CONTEXT
    return OpenPart(span, f"section:{name}")


class _Call:
    """One call of a profiled function; a generator runs in several steps."""

    def __init__(
        self, resolve: ResolveRecorder, name: str, where: str, outside: Outside | None
    ) -> None:
        self._recorder = resolve()
        self._name, self._where = name, where
        self._outside = outside
        self._wall = 0

    def context(self) -> AbstractContextManager[None]:
        """Return the context of a call outside of requests, one without effect for any other call."""
        recorder, outside = self._recorder, self._outside
        if recorder is None or outside is None or recorder.span() is not None:
            return _NO_CONTEXT
        return outside(recorder, self._name)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time one step."""
        recorder = self._recorder
        if recorder is None:
            yield
            return
        began = recorder.clock.monotonic_ns()
        try:
            with section(self._name):
                yield
        finally:
            self._wall += recorder.clock.monotonic_ns() - began

    def end(self) -> None:
        """Record the call."""
        recorder = self._recorder
        if recorder is None:
            return
        try:
            series = recorder.series(FUNCTION, self._name, self._where)
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


def _timed_function(function: _Function, start: Callable[[], _Call]) -> _Function:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        call = start()
        try:
            with call.context(), call.running():
                return function(*args, **kwargs)
        finally:
            call.end()

    return timed


def _timed_generator(function: _Function, start: Callable[[], _Call]) -> _Function:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        call = start()
        try:
            return (yield from _TimedGenerator(call, function(*args, **kwargs)))
        finally:
            call.end()

    return timed


def _timed_coroutine(function: _Function, start: Callable[[], _Call]) -> _Function:
    @functools.wraps(function)
    async def timed(*args: Any, **kwargs: Any) -> Any:
        call = start()
        try:
            with call.context(), call.running():
                return await function(*args, **kwargs)
        finally:
            call.end()

    return timed


def _timed_async_generator(function: _Function, start: Callable[[], _Call]) -> _Function:
    @functools.wraps(function)
    async def timed(*args: Any, **kwargs: Any) -> Any:
        call, generator = start(), function(*args, **kwargs)
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
    where = location_of(function)

    def start() -> _Call:
        return _Call(resolve, label, where, outside)

    if inspect.isasyncgenfunction(function):
        timed = _timed_async_generator(function, start)
    elif inspect.iscoroutinefunction(function):
        timed = _timed_coroutine(function, start)
    elif inspect.isgeneratorfunction(function):
        timed = _timed_generator(function, start)
    else:
        timed = _timed_function(function, start)
    timed.__knitperf__ = True  # type: ignore[attr-defined]
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
