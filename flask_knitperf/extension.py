"""``KnitPerf``: wiring, nothing else.

``init_app`` reads the settings, wraps ``app.wsgi_app`` and registers the pages. It starts nothing: the
first request of each process does, so a preloading parent, a reloader's parent and the command line
never become writers.
"""

from __future__ import annotations

import atexit
import inspect
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, TypeVar

from flask import Flask, current_app, has_app_context

from .api.session import Route, Session
from .core.errors import KnitPerfError
from .core.recorder import Recorder
from .core.settings import Settings, read
from .hooks import mark_hooks
from .profiling import sections
from .web.blueprint import create_blueprint
from .web.guard import Allowed, Guard
from .wsgi import SpanMiddleware

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "knitperf"
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


class KnitPerf:
    """The extension. Holds no application state; that is in ``app.extensions["knitperf"]``.

    Args:
        app: an application to set up at once; else call :meth:`init_app`.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._budgets: dict[str, dict[str, float]] = {}
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set an application up. Doing it twice changes nothing.

        Raises:
            ConfigurationError: a ``KNITPERF_`` setting is unknown or out of bounds.
        """
        if _KEY in app.extensions:
            return
        settings = read(
            app.config, app_root=app.root_path, name=app.name, testing=bool(app.testing)
        )
        session = Session(
            settings,
            about=lambda: {"app": app.name, "routes": routes(app), "settings": _plain(settings)},
            routes=lambda: routes(app),
            testing=bool(app.testing),
        )
        app.extensions[_KEY] = session
        if not settings.enabled:
            return
        _sessions.add(session)
        prefix = settings.url_prefix
        guard = Guard(
            prefix, settings.access_token, settings.access, lambda: bool(app.debug),
            session.recorder.clock.wall,
        )  # fmt: skip
        app.register_blueprint(create_blueprint(prefix, session.report, session.memory))
        app.wsgi_app = SpanMiddleware(  # type: ignore[method-assign]
            _MarkedHooks(app, session.recorder), session.recorder, session.profile,
            _gate(guard), prefix=prefix, is_async=_async_views(app),
            ignored=tuple(settings.ignore_paths), trust_queue=settings.trust_queue_header,
        )  # fmt: skip

    # -- what the application calls ------------------------------------------------------------------

    def section(self, name: str) -> AbstractContextManager[None]:
        """Time a stretch of code as a part of the request that runs here."""
        return sections.section(self._recorder(), name)

    def profile(self, function: F) -> F:
        """Time a function (sync, async or generator) as a section with its own histogram."""
        return sections.profiled(function, self._recorder)

    def instrument(self, service: Any) -> Any:
        """Time every public method of an object or a class; return it."""
        return sections.instrument(service, self._recorder)

    def register_cache(self, cache: Any, lock: Any = None, name: str | None = None) -> None:
        """Have the housekeeper expire a cachetools cache; see :class:`~.profiling.caches.Caches`."""
        self.session().caches.register(cache, lock, name)

    def report(self, window: str = "1h") -> dict[str, Any]:
        """Return the dict behind ``/perf/report``."""
        return self.session().report(window)

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
        alive = list(_sessions)
        return alive[0] if len(alive) == 1 else None

    def _recorder(self) -> Recorder | None:
        found = self._found()
        return found.recorder if found is not None and found.settings.enabled else None


class _MarkedHooks:
    """Puts marks between the application's hooks at its first request, then steps aside."""

    def __init__(self, app: Flask, recorder: Recorder) -> None:
        self._app = app
        self._inner = app.wsgi_app
        self._recorder = recorder
        self._turn = threading.Lock()
        self._done = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not self._done:
            with self._turn:
                if not self._done:
                    mark_hooks(self._app, self._recorder)
                    self._done = True
        return self._inner(environ, start_response)


def routes(app: Flask) -> list[Route]:
    """Return endpoint, rule and methods of everything an application serves, except our pages."""
    return [
        (rule.endpoint, rule.rule, tuple(sorted(rule.methods or ())))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("knitperf.")
    ]


def _plain(settings: Settings) -> dict[str, Any]:
    """Return the settings that an offline report needs, as JSON."""
    kept = ("slow_ms", "moderate_ms", "min_success_rate", "variance_ratio", "target_p95_ms",
            "target_memory_mb", "gc_threshold_mb")  # fmt: skip
    values = asdict(settings)
    budgets = {
        name: {k: v for k, v in budget.items() if v is not None}
        for name, budget in values["endpoints"].items()
    }
    return {**{name: values[name] for name in kept}, "endpoints": budgets}


def _async_views(app: Flask) -> Callable[[str], bool]:
    known: dict[str, bool] = {}

    def is_async(endpoint: str) -> bool:
        found = known.get(endpoint)
        if found is None:
            view = app.view_functions.get(endpoint)
            found = known[endpoint] = inspect.iscoroutinefunction(view)
        return found

    return is_async


def _gate(guard: Guard) -> Callable[[dict[str, Any], Any], Iterable[bytes] | None]:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes] | None:
        decision = guard.decide(environ)
        if isinstance(decision, Allowed):
            return None
        status, headers, body = decision
        start_response(status, headers)
        return [body]

    return answer


def _close_all() -> None:
    for session in list(_sessions):
        session.close()


atexit.register(_close_all)
