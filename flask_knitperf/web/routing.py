"""URL rules of the pages, matched only for authorised requests.

The application's own URL map holds none of them, so whatever walks it (site maps, API documentation,
static site generators, ``flask routes``) finds the application's pages alone, and so does what looks up
the rule of each view function. They have a separate map, which authorised requests are matched against;
``url_for`` builds their URLs through a handler of build errors. For every other request there is
nothing under the prefix: no redirect to a trailing slash, no 405, no answer to ``OPTIONS``, but the
application's own answer to an unknown URL, whatever that is.

Nothing of this costs a worker anything until it serves its first authorised request, or the first about
which ``KNITPERF_ACCESS`` decides: that is called when the request is matched.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cached_property
from types import MethodType
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Flask, has_request_context
from flask import request as current_request
from flask.blueprints import BlueprintSetupState
from flask.sansio.app import App
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, MapAdapter, Rule

from ..core.locks import create_lock
from .guard import Guard, GuardResponse, Principal, Undecided
from .session_cookie import Environ

_View = Callable[..., Any]
PRINCIPAL = "knitperf.principal"
"""Key of the guard's decision in the WSGI environment."""
_PAGES = "knitperf.pages"
"""Key of the pages' URL adapter in the WSGI environment of an authorised request."""
_URL_FOR_OPTIONS = ("_anchor", "_method", "_scheme", "_external")
_ANCHOR_SAFE = "%!#$&'()*+,/:;=?@"  # as of Flask's own url_for
_MOUNT_SAFE = "/~:@!$&'()*+,;="


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


class PagesBlueprint(Blueprint):
    """Blueprint whose rules and views are kept apart from those of the application.

    Attributes:
        views: view functions of the pages, by endpoint.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rules: list[Rule] = []
        self.views: dict[str, _View] = {}

    def make_setup_state(
        self, app: App, options: dict[str, Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        """Return the object that Flask registers the rules with."""
        app.url_build_error_handlers.insert(0, self._build_url)  # type: ignore[arg-type]
        return _SetupState(self, app, options, first_registration)

    def keep(self, rule: Rule) -> None:
        """Add a rule to the separate map."""
        self._rules.append(rule)

    @cached_property
    def url_map(self) -> Map:
        """The rules of the pages."""
        return Map(self._rules)

    def _build_url(self, error: Exception, endpoint: str, values: dict[str, Any]) -> str | None:
        """Return the URL of a page, for ``url_for``; ``None`` for any other endpoint."""
        adapter = getattr(error, "adapter", None)
        if adapter is None or not endpoint.startswith(f"{self.name}."):
            return None
        options = {name: values.pop(name, None) for name in _URL_FOR_OPTIONS}
        pages = self.url_map.bind(
            adapter.server_name, _mount_point(adapter), url_scheme=adapter.url_scheme
        )
        url = pages.build(
            endpoint, values, options["_method"], url_scheme=options["_scheme"],
            force_external=bool(options["_external"]),
        )  # fmt: skip
        anchor = options["_anchor"]
        return url if anchor is None else f"{url}#{quote(anchor, safe=_ANCHOR_SAFE)}"


class _SetupState(BlueprintSetupState):
    """Registers rules and view functions with the blueprint instead of the application."""

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any
    ) -> None:
        """Keep a rule and its view function."""
        name = f"{self.name}.{endpoint}"
        path = f"{(self.url_prefix or '').rstrip('/')}/{rule.lstrip('/')}"
        methods = {*options.pop("methods", ("GET",)), "OPTIONS"}
        options.pop("provide_automatic_options", None)  # the only attribute that Flask adds
        page = Rule(path, endpoint=name, methods=methods, **options)
        page.provide_automatic_options = True  # type: ignore[attr-defined]
        self.blueprint.keep(page)  # type: ignore[attr-defined]
        self.blueprint.views[name] = view_func  # type: ignore[attr-defined]


class _ViewFunctions(dict[str, _View]):
    """View functions of an application, which dispatch those of the pages without listing them."""

    def __init__(self, own: dict[str, _View], pages: dict[str, _View]) -> None:
        super().__init__(own)
        self._pages = pages

    def __missing__(self, endpoint: str) -> _View:
        return self._pages[endpoint]


def _mount_point(adapter: MapAdapter) -> str:
    """Return the script root as the path that starts each URL: a proxy may pass on any text for it.

    With two slashes, a backslash or a scheme at its start, links would lead to another host.
    """
    path = quote(adapter.script_name.strip("/\\"), safe=_MOUNT_SAFE)
    return f"/{path}/" if path else "/"


def page_router(app: Flask, blueprint: PagesBlueprint, guard: Guard) -> Callable[[], None]:
    """Return a function to call before a request that may be authorised: the first call routes them.

    From then on authorised requests are matched against the pages of a blueprint first, then against
    the application's rules.
    """
    lock, application = create_lock(), weakref.ref(app)  # weak: the application holds its router
    routed = False

    def route_once() -> None:
        nonlocal routed
        with lock:
            app = application()
            if app is not None and not routed:
                _route_pages(app, blueprint, guard)
                routed = True

    return route_once


def _route_pages(app: Flask, blueprint: PagesBlueprint, guard: Guard) -> None:
    """Route authorised requests to the pages of a blueprint first, then to the application."""
    pages = blueprint.url_map
    create_own = _weakly_bound(app.create_url_adapter, app)

    def create_url_adapter(request: Any) -> MapAdapter | None:
        adapter = create_own(request)
        if request is None or adapter is None or request.environ.get(PRINCIPAL) is None:
            return adapter
        match_own = adapter.match

        def pages_first(*args: Any, **kwargs: Any) -> Any:
            _decide(guard, request.environ)
            responds = isinstance(request.environ[PRINCIPAL], GuardResponse)
            if not responds and not is_authorised(request.environ):
                return match_own(*args, **kwargs)
            own_pages = request.environ[_PAGES] = pages.bind_to_environ(request.environ)
            own_pages.script_name = _mount_point(own_pages)
            if responds:  # by a view: an exception may meet the application's error handlers
                return_rule = kwargs.get("return_rule", False)
                return own_pages.match(f"{guard.prefix}/respond", "GET", return_rule)
            try:
                return own_pages.match(*args, **kwargs)
            except NotFound:  # a page of the application under the same prefix
                return match_own(*args, **kwargs)

        adapter.match = pages_first  # type: ignore[method-assign]
        return adapter

    app.view_functions = _ViewFunctions(app.view_functions, blueprint.views)
    app.create_url_adapter = create_url_adapter  # type: ignore[method-assign]


def _weakly_bound(
    method: Callable[[Any], MapAdapter | None], app: Flask
) -> Callable[[Any], MapAdapter | None]:
    """Return a method of an application, held in an attribute of it, without the cycle that this is."""
    if type(method) is not MethodType or method.__self__ is not app:
        return method  # an attribute that the host has set
    function, application = method.__func__, weakref.ref(app)
    return lambda request: function(application(), request)


def _decide(guard: Guard, environ: Environ) -> None:
    """Have the application decide about an undecided request, once its context was pushed."""
    undecided = environ[PRINCIPAL]
    if not isinstance(undecided, Undecided):
        return
    if has_request_context() and current_request.environ is environ:  # else middleware matches it
        environ[PRINCIPAL] = guard.decide_by_application(environ, undecided)
