"""``KNITPERF_ACCESS`` decides inside of the request, and leaves no trace in it.

A client that is refused gets the application's response to an unabout URL, whatever the function did,
and the application's hooks run for it as for that URL.
"""

from __future__ import annotations

import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask, abort, current_app, flash, g, redirect, request, session
from flask.sessions import SecureCookieSessionInterface
from werkzeug.local import LocalProxy
from werkzeug.test import Client

from flask_knitperf import KnitPerf

from .clients import LOCAL, form

PATHS = ("/perf/x", "/perf/", "/perf/report", "/perf/sign-out")
MODE = contextvars.ContextVar("MODE", default="unset")
SIGNALS = ("appcontext_pushed", "appcontext_popped", "appcontext_tearing_down", "request_started",
           "request_finished", "request_tearing_down", "got_request_exception")  # fmt: skip


class UnnamedType(type):
    """A class of classes without names."""

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no module")


class Unnamed(metaclass=UnnamedType):
    """An object whose class has no name."""


def raise_(error: BaseException) -> Any:
    raise error


def set_(target: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(target, name, value)


DECISIONS: dict[str, Callable[..., object]] = {
    "refuses": lambda request: False,
    "raises": lambda request: raise_(RuntimeError("the directory server does not answer")),
    "aborts": lambda request: abort(401),
    "aborts with a response": lambda request: abort(flask.Response("who?", 401)),
    "redirects": lambda request: redirect("/login"),
    "recurses": lambda request: current_app.test_client().get("/perf/x") and False,
    "returns a proxy of the request": lambda request: LocalProxy(lambda: flask.request.user),
    "returns an object without a name": lambda request: Unnamed(),
    "reads the session": lambda request: session.get("role") == "it",
    "writes to the session": lambda request: session.update(seen=1),
    "makes the session permanent": lambda request: set_(session, permanent=True, modified=True),
    "clears the session": lambda request: session.clear(),
    "flashes": lambda request: flash("who are you?"),
    "writes to g": lambda request: set_(g, user="guest"),
    "deletes from g": lambda request: g.pop("opened") and False,
    "changes the response": lambda request: flask.after_this_request(
        lambda response: response.headers.add("X-Seen", "1") or response
    ) and False,
    "changes the environment": lambda request: request.environ.update(PATH_INFO="/"),
    "reads the body": lambda request: request.get_data() and False,
    "sets a context variable": lambda request: MODE.set("guest") and False,
    "changes the view": lambda request: set_(request, url_rule=None, view_args={"x": 1}),
}  # fmt: skip


class Interface(SecureCookieSessionInterface):
    """Sessions that are noted when they are opened."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def open_session(self, app: Flask, request: Any) -> Any:
        self.calls.append("open_session")
        return super().open_session(app, request)


@pytest.fixture
def calls() -> list[str]:
    """Return a list of the application's hooks that ran."""
    return []


@pytest.fixture
def make_hooked(make_app: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    """Return a maker of applications all of whose hooks are noted, and whose 404 shows all it can."""
    receivers: list[Any] = []

    def make(**config: Any) -> Any:
        mill = make_app(
            TESTING=True, PROPAGATE_EXCEPTIONS=False, SECRET_KEY="k",
            **{"KNITPERF_ACCESS_TOKEN": None, **config},
        )  # fmt: skip
        app = mill.app
        app.session_interface = Interface(calls)

        def note(hook: str) -> Callable[..., Any]:
            return lambda *args, **_: calls.append(hook) or (args[0] if args else None)

        app.before_request(lambda: calls.append("before_request"))
        app.after_request(note("after_request"))
        app.teardown_request(note("teardown_request"))
        app.teardown_appcontext(note("teardown_appcontext"))
        app.url_value_preprocessor(note("url_value_preprocessor"))
        app.register_error_handler(404, shown)
        for name in SIGNALS:
            receiver = note(name)
            getattr(flask, name).connect(receiver, app)
            receivers.append(receiver)

        def opened(sender: Any, **_: Any) -> None:
            g.opened = True

        flask.appcontext_pushed.connect(opened, app)
        receivers.append(opened)
        return mill

    return make


def shown(error: Any) -> tuple[str, int]:
    """Return a page with all that the request has about its client."""
    about = {name: getattr(g, name) for name in sorted(g)}
    body = request.get_data(as_text=True)
    return (
        f"lost: {about} {MODE.get()} {request.view_args} {body} {flask.get_flashed_messages()}",
        404,
    )


@pytest.mark.slow
@pytest.mark.parametrize("decision", DECISIONS)
def test_a_client_that_is_refused_gets_the_response_to_an_unabout_url(
    make_hooked: Callable[..., Any], decision: str
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=DECISIONS[decision])
    for path in PATHS:
        for method in ("GET", "POST", "HEAD", "OPTIONS"):
            here, there = (mill.send(method, p, **form(yarn="wool")) for p in (path, "/nowhere"))
            assert here == there, (path, method)


@pytest.mark.parametrize(
    "decision",
    [name for name in DECISIONS if name not in ("recurses", "writes to g") and "session" not in name
     and name != "flashes"],
)  # fmt: skip
def test_the_hooks_of_the_application_run_as_for_an_unabout_url(
    make_hooked: Callable[..., Any], calls: list[str], decision: str
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=DECISIONS[decision])
    ran = []
    for path in ("/nowhere", *PATHS):
        calls.clear()
        mill.get(path)
        ran.append(calls.copy())
    assert ran == [ran[0]] * 5 and "teardown_request" in ran[0]


@pytest.mark.parametrize("decision", ["reads the session", "clears the session", "flashes"])
def test_a_session_that_the_decision_uses_is_opened_for_it_alone(
    make_hooked: Callable[..., Any], calls: list[str], decision: str
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=DECISIONS[decision])
    mill.get("/nowhere")
    expected = calls.copy()
    calls.clear()
    mill.get("/perf/x")
    expected.insert(expected.index("open_session"), "open_session")
    assert calls == expected


def test_what_the_decision_leaves_in_g_is_torn_down_once(make_hooked: Callable[..., Any]) -> None:
    closed: list[Any] = []

    def decide(request: Any) -> bool:
        g.connection = f"connection {len(closed)}"
        if request.args:
            raise RuntimeError("no rights")
        return False

    mill = make_hooked(KNITPERF_ACCESS=decide)
    mill.app.before_request(lambda: set_(g, own="own"))
    mill.app.teardown_appcontext(
        lambda error: closed.append((g.pop("connection", None), bool(error)))
    )
    mill.get("/perf/x"), mill.get("/perf/x?fail=1")
    assert closed == [
        ("connection 0", False), (None, False), ("connection 2", True), (None, False)
    ]  # fmt: skip


def test_a_teardown_function_that_fails_refuses(make_hooked: Callable[..., Any]) -> None:
    def decide(request: Any) -> bool:
        g.connection = 1
        return True

    mill = make_hooked(KNITPERF_ACCESS=decide)
    mill.app.teardown_appcontext(lambda error: "connection" in g and raise_(OSError("gone")))
    assert mill.get("/perf/report") == mill.get("/nowhere")
    assert "KNITPERF_ACCESS failed" in mill.degraded()


def test_a_session_that_cannot_be_opened_fails_as_for_an_unabout_url(
    make_hooked: Callable[..., Any],
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: True)
    mill.app.session_interface.open_session = lambda *_: raise_(OSError("the store is down"))
    assert mill.get("/perf/report") == mill.get("/nowhere")


def test_an_application_without_sessions_decides(make_hooked: Callable[..., Any]) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: not session.get("user"))
    mill.app.session_interface.open_session = lambda *_: None
    assert mill.get("/perf/report").code == 200


def test_the_hooks_of_the_application_run_once_for_a_page(
    make_hooked: Callable[..., Any], calls: list[str]
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: True)
    mill.get("/nowhere")
    expected = calls.copy()
    calls.clear()
    assert mill.get("/perf/report").code == 200
    assert calls == expected


def test_an_exit_of_the_process_passes(make_hooked: Callable[..., Any]) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: raise_(SystemExit(3)))
    with pytest.raises(SystemExit):
        mill.get("/perf/report")
    assert not flask.has_request_context() and not flask.has_app_context()


