"""Plans of slow statements, on SQLite and a real PostgreSQL: the advice helps, and nothing changes."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flask_knitperf.analysis.statements import missing_index
from flask_knitperf.collectors.sql import compared_columns, explain
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.collectors.sql.explain import EXPLAIN_QUEUE, ExplainQueue, Plan, plan_of
from flask_knitperf.collectors.sql.fingerprint import fingerprint
from tests.conftest import Mill
from tests.reports.test_schemas import check

from .conftest import QueryApplication

SECRET = "hunter2"
ROWS = 3000


def fill(connection: Any) -> None:
    """Create a ledger without an index: 3000 payments of 300 invoices."""
    connection.execute(
        'CREATE TABLE payments (id INTEGER PRIMARY KEY, invoice TEXT, "Paid" INTEGER)'
    )
    connection.execute("CREATE TABLE invoices (invoice TEXT PRIMARY KEY, customer TEXT)")
    cursor = connection.cursor()
    mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
    cursor.executemany(
        f"INSERT INTO payments VALUES ({mark}, {mark}, {mark})",
        [(n, f"i{n % 300}", n % 97) for n in range(ROWS)],
    )
    cursor.executemany(f"INSERT INTO invoices VALUES ({mark}, {mark})",
                       [(f"i{n}", f"c{n % 30}") for n in range(300)])  # fmt: skip
    connection.commit()


@pytest.fixture(scope="session")
def server(postgres_url: str) -> str:
    """URL of a server with the ledger."""
    with closing(psycopg.connect(postgres_url)) as connection:
        fill(connection)
        connection.execute("ANALYZE payments")
        connection.commit()
    return postgres_url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def ledger(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A connection to a ledger whose changes are rolled back."""
    if request.param == "sqlite":
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            fill(connection)
            yield connection
    else:
        with closing(psycopg.connect(request.getfixturevalue("server"))) as connection:
            yield connection
            connection.rollback()


def with_placeholders(connection: Any, statement: str) -> str:
    return statement if isinstance(connection, sqlite3.Connection) else statement.replace("?", "%s")


def explained(connection: Any, statement: str, *values: Any, reads: bool = True) -> Plan:
    plan = plan_of(connection, with_placeholders(connection, statement), values, reads=reads)
    assert plan is not None
    return plan


def index_of(plan: Plan) -> str:
    [scan] = plan.scans
    return missing_index(scan.as_detail(), None).statement


BY_INVOICE = "SELECT sum(id) FROM payments WHERE invoice = ?"
CORRELATED = (
    "SELECT (SELECT sum(id) FROM payments p WHERE p.invoice = i.invoice) FROM invoices i"
    " WHERE i.customer = ? AND i.invoice <> ?"
)


@pytest.mark.parametrize(("statement", "columns"), [
    (BY_INVOICE, ("invoice",)),
    ("SELECT * FROM payments p WHERE p.invoice = ? AND p.id * 2 = ?", ("invoice",)),
    ('SELECT * FROM payments WHERE "Paid" > ? AND invoice = ?', ("invoice", "Paid")),
    (CORRELATED, ("invoice",)),
])  # fmt: skip
def test_the_advice_names_table_and_columns_and_the_planner_uses_it(
    ledger: Any, statement: str, columns: tuple[str, ...]
) -> None:
    values = {2: ("i7",), 3: ("c7", "i3")}.get(statement.count("?") + 1, ())
    if "Paid" in statement:
        values = (95, "i7")
    elif "* 2" in statement:
        values = ("i7", 14)
    before = explained(ledger, statement, *values)
    scan = next(scan for scan in before.scans if scan.table == "payments")
    assert scan.columns == columns
    assert scan.rows == ROWS
    ledger.execute(missing_index(scan.as_detail(), None).statement)
    if isinstance(ledger, psycopg.Connection):
        ledger.execute("ANALYZE payments")
    after = explained(ledger, statement, *values)
    assert "payments" not in [scan.table for scan in after.scans]
    assert any("ix_payments" in step or "ndex" in step or "Bitmap" in step for step in after.steps)


@pytest.mark.parametrize("statement", [
    "SELECT * FROM payments",
    "SELECT * FROM payments WHERE id = ?",
    "SELECT * FROM payments WHERE invoice = ? OR id = ?",
    "SELECT * FROM payments WHERE length(invoice) = ?",
    "SELECT * FROM invoices WHERE customer = ?",
])  # fmt: skip
def test_no_index_is_proposed_where_none_would_help(ledger: Any, statement: str) -> None:
    values = (7,) if "id = ?" in statement or "length" in statement else ("i7",)
    values = () if "?" not in statement else ("i7", 7) if " OR " in statement else values
    assert explained(ledger, statement, *values).scans == ()


