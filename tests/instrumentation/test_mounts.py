"""Applications and middleware inside of an application: distinguished from its own endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Request, Response

from flask_knitperf import KnitPerf
from flask_knitperf.recording.span import Span
from tests.conftest import Mill, call_wsgi

from .calls import counts


@Request.application
def health(_: Request) -> Response:
    return Response("up")


def fail(_: Any, __: Any) -> Any:
    raise ValueError("no yarn")


@pytest.fixture
def mounting(make_app: Callable[..., Mill]) -> Mill:
    """Return an application with ``index``, in which others are mounted, one with ``index`` too."""
    inner = Flask("inner")
    inner.config["PROPAGATE_EXCEPTIONS"] = True
    inner.add_url_rule("/", "index", lambda: "inner")
    inner.add_url_rule("/broken", "broken", lambda: fail(None, None))
    app = Flask("mill", static_folder=None)
    app.config.update(TESTING=True)
    mounts = {"/api": inner, "/health": health, "/broken": fail}
    app.wsgi_app = ProxyFix(DispatcherMiddleware(app.wsgi_app, mounts))  # type: ignore[method-assign]
    app.add_url_rule("/", "index", lambda: "outer")
    mill = Mill(app, KnitPerf(app))
    mill.inner_app = inner  # type: ignore[attr-defined]
    return mill


def test_equal_endpoints_of_a_mounted_application_are_distinguished(mounting: Mill) -> None:
    for _ in range(20):  # the fast path distinguishes them too
        assert (mounting.get("/").body, mounting.get("/api/").body) == (b"outer", b"inner")
    assert counts(mounting) == {"index": 20, "/api:index": 20}
    mounting.session.close()


def test_a_mounted_application_of_another_kind_is_a_row_without_a_failure_of_ours(
    mounting: Mill,
) -> None:
    for _ in range(3):
        mounting.get("/health")
    assert counts(mounting) == {"/health": 3}
    assert mounting.session.recorder.failures == {}
    mounting.session.close()


def test_errors_of_a_mounted_application_are_its_own(mounting: Mill) -> None:
    assert mounting.get("/api/nowhere").code == 404
    assert mounting.get("/nowhere").code == 404
    for path in ("/api/broken", "/broken"):
        with pytest.raises(ValueError, match="no yarn"):
            mounting.get(path)
    assert counts(mounting) == {
        "/api:<unmatched>": 1, "<unmatched>": 1, "/api": 1, "/broken": 1,
    }  # fmt: skip
    assert mounting.session.recorder.failures == {}
    mounting.session.close()


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [("/api/", "/api:index"), ("/api/nowhere", "/api:<unmatched>")],
)
def test_a_mounted_application_that_cannot_open_a_session_fails_the_endpoint_of_the_url(
    mounting: Mill, path: str, endpoint: str
) -> None:
    class Unavailable(SecureCookieSessionInterface):
        """A session store that is down."""

        def open_session(self, app: Any, request: Any) -> Any:
            raise ConnectionError("the store is down")

        def save_session(self, *_: Any) -> None:
            pass

    mounting.inner_app.config["PROPAGATE_EXCEPTIONS"] = False
    mounting.inner_app.session_interface = Unavailable()
    assert mounting.get(path).code == 500
    assert counts(mounting) == {endpoint: 1}
    assert mounting.session.recorder.failures == {}
    mounting.session.close()


def test_a_middleware_that_answers_by_itself_is_a_row(quiet: Mill) -> None:
    inner = quiet.inner

    def maintenance(environ: Any, start_response: Any) -> Any:
        if environ["QUERY_STRING"] == "closed":
            return Response("closed", 503)(environ, start_response)
        return inner(environ, start_response)

    quiet.put_inside(maintenance)
    quiet.get("/")
    quiet.get("/?closed")
    assert counts(quiet) == {"index": 1, "<middleware>": 1}
    assert quiet.session.recorder.failures == {}


def test_a_middleware_that_fails_by_itself_is_no_path_without_a_rule(
    make_app: Callable[..., Mill],
) -> None:
    app = Flask("mill")
    app.config.update(TESTING=True)
    app.wsgi_app = fail  # type: ignore[method-assign]
    app.add_url_rule("/", "index", lambda: "index")
    mill = Mill(app, KnitPerf(app))
    for path in ("/", "/nowhere"):
        with pytest.raises(ValueError, match="no yarn"):
            mill.get(path)
    assert counts(mill) == {"index": 1, "<middleware>": 1}
    mill.session.close()


def test_an_application_alone_or_behind_a_proxy_pays_nothing(make_app: Callable[..., Mill]) -> None:
    app = Flask("mill")
    app.config.update(TESTING=True)
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    mill = Mill(app, KnitPerf(app))
    assert app.wsgi_app.mounts.span_class is Span  # type: ignore[attr-defined]
    mill.session.close()


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_proxys_prefix_is_no_part_of_the_name_of_a_mounted_application(
    make_app: Callable[..., Mill], is_inside: bool
) -> None:
    inner, app = Flask("inner"), Flask("mill")
    app.config.update(TESTING=True)
    for one in (inner, app):
        one.add_url_rule("/", "index", lambda: "it")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/api": inner})  # type: ignore[method-assign]
    if is_inside:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    mill = Mill(app, KnitPerf(app))
    served = app.wsgi_app if is_inside else ProxyFix(app.wsgi_app, x_prefix=1)
    for number in range(200):  # a client may send any
        prefix = ("/evil, " if number % 2 else "") + f"/tenant{number}"
        for path in ("/", "/api/"):
            assert call_wsgi(served, path, HTTP_X_FORWARDED_PREFIX=prefix).body == b"it"
    assert counts(mill) == {"index": 200, "/api:index": 200}
    mill.session.close()


def test_script_roots_are_bounded(mounting: Mill) -> None:
    name = mounting.middleware.mounts._root
    names = {name({"SCRIPT_NAME": f"/tenant/{number}"}) for number in range(500)}
    assert len(names) == 101 and "<other>" in names
    mounting.session.close()
