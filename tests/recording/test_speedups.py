"""The types in C: what they refuse, what they leave behind, and that interpreters do not share them."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import textwrap
import weakref
from typing import Any

import pytest

from tests.recording.harness import CURRENT, Body, Harness, in_c

TYPES = (
    "FastPathBase", "NotesBase", "PauseTotalBase", "ProfileBase", "RequestSeriesBase", "SpanBase",
)  # fmt: skip


@pytest.fixture
def module() -> Any:
    return in_c()


def arguments(module: Any) -> list[Any]:
    """Return arguments with which a middleware can be created."""
    return [
        len, 1, module.ProfileBase(), {}, ("/perf",), module.SpanBase, CURRENT,
        module.PauseTotalBase(), Body, "viewer",
    ]  # fmt: skip


# -- arguments and fields ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "wrong"),
    [(2, 1), (3, []), (4, [1]), (4, (1,)), (5, int), (6, 1), (7, 1), (8, 1), (9, 1)],
)
def test_arguments_of_wrong_types_are_refused(module: Any, place: int, wrong: Any) -> None:
    right = arguments(module)
    module.FastPathBase(*right)
    right[place] = wrong
    with pytest.raises(TypeError):
        module.FastPathBase(*right)


def test_a_middleware_that_was_never_initialised_raises(module: Any) -> None:
    with pytest.raises(RuntimeError, match="never initialised"):
        module.FastPathBase.__new__(module.FastPathBase)({}, print)


def test_a_middleware_is_initialised_once(module: Any) -> None:
    middleware = module.FastPathBase(*arguments(module))
    with pytest.raises(RuntimeError, match="already initialised"):
        middleware.__init__(*arguments(module))


@pytest.mark.parametrize("name", ["environ", "start_response", "middleware"])
def test_a_span_without_a_field_raises_an_attribute_error(module: Any, name: str) -> None:
    class Middleware:
        def unrouted(self, span: Any, error: Exception) -> None:
            raise error

    span = module.SpanBase(None, {} if name != "start_response" else {"werkzeug.request": None})
    span.middleware, span.start_response = Middleware(), print
    if name == "start_response":
        span.endpoint = "known"
    delattr(span, name)
    with pytest.raises(AttributeError, match=name):
        span("200 OK", [])


def test_a_deleted_status_is_an_empty_one(module: Any) -> None:
    harness = Harness(module)
    harness.profile.request_series["item", "GET", ""] = harness.series
    harness.body.__class__.__iter__ = None

    def app(environ: Any, start: Any) -> Any:
        body = harness.app(environ, start)
        del start.status
        return body

    harness.middleware.app = app
    assert harness.get() is harness.body and harness.written() == [(7, 500.0), (9, 4.0)]


@pytest.mark.parametrize(("part", "name"), [("series", "append"), ("profile", "request_series")])
def test_a_deleted_field_is_a_fast_path_error(module: Any, part: str, name: str) -> None:
    harness = Harness(module)
    delattr(getattr(harness, part), name)
    assert harness.get() is harness.body
    assert harness.calls[1:] == [("on_fastpath_error", AttributeError), "finish_slow"]


def test_watched_paths_must_be_a_dict_of_numbers(module: Any) -> None:
    harness = Harness(module)
    harness.sample()
    for broken in ([], {"/item": "two"}):
        harness.profile.slow_urls = broken
        harness.get()
    del harness.profile.slow_urls
    harness.get()
    errors = [call[1] for call in harness.calls if call[0] == "on_fastpath_error"]
    assert errors == [TypeError, TypeError, AttributeError] and len(harness.log) == 3


def test_request_series_must_be_a_dict_of_request_series(module: Any) -> None:
    harness = Harness(module)
    harness.profile.request_series["item", "GET", "200 OK"] = "a string"
    harness.get()
    assert harness.calls[1:] == ["finish_slow"]
    harness.profile.request_series = []
    harness.get()
    assert harness.calls[3:] == [("on_fastpath_error", TypeError), "finish_slow"]


@pytest.mark.parametrize("readings", [["noon"], [1_000, "noon"], [1 << 80]])
def test_a_clock_that_returns_no_number_raises_in_the_caller(
    module: Any, readings: list[Any]
) -> None:
    harness = Harness(module)
    harness.now = iter(readings)
    with pytest.raises((TypeError, OverflowError)):
        harness.get()


def test_a_path_that_is_not_a_string_is_refused(module: Any) -> None:
    with pytest.raises(TypeError, match="PATH_INFO"):
        Harness(module).get(5)  # type: ignore[arg-type]


# -- types ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_types_can_be_derived_from_and_cannot_be_changed(module: Any, name: str) -> None:
    base = getattr(module, name)
    assert issubclass(type(name, (base,), {}), base)
    with pytest.raises(TypeError, match="immutable"):
        base.attribute = 1


@pytest.mark.parametrize("name", TYPES)
def test_objects_can_be_neither_pickled_nor_copied(module: Any, name: str) -> None:
    item = getattr(module, name).__new__(getattr(module, name))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(item, protocol)
    for function in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle"):
            function(item)


def test_the_garbage_collector_follows_every_field(module: Any) -> None:
    class Item:
        """An object that supports weak references."""

    items = [Item() for _ in range(14)]
    references = [weakref.ref(item) for item in items]
    span = module.SpanBase(items[0], items[1], 5)
    (
        span.middleware, span.start_response, span.status, span.headers, span.endpoint,
        span.cpu_began, span.start_record, span.stack, span.parts, span.notes,
    ) = items[2:12]  # fmt: skip
    notes, series = module.NotesBase(), module.RequestSeriesBase()
    notes.queries, series.append = items[12], items[13]
    referents = set(map(id, gc.get_referents(span, notes, series)))
    assert {id(item) for item in items} <= referents
    assert {id(type(item)) for item in (span, notes, series)} <= referents
    for item, cycle in zip(items, [span] * 12 + [notes, series], strict=True):
        item.__dict__["cycle"] = cycle
    del span, notes, series, items, item, cycle, referents
    gc.collect()
    assert [reference() for reference in references] == [None] * 14


# -- interpreters --------------------------------------------------------------------------------------

_SERVE = """
import importlib.util, sys
from contextvars import ContextVar

