"""The class of a recorded application: what a host sees of it, and that it closes no cycle."""

from __future__ import annotations

import copy
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar

import pytest
from flask import Flask, Response
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client, EnvironBuilder

from flask_knitperf import KnitPerf
from flask_knitperf.instrumentation.application import install_middleware
from flask_knitperf.runtime.session import Session

from ..conftest import Mill
from ..runtime.applications import counts

TOKEN = "a-long-enough-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def index(app: Flask) -> Flask:
    app.add_url_rule("/", "index", lambda: "x")
    return app


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"TESTING": True}, {"DEBUG": True}, {"ENABLED": False}])
@pytest.mark.parametrize("path", [None, "/", "/?again", "/perf/report"])
@pytest.mark.usefixtures("without_collector")
def test_an_application_goes_with_its_last_reference(
    tmp_path: Path, config: dict[str, Any], path: str | None
) -> None:
    app = index(Flask("mill"))
    app.config.update(config, KNITPERF_ACCESS_TOKEN=TOKEN, KNITPERF_STATE_DIR=str(tmp_path))
    app.config["KNITPERF_ENABLED"] = config.get("ENABLED", True)
    app.before_request(lambda: None)
    KnitPerf(app)
    if path is not None and not ("ENABLED" in config and "perf" in path):
        assert Client(app).get(path, headers=BEARER).status_code == 200
    gone, session = weakref.ref(app), app.extensions["knitperf"]
    del app
    assert gone() is None
    session.close()


def in_a_thread(app: Flask) -> None:
    thread = threading.Thread(target=lambda: Client(app).get("/"))
    thread.start()
    thread.join()


def in_a_child(app: Flask) -> None:
    Client(app).get("/")
    pid = os.fork()
    if pid == 0:
        Client(app).get("/")
        os._exit(0)
    os.waitpid(pid, 0)


def streamed(app: Flask) -> None:
    assert Client(app).get("/stream", buffered=True).data == b"abc"


def streamed_and_dropped(app: Flask) -> None:
    Client(app).get("/stream")


def reported(app: Flask) -> None:
    Client(app).get("/")
    app.extensions["knitperf"].documents.report("run")


def closed(app: Flask) -> None:
    Client(app).get("/")
    app.extensions["knitperf"].close()


USES = [in_a_thread, streamed, streamed_and_dropped, reported, closed]
USES += [in_a_child] if hasattr(os, "fork") else []


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("without_collector")
def test_an_application_that_was_used_goes_with_its_last_reference(
    tmp_path: Path, use: Callable[[Flask], None]
) -> None:
    app = index(Flask("mill"))
    app.config["KNITPERF_STATE_DIR"] = str(tmp_path)
    app.add_url_rule("/stream", "stream", lambda: Response(letter for letter in "abc"))
    KnitPerf(app)
    use(app)
    gone, session = weakref.ref(app), app.extensions["knitperf"]
    del app
    assert gone() is None
    session.close()


@pytest.mark.usefixtures("without_collector")
def test_access_by_a_function_closes_no_cycle() -> None:
    app = index(Flask("mill"))
    app.config.update(TESTING=True, KNITPERF_ACCESS=lambda request: True)
    KnitPerf(app)
    assert Client(app).get("/").data == b"x"
    gone, session = weakref.ref(app), app.extensions["knitperf"]
    del app
    assert gone() is None
    session.close()


def test_a_middleware_that_outlives_its_application_opens_nothing(tmp_path: Path) -> None:
    app = index(Flask("mill"))
    app.config.update(TESTING=True, KNITPERF_ACCESS=lambda request: True)
    KnitPerf(app)
    mill = Mill(app, app.extensions["knitperf"])
    middleware, session = mill.middleware, mill.session
    middleware.app = lambda environ, start: [environ["PATH_INFO"].encode()]
    del app, mill
    gc.collect()
    assert session.application() is None
    for path in ("/perf/", "/"):
        environ = EnvironBuilder(path).get_environ()
        assert middleware.serve(environ, lambda *_: None, None) == [path.encode()]
    assert session.recorder.failures == {}
    session.close()


class Shop(Flask):
    """An application of a host."""

    subclasses: ClassVar[list[type]] = []

    def __init_subclass__(cls, **options: Any) -> None:
        Shop.subclasses.append(cls)

    def wsgi_app(self, environ: Any, start_response: Any) -> Any:
        environ["shop"] = type(self).__name__
        return super().wsgi_app(environ, start_response)


class Registry(type):
    """A metaclass with a list of its classes."""

    classes: ClassVar[list[type]] = []

    def __init__(cls, *words: Any) -> None:
        Registry.classes.append(cls)


class Registered(Flask, metaclass=Registry):
    """An application whose class is registered."""


@pytest.fixture
def recorded() -> Iterator[Callable[[Flask], Mill]]:
    sessions: list[Session] = []

    def record(app: Flask) -> Mill:
        app.config["TESTING"] = True
        mill = Mill(index(app), KnitPerf(app))
        sessions.append(mill.session)
        return mill

    yield record
    for session in sessions:
        session.close()


Record = Callable[[Flask], Mill]


