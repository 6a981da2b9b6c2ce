"""The changes of a release on the overview: a few endpoints by name, the others by their number."""

from __future__ import annotations

from typing import Any, get_args

from flask_knitperf.analysis.regression import Change
from flask_knitperf.render.html_compare import release_changes


def test_each_endpoint_is_named_or_counted() -> None:
    changes = [*get_args(Change), "slower", "slower", "gone"]
    rows: list[Any] = [
        {
            "endpoint": f"e{number}", "method": "GET", "change": change, "p95_ms": 1.0,
            "p95_before_ms": 1.0, "count": 9, "count_before": 9, "needed": None, "ratio": None,
            "ratio_low": None, "ratio_high": None,
        }
        for number, change in enumerate(changes)
    ]  # fmt: skip
    document: Any = {
        "rows": rows, "window": {"release": "b"}, "against": {"release": "a"}, "hours": "different"
    }  # fmt: skip
    shown = release_changes(document)
    assert shown is not None and [row["change"] for row in shown["rows"]] == [
        "slower", "more rows", "faster"
    ]  # fmt: skip
    rest = {row["change"]: row["text"] for row in shown["rest"]}
    assert rest["slower"] == "2\xa0endpoints" and rest["not called since"] == "2\xa0endpoints"
    assert shown is not None and "may be that of the hours" in shown["hours"]
    assert "gone" not in rest  # the release may have served for a minute
