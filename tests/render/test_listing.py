"""Lists of endpoints and queries, searched and sorted."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.core.errors import ConfigurationError
from flask_knitperf.render.listing import ENDPOINTS, QUERIES


def row(endpoint: str, **values: Any) -> Any:
    return {
        "endpoint": endpoint, "rule": f"/{endpoint}", "method": "GET", "excess_s": 0.0,
        "time_spent_s": 0.0, "p95_ms": None, "count": 0, "status": {"5xx": 0}, **values,
    }  # fmt: skip


ROWS = [
    row("Orders.list", excess_s=1.0, time_spent_s=5.0, p95_ms=10.0, count=9),
    row("orders.show", excess_s=2.0, p95_ms=30.0, status={"5xx": 3}),
    row("yarn", rule=None, method="POST", count=100, time_spent_s=1.0),
]


def names(query: str = "", sort: str = "excess") -> list[str]:
    return [one["endpoint"] for one in ENDPOINTS.chosen(ROWS, query, sort)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["orders.show", "Orders.list", "yarn"]), ("ORDERS", ["orders.show", "Orders.list"]),
        ("list orders", ["Orders.list"]), ("/orders.show", ["orders.show"]), ("post", ["yarn"]),
        ("orders yarn", []), ("x" * 200, []), ("  ", ["orders.show", "Orders.list", "yarn"]),
    ],
)  # fmt: skip
def test_a_search_has_all_words_in_any_order_and_case(query: str, expected: list[str]) -> None:
    assert names(query) == expected


@pytest.mark.parametrize(
    ("sort", "first"),
    [("excess", "orders.show"), ("time", "Orders.list"), ("p95", "orders.show"), ("requests", "yarn"),
     ("failures", "orders.show"), ("name", "Orders.list")],
)  # fmt: skip
def test_each_order_has_its_first(sort: str, first: str) -> None:
    assert names(sort=sort)[0] == first
    assert sort in dict(ENDPOINTS.sorts)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="one of excess, time, p95"):
        names(sort="x")


def query(text: str, **values: Any) -> Any:
    return {
        "text": text, "count": 1, "errors": 0, "time_spent_s": 0.0, "p95_ms": None, "rows_mean": None,
        "asked_by": [], **values,
    }  # fmt: skip


STATEMENTS = [
    query(
        "SELECT * FROM yarn",
        count=7,
        rows_mean=3.0,
        asked_by=[{"endpoint": "stock", "where": None}],
    ),
    query("DELETE FROM lots", time_spent_s=2.0, errors=4),
    query("insert into lots", p95_ms=9.0, asked_by=[{"endpoint": "knit", "where": "a.py:7"}]),
]


@pytest.mark.parametrize(
    ("words", "expected"),
    [("", 3), ("lots", 2), ("stock", 1), ("a.py:7 LOTS", 1), ("none", 0)],
)
def test_a_query_is_searched_by_its_text_and_its_senders(words: str, expected: int) -> None:
    assert len(QUERIES.chosen(STATEMENTS, words, QUERIES.default)) == expected


@pytest.mark.parametrize(
    ("sort", "first"),
    [("time", "DELETE FROM lots"), ("calls", "SELECT * FROM yarn"), ("p95", "insert into lots"),
     ("rows", "SELECT * FROM yarn"), ("failures", "DELETE FROM lots"), ("text", "DELETE FROM lots")],
)  # fmt: skip
def test_each_order_of_queries_has_its_first(sort: str, first: str) -> None:
    assert QUERIES.chosen(STATEMENTS, "", sort)[0]["text"] == first
    assert sort in dict(QUERIES.sorts)
