"""Waits for services, hosts, programs and sleeps are parts with the name of what a request waits for."""

from __future__ import annotations

import copy
import functools
import http.client
import inspect
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from time import sleep as imported_sleep
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from flask_knitperf.collectors.waits import names
from flask_knitperf.collectors.waits.hooks import WAIT_HOOKS

from .conftest import BODY_S, HEAD_S, waits

SLEEPS = [sys.executable, "-c", "import time; time.sleep(0.03)"]
PROGRAM = f"subprocess:{os.path.basename(sys.executable)}"


# -- outgoing HTTP ---------------------------------------------------------------------------------


def test_a_call_of_urllib_is_a_part_with_the_host_alone(serve: Any, service: str) -> None:
    parts = serve(lambda: urlopen(service).read())
    assert parts["http:localhost"]["count"] == 1
    assert parts["http:localhost"]["ms"] >= HEAD_S * 1000
    assert not any("secret" in name or "rates" in name or ":8" in name for name in parts)


def test_each_call_counts_once_though_it_sends_answers_and_reads(serve: Any, service: str) -> None:
    parts = serve(lambda: [urlopen(service + "&slow-body").read() for _ in range(3)], times=2)
    assert parts["http:localhost"]["count"] == 6
    assert parts["http:localhost"]["ms"] >= 3 * (HEAD_S + BODY_S) * 1000


@pytest.mark.parametrize("calls", [1, 3])
def test_an_answer_that_is_read_at_another_line_is_no_further_call(
    serve: Any, quiet: Any, service: str, calls: int
) -> None:
    def view() -> None:
        for _ in range(calls):
            with urlopen(service + "&slow-body") as answer:
                answer.read()

    parts = serve(view)
    http = [wait for wait in waits(quiet) if wait.part == "http:localhost"]
    assert sum(wait.time.count for wait in http) == calls
    assert len({wait.where for wait in http}) == min(calls, 2)
    assert sum(wait.time.total for wait in http) / 1e6 == pytest.approx(
        parts["http:localhost"]["ms"], abs=0.01
    )


def test_the_time_between_head_and_body_is_not_the_calls(
    serve: Any, quiet: Any, service: str
) -> None:
    def view() -> None:
        with urlopen(service + "&slow-body") as answer:
            time.sleep(BODY_S * 2)
            answer.read()

    parts = serve(view)
    assert parts["http:localhost"]["count"] == parts["sleep"]["count"] == 1
    assert parts["sleep"]["ms"] >= BODY_S * 2000
    assert sum(part["ms"] for part in parts.values()) <= quiet.row("view")["mean_ms"]


def test_the_sum_of_parts_stays_within_the_request(serve: Any, quiet: Any, service: str) -> None:
    parts = serve(lambda: [urlopen(service).read() for _ in range(3)])
    assert sum(part["share"] for part in parts.values()) <= 1
    assert sum(part["ms"] for part in parts.values()) <= quiet.row("view")["mean_ms"]


