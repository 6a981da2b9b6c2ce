"""The pages: for people and for programs, the same figures, and nothing that a name could break."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import cachetools
import pandas as pd
import pytest
from flask import Flask
from jinja2 import StrictUndefined

from flask_knitperf.collectors.memory import leak_detector

from .clients import TOKEN

BEARER = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
VOID = {"meta", "link", "br", "input", "img", "hr"}
PAGES = ("/perf/", "/perf/report", "/perf/queries", "/perf/memory")


class Page(HTMLParser):
    """A page taken apart; an unbalanced or unclosed element is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of {tag} is given twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((tuple(self.open), " ".join(data.split())))

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.texts)

    def inside(self, *tags: str) -> list[str]:
        return [text for path, text in self.texts if set(tags) <= set(path)]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def empty(make_open: Callable[..., Any]) -> Any:
    return make_open()


def page(mill: Any, path: str = "/perf/") -> Page:
    answer = mill.get(path, HTTP_ACCEPT=BROWSER, **BEARER)
    assert answer.header("Content-Type") == "text/html; charset=utf-8", answer.body
    return Page(answer.body.decode())


def document(mill: Any, path: str = "/perf/report") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mill.get(path, **BEARER).body)
    return found


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
    answer = empty.get(path, HTTP_ACCEPT=accept, **BEARER)
    assert (answer.code, answer.header("Content-Type").partition(";")[0]) == (200, kind)


@pytest.mark.parametrize("path", PAGES)
def test_a_browser_may_ask_for_json_by_hand(empty: Any, path: str) -> None:
    answer = empty.get(f"{path}?format=json", HTTP_ACCEPT=BROWSER, **BEARER)
    assert answer.header("Content-Type") == "application/json"


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
    answer = empty.send("HEAD", "/perf/report", **BEARER)
    assert (answer.code, answer.body) == (200, b"")


# -- form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["empty", "busy"])
def test_a_page_is_well_formed(request: pytest.FixtureRequest, which: str, path: str) -> None:
    assert page(request.getfixturevalue(which), path).all("html") == [{"lang": "en"}]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["empty", "busy"])
def test_no_value_that_is_missing_shows_as_code(
    request: pytest.FixtureRequest, which: str, path: str
) -> None:
    text = page(request.getfixturevalue(which), path).text
    assert not re.search(r"\b(None(?! is| was|\.)|nan|inf|undefined|null|True|False)\b|[{}]", text)