def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

core = load("flask_knitperf.recording._speedups", {core!r})

class Clock:
    now = 0
    def monotonic_ns(self):
        Clock.now += 500
        return Clock.now
    thread_ns = run_queue_ns = monotonic_ns

class Recorder:
    clock = Clock()

class Response:
    response = [b"yarn"]
    def close(self): pass

class Body:
    _callbacks = [Response().close]

class Rule:
    endpoint = "item"

class Request:
    url_rule = Rule

log = []
class Profile(core.ProfileBase):
    def record_cost(self, took): pass

profile, series = Profile(), core.RequestSeriesBase()
profile.slow_urls, profile.prepare_at, profile.cpu_every = {{}}, 1_000_000, 8
series.append, series.solo, series.bytes_out = log.append, 7, 9
series.cpu, series.sampled_wall, series.run_queue = 10, 11, 12
series.detailed_at = series.detailed_above = 1_000_000_000
profile.request_series = {{("item", "GET", "200 OK"): series}}
current = ContextVar("span")

def app(environ, start_response):
    environ["werkzeug.request"] = Request
    start_response("200 OK", [])
    return Body()

middleware = core.FastPathBase(
    app, Recorder(), profile, {{}}, ("/perf",), core.SpanBase, current, core.PauseTotalBase(), Body,
    "viewer",
)
for _ in range(100):
    middleware({{"PATH_INFO": "/item", "REQUEST_METHOD": "GET"}}, lambda *_: None)
assert len(log) == 100, len(log)
"""

RUN_IN_INTERPRETERS = """
import sys
try:
    import _interpreters as interpreters  # 3.13
    def run(source):
        failure = interpreters.exec(one, source)
        assert failure is None, failure
except ImportError:
    import _xxsubinterpreters as interpreters
    def run(source):
        interpreters.run_string(one, source)
source = {source!r}
exec(source)
for _ in range(3):
    one = interpreters.create()
    run(source)
    interpreters.destroy(one)
exec(source)
print("served")
"""


def test_each_interpreter_has_its_own_types_and_names(module: Any) -> None:
    """Serve in sub-interpreters that end; mod_wsgi runs applications in such."""
    source = textwrap.dedent(_SERVE).format(core=module.__file__)
    output = subprocess.run(
        [sys.executable, "-c", RUN_IN_INTERPRETERS.format(source=source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (output.returncode, output.stdout.strip()) == (0, "served"), output.stderr


def test_a_module_that_is_dropped_frees_its_types(module: Any) -> None:
    source = textwrap.dedent(_SERVE).format(core=module.__file__) + textwrap.dedent("""
        import gc, weakref
        references = [weakref.ref(kind) for kind in vars(core).values() if isinstance(kind, type)]
        assert len(references) == 7
        del core, Profile, profile, series, middleware, log
        sys.modules.pop("flask_knitperf.recording._speedups", None)
        gc.collect()
        assert [reference() for reference in references] == [None] * 7
        print("freed")
    """)
    output = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert (output.returncode, output.stdout.strip()) == (0, "freed"), output.stderr
