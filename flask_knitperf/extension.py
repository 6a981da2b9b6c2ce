"""``KnitPerf``: wiring, nothing else.

``init_app`` reads the settings, wraps ``app.wsgi_app`` and registers the pages. It starts nothing: the
first request of each process does, so a preloading parent, a reloader's parent and the command line
never become writers.
"""

from __future__ import annotations

import atexit
import inspect
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from flask import Flask, current_app, has_app_context, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RoutingException

from .api.memory import MemoryOptimizer
from .api.profiler import PerformanceProfiler
from .api.queries import QueryOptimizer
from .caching.registry import Caches
from .collectors.requests import sections
from .collectors.requests.endpoint_series import METHODS
from .core.errors import KnitPerfError
from .core.settings import PREFIX, Settings, limits, read
from .instrumentation import flask_sqlalchemy, flask_wtf
from .instrumentation.flask_hooks import errors_noted, mark_hooks, time_rendering
from .instrumentation.wsgi import SpanMiddleware, StreamedBody
from .recording.recorder import Recorder
from .recording.span import current
from .reports.build import Route
from .runtime.session import Session
from .web.blueprint import create_blueprint
from .web.guard import Guard, Principal
from .web.one_time_codes import OneTimeCodes
from .web.routing import PRINCIPAL, route_pages
from .web.session_cookie import VIEWER_COOKIE

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "knitperf"
_all: weakref.WeakSet[Session] = weakref.WeakSet()  # of every extension, to be closed at exit


class KnitPerf:
    """The extension. Holds no application state; that is in ``app.extensions["knitperf"]``.

    Outside of any application's context (a thread, a script) its methods mean the only application it
    was set up with, if there is only one.

    Args:
        app: an application to set up at once; else call :meth:`init_app`.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._caches = Caches()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self.profiler = PerformanceProfiler(self._current)
        self.memory = MemoryOptimizer(self._current, self._caches.register)
        self.queries = QueryOptimizer(self._current)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set an application up. Doing it twice changes nothing.

        Raises:
            ConfigurationError: a ``KNITPERF_`` setting is unknown or out of bounds.
        """
        if _KEY in app.extensions:
            return
        settings = read(app.config, app_root=app.root_path, name=app.name)
        session = Session(
            settings,
            about=lambda: {"app": app.name, "routes": routes(app), "settings": plain(session)},
            routes=lambda: routes(app),
            budgets=lambda: _budgets(app),
            testing=lambda: bool(app.testing),
            caches=self._caches,
            root_frames=(Flask.wsgi_app.__code__, StreamedBody.__next__.__code__),
            is_async=_async_views(app),
        )
        app.extensions[_KEY] = session
        if settings.enabled:
            self._sessions.add(session)
            _all.add(session)
            _wire(app, session, settings)

    # -- what the application calls ------------------------------------------------------------------

    def budget(self, **thresholds: float) -> Callable[[F], F]:
        """Give the endpoint of a view its own thresholds; ``KNITPERF_ENDPOINTS`` wins over them.

        Args:
            thresholds: ``slow_ms``, ``moderate_ms`` (or ``p95_ms``), ``min_success_rate``,
                ``variance_ratio``, ``queries`` (statements that a request may send).

        Raises:
            ConfigurationError: a threshold is unknown or out of bounds.
        """
        given = limits("budget", thresholds)

        def mark(view: F) -> F:
            view.__knitperf_budget__ = given  # type: ignore[attr-defined]
            return view

        return mark

    def section(self, name: str) -> AbstractContextManager[None]:
        """Time a stretch of code as a part of the request that runs here."""
        return sections.section(self._recorder(), name)

    def profile(self, function: F) -> F:
        """Time a function (sync, async or generator) as a section with its own histogram.

        A generator is timed while it runs, each turn as a part of the request, all of them as one call.
        """
        return sections.profiled(function, self._recorder)

    def rows(self, count: int) -> None:
        """Say that the request which runs here works on so many rows, beside those that it reads.

        What pandas reads is counted by itself. This is for frames that were there before, so that it can
        be told how time grows with them.
        """
        span = current()
        if span is not None and count > 0:
            span.ensure_notes().rows += count

    def instrument(self, service: Any) -> Any:
        """Time every public method of an object or a class; return it."""
        return sections.instrument(service, self._recorder)

    def register_cache(self, cache: Any, lock: Any = None, name: str | None = None) -> None:
        """Have the housekeeper expire a cachetools cache; also before there is an application.

        Args:
            cache: any cachetools cache; it is held weakly.
            lock: the lock that guards it. Without one it is only counted, never changed.
            name: how to show it.
        """
        self._caches.register(cache, lock, name)

    def report(self, window: str = "1h") -> dict[str, Any]:
        """Return the dict behind ``/perf/report``."""
        return self.session().documents.report(window)

    def _current(self) -> Session | None:
        found = self._found()
        return found if found is not None and found.settings.enabled else None

    def session(self) -> Session:
        """Return the running application's session: the current one's, else the only one's.

        Raises:
            KnitPerfError: there is none, or more than one and none is current.
        """
        found = self._found()
        if found is None:
            raise KnitPerfError(
                "no application is current, and there is not exactly one with KnitPerf; "
                "push an application context"
            )
        return found

    def _found(self) -> Session | None:
        if has_app_context():
            found: Session | None = current_app.extensions.get(_KEY)
            return found
        alive = list(self._sessions)
        return alive[0] if len(alive) == 1 else None

    def _recorder(self) -> Recorder | None:
        span = current()
        if span is not None:  # also in a stream, where no application is current
            owner: Recorder = span.owner
            return owner
        found = self._current()
        return None if found is None else found.recorder


