"""URL rules of the pages, matched only for authorised requests.

The application's own URL map can build the pages' URLs (``url_for``, ``flask routes``) but never
matches one: their rules are ``build_only``. An authorised request is matched against the same rules in
a separate map. For every other request there is nothing under the prefix: no redirect to a trailing
slash, no 405, no answer to ``OPTIONS``, but the application's own answer to an unknown URL, whatever
that is.

Nothing of this costs a worker anything until it serves its first authorised request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from flask import request as current_request
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, MapAdapter, Rule

from ..core.locks import Lock
from .guard import Principal

PRINCIPAL = "knitperf.principal"
"""Key of the guard's decision in the WSGI environment."""
_PAGES = "knitperf.pages"
"""Key of the pages' URL adapter in the WSGI environment of an authorised request."""


def is_authorised(environ: dict[str, Any]) -> bool:
    """Return whether the guard authenticated the client of a request."""
    return isinstance(environ.get(PRINCIPAL), Principal)


def page_url(page: str, **values: str | None) -> str:
    """Return the URL of a page, relative to the host: with ``host_matching`` the pages have none.

    The current request must be an authorised one.

    Args:
        page: endpoint of the page.
        values: variables of its rule; others become the query, without those that are ``None``.
    """
    adapter: MapAdapter = current_request.environ[_PAGES]
    return adapter.build(page, values)


def page_router(app: Flask, blueprint: str) -> Callable[[], None]:
    """Return a function to call before each authorised request: the first call routes them.

    From then on authorised requests are matched against the pages of a blueprint first, then against
    the application's rules.
    """
    lock = Lock()
    routed = False

    def route_once() -> None:
        nonlocal routed
        with lock:
            if not routed:
                _route_pages(app, blueprint)
                routed = True

    return route_once


def _route_pages(app: Flask, blueprint: str) -> None:
    """Route authorised requests to the pages of a blueprint first, then to the application."""
    pages = Map([
        _matching_rule(rule) for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(f"{blueprint}.")
    ])  # fmt: skip
    create_own = app.create_url_adapter

    def create_url_adapter(request: Any) -> MapAdapter | None:
        if (
            request is None
            or PRINCIPAL not in request.environ
            or not is_authorised(request.environ)
        ):
            return create_own(request)
        adapter = create_own(request)
        if adapter is None:
            return None
        own_pages = request.environ[_PAGES] = pages.bind_to_environ(request.environ)
        match_own, match_pages = adapter.match, own_pages.match

        def pages_first(*args: Any, **kwargs: Any) -> Any:
            try:
                return match_pages(*args, **kwargs)
            except NotFound:  # a page of the application under the same prefix
                return match_own(*args, **kwargs)

        adapter.match = pages_first  # type: ignore[method-assign]
        return adapter

    app.create_url_adapter = create_url_adapter  # type: ignore[method-assign]


def _matching_rule(rule: Rule) -> Rule:
    """Return a rule that matches what a ``build_only`` rule builds."""
    matching = Rule(
        rule.rule, endpoint=rule.endpoint, methods=rule.methods, strict_slashes=rule.strict_slashes
    )
    matching.provide_automatic_options = rule.provide_automatic_options  # type: ignore[attr-defined]
    return matching
