"""Exceptions that the host raises in the middle of our code reach the host."""

from __future__ import annotations

import functools
import gc
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.collectors.sql.request_queries import QUERY_COUNTER
from flask_knitperf.core import host_exceptions
from flask_knitperf.core.host_exceptions import raise_if_of_host

needs_alarms = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this system has no alarms"
)


class TooLateError(Exception):
    """Raised by the host's handler."""


class Handler:
    """A handler in one of the forms that handlers have."""

    def __call__(self, *_: Any) -> None:
        raise TooLateError

    def method(self, *_: Any) -> None:
        raise TooLateError


def handle(*_: Any) -> None:
    raise TooLateError


@pytest.fixture
def install() -> Iterator[Callable[[Any], None]]:
    """Return a function that installs a handler of alarms."""
    before = signal.getsignal(signal.SIGALRM)

    def set_handler(handler: Any) -> None:
        signal.signal(signal.SIGALRM, handler)

    yield set_handler
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def caught(function: Callable[[], object]) -> Exception:
    """Return the exception that a function raises."""
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@needs_alarms
@pytest.mark.parametrize(
    "handler", [handle, Handler(), Handler().method, functools.partial(handle, 1)],
    ids=["function", "object", "method", "partial"],
)  # fmt: skip
def test_what_a_signal_handler_raises_is_the_hosts(
    install: Callable[[Any], None], handler: Any
) -> None:
    install(handler)
    error = caught(lambda: signal.raise_signal(signal.SIGALRM))
    with pytest.raises(TooLateError):
        raise_if_of_host(error)


@needs_alarms
def test_a_failure_of_ours_is_not_the_hosts(install: Callable[[Any], None]) -> None:
    install(handle)
    raise_if_of_host(caught(lambda: json.loads("{")))
    raise_if_of_host(TypeError("never raised"))


def test_an_exception_that_another_thread_sets_is_the_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = caught(handle)
    raise_if_of_host(error)  # raised by a function of the host that our code called
    monkeypatch.setattr(host_exceptions, "PACKAGE", __file__)  # now its frame is ours
    with pytest.raises(TooLateError):
        raise_if_of_host(error)
    raise_if_of_host(caught(lambda: json.loads("{")))


@needs_alarms
def test_a_request_whose_collectors_a_signal_handler_interrupts_is_in_flight_no_longer(
    quiet: Any, install: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = wrap_connect(sqlite3.connect)(":memory:", check_same_thread=False)
    quiet.app.add_url_rule("/one", "one", lambda: str(connection.execute("select 1").fetchall()))
    quiet.session.profile.reservoir = None  # no details are kept
    for _ in range(3):
        quiet.get("/one")  # its series are on the fast path from now on
    monkeypatch.setattr(quiet.session.profile, "finish", None)
    install(handle)
    monkeypatch.setattr(QUERY_COUNTER, "_record", lambda *_: signal.raise_signal(signal.SIGALRM))
    recorder = quiet.session.recorder
    with pytest.raises(TooLateError):
        quiet.get("/one")
    assert recorder.spans == {} and recorder.failures == {}


@needs_alarms
def test_no_alarm_during_statements_and_sections_is_lost(
    quiet: Any, install: Callable[[Any], None]
) -> None:
    raised, seen = [0], [0]

    def alarm(*_: Any) -> None:
        raised[0] += 1
        raise TooLateError

    def view() -> str:
        connection = wrap_connect(sqlite3.connect)(":memory:")
        while raised[0] < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001)
                until = time.monotonic() + 1
                while time.monotonic() < until:  # by then an alarm was swallowed
                    with quiet.perf.section("price"):
                        connection.execute("select ?", (raised[0],)).fetchall()
            except TooLateError:
                seen[0] += 1
        connection.close()
        return "ok"

    assert threading.current_thread() is threading.main_thread()
    install(alarm)
    quiet.app.add_url_rule("/price", "price", view)
    gc.disable()  # Python itself ignores what is raised in a callback of the collector
    try:
        assert quiet.get("/price").code == 200
    finally:
        gc.enable()
    assert seen[0] == raised[0] == 300
