"""The way of one statement, in Python and in C: one contract, both held to it in one process."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from flask_knitperf.collectors.sql import fastpath
from flask_knitperf.collectors.sql.statements import Sent, judge
from flask_knitperf.recording.span import EVENTS, Span
from tests.conftest import in_python

CURRENT: ContextVar[Any] = ContextVar("test_sending", default=None)


def of_python() -> Any:
    module = in_python(fastpath)
    assert not module.COMPILED
    module.UNCOMPARABLE = fastpath.UNCOMPARABLE
    return module


def in_c() -> Any:
    if not fastpath.COMPILED:
        pytest.skip("the classes in C are switched off, or were not built on this machine")
    return fastpath


class Clock:
    """Goes on by 100 at each look, its CPU by 10."""

    def __init__(self) -> None:
        self.now, self.used = 1_000, 0
        self.failing: BaseException | None = None

    def monotonic_ns(self) -> Any:
        if self.failing is not None:
            raise self.failing
        self.now += 100
        return self.now

    def runnable_ns(self) -> int:
        self.used += 10
        return self.used


class Recorder:
    """What the way asks of a recorder, and what it said to it."""

    def __init__(self) -> None:
        self.query_tracking, self.clock = 2, Clock()
        self.failures: list[BaseException] = []

    def failed(self, part: str, error: BaseException) -> None:
        assert part == "queries"
        self.failures.append(error)


class Cursor:
    """A driver's."""

    def __init__(self, rowcount: Any = -1, rows: Any = ()) -> None:
        self.rowcount, self.rows, self.description = rowcount, list(rows), [("a",)]
        self.asked: list[Any] = []
        self.failing: BaseException | None = None

    def fetchone(self) -> Any:
        if self.failing is not None:
            raise self.failing
        return self.rows.pop(0) if self.rows else None

    def fetchmany(self, size: int = 2, *, more: int = 0) -> Any:
        given, self.rows = self.rows[: size + more], self.rows[size + more :]
        return given

    def fetchall(self) -> Any:
        if self.failing is not None:
            raise self.failing
        given, self.rows = self.rows, []
        return given

    def close(self) -> str:
        return "closed"


class Way:
    """All that counts the statements of one request, and what was asked of it, in order."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.said: list[Any] = []
        self.explains = SimpleNamespace(wanted={})
        self.recorder = Recorder()
        self.span = Span(self.recorder, {}, 1_000)
        way = self

        class Sent(module.StatementBase):  # type: ignore[misc]
            __slots__ = ("__weakref__",)

            def __init__(self, text: Any, where: str, database: int) -> None:
                self.text, self.call_site, self.database = text, where, database
                self.durations, self.results, self.parameter_hashes = [], [], []
                self.page_hashes = set()
                self.lazy_count = self.value_count = self.merged = self.text_hash = 0

        class Asked(module.RequestQueriesBase):  # type: ignore[misc]
            __slots__ = ("__weakref__",)

            def __init__(self) -> None:
                self.statements, self.calls, self.groups = {}, [], {}
                self.last = Sent("", "", -1)
                self.buffered = self.count = self.own_ns = self.cpu_ns = self.allow_depth = 0

            def find(self, text: Any, where: str, database: int) -> Any:
                way.said.append(("find", text, database))
                found = self.statements.get((text, where, database)) or Sent(text, where, database)
                self.last = self.statements[text, where, database] = found
                return found

        class Queries(module.QueryCounterBase):  # type: ignore[misc]
            def queries_of(self, span: Any) -> Any:
                way.said.append("of")
                span.ensure_notes().queries = Asked()
                return span.notes.queries

            def settle(self, span: Any) -> None:
                way.said.append("settle")
                span.notes.queries.buffered = 0

            def add_parameters(self, sent: Any, parameters: Any) -> None:
                way.said.append(("judge", parameters))
                judge(sent, parameters)

            def explain(self, span: Any, sent: Any, cursor: Any, parameters: Any) -> None:
                way.said.append(("explain", sent.text, parameters))

        class Fetching(module.CountingCursorBase):  # type: ignore[misc]
            __slots__ = ("__weakref__",)

        self.fetching = Fetching
        self.queries = Queries(CURRENT, self.caller, self.explains)
        self.watch = module.EngineListenerBase(self.queries, 3, WatchedCursor, Fetching)

    def caller(self, depth: int) -> str:
        self.said.append("caller")
        return f"{sys._getframe(depth + 1).f_code.co_name}"

    @property
    def asked(self) -> Any:
        assert self.span.notes is not None
        return self.span.notes.queries

    @property
    def sent(self) -> Any:
        return self.asked.last

    def send(self, text: Any = "SELECT 1", parameters: Any = None, result: Any = 1) -> Any:
        return self.queries.end(self.queries.begin(), text, 3, parameters, result)

    def fetch(self, rows: int = 5) -> tuple[Any, Cursor]:
        """Return a cursor before which ours stands, and the driver's."""
        cursor = Cursor(-1, range(rows))
        now = self.queries.end_with_rows(self.queries.begin(), "SELECT 1", 3, None, cursor)
        return self.fetching(cursor, now), cursor