@pytest.mark.parametrize("kind", [Flask, Shop])
def test_its_class_looks_like_the_hosts(kind: type[Flask], recorded: Record) -> None:
    plain, mill = kind("mill"), recorded(kind("mill"))
    own = type(mill.app)
    assert isinstance(mill.app, kind) and issubclass(own, kind)
    assert repr(mill.app) == repr(plain)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(own, name) == getattr(kind, name)
    assert Shop.subclasses == []
    mill.get("/")
    assert counts(mill) == {"index": 1}


def test_applications_of_one_class_share_theirs_which_goes_with_the_last(recorded: Record) -> None:
    class Local(Flask):
        """An application of one test."""

    mills = [recorded(Local("one")), recorded(Local("two"))]
    one, two = (type(mill.app) for mill in mills)
    assert one is two
    gone, own = weakref.ref(one), weakref.ref(Local)
    del mills, one, two, Local
    gc.collect()  # the subclass
    gc.collect()  # the class that it referred to
    assert (gone(), own()) == (None, None)


def test_a_method_of_the_hosts_class_is_called_and_recorded(recorded: Record) -> None:
    mill = recorded(Shop("mill"))
    environ = EnvironBuilder("/").get_environ()
    assert b"".join(mill.app(environ, lambda *_: None)) == b"x"
    assert environ["shop"] == "Shop" and counts(mill) == {"index": 1}


def test_middleware_of_the_host_wraps_what_is_recorded(recorded: Record) -> None:
    mill = recorded(Flask("mill"))
    order: list[str] = []
    inner = mill.app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Any:
        order.append("host")
        return inner(environ, start_response)

    mill.app.wsgi_app = middleware  # type: ignore[method-assign]
    mill.app.before_request(lambda: order.append("view"))
    mill.get("/")
    assert order == ["host", "view"] and counts(mill) == {"index": 1}
    del mill.app.wsgi_app  # as ``mock.patch.object`` ends
    mill.get("/")
    assert order == ["host", "view", "view"] and counts(mill) == {"index": 2}


def test_middleware_that_was_there_before_is_recorded_with_the_application(
    recorded: Record,
) -> None:
    app = Flask("mill")
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    mill = recorded(app)
    mill.get("/")
    assert type(app) is Flask and counts(mill) == {"index": 1}


def test_a_copy_is_served_as_itself(recorded: Record) -> None:
    mill = recorded(Flask("mill"))
    twin = copy.copy(mill.app)
    instances: list[Any] = []
    inner = mill.middleware.app
    mill.middleware.app = lambda app, *words: instances.append(app) or inner(app, *words)
    assert Client(twin).get("/").data == b"x"
    assert instances == [twin]


def test_another_application_that_the_host_creates_from_the_class_is_its_own(
    recorded: Record,
) -> None:
    mill = recorded(Flask("mill"))
    assert Client(index(type(mill.app)("plain"))).get("/").data == b"x"
    assert counts(mill) == {}
    other = type(mill.app)("other")
    second = recorded(other)
    second.get("/")
    assert (counts(mill), counts(second)) == ({}, {"index": 1})
    assert type(other) is type(mill.app)


def test_a_class_with_a_metaclass_stays_as_it_is(recorded: Record) -> None:
    mill = recorded(Registered("mill"))
    mill.get("/")
    assert type(mill.app) is Registered and counts(mill) == {"index": 1}
    assert Registry.classes == [Registered]


def test_an_application_with_another_layout_gets_an_attribute() -> None:
    class Small:
        __slots__ = ("__dict__",)

        def wsgi_app(self, environ: Any, start_response: Any) -> list[bytes]:
            return [b"small"]

    app: Any = Small()
    install_middleware(app, lambda inner: inner)  # type: ignore[arg-type, return-value]
    assert type(app) is Small and vars(app)["wsgi_app"]({}, print) == [b"small"]


def test_a_subclass_that_the_host_derives_from_the_class_is_its_own(recorded: Record) -> None:
    mill = recorded(Shop("mill"))
    Shop.subclasses.clear()
    derived = type("Derived", (type(mill.app),), {})
    assert Shop.subclasses == [derived]
    Shop.subclasses.clear()
    mill.app.__class__ = derived
    mill.get("/")
    assert counts(mill) == {"index": 1}


class Proxy:
    """A method in the wrapper of a tracer, which passes for what it wraps."""

    def __init__(self, method: Any, calls: list[str]) -> None:
        self._method, self._calls = method, calls

    @property
    def __class__(self) -> Any:
        return MethodType

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def __call__(self, *words: Any) -> Any:
        self._calls.append(self._method.__name__)
        return self._method(*words)


def test_the_wrapper_of_a_tracer_around_a_method_is_called(recorded: Record) -> None:
    calls: list[str] = []

    class Traced(Flask):
        @property
        def wsgi_app(self) -> Any:
            return vars(self).get("traced") or Proxy(super().wsgi_app, calls)

        @wsgi_app.setter
        def wsgi_app(self, value: Any) -> None:
            vars(self)["traced"] = value

    mill = recorded(Traced("mill"))
    mill.get("/")
    assert calls == ["wsgi_app"] and counts(mill) == {"index": 1}