def _wire(app: Flask, session: Session, settings: Settings) -> None:
    """Put the pages, their guard and the request's span around an application."""
    recorder, prefix = session.recorder, settings.url_prefix
    made_in = recorder.clock.pid()
    codes = OneTimeCodes(lambda: _state_dir(session))
    guard = Guard(
        prefix, settings.access_token, _access(app, settings.access), lambda: bool(app.debug),
        recorder.clock.wall, codes, recorder.failed,
    )  # fmt: skip
    blueprint = create_blueprint(prefix, session)
    app.register_blueprint(blueprint)
    route_pages(app, blueprint.name)
    flask_wtf.exempt(app, blueprint)

    def first() -> None:  # by then every hook and extension is there
        mark_hooks(app, recorder)
        time_rendering(app, recorder)
        session.profile.always = app.debug
        if settings.queries:
            flask_sqlalchemy.watch(app, recorder, forked=recorder.clock.pid() != made_in)
        flask_wtf.exempt(app, blueprint)

    app.wsgi_app = SpanMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, recorder, session.profile, _gate(guard), prefix=prefix, is_async=_async_views(app),
        route=_route(app),
        first=first,
        ignored=settings.ignore_paths, trust_queue=settings.trust_queue_header,
        sees_timing=guard.sees_timing, viewer=VIEWER_COOKIE,
    )  # fmt: skip
    session.listeners.append(errors_noted(app, recorder))


def _state_dir(session: Session) -> Path | None:
    """Return the state directory once this process records there."""
    run = session.recorder.worker.run
    return None if run is None else run.parent


def _access(
    app: Flask, asked: Callable[..., Any] | None
) -> Callable[[dict[str, Any]], bool] | None:
    """Return the application's decision as the guard calls it: in a request without its body."""
    if asked is None:
        return None

    def let_in(environ: dict[str, Any]) -> bool:
        bodiless = {**environ, "CONTENT_LENGTH": "0", "wsgi.input": BytesIO()}
        with app.request_context(bodiless):
            return bool(asked(request))

    return let_in


def _budgets(app: Flask) -> dict[str, dict[str, float]]:
    """Return the thresholds that ``@perf.budget`` gave to views, by endpoint."""
    found = {}
    for endpoint, view in app.view_functions.items():
        given = getattr(view, "__knitperf_budget__", None)
        if given is None:
            given = getattr(getattr(view, "view_class", None), "__knitperf_budget__", None)
        if given is not None:
            found[endpoint] = given
    return found


def routes(app: Flask) -> list[Route]:
    """Return endpoint, rule and methods of everything an application serves, except our pages."""
    return [
        (rule.endpoint, rule.rule, tuple(sorted(rule.methods or ())))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("knitperf.")
    ]


def plain(session: Session) -> dict[str, Any]:
    """Return the settings that an offline report needs, as options with JSON values."""
    settings = session.settings
    kept = ("slow_ms", "moderate_ms", "min_success_rate", "variance_ratio", "target_p95_ms",
            "target_memory_mb", "gc_threshold_mb", "large_response_kb", "slow_query_ms")  # fmt: skip
    values = {f"{PREFIX}{name.upper()}": getattr(settings, name) for name in kept}
    endpoints = {name: dict(own) for name, own in settings.endpoints.items()}
    return {**values, f"{PREFIX}ENDPOINTS": endpoints}


def _route(app: Flask) -> Callable[[dict[str, Any]], str | None]:
    """Return a function that finds the endpoint of an environment without serving it."""

    def route(environ: dict[str, Any]) -> str | None:
        adapter = app.create_url_adapter(app.request_class(environ))
        if adapter is None:
            return None
        try:
            endpoint, _ = adapter.match()
        except (HTTPException, RoutingException):
            return None
        return str(endpoint)

    return route


def _runs_elsewhere(view: Any) -> bool:
    """Return whether a view, or a method of a view class, is a coroutine."""
    kind = getattr(view, "view_class", None)
    if kind is None:
        return inspect.iscoroutinefunction(view)
    names = ("dispatch_request", *(method.lower() for method in METHODS))
    return any(inspect.iscoroutinefunction(getattr(kind, name, None)) for name in names)


def _async_views(app: Flask) -> Callable[[str], bool]:
    known: dict[str, bool] = {}

    def is_async(endpoint: str) -> bool:
        found = known.get(endpoint)
        if found is None:
            view = app.view_functions.get(endpoint)
            found = known[endpoint] = _runs_elsewhere(view)
        return found

    return is_async


def _gate(guard: Guard) -> Callable[[dict[str, Any], Any], Iterable[bytes] | None]:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes] | None:
        decision = guard.decide(environ)
        environ[PRINCIPAL] = decision  # always set: a copied environment authorises no request
        if decision is None or isinstance(decision, Principal):
            return None
        status, headers, body = decision
        start_response(status, headers)
        return [body]

    return answer


def _close_all() -> None:
    for session in list(_all):
        session.close()


atexit.register(_close_all)