@pytest.mark.parametrize("which", ["empty", "busy"])
def test_the_headings_come_in_the_order_in_which_one_acts(
    request: pytest.FixtureRequest, which: str
) -> None:
    assert page(request.getfixturevalue(which)).inside("h2") == [
        "What to fix first", "Scorecard", "Endpoints", "Functions", "Workers and queue"
    ]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_one_main_heading_and_a_title(busy: Any, path: str) -> None:
    found = page(busy, path)
    assert len(found.inside("h1")) == 1 and len(found.inside("title")) == 1


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["empty", "busy"])
def test_a_page_needs_no_inline_style_and_no_script(
    request: pytest.FixtureRequest, which: str, path: str
) -> None:
    found = page(request.getfixturevalue(which), path)
    assert not found.all("script") and not found.all("style")
    attributes = {name for _, attrs in found.elements for name in attrs}
    assert not [name for name in attributes if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_asks_no_other_host_for_anything(busy: Any, path: str) -> None:
    places = [
        value
        for _, attrs in page(busy, path).elements
        for name, value in attrs.items()
        if name in ("href", "src", "action", "data", "poster") and value
    ]
    assert places and all(re.match(r"(/perf|\?window=|#|data:,$)", place) for place in places)


@pytest.mark.parametrize("path", PAGES)
def test_no_id_is_given_twice(busy: Any, path: str) -> None:
    ids = [attrs["id"] for _, attrs in page(busy, path).elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_endpoints_that_differ_in_punctuation_only_have_different_ids(empty: Any) -> None:
    names = ("a-b", "a_b", "a b", "a:b", "a/b")
    for name in names:
        empty.app.add_url_rule(f"/{ord(name[1])}", name, lambda: "x")
    for name in names:
        empty.get(f"/{ord(name[1])}")
    ids = [attrs["id"] for attrs in page(empty).all("details") if "id" in attrs]
    assert len(ids) == len(set(ids)) == 5


def test_every_link_within_a_page_leads_somewhere(busy: Any) -> None:
    found = page(busy)
    ids = {attrs.get("id") for _, attrs in found.elements}
    inner = [a["href"] for a in found.all("a") if (a.get("href") or "").startswith("#")]
    assert inner and {str(link)[1:] for link in inner} <= ids


@pytest.mark.parametrize("path", PAGES)
def test_every_picture_has_words_or_is_decoration(busy: Any, path: str) -> None:
    for svg in page(busy, path).all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg["aria-label"])


@pytest.mark.parametrize("path", PAGES)
def test_every_heading_of_a_table_says_what_it_heads(busy: Any, path: str) -> None:
    assert all(th.get("scope") in ("row", "col") for th in page(busy, path).all("th"))


def test_a_keyboard_can_skip_to_the_content(busy: Any) -> None:
    found = page(busy)
    assert found.all("a")[0]["href"] == "#content" and {"id": "content"} in found.all("main")


def test_severity_is_said_in_words(busy: Any) -> None:
    found = page(busy)
    badges = [
        text for path, text in found.texts if "span" in path and text in ("Critical", "Warning")
    ]
    assert len(badges) >= len(document(busy)["bottlenecks"]) > 0


# -- with nothing to show --------------------------------------------------------------------------


def test_an_empty_report_says_that_nothing_was_recorded(empty: Any) -> None:
    assert "No request was recorded in this window yet." in page(empty).text


def test_an_empty_report_meets_no_target(empty: Any) -> None:
    assert {row["ok"] for row in document(empty)["scorecard"]} == {None}


def test_an_application_without_faults_is_told_so(empty: Any) -> None:
    for _ in range(30):
        empty.get("/")
    assert "Nothing: every endpoint that was judged" in page(empty).text


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
        empty.session.profile.watch()
        empty.get("/")
        empty.session.profile.watch()
        seen.append(page(empty).text)
        return "x"

    empty.get("/"), empty.get("/busy")
    assert "Occupied" in page(empty).text


# -- the same figures everywhere -------------------------------------------------------------------

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


def figures(found: Page) -> list[dict[str, str]]:
    """Return the figures beside each endpoint, in the order of the page."""
    rows: list[dict[str, str]] = []
    label = None
    for path, text in found.texts:
        if "summary" not in path or "details" not in path:
            continue
        if path[-1] == "b":
            rows.append({"title": text})
        elif path[-1] == "small":
            label = text
        elif label is not None and rows:
            rows[-1][label], label = text, None
    return rows


def test_the_page_shows_the_endpoints_of_the_report_in_its_order(busy: Any) -> None:
    shown = [row["title"].lower().replace(" ", "_") for row in figures(page(busy))]
    exact = [row["endpoint"] for row in document(busy)["endpoints"]]
    assert [name for name in shown if name in exact] == [n for n in exact if n in shown]
    assert len(shown) == len(exact)


@pytest.mark.parametrize("figure", ["p50", "p95", "p99"])
def test_a_quantile_on_the_page_is_that_of_the_report(busy: Any, figure: str) -> None:
    rows = document(busy)["endpoints"]
    for shown, exact in zip(figures(page(busy)), rows, strict=True):
        assert about(shown[figure], exact[f"{figure}_ms"]), (shown, exact[f"{figure}_ms"])


def test_a_count_on_the_page_is_that_of_the_report(busy: Any) -> None:
    shown = [int(row["requests"].replace(",", "")) for row in figures(page(busy))]
    assert shown == [row["count"] for row in document(busy)["endpoints"]]


def test_the_excess_on_the_page_is_that_of_the_report(busy: Any) -> None:
    for shown, exact in zip(figures(page(busy)), document(busy)["endpoints"], strict=True):
        assert about(shown["beyond"], exact["excess_s"] * 1000 or None)


def test_the_findings_on_the_page_are_those_of_the_report(busy: Any) -> None:
    heads = [text for path, text in page(busy).texts if "h3" in path]
    assert heads and heads == [
        finding["text"].partition(". ")[0].rstrip(".") + "."
        for finding in document(busy)["bottlenecks"]
    ]


def test_the_scorecard_on_the_page_is_that_of_the_report(busy: Any) -> None:
    text = page(busy).text
    for row in document(busy)["scorecard"]:
        assert row["target"] in text and (row["actual"] or "–") in text


def test_the_functions_on_the_page_are_those_of_the_report(busy: Any) -> None:
    text = page(busy).text
    rows = document(busy)["functions"]
    assert rows and all(row["name"] in text and row["where"] in text for row in rows)


def test_the_requests_in_the_headline_are_the_sum_of_the_report(busy: Any) -> None:
    total = sum(row["count"] for row in document(busy)["endpoints"])
    assert f"{total:,} requests" in page(busy).text


def test_the_parts_on_the_page_are_those_of_the_report(busy: Any) -> None:
    text = page(busy).text
    names = [part["name"] for row in document(busy)["endpoints"] for part in row["parts"]]
    assert "section:read workbooks" in names and all(name in text for name in names)


def test_the_queue_on_the_page_is_that_of_the_report(busy: Any) -> None:
    found = re.search(r"Requests wait (.+?) before .*?95 % within (.+?)\)", page(busy).text)
    assert found is not None
    queue = document(busy)["queue"]
    assert about(found[1], queue["p50_ms"]) and about(found[2], queue["p95_ms"])


def test_the_limits_of_the_report_are_on_the_page(busy: Any) -> None:
    (sentence,) = document(busy)["self"]["degraded"]
    assert "'gone'" in sentence and sentence in page(busy).text


def test_the_release_is_on_the_page(busy: Any) -> None:
    assert "2024.11" in page(busy).inside("code")


def test_the_memory_on_the_page_is_that_of_the_report(busy: Any) -> None:
    text, exact = page(busy, "/perf/memory").text, document(busy, "/perf/memory")
    (worker,) = exact["workers"]
    for figure in (worker["rss_mb"], worker["peak_mb"], exact["total_rss_mb"]):
        assert f"{figure} MB" in text


def test_what_the_housekeeper_did_is_on_the_page(busy: Any) -> None:
    (did,) = document(busy, "/perf/memory")["housekeeper"]
    text = page(busy, "/perf/memory").text
    assert did["why"] in text and f"{did['freed_mb']} MB" in text and f"{did['objects']:,}" in text


def test_registered_caches_are_on_the_page(busy: Any) -> None:
    assert document(busy, "/perf/memory")["caches"] == [
        {
            "name": "yarn",
            "type": "LRUCache",
            "entries": 0,
            "size": 0,
            "max_size": 10,
            "hit_rate": None,
        }
    ]
    assert "LRUCache" in page(busy, "/perf/memory").text


# -- hostile names ---------------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'--><svg onload=alert(1)>",
    "{{ 'owned'*2 }}{% raw %}", "\u202eevil\u202c", "ß" * 300, "a&lt;b", "</title></style></textarea>",
    "javascript:alert(1)", "x\x00y",
    "\ud83e\uddf6 yarn".encode("utf-16", "surrogatepass").decode("utf-16"),
)  # fmt: skip