def test_the_decision_is_made_once_in_a_request(make_hooked: Callable[..., Any]) -> None:
    decided: list[str] = []

    def decide(request: Any) -> bool:
        decided.append(request.path)
        return False

    def match_again() -> None:
        adapter = current_app.create_url_adapter(request)
        assert adapter is not None
        adapter.allowed_methods()

    mill = make_hooked(KNITPERF_ACCESS=decide, DEBUG=True)
    mill.app.before_request(match_again)
    mill.get("/perf/report")
    assert decided == ["/perf/report"]
    assert mill.get("/perf/", **LOCAL).code == 303  # a response of the guard


def test_middleware_that_matches_a_url_before_the_application_gets_no_decision(
    make_hooked: Callable[..., Any],
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: flask.has_app_context())
    inner = mill.inner

    def matching(environ: Any, start_response: Any) -> Any:
        adapter = mill.app.create_url_adapter(mill.app.request_class(environ))
        assert adapter.allowed_methods() == []
        return inner(environ, start_response)

    mill.put_inside(matching)
    assert mill.get("/perf/report").code == 200


def test_an_admitted_client_signs_out_from_nothing(make_hooked: Callable[..., Any]) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: True)
    assert mill.send("POST", "/perf/sign-out", **form(csrf="x")).code == 403


