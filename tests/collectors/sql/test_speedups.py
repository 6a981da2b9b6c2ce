"""The types in C for statements: what they refuse, and that interpreters do not share them."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from flask_knitperf.recording.span import Span
from tests.collectors.sql.harness import CURRENT, Cursor, Harness, OwnCursor, event, in_c

TYPES = (
    "CountingCursorBase", "EngineListenerBase", "ExecutionBase", "QueryCounterBase",
    "RequestQueriesBase", "StatementBase",
)  # fmt: skip


@pytest.fixture
def module() -> Any:
    return in_c()


@pytest.fixture
def harness(module: Any) -> Iterator[Harness]:
    harness = Harness(module)
    token = CURRENT.set(harness.span)
    yield harness
    CURRENT.reset(token)


WRONG: dict[str, Callable[[Harness], object]] = {
    "counter": lambda h: h.module.QueryCounterBase(None, None, None),
    "listener": lambda h: h.module.EngineListenerBase(None, 1, Cursor, Cursor),
    "cursor": lambda h: h.module.CountingCursorBase(),
    "before": lambda h: h.listener.before(1, 2),
    "after": lambda h: h.listener.after(),
    "end": lambda h: h.counter.end(None, "", 1, None, 1),
    "database": lambda h: h.counter.end(h.counter.begin(), "", "one", None, 1),
    "end_with_rows": lambda h: h.counter.end_with_rows(None, "", 1, None, Cursor()),
    "depth": lambda h: h.counter.begin("deep"),
    "span": lambda h: h.module.add_rows(None, None, 0, 0, 0, 0, 0),
    "statement": lambda h: h.module.add_rows(h.span, None, 0, 0, 0, 0, 0),
    "fetchone": lambda h: h.fetch()[0].fetchone(5),
    "fetchall": lambda h: h.fetch()[0].fetchall(5),
    "pending": lambda h: h.counting_cursor(Cursor(), (1, 2)).fetchone(),
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_of_wrong_types_are_refused(harness: Harness, name: str) -> None:
    with pytest.raises(TypeError):
        WRONG[name](harness)


def test_a_counter_that_was_never_initialised_raises(module: Any, harness: Harness) -> None:
    counter = module.QueryCounterBase.__new__(module.QueryCounterBase)
    with pytest.raises(RuntimeError, match="never initialised"):
        counter.begin()
    with pytest.raises(TypeError, match="never began"):
        counter.end(harness.counter.begin(), "", 1, None, 1)
    with pytest.raises(RuntimeError, match="never initialised"):
        module.EngineListenerBase(counter, 3, OwnCursor, Cursor)


def test_a_counter_and_a_listener_are_initialised_once(module: Any, harness: Harness) -> None:
    with pytest.raises(RuntimeError, match="already initialised"):
        harness.counter.__init__(CURRENT, len, harness.explains)  # type: ignore[misc]
    with pytest.raises(RuntimeError, match="second"):
        harness.listener.__init__(harness.counter, 3, OwnCursor, Cursor)


def test_an_execution_that_never_began_cannot_end(module: Any, harness: Harness) -> None:
    execution = module.ExecutionBase()
    with pytest.raises(TypeError, match="never began"):
        harness.counter.end(execution, "", 1, None, 1)
    with pytest.raises(TypeError, match="never began"):
        harness.counter.end_with_rows(execution, "", 1, None, object())
    context = SimpleNamespace(_knitperf_execution=execution)
    assert event(harness, harness.listener.after, Cursor(), context) is None
    assert harness.recorder.failures == []


def test_a_cursor_without_a_drivers_cursor_raises(module: Any) -> None:
    for counting in (
        module.CountingCursorBase.__new__(module.CountingCursorBase),
        module.CountingCursorBase(None, (1, 2)),
    ):
        for name in ("fetchone", "fetchmany", "fetchall"):
            with pytest.raises((RuntimeError, AttributeError)):
                getattr(counting, name)()
        for name in ("close", "description", "arraysize"):
            with pytest.raises((RuntimeError, AttributeError)):
                getattr(counting, name)
        with pytest.raises((RuntimeError, AttributeError)):
            counting.arraysize = 1
        with pytest.raises((RuntimeError, AttributeError)):
            del counting.arraysize


def test_an_executor_without_a_counter_raises(module: Any) -> None:
    class Executor(module.ExecutorBase):  # type: ignore[misc]
        _counter, _real = None, SimpleNamespace(execute=len)

    with pytest.raises(TypeError, match="must be a QueryCounterBase"):
        Executor().execute("")
    with pytest.raises(AttributeError, match="_real"):
        module.ExecutorBase().execute("")


def test_a_listener_that_was_never_initialised_raises(module: Any, harness: Harness) -> None:
    listener = module.EngineListenerBase.__new__(module.EngineListenerBase)
    for method in (listener.before, listener.after):
        with pytest.raises(RuntimeError, match="never initialised"):
            event(harness, method, Cursor(), SimpleNamespace())


def failures_of_one_execution(harness: Harness) -> int:
    execution = harness.counter.begin()
    assert harness.counter.end_with_rows(execution, "SELECT 1", 3, None, Cursor(1)) is None
    count = len(harness.recorder.failures)
    harness.recorder.failures.clear()
    return count


def test_wrong_types_from_a_collector_are_reported(module: Any, harness: Harness) -> None:
    harness.send()
    harness.queries.last = module.StatementBase()
    for key in harness.queries.statements:
        harness.queries.statements[key] = None
    harness.queries.__class__.find = lambda *_: None
    assert failures_of_one_execution(harness) == 1
    harness.queries.__class__.find = lambda *_: module.StatementBase()
    assert failures_of_one_execution(harness) == 1
    assert harness.span.notes is not None
    harness.span.notes.queries = 5
    assert failures_of_one_execution(harness) == 1
    harness.span.notes.queries = None
    harness.counter.__class__.queries_of = lambda *_: 5
    assert failures_of_one_execution(harness) == 1
    harness.span.notes = object()  # type: ignore[assignment]
    assert harness.counter.begin() is None and len(harness.recorder.failures) == 1


@pytest.mark.parametrize("name", ["durations", "results", "parameter_hashes"])
def test_lists_that_disappear_while_parameters_are_hashed_are_reported(
    harness: Harness, name: str
) -> None:
    harness.recorder.query_tracking = 1  # so that both executions have one call site, none
    statement, _ = harness.send()

    class Parameters(dict):  # type: ignore[type-arg]
        """Parameters whose hashing changes the statement."""

        def values(self) -> Any:
            delattr(statement, name)
            return ()

    execution = harness.counter.begin()
    harness.counter.end_with_rows(execution, "SELECT 1", 3, Parameters(), Cursor(1))
    assert len(harness.recorder.failures) == (name != "durations")


def test_fetched_rows_of_a_request_without_queries_are_reported(harness: Harness) -> None:
    counting, _ = harness.fetch()
    assert harness.span.notes is not None
    harness.span.notes.queries = None
    assert counting.fetchone() == 0
    assert [type(error) for error in harness.recorder.failures] == [AttributeError]


@pytest.mark.parametrize("name", TYPES)
def test_types_can_be_derived_from_and_cannot_be_changed(module: Any, name: str) -> None:
    base = getattr(module, name)
    assert issubclass(type(name, (base,), {}), base)
    with pytest.raises(TypeError, match="immutable"):
        base.attribute = 1


@pytest.mark.parametrize("name", TYPES)
def test_objects_can_be_neither_pickled_nor_copied(module: Any, name: str) -> None:
    kind = getattr(module, name)
    item = kind(Cursor()) if name == "CountingCursorBase" else kind.__new__(kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(item, protocol)
    for function in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle"):
            function(item)


def test_types_of_another_version_of_the_core_are_refused(module: Any) -> None:
    from flask_knitperf.collectors.sql import _speedups
    from flask_knitperf.recording import _speedups as core

    source = f"""
