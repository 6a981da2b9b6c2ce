"""Sections and decorated functions: parts of a request that the application names itself.

A section inside a request is a part of it; a decorated function also has a histogram of its own, in a
request or not. Sync functions, coroutines and generators keep their kind and their signature.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..core.errors import KnitPerfError
from ..core.meters import Kind, Meter
from ..core.recorder import Recorder
from .requests import wanted_ns

FUNCTION = Meter("function", Kind.HISTOGRAM, "ns", ("name", "where"), 1000)
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
    part = span.open(prefix + name, clock.monotonic_ns(), wanted_ns(clock) if sampled else None)
    try:
        yield
    finally:
        span.close(part, clock.monotonic_ns(), wanted_ns(clock) if sampled else None)


@contextmanager
def _call(resolve: Resolve, name: str, where: str) -> Iterator[None]:
    recorder = resolve()
    if recorder is None:
        yield
        return
    began = recorder.clock.monotonic_ns()
    try:
        with section(recorder, name):
            yield
    finally:
        took = recorder.clock.monotonic_ns() - began
        try:
            recorder.record((recorder.series(FUNCTION, name, where), float(took)))
        except Exception as error:
            recorder.failed("function", error)


def where_is(function: Callable[..., Any]) -> str:
    """Return ``file:line`` of a function, an empty string for builtins."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return ""
    parts = code.co_filename.replace("\\", "/").split("/")
    return f"{'/'.join(parts[-2:])}:{code.co_firstlineno}"


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
            with _call(resolve, called, where):
                made = function(*args, **kwargs)
                try:
                    item = await anext(made)
                    while True:
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:
                            item = await made.athrow(error)
                        else:
                            item = await made.asend(sent)
                except StopAsyncIteration:
                    return
                finally:
                    await made.aclose()

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            with _call(resolve, called, where):
                return await function(*args, **kwargs)

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with _call(resolve, called, where):
                return (yield from function(*args, **kwargs))

    else:

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with _call(resolve, called, where):
                return function(*args, **kwargs)

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
