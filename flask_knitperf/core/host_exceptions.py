"""Exceptions of the host that are raised in the middle of our code.

A signal handler runs between any two instructions of the main thread, and what it raises passes through
the frames that it interrupted, ours included. The same holds for an exception that one thread sets in
another. Our code catches every ``Exception`` of ours, so that a failure never reaches the host; these
are not ours. A timeout that is swallowed is a request that never ends.
"""

from __future__ import annotations

import functools
import signal
import sys
from types import CodeType
from typing import Any

from .code_locations import PACKAGE

_OWN_PACKAGES = frozenset({
    "builtins", "flask_knitperf", "flask", "werkzeug", "jinja2", "pandas", "numpy", "psutil",
    "cachetools", "sqlalchemy", "sqlglot", "psycopg", "pyarrow",
}) | sys.stdlib_module_names  # fmt: skip
"""Top-level packages whose exceptions our own code may raise."""


def raise_if_of_host(error: BaseException) -> None:
    """Raise an exception again if the host raised it in the middle of our code.

    Args:
        error: caught by a handler that keeps our failures from the host.
    """
    if _is_from_signal_handler(error) or _is_set_by_another_thread(error):
        raise error


def _is_from_signal_handler(error: BaseException) -> bool:
    """Return whether a frame of a present signal handler is in the traceback."""
    codes = _codes(error)
    return bool(codes) and not codes.isdisjoint(_handler_codes())


def _is_set_by_another_thread(error: BaseException) -> bool:
    """Return whether our own frame is the innermost, and no code of ours has such exceptions."""
    package = type(error).__module__.partition(".")[0]
    if package in _OWN_PACKAGES:
        return False
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(PACKAGE)


def _codes(error: BaseException) -> set[CodeType]:
    codes = set()
    traceback = error.__traceback__
    while traceback is not None:
        codes.add(traceback.tb_frame.f_code)
        traceback = traceback.tb_next
    return codes


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
