"""Exceptions that the host raises in the middle of our code reach the host."""

from __future__ import annotations

import ast
import functools
import gc
import json
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from flask import Response
from werkzeug.test import create_environ

from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.collectors.sql.request_queries import QUERY_COUNTER
from flask_knitperf.core import host_exceptions
from flask_knitperf.core.errors import StateError
from flask_knitperf.core.host_exceptions import SuppressOwn, raise_if_of_host
from flask_knitperf.instrumentation import wsgi

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


def forgets(number: int, frame: Any) -> None:
    """A handler that deletes the frame that it interrupted."""
    del frame
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
    "handler",
    [handle, Handler(), Handler().method, functools.partial(handle, 1), forgets,
     functools.partial(forgets)],
    ids=["function", "object", "method", "partial", "forgets", "partial that forgets"],
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
    slow: list[object] = []
    finish = quiet.session.profile.finish
    monkeypatch.setattr(
        quiet.session.profile, "finish",
        lambda span, *args, **names: slow.append(span) or finish(span, *args, **names),
    )  # fmt: skip
    install(handle)
    monkeypatch.setattr(QUERY_COUNTER, "_record", lambda *_: signal.raise_signal(signal.SIGALRM))
    recorder = quiet.session.recorder
    requests = 20  # one that a busy machine delays, or that collects garbage, leaves the fast path
    for _ in range(requests):
        with pytest.raises(TooLateError):
            quiet.get("/one")
        assert recorder.spans == {}
    assert len(slow) < requests
    assert recorder.failures == {}
    connection.close()


@needs_alarms
def test_no_alarm_during_statements_and_sections_is_lost(
    quiet: Any, install: Callable[[Any], None]
) -> None:
    raised, seen = [0], [0]

    def alarm(*_: Any) -> None:
        raised[0] += 1
        raise TooLateError

    connection = wrap_connect(sqlite3.connect)(":memory:")

    def work() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        until = time.monotonic() + 1
        while time.monotonic() < until:  # by then an alarm was swallowed
            with quiet.perf.section("price"):
                connection.execute("select ?", (raised[0],)).fetchall()

    def view() -> str:
        while raised[0] < 300:
            try:  # Python 3.13.0 may pass by the handler of a loop in the same function
                work()
            except TooLateError:
                seen[0] += 1
        return "ok"

    assert threading.current_thread() is threading.main_thread()
    install(alarm)
    quiet.app.add_url_rule("/price", "price", view)
    gc.disable()  # Python itself ignores what is raised in a callback of the collector
    try:
        assert quiet.get("/price").code == 200
    finally:
        gc.enable()
        connection.close()
    assert seen[0] == raised[0] == 300


@needs_alarms
@pytest.mark.parametrize("keeps_arguments", [True, False])
def test_a_handler_that_disarms_itself_is_recognised(
    install: Callable[[Any], None], keeps_arguments: bool
) -> None:
    def named(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise TooLateError

    def packed(*_: Any) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        raise TooLateError

    install(named if keeps_arguments else packed)
    error = caught(lambda: signal.raise_signal(signal.SIGALRM))
    with pytest.raises(TooLateError):
        raise_if_of_host(error)


def test_an_exception_that_ours_was_raised_from_is_raised_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def convert() -> None:
        try:
            handle()
        except TooLateError as cause:
            raise StateError("the state directory cannot be used") from cause

    error = caught(convert)
    monkeypatch.setattr(host_exceptions, "PACKAGE", __file__)  # its innermost frame is ours
    with pytest.raises(TooLateError):
        raise_if_of_host(error)


@needs_alarms
def test_exceptions_of_the_host_are_not_suppressed(install: Callable[[Any], None]) -> None:
    def too_late(*_: Any) -> None:
        raise TimeoutError

    install(too_late)
    with SuppressOwn(OSError):
        raise FileNotFoundError
    with SuppressOwn(OSError):
        pass
    with pytest.raises(TooLateError), SuppressOwn(OSError):
        raise TooLateError
    with pytest.raises(TimeoutError), SuppressOwn(OSError):
        signal.raise_signal(signal.SIGALRM)


@needs_alarms
@pytest.mark.parametrize("error", [TimeoutError, TooLateError])
@pytest.mark.parametrize("path", ["/whole", "/streamed"])
def test_no_alarm_during_requests_is_lost(
    quiet: Any, install: Callable[[Any], None], error: type[Exception], path: str
) -> None:
    raised, seen, ignored = [0], [0], []

    def alarm(*_: Any) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        raised[0] += 1
        raise error

    quiet.app.add_url_rule("/whole", "whole", lambda: "ok")
    quiet.app.add_url_rule("/streamed", "streamed", lambda: Response(iter(["o", "k"])))
    quiet.app.config.update(PROPAGATE_EXCEPTIONS=True)
    environ = create_environ(path)

    def serve() -> None:
        body = quiet.app(dict(environ), lambda *_: None)
        list(body)
        body.close()

    for _ in range(20):
        assert quiet.get(path).code == 200
    gc.disable()  # Python itself ignores what is raised in a callback of the collector
    hook, sys.unraisablehook = sys.unraisablehook, ignored.append
    try:
        for number in range(400):
            install(alarm)
            began = raised[0]
            context = copy_context()  # Flask leaves its own context behind where it is interrupted
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number))
                    context.run(serve)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Exception as failure:  # Flask's own cleanup may fail after it
                seen[0] += (raised[0] - began) * _caused_by(failure, error)
    finally:
        sys.unraisablehook = hook
        gc.enable()
    assert raised[0] > 50
    assert (seen[0], ignored) == (raised[0], [])