def test_a_call_that_fails_raises_the_same_error_and_is_a_part(serve: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        errors: list[BaseException] = []

        def view() -> None:
            try:
                urlopen(address, timeout=0.05)
            except (TimeoutError, URLError) as error:
                errors.append(error)

        parts = serve(view)
    assert [type(error) for error in errors] == [TimeoutError]
    assert parts["http:127.0.0.1"]["ms"] >= 40 and parts["http:127.0.0.1"]["count"] == 1


def test_a_section_around_a_call_keeps_only_its_rest(serve: Any, quiet: Any, service: str) -> None:
    def view() -> None:
        with quiet.perf.section("rates"):
            urlopen(service).read()

    parts = serve(view)
    assert parts["section:rates"]["ms"] < parts["http:localhost"]["ms"]


# -- connections and names -------------------------------------------------------------------------


def test_a_name_that_takes_long_to_resolve_is_a_part(
    quiet: Any, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    original = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        select.select([], [], [], 0.02)
        return original(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    quiet.app.add_url_rule("/view", "view", lambda: urlopen(service).read())
    quiet.get("/view")
    parts = quiet.parts("view")
    assert parts["dns:localhost"]["count"] == 1 and parts["dns:localhost"]["ms"] >= 19
    assert sum(part["ms"] for part in parts.values()) <= quiet.row("view")["mean_ms"]
    quiet.session.close()
    assert socket.getaddrinfo is slow


def test_a_connection_is_named_by_the_host_that_was_resolved(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: socket.socket, address: Any) -> None:
        select.select([], [], [], 0.02)

    monkeypatch.setattr(socket.socket, "connect", slow, raising=False)
    connect = lambda: socket.create_connection(("localhost", 6379)).close() or "ok"  # noqa: E731
    quiet.app.add_url_rule("/view", "view", connect)
    quiet.get("/view")
    assert quiet.parts("view")["connect:localhost"]["count"] == 1


# -- programs and sleeps ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run",
    [
        lambda: subprocess.run(SLEEPS, check=True),
        lambda: subprocess.run(SLEEPS, check=True, capture_output=True, timeout=30),
        lambda: subprocess.check_output(SLEEPS),
        lambda: subprocess.Popen(SLEEPS).wait(30),
    ],
    ids=["run", "run with output and timeout", "check_output", "wait"],
)
def test_waiting_for_a_program_is_one_part_with_its_name(serve: Any, run: Any) -> None:
    parts = serve(run)
    assert parts[PROGRAM]["count"] == 1 and parts[PROGRAM]["ms"] >= 20
    assert "sleep" not in parts


def test_a_program_that_has_ended_is_not_waited_for_again(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = subprocess.Popen._wait  # type: ignore[attr-defined]

    def slowly(self: Any, timeout: Any) -> Any:
        time.sleep(0.001)  # the thread waits for a core
        return original(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "_wait", slowly)
    assert serve(lambda: subprocess.run(SLEEPS, check=True))[PROGRAM]["count"] == 1


def test_a_sleep_is_a_part_with_the_line_that_sleeps(serve: Any, quiet: Any) -> None:
    parts = serve(lambda: time.sleep(0.01))
    assert parts["sleep"]["count"] == 1 and parts["sleep"]["ms"] >= 10
    [wait] = waits(quiet)
    assert (wait.part, wait.thread) == ("sleep", "request")
    assert wait.where.startswith("waits/test_wait_hook.py:")


def test_a_sleep_imported_by_name_is_timed_too(serve: Any) -> None:
    assert serve(lambda: imported_sleep(0.01))["sleep"]["count"] == 1


def test_a_sleep_in_a_library_has_the_name_of_the_library(serve: Any) -> None:
    library = types.ModuleType("retrying.backoff")
    source = "import time\ndef wait(): time.sleep(0.01)"
    code = compile(source, os.path.join(os.path.dirname(os.__file__), "retrying.py"), "exec")
    exec(code, library.__dict__)
    assert serve(library.wait)["sleep:retrying"]["count"] == 1


def test_short_waits_and_requests_that_wait_for_nothing_have_no_parts(timed: Any) -> None:
    timed.app.add_url_rule("/view", "view", lambda: time.sleep(0) or "ok")
    timed.get("/view")  # no time passes on its clock
    assert timed.parts("view") == {} and waits(timed) == []


def test_waits_of_a_request_on_the_fast_path_are_counted(serve: Any, quiet: Any) -> None:
    parts = serve(lambda: time.sleep(0.002), times=20)
    assert parts["sleep"]["count"] == 20
    assert sum(wait.time.count for wait in waits(quiet)) == 20


def test_a_hook_keeps_the_time_for_which_it_waits(serve: Any, quiet: Any) -> None:
    @quiet.app.before_request
    def tenant() -> None:
        time.sleep(0.02)

    parts = serve(lambda: time.sleep(0.01))
    assert parts["sleep"]["count"] == 1
    [hook] = [part for name, part in parts.items() if name.startswith("hook:")]
    assert hook["ms"] >= 20


def test_a_sleep_that_ends_late_counts_for_as_long_as_it_was_meant_to_last(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: select.select([], [], [], seconds + 0.05))
    quiet.app.add_url_rule("/view", "view", lambda: time.sleep(0.01) or "ok")
    quiet.get("/view")
    assert quiet.parts("view")["sleep"]["ms"] == 10


def test_a_wait_is_in_the_timeline_with_its_line(serve: Any, quiet: Any) -> None:
    serve(lambda: time.sleep(0.03))
    requests = quiet.session.documents.why("view", "GET", "run").document["requests"]
    document, _ = quiet.session.documents.request(requests["latest"][0]["id"], "run")
    [event] = [event for event in document["timeline"] if event["name"] == "sleep"]
    assert event["detail"]["where"].startswith("waits/test_wait_hook.py:")


def test_waits_of_other_threads_and_outside_of_requests_are_not_counted(serve: Any) -> None:
    def view() -> None:
        thread = threading.Thread(target=time.sleep, args=(0.01,))
        thread.start()
        thread.join()

    time.sleep(0.001)
    assert "sleep" not in serve(view)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Rates.Example.", "rates.example"), (b"rates.example", "rates.example"),
        (None, "localhost"), ("", "localhost"), ("::1", "::1"), ("[fe80::1%eth0]", "fe80::1"),
        ("bücher.example", "xn--bcher-kva.example"), ("user:pw@rates.example", "<other>"),
        ("rates.example/path?key=1", "<other>"), ("rates.example:8080", "<other>"),
        ("a" * 300, "<other>"), ("\udc80", "<other>"), ("a b", "<other>"), (7, "<other>"),
    ],
)  # fmt: skip
def test_a_host_is_its_name_alone(value: Any, name: str) -> None:
    assert names.host(value) == name


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["/usr/bin/convert", "a.png"], "convert"), (("convert",), "convert"),
        ("convert a b", "convert"),
        (Path("/opt/tools/convert"), "convert"), (b"/usr/bin/convert", "convert"), ("", "sh"),
        (r"C:\Tools\convert.exe", "convert.exe"), ("KEY=secret convert", "sh"), ("$(cat key)", "sh"),
        ([], "sh"), (["x" * 200], "sh"), (7, "<other>"),
    ],
)  # fmt: skip
def test_a_program_is_its_name_without_folder_and_arguments(args: Any, name: str) -> None:
    assert names.program(args) == name


