"""Pages for browsers, JSON for programs; windows; errors; the stylesheet."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from .clients import BEARER
from .reader import BROWSER, PAGES, Page, document, page

# -- for people and for programs -------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (BROWSER, "text/html"), ("text/html", "text/html"), ("*/*", "application/json"),
        (None, "application/json"), ("", "application/json"),
        ("application/json", "application/json"), ("text/plain", "application/json"),
        ("application/json, text/html", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html, application/json;q=0.5", "text/html"), ("gibberish", "application/json"),
        ("text/html;q=0", "application/json"),
    ],
)  # fmt: skip
def test_a_browser_gets_the_page_and_everything_else_gets_json(
    empty: Any, path: str, accept: str | None, kind: str
) -> None:
    response = empty.get(path, HTTP_ACCEPT=accept, **BEARER)
    assert (response.code, response.header("Content-Type").partition(";")[0]) == (200, kind)


@pytest.mark.parametrize("path", PAGES)
def test_a_browser_may_request_json_explicitly(empty: Any, path: str) -> None:
    response = empty.get(f"{path}?format=json", HTTP_ACCEPT=BROWSER, **BEARER)
    assert response.header("Content-Type") == "application/json"


@pytest.mark.parametrize(
    ("path", "schema"),
    [("/perf/report", "flask-knitperf/report/1"), ("/perf/memory", "flask-knitperf/memory/1")],
)
def test_json_names_its_schema(empty: Any, path: str, schema: str) -> None:
    assert document(empty, path)["schema"] == schema


def test_the_pages_need_no_slash_at_the_end_of_the_prefix(empty: Any) -> None:
    assert empty.get("/perf", **BEARER).code == empty.get("/perf/", **BEARER).code == 200


def test_the_first_page_is_the_report(busy: Any) -> None:
    assert page(busy, "/perf/").text == page(busy, "/perf/report").text


def test_a_head_of_a_page_has_no_body(empty: Any) -> None:
    response = empty.send("HEAD", "/perf/report", **BEARER)
    assert (response.code, response.body) == (200, b"")


# -- windows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", ["5m", "1h", "run"])
def test_a_window_is_named_in_its_report(empty: Any, window: str) -> None:
    assert document(empty, f"/perf/report?window={window}")["window"]["name"] == window


@pytest.mark.parametrize("window", ["5m", "1h", "run"])
def test_the_page_marks_its_window(empty: Any, window: str) -> None:
    links = page(empty, f"/perf/?window={window}").all("a")
    assert [a["href"] for a in links if a.get("aria-current") == "true"] == [f"?window={window}"]


@pytest.mark.parametrize("window", ["", "2h", "1H", "run ", "0", "../..", "<b>", "x" * 5000])
def test_a_window_that_does_not_exist_is_a_400_that_names_those_that_do(
    empty: Any, window: str
) -> None:
    response = empty.get(f"/perf/report?window={window}", **BEARER)
    assert response.code == 400
    assert "5m, 1h, 6h, 24h, 7d, 30d, run, previous" in json.loads(response.body)["error"]


def test_a_window_that_does_not_exist_is_explained_on_a_page_too(empty: Any) -> None:
    response = empty.get("/perf/?window=2h", HTTP_ACCEPT=BROWSER, **BEARER)
    assert (
        response.code == 400
        and "one of 5m, 1h, 6h, 24h, 7d, 30d, run, previous" in Page(response.body.decode()).text
    )


@pytest.mark.parametrize("testing", [True, False], ids=["in memory", "on disk"])
def test_the_previous_run_is_a_404_where_there_is_none(
    make_open: Callable[..., Any], testing: bool
) -> None:
    mill = make_open(TESTING=testing)
    mill.get("/")
    response = mill.get("/perf/report?window=previous", **BEARER)
    assert response.code == 404 and "no previous run" in json.loads(response.body)["error"]


# -- the stylesheet --------------------------------------------------------------------------------


def test_the_address_of_the_stylesheet_names_its_version(empty: Any) -> None:
    (link,) = (a for a in page(empty).all("link") if a["rel"] == "stylesheet")
    response = empty.get(str(link["href"]), **BEARER)
    assert response.header("ETag").strip('"') == str(link["href"]).partition("v=")[2]


def test_the_browser_caches_the_stylesheet(empty: Any) -> None:
    first = empty.get("/perf/style.css", **BEARER)
    again = empty.get("/perf/style.css", HTTP_IF_NONE_MATCH=first.header("ETag"), **BEARER)
    assert (again.code, again.body) == (304, b"") and "immutable" in first.header("Cache-Control")


def test_the_stylesheet_loads_nothing(empty: Any) -> None:
    css = empty.get("/perf/style.css", **BEARER).body.decode()
    assert "@import" not in css and "url(" not in css


def test_the_pages_work_in_an_application_with_its_own_error_handlers(empty: Any) -> None:
    empty.app.register_error_handler(Exception, lambda error: ("ours", 500))
    assert empty.get("/perf/report?window=2h", **BEARER).code == 400


def test_the_extension_brings_no_template_that_an_application_could_use_by_accident() -> None:
    app = Flask("bare")
    assert "knitperf_duration" not in app.jinja_env.filters