def test_in_debug_mode_a_browser_that_is_refused_is_led_to_sign_in(
    make_hooked: Callable[..., Any],
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: False, DEBUG=True)
    response = mill.get("/perf/", **LOCAL)
    assert (response.code, response.header("Location")) == (303, "sign-in")


def test_requests_of_admitted_clients_are_limited(make_hooked: Callable[..., Any]) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: True)
    assert mill.get("/perf/style.css").code == 200
    assert any(mill.get("/perf/style.css").code == 429 for _ in range(2000))


@pytest.mark.parametrize("uses", [lambda: None, lambda: session.get("user"), lambda: set_(g, x=1)])
def test_an_application_that_decided_goes_with_its_last_reference(
    uses: Callable[[], object],
) -> None:
    app = Flask("mill")
    app.config.update(TESTING=True, SECRET_KEY="k")
    app.config["KNITPERF_ACCESS"] = lambda request: uses() is None
    KnitPerf(app)
    gc.disable()
    try:
        assert Client(app).get("/perf/style.css").status_code == 200
        gone = weakref.ref(app)
        del app
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("config", [{}, {"TRAP_HTTP_EXCEPTIONS": True}], ids=str)
def test_what_the_guard_responds_meets_no_error_handler_of_the_application(
    make_hooked: Callable[..., Any], config: dict[str, Any]
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: not request.args, DEBUG=True, **config)
    mill.app.register_error_handler(Exception, lambda error: ("failed", 500))
    cross = {"HTTP_SEC_FETCH_SITE": "cross-site"}
    assert mill.send("POST", "/perf/sign-out").code == 403
    assert mill.send("POST", "/perf/command/clear", **form(csrf="x")).code == 403
    assert mill.send("POST", "/perf/command/clear", **cross).body == b"Sent by another site.\n"
    assert mill.get("/perf/?x=1", **LOCAL).header("Location") == "sign-in"
    assert any(mill.get("/perf/style.css").code == 429 for _ in range(2000))


def test_no_client_gets_a_response_of_the_guard_without_one(
    make_hooked: Callable[..., Any],
) -> None:
    mill = make_hooked(KNITPERF_ACCESS=lambda request: bool(request.args))
    nowhere = mill.get("/nowhere")
    assert mill.get("/perf/respond") == nowhere
    assert mill.get("/perf/respond?x=1").code == 404