def test_a_plan_holds_no_value(ledger: Any) -> None:
    assert SECRET not in str(explained(ledger, BY_INVOICE, SECRET))
    assert SECRET not in str(
        explained(ledger, f"SELECT id FROM payments WHERE invoice = '{SECRET}'")
    )


def test_a_write_is_not_run_again(ledger: Any) -> None:
    plan = explained(ledger, "DELETE FROM payments WHERE invoice = ?", "i7", reads=False)
    assert [scan.table for scan in plan.scans] == ["payments"]
    assert ledger.execute("SELECT count(*) FROM payments").fetchone()[0] == ROWS


# -- PostgreSQL ----------------------------------------------------------------------------------------


@pytest.fixture
def postgres(server: str) -> Iterator[Any]:
    with closing(psycopg.connect(server)) as connection:
        yield connection
        connection.rollback()


@pytest.mark.slow
def test_rows_are_counted_and_the_transaction_is_unchanged(postgres: Any) -> None:
    postgres.execute("INSERT INTO invoices VALUES ('new', 'c')")
    plan = explained(postgres, BY_INVOICE, "i7")
    [scan] = plan.scans
    assert (scan.rows, scan.exact, scan.matching, scan.passes) == (ROWS, True, 10, 1)
    postgres.execute("INSERT INTO invoices VALUES ('newer', 'c')")
    assert postgres.execute("SHOW statement_timeout").fetchone() == ("0",)
    assert postgres.execute("SELECT count(*) FROM invoices WHERE customer = 'c'").fetchone() == (2,)


@pytest.mark.slow
def test_a_statement_with_a_side_effect_is_only_planned(postgres: Any) -> None:
    postgres.execute("CREATE SEQUENCE numbers")
    plan = plan_of(
        postgres, "SELECT nextval('numbers') FROM payments WHERE invoice = 'i7'", (), reads=True
    )
    assert plan is not None
    [scan] = plan.scans
    assert not scan.exact and scan.rows == ROWS
    assert postgres.execute("SELECT nextval('numbers')").fetchone() == (1,)


@pytest.mark.slow
def test_a_statement_that_times_out_is_only_planned(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "STATEMENT_TIMEOUT_MS", 50)
    plan = plan_of(
        postgres, "SELECT pg_sleep(1) FROM payments WHERE invoice = 'i7'", (), reads=True
    )
    assert plan is not None and not plan.scans[0].exact


@pytest.mark.slow
@pytest.mark.parametrize("autocommit", [False, True])
def test_a_transaction_that_failed_or_is_busy_is_left_alone(server: str, autocommit: bool) -> None:
    with closing(psycopg.connect(server, autocommit=autocommit)) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nowhere")
        plan = plan_of(connection, "SELECT * FROM payments WHERE invoice = 'i7'", (), reads=True)
        assert (plan is None) == (not autocommit)
        connection.rollback()
        with connection.pipeline():
            assert plan_of(connection, "SELECT 1", (), reads=True) is None


def test_other_drivers_and_composed_statements_are_not_explained() -> None:
    assert plan_of(object(), "SELECT 1", (), reads=True) is None
    with closing(sqlite3.connect(":memory:")) as connection:
        assert plan_of(connection, b"SELECT 1", (), reads=True) is None


