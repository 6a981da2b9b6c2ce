"""The list of endpoints, searched and sorted."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.core.errors import ConfigurationError
from flask_knitperf.render.endpoint_list import DEFAULT, SORTS, chosen


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


def names(query: str = "", sort: str = DEFAULT) -> list[str]:
    return [one["endpoint"] for one in chosen(ROWS, query, sort)]


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
    assert sort in dict(SORTS)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="one of excess, time, p95"):
        names(sort="x")
