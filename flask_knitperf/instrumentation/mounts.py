"""Applications and middleware inside of the wrapped WSGI application, beside its own views.

``DispatcherMiddleware`` in ``app.wsgi_app`` serves other applications, whose endpoints may have the
names of the application's own. A mounted one is named by its script root: ``/api:index``. A middleware
that answers by itself has a separate row.

Only where something is inside is each response examined; elsewhere a request pays nothing for it.
"""

from __future__ import annotations

import weakref
from types import MethodType
from typing import Any

from flask import Flask, current_app, has_app_context, has_request_context, request
from werkzeug.http import parse_list_header
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from ..collectors.requests.endpoint_series import MIDDLEWARE, UNMATCHED
from ..metrics.instruments import OTHER
from ..recording.span import Span
from .routes import endpoint_resolver

_MAX_ROOTS = 100  # distinguished script roots; a proxy's header may set the root


class Mounts:
    """Names what other applications inside of an application serve.

    Args:
        app: the application, before it is wrapped.
    """

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._url_map = app.url_map
        self._roots: set[str] = set()
        self._prefixes: tuple[str, ...] = ()
        inner: Any = app.wsgi_app
        while isinstance(inner, ProxyFix | DispatcherMiddleware):
            if isinstance(inner, DispatcherMiddleware):
                self._prefixes += tuple(inner.mounts)
            inner = inner.app
        is_plain = isinstance(inner, MethodType) and inner.__func__ is Flask.wsgi_app
        self.span_class: type[Span] = Span if is_plain and not self._prefixes else InnerSpan

    def endpoint(self, environ: dict[str, Any], rule: Any) -> str:
        """Return the name of a rule's endpoint, with the script root if the rule is not our own."""
        name = str(rule.endpoint)
        return name if rule.map is self._url_map else f"{self._root(environ)}:{name}"

    def unrouted(self, environ: dict[str, Any]) -> str | None:
        """Return the name of what serves a request, ``None`` for the application itself."""
        if has_request_context():  # a middleware may have copied the environment (Flask-SocketIO)
            if request.url_rule is not None:
                return self.endpoint(environ, request.url_rule)
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
            if app is self._app():
                return None
            return f"{self._root(environ)}:{_matched(app) or UNMATCHED}"
        if environ.get("werkzeug.request", environ) is None:  # its context was popped
            return None
        return self.mount(environ) or MIDDLEWARE

    def mount(self, environ: dict[str, Any]) -> str | None:
        """Return the script root of the mounted application that serves a request, if one does."""
        root = _own_root(environ)
        is_mounted = any(prefix and root.endswith(prefix) for prefix in self._prefixes)
        return self._root(environ) if is_mounted else None

    def _root(self, environ: dict[str, Any]) -> str:
        root = _own_root(environ) or (current_app.name if has_app_context() else MIDDLEWARE)
        if root not in self._roots:
            if len(self._roots) >= _MAX_ROOTS:
                return OTHER
            self._roots.add(root)
        return str(root)


def _own_root(environ: dict[str, Any]) -> str:
    """Return the script root of a request without the prefix that ``ProxyFix`` took from a header.

    One application may be behind several prefixes, and a client may send any.
    """
    root: str = environ.get("SCRIPT_NAME", "")
    if "werkzeug.proxy_fix.orig" in environ:
        for prefix in reversed(parse_list_header(environ.get("HTTP_X_FORWARDED_PREFIX", ""))):
            if root.startswith(prefix):
                return root[len(prefix) :]
    return root


def _matched(app: Flask) -> str | None:
    """Return the endpoint of an application's request that failed before it was routed."""
    has_failed = request.routing_exception is None
    return endpoint_resolver(app)(request.environ) if has_failed else None


class InnerSpan(Span):
    """A request of an application inside of which other applications may be mounted."""

    __slots__ = ()

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        """Start the response; the endpoint of another application is named by its script root."""
        write = super().__call__(status, headers, exc_info)
        self.middleware.name_mounted(self)
        return write

    def name_of(self, rule: Any) -> str:
        """Return the name of a rule's endpoint."""
        name: str = self.middleware.mounts.endpoint(self.environ, rule)
        return name
