"""The endpoints of a Flask application: their rules, thresholds, and whether they are coroutines.

What is returned here holds the application weakly: the housekeeper, which uses it, must not keep an
application alive that only it holds.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask

from ..collectors.requests.endpoint_series import METHODS
from ..core.host_exceptions import raise_if_of_host

if TYPE_CHECKING:
    from ..reports.build import Route

V = TypeVar("V")
_BUDGET = "__knitperf_budget__"


def routes(app: Flask) -> list[Route]:
    """Return endpoint, rule and methods of everything an application serves, except our pages."""
    return [
        (rule.endpoint, rule.rule, tuple(sorted(rule.methods or ())))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("knitperf.")
    ]


def endpoint_resolver(app: Flask) -> Callable[[dict[str, Any]], str | None]:
    """Return a function from a WSGI environment to its endpoint, ``None`` where no rule matches."""
    application = weakref.ref(app)

    def resolve(environ: dict[str, Any]) -> str | None:
        app = application()
        if app is None:
            return None
        try:
            adapter = app.create_url_adapter(app.request_class(environ))
            return None if adapter is None else str(adapter.match()[0])
        except Exception as error:
            # no match, or a converter or request class of the host raises once more
            raise_if_of_host(error)
            return None

    return resolve


def set_budget(view: V, thresholds: dict[str, float]) -> V:
    """Attach thresholds to a view function or view class; return it."""
    setattr(view, _BUDGET, thresholds)
    return view


def budgets(app: Flask) -> dict[str, dict[str, float]]:
    """Return the thresholds that are attached to views, by endpoint."""
    by_endpoint = {}
    for endpoint, view in app.view_functions.items():
        for holder in (view, getattr(view, "view_class", None)):
            thresholds = getattr(holder, _BUDGET, None)
            if thresholds is not None:
                by_endpoint[endpoint] = thresholds
                break
    return by_endpoint


def async_detector(app: Flask) -> Callable[[str], bool]:
    """Return a function from an endpoint to whether its view is a coroutine.

    Flask runs coroutines in another thread, so the clock of the request's thread does not cover them.
    """
    by_endpoint: dict[str, bool] = {}
    application = weakref.ref(app)

    def is_async(endpoint: str) -> bool:
        app = application()
        if endpoint not in by_endpoint and app is not None:
            by_endpoint[endpoint] = _is_coroutine(app.view_functions.get(endpoint))
        return by_endpoint.get(endpoint, False)

    return is_async


def websocket_detector(app: Flask) -> Callable[[str], bool]:
    """Return a function from an endpoint to whether one of its rules is a websocket's."""
    by_endpoint: dict[str, bool] = {}
    application = weakref.ref(app)

    def is_websocket(endpoint: str) -> bool:
        app = application()
        if endpoint not in by_endpoint and app is not None:
            rules = app.url_map.iter_rules(endpoint) if endpoint in app.view_functions else ()
            by_endpoint[endpoint] = any(rule.websocket for rule in rules)
        return by_endpoint.get(endpoint, False)

    return is_websocket


def _is_coroutine(view: Any) -> bool:
    """Return whether a view, or a method of a view class, is a coroutine."""
    view_class = getattr(view, "view_class", None)
    if view_class is None:
        return inspect.iscoroutinefunction(view)
    names = ("dispatch_request", *(method.lower() for method in METHODS))
    return any(inspect.iscoroutinefunction(getattr(view_class, name, None)) for name in names)
