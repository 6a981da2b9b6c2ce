"""``KNITPERF_ACCESS``: the application's own decision about a request for our pages.

It is made inside the request itself, where its URL is matched: the application has pushed its contexts
and opened its session by then. So every hook of the application runs once, as for any of its URLs,
and its teardown functions close what the decision opened (a database session). What the decision changes
does not reach the response: a client that is refused gets the one to an unknown URL. The function gets

* a request without a body: reading it would take it away from the application;
* a separate session, opened when it is first used, and never saved;
* a copy of ``g``. What it leaves there is torn down with a separate application context.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from io import BytesIO
from typing import Any

from flask import Flask, current_app, request
from flask.ctx import RequestContext
from flask.globals import app_ctx
from flask.sessions import SessionMixin
from werkzeug.local import LocalProxy

from .session_cookie import Environ

Decision = Callable[[Environ], object]


def application_access(function: Callable[..., Any], private: tuple[str, ...]) -> Decision:
    """Return ``KNITPERF_ACCESS`` as a function of the environment, for calls in its request context.

    Args:
        function: the setting.
        private: keys of the environment that the request of the decision does not have.
    """

    def decision(environ: Environ) -> object:
        seen = {key: value for key, value in environ.items() if key not in private}
        seen.update({"CONTENT_LENGTH": "0", "wsgi.input": BytesIO()})
        return _with_own_g(lambda: _in_own_request(seen, function))

    return decision


def _in_own_request(environ: Environ, function: Callable[..., Any]) -> object:
    """Call a function with a separate request, in the application context of the current one.

    The request's context is pushed in a copy of all context variables and never popped: popping it would
    run the application's teardown functions.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    context = RequestContext(app, environ, session=_on_first_use(lambda: _open(app, context)))

    def call() -> object:
        context.push()
        return function(request)

    try:
        return copy_context().run(call)
    finally:  # no cycles: the application is freed with its last reference
        environ["werkzeug.request"] = None
        context.request.routing_exception = None
        vars(context).clear()


def _on_first_use(create: Callable[[], SessionMixin]) -> Any:
    """Return a proxy of an object that is created when it is first used."""
    created: list[SessionMixin] = []

    def current() -> SessionMixin:
        if not created:
            created.append(create())
        return created[0]

    return LocalProxy(current)


def _open(app: Flask, context: RequestContext) -> SessionMixin:
    interface = app.session_interface
    session = interface.open_session(app, context.request)
    return interface.make_null_session(app) if session is None else session


def _with_own_g(function: Callable[[], object]) -> object:
    """Call a function with a copy of ``g``, and tear down what it leaves there."""
    context: Any = app_ctx._get_current_object()  # type: ignore[attr-defined]
    shared = context.g
    own = context.g = type(shared)()
    vars(own).update(vars(shared))
    failure: BaseException | None = None
    try:
        return function()
    except BaseException as error:
        failure = error
        raise
    finally:
        context.g, before = shared, vars(shared)
        left = [(name, value) for name, value in vars(own).items()
                if name not in before or before[name] is not value]  # fmt: skip
        if left:
            _tear_down(context.app, left, failure)


def _tear_down(app: Flask, values: list[tuple[str, Any]], failure: BaseException | None) -> None:
    """Run the teardown functions of an application context that has values in its ``g``."""
    context = app.app_context()
    context.push()
    vars(context.g).update(values)
    context.pop(failure)
