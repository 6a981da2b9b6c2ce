"""Limits that a server sets to Python in its processes, and the options that lift them.

mod_wsgi runs each application in a separate sub-interpreter, unless it is configured otherwise; NumPy
and other extension modules do not support those. uWSGI without threads, which was its default, runs no
thread of Python between requests.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module

INTERPRETER = (
    "this application runs in a sub-interpreter, which NumPy does not support: a second application of "
    "this process cannot import NumPy; under mod_wsgi set WSGIApplicationGroup %{GLOBAL}"
)
THREADS = (
    "threads run only during requests, so windows may start early and requests in progress are missing; "
    "start uWSGI with --enable-threads"
)


def server_limits() -> dict[str, str]:
    """Return a sentence for reports on each limit that holds in this process, by its subject."""
    limits = {}
    if is_subinterpreter():
        limits["interpreter"] = INTERPRETER
    uwsgi = sys.modules.get("uwsgi")  # exists inside of that server only
    if not getattr(uwsgi, "has_threads", True):
        limits["server threads"] = THREADS
    return limits


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
