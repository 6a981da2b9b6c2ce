"""Detection of sub-interpreters, in which NumPy and other extension modules are not supported.

mod_wsgi runs each application in a separate one, unless it is configured otherwise.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

LIMIT = (
    "this application runs in a sub-interpreter, which NumPy does not support: a second application of "
    "this process cannot import NumPy; under mod_wsgi set WSGIApplicationGroup %{GLOBAL}"
)
"""Sentence for reports."""


@cache
def is_subinterpreter() -> bool:
    """Return whether this code runs in another interpreter than the main one of the process."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # since Python 3.13, and before
        try:
            interpreters = import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() != interpreters.get_main())
    return False


def explanation(error: ImportError) -> str:
    """Return the remedy of an import that the interpreter made fail, empty if it was not the cause."""
    if isinstance(error, ModuleNotFoundError) or not is_subinterpreter():
        return ""
    return (
        "NumPy can be imported in one sub-interpreter of a process only; under mod_wsgi set "
        "WSGIApplicationGroup %{GLOBAL}, so that all applications use the main interpreter"
    )
