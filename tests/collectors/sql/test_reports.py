"""Queries in findings, pages and the terminal, with a suitable fix and without secrets."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf import KnitPerf, NPlusOneError
from flask_knitperf.cli.commands import knitperf
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.collectors.sql.request_queries import QUERY_COUNTER
from flask_knitperf.core.units import plain
from flask_knitperf.metrics.catalogue import QUERY
from flask_knitperf.render import terminal, terminal_queries
from tests.conftest import Mill
from tests.reports.test_schemas import check

from .conftest import QueryApplication, line_of

YARN = "SELECT name FROM yarn WHERE id = ?"


@pytest.fixture
def connection(database: Path) -> Iterator[Any]:
    with closing(wrap_connect(sqlite3.connect)(database, check_same_thread=False)) as wrapped:
        yield wrapped


def query_rows(connection: Any, times: int = 10) -> None:
    for number in range(times):
        connection.execute(YARN, (number,)).fetchone()  # one query per row


# -- findings ------------------------------------------------------------------------------------------


def test_an_n_plus_one_is_reported_with_line_count_and_fix(
    connection: Any, application: QueryApplication
) -> None:
    application.serve(lambda: query_rows(connection, 12), times=3)
    finding = application.findings()["N_PLUS_ONE"]
    where = f"sql/test_reports.py:{line_of(__file__, 'one query per row')}"
    assert finding["text"].startswith("Ask: runs one query per row (N+1): 12 per request.")
    assert where in finding["text"] and YARN in finding["text"]
    assert "WHERE … IN (…)" in finding["recommendation"]
    assert finding["confidence"] == "sure: 3 of 3 requests"
    assert finding["why"][0]["where"] == where
    assert 0 < finding["saving"]["share"] <= 1


def test_two_requests_are_not_a_finding_yet(connection: Any, application: QueryApplication) -> None:
    application.serve(lambda: query_rows(connection), times=2)
    assert "N_PLUS_ONE" not in application.findings()


def test_duplicate_queries_are_reported_separately_with_their_saving(
    connection: Any, application: QueryApplication
) -> None:
    def view() -> None:
        for _ in range(5):
            connection.execute(YARN, (1,)).fetchone()

    application.serve(view, times=3)
    findings = application.findings()
    assert "N_PLUS_ONE" not in findings
    finding = findings["DUPLICATE_QUERIES"]
    assert "repeats the same query 4 times per request" in finding["text"]  # after the first of 5
    assert 0 < finding["saving"]["share"] < 1


@pytest.mark.parametrize(
    "commented",
    [
        "{0} /*traceparent='00-{1}-01'*/",
        "/* request {1} */ {0}",
        "/*a*/ /*{1}*/\n{0}\n/*b*/ /*{1}*/ ;",
        "{0} -- traceparent='00-{1}-01'",
        "--traceparent='00-{1}-01'\n{0}",
        "SELECT /* it's {1} */ name FROM yarn WHERE id = ?",
    ],
)
@pytest.mark.parametrize("times", [5, 12])
def test_comments_make_no_difference(
    connection: Any, application: QueryApplication, commented: str, times: int
) -> None:
    numbers = itertools.count()

    def view() -> None:
        for _ in range(times):
            connection.execute(commented.format(YARN, next(numbers)), (1,)).fetchone()

    application.serve(view, times=3)
    findings = application.findings()
    assert "N_PLUS_ONE" not in findings
    text = findings["DUPLICATE_QUERIES"]["text"]
    assert f"repeats the same query {times - 1} times per request" in text


def test_texts_that_differ_outside_of_comments_are_no_duplicates(
    connection: Any, application: QueryApplication
) -> None:
    def view() -> None:
        for number in range(4):
            connection.execute(
                f"SELECT name /*+ i{number} */ FROM yarn WHERE id = ?", (1,)
            ).fetchone()
            connection.execute(f"SELECT '-- {number}' FROM yarn /* a */").fetchone()

    application.serve(view, times=3)
    assert "DUPLICATE_QUERIES" not in application.findings()


def test_pages_with_comments_are_still_pages(
    connection: Any, application: QueryApplication
) -> None:
    numbers = itertools.count()

    def view() -> None:
        for page in range(6):
            comment = f"-- traceparent='{next(numbers)}'"
            text = f"SELECT name FROM yarn LIMIT 5 OFFSET {5 * page} {comment}"
            connection.execute(text).fetchall()

    application.serve(view, times=3)
    assert "N_PLUS_ONE" not in application.findings()


@pytest.mark.parametrize("way", ["block", "decorator"])
def test_an_allowed_n_plus_one_is_not_a_finding(
    connection: Any, application: QueryApplication, way: str
) -> None:
    perf = application.mill.perf

    def block() -> None:
        with perf.queries.allow_n_plus_one():
            query_rows(connection)

    decorated = perf.queries.allow_n_plus_one()(query_rows)
    application.serve(block if way == "block" else lambda: decorated(connection), times=3)
    assert "N_PLUS_ONE" not in application.findings()
    assert application.statements[YARN]["count"] == 30
    with perf.queries.allow_n_plus_one():
        pass


def test_queries_outside_such_a_block_still_are(
    connection: Any, application: QueryApplication
) -> None:
    def view() -> None:
        with application.mill.perf.queries.allow_n_plus_one():
            connection.execute("SELECT 1")
        query_rows(connection)

    application.serve(view, times=3)
    assert "N_PLUS_ONE" in application.findings()


def test_a_budget_of_queries_makes_more_a_finding(
    connection: Any, application: QueryApplication
) -> None:
    perf, app = application.mill.perf, application.mill.app

    @app.get("/few")
    @perf.budget(queries=3)
    def few() -> str:
        query_rows(connection, 3)
        return "ok"

    @app.get("/many")
    @perf.budget(queries=3)
    def many() -> str:
        query_rows(connection, 4)
        return "ok"

    for _ in range(4):
        application.mill.get("/few"), application.mill.get("/many")
    bottlenecks = application.mill.report()["bottlenecks"]
    findings = [f for f in bottlenecks if f["type"] == "TOO_MANY_QUERIES"]
    assert [finding["endpoint"] for finding in findings] == ["many"]
    assert findings[0]["text"].startswith("Many: every request runs more than 3 queries.")
    assert (findings[0]["observed"], findings[0]["threshold"]) == (4, 3)
    assert YARN in findings[0]["why"][0]["detail"]


def test_a_slow_statement_is_reported_with_its_share(timed: Mill, time: Any) -> None:
    class Slow(sqlite3.Connection):
        def execute(self, *args: Any) -> Any:
            time.pass_(0.3)
            return super().execute(*args)

    application = QueryApplication(timed)
    with closing(wrap_connect(lambda: sqlite3.connect(":memory:", factory=Slow))()) as connection:
        application.serve(lambda: connection.execute("SELECT 5"), times=4)
    finding = application.findings()["SLOW_QUERY"]
    assert "one of its queries takes 300 ms (p95)" in finding["text"]
    assert "waiting for one query: SELECT ?" in finding["text"]
    assert finding["why"][0]["share"] == 1.0
    assert finding["confidence"].endswith("4 of 4 executions")
    assert application.mill.perf.queries.analyze_slow_queries("run")[0]["p95_ms"] == pytest.approx(
        300, rel=0.01
    )


# -- tests of applications -----------------------------------------------------------------------------


def test_n_plus_one_raises_where_a_test_forbids_it(
    connection: Any, application: QueryApplication
) -> None:
    queries = application.mill.perf.queries
    with (
        pytest.raises(
            NPlusOneError, match=r"GET ask sends 10 queries at .*test_reports.py"
        ) as caught,
        queries.raise_on_n_plus_one(),
    ):
        application.serve(lambda: query_rows(connection))
    assert len(caught.value.findings) == 1 and YARN in caught.value.findings[0]
    assert QUERY_COUNTER.listeners == []
    with queries.raise_on_n_plus_one():
        application.mill.get("/")


def test_an_error_of_the_test_takes_precedence(
    connection: Any, application: QueryApplication
) -> None:
    def test() -> None:
        with application.mill.perf.queries.raise_on_n_plus_one():
            application.serve(lambda: query_rows(connection))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        test()
    assert QUERY_COUNTER.listeners == []


@pytest.mark.slow
def test_the_pytest_fixture_fails_a_test_with_an_n_plus_one(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("""
        import sqlite3
        import pytest
        from flask import Flask
        from flask_knitperf import KnitPerf

        @pytest.fixture
        def client():
            app = Flask("mill")
            app.testing = True
            perf = KnitPerf(app)
            database = perf.queries.wrap_connect(sqlite3.connect)(":memory:", check_same_thread=False)

            @app.get("/<int:times>")
            def view(times):
                for number in range(times):
                    database.execute("SELECT ?", (number,)).fetchone()
                return "ok"

            yield app.test_client()
            app.extensions["knitperf"].close()
            database.close()

        def test_few(client, no_n_plus_one):
            client.get("/2")

        def test_many(client, no_n_plus_one):
            client.get("/20")
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*NPlusOneError*", "*GET view sends 20 queries at *"])