class WatchedCursor(Cursor):
    """Counts by itself."""


@pytest.fixture(params=[of_python, in_c], ids=["python", "c"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
def way(module: Any) -> Any:
    made = Way(module)
    token = CURRENT.set(made.span)
    yield made
    CURRENT.reset(token)
    assert made.recorder.failures == []


# -- a statement begins ------------------------------------------------------------------------------


def test_outside_a_request_nothing_begins(way: Way) -> None:
    token = CURRENT.set(None)
    assert way.queries.begin() is None
    CURRENT.reset(token)
    way.span.ended = True
    assert way.queries.begin() is None


def test_where_nothing_is_asked_for_nothing_begins(way: Way) -> None:
    way.recorder.query_tracking = 0
    assert way.queries.begin() is None and way.span.notes is None


def test_a_statement_begins_at_the_clock_within_what_runs_now(way: Way) -> None:
    began = way.queries.begin()
    assert (began.span, began.scope, began.began) == (way.span, way.span.notes, 1_100)
    assert began.cpu_began is None and began.nested_ns == began.nested_cpu_ns == 0
    part = way.span.open("work", 5)
    part.nested_ns, part.nested_cpu_ns = 30, 3
    began = way.queries.begin()
    assert (began.scope, began.nested_ns, began.nested_cpu_ns) == (part, 30, 3)


def test_lines_are_looked_for_only_where_they_are_wanted(way: Way) -> None:
    def execute(depth: int) -> Any:
        return way.queries.begin(depth)

    def asks_it() -> Any:
        return execute(1)

    assert asks_it().call_site == "asks_it" and execute(0).call_site == "execute"
    way.recorder.query_tracking = 1
    assert asks_it().call_site == "" and way.said == ["caller", "caller"]


def test_of_a_sampled_request_cpu_is_read(way: Way) -> None:
    way.span.cpu_began = 1
    assert way.queries.begin().cpu_began == 10


def test_a_clock_that_fails_is_told_and_nothing_begins(way: Way) -> None:
    way.recorder.clock.failing = RuntimeError("ours")
    assert way.queries.begin() is None
    assert [str(error) for error in way.recorder.failures] == ["ours"]
    way.recorder.failures.clear()


def test_what_is_no_exception_of_ours_passes(way: Way) -> None:
    way.recorder.clock.failing = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        way.queries.begin()


# -- it ends -----------------------------------------------------------------------------------------


def test_a_statement_is_a_time_a_result_and_a_number(way: Way) -> None:
    sent, number = way.send(parameters=(7,), result=4)
    assert (sent.durations, sent.results, sent.parameter_hashes) == ([100], [4], [hash((7,))])
    assert (number, sent.value_count, sent.page_hashes, way.asked.buffered) == (0, 1, set(), 1)
    again, number = way.send(parameters=(7,), result="OperationalError")
    assert again is sent and number == 1
    assert sent.durations == [100, 100] and sent.results == [4, "OperationalError"]


def test_what_is_around_a_statement_knows_of_its_time(way: Way) -> None:
    way.span.cpu_began = 1
    way.send()
    assert way.span.notes is not None
    assert (way.span.notes.nested_ns, way.span.notes.nested_cpu_ns) == (100, 10)
    assert (way.asked.own_ns, way.asked.cpu_ns) == (100, 10)


def test_a_statement_within_another_is_not_its_own_time(way: Way) -> None:
    way.span.cpu_began = 1
    outer = way.queries.begin()
    way.send("SELECT 2")
    way.queries.end(outer, "SELECT 1", 3, None, 1)
    assert (
        way.asked.own_ns == 300 and way.asked.cpu_ns == 30
    )  # of which 100 and 10 are the inner one's
    assert way.span.notes is not None
    assert (way.span.notes.nested_ns, way.span.notes.nested_cpu_ns) == (300, 30)


def test_texts_lines_and_databases_are_told_apart_and_found_again(way: Way) -> None:
    one, two = "SELECT 1", "SELECT 2"
    began = [way.queries.begin() for _ in range(6)]
    places = [(one, 3), (two, 3), (one, 3), (one, 4), (two, 3), (one, 4)]
    found = [
        way.queries.end(each, text, database, None, 1)
        for each, (text, database) in zip(began, places, strict=True)
    ]
    assert [number for _, number in found] == [0, 0, 1, 0, 1, 1]
    assert found[0][0] is found[2][0] and found[3][0] is found[5][0]
    assert found[1][0] is found[4][0] is not found[0][0]


def test_a_text_of_another_kind_and_an_empty_one_are_found_by_the_collector(way: Way) -> None:
    for text in (b"SELECT 1", "", "S" * (fastpath.MAX_KEPT_TEXT + 1)):
        way.said.clear()
        way.send(text)
        assert ("find", text, 3) in way.said


@pytest.mark.parametrize(
    "parameters",
    [(), ("a", 1, 2.5), (None, True, b"x"), (1, 2, 3), (1, 2, 4), {"a": 1, "b": "c"}, {}],
)
def test_plain_parameters_are_judged_alike_by_both(parameters: Any, way: Way) -> None:
    way.send(parameters=parameters)
    expected = Sent("SELECT 1", "", 3)
    judge(expected, parameters)
    assert (
        way.sent.parameter_hashes == expected.parameter_hashes
        and way.sent.value_count == expected.value_count
    )
    assert way.sent.page_hashes == expected.page_hashes


def test_other_parameters_are_left_to_the_collector(way: Way) -> None:
    given = [([1],), [1, 2], ("a", [1]), range(3), "text", (type("Int", (int,), {})(),)]
    for parameters in given:
        way.send(parameters=parameters)
    assert [each for each in way.said if each[0] == "judge"] == [("judge", each) for each in given]
    assert len(way.sent.parameter_hashes) == len(given)


def test_statements_without_parameters_are_alike(way: Way) -> None:
    way.send()
    way.send()
    assert way.sent.parameter_hashes == [0, 0] and way.sent.value_count == 0


def test_what_is_not_to_be_judged_has_no_number(way: Way) -> None:
    way.send(parameters=fastpath.UNCOMPARABLE)
    way.asked.allow_depth = 1
    way.send(parameters=(1,))
    assert way.sent.parameter_hashes == [None, None]


def test_at_most_two_pages_are_told_apart(way: Way) -> None:
    for number in range(4):
        way.send(parameters=(number, 10, 20))
    assert way.sent.page_hashes == {hash((0,)), hash((1,))} and way.sent.value_count == 12


def test_the_first_statements_are_kept_for_the_timeline(way: Way) -> None:
    for _ in range(EVENTS + 5):
        way.send()
    calls = way.asked.calls
    assert len(calls) == fastpath.FIELDS_PER_CALL * EVENTS
    sent = way.sent
    assert calls[:5] == [sent, sent.results, 0, 1_100, 1_200]
    assert calls[5:10] == [sent, sent.results, 1, 1_300, 1_400]


def test_of_very_many_statements_the_collector_makes_fewer(way: Way) -> None:
    way.recorder.query_tracking = 1
    for _ in range(fastpath.MAX_BUFFERED - 1):
        way.send()
    assert "settle" not in way.said
    way.send()
    assert way.said[-1] == "settle"


def test_numbers_go_on_behind_what_is_put_together(way: Way) -> None:
    way.send()
    way.sent.durations, way.sent.results, way.sent.parameter_hashes, way.sent.merged = [], [], [], 1
    assert way.send()[1] == 1


# -- it succeeded ------------------------------------------------------------------------------------


def test_a_statement_that_gives_rows_is_counted_until_they_are_fetched(way: Way) -> None:
    for rowcount, remains in ((-1, True), (0, True), (3, False), (None, True), (1 << 70, False)):
        now = way.queries.end_with_rows(way.queries.begin(), "SELECT 1", 3, None, Cursor(rowcount))
        assert (now is not None) is remains
        if now is not None:
            assert (
                now[0] is way.span and now[1] is way.sent and now[2] == len(way.sent.durations) - 1
            )
    assert way.sent.results == [-1, 0, 3, -1, 1 << 70]


def test_a_statement_that_gives_none_is_not_fetched(way: Way) -> None:
    cursor = Cursor()
    cursor.description = None  # type: ignore[assignment]
    assert way.queries.end_with_rows(way.queries.begin(), "DELETE", 3, None, cursor) is None


def test_lazy_statements_are_counted(way: Way) -> None:
    for lazy in (True, False, True):
        way.queries.end_with_rows(way.queries.begin(), "SELECT 1", 3, None, Cursor(1), lazy)
    assert way.sent.lazy_count == 2


def test_a_statement_is_explained_where_one_waits_for_that(way: Way) -> None:
    way.queries.end_with_rows(way.queries.begin(), "SELECT 1", 3, (1,), Cursor(1))
    way.explains.wanted["x"] = 1
    way.queries.end_with_rows(way.queries.begin(), "SELECT 1", 3, fastpath.UNCOMPARABLE, Cursor(1))
    assert not [each for each in way.said if each[0] == "explain"]
    way.queries.end_with_rows(way.queries.begin(), "SELECT 1", 3, (1,), Cursor(1))
    assert way.said[-1] == ("explain", "SELECT 1", (1,))


def test_a_cursor_that_does_not_know_its_rows_harms_nobody(way: Way) -> None:
    class Odd:
        @property
        def rowcount(self) -> int:
            raise RuntimeError("closed")

    assert way.queries.end_with_rows(way.queries.begin(), "SELECT 1", 3, None, Odd()) is None
    assert [str(error) for error in way.recorder.failures] == ["closed"]
    way.recorder.failures.clear()


# -- its rows are fetched ----------------------------------------------------------------------------


def test_rows_are_counted_and_their_time_is_the_statement_s(way: Way) -> None:
    fetching, _ = way.fetch(6)
    assert fetching.fetchone() == 0
    assert way.sent.results == [1] and way.sent.durations == [200]
    assert fetching.fetchmany(2) == [1, 2] and fetching.fetchmany(size=1, more=1) == [3, 4]
    assert fetching.fetchall() == [5] and fetching.fetchone() is None
    assert way.sent.results == [6] and way.sent.durations == [600]
    assert (
        way.asked.own_ns == 600 and way.span.notes is not None and way.span.notes.nested_ns == 600
    )


def test_cpu_of_fetching_is_read_where_that_is_sampled(way: Way) -> None:
    way.span.cpu_began = 1
    fetching, _ = way.fetch()
    fetching.fetchall()
    assert (
        way.asked.cpu_ns == 20 and way.span.notes is not None and way.span.notes.nested_cpu_ns == 20
    )


def test_what_fails_while_rows_are_fetched_is_a_statement_that_failed(way: Way) -> None:
    fetching, cursor = way.fetch()
    cursor.failing = LookupError("host")
    with pytest.raises(LookupError, match="host") as caught:
        fetching.fetchall()
    assert caught.value is cursor.failing and way.sent.results == ["LookupError"]
    assert way.sent.parameter_hashes == [None]
    cursor.failing = None
    assert fetching.fetchone() == 0 and way.sent.results == ["LookupError"]


def test_rows_that_come_too_late_are_given_and_not_counted(way: Way) -> None:
    fetching, _ = way.fetch()
    way.sent.merged, way.sent.durations, way.sent.results = 1, [], []
    assert fetching.fetchone() == 0 and way.sent.results == []
    way.span.ended = True
    assert fetching.fetchall() == [1, 2, 3, 4] and way.sent.results == []


def test_a_cursor_of_which_nothing_is_counted_gives_its_rows(way: Way) -> None:
    fetching = way.fetching(Cursor(-1, range(4)))
    assert (
        fetching.fetchone() == 0 and fetching.fetchmany(1) == [1] and fetching.fetchall() == [2, 3]
    )
    assert way.span.notes is None


def test_everything_else_is_the_cursor_s(way: Way) -> None:
    fetching, cursor = way.fetch()
    fetching.arraysize = 5
    assert cursor.arraysize == 5 and fetching.arraysize == 5  # type: ignore[attr-defined]
    del fetching.arraysize
    assert not hasattr(cursor, "arraysize") and not hasattr(fetching, "arraysize")
    assert fetching.close() == "closed" and fetching.description is cursor.description


def test_a_clock_that_fails_while_rows_are_fetched_is_told_and_rows_are_given(way: Way) -> None:
    fetching, cursor = way.fetch()

    def fetchall() -> list[int]:
        way.recorder.clock.failing = ArithmeticError()
        return [1]

    cursor.fetchall = fetchall  # type: ignore[method-assign]
    assert fetching.fetchall() == [1]
    assert [type(error) for error in way.recorder.failures] == [ArithmeticError]
    way.recorder.failures.clear()


def test_rows_without_a_length_are_given(way: Way) -> None:
    fetching, cursor = way.fetch()
    rows = iter([1, 2])
    cursor.fetchall = lambda: rows  # type: ignore[method-assign]
    assert fetching.fetchall() is rows
    assert [type(error) for error in way.recorder.failures] == [TypeError]
    way.recorder.failures.clear()


def test_rows_that_are_iterated_are_counted_by_one_function(way: Way) -> None:
    way.fetch()
    way.module.add_rows(way.span, way.sent, 0, 50, 40, 5, 3)
    way.module.add_rows(way.span, way.sent, 0, 50, 40, 5, 3, "")
    assert way.sent.results == [6] and way.sent.durations == [200]
    assert way.asked.own_ns == 100 + 80 and way.asked.cpu_ns == 10
    way.module.add_rows(way.span, way.sent, 0, 50, 40, 5, 3, "OSError")
    way.module.add_rows(way.span, way.sent, 9, 50, 40, 5, 3)
    assert way.sent.results == ["OSError"] and way.sent.durations == [250]


# -- an engine's events ------------------------------------------------------------------------------


def event(
    way: Way, listener: Callable[..., Any], cursor: Any, context: Any, many: Any = False
) -> Any:
    return listener(None, cursor, "SELECT 1", (1,), context, many)


def test_between_two_events_a_statement_is_counted_and_its_rows_are_watched(way: Way) -> None:
    context, cursor = SimpleNamespace(execution_options={}, cursor=None), Cursor(-1, range(3))
    assert event(way, way.watch.before, cursor, context) == ("SELECT 1", (1,))
    assert event(way, way.watch.after, cursor, context) is None
    assert type(context.cursor) is way.fetching and context.cursor.fetchall() == [0, 1, 2]
    assert (
        way.sent.results == [3]
        and way.sent.parameter_hashes == [hash((1,))]
        and way.sent.database == 3
    )
    assert context._knitperf_call is None


def test_the_line_that_asks_is_looked_for_above_what_has_events(way: Way) -> None:
    def execute() -> None:
        event(way, way.watch.before, Cursor(), context)

    context = SimpleNamespace(execution_options={})
    execute()
    assert context._knitperf_call.call_site in ("event", "execute")


def test_a_statement_is_counted_once_between_its_events(way: Way) -> None:
    context = SimpleNamespace(execution_options={})
    event(way, way.watch.before, Cursor(1), context)
    event(way, way.watch.after, Cursor(1), context)
    event(way, way.watch.after, Cursor(1), context)
    assert way.sent.results == [1]


def test_an_event_without_a_beginning_counts_nothing(way: Way) -> None:
    event(way, way.watch.after, Cursor(), SimpleNamespace())
    assert way.span.notes is None


def test_cursors_that_count_by_themselves_are_left_alone(way: Way) -> None:
    context = SimpleNamespace()
    assert event(way, way.watch.before, WatchedCursor(), context) == ("SELECT 1", (1,))
    assert not hasattr(context, "_knitperf_call")


def test_many_sets_of_parameters_are_not_judged(way: Way) -> None:
    context = SimpleNamespace(execution_options={})
    event(way, way.watch.before, Cursor(5), context)
    event(way, way.watch.after, Cursor(5), context, True)
    assert way.sent.parameter_hashes == [None] and way.sent.results == [5]


class Mapping:
    """Options of another kind."""

    def get(self, name: str) -> Any:
        assert name == "_sa_orm_load_options"
        return SimpleNamespace(_lazy_loaded_from="a state")


@pytest.mark.parametrize(
    ("options", "lazy"),
    [
        ({}, 0),
        ({"_sa_orm_load_options": SimpleNamespace(_lazy_loaded_from=None)}, 0),
        ({"_sa_orm_load_options": SimpleNamespace()}, 0),
        ({"_sa_orm_load_options": SimpleNamespace(_lazy_loaded_from="a state")}, 1),
        (Mapping(), 1),
    ],
)
def test_what_an_attribute_of_an_object_loads_is_lazy(way: Way, options: Any, lazy: int) -> None:
    context = SimpleNamespace(execution_options=options)
    event(way, way.watch.before, Cursor(1), context)
    event(way, way.watch.after, Cursor(1), context)
    assert way.sent.lazy_count == lazy


def test_a_context_without_options_will_do(way: Way) -> None:
    context = SimpleNamespace()
    event(way, way.watch.before, Cursor(1), context)
    event(way, way.watch.after, Cursor(1), context)
    assert way.sent.lazy_count == 0


# -- the classes in C meet what they were not made for -----------------------------------------------


def test_arguments_of_other_kinds_are_refused() -> None:
    module = in_c()
    way = Way(module)
    token = CURRENT.set(way.span)
    for call in (
        lambda: module.QueryCounterBase(None, None, None),
        lambda: module.EngineListenerBase(None, 1, Cursor, Cursor),
        module.CountingCursorBase,
        lambda: way.watch.before(1, 2),
        way.watch.after,
        lambda: way.queries.end(None, "", 1, None, 1),
        lambda: way.queries.end(way.queries.begin(), "", "one", None, 1),
        lambda: way.queries.end_with_rows(None, "", 1, None, Cursor()),
        lambda: way.queries.begin("deep"),
        lambda: module.add_rows(None, None, 0, 0, 0, 0, 0),
        lambda: module.add_rows(way.span, None, 0, 0, 0, 0, 0),
    ):
        with pytest.raises(TypeError):
            call()
    CURRENT.reset(token)


def test_objects_that_were_never_initialised_are_no_crash() -> None:
    module = in_c()
    way = Way(module)
    token = CURRENT.set(way.span)
    queries = module.QueryCounterBase.__new__(module.QueryCounterBase)
    with pytest.raises(RuntimeError):
        queries.begin()
    began = module.ExecutionBase()
    with pytest.raises(TypeError):
        way.queries.end(began, "", 1, None, 1)
    with pytest.raises(AttributeError):
        way.queries.end_with_rows(began, "", 1, None, object())
    for fetching in (
        module.CountingCursorBase.__new__(module.CountingCursorBase),
        module.CountingCursorBase(None, (1, 2)),
    ):
        for name in ("fetchone", "fetchmany", "fetchall"):
            with pytest.raises((RuntimeError, AttributeError)):
                getattr(fetching, name)()
        with pytest.raises((RuntimeError, AttributeError)):
            fetching.close  # noqa: B018
        with pytest.raises((RuntimeError, AttributeError)):
            fetching.arraysize = 1
    watch = module.EngineListenerBase.__new__(module.EngineListenerBase)
    assert event(way, watch.before, Cursor(), SimpleNamespace()) == ("SELECT 1", (1,))
    assert event(way, watch.after, Cursor(), SimpleNamespace(_knitperf_call=began)) is None
    CURRENT.reset(token)


def test_what_a_collector_gets_wrong_is_told_and_no_crash() -> None:
    module = in_c()

    class Wrong(Way):
        def check(self) -> None:
            began = self.queries.begin()
            assert self.queries.end_with_rows(began, "SELECT 1", 3, None, Cursor(1)) is None
            assert len(self.recorder.failures) == 1
            self.recorder.failures.clear()

    way = Wrong(module)
    token = CURRENT.set(way.span)
    way.send()
    way.asked.last = module.StatementBase()
    for key in way.asked.statements:
        way.asked.statements[key] = None
    way.asked.__class__.find = lambda *_: None
    way.check()
    way.asked.__class__.find = lambda *_: module.StatementBase()
    way.check()
    way.span.notes.queries = 5  # type: ignore[union-attr]
    way.check()
    way.span.notes.queries = None  # type: ignore[union-attr]
    way.queries.__class__.queries_of = lambda *_: 5
    way.check()
    way.span.notes = object()  # type: ignore[assignment]
    assert way.queries.begin() is None and len(way.recorder.failures) == 1
    CURRENT.reset(token)


def test_nothing_is_held_and_nothing_is_let_go_too_often(way: Way) -> None:
    text, parameters, cursor, nothing = "SELECT a", ("x",), Cursor(-1, [1] * 4000), None
    context = SimpleNamespace(execution_options={}, cursor=None)

    def ask() -> None:
        way.watch.before(None, cursor, text, parameters, context, False)
        way.watch.after(None, cursor, text, parameters, context, False)
        context.cursor.fetchone()
        context.cursor = context._knitperf_call = None
        way.asked.calls.clear()

    def held() -> list[int]:
        gc.collect()
        kept = (text, parameters, cursor, context, way.span, way.recorder, way.sent, way.queries)
        return [sys.getrefcount(each) for each in kept]

    ask()
    before, none = held(), sys.getrefcount(nothing)
    for _ in range(500):
        ask()
    assert held() == before
    assert abs(sys.getrefcount(nothing) - none) < 400


def test_a_request_and_what_it_asked_can_go(module: Any) -> None:
    way = Way(module)
    token = CURRENT.set(way.span)
    fetching, _ = way.fetch()
    way.span.environ["began"] = way.queries.begin()
    way.span.environ["fetching"], way.span.environ["asked"] = fetching, way.asked
    way.span.environ["sent"] = way.sent
    CURRENT.reset(token)
    held = [weakref.ref(each) for each in (fetching, way.asked, way.sent)]
    del way, fetching, token
    gc.collect()
    assert [each() for each in held] == [None] * 3