def harmless(found: Page) -> None:
    """Assert that no name became an element, an attribute or a template."""
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "img", "style", "textarea", "iframe"}
    attributes = {name for _, attrs in found.elements for name in attrs}
    assert not [name for name in attributes if name.startswith("on")]
    schemes = {urlsplit((a.get("href") or "").strip()).scheme for a in found.all("a")}
    assert schemes <= {"", "http", "https"}
    assert "ownedowned" not in found.text


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", ["endpoint", "section", "function", "cache", "release", "rule"])
def test_a_hostile_name_is_only_text(make_open: Callable[..., Any], kind: str, name: str) -> None:
    mill = make_open(**({"KNITPERF_RELEASE": name} if kind == "release" else {}))
    profiled = mill.perf.profiler.profile_endpoint(name)(lambda: None)

    def it() -> str:
        if kind == "section":
            with mill.perf.section(name):
                return "x"
        if kind == "function":
            profiled()
        return "x"

    mill.app.add_url_rule("/it/x", name if kind == "endpoint" else "it", it)
    if kind == "rule":
        mill.app.add_url_rule("/" + re.sub("[<>]", "", name), "it")
    cache = cachetools.LRUCache(1)
    if kind == "cache":
        mill.session.caches.register(cache, None, name)
    for _ in range(3):
        mill.get("/it/x")
    for path in ("/perf/", "/perf/memory"):
        harmless(page(mill, path))


def test_a_hostile_application_name_is_only_text(make_open: Callable[..., Any]) -> None:
    mill = make_open(name='"><script>alert(1)</script>')
    harmless(page(mill))
    assert "<script>" in page(mill).text


def test_a_hostile_window_is_only_text(empty: Any) -> None:
    answer = empty.get(
        "/perf/report?window=%3Cscript%3Ealert(1)%3C/script%3E", HTTP_ACCEPT=BROWSER, **BEARER
    )
    harmless(Page(answer.body.decode()))


def test_names_are_escaped_in_an_application_that_escapes_nothing(
    make_open: Callable[..., Any],
) -> None:
    mill = make_open()
    mill.app.jinja_env.autoescape = False
    mill.app.add_url_rule("/it", HOSTILE[0], lambda: "x")
    mill.get("/it")
    harmless(page(mill))


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["empty", "busy"])
def test_pages_use_no_undefined_value(
    request: pytest.FixtureRequest, which: str, path: str
) -> None:
    mill = request.getfixturevalue(which)
    mill.app.jinja_env.undefined = StrictUndefined
    assert page(mill, path).inside("h1")


