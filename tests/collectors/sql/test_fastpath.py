"""The fast path of a statement: one contract, tested on the implementations in Python and in C."""

from __future__ import annotations

import _thread
import contextvars
import functools
import gc
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from flask_knitperf.collectors.sql import fastpath
from flask_knitperf.collectors.sql.fastpath import DRIVER, ENGINE, LAZY, ORM
from flask_knitperf.collectors.sql.statements import Statement, add_parameters
from flask_knitperf.recording.span import EVENTS
from tests.collectors.sql.harness import (
    CURRENT,
    Cursor,
    Harness,
    OwnCursor,
    event,
    in_c,
    in_pure_python,
)


@pytest.fixture(params=[in_pure_python, in_c], ids=["python", "c"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
def harness(module: Any) -> Any:
    harness = Harness(module)
    token = CURRENT.set(harness.span)
    yield harness
    CURRENT.reset(token)
    assert harness.recorder.failures == []


# -- the start of an execution ---------------------------------------------------------------------


def test_no_execution_begins_outside_of_a_request(harness: Harness) -> None:
    token = CURRENT.set(None)
    assert harness.counter.begin() is None
    CURRENT.reset(token)
    harness.span.ended = True
    assert harness.counter.begin() is None


def test_no_execution_begins_where_queries_are_not_tracked(harness: Harness) -> None:
    harness.recorder.query_tracking = 0
    assert harness.counter.begin() is None and harness.span.notes is None


def test_an_execution_begins_at_the_clock_with_the_time_that_parts_have_taken(
    harness: Harness,
) -> None:
    execution = harness.counter.begin()
    assert (execution.span, execution.began) == (harness.span, 1_100)
    assert execution.cpu_began is None and execution.nested_ns == execution.nested_cpu_ns == 0
    assert harness.span.notes is not None
    harness.span.notes.nested_ns, harness.span.notes.nested_cpu_ns = 30, 3
    execution = harness.counter.begin()
    assert (execution.nested_ns, execution.nested_cpu_ns) == (30, 3)


def test_executions_that_overlap_are_united(harness: Harness) -> None:
    first, second = harness.counter.begin(), harness.counter.begin()
    harness.counter.end(first, "SELECT 1", 3, None, 1)
    harness.counter.end(second, "SELECT 2", 3, None, 1)
    assert first.began == 1_100 and harness.queries.own_ns == 300  # to 1,400
    assert [s.durations for s in harness.queries.statements.values()] == [[200], [200]]


def test_call_sites_are_looked_up_only_where_they_are_tracked(harness: Harness) -> None:
    def execute(depth: int) -> Any:
        return harness.counter.begin(depth)

    def view() -> Any:
        return execute(1)

    assert view().call_site == "view" and execute(0).call_site == "execute"
    harness.recorder.query_tracking = 1
    assert view().call_site == "" and harness.calls == ["caller", "caller"]


def test_cpu_time_is_read_for_a_sampled_request(harness: Harness) -> None:
    harness.span.cpu_began = 1
    assert harness.counter.begin().cpu_began == 10


def test_a_failing_clock_is_reported_and_no_execution_begins(harness: Harness) -> None:
    harness.recorder.clock.failing = RuntimeError("ours")
    assert harness.counter.begin() is None
    assert [str(error) for error in harness.recorder.failures] == ["ours"]
    harness.recorder.failures.clear()


def test_an_error_that_ends_the_process_is_raised(harness: Harness) -> None:
    harness.recorder.clock.failing = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        harness.counter.begin()


# -- the end of an execution -----------------------------------------------------------------------


def test_an_execution_is_a_duration_a_result_and_a_parameter_hash(harness: Harness) -> None:
    statement, number = harness.send(parameters=(7,), result=4)
    assert (statement.durations, statement.results, statement.parameter_hashes) == (
        [100],
        [4],
        [hash((7,))],
    )
    assert (number, statement.value_count, statement.page_hashes, harness.queries.buffered) == (
        0,
        1,
        set(),
        1,
    )
    again, number = harness.send(parameters=(7,), result="OperationalError")
    assert again is statement and number == 1
    assert statement.durations == [100, 100] and statement.results == [4, "OperationalError"]


def test_the_time_of_an_execution_is_taken_from_its_request(harness: Harness) -> None:
    harness.span.cpu_began = 1
    harness.send()
    assert harness.span.notes is not None
    assert (harness.span.notes.nested_ns, harness.span.notes.nested_cpu_ns) == (100, 10)
    assert (harness.queries.own_ns, harness.queries.cpu_ns) == (100, 10)


def test_a_nested_execution_is_not_own_time_of_the_outer_one(harness: Harness) -> None:
    harness.span.cpu_began = 1
    outer = harness.counter.begin()
    harness.send("SELECT 2")
    harness.counter.end(outer, "SELECT 1", 3, None, 1)
    assert (harness.queries.own_ns, harness.queries.cpu_ns) == (300, 30)  # 100 and 10 are nested
    assert harness.span.notes is not None
    assert (harness.span.notes.nested_ns, harness.span.notes.nested_cpu_ns) == (300, 30)


def test_statements_are_separate_by_text_line_and_database_and_found_again(
    harness: Harness,
) -> None:
    one, two = "SELECT 1", "SELECT 2"
    executions = [harness.counter.begin() for _ in range(6)]
    places = [(one, 3), (two, 3), (one, 3), (one, 4), (two, 3), (one, 4)]
    ended = [
        harness.counter.end(execution, text, database, None, 1)
        for execution, (text, database) in zip(executions, places, strict=True)
    ]
    assert [number for _, number in ended] == [0, 0, 1, 0, 1, 1]
    statements = [statement for statement, _ in ended]
    assert statements[0] is statements[2] and statements[3] is statements[5]
    assert statements[1] is statements[4] is not statements[0]


def test_other_types_empty_and_long_texts_are_looked_up_by_the_collector(harness: Harness) -> None:
    for text in (b"SELECT 1", "", "S" * (fastpath.MAX_KEPT_TEXT + 1)):
        harness.calls.clear()
        harness.send(text)
        assert ("find", text, 3) in harness.calls


@pytest.mark.parametrize(
    "parameters",
    [(), ("a", 1, 2.5), (None, True, b"x"), (1, 2, 3), (1, 2, 4), {"a": 1, "b": "c"}, {}],
)
def test_plain_parameters_are_hashed_as_by_the_collector(parameters: Any, harness: Harness) -> None:
    harness.send(parameters=parameters)
    expected = Statement("SELECT 1", "", 3)
    add_parameters(expected, parameters)
    assert harness.statement.parameter_hashes == expected.parameter_hashes
    assert harness.statement.value_count == expected.value_count
    assert harness.statement.page_hashes == expected.page_hashes


def test_other_parameters_are_hashed_by_the_collector(harness: Harness) -> None:
    sets = [([1],), [1, 2], ("a", [1]), range(3), "text", (type("Int", (int,), {})(),)]
    for parameters in sets:
        harness.send(parameters=parameters)
    calls = [call for call in harness.calls if call[0] == "add_parameters"]
    assert calls == [("add_parameters", parameters) for parameters in sets]
    assert len(harness.statement.parameter_hashes) == len(sets)


def test_executions_without_parameters_have_the_same_hash(harness: Harness) -> None:
    harness.send()
    harness.send()
    assert harness.statement.parameter_hashes == [0, 0] and harness.statement.value_count == 0


def test_uncomparable_and_allowed_executions_have_no_hash(harness: Harness) -> None:
    harness.send(parameters=fastpath.UNCOMPARABLE)
    harness.queries.allow_depth = 1
    harness.send(parameters=(1,))
    assert harness.statement.parameter_hashes == [None, None]


def test_at_most_two_page_hashes_are_kept(harness: Harness) -> None:
    for number in range(4):
        harness.send(parameters=(number, 10, 20))
    assert (
        harness.statement.page_hashes == {hash((0,)), hash((1,))}
        and harness.statement.value_count == 12
    )


def test_the_first_executions_are_kept_for_the_timeline(harness: Harness) -> None:
    for _ in range(EVENTS + 5):
        harness.send()
    calls = harness.queries.calls
    assert len(calls) == fastpath.FIELDS_PER_CALL * EVENTS
    statement = harness.statement
    assert calls[:5] == [statement, statement.results, 0, 1_100, 1_200]
    assert calls[5:10] == [statement, statement.results, 1, 1_300, 1_400]


def test_a_full_buffer_of_executions_is_aggregated(harness: Harness) -> None:
    harness.recorder.query_tracking = 1
    for _ in range(fastpath.MAX_BUFFERED - 1):
        harness.send()
    assert "settle" not in harness.calls
    harness.send()
    assert harness.calls[-1] == "settle"


def test_numbers_continue_after_merged_executions(harness: Harness) -> None:
    harness.send()
    (
        harness.statement.durations,
        harness.statement.results,
        harness.statement.parameter_hashes,
        harness.statement.merged,
    ) = [], [], [], 1
    assert harness.send()[1] == 1


# -- executions with rows --------------------------------------------------------------------------


def test_rows_are_pending_unless_their_number_is_known(harness: Harness) -> None:
    for rowcount, remains in ((-1, True), (0, True), (3, False), (None, True), (1 << 70, False)):
        pending = harness.counter.end_with_rows(
            harness.counter.begin(), "SELECT 1", 3, None, Cursor(rowcount)
        )
        assert (pending is not None) is remains
        if pending is not None:
            number = len(harness.statement.durations) - 1
            assert pending == (harness.span, harness.statement, number)
    assert harness.statement.results == [-1, 0, 3, -1, 1 << 70]


def test_a_statement_without_rows_has_none_pending(harness: Harness) -> None:
    cursor = Cursor(rows=None)
    assert harness.counter.end_with_rows(harness.counter.begin(), "DELETE", 3, None, cursor) is None


def test_a_statement_is_explained_if_one_is_to_be_explained(harness: Harness) -> None:
    harness.counter.end_with_rows(harness.counter.begin(), "SELECT 1", 3, (1,), Cursor(1))
    harness.explains.queued["x"] = 1
    harness.counter.end_with_rows(
        harness.counter.begin(), "SELECT 1", 3, fastpath.UNCOMPARABLE, Cursor(1)
    )
    assert not [call for call in harness.calls if call[0] == "explain"]
    harness.counter.end_with_rows(harness.counter.begin(), "SELECT 1", 3, (1,), Cursor(1))
    assert harness.calls[-1] == ("explain", "SELECT 1", (1,))


def test_a_statement_counts_whatever_its_cursor_refuses_to_give(harness: Harness) -> None:
    class Refusing:
        rowcount = -1

        @property
        def description(self) -> int:
            raise RuntimeError("complete")

    class Closed(Refusing):
        @property
        def rowcount(self) -> int:  # type: ignore[override]
            raise RuntimeError("closed")

    class WithoutCount:
        description = (("a",),)

    end, begin = harness.counter.end_with_rows, harness.counter.begin
    assert end(begin(), "SELECT 1", 3, None, Refusing()) is None
    assert end(begin(), "SELECT 1", 3, None, Closed()) is None
    assert end(begin(), "SELECT 1", 3, None, WithoutCount()) is not None
    assert harness.statement.results == [-1, -1, -1]
    refusals = [call[1] for call in harness.calls if call[0] == "unreadable"]
    assert refusals[:3] == ["complete", "closed", "complete"] and "rowcount" in refusals[3]


def test_an_exception_of_the_host_while_a_cursor_is_read_is_passed_on(harness: Harness) -> None:
    class Interrupted:
        @property
        def rowcount(self) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harness.counter.end_with_rows(harness.counter.begin(), "SELECT 1", 3, None, Interrupted())


# -- fetching --------------------------------------------------------------------------------------


def test_fetched_rows_and_their_time_are_added_to_the_execution(harness: Harness) -> None:
    counting, _ = harness.fetch(6)
    assert counting.fetchone() == 0
    assert harness.statement.results == [1] and harness.statement.durations == [200]
    assert counting.fetchmany(2) == [1, 2] and counting.fetchmany(size=1, more=1) == [3, 4]
    assert counting.fetchall() == [5] and counting.fetchone() is None
    assert harness.statement.results == [6] and harness.statement.durations == [600]
    assert (
        harness.queries.own_ns == 600
        and harness.span.notes is not None
        and harness.span.notes.nested_ns == 600
    )


def test_cpu_time_of_fetching_is_read_for_a_sampled_request(harness: Harness) -> None:
    harness.span.cpu_began = 1
    counting, _ = harness.fetch()
    counting.fetchall()
    assert (
        harness.queries.cpu_ns == 20
        and harness.span.notes is not None
        and harness.span.notes.nested_cpu_ns == 20
    )


def test_an_error_while_fetching_makes_the_execution_a_failed_one(harness: Harness) -> None:
    counting, cursor = harness.fetch()
    cursor.failing = LookupError("host")
    with pytest.raises(LookupError, match="host") as caught:
        counting.fetchall()
    assert caught.value is cursor.failing and harness.statement.results == ["LookupError"]
    assert harness.statement.parameter_hashes == [None]
    cursor.failing = None
    assert counting.fetchone() == 0 and harness.statement.results == ["LookupError"]


def test_rows_of_a_merged_execution_are_returned_and_not_counted(harness: Harness) -> None:
    counting, _ = harness.fetch()
    harness.statement.merged, harness.statement.durations, harness.statement.results = 1, [], []
    assert counting.fetchone() == 0 and harness.statement.results == []
    harness.span.ended = True
    assert counting.fetchall() == [1, 2, 3, 4] and harness.statement.results == []


def test_a_cursor_without_pending_rows_returns_rows_uncounted(harness: Harness) -> None:
    counting = harness.counting_cursor(Cursor(-1, range(4)))
    assert (
        counting.fetchone() == 0 and counting.fetchmany(1) == [1] and counting.fetchall() == [2, 3]
    )
    assert harness.span.notes is None


def test_all_other_attributes_are_the_drivers(harness: Harness) -> None:
    counting, cursor = harness.fetch()
    counting.arraysize = 5
    assert cursor.arraysize == 5 and counting.arraysize == 5  # type: ignore[attr-defined]
    del counting.arraysize
    assert not hasattr(cursor, "arraysize") and not hasattr(counting, "arraysize")
    assert counting.close() == "closed" and counting.description is cursor.description


def test_a_clock_that_fails_while_fetching_is_reported_and_rows_are_returned(
    harness: Harness,
) -> None:
    counting, cursor = harness.fetch()

    def fetchall() -> list[int]:
        harness.recorder.clock.failing = ArithmeticError()
        return [1]

    cursor.fetchall = fetchall  # type: ignore[method-assign]
    assert counting.fetchall() == [1]
    assert [type(error) for error in harness.recorder.failures] == [ArithmeticError]
    harness.recorder.failures.clear()


def test_a_clock_that_fails_before_fetching_is_reported_and_rows_are_returned(
    harness: Harness,
) -> None:
    counting, _ = harness.fetch()
    harness.recorder.clock.failing = ArithmeticError()
    assert counting.fetchmany(2) == [0, 1] and harness.statement.results == [-1]
    assert [type(error) for error in harness.recorder.failures] == [ArithmeticError]
    harness.recorder.failures.clear()


def test_rows_without_a_length_are_returned(harness: Harness) -> None:
    counting, cursor = harness.fetch()
    rows = iter([1, 2])
    cursor.fetchall = lambda: rows  # type: ignore[method-assign]
    assert counting.fetchall() is rows
    assert [type(error) for error in harness.recorder.failures] == [TypeError]
    harness.recorder.failures.clear()


def test_rows_that_are_iterated_are_counted_by_add_rows(harness: Harness) -> None:
    harness.fetch()
    harness.module.add_rows(harness.span, harness.statement, 0, 50, 40, 5, 3)
    harness.module.add_rows(harness.span, harness.statement, 0, 50, 40, 5, 3, "")
    assert harness.statement.results == [6] and harness.statement.durations == [200]
    assert harness.queries.own_ns == 100 + 80 and harness.queries.cpu_ns == 10
    harness.module.add_rows(harness.span, harness.statement, 0, 50, 40, 5, 3, "OSError")
    harness.module.add_rows(harness.span, harness.statement, 9, 50, 40, 5, 3)
    assert harness.statement.results == ["OSError"] and harness.statement.durations == [250]


class Rows(Cursor):
    """A cursor that is its own iterator, as those of most drivers are."""

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row


class RowsElsewhere(Cursor):
    """A cursor whose iterator is another object."""

    def __iter__(self) -> Any:
        return iter(self.rows)


@pytest.mark.parametrize(("kind", "is_iterator"), [(Rows, True), (RowsElsewhere, False)])
def test_iterated_rows_and_their_time_are_added_to_the_execution(
    harness: Harness, kind: Any, is_iterator: bool
) -> None:
    counting, _ = harness.fetch(kind(-1, range(5)))
    rows = iter(counting)
    assert (rows is counting) is is_iterator and next(rows) == 0
    assert harness.statement.results == [1] and harness.statement.durations == [200]
    assert list(rows) == [1, 2, 3, 4] and next(rows, "none") == "none"
    assert harness.statement.results == [5] and harness.queries.own_ns == 100 + 7 * 100


@pytest.mark.parametrize("kind", [Rows, RowsElsewhere])
def test_iterated_rows_of_a_cursor_without_pending_ones_are_uncounted(
    harness: Harness, kind: Any
) -> None:
    assert list(harness.counting_cursor(kind(-1, range(3)))) == [0, 1, 2]
    assert harness.span.notes is None


def test_an_error_while_iterating_makes_the_execution_a_failed_one(harness: Harness) -> None:
    counting, cursor = harness.fetch(Rows(-1, range(5)))
    cursor.failing = LookupError("host")
    with pytest.raises(LookupError, match="host") as caught:
        list(counting)
    assert caught.value is cursor.failing and harness.statement.results == ["LookupError"]


def test_a_cursor_that_is_no_iterator_remains_none(harness: Harness) -> None:
    counting, _ = harness.fetch()
    with pytest.raises(TypeError, match="'Cursor' object is not iterable"):
        iter(counting)
    with pytest.raises(TypeError, match="'Cursor' object is not an iterator"):
        next(counting)


def test_cpu_time_is_read_for_a_sample_of_many_rows_and_scaled(harness: Harness) -> None:
    harness.span.cpu_began = 1
    counting, _ = harness.fetch(Rows(-1, range(1000)))
    readings = harness.recorder.clock.used
    assert len(list(counting)) == 1000
    readings = (harness.recorder.clock.used - readings) // 10
    assert 2 * 60 < readings < 2 * 70
    assert harness.queries.cpu_ns == 10 + 1001 * 10 and harness.statement.results == [1000]


# -- calls of a driver -------------------------------------------------------------------------------


class Driver:
    """An object of a driver, and what it was called with."""

    def __init__(self, execute: Any = None) -> None:
        self.calls: list[Any] = []
        self.execute = self.executemany = self.executescript = execute or self.note

    def note(self, *args: Any, **kwargs: Any) -> str:
        self.calls.append((args, kwargs))
        return "result"


def executor(harness: Harness, driver: Any, ended: Any = None) -> Any:
    """Return an executor, whose calls of ``_ended`` the harness keeps."""

    class Executor(harness.module.ExecutorBase):  # type: ignore[misc]
        __slots__ = ("__weakref__", "_real")
        _counter = harness.counter

        def _ended(
            self, name: str, execution: Any, result: Any, error: Any, args: Any, kwargs: Any
        ) -> Any:
            site = execution.call_site
            harness.calls.append((name, site, result, error, args, kwargs or {}))
            return ended() if ended else "ended"

    instance = Executor()
    instance._real = driver
    return instance


@pytest.mark.parametrize("name", ["execute", "executemany", "executescript"])
def test_a_driver_gets_the_arguments_and_the_caller_what_the_end_returns(
    harness: Harness, name: str
) -> None:
    driver = Driver()

    def view() -> Any:
        return getattr(executor(harness, driver), name)("SELECT 1", (5,), prepare=True)

    assert view() == "ended" and driver.calls == [(("SELECT 1", (5,)), {"prepare": True})]
    expected = name, "view", "result", None, ("SELECT 1", (5,)), {"prepare": True}
    assert harness.calls[-1] == expected


def test_an_error_of_the_driver_is_raised_after_the_end(harness: Harness) -> None:
    failure = KeyboardInterrupt()

    def execute() -> None:
        raise failure

    with pytest.raises(KeyboardInterrupt) as caught:
        executor(harness, Driver(execute)).execute()
    assert caught.value is failure and harness.calls[-1][2:4] == (None, failure)
    assert caught.traceback[-1].name == "execute"


@pytest.mark.parametrize("driver", [Driver(), Driver(lambda: 1 / 0)])
def test_an_error_at_the_end_is_raised(harness: Harness, driver: Any) -> None:
    def ended() -> None:
        raise LookupError("host's signal")

    with pytest.raises(LookupError, match="signal"):
        executor(harness, driver, ended).execute()


def test_a_method_that_the_driver_does_not_have_is_missing(harness: Harness) -> None:
    with pytest.raises(AttributeError, match="executescript"):
        executor(harness, Cursor()).executescript("")
    assert harness.calls == []


WARN = functools.partial(warnings.warn, "old", DeprecationWarning)  # names its caller, as C does


@pytest.mark.parametrize("call", [
    lambda harness: executor(harness, Driver(WARN)).execute(),
    lambda harness: executor(harness, Driver(WARN)).executemany(),
    lambda harness: harness.counting_cursor(SimpleNamespace(fetchone=WARN)).fetchone(),
    lambda harness: harness.counting_cursor(SimpleNamespace(fetchall=WARN)).fetchall(),
    lambda harness: next(harness.counting_cursor(iter(WARN, 1))),
])  # fmt: skip
def test_a_warning_of_a_driver_names_the_line_that_called_it(harness: Harness, call: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(harness)
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, call.__code__.co_firstlineno)]


def test_a_thread_that_begins_with_a_call_of_a_driver_has_no_call_site(harness: Harness) -> None:
    counting, _ = harness.fetch(Rows(-1, range(3)))
    context, ended = contextvars.copy_context(), threading.Event()
    calls = executor(harness, Driver(), ended.set)
    _thread.start_new_thread(context.run, (calls.execute, "SELECT 1"))
    assert ended.wait(10) and harness.calls[-1][:2] == ("execute", "")
    rows: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        rows += pool.submit(context.run, counting.fetchall).result()
    assert rows == [0, 1, 2]


def test_a_warning_of_a_driver_is_filtered_by_the_module_that_called_it(harness: Harness) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", module=__name__.replace(".", r"\."))
        with pytest.raises(DeprecationWarning):
            executor(harness, Driver(WARN)).execute()


# -- events of an engine ---------------------------------------------------------------------------


def test_an_execution_is_counted_between_two_events_and_its_rows_after_them(
    harness: Harness,
) -> None:
    context, cursor = SimpleNamespace(execution_options={}), Cursor(-1, range(3))
    assert event(harness, harness.listener.before, cursor, context) == ("SELECT 1", (1,))
    assert event(harness, harness.listener.after, cursor, context) is None
    assert context.rows.fetchall() == [0, 1, 2] and context.description is cursor.description
    assert (
        harness.statement.results == [3]
        and harness.statement.parameter_hashes == [hash((1,))]
        and harness.statement.database == 3
    )
    assert context._knitperf_execution is None


def test_the_call_site_is_looked_up_above_the_event_listener(harness: Harness) -> None:
    def execute() -> None:
        event(harness, harness.listener.before, Cursor(), context)

    context = SimpleNamespace(execution_options={})
    execute()
    assert context._knitperf_execution.call_site in ("event", "execute")


def test_an_execution_is_counted_once(harness: Harness) -> None:
    context = SimpleNamespace(execution_options={}, isupdate=True)
    event(harness, harness.listener.before, Cursor(1, None), context)
    event(harness, harness.listener.after, Cursor(1, None), context)
    event(harness, harness.listener.after, Cursor(1, None), context)
    assert harness.statement.results == [1]


def test_an_event_without_a_beginning_counts_nothing(harness: Harness) -> None:
    event(harness, harness.listener.after, Cursor(), SimpleNamespace())
    assert harness.span.notes is None


def test_cursors_that_count_by_themselves_are_not_counted_twice(harness: Harness) -> None:
    context = SimpleNamespace()
    assert event(harness, harness.listener.before, OwnCursor(), context) == ("SELECT 1", (1,))
    assert not hasattr(context, "_knitperf_execution")


class Refusing:
    """An execution context that takes no attributes."""

    __slots__ = ("_knitperf_execution",)

    def __setattr__(self, name: str, value: Any) -> None:
        raise LookupError(name)


def test_a_context_that_takes_no_attributes_is_reported(harness: Harness) -> None:
    context = Refusing()
    assert event(harness, harness.listener.before, Cursor(), context) == ("SELECT 1", (1,))
    object.__setattr__(context, "_knitperf_execution", harness.counter.begin())
    assert event(harness, harness.listener.after, Cursor(), context) is None
    assert [type(error) for error in harness.recorder.failures] == [LookupError, LookupError]
    harness.recorder.failures.clear()


def test_executemany_has_no_parameter_hash(harness: Harness) -> None:
    context = SimpleNamespace(execution_options={}, isdelete=True)
    event(harness, harness.listener.before, Cursor(5, None), context)
    event(harness, harness.listener.after, Cursor(5, None), context, True)
    assert harness.statement.parameter_hashes == [None] and harness.statement.results == [5]


class Unreadable(Cursor):
    """A cursor whose row count must not be read."""

    @property
    def rowcount(self) -> int:
        raise AssertionError("read")

    @rowcount.setter
    def rowcount(self, _: int) -> None:
        """Ignore the number."""


@pytest.mark.parametrize(
    ("context", "rows", "counts"),
    [({"is_text": True}, (), True), ({}, None, False), ({"_is_server_side": True}, None, True)],
)
def test_the_row_count_is_read_only_where_sqlalchemy_reads_it(
    harness: Harness, context: dict[str, Any], rows: Any, counts: bool
) -> None:
    execution = SimpleNamespace(execution_options={}, **context)
    event(harness, harness.listener.before, Unreadable(rows=rows), execution)
    event(harness, harness.listener.after, Unreadable(rows=rows), execution)
    assert harness.statement.results == [-1] and hasattr(execution, "rows") is counts


@pytest.mark.parametrize("kind", ["isupdate", "isdelete", "is_text"])
@pytest.mark.parametrize(("rowcount", "result"), [(5, 5), (None, -1)])
def test_the_row_count_is_read_once_and_kept_for_sqlalchemy(
    harness: Harness, kind: str, rowcount: Any, result: int
) -> None:
    context, cursor = SimpleNamespace(execution_options={}, **{kind: True}), Cursor(rowcount, None)
    event(harness, harness.listener.before, cursor, context)
    event(harness, harness.listener.after, cursor, context)
    assert context._rowcount == rowcount and harness.statement.results == [result]


class Mapping:
    """Options of another kind."""

    def get(self, name: str) -> Any:
        assert name == "_sa_orm_load_options"
        return SimpleNamespace(_lazy_loaded_from="a state")


ADAPTS = "_result_disable_adapt_to_context"
LOADS = "_sa_orm_load_options"


@pytest.mark.parametrize(
    ("options", "sender"),
    [
        ({}, ENGINE),
        ({LOADS: SimpleNamespace(_lazy_loaded_from=None)}, ENGINE),
        ({LOADS: SimpleNamespace()}, ENGINE),
        ({ADAPTS: True}, ORM),
        ({ADAPTS: True, LOADS: SimpleNamespace(_lazy_loaded_from=None)}, ORM),
        ({ADAPTS: True, LOADS: SimpleNamespace(_lazy_loaded_from="a state")}, LAZY),
        ({LOADS: SimpleNamespace(_lazy_loaded_from="a state")}, LAZY),
        (Mapping(), LAZY),
    ],
)
def test_a_statement_of_an_engine_is_sent_by_an_orm_or_not(
    harness: Harness, options: Any, sender: int
) -> None:
    context = SimpleNamespace(execution_options=options)
    event(harness, harness.listener.before, Cursor(1), context)
    event(harness, harness.listener.after, Cursor(1), context)
    assert harness.statement.sender == sender
    assert harness.statement.lazy_count == (sender == LAZY)


def test_options_that_fail_are_reported(harness: Harness) -> None:
    def get(name: str) -> Any:
        raise ValueError(name)

    context = SimpleNamespace(execution_options=SimpleNamespace(get=get))
    event(harness, harness.listener.before, Cursor(1), context)
    event(harness, harness.listener.after, Cursor(1), context)
    assert [str(error) for error in harness.recorder.failures] == [LOADS]
    harness.recorder.failures.clear()


def test_the_time_until_rows_are_first_fetched_is_the_set_up_of_a_call(harness: Harness) -> None:
    context = SimpleNamespace()
    for fetches in (0, 2, 1):
        event(harness, harness.listener.before, Cursor(1), context)
        event(harness, harness.listener.after, Cursor(1), context)
        harness.recorder.clock.now += 1_000
        for _ in range(fetches):
            context.rows.fetchone()
    assert harness.statement.setup_ns == 2 * 1_100


def test_a_driver_has_a_set_up_too(harness: Harness) -> None:
    rows, _ = harness.fetch(3)
    rows.fetchall()
    assert (harness.statement.sender, harness.statement.setup_ns) == (DRIVER, 100)


def test_a_context_may_have_no_options(harness: Harness) -> None:
    context = SimpleNamespace()
    event(harness, harness.listener.before, Cursor(1), context)
    event(harness, harness.listener.after, Cursor(1), context)
    assert harness.statement.lazy_count == 0


# -- memory -----------------------------------------------------------------------------------------


def test_reference_counts_stay_balanced(harness: Harness) -> None:
    text, parameters, cursor, nothing = "SELECT a", ("x",), Cursor(-1, [1] * 4000), None
    context = SimpleNamespace(execution_options={}, rows=None)

    def serve() -> None:
        harness.listener.before(None, cursor, text, parameters, context, False)
        harness.listener.after(None, cursor, text, parameters, context, False)
        context.rows.fetchone()
        context.rows = context._knitperf_execution = None
        harness.queries.calls.clear()

    def counts() -> list[int]:
        gc.collect()
        items = (
            text, parameters, cursor, context, harness.span, harness.recorder, harness.statement,
            harness.counter,
        )  # fmt: skip
        return [sys.getrefcount(item) for item in items]

    serve()
    before, none = counts(), sys.getrefcount(nothing)
    for _ in range(500):
        serve()
    assert counts() == before
    assert abs(sys.getrefcount(nothing) - none) < 400


def test_reference_counts_of_calls_and_iterated_rows_stay_balanced(harness: Harness) -> None:
    text, keyword, failure = "SELECT a", object(), LookupError()
    working, failing = Driver(lambda *_, **__: text), Driver()

    def execute(*_: Any, **__: Any) -> None:
        raise failure

    failing.execute = execute
    good, bad = executor(harness, working), executor(harness, failing)
    cursor = Rows(-1, [text] * 3)

    def serve() -> None:
        good.execute(text, other=keyword)
        with pytest.raises(LookupError):
            bad.execute(text, other=keyword)
        counting, cursor.rows = harness.fetch(cursor)[0], [text] * 3
        assert len(list(counting)) == 3
        failure.__traceback__ = None
        harness.calls.clear()
        harness.queries.calls.clear()

    def counts() -> list[int]:
        gc.collect()
        items = text, keyword, failure, working, failing, good, bad, cursor, harness.counter
        return [sys.getrefcount(item) for item in items]

    serve()
    before = counts()
    for _ in range(300):
        serve()
    assert counts() == before


def test_objects_in_a_reference_cycle_are_collected(module: Any) -> None:
    harness = Harness(module)
    token = CURRENT.set(harness.span)
    counting, _ = harness.fetch()
    cycle = (counting, harness.queries, harness.statement)
    harness.span.environ["cycle"] = (*cycle, harness.counter.begin())
    CURRENT.reset(token)
    references = [weakref.ref(item) for item in cycle]
    del harness, counting, cycle, token
    gc.collect()
    assert [reference() for reference in references] == [None] * 3
