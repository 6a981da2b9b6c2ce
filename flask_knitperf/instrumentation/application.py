"""The class of an application that is recorded: its ``wsgi_app`` calls the middleware.

A middleware that is an attribute of the application and holds its method ``wsgi_app`` closes a cycle:
the application would outlive its last reference until the garbage collector runs, and with it all that
it holds. Flask avoids such cycles. A weak reference instead would break hosts that keep nothing of an
application but ``app.wsgi_app``. So ``wsgi_app`` stays a method, which passes the application to the
middleware with each call: the application becomes an instance of a subclass of its class.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any

from flask import Flask

from ..core.host_exceptions import raise_if_of_host
from ..recording.fastpath import Environ, FastPathBase, StartResponse

_SERVE = "_knitperf_serve"
"""Attribute of an application: :meth:`.FastPathBase.serve` of its middleware."""
_CLASSES: weakref.WeakValueDictionary[type, type] = weakref.WeakValueDictionary()
"""The subclass of each class that applications had; it goes with the last of them."""


class Recorded:
    """First base of the class of a recorded application."""

    _knitperf_serve: Callable[[Environ, StartResponse, Recorded], Iterable[bytes]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Hide our subclass from the same method of the application's class."""
        if cls.__bases__[0] is not Recorded:
            super().__init_subclass__(**options)

    def wsgi_app(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request, and record it."""
        try:
            serve = self._knitperf_serve
        except AttributeError as error:  # another instance of the class, which the host has created
            raise_if_of_host(error)
            inner: Iterable[bytes] = super().wsgi_app(environ, start_response)  # type: ignore[misc]
            return inner
        return serve(environ, start_response, self)


def install_middleware(
    app: Flask, create: Callable[[Callable[..., Iterable[bytes]]], FastPathBase]
) -> None:
    """Have all requests of an application pass a middleware.

    Where something else than the application's method is its ``wsgi_app``, such as another middleware,
    that is wrapped.

    Args:
        app: the application.
        create: returns the middleware around a WSGI application, or around the method that is one.
    """
    inner: Any = app.wsgi_app
    if isinstance(app, Recorded) and "wsgi_app" not in vars(app):
        inner = super(Recorded, app).wsgi_app  # type: ignore[misc]
    is_own = type(inner) is MethodType and inner.__self__ is app  # no proxy of a tracer
    if is_own and "wsgi_app" not in vars(app) and _has_become_recorded(app):
        vars(app)[_SERVE] = create(inner.__func__).serve
    else:
        app.wsgi_app = create(inner)  # type: ignore[method-assign]


def _has_become_recorded(app: Flask) -> bool:
    """Make an application an instance of a recorded class; return ``False`` where that is impossible."""
    own = type(app)
    if issubclass(own, Recorded):
        return True
    if type(own) is not type:  # a metaclass of the host: it may count classes, or forbid more
        return False
    recorded = _CLASSES.get(own)
    if recorded is None:
        recorded = _CLASSES[own] = _recorded(own)
    try:
        object.__setattr__(app, "__class__", recorded)
    except TypeError as error:  # the layout of its objects is not that of Python classes
        raise_if_of_host(error)
        return False
    return True


def _recorded(own: type) -> type:
    """Return a subclass that looks like its base."""
    names = ("__module__", "__qualname__", "__doc__")
    return type(own.__name__, (Recorded, own), {name: getattr(own, name) for name in names})
