"""Form of the pages: well-formed, accessible, and honest where there is nothing to show."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from jinja2 import UndefinedError

from flask_knitperf.web.pages import _TEMPLATES

from ..conftest import FakeTime
from ..runtime.applications import without_thread
from .clients import BEARER, TOKEN
from .reader import BROWSER, PAGES, document, page

pytestmark = pytest.mark.usefixtures("shared_busy")  # created before a test requests it by name


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["empty", "shared_busy"])
def test_a_page_is_well_formed(request: pytest.FixtureRequest, which: str, path: str) -> None:
    assert page(request.getfixturevalue(which), path).all("html") == [{"lang": "en"}]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["empty", "shared_busy"])
def test_no_value_that_is_missing_shows_as_code(
    request: pytest.FixtureRequest, which: str, path: str
) -> None:
    text = page(request.getfixturevalue(which), path).text
    assert not re.search(r"\b(None(?! is| was|\.)|nan|inf|undefined|null|True|False)\b|[{}]", text)


@pytest.mark.parametrize("which", ["empty", "shared_busy"])
def test_the_headings_come_in_the_order_of_action(
    request: pytest.FixtureRequest, which: str
) -> None:
    assert page(request.getfixturevalue(which)).inside("h2") == [
        "Now", "What to fix first", "Targets", "Load", "Endpoints", "Functions", "Workers and queue"
    ]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_one_main_heading_and_a_title(shared_busy: Any, path: str) -> None:
    shown = page(shared_busy, path)
    assert len(shown.inside("h1")) == 1 and len(shown.inside("title")) == 1


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["empty", "shared_busy"])
def test_a_page_has_no_inline_style_and_one_script_in_a_file(
    request: pytest.FixtureRequest, which: str, path: str
) -> None:
    shown = page(request.getfixturevalue(which), path)
    assert not shown.all("script") and not shown.all("style")
    assert len(shown.all("own-script")) == 1
    attributes = {name for _, attrs in shown.elements for name in attrs}
    assert not [name for name in attributes if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_from_another_host(shared_busy: Any, path: str) -> None:
    places = [
        value
        for _, attrs in page(shared_busy, path).elements
        for name, value in attrs.items()
        if name in ("href", "src", "action", "data", "poster") and value
    ]
    assert places and all(re.match(r"(/perf|\?window=|#|data:,$)", place) for place in places)


@pytest.mark.parametrize("path", PAGES)
def test_ids_are_unique(shared_busy: Any, path: str) -> None:
    ids = [attrs["id"] for _, attrs in page(shared_busy, path).elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_endpoints_that_differ_in_punctuation_only_have_different_ids(empty: Any) -> None:
    names = ("a-b", "a_b", "a b", "a:b", "a/b")
    for name in names:
        empty.app.add_url_rule(f"/{ord(name[1])}", name, lambda: "x")
    for name in names:
        empty.get(f"/{ord(name[1])}")
    ids = [attrs["id"] for attrs in page(empty).all("details") if "id" in attrs]
    assert len(ids) == len(set(ids)) == 5


def test_every_link_within_a_page_leads_somewhere(shared_busy: Any) -> None:
    shown = page(shared_busy)
    ids = {attrs.get("id") for _, attrs in shown.elements}
    inner = [a["href"] for a in shown.all("a") if (a.get("href") or "").startswith("#")]
    assert inner and {str(link)[1:] for link in inner} <= ids


@pytest.mark.parametrize("path", PAGES)
def test_every_picture_has_a_label_or_is_decoration(shared_busy: Any, path: str) -> None:
    for svg in page(shared_busy, path).all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg["aria-label"])


@pytest.mark.parametrize("path", PAGES)
def test_every_heading_of_a_table_has_a_scope(shared_busy: Any, path: str) -> None:
    assert all(th.get("scope") in ("row", "col") for th in page(shared_busy, path).all("th"))


def test_a_keyboard_can_skip_to_the_content(shared_busy: Any) -> None:
    shown = page(shared_busy)
    assert shown.all("a")[0]["href"] == "#content" and {"id": "content"} in shown.all("main")


def test_severity_is_written_out(shared_busy: Any) -> None:
    shown = page(shared_busy)
    badges = [
        text for path, text in shown.texts if "span" in path and text in ("Critical", "Warning")
    ]
    assert len(badges) >= len(document(shared_busy)["cards"]) > 0


# -- with nothing to show --------------------------------------------------------------------------


def test_an_empty_report_states_that_no_requests_were_recorded(empty: Any) -> None:
    assert "No requests recorded in this window yet." in page(empty).text


def test_an_empty_report_meets_no_target(empty: Any) -> None:
    assert {row["ok"] for row in document(empty)["scorecard"]} == {None}


def test_an_application_without_faults_has_nothing_to_fix(empty: Any) -> None:
    for _ in range(30):
        empty.get("/")
    assert "Nothing to fix: the one judged endpoint is within the thresholds." in page(empty).text


def test_an_application_with_too_few_requests_is_not_praised(empty: Any) -> None:
    for _ in range(3):
        empty.get("/")
    assert document(empty)["coverage"]["judged"] == 0
    assert "No endpoint can be judged yet: that takes three requests" in page(empty).text


def test_an_endpoint_that_was_only_ever_killed_is_on_the_page(empty: Any) -> None:
    @empty.app.get("/stuck")
    def stuck() -> str:
        raise SystemExit

    with pytest.raises(SystemExit):
        empty.get("/stuck")
    assert "Killed by the server" in page(empty).text


def test_an_endpoint_that_is_only_in_flight_is_on_the_page(empty: Any) -> None:
    seen: list[str] = []

    @empty.app.get("/busy")
    def occupied() -> str:
        empty.session.profile.in_flight.tick()
        empty.get("/")
        empty.session.profile.in_flight.tick()
        seen.append(page(empty).text)
        return "x"

    empty.get("/"), empty.get("/busy")
    assert "Occupied" in page(empty).text


def test_endpoints_are_searched_and_sorted_by_parameters(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: True)
    mill.get("/")
    client = mill.app.test_client()

    def shown(**query: str) -> str:
        response = client.get("/perf/", query_string=query, headers={"Accept": "text/html"})
        assert response.status_code == 200
        return str(response.text)

    assert 'id="GET-index"' in shown(q="INDEX get", sort="name") or "<code>GET /" in shown(
        q="INDEX"
    )
    assert "0 of " in shown(q='"><script>') and "<script>" not in shown(q='"><script>')
    assert client.get("/perf/?sort=x", headers={"Accept": "text/html"}).status_code == 400


def test_the_overview_opens_with_a_damaged_history_and_states_that(
    make_app: Callable[..., Any], time: FakeTime
) -> None:
    mill = without_thread(make_app(KNITPERF_ACCESS_TOKEN=TOKEN), time.clock())
    mill.get("/")
    time.pass_(60)
    mill.session.history._write(0)
    address = mill.session.settings.history_url
    for row in (b"\x01", b"\x01\x04\xff\xff\xff\xff\x7f\x00", b"\xff"):
        with closing(sqlite3.connect(address, isolation_level=None)) as rows:
            rows.execute("UPDATE knitperf_rows SET data = ?", (row,))
        assert "a row of the history is damaged" in page(mill, "/perf/?window=run").text


def test_queries_are_searched_and_sorted_by_parameters(empty: Any) -> None:
    connect = empty.perf.queries.wrap_connect(sqlite3.connect)

    def lots() -> str:
        with closing(connect(":memory:")) as connection:
            connection.execute("select 1 as yarn").fetchall()
            connection.execute("select 2 as lots, 3 as yarn").fetchall()
        return "lots"

    empty.app.add_url_rule("/lots", "lots", lots)
    empty.get("/lots")

    def shown(query: str) -> list[str]:
        listed = page(empty, f"/perf/queries?{query}")
        return [text for path, text in listed.texts if "summary" in path and path[-1] == "code"]

    texts = shown("sort=text")
    assert len(texts) == 2 and texts == sorted(texts)
    assert len(shown("q=yarn")) == 2 and len(shown("q=LOTS%2C+select")) == 1 and not shown("q=none")
    response = empty.get("/perf/queries?sort=x", HTTP_ACCEPT=BROWSER, **BEARER)
    assert response.code == 400


def test_a_template_reads_fields_of_documents_and_still_calls_methods_of_dicts() -> None:
    template = _TEMPLATES.from_string(
        "{{ row.count }} {{ row.items() | length }} {{ name.upper() }}"
    )
    assert template.render(row={"count": 3, "items": 7}, name="mill") == "3 2 MILL"
    with pytest.raises(UndefinedError):
        _TEMPLATES.from_string("{{ row.missing }}").render(row={"count": 3})
