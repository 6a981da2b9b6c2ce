"""Sections and decorated functions: parts of a request that the application names itself.

A section inside a request is a part of it; a decorated function also has a histogram of its own, in a
request or not. Sync functions, coroutines and generators keep their kind and their signature. A
generator is timed while it runs, not while whoever asked it for an item works on that.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ...core.code_locations import short
from ...core.errors import KnitPerfError
from ...metrics.catalogue import FUNCTION
from ...recording.recorder import Recorder

Resolve = Callable[[], "Recorder | None"]
F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def section(recorder: Recorder | None, name: str, prefix: str = "section:") -> Iterator[None]:
    """Time a stretch of code as a part of the request that runs here."""
    span = recorder.span() if recorder is not None else None
    if recorder is None or span is None:
        yield
        return
    clock = recorder.clock
    sampled = span.cpu_began is not None
    part = span.open(prefix + name, clock.monotonic_ns(), clock.runnable_ns() if sampled else None)
    try:
        yield
    finally:
        span.close(part, clock.monotonic_ns(), clock.runnable_ns() if sampled else None)


class _Call:
    """One call of a profiled function, which may run in several turns."""

    def __init__(self, resolve: Resolve, name: str, where: str) -> None:
        self._recorder = resolve()
        self._name, self._where = name, where
        self._took = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Time a stretch in which it runs."""
        recorder = self._recorder
        if recorder is None:
            yield
            return
        began = recorder.clock.monotonic_ns()
        try:
            with section(recorder, self._name):
                yield
        finally:
            self._took += recorder.clock.monotonic_ns() - began

    def end(self) -> None:
        """Record the call."""
        recorder = self._recorder
        if recorder is None:
            return
        try:
            series = recorder.series(FUNCTION, self._name, self._where)
            recorder.record((series, float(self._took)))
        except Exception as error:
            recorder.failed("function", error)


class _Turns:
    """What ``yield from`` needs of a generator, each turn of it timed."""

    def __init__(self, call: _Call, made: Generator[Any, Any, Any]) -> None:
        self._call, self._made = call, made

    def __iter__(self) -> _Turns:
        return self

    def __next__(self) -> Any:
        with self._call.turn():
            return next(self._made)

    def send(self, value: Any) -> Any:
        with self._call.turn():
            return self._made.send(value)

    def throw(self, *error: Any) -> Any:
        with self._call.turn():
            return self._made.throw(*error)

    def close(self) -> None:
        with self._call.turn():
            self._made.close()


def where_is(function: Callable[..., Any]) -> str:
    """Return ``file:line`` of a function, an empty string for builtins."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return ""
    return short(code.co_filename, code.co_firstlineno)


def profiled(function: F, resolve: Resolve, name: str | None = None) -> F:
    """Return a function of the same kind that is timed at each call.

    Args:
        function: a function, a coroutine function, a generator or an async generator function.
        resolve: returns the recorder of the application that runs, ``None`` outside of one.
        name: what to call it; its qualified name by default.
    """
    called = name or function.__qualname__.replace("<locals>.", "")
    where = where_is(function)
    timed: Callable[..., Any]

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            call, made = _Call(resolve, called, where), function(*args, **kwargs)
            step = anext(made)
            try:
                while True:
                    with call.turn():
                        item = await step
                    try:
                        step = made.asend((yield item))
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        step = made.athrow(error)
            except StopAsyncIteration:
                return
            finally:
                with call.turn():
                    await made.aclose()
                call.end()

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            call = _Call(resolve, called, where)
            try:
                with call.turn():
                    return await function(*args, **kwargs)
            finally:
                call.end()

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            call = _Call(resolve, called, where)
            try:
                return (yield from _Turns(call, function(*args, **kwargs)))
            finally:
                call.end()

    else:

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            call = _Call(resolve, called, where)
            try:
                with call.turn():
                    return function(*args, **kwargs)
            finally:
                call.end()

    timed.__knitperf__ = True  # type: ignore[attr-defined]
    return timed  # type: ignore[return-value]


def instrument(service: Any, resolve: Resolve) -> Any:
    """Time every public method of an object or a class.

    Properties, static and class methods and names that begin with an underscore are left alone;
    doing it twice changes nothing.

    Returns:
        ``service``.

    Raises:
        KnitPerfError: the object takes no attributes.
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
        called = f"{owner.__name__}.{name}"
        plain = method if inspect.isclass(service) else getattr(service, name)
        try:
            setattr(service, name, profiled(plain, resolve, called))
        except AttributeError as error:
            raise KnitPerfError(
                f"{owner.__name__} takes no attributes; instrument the class instead of the object"
            ) from error
    return service