def test_without_a_parser_there_are_plans_and_no_advice(
    ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    plan = explained(ledger, BY_INVOICE, "i7")
    assert plan.steps and plan.scans == ()


def test_a_statement_that_the_parser_rejects_has_its_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sqlglot

    def reject(*_: Any, **__: Any) -> None:
        raise sqlglot.errors.ParseError("rejected")

    monkeypatch.setattr(sqlglot, "parse_one", reject)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        fill(connection)
        assert explained(connection, BY_INVOICE, "i7").scans == ()
    assert compared_columns.filter_columns("(a = 1)", {"t"}) == ()


# -- in requests ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(make_app: Callable[..., Mill], monkeypatch: pytest.MonkeyPatch) -> QueryApplication:
    """An application with a threshold that makes every statement slow."""
    monkeypatch.setattr(EXPLAIN_QUEUE, "queued", {})
    monkeypatch.setattr(EXPLAIN_QUEUE, "_explained_at", {})
    return QueryApplication(
        make_app(
            TESTING=True,
            KNITPERF_ACCESS=lambda _: True,
            KNITPERF_EXPLAIN=True,
            KNITPERF_SLOW_QUERY_MS=0.001,
        )
    )


@pytest.fixture
def explained_statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Statements that the database was to explain."""
    statements: list[str] = []

    def capture(connection: Any, statement: Any, *args: Any, **kwargs: Any) -> Plan | None:
        statements.append(statement)
        return plan_of(connection, statement, *args, **kwargs)

    monkeypatch.setattr(explain, "plan_of", capture)
    return statements


@pytest.fixture
def timed_ledger() -> Iterator[Any]:
    connect = wrap_connect(sqlite3.connect)
    with closing(connect(":memory:", check_same_thread=False, isolation_level=None)) as connection:
        fill(connection)
        yield connection


def test_the_next_execution_is_explained_once_and_reported(
    slow: QueryApplication, timed_ledger: Any, explained_statements: list[str]
) -> None:
    slow.serve(lambda: timed_ledger.execute(BY_INVOICE, (SECRET,)).fetchall(), times=4)
    assert explained_statements == [BY_INVOICE]
    document = slow.mill.session.documents.queries("run")
    check("queries-1", document)
    row = slow.queries[BY_INVOICE]
    assert row["count"] == 4
    assert row["plan"]["steps"] == ["SCAN payments"]
    assert row["plan"]["missing"] == [{
        "table": "payments", "columns": ["invoice"],
        "index": "CREATE INDEX ix_payments_invoice ON payments (invoice)",
        "seen": "reads about 3,000 rows of payments to return 1",
    }]  # fmt: skip
    finding = slow.findings()["SLOW_QUERY"]
    assert "which reads about 3,000 rows of payments to return 1" in finding["text"]
    assert "Add an index on payments(invoice): CREATE INDEX" in finding["recommendation"]
    assert SECRET not in str(document) + str(slow.mill.report())
    assert slow.mill.parts("ask")["explain"]["count"] == 1
    page = slow.mill.client.get("/perf/queries?window=run", headers={"Accept": "text/html"}).text
    assert "CREATE INDEX ix_payments_invoice ON payments (invoice)" in page


def test_an_engine_s_statements_are_explained_too(slow: QueryApplication, tmp_path: Path) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        fill(connection)
    slow.mill.perf.queries.instrument(engine)

    def view() -> None:
        with engine.connect() as connection:
            connection.execute(
                sa.text("SELECT sum(id) FROM payments WHERE invoice = :i"), {"i": "i7"}
            )

    slow.serve(view, times=3)
    assert slow.queries[BY_INVOICE]["plan"]["missing"]
    slow.mill.perf.queries.uninstrument(engine)
    engine.dispose()


def test_without_the_setting_nothing_is_explained(
    application: QueryApplication, timed_ledger: Any, explained_statements: list[str]
) -> None:
    application.serve(lambda: timed_ledger.execute(BY_INVOICE, ("i7",)).fetchall(), times=3)
    assert explained_statements == []
    assert application.queries[BY_INVOICE]["plan"] is None


def test_many_sets_of_parameters_are_not_explained(
    slow: QueryApplication, timed_ledger: Any
) -> None:
    statement = "DELETE FROM payments WHERE invoice = ?"
    slow.serve(lambda: timed_ledger.executemany(statement, [("i7",), ("i8",)]), times=3)
    assert slow.queries[statement]["plan"] is None


def test_a_failure_to_explain_is_reported_and_does_not_reach_the_application(
    slow: QueryApplication, timed_ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(explain, "plan_of", broken)
    slow.serve(lambda: timed_ledger.execute(BY_INVOICE, ("i7",)).fetchall(), times=3)
    assert "explaining queries failed 1 time" in slow.mill.degraded()
    assert slow.queries[BY_INVOICE]["count"] == 3


def test_a_fingerprint_is_explained_again_after_an_hour_and_the_queue_is_bounded() -> None:
    queue = ExplainQueue()
    slow = fingerprint(BY_INVOICE)
    queue.add(slow, 5.0)
    assert queue.queued.pop(slow.id) is slow
    queue._explained_at[slow.id] = 5.0
    queue.add(slow, 3604.0)
    assert not queue.queued
    queue.add(slow, 3605.0)
    assert list(queue.queued) == [slow.id]
    for number in range(100):
        queue.add(fingerprint(f"SELECT a{number}"), 1.0)
    assert len(queue.queued) == explain.MAX_QUEUED


@pytest.mark.parametrize(("scan", "returned", "text"), [
    ({"rows": 28653, "exact": True, "matching": 12, "passes": 1}, 3.0,
     "reads 28,653 rows of t to find 12"),
    ({"rows": 28653, "exact": False, "matching": None, "passes": None}, 12.0,
     "reads about 28,653 rows of t to return 12"),
    ({"rows": 1000, "exact": True, "matching": 1, "passes": 130}, None,
     "reads 1,000 rows of t, 130 times in one execution, to find 1"),
    ({"rows": 1000, "exact": True, "matching": None, "passes": None}, None, "reads 1,000 rows of t"),
])  # fmt: skip
def test_the_advice_describes_the_scan(
    scan: dict[str, Any], returned: float | None, text: str
) -> None:
    proposal = missing_index({"table": "t", "columns": ["a", "Of"], **scan}, returned)
    assert proposal.seen == text
    assert proposal.statement == 'CREATE INDEX "ix_t_a_Of" ON t (a, "Of")'