# -- pages ---------------------------------------------------------------------------------------------


@pytest.fixture
def queried(connection: Any, application: QueryApplication) -> QueryApplication:
    """An application with an N+1, duplicates and a failed query."""

    def view() -> None:
        query_rows(connection)
        for _ in range(4):
            connection.execute("SELECT id FROM style").fetchall()
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("SELECT * FROM <b>gone</b>")

    application.serve(view, times=3)
    return application


def test_reports_match_their_schemas(queried: QueryApplication) -> None:
    session = queried.mill.session
    check("report-1", session.documents.report("run"))
    check("queries-1", session.documents.queries("run"))
    document = session.documents.why("ask", name="run").document
    check("why-1", document)
    check("request-1", session.documents.request(document["requests"]["latest"][0]["id"], "run")[0])


def test_the_page_lists_statements_and_repeats(
    make_app: Callable[..., Mill], database: Path
) -> None:
    application = QueryApplication(
        make_app(TESTING=True, KNITPERF_ACCESS=lambda _: True, PROPAGATE_EXCEPTIONS=False)
    )
    connections: list[Any] = []
    application.mill.app.add_url_rule("/bad", "bad", lambda: connections[0].execute("SELECT <b>"))
    application.mill.app.add_url_rule("/ask", "ask", lambda: (query_rows(connections[0]), "ok")[1])
    empty = application.mill.client.get("/perf/queries", headers={"Accept": "text/html"}).text
    assert "No queries in this window" in empty
    line = "connect = perf.queries.wrap_connect(sqlite3.connect)"
    assert line in empty
    shown = terminal_queries.queries(application.mill.session.documents.queries("run"))
    assert line in " ".join(shown.split())
    with closing(wrap_connect(sqlite3.connect)(database, check_same_thread=False)) as connection:
        connections.append(connection)
        for path in ("/ask", "/ask", "/ask", "/bad"):
            application.mill.get(path)
    page = plain(
        application.mill.client.get(
            "/perf/queries?window=run", headers={"Accept": "text/html"}
        ).text
    )
    assert YARN in page and "N+1: 10 per request" in page and "one query per row (N+1)" in page
    assert "<b>" not in page.partition("<main")[2] and "Fails" in page
    why = plain(
        application.mill.client.get(
            "/perf/why?of=ask&window=run", headers={"Accept": "text/html"}
        ).text
    )
    assert "10 queries per request" in why and "one query per row (N+1)" in why
    document = application.mill.client.get("/perf/queries?window=run").get_json()
    assert YARN in [row["text"] for row in document["queries"]]  # a busy machine sets the order


