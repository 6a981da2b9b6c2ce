"""Wrapped connections: they behave like the driver's, and every statement counts with rows and line."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from flask_knitperf.collectors.sql import dbapi
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.collectors.sql.fastpath import MAX_BUFFERED
from flask_knitperf.collectors.sql.statements import Statement, add_parameters
from flask_knitperf.core.errors import KnitPerfError
from tests.conftest import Mill

from .conftest import QueryApplication, line_of

YARN = "SELECT name FROM yarn WHERE id = ?"
ALL = "SELECT id, name FROM yarn"


@pytest.fixture
def connection(database: Path) -> Iterator[Any]:
    with closing(wrap_connect(sqlite3.connect)(database, check_same_thread=False)) as wrapped:
        yield wrapped


# -- behaviour of the driver ----------------------------------------------------------------------------


def test_isinstance_reports_the_driver_s_types(connection: Any) -> None:
    assert isinstance(connection, sqlite3.Connection)
    assert isinstance(connection.cursor(), sqlite3.Cursor)


def test_attributes_are_read_set_and_deleted_on_the_driver_s(connection: Any) -> None:
    connection.row_factory = sqlite3.Row
    cursor = connection.cursor()
    cursor.arraysize = 7
    assert cursor.execute(ALL).fetchone()["name"] == "y0"
    assert (cursor.arraysize, cursor.connection) == (7, connection)
    assert connection.total_changes == 0
    with pytest.raises(AttributeError):
        _ = connection.nothing_of_that_name
    with pytest.raises(AttributeError):
        del connection.nothing_of_that_name


def test_a_transaction_is_the_driver_s(connection: Any) -> None:
    def delete() -> None:
        with connection as transaction:
            assert transaction is connection
            connection.execute("DELETE FROM yarn")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        delete()
    assert connection.execute("SELECT count(*) FROM yarn").fetchone() == (30,)


def _fetchone(cursor: Any) -> list[Any]:
    return list(iter(cursor.fetchone, None))


def _fetchmany(cursor: Any) -> list[Any]:
    return [row for rows in iter(lambda: cursor.fetchmany(7), []) for row in rows]


def _next(cursor: Any) -> list[Any]:
    rows = [next(cursor)]
    rows.extend(cursor)
    return rows


@pytest.mark.parametrize("fetch", [
    lambda cursor: cursor.fetchall(), _fetchone, _fetchmany, list, _next,
    lambda cursor: cursor.fetchmany(size=30),
])  # fmt: skip
@pytest.mark.parametrize("within", [False, True])
def test_all_ways_of_fetching_give_the_driver_s_rows(
    connection: Any, application: QueryApplication, fetch: Callable[[Any], Any], within: bool
) -> None:
    rows: list[Any] = []

    def view() -> None:
        cursor = connection.cursor()
        assert cursor.execute(ALL) is cursor
        rows.extend(fetch(cursor))

    application.serve(view) if within else view()
    assert rows == [(n, f"y{n}") for n in range(30)]
    if within:
        assert application.statements[ALL]["rows_mean"] == 30.0


def test_an_error_is_the_driver_s_and_counts_by_its_class(
    connection: Any, application: QueryApplication
) -> None:
    def view() -> None:
        with pytest.raises(sqlite3.OperationalError, match="no such table: gone"):
            connection.execute("SELECT * FROM gone WHERE a = 'hunter2'")
        with pytest.raises(sqlite3.OperationalError):
            connection.cursor().execute("SELECT * FROM gone WHERE a = 'hunter2'")
        with pytest.raises(sqlite3.IntegrityError):
            connection.executemany("INSERT INTO style VALUES (?, ?)", [(1, "a")])

    application.serve(view)
    failed = application.queries["SELECT * FROM gone WHERE a = ?"]
    assert (failed["count"], failed["errors"], failed["failed"]) == (2, 2, {"OperationalError": 2})
    assert application.queries["INSERT INTO style VALUES (?)"]["failed"] == {"IntegrityError": 1}


def test_pandas_reads_and_writes_through_them(
    connection: Any, application: QueryApplication
) -> None:
    frames: list[pd.DataFrame] = []

    def view() -> None:
        frames.append(pd.read_sql("SELECT * FROM yarn WHERE style = ?", connection, params=(3,)))
        frames[0].to_sql("copy", connection, index=False)

    application.serve(view)
    assert len(frames[0]) == 3
    assert application.statements["SELECT * FROM yarn WHERE style = ?"]["rows_mean"] == 3.0
    assert connection.execute("SELECT count(*) FROM copy").fetchone() == (3,)


def test_other_objects_and_wrapped_connections_are_not_wrapped(database: Path) -> None:
    once = wrap_connect(sqlite3.connect)
    with closing(wrap_connect(once)(database)) as connection:
        assert type(object.__getattribute__(connection, "_real")) is sqlite3.Connection
    assert wrap_connect(lambda: 5)() == 5
    assert wrap_connect(sqlite3.connect).__name__ == "connect"


def test_a_connection_can_be_called_where_the_driver_s_can(connection: Any) -> None:
    assert callable(connection) and type(connection("SELECT 1")).__name__ == "Statement"
    assert not callable(wrap_connect(lambda: SimpleNamespace(cursor=None))())


def test_a_database_is_copied_between_wrapped_connections(connection: Any) -> None:
    with closing(wrap_connect(sqlite3.connect)(":memory:")) as copy:
        connection.backup(copy)
        assert len(copy.execute(ALL).fetchall()) == 30


def test_a_driver_that_reads_its_caller_s_frame_is_left_alone_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.setattr(dbapi, "_noted", weakref.WeakSet())
    lengths = pd.DataFrame({"a": [1, 2, 3]})
    for _ in range(3):
        with closing(wrap_connect(duckdb.connect)()) as connection:
            assert connection.execute("SELECT sum(a) FROM lengths").fetchone() == (6,)
    [record] = caplog.records
    assert "DuckDBPyConnection is not timed" in record.getMessage() and len(lengths) == 3


def test_a_subclass_of_such_a_driver_is_left_alone_too() -> None:
    base = type("Base", (), {"__module__": "_duckdb", "cursor": lambda self: None})
    connection = type("Own", (base,), {})()
    assert wrap_connect(lambda: connection)() is connection


@pytest.mark.parametrize("passed", ["sqlite:///mill.db", sqlite3, None])
def test_an_object_other_than_a_function_that_connects_is_refused(passed: Any) -> None:
    with pytest.raises(KnitPerfError, match=f"not an object of type {type(passed).__name__}"):
        wrap_connect(passed)


def test_a_connection_in_place_of_its_function_is_refused() -> None:
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(KnitPerfError, match="takes the function that connects"),
    ):
        wrap_connect(connection)
    with closing(wrap_connect(sqlite3.Connection)(":memory:")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_method_of_a_pool_that_refuses_other_connections_cannot_be_wrapped() -> None:
    class Pool:
        def getconn(self) -> None: ...
        def putconn(self, connection: Any) -> None: ...

    for method in (Pool().getconn, partial(Pool().getconn, "key")):
        with pytest.raises(KnitPerfError, match=r"putconn\(\)"):
            wrap_connect(method)


def test_an_asynchronous_connection_is_left_alone_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class AsyncConnection:
        def cursor(self) -> None: ...
        async def execute(self) -> None: ...

    connection = AsyncConnection()
    assert wrap_connect(lambda: connection)() is connection
    assert "AsyncConnection is asynchronous" in caplog.text


@pytest.mark.parametrize(
    ("returned", "reason"),
    [(lambda: asyncio.sleep(0), "coroutine is asynchronous"), (object, "has no method cursor()")],
)
def test_what_is_no_connection_is_returned_with_a_warning(
    returned: Callable[[], Any], reason: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(dbapi, "_noted", weakref.WeakSet())
    result = returned()
    assert wrap_connect(lambda: result)() is result
    assert reason in caplog.text
    if hasattr(result, "close"):
        result.close()


def test_a_connection_that_can_be_used_in_both_ways_is_timed() -> None:
    class Both(sqlite3.Connection):
        async def __aenter__(self) -> None: ...

    with closing(wrap_connect(sqlite3.connect)(":memory:", factory=Both)) as connection:
        assert type(connection) is not Both


def test_what_an_execution_returns_other_than_a_cursor_stays_as_it_is(
    application: QueryApplication,
) -> None:
    class Counting(sqlite3.Connection):
        def execute(self, *args: Any) -> Any:  # as that of TDengine
            return super().execute(*args).rowcount

    def view() -> None:
        with closing(wrap_connect(sqlite3.connect)(":memory:", factory=Counting)) as connection:
            assert connection.execute("SELECT 1") == -1

    application.serve(view)
    assert application.statements["SELECT ?"]["count"] == 1


def test_a_statement_of_a_subclass_of_str_is_recorded_as_it_is_sent(
    connection: Any, application: QueryApplication
) -> None:
    class Query(str, Enum):  # noqa: UP042 — str() of a StrEnum is its value
        ONE = "SELECT 1"

    assert str(Query.ONE) == "Query.ONE"
    application.serve(
        lambda: (connection.execute(Query.ONE), connection.cursor().execute(Query.ONE))
    )
    assert application.queries["SELECT ?"]["count"] == 2


def test_a_cursor_that_is_no_context_manager_stays_none(connection: Any) -> None:
    with pytest.raises(TypeError, match=r"'sqlite3.Cursor' object does not support the context"):
        connection.cursor().__enter__()


def test_a_statement_counts_though_its_cursor_refuses_the_number_of_rows(
    application: QueryApplication,
) -> None:
    class Refusing(sqlite3.Cursor):
        @property
        def rowcount(self) -> int:
            raise RuntimeError("complete")

    def view() -> None:
        with closing(wrap_connect(sqlite3.connect)(":memory:")) as connection:
            assert connection.cursor(Refusing).execute("SELECT 1").fetchall() == [(1,)]

    application.serve(view)
    assert application.queries["SELECT ?"]["count"] == 1
    assert application.mill.session.recorder.failures == {}


def test_outside_a_request_nothing_is_counted(connection: Any, quiet: Mill) -> None:
    connection.execute(ALL).fetchall()
    connection.executemany("INSERT INTO style VALUES (?, ?)", [(50, "a")])
    connection.executescript("SELECT 1;")
    quiet.get("/")
    assert quiet.session.documents.queries("run")["queries"] == []
    assert quiet.row("index")["queries"] is None


# -- counting -----------------------------------------------------------------------------------------


def test_every_method_that_executes_is_counted_with_its_line(
    connection: Any, application: QueryApplication
) -> None:
    def view() -> None:
        cursor = connection.cursor()
        cursor.execute(YARN, (1,))  # cursor execute
        connection.execute("SELECT 1")  # connection execute
        cursor.executemany("DELETE FROM yarn WHERE id = ?", [(1,), (2,)])  # cursor executemany
        connection.executemany("DELETE FROM style WHERE id = ?", [(1,)])  # connection executemany
        cursor.executescript("CREATE TABLE a (b);")  # cursor executescript
        connection.executescript("CREATE TABLE c (d);")  # connection executescript

    application.serve(view)
    lines = {text: row["where"].rpartition(":")[2] for text, row in application.statements.items()}
    assert lines == {
        text: str(line_of(__file__, mark)) for text, mark in (
            (YARN, "cursor execute"), ("SELECT ?", "connection execute"),
            ("DELETE FROM yarn WHERE id = ?", "cursor executemany"),
            ("DELETE FROM style WHERE id = ?", "connection executemany"),
            ("CREATE TABLE a (b)", "cursor executescript"),
            ("CREATE TABLE c (d)", "connection executescript"),
        )
    }  # fmt: skip
    assert all(row["count"] == 1 for row in application.statements.values())
    assert application.statements["DELETE FROM yarn WHERE id = ?"]["rows_mean"] == 2.0


def test_parts_and_the_rest_add_up_to_the_request(
    connection: Any, application: QueryApplication
) -> None:
    spans: list[Any] = []

    def view() -> None:
        spans.append(application.mill.session.recorder.span())
        with application.mill.perf.section("loads"):
            for row in connection.execute(ALL):
                connection.execute(YARN, row[:1]).fetchone()

    application.serve(view)
    [span] = spans
    assert span.parts["sql"][0] == 31
    loads = next(event for event in span.notes.events if event.name == "section:loads")
    assert sum(row[1] for row in span.parts.values()) == loads.ended - loads.began


def test_statements_are_in_the_timeline_of_a_request(
    connection: Any, application: QueryApplication
) -> None:
    application.serve(lambda: connection.execute(YARN, ("hunter2",)).fetchall())
    session = application.mill.session
    [row] = session.documents.why("ask", name="run").document["requests"]["latest"]
    document, _ = session.documents.request(row["id"], "run")
    [event] = [one for one in document["timeline"] if one["name"] == "sql"]  # not a collection
    assert event["detail"]["shape"] == YARN and event["detail"]["rows"] == 0
    assert "hunter2" not in str(document)


def test_rows_fetched_by_a_streamed_body_count(
    connection: Any, application: QueryApplication
) -> None:
    def stream() -> Any:
        def chunks() -> Iterator[str]:
            for row in connection.execute(ALL):
                yield row[1]

        return application.mill.app.response_class(chunks())

    application.mill.app.add_url_rule("/stream", "stream", stream)
    assert application.mill.get("/stream").body.startswith(b"y0y1")
    [row] = application.mill.row("stream")["queries"]["asked"]
    assert row["rows_mean"] == 30.0


def test_rows_fetched_after_the_request_do_not_count(
    connection: Any, application: QueryApplication
) -> None:
    cursors: list[Any] = []
    application.serve(lambda: cursors.append(connection.execute(ALL)))
    assert len(cursors[0].fetchall()) == 30
    assert application.statements[ALL]["rows_mean"] is None


def test_a_cursor_used_again_counts_its_rows_for_its_last_statement(
    connection: Any, application: QueryApplication
) -> None:
    def view() -> None:
        cursor = connection.cursor()
        cursor.execute(ALL).fetchall()
        cursor.execute(YARN, (1,)).fetchall()
        with pytest.raises(sqlite3.OperationalError):
            cursor.execute("SELECT * FROM gone")
        assert cursor.fetchall() == []

    application.serve(view)
    assert application.statements[ALL]["rows_mean"] == 30.0
    assert application.statements[YARN]["rows_mean"] == 1.0


def test_more_statements_than_the_buffer_are_all_counted(
    connection: Any, application: QueryApplication
) -> None:
    count = 2 * MAX_BUFFERED + 10

    def view() -> None:
        for number in range(count):
            connection.execute(YARN, (number % 30,)).fetchone()

    application.serve(view)
    assert application.statements[YARN]["count"] == count
    assert application.report["per_request"] == count
    [again] = application.report["repeated"]
    assert (again["requests"], again["per_request"]) == (1, count)


def test_parameters_of_any_kind_are_compared(
    connection: Any, application: QueryApplication
) -> None:
    def view() -> None:
        for number in range(5):
            connection.execute("SELECT name FROM yarn WHERE id = :id", {"id": number}).fetchone()

    application.serve(view)
    assert [repeat["kind"] for repeat in application.report["repeated"]] == ["n_plus_one"]


@pytest.mark.parametrize(("statement", "kinds"), [
    ("SELECT id FROM yarn WHERE id = {}", ["n_plus_one"]),
    ("SELECT id FROM yarn WHERE id = 1", ["duplicates"]),
    ("SELECT id FROM yarn ORDER BY id LIMIT 2 OFFSET {}", []),
    ("SELECT id FROM yarn WHERE style = {} LIMIT 2 OFFSET 0", ["n_plus_one"]),
])  # fmt: skip
def test_values_in_the_text_are_compared(
    connection: Any, application: QueryApplication, statement: str, kinds: list[str]
) -> None:
    def view() -> None:
        for number in range(6):
            connection.execute(statement.format(number)).fetchall()

    application.serve(view)
    assert [repeat["kind"] for repeat in application.report["repeated"]] == kinds


@pytest.mark.parametrize("values", [{"a": 3, "b": [1, 2]}, (3, [1, 2]), (3, (1, 2))])
def test_lists_as_parameters_count_by_their_content(values: Any) -> None:
    statement = Statement("", "", 1)
    for parameters in (values, [4, [1, 2]], values):
        add_parameters(statement, parameters)
    first, second, third = statement.parameter_hashes
    assert first == third != second
    assert statement.value_count == (9 if "[" in str(values) else 7)


@pytest.mark.parametrize(("setting", "counted", "where"), [
    ({"KNITPERF_QUERIES": False}, 0, None),
    ({"KNITPERF_QUERY_SITES": False}, 1, None),
])  # fmt: skip
def test_settings_switch_queries_or_their_lines_off(
    make_app: Callable[..., Mill],
    connection: Any,
    setting: dict[str, bool],
    counted: int,
    where: None,
) -> None:
    application = QueryApplication(make_app(TESTING=True, **setting))
    application.serve(lambda: connection.execute(ALL).fetchall())
    rows = application.mill.session.documents.queries("run")["queries"]
    assert sum(row["count"] for row in rows) == counted
    assert {caller["where"] for row in rows for caller in row["asked_by"]} <= {where}


def test_threads_that_share_a_request_count_in_total(
    connection: Any, application: QueryApplication
) -> None:
    import contextvars

    def view() -> None:
        contexts = [contextvars.copy_context() for _ in range(4)]
        lock = threading.Lock()

        def query() -> None:
            for _ in range(25):
                with lock:
                    connection.execute(YARN, (1,)).fetchone()

        threads = [threading.Thread(target=context.run, args=(query,)) for context in contexts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    application.serve(view)
    assert application.statements[YARN]["count"] == 100


def test_a_failure_of_ours_does_not_reach_the_application(
    connection: Any, application: QueryApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_knitperf.collectors.sql import fingerprint

    def broken(_: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(fingerprint.FINGERPRINTS, "of", broken)
    application.serve(lambda: connection.execute(ALL).fetchall())
    assert "queries failed" in application.mill.degraded()
