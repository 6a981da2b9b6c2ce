"""Figures of the report page: those of the JSON report."""

from __future__ import annotations

import re
from typing import Any

import pytest

from flask_knitperf.core.units import plain

from .reader import about, document, figures, page


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
