"""Repeated queries as causes of an endpoint's time: price, repair, and the causes that they were in."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.analysis import endpoints as reading
from flask_knitperf.analysis.causes import why
from flask_knitperf.analysis.findings import Finding, findings
from flask_knitperf.analysis.repeated_queries import with_repeats

from .tables import LIMITS, Budget, Mill

FORTY = [100.0] * 40  # requests of 100 ms each


def mill(where: str = "app.py:9", *, sql: float = 10, avoidable: float = 80, **more: Any) -> Mill:
    """Return an endpoint with an N+1: milliseconds of a request in its statements, and its price."""
    kind, source = more.get("kind", "n_plus_one"), more.get("source", "lazy")
    table = Mill().requests("orders", FORTY)
    table.sampled("orders", wall=100, cpu=more.get("cpu", 100))
    table.counter("part", "orders", "GET", "sql", ms=sql * 40, count=40)
    table.counter("query_at", "orders", "GET", "f1", where, ms=sql * 40, count=4000)
    labels = ("orders", "GET", kind, "f1", where)
    table.counter("repeated", *labels, source, ms=sql * 40, count=4000)
    table.counter("repeating", *labels, ms=avoidable * 40, count=40)
    for name, ms in more.get("parts", {}).items():
        table.counter("part", "orders", "GET", name, ms=ms * 40, count=40)
    return table


def causes(table: Mill) -> list[tuple[str, float, str | None]]:
    """Return the causes of the endpoint with its repeats apart."""
    [row] = reading.endpoints(table.readings, LIMITS)
    separate, _ = with_repeats(row, why(row))
    return [(cause.cause, cause.share, cause.where) for cause in separate]


def of_type(table: Mill, name: str, limits: Any = LIMITS) -> Finding:
    rows = reading.endpoints(table.readings, limits)
    return next(one for one in findings(table.readings, rows, limits) if one.type == name)


def test_an_n_plus_one_is_priced_with_the_work_around_its_statements() -> None:
    finding = of_type(mill(), "N_PLUS_ONE")
    assert (
        finding.saving == pytest.approx((3.2, 80.0, 0.8, False)) and finding.severity == "WARNING"
    )
    assert finding.why[0].share == 0.8
    assert "80 % of its time is spent running a query 100 times per request" in finding.text


def test_the_estimates_of_a_price_are_compared_over_all_requests() -> None:
    table = mill(avoidable=80)
    labels = ("orders", "GET", "n_plus_one", "f1", "app.py:9")
    table.counter("repeating_bound", *labels, ms=60 * 40, count=40)
    finding = of_type(table, "N_PLUS_ONE")
    assert finding.saving is not None and finding.saving.share == 0.6


def test_a_cheap_n_plus_one_is_a_note() -> None:
    finding = of_type(mill(sql=4, avoidable=9), "N_PLUS_ONE")
    assert finding.severity == "INFO" and finding.saving is not None


def test_a_price_is_never_more_than_the_time_of_the_endpoint() -> None:
    finding = of_type(mill(avoidable=300), "N_PLUS_ONE")
    assert finding.saving is not None and finding.saving.share == 1
    assert finding.saving.seconds == finding.time_spent_s
    assert finding.why[0].share == 1


def test_two_findings_never_claim_the_same_time() -> None:
    table = mill(avoidable=70)
    labels = ("orders", "GET", "duplicates", "f2", "app.py:11")
    table.counter("repeated", *labels, "plain", ms=200, count=400)
    table.counter("repeating", *labels, ms=50 * 40, count=40)
    shares = [of_type(table, name).saving for name in ("N_PLUS_ONE", "DUPLICATE_QUERIES")]
    assert [share and share.share for share in shares] == [0.7, pytest.approx(0.3)]


def test_its_time_is_taken_from_the_database_and_from_the_code_that_sends_it() -> None:
    assert causes(mill()) == [("sql", 0.8, "app.py:9"), ("own_cpu", 0.2, None)]


def test_queries_of_a_template_are_taken_from_its_rendering() -> None:
    parts = {"render:list.html": 70, "section:totals": 15}
    table = mill("templates/list.html:7", parts=parts)
    shares = causes(table)
    assert shares == [
        ("sql", 0.8, "templates/list.html:7"), ("section", 0.15, None), ("own_cpu", 0.05, None),
    ]  # fmt: skip


def test_queries_of_a_section_are_taken_from_it_where_nothing_else_has_the_time() -> None:
    table = mill(parts={"section:orders": 85})
    assert causes(table) == [("sql", 0.8, "app.py:9"), ("section", 0.2, None)]


@pytest.mark.parametrize("avoidable", [5, 80, 99, 1000])
def test_shares_never_pass_the_whole(avoidable: float) -> None:
    table = mill(avoidable=avoidable, parts={"render:list.html": 40, "hook:auth": 10})
    labels = ("orders", "GET", "duplicates", "f2", "app.py:11")
    table.counter("repeated", *labels, "plain", ms=200, count=400)
    table.counter("repeating", *labels, ms=2400, count=40)
    assert sum(share for _, share, _ in causes(table)) <= 1.0001


def test_a_slow_endpoint_gets_the_advice_for_its_n_plus_one() -> None:
    table = mill("templates/list.html:7", parts={"render:list.html": 85})
    limits = type(LIMITS)(budgets={"orders": _budget(50)})
    finding = of_type(table, "SLOW_RESPONSE", limits)
    assert "joinedload()" in finding.recommendation
    assert "(templates/list.html:7)" in finding.text


def test_a_slow_endpoint_with_a_cheap_n_plus_one_gets_the_advice_for_its_largest_cause() -> None:
    table = mill("app.py:9", sql=4, avoidable=9, parts={"render:list.html": 85})
    limits = type(LIMITS)(budgets={"orders": _budget(50)})
    assert "Render less" in of_type(table, "SLOW_RESPONSE", limits).recommendation


def test_repeats_of_two_requests_are_not_a_cause_yet() -> None:
    table = Mill().requests("orders", [100.0] * 2).sampled("orders", wall=100, cpu=100)
    table.counter("query_at", "orders", "GET", "f1", "app.py:9", ms=20, count=200)
    labels = ("orders", "GET", "n_plus_one", "f1", "app.py:9")
    table.counter("repeated", *labels, "lazy", ms=20, count=200)
    table.counter("repeating", *labels, ms=160, count=2)
    assert [cause for cause, _, _ in causes(table)] == ["own_cpu"]


def _budget(slow_ms: float) -> Any:
    return Budget(slow_ms=slow_ms, moderate_ms=slow_ms)