def _caused_by(failure: BaseException | None, error: type[Exception]) -> bool:
    while failure is not None and not isinstance(failure, error):
        failure = failure.__context__
    return failure is not None


# Handlers in these modules run in a thread of ours, where no signal handler runs, or at import, or they
# are the last ones of a request's fast path, whose twin in C is between no two instructions.
ELSEWHERE = {
    "recording/fastpath.py": {"ValueError", "Exception"},
    "recording/housekeeper.py": {"Exception"},
}
FROM_HOST = {"Exception", "OSError", "RuntimeError", "ValueError"}
IN_REQUESTS = ("caching", "collectors", "core", "instrumentation", "recording", "storage")


def test_handlers_that_go_on_pass_exceptions_of_the_host_on() -> None:
    root = Path(host_exceptions.PACKAGE)
    paths = [path for name in IN_REQUESTS for path in sorted((root / name).rglob("*.py"))]
    assert len(paths) > 90
    swallowing = {
        f"{path.relative_to(root).as_posix()}:{line}"
        for path in paths
        for line, types in _handlers_that_go_on(path)
        if types & FROM_HOST - ELSEWHERE.get(path.relative_to(root).as_posix(), set())
    }
    assert not swallowing


def _handlers_that_go_on(path: Path) -> Iterator[tuple[int, set[str]]]:
    """Yield the line and the types of handlers that neither raise nor look whose exception it is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            calls = {
                ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)
            }
            looks = any(
                name.endswith(("raise_if_of_host", "failed", "unreadable")) for name in calls
            )
            if not looks and not isinstance(node.body[-1], ast.Raise):
                yield node.lineno, _names(node.type)
        elif isinstance(node, ast.withitem) and isinstance(node.context_expr, ast.Call):
            call = node.context_expr
            if ast.unparse(call.func).endswith("suppress"):
                yield call.lineno, {ast.unparse(argument) for argument in call.args}


def _names(types: ast.expr | None) -> set[str]:
    """Return the names of the types of a handler, ``Exception`` for one without."""
    if types is None:
        return {"Exception"}
    return {ast.unparse(kind) for kind in getattr(types, "elts", [types])}


@needs_alarms
@pytest.mark.parametrize("function", ["is_bodiless", "_is_complete"])
def test_after_an_alarm_at_the_end_of_a_request_none_is_in_flight(
    quiet: Any, install: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    install(handle)
    monkeypatch.setattr(wsgi, function, lambda *_: signal.raise_signal(signal.SIGALRM))
    with pytest.raises(TooLateError):
        quiet.get("/")
    assert not quiet.session.recorder.spans and quiet.session.recorder.failures == {}
    assert ("index", "GET") in quiet.rows()
