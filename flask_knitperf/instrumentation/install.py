"""Installs the measurements into a Flask application: the span around each request, hooks, and pages.

Nothing starts here. The first request of each process does, so a preloading parent, a reloader's parent
and the command line never become writers.
"""

from __future__ import annotations

import atexit
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from flask import Blueprint, Flask, current_app, has_app_context

from ..caching.registry import Caches
from ..core.settings import Settings
from ..recording.recorder import Recorder
from ..runtime.session import Session
from ..web.blueprint import create_blueprint
from ..web.credentials import Credentials
from ..web.guard import Guard
from ..web.guard_middleware import gate
from ..web.routing import PRINCIPAL, page_router
from ..web.session_cookie import VIEWER_COOKIE, Environ
from . import flask_sqlalchemy, flask_wtf
from .application import install_middleware
from .celery_tasks import record_tasks
from .debug_link import DebugLink
from .flask_commands import record_commands
from .flask_hooks import HookTimer, record_errors
from .mounts import Mounts
from .routes import async_detector, budgets, endpoint_resolver, routes, websocket_detector
from .template_rendering import time_rendering
from .wsgi import SpanMiddleware, StreamedBody

if TYPE_CHECKING:
    from ..caching.load_reads import ReadObserver
    from ..web.application_access import Decision

T = TypeVar("T")
_SESSIONS: dict[weakref.ref[Flask], Session] = {}  # of every application, to be closed at exit
_ABANDONED: deque[Session] = deque()  # to be closed when the next application is initialised


def create_session(app: Flask, settings: Settings, caches: Caches) -> Session:
    """Return the session of an application; the application itself is not changed.

    Args:
        app: the application.
        settings: its settings.
        caches: the caches that were registered so far.
    """
    application = weakref.ref(app)
    return Session(
        settings,
        name=app.name,
        routes=lambda: _of(application, routes, []),
        application=application,
        budgets=lambda: _of(application, budgets, {}),
        testing=lambda: _of(application, lambda app: bool(app.testing), True),
        caches=caches,
        root_frames=(Flask.wsgi_app.__code__, StreamedBody.__next__.__code__),
        is_async=async_detector(app),
        is_websocket=websocket_detector(app),
        observer=_create_observer,
        secret_key=lambda: _of(application, _secret_key, b""),
    )


def _secret_key(app: Flask) -> bytes:
    key = app.secret_key or b""
    return key.encode("utf-8", "surrogatepass") if isinstance(key, str) else bytes(key)


def _create_observer() -> ReadObserver:
    from .cache_reads import FlaskReads  # most applications name no functions

    return FlaskReads()


def _of(application: Callable[[], Flask | None], read: Callable[[Flask], T], gone: T) -> T:
    """Return the result of a function of an application, ``gone`` once that was deleted."""
    app = application()
    return gone if app is None else read(app)


def _access(settings: Settings) -> Decision | None:
    """Return the application's decision about requests for our pages, if it has one."""
    if settings.access is None:
        return None
    from ..web.application_access import application_access  # most applications have none

    return application_access(settings.access, (PRINCIPAL,))


def install(app: Flask, session: Session, settings: Settings) -> None:
    """Wrap ``app.wsgi_app``, register the pages, and subscribe to exceptions.

    Args:
        app: the application.
        session: where its requests are recorded.
        settings: the same as the session's, without the thresholds of decorators.
    """
    _close_abandoned()
    recorder = session.recorder
    credentials = create_credentials(session, settings)
    guard = Guard(
        settings.url_prefix, credentials, _access(settings),
        recorder.clock.wall, session.revocations, recorder.failed,
    )  # fmt: skip
    link = DebugLink(app, session, credentials)
    blueprint = create_blueprint(settings.url_prefix, session)
    app.register_blueprint(blueprint)
    flask_wtf.exempt(app, blueprint)
    engines = flask_sqlalchemy.EngineWatch(app, recorder) if settings.queries else None
    route, mounts, hooks = endpoint_resolver(app), Mounts(app), HookTimer(app, recorder)
    install_middleware(app, lambda inner: SpanMiddleware(
        inner, recorder, session.profile, gate(guard, page_router(app, blueprint, guard)),
        prefix=settings.url_prefix, is_async=async_detector(app), route=route, mounts=mounts,
        first=_before_first_request(app, session, engines, blueprint, guard, link),
        prepare=hooks.install,
        ignored=settings.ignore_paths, trust_queue=settings.trust_queue_header,
        sees_timing=guard.sees_timing, viewer=VIEWER_COOKIE,
    ))  # fmt: skip
    session.listeners += (
        record_errors(app, recorder, route),
        record_tasks(_of_tasks(session)),
        engines,
    )
    record_commands(app, recorder)
    _SESSIONS[weakref.ref(app, _abandon)] = session
    link.print_at_start()


def create_credentials(session: Session, settings: Settings) -> Credentials:
    """Return the credentials for the pages of a session's application."""
    application = session.application
    return Credentials(
        session.name, _of(application, lambda app: str(app.root_path), ""), settings.access_token,
        lambda: _of(application, lambda app: bool(app.debug), False), session.secret.read,
    )  # fmt: skip


def _of_tasks(session: Session) -> Callable[[], Recorder | None]:
    """Return a function that returns the recorder of a session, if it is the one of a running task."""

    def recorder() -> Recorder | None:
        if has_app_context():
            own = current_app.extensions.get("knitperf") is session
        else:
            own = list(_SESSIONS.copy().values()) == [session]
        return session.recorder if own else None

    return recorder


def _before_first_request(
    app: Flask,
    session: Session,
    engines: flask_sqlalchemy.EngineWatch | None,
    blueprint: Blueprint,
    guard: Guard,
    link: DebugLink,
) -> Callable[[Environ], None]:
    """Return the part that waits until every hook and extension of the application is registered."""
    recorder, application = session.recorder, weakref.ref(app)

    def complete(environ: Environ) -> None:
        app = application()
        if app is None:  # a server calls the middleware itself, whose application is gone
            return
        time_rendering(app, recorder)
        if engines is not None:
            engines.instrument(app)
        flask_wtf.exempt(app, blueprint)
        if not session.in_memory():
            guard.begin()
            link.print_at_first_request(environ)

    return complete


def _abandon(application: weakref.ref[Flask]) -> None:
    """Have the session of an application that is gone closed soon.

    Called while garbage is collected, at any place of any thread: it takes no lock.
    """
    session = _SESSIONS.pop(application, None)
    if session is not None and not session.abandon():
        _ABANDONED.append(session)


def _close_abandoned() -> None:
    """Close the sessions without a housekeeper whose applications are gone."""
    while _ABANDONED:
        _ABANDONED.popleft().close()


def _close_all() -> None:
    _close_abandoned()
    for session in _SESSIONS.copy().values():
        session.close()


atexit.register(_close_all)
