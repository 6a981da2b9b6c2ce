"""Exceptions of the host that are raised in the middle of our code.

A signal handler runs between any two instructions of the main thread, and what it raises passes through
the frames that it interrupted, ours included. The same holds for an exception that one thread sets in
another. Our code catches every ``Exception`` of ours, so that a failure never reaches the host; these
are not ours. A timeout that is swallowed is a request that never ends.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import signal
import sys
from types import CodeType, FrameType, TracebackType
from typing import Any

from .package_folder import PACKAGE

_OWN_PACKAGES = frozenset({
    "builtins", "flask_knitperf", "flask", "werkzeug", "jinja2", "pandas", "numpy", "psutil",
    "cachetools", "sqlalchemy", "sqlglot", "psycopg", "pyarrow", "redis",
}) | sys.stdlib_module_names  # fmt: skip
"""Top-level packages whose exceptions our own code may raise."""


def raise_if_of_host(error: BaseException) -> None:
    """Raise an exception again if the host raised it in the middle of our code.

    Each handler of ours that goes on after a failure calls it, a narrow one too: ``TimeoutError``, which
    handlers of alarms often raise, is an ``OSError``.

    Args:
        error: caught by a handler that keeps our failures from the host. An exception of the host that
            ours was raised from (``raise … from``) is raised in its place.
    """
    cause = _host_exception(error)
    if cause is not None:
        raise cause


def is_of_host(error: BaseException) -> bool:
    """Return whether the host raised an exception, or its cause, in the middle of our code."""
    return _host_exception(error) is not None


def _host_exception(error: BaseException) -> BaseException | None:
    cause: BaseException | None = error
    while cause is not None:
        if _is_from_signal_handler(cause) or _is_set_by_another_thread(cause):
            return cause
        cause = cause.__cause__
    return None


class SuppressOwn(contextlib.suppress):
    """``contextlib.suppress`` for exceptions of this package: those of the host pass."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Suppress an exception of the given types, unless the host raised it."""
        is_suppressed = bool(super().__exit__(kind, error, traceback))
        if is_suppressed and error is not None:
            raise_if_of_host(error)
        return is_suppressed


def _is_from_signal_handler(error: BaseException) -> bool:
    """Return whether a frame of a signal handler is in the traceback."""
    frames = [frame for frame in _frames(error) if not _is_ours(frame)]
    if any(_was_called_as_handler(frame) for frame in frames):
        return True
    return bool(frames) and not _handler_codes().isdisjoint(frame.f_code for frame in frames)


def _was_called_as_handler(frame: FrameType) -> bool:
    """Return whether the frame that it interrupted is an argument: those of a signal handler.

    So a handler is recognised that is not installed any more, since it disarmed itself before it raised.
    """
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount]
    values = [frame.f_locals.get(name) for name in names]
    if code.co_flags & inspect.CO_VARARGS:
        name = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        values += frame.f_locals.get(name, ())
    return frame.f_back is not None and any(value is frame.f_back for value in values)


def _is_set_by_another_thread(error: BaseException) -> bool:
    """Return whether our own frame is the innermost, and no code of ours has such exceptions."""
    package = type(error).__module__.partition(".")[0]
    if package in _OWN_PACKAGES:
        return False
    frames = _frames(error)
    return bool(frames) and _is_ours(frames[-1])


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames that an exception passed through, the outermost first."""
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(PACKAGE)


def _handler_codes() -> set[CodeType]:
    codes = set()
    for number in signal.valid_signals():
        function: Any = signal.getsignal(number)
        while isinstance(function, functools.partial):
            function = function.func
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is None and callable(function):
            code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004
        if code is not None:
            codes.add(code)
    return codes