def test_the_terminal_shows_them_in_eighty_columns(queried: QueryApplication) -> None:
    text = terminal_queries.queries(queried.mill.session.documents.queries("run"))
    assert YARN in text and "GET ask: 10 per request, one per row" in text
    assert "3 failed" in text
    assert max(map(len, text.splitlines())) <= 80
    why = terminal.why(queried.mill.session.documents.why("ask", name="run").document)
    assert "QUERIES" in why and max(map(len, why.splitlines())) <= 80


def test_queries_on_disk_are_read_without_the_application(
    make_app: Callable[..., Mill], connection: Any
) -> None:
    from flask_knitperf.reports.offline import Offline

    mill = make_app()
    mill.app.cli.add_command(knitperf)
    application = QueryApplication(mill)
    application.serve(lambda: query_rows(connection), times=3)
    mill.session.recorder.worker.fold()
    state = mill.session.settings.state_dir
    assert (
        Offline(state).queries("run")["queries"] == mill.session.documents.queries("run")["queries"]
    )
    result = mill.app.test_cli_runner().invoke(args=["knitperf", "queries", "--window", "run"])
    assert result.exit_code == 0 and YARN in result.output
    result = mill.app.test_cli_runner().invoke(args=["knitperf", "queries", "--json"])
    assert 30 in [row["count"] for row in json.loads(result.output)["queries"]]