import importlib.util, sys, types
core = types.ModuleType("core")
core.SpanBase = core.NotesBase = type("Smaller", (), {{}})
sys.modules["flask_knitperf.recording._speedups"] = core
spec = importlib.util.spec_from_file_location("_speedups", {_speedups.__file__!r})
try:
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
except ImportError as error:
    print(error)
"""
    output = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert output.stdout == "SpanBase was built from another version\n", output.stderr
    assert issubclass(Span, core.SpanBase)


_COUNT = """
import importlib.util, sys
from contextvars import ContextVar

def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

core = load("flask_knitperf.recording._speedups", {core!r})
sql = load("flask_knitperf.collectors.sql._speedups", {sql!r})

class Clock:
    def monotonic_ns(self):
        return 500

class Recorder:
    clock, query_tracking, failures = Clock(), 1, []
    def failed(self, part, error):
        raise error

class Statement(sql.StatementBase):
    def __init__(self, text, call_site, database):
        self.text, self.call_site, self.database = text, call_site, database
        self.durations, self.results, self.parameter_hashes, self.page_hashes = [], [], [], set()

class Queries(sql.RequestQueriesBase):
    def __init__(self):
        self.calls, self.statements, self.last = [], {{}}, Statement("", "", -1)
    def find(self, text, call_site, database):
        self.last = self.statements[text, call_site, database] = Statement(text, call_site, database)
        return self.last

class Explains:
    queued = ()

class Cursor:
    rowcount, description = -1, ()
    def fetchone(self):
        return (1,)

current = ContextVar("span")
counter = sql.QueryCounterBase(current, len, Explains())
span = core.SpanBase(Recorder())
span.notes = core.NotesBase()
span.notes.queries = Queries()
current.set(span)
for _ in range(100):
    pending = counter.end_with_rows(counter.begin(), "SELECT 1", 3, (1,), Cursor())
    assert sql.CountingCursorBase(Cursor(), pending).fetchone() == (1,)
statement = span.notes.queries.last
assert statement.results == [1] * 100 and len(set(statement.parameter_hashes)) == 1
"""


def test_each_interpreter_has_its_own_types_and_names(module: Any) -> None:
    from flask_knitperf.collectors.sql import _speedups
    from flask_knitperf.recording import _speedups as core
    from tests.recording.test_speedups import RUN_IN_INTERPRETERS

    source = _COUNT.format(core=core.__file__, sql=_speedups.__file__)
    output = subprocess.run(
        [sys.executable, "-c", RUN_IN_INTERPRETERS.format(source=source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (output.returncode, output.stdout.strip()) == (0, "served"), output.stderr