def test_the_applications_own_context_processors_do_not_change_a_page(busy: Any) -> None:
    before = page(busy).text
    names = ("report", "shown", "window", "windows", "style", "csrf", "config_name", "row")
    processors = busy.app.template_context_processors[None]
    processors.append(lambda: dict.fromkeys(names, "spoilt"))
    assert page(busy).text == before


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
    answer = empty.get(f"/perf/report?window={window}", **BEARER)
    assert answer.code == 400
    assert "5m, 1h, run, previous" in json.loads(answer.body)["error"]


def test_a_window_that_does_not_exist_is_explained_on_a_page_too(empty: Any) -> None:
    answer = empty.get("/perf/?window=2h", HTTP_ACCEPT=BROWSER, **BEARER)
    assert answer.code == 400 and "one of 5m, 1h, run, previous" in Page(answer.body.decode()).text


@pytest.mark.parametrize("testing", [True, False], ids=["in memory", "on disk"])
def test_the_previous_run_is_a_404_where_there_is_none(
    make_open: Callable[..., Any], testing: bool
) -> None:
    mill = make_open(TESTING=testing)
    mill.get("/")
    answer = mill.get("/perf/report?window=previous", **BEARER)
    assert answer.code == 404 and "no previous run" in json.loads(answer.body)["error"]


# -- the stylesheet --------------------------------------------------------------------------------


def test_the_stylesheet_has_an_address_of_its_own_version(empty: Any) -> None:
    (link,) = (a for a in page(empty).all("link") if a["rel"] == "stylesheet")
    answer = empty.get(str(link["href"]), **BEARER)
    assert answer.header("ETag").strip('"') == str(link["href"]).partition("v=")[2]


def test_the_stylesheet_is_kept_by_the_browser(empty: Any) -> None:
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


def test_live_frames_are_on_the_page_once_somebody_asked(busy: Any) -> None:
    frame = pd.DataFrame({"of the page": range(100_000)})
    assert "Nobody has asked yet" in page(busy, "/perf/memory").text
    assert busy.send("POST", "/perf/command/frames", **BEARER).code == 200
    text = page(busy, "/perf/memory").text
    assert "of the page" in text
    assert "100,000 × 1" in text
    assert len(frame) == 100_000


def test_what_a_plan_would_save_is_told_for_live_frames(busy: Any) -> None:
    frame = pd.DataFrame({"small numbers": [7] * 100_000})
    busy.send("POST", "/perf/command/frames", **BEARER)
    (told,) = document(busy, "/perf/memory")["live_frames"]
    (row,) = [row for row in told["frames"] if row["names"] == list(frame.columns)]
    assert row["saves_mb"] == pytest.approx(0.381, abs=0.01)


def test_a_worker_that_leaks_is_told_on_the_page(busy: Any) -> None:
    recorder = busy.session.recorder
    figures = {"grown_bytes": 4e6, "requests": 9_000.0, "seconds": 600.0, "p_value": 1e-9}
    for figure, value in figures.items():
        recorder.record((recorder.series(leak_detector.GROWTH, figure), value))
    for figure, value in {"bytes_per_request": 2_048.0, "grown_bytes": 3e6, "pairs": 90.0}.items():
        recorder.record((recorder.series(leak_detector.LEAK, "fast", "GET", figure), value))
    text = page(busy, "/perf/memory").text
    assert "Yes: 1 of 1 worker grew by 3.8 MB over 9,000 requests" in text
    assert "keeps per request" in text
    assert "2.0 KB" in text
    assert document(busy, "/perf/memory")["suspects"][0]["endpoint"] == "fast"
    assert "LEAK_SUSPECTED" in {row["type"] for row in busy.report()["bottlenecks"]}


def test_what_a_decorator_saved_is_told(busy: Any) -> None:
    @busy.perf.memory.memory_efficient(level="compact")
    def stock() -> pd.DataFrame:
        return pd.DataFrame({"n": [7] * 500_000})

    assert "stock" not in str(document(busy, "/perf/memory")["decorated"])
    stock(), stock()
    rows = document(busy, "/perf/memory")["decorated"]
    (row,) = [row for row in rows if row["function"].endswith("told.<locals>.stock")]
    assert (row["frames"], row["before_mb"], row["after_mb"]) == (2, 7.629, 0.954)
    assert "Frames made smaller" in page(busy, "/perf/memory").text