def test_without_an_application_there_is_nothing_to_report() -> None:
    from flask_knitperf import KnitPerfError

    with pytest.raises(KnitPerfError, match="no application is current"):
        KnitPerf().queries.analyze_slow_queries()


# -- bounds and secrets --------------------------------------------------------------------------------


def test_statements_beyond_the_limit_are_one_row_and_counted(
    connection: Any, application: QueryApplication
) -> None:
    def view() -> None:
        for number in range(QUERY.limit + 20):
            connection.execute(f"SELECT id AS a{number} FROM yarn").fetchone()

    application.serve(view)
    document = application.mill.session.documents.queries("run")
    assert len(document["queries"]) <= QUERY.limit + 1
    [rest] = [row for row in document["queries"] if row["shape"] == "<other>"]
    assert rest["text"] == "(other statements)" and rest["count"] == 20
    assert document["dropped"]["query"] >= 20
    assert sum(row["count"] for row in document["queries"]) == QUERY.limit + 20
    assert "of other statements are counted in one row" in terminal_queries.queries(document)


def test_no_secret_of_a_statement_is_stored_or_shown(
    make_app: Callable[..., Mill], database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter2"
    application = QueryApplication(make_app(PROPAGATE_EXCEPTIONS=False))
    with closing(wrap_connect(sqlite3.connect)(database, check_same_thread=False)) as connection:

        def view() -> None:
            for number in range(6):
                connection.execute(YARN, (f"{secret}{number}",)).fetchone()
                connection.execute(
                    f"SELECT name FROM yarn WHERE name = '{secret}{number}'"
                ).fetchall()
            connection.execute(f"SELECT '{secret}'' FROM yarn")  # its message quotes it

        def fails() -> None:
            with pytest.raises(sqlite3.OperationalError):
                view()

        application.serve(fails, times=3)
        session = application.mill.session
        session.reservoir.tick(at_once=True)
        documents = [session.documents.report("run"), session.documents.queries("run")]
        documents += [session.documents.why("ask", name="run").document]
        documents += [
            session.documents.request(row["id"], "run")[0]
            for row in documents[-1]["requests"]["latest"]
        ]
        session.recorder.worker.fold()
    assert secret not in json.dumps(documents) + caplog.text
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert files and not [path for path in files if secret.encode() in path.read_bytes()]
