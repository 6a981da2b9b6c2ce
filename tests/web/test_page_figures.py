"""Figures of the report page: those of the JSON report."""

from __future__ import annotations

import re
from typing import Any

import pytest

from flask_knitperf.core.units import plain

from .reader import Page, document, page

UNITS = {"µs": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0, "h": 3_600_000.0}


def in_ms(text: str) -> float | None:
    """Read a duration back."""
    if text == "–":
        return None
    number, unit = text.split()
    return float(number.replace(",", "")) * UNITS[unit]


def about(shown: str, exact: float | None) -> bool:
    """Return whether a shown duration is the exact one, rounded to at least two digits."""
    read = in_ms(shown)
    if exact is None or read is None:
        return exact is None and read is None
    return abs(read - exact) <= max(0.051 * exact, 0.001)


def figures(shown: Page) -> list[dict[str, str]]:
    """Return the figures beside each endpoint, in the order of the page."""
    rows: list[dict[str, str]] = []
    label = None
    for path, text in shown.texts:
        if "summary" not in path or "details" not in path:
            continue
        if path[-1] == "b":
            rows.append({"title": text})
        elif path[-1] == "small":
            label = text
        elif label is not None and rows:
            rows[-1][label], label = text, None
    return rows


def test_the_page_shows_the_endpoints_of_the_report_in_its_order(shared_busy: Any) -> None:
    shown = [row["title"].lower().replace(" ", "_") for row in figures(page(shared_busy))]
    exact = [row["endpoint"] for row in document(shared_busy)["endpoints"]]
    assert [name for name in shown if name in exact] == [n for n in exact if n in shown]
    assert len(shown) == len(exact)


@pytest.mark.parametrize("figure", ["p50", "p95", "p99"])
def test_a_quantile_on_the_page_is_that_of_the_report(shared_busy: Any, figure: str) -> None:
    rows = document(shared_busy)["endpoints"]
    for shown, exact in zip(figures(page(shared_busy)), rows, strict=True):
        assert about(shown[figure], exact[f"{figure}_ms"]), (shown, exact[f"{figure}_ms"])


def test_a_count_on_the_page_is_that_of_the_report(shared_busy: Any) -> None:
    shown = [int(row["requests"].replace(",", "")) for row in figures(page(shared_busy))]
    assert shown == [row["count"] for row in document(shared_busy)["endpoints"]]


def test_the_excess_on_the_page_is_that_of_the_report(shared_busy: Any) -> None:
    for shown, exact in zip(
        figures(page(shared_busy)), document(shared_busy)["endpoints"], strict=True
    ):
        assert about(shown["over threshold"], exact["excess_s"] * 1000 or None)


def test_the_cards_on_the_page_are_those_of_the_report(shared_busy: Any) -> None:
    heads = [text for path, text in page(shared_busy).texts if "h3" in path]
    cards = document(shared_busy)["cards"]
    assert heads and heads == [f"{plain(card['title'])}." for card in cards]


def test_the_scorecard_on_the_page_is_that_of_the_report(shared_busy: Any) -> None:
    text = page(shared_busy).text
    for row in document(shared_busy)["scorecard"]:
        assert plain(row["target"]) in text and plain(row["actual"] or "–") in text


def test_the_functions_on_the_page_are_those_of_the_report(shared_busy: Any) -> None:
    text = page(shared_busy).text
    rows = document(shared_busy)["functions"]
    assert rows and all(row["name"] in text and row["where"] in text for row in rows)


def test_the_requests_in_the_headline_are_the_sum_of_the_report(shared_busy: Any) -> None:
    total = sum(row["count"] for row in document(shared_busy)["endpoints"])
    assert f"{total:,} requests" in page(shared_busy).text


def test_the_parts_on_the_page_are_those_of_the_report(shared_busy: Any) -> None:
    text = page(shared_busy).text
    names = [part["name"] for row in document(shared_busy)["endpoints"] for part in row["parts"]]
    assert "section:read workbooks" in names and all(name in text for name in names)


def test_the_queue_on_the_page_is_that_of_the_report(shared_busy: Any) -> None:
    match = re.search(r"Queue time .*?: p50 (.+?), p95 (.+?)\.", page(shared_busy).text)
    assert match is not None
    queue = document(shared_busy)["queue"]
    assert about(match[1], queue["p50_ms"]) and about(match[2], queue["p95_ms"])


def test_the_limits_of_the_report_are_on_the_page(shared_busy: Any) -> None:
    (sentence,) = document(shared_busy)["self"]["degraded"]
    assert "'gone'" in sentence and sentence in page(shared_busy).text


def test_the_release_is_on_the_page(shared_busy: Any) -> None:
    assert "2024.11" in page(shared_busy).inside("code")
