"""An application with everything that a page can show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import cachetools
import pytest
from flask import Flask, Request, request

from ..conftest import FakeTime, app_maker
from .browser import PROGRAM, Browser
from .clients import ADMITTED, TOKEN, form, session_of
from .local_server import servers

NEEDS_BROWSER = [
    pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(sys.platform == "win32", reason="speaks through inherited descriptors"),
]
"""Marks of the modules that open the pages in a browser."""


def is_admitted(request: Request) -> bool:
    """Return whether a server of the tests admits all its clients, see :func:`.clients.admitting`."""
    return request.environ.get(ADMITTED) is True


def opened(make_app: Callable[..., Any]) -> Callable[..., Any]:
    """Return a maker of applications in memory whose pages open with the token."""

    def make(**config: Any) -> Any:
        config = {
            "TESTING": True,
            "PROPAGATE_EXCEPTIONS": False,
            "KNITPERF_ACCESS": is_admitted,
            **config,
        }
        return make_app(**{"KNITPERF_ACCESS_TOKEN": TOKEN, **config})

    return make


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    process = Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield process
    process.close()


@pytest.fixture
def serve(make_app: Callable[..., Any]) -> Iterator[Callable[[Flask], str]]:
    """Return a function (:func:`servers`) whose servers run as long as the test.

    They end before the applications do: an open page polls, and a request would start a closed
    application again.
    """
    with servers() as start:
        yield start


@pytest.fixture
def make_open(make_app: Callable[..., Any]) -> Callable[..., Any]:
    """Return a maker of applications (:func:`opened`) that live as long as the test."""
    return opened(make_app)


@pytest.fixture
def make_closed(make_app: Callable[..., Any]) -> Callable[..., Any]:
    """Return a maker of applications in memory, with the token."""

    def make(**config: Any) -> Any:
        return make_app(**{"TESTING": True, "KNITPERF_ACCESS_TOKEN": TOKEN, **config})

    return make


@pytest.fixture
def closed(make_closed: Callable[..., Any]) -> Any:
    """Return an application in memory, with the token."""
    return make_closed()


@pytest.fixture
def signed_in(closed: Any) -> tuple[Any, str]:
    """Return an application and the session cookie of a browser that signed in."""
    return closed, session_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))


@pytest.fixture
def empty(make_open: Callable[..., Any]) -> Any:
    """Return an application without requests, whose pages open with the token."""
    return make_open()


@pytest.fixture
def busy(make_open: Callable[..., Any], time: FakeTime) -> Any:
    """Return an application with everything a page can show."""
    return make_busy(make_open, time)


@pytest.fixture
def small(make_open: Callable[..., Any], time: FakeTime) -> Any:
    """Return the same with a threshold of memory that the process of the tests is far below."""
    return make_busy(make_open, time, KNITPERF_GC_THRESHOLD_MB=1e5, KNITPERF_TARGET_MEMORY_MB=1e5)


@pytest.fixture(scope="module")
def shared_busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return the same, for all tests of a module that change nothing in it."""
    with app_maker(tmp_path_factory.mktemp("busy")) as make_app:
        yield make_busy(opened(make_app), FakeTime())


def make_busy(make_open: Callable[..., Any], time: FakeTime, **config: Any) -> Any:
    mill = make_open(
        KNITPERF_TRUST_QUEUE_HEADER=True, KNITPERF_ENDPOINTS={"gone": {"slow_ms": 9}},
        KNITPERF_RELEASE="2024.11", **config,
    )  # fmt: skip
    mill.session.recorder.clock = time.clock()
    perf = mill.perf
    mill.app.before_request(lambda: time.pass_(0.002, cpu=0.002))

    @mill.app.get("/forecast/<kind>")
    def fabric_forecast(kind: str) -> str:
        with perf.section("read workbooks"):
            time.pass_(2.3, cpu=0.4)
        explode()
        return "f" * 700

    @perf.profile
    def explode() -> None:
        time.pass_(0.4, cpu=0.35)

    @mill.app.get("/fast")
    def fast() -> str:
        time.pass_(0.0004)
        requirements("12/1A")
        if request.args:
            prices(), shades()
        return "f"

    @perf.cache.cached
    def requirements(style: str) -> list[str]:
        return [style]

    @perf.cache.cached(namespace="prices")
    def prices() -> str:
        return f"{request.headers.get('X-Mill')} {request.args.get('user')}"

    @perf.cache.cached
    def shades() -> Iterator[str]:
        return iter("ab")

    @mill.app.get("/broken")
    def broken() -> str:
        raise ValueError("no yarn")

    @mill.app.get("/stuck")
    def stuck() -> str:
        time.pass_(30)
        raise SystemExit

    for _ in range(25):
        mill.get("/forecast/yarn", HTTP_X_REQUEST_START=str(time.epoch - 0.04))
    for number in range(150):
        mill.get("/fast?user=1" if number < 2 else "/fast")  # fewer than a finding needs
    for _ in range(8):
        mill.get("/broken")
        time.pass_(60)
        mill.session.memory_jobs.collector.record_gauges()
        mill.session.profile.record_load()
    with pytest.raises(SystemExit):
        mill.get("/stuck")
    mill.session.memory_jobs.collector.collect("above the threshold")
    mill.cache = cachetools.LRUCache(10)
    perf.session().caches.register(mill.cache, None, "yarn")
    return mill
