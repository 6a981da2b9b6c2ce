"""The usual request, in Python and in C: one contract, both held to it in one process."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from flask_knitperf.metrics.log_format import END, parse
from flask_knitperf.recording import fastpath
from tests.conftest import in_python

CURRENT: ContextVar[Any] = ContextVar("test_passage", default=None)
ENDPOINT = SimpleNamespace(url_rule=SimpleNamespace(endpoint="item"))


def of_python() -> Any:
    return in_python(fastpath)


def in_c() -> Any:
    try:
        from flask_knitperf.recording import _speedups
    except ImportError:
        pytest.skip("_speedups.c was not built on this machine")
    return _speedups


class Body:
    """A body as Werkzeug makes it: what is behind the last callback is the response."""

    def __init__(self, *pieces: Any) -> None:
        self._callbacks: list[Any] = [Response(list(pieces)).close]


class Response:
    def __init__(self, pieces: Any) -> None:
        self.response = pieces

    def close(self) -> None:
        """Be a method whose object is the response."""


class Way:
    """A passage with everything around it, and what it was asked for, in order."""

    def __init__(self, module: Any, app: Callable[..., Any] | None = None) -> None:
        self.module = module
        self.said: list[Any] = []
        self.log: list[bytes] = []
        self.body: Any = Body(b"yarn")
        self.endpoint: Any = ENDPOINT
        self.now = iter(range(1_000, 10**12, 500))
        self.span: Any = None
        way = self

        class Profile(module.ProfileBase):  # type: ignore[misc]
            def __init__(self) -> None:
                self.slow_urls: dict[str, int] = {}
                self.request_series: dict[Any, Any] = {}
                self.prepare_at = 100

            def end_busy_period(self, span: Any, wall: int) -> None:
                way.said.append(("end_busy_period", wall))

            def record_cost(self, took: int) -> None:
                way.said.append(("record_cost", took))

        class Plan(module.RequestSeriesBase):  # type: ignore[misc]
            def append_to_next_log(self, group: bytes) -> None:
                way.said.append("append_to_next_log")
                way.log.append(group)

        class Passage(module.FastPathBase):  # type: ignore[misc]
            def bypass(self, environ: Any, start: Any, path: str) -> Any:
                way.said.append(("bypass", path))
                return [b"aside"] if path == "/perf/" else None

            def prepare_slow_path(self, span: Any, environ: Any, path: str) -> None:
                way.said.append(("prepare_slow_path", path))
                way.special(span)

            def unrouted(self, span: Any, error: Exception) -> None:
                way.said.append(("unrouted", type(error)))
                span.endpoint = "<unmatched>"

            def on_exception(self, span: Any, error: BaseException) -> None:
                way.said.append(("on_exception", error, CURRENT.get() is span))
                way.spans.pop(span)

            def on_fastpath_error(self, error: Exception) -> None:
                way.said.append(("on_fastpath_error", type(error)))

            def finish_slow(self, span: Any, body: Any) -> Any:
                way.said.append("finish_slow")
                way.spans.pop(span, None)
                return body

        self.profile = Profile()
        self.plan = Plan()
        self.plan.append = self.log.append
        self.plan.solo, self.plan.concurrent, self.plan.bytes_out = 7, 8, 9 | END
        self.profile.request_series["item", "GET", "200 OK"] = self.plan
        self.spans: dict[Any, None] = {}
        self.pauses = module.PauseTotalBase()
        clock = SimpleNamespace(monotonic_ns=lambda: next(self.now))
        self.passage = Passage(
            app or self.app, SimpleNamespace(clock=clock), self.profile, self.spans,
            ("/perf", "//"), module.SpanBase, CURRENT, self.pauses, Body, "viewer",
        )  # fmt: skip

    def special(self, span: Any) -> None:
        """What looking around does."""

    def app(self, environ: Any, start: Any) -> Any:
        assert CURRENT.get() is start
        self.span = start
        environ["werkzeug.request"] = self.endpoint
        start("200 OK", [("A", "b")])
        return self.body

    def get(self, path: str | None = "/item", **more: Any) -> Any:
        environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", **more}
        if path is None:
            del environ["PATH_INFO"]
        return self.passage(environ, lambda *said: self.said.append(said))

    def written(self) -> list[tuple[int, float]]:
        found = parse(b"".join(self.log))
        return list(zip(found.series.tolist(), found.value.tolist(), strict=True))


@pytest.fixture(params=[of_python, in_c], ids=["python", "c"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
def way(module: Any) -> Way:
    return Way(module)


# -- the usual way ---------------------------------------------------------------------------------


def test_a_usual_request_is_one_group_of_wall_time_and_bytes(way: Way) -> None:
    assert way.get() is way.body
    assert way.written() == [(7, 500.0), (9, 4.0)]
    assert way.said == [("200 OK", [("A", "b")])]


def test_a_usual_request_leaves_nothing_in_flight_and_nothing_current(way: Way) -> None:
    way.get()
    assert way.spans == {} and CURRENT.get() is None
    assert way.span.ended and way.profile.busy_ns == 500 and way.profile.requests_started == 1


def test_a_request_beside_others_is_counted_as_such_and_is_not_the_last(way: Way) -> None:
    way.spans["another"] = None
    way.special = lambda span: setattr(span, "concurrent", True)  # type: ignore[method-assign]
    way.get()
    assert way.written()[0] == (8, 500.0)
    assert way.profile.busy_ns == 0 and way.spans == {"another": None}


def test_the_last_of_several_requests_ends_the_busy_stretch(way: Way) -> None:
    way.profile.prepare_at = 0
    way.special = lambda span: setattr(span, "concurrent", True)  # type: ignore[method-assign]
    way.get()
    assert ("end_busy_period", 500) in way.said and way.profile.busy_ns == 0


def test_a_timed_request_tells_what_it_cost(way: Way) -> None:
    way.profile.prepare_at = 0

    def timed(span: Any) -> None:
        span.fast, span.cost = fastpath.FAST_TIMED, 40

    way.special = timed  # type: ignore[method-assign]
    way.get()
    assert ("record_cost", 540) in way.said


def test_a_full_log_is_followed_by_the_next(way: Way) -> None:
    def full(_: bytes) -> None:
        raise ValueError("data out of range")

    way.plan.append = full
    way.get()
    assert way.written() == [(7, 500.0), (9, 4.0)] and "append_to_next_log" in way.said


def test_keywords_and_what_a_server_adds_reach_the_server_s_start_response(way: Way) -> None:
    def app(environ: Any, start: Any) -> Any:
        environ["werkzeug.request"] = ENDPOINT
        start(status="200 OK", headers=[], exc_info=("a", "b", "c"))
        return way.body

    way.passage.app = app
    way.get()
    assert way.said == [("200 OK", [], ("a", "b", "c"))]


def test_what_start_response_returns_reaches_the_application(way: Way) -> None:
    found = []

    def app(environ: Any, start: Any) -> Any:
        environ["werkzeug.request"] = ENDPOINT
        found.append(start("200 OK", []))
        return way.body

    way.passage.app = app
    way.passage({"REQUEST_METHOD": "GET"}, lambda *_: "write")
    assert found == ["write"]


def test_an_environment_that_is_a_mapping_of_another_kind_will_do(way: Way) -> None:
    for kind in (OrderedDict, UserDict):
        environ = kind({"PATH_INFO": "/item", "REQUEST_METHOD": "GET"})
        assert way.passage(environ, lambda *_: None) is way.body
    assert len(way.log) == 2


# -- what is not usual -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [Body(), Body(b"a", b"b"), Body(b""), Body("text"), [b"a list"], iter([b"x"])]
)
def test_a_body_of_another_make_is_passed_on(way: Way, body: Any) -> None:
    way.body = body
    assert way.get() is body
    assert way.log == [] and way.said[-1] == "finish_slow" and not way.span.ended


def test_a_body_whose_callbacks_are_gone_is_passed_on_as_on_fastpath_error(way: Way) -> None:
    del way.body._callbacks
    way.get()
    assert way.said[1:] == [("on_fastpath_error", AttributeError), "finish_slow"]


def test_a_body_without_callbacks_is_passed_on_as_on_fastpath_error(way: Way) -> None:
    way.body._callbacks.clear()
    way.get()
    assert way.said[1:] == [("on_fastpath_error", IndexError), "finish_slow"]


def test_a_request_of_which_none_like_it_was_seen_is_passed_on(way: Way) -> None:
    way.get(REQUEST_METHOD="PUT")
    way.plan.solo = 0
    way.get()
    assert way.log == [] and way.said.count("finish_slow") == 2


def test_a_request_with_a_collection_inside_is_passed_on(way: Way) -> None:
    def app(environ: Any, start: Any) -> Any:
        way.pauses.total += 1
        return way.app(environ, start)

    way.passage.app = app
    way.get()
    assert way.log == [] and way.said[-1] == "finish_slow"


def test_a_request_that_opened_a_part_is_passed_on(way: Way) -> None:
    def app(environ: Any, start: Any) -> Any:
        start.fast = fastpath.FAST_OFF
        return way.app(environ, start)

    way.passage.app = app
    way.get()
    assert way.log == [] and way.said[-1] == "finish_slow"


@pytest.mark.parametrize("step", [fastpath.SLOW_NS, 0, -5])
def test_a_slow_request_and_one_in_no_time_are_passed_on(way: Way, step: int) -> None:
    way.now = iter([100_000_000, 100_000_000 + step])  # type: ignore[assignment]
    way.get()
    assert way.log == [] and way.said[-1] == "finish_slow"


def test_a_path_that_was_slow_is_looked_at(way: Way) -> None:
    way.profile.slow_urls["/item"] = 3
    way.get()
    way.get("/other")
    prepared = [entry for entry in way.said if entry[0] == "prepare_slow_path"]
    assert prepared == [("prepare_slow_path", "/item")]


def test_a_request_at_its_turn_is_looked_at_and_one_before_is_not(way: Way) -> None:
    way.profile.prepare_at = 2
    way.get()
    assert way.said == [("200 OK", [("A", "b")])]
    way.get()
    assert ("prepare_slow_path", "/item") in way.said


@pytest.mark.parametrize(
    ("cookie", "looked"), [("a=b; viewer=c", True), ("viewer", True), ("a=b", False), (None, False)]
)
def test_a_request_with_the_cookie_of_a_viewer_is_looked_at(
    way: Way, cookie: str | None, looked: bool
) -> None:
    way.get(HTTP_COOKIE=cookie)
    assert (("prepare_slow_path", "/item") in way.said) == looked


def test_a_path_of_ours_is_answered_aside(way: Way) -> None:
    assert way.get("/perf/") == [b"aside"]
    assert way.profile.requests_started == 0 and way.span is None


def test_a_path_that_only_begins_like_ours_goes_on(way: Way) -> None:
    assert way.get("/perfume") is way.body
    assert len(way.log) == 1


def test_a_request_without_a_path_is_like_any_other(way: Way) -> None:
    assert way.get(None) is way.body


@pytest.mark.parametrize("endpoint", [None, SimpleNamespace(url_rule=None)])
def test_an_unrouted_request_is_asked_about(way: Way, endpoint: Any) -> None:
    way.endpoint = endpoint
    way.get()
    assert way.said[0] == ("unrouted", AttributeError)
    assert way.span.endpoint == "<unmatched>"


def test_an_endpoint_that_is_known_stays_though_the_request_is_gone(way: Way) -> None:
    def app(environ: Any, start: Any) -> Any:
        start("500 ERROR", [])
        way.endpoint = None
        return way.app(environ, start)

    way.passage.app = app
    way.passage({"REQUEST_METHOD": "GET", "werkzeug.request": ENDPOINT}, lambda *_: None)
    assert way.span.endpoint == "item" and way.written()[0] == (7, 500.0)


# -- what fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("host"), SystemExit(1), KeyboardInterrupt()])
def test_the_application_s_error_is_told_and_raised_as_it_is(
    way: Way, error: BaseException
) -> None:
    def app(environ: Any, start: Any) -> Any:
        raise error

    way.passage.app = app
    with pytest.raises(type(error)) as raised:
        way.get()
    assert raised.value is error and error.__traceback__ is not None
    assert way.said == [("on_exception", error, True)] and CURRENT.get() is None


def test_an_error_of_start_response_reaches_the_application(way: Way) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        way.passage({"REQUEST_METHOD": "GET"}, refuse)


def test_a_failure_while_writing_is_told_and_the_answer_goes_out(way: Way) -> None:
    def fail(_: bytes) -> None:
        raise OSError("disk")

    way.plan.append = fail
    assert way.get() is way.body
    assert way.said[1:] == [("on_fastpath_error", OSError), "finish_slow"]


def test_a_failure_of_idle_is_told_and_the_answer_goes_out(way: Way) -> None:
    way.profile.prepare_at = 0
    way.special = lambda span: setattr(span, "concurrent", True)  # type: ignore[method-assign]

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    type(way.profile).end_busy_period = fail
    assert way.get() is way.body
    assert way.said[-2:] == [("on_fastpath_error", ZeroDivisionError), "finish_slow"]


def test_a_missing_method_is_told(way: Way) -> None:
    environ = {"PATH_INFO": "/item"}
    assert way.passage(environ, lambda *_: None) is way.body
    assert ("on_fastpath_error", KeyError) in way.said


def test_what_ends_the_process_is_not_held_up(way: Way) -> None:
    def stop(_: bytes) -> None:
        raise KeyboardInterrupt

    way.plan.append = stop
    with pytest.raises(KeyboardInterrupt):
        way.get()


# -- memory ------------------------------------------------------------------------------------------


def test_nothing_of_a_request_is_kept(way: Way) -> None:
    class Environ(dict):  # type: ignore[type-arg]
        """A dict that can be looked for."""

    environ = Environ(PATH_INFO="/item", REQUEST_METHOD="GET")
    gone = weakref.ref(environ)
    way.passage(environ, lambda *_: None)
    way.span = None
    del environ
    assert gone() is None


@pytest.mark.parametrize("path", ["/item", "/perf/", "/perfume", None])
@pytest.mark.parametrize("fails", [False, True])
def test_objects_do_not_grow_with_requests(way: Way, path: Any, fails: bool) -> None:
    def failing(environ: Any, start: Any) -> Any:
        way.app(environ, start)
        raise RuntimeError

    if fails:
        way.passage.app = failing

    def some() -> None:
        for _ in range(200):
            try:
                way.get(path)
            except RuntimeError:
                assert fails
            way.said.clear()
            way.log.clear()
        way.span = None

    some()
    gc.collect()
    before = sys.getallocatedblocks()
    some()
    gc.collect()
    assert sys.getallocatedblocks() - before < 100


def test_a_passage_in_a_cycle_is_collected(module: Any) -> None:
    way = Way(module)
    way.get()
    way.passage.myself = way.passage
    way.profile.myself = way.profile
    way.plan.myself = [way.plan]
    way.span.start_record = (way.span,)
    gone = [weakref.ref(each) for each in (way.passage, way.profile, way.plan)]
    del way
    gc.collect()
    assert [each() for each in gone] == [None, None, None]


# -- C alone ---------------------------------------------------------------------------------------


def test_a_passage_of_wrong_parts_is_refused() -> None:
    made = in_c()
    right = [
        len, 1, made.ProfileBase(), {}, ("/perf",), made.SpanBase, CURRENT, made.PauseTotalBase(), Body,
        "viewer",
    ]  # fmt: skip
    made.FastPathBase(*right)
    for place, wrong in (
        (2, 1),
        (3, []),
        (4, [1]),
        (4, (1,)),
        (5, int),
        (6, 1),
        (7, 1),
        (8, 1),
        (9, 1),
    ):
        parts = [*right]
        parts[place] = wrong
        with pytest.raises(TypeError):
            made.FastPathBase(*parts)


def test_a_passage_that_was_never_set_up_says_so() -> None:
    made = in_c()
    with pytest.raises(RuntimeError, match="never initialised"):
        made.FastPathBase.__new__(made.FastPathBase)({}, print)


def test_fields_that_were_deleted_break_nothing() -> None:
    made = in_c()
    span = made.SpanBase()
    for name in ("environ", "start_response", "middleware", "status"):
        delattr(span, name)
    with pytest.raises(SystemError):
        span("200 OK", [])
    way = Way(made)
    for part, name in ((way.plan, "append"), (way.profile, "request_series")):
        delattr(part, name)
        assert way.get() is way.body
    del way.profile.slow_urls
    with pytest.raises(AttributeError):
        way.get()


def test_a_clock_that_gives_no_number_reaches_the_caller() -> None:
    for readings in (["noon"], [1_000, "noon"], [1 << 80]):
        way = Way(in_c())
        way.now = iter(readings)  # type: ignore[assignment]
        with pytest.raises((TypeError, OverflowError)):
            way.get()


@pytest.mark.parametrize("pure", [True, False])
def test_the_environment_decides_which_is_used(pure: bool) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "KNITPERF_PURE_PYTHON"}
    if pure:
        environ["KNITPERF_PURE_PYTHON"] = "1"
    code = "from flask_knitperf.recording.fastpath import COMPILED; print(COMPILED)"
    said = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    ).stdout.strip()
    built = importlib.util.find_spec("flask_knitperf.recording._speedups") is not None
    assert said == str(built and not pure)