def test_the_number_of_names_is_bounded() -> None:
    hosts = names.PartNames(names.PartKind.HTTP, names.host)
    parts = {hosts.of(f"host-{number}.example") for number in range(3000)}
    assert len(parts) == names.MAX_NAMES + 1 and "http:<other>" in parts
    assert hosts.of("host-0.example") == "http:host-0.example"


# -- the replaced functions ------------------------------------------------------------------------

REPLACED: list[tuple[Any, str]] = [
    (time, "sleep"), (socket, "getaddrinfo"), (socket.socket, "connect"),
    (http.client.HTTPConnection, "send"), (http.client.HTTPConnection, "getresponse"),
    (http.client.HTTPResponse, "read"), (subprocess.Popen, "wait"),
    (subprocess.Popen, "communicate"),
]  # fmt: skip


def test_the_originals_are_back_once_the_last_application_is_closed(make_app: Any) -> None:
    before = [vars(owner).get(name) for owner, name in REPLACED]
    first, second = make_app(TESTING=True), make_app(TESTING=True, name="other")
    first.get("/"), second.get("/")
    assert WAIT_HOOKS.installed and imported_sleep is time.sleep
    assert [vars(owner).get(name) for owner, name in REPLACED] != before
    first.session.close()
    assert WAIT_HOOKS.installed
    second.session.close()
    assert [vars(owner).get(name) for owner, name in REPLACED] == before
    assert imported_sleep is time.sleep


def test_a_wrapper_of_others_stays_and_counts_each_wait_once(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = time.sleep
    monkeypatch.setattr(time, "sleep", original)  # restored at the end
    quiet.app.add_url_rule("/view", "view", lambda: time.sleep(0.01) or "ok")
    quiet.get("/")
    ours = time.sleep
    time.sleep = functools.partial(ours)
    quiet.session.close()
    quiet.get("/view")
    assert quiet.parts("view")["sleep"]["count"] == 1


def test_signatures_are_those_of_the_originals(quiet: Any) -> None:
    in_python = [(owner, name) for owner, name in REPLACED if owner not in (time, socket.socket)]
    before = [inspect.signature(getattr(owner, name)) for owner, name in in_python]
    quiet.get("/")
    assert [inspect.signature(getattr(owner, name)) for owner, name in in_python] == before
    with pytest.raises(TypeError):
        time.sleep()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        time.sleep("long")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        time.sleep(-1)


def test_sleep_in_a_class_is_not_a_method_and_can_be_pickled_and_copied(quiet: Any) -> None:
    quiet.get("/")

    class Backoff:
        sleep = time.sleep

    Backoff().sleep(0)
    assert pickle.loads(pickle.dumps(time.sleep)) is time.sleep
    assert copy.deepcopy(time.sleep) is time.sleep
    assert repr(time.sleep) == "<built-in function sleep>"


class AlarmError(Exception):
    """Raised by a signal handler."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_an_exception_of_a_signal_handler_ends_a_wait_and_reaches_the_view(serve: Any) -> None:
    def handler(_: int, __: Any) -> None:
        raise AlarmError

    def view() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(AlarmError):
            time.sleep(5)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        parts = serve(view)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert parts["sleep"]["count"] == 1 and parts["sleep"]["ms"] < 5000


def test_a_failure_of_ours_does_not_reach_the_view(
    serve: Any, quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names.HTTP, "of", None)
    monkeypatch.setattr(names.SUBPROCESS, "of", None)
    assert "sleep" in serve(lambda: (subprocess.run(SLEEPS, check=True), time.sleep(0.001)))
    assert quiet.session.recorder.failures["waits"] >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_waits_without_a_part_and_without_an_error(serve: Any) -> None:
    def view() -> None:
        child = os.fork()
        if not child:
            time.sleep(0.001)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    assert "sleep" not in serve(view)


def test_requests_with_data_and_headers_are_passed_on(serve: Any, service: str) -> None:
    answers: list[bytes] = []
    serve(lambda: answers.append(urlopen(Request(service, headers={"X-Key": "1"})).read()))
    assert answers == [b"1.07"]
