"""The page of comparisons: two windows, releases, and any span of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from flask_knitperf.history.databases import database
from flask_knitperf.history.store import Mark, opened
from flask_knitperf.history.writer import DEPLOY
from flask_knitperf.reports.json_schema import json_schema
from tests.conftest import Mill


@pytest.fixture
def mill(make_app: Callable[..., Mill]) -> Mill:
    """An application with a history of one request."""
    mill = make_app(KNITPERF_ACCESS=lambda _: True, KNITPERF_RELEASE="2.14.0")
    mill.get("/")
    history = mill.session.history
    assert history is not None
    with history._lock:
        history._write(0)
    return mill


def add_release(mill: Mill, name: str, age_s: float) -> None:
    with opened(database(mill.session.settings.history_url)) as store:
        mark = Mark(time.time() - age_s, DEPLOY, {"release": name})
        store.add_mark(store.source("other host"), mark)


def get(mill: Mill, **query: str) -> Any:
    return mill.app.test_client().get("/perf/compare", query_string=query)


def test_without_a_choice_the_last_day_is_compared_with_that_of_the_week_before(mill: Mill) -> None:
    document = get(mill).get_json()
    jsonschema.validate(document, json_schema("compare"))
    assert document["window"]["name"] == "24h" and document["against"]["name"] == "span"
    assert [(row["endpoint"], row["change"]) for row in document["rows"]] == [("index", "new")]
    assert document["releases"] == ["2.14.0"]


def test_a_release_is_compared_with_an_earlier_one(mill: Mill) -> None:
    add_release(mill, "2.13.2", 7200)
    add_release(mill, "2.13.1", 9000)
    document = get(mill, against="2.13.2").get_json()
    assert document["releases"] == ["2.14.0", "2.13.2", "2.13.1"]
    bounds = [datetime.fromisoformat(document["against"][key]) for key in ("from", "to")]
    assert document["against"]["release"] == "2.13.2"
    assert 7000 < (bounds[1] - bounds[0]).total_seconds() <= 7260
    again = get(mill, against="2.14.0").get_json()
    assert {row["change"] for row in again["rows"]} <= {"too few", "same"}


def test_an_unknown_release_is_a_sentence_that_names_those_there_are(mill: Mill) -> None:
    response = get(mill, against="9.9")
    assert response.status_code == 409
    assert response.get_json()["error"].endswith("does not have the release '9.9'; it has 2.14.0")


def test_a_browser_gets_a_page(mill: Mill) -> None:
    add_release(mill, "<b>\u202e", 7200)
    shown = mill.app.test_client().get("/perf/compare", headers={"Accept": "text/html"}).text
    assert "the week before" in shown and "release &lt;b&gt;\\u202e" in shown and "new" in shown
    assert "<b>" not in shown


@pytest.mark.parametrize("path", ["report", "queries", "cache", "compare"])
def test_any_span_of_time_is_a_window(mill: Mill, path: str) -> None:
    now = datetime.now(UTC).timestamp()
    bounds = {
        name: datetime.fromtimestamp(at, UTC).isoformat()
        for name, at in (("since", now - 600), ("until", now + 60))
    }
    for query in (bounds, {"since": bounds["since"]}, {"window": "/".join(bounds.values())}):
        response = mill.app.test_client().get(f"/perf/{path}", query_string=query)
        assert response.status_code == 200 and response.get_json()["window"]["name"] == "span"
        page = mill.app.test_client().get(
            f"/perf/{path}", query_string=query, headers={"Accept": "text/html"}
        )
        assert page.status_code == 200


def test_a_span_has_the_requests_in_it_alone(mill: Mill) -> None:
    now = time.time()
    for begin, end, number in ((600, -60, 1), (7200, 3600, 0)):
        span = "/".join(datetime.fromtimestamp(now - age, UTC).isoformat() for age in (begin, end))
        rows = mill.session.documents.report(span)["endpoints"]
        assert sum(row["count"] for row in rows) == number


@pytest.mark.parametrize(
    "query",
    [
        {"since": "yesterday"}, {"until": "2026-11-29"}, {"window": "/"}, {"window": "a/b/c"},
        {"since": "2026-11-29T12:00", "until": "2026-11-29T11:00"}, {"since": "\0"},
        {"since": "0001-01-01", "until": "9999-12-31"}, {"since": "2026-11-29", "until": "2026-11-29"},
    ],
)  # fmt: skip
def test_bounds_that_make_no_sense_are_refused(mill: Mill, query: dict[str, str]) -> None:
    response = mill.app.test_client().get("/perf/report", query_string=query)
    assert response.status_code == 400 and "ISO 8601" in response.get_json()["error"]


def test_without_a_history_this_run_is_compared_with_the_previous_one(
    make_app: Callable[..., Mill],
) -> None:
    mill = make_app(KNITPERF_ACCESS=lambda _: True, KNITPERF_HISTORY=False)
    mill.get("/")
    assert get(mill).status_code == 409
    assert get(mill, window="run", against="run").get_json()["rows"][0]["endpoint"] == "index"
    for against in ("last-week", "2.13.2", "2026-11-29T08:00/2026-11-29T12:00"):
        response = get(mill, window="run", against=against)
        assert response.status_code == 409 and "history" in response.get_json()["error"]


@pytest.mark.parametrize(
    ("path", "name"), [("report", "endpoints"), ("queries", "queries"), ("compare", "comparison")]
)
def test_tables_are_files_for_a_spreadsheet(mill: Mill, path: str, name: str) -> None:
    response = mill.app.test_client().get(
        f"/perf/{path}?format=csv", headers={"Accept": "text/html"}
    )
    assert response.mimetype == "text/csv"
    assert response.headers["Content-Disposition"] == f"attachment; filename={name}.csv"
    if path != "queries":  # it sent none
        assert "endpoint,method" in response.text.replace("endpoint,rule,method", "endpoint,method")
        assert "index" in response.text
