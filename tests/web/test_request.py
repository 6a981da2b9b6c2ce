"""The page of one request, the lists it is reached from, and the header for browsers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.collectors.requests.server_timing import server_timing
from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

from .clients import LOCAL, TOKEN, cookies_of, form
from .test_pages import BEARER, BROWSER, Page, page

HOT = StackFrame("mill/explode.py", 41, "explode", True)


@pytest.fixture
def mill(make_open: Callable[..., Any], time: Any) -> Any:
    """An application with one request of a view that has parts."""
    made = make_open()
    made.session.recorder.clock = time.clock()

    @made.app.get("/plan/<kind>")
    def plan(kind: str) -> str:
        made.session.recorder.span().ensure_notes().sampled = Sampled(
            {(HOT,): [300_000_000, 0, 6, 0]}
        )
        with made.perf.section("read & check"):
            time.pass_(0.25)
            with made.perf.section("join"):
                time.pass_(0.5)
        return kind

    made.get("/plan/yarn")
    return made


def only(mill: Any) -> str:
    """Return the address of the one request's page."""
    found = json.loads(mill.get("/perf/why?of=plan&window=run", **BEARER).body)
    return f"/perf/request?window=run&id={found['requests']['latest'][0]['id']}"


def words(found: Page) -> str:
    return " ".join(" ".join(found.inside("main")).split())


def test_the_page_of_an_endpoint_lists_its_requests_with_a_link(mill: Any) -> None:
    found = page(mill, "/perf/why?of=plan&window=run")
    said = words(found)
    assert "The slowest (1)" in said and "The latest (1)" in said
    assert "750 ms slow 200 section:join, 500 ms – first of its worker, sampled" in said
    links = [a["href"] for a in found.all("a") if "/perf/request" in (a.get("href") or "")]
    assert len(links) == 2 and mill.get(links[0], HTTP_ACCEPT=BROWSER, **BEARER).code == 200


def test_a_request_is_opened_up(mill: Any) -> None:
    said = words(page(mill, only(mill)))
    assert "Plan: 750 ms slow" in said and "GET /plan/<kind>" in said
    assert "Own CPU 0 µs" in said and "Other waiting 750 ms" in said
    assert "section:read & check 0 µs 750 ms –" in said
    assert "› section:join 250 ms 500 ms –" in said
    assert "section:join 500 ms 67 % 1" in said
    assert "Its own stacks" in said and "All of Plan" in said


def test_its_timeline_is_a_picture_without_script_or_style(mill: Any) -> None:
    found = page(mill, only(mill))
    assert not found.all("script") and not [r for r in found.all("rect") if "style" in r]
    bars = [(r["x"], r["width"]) for r in found.all("rect") if r.get("class") == "section"]
    assert bars == [("0.0", "1200.0"), ("400.0", "800.0")]
    assert "section:join: 500 ms, from 250 ms on" in found.inside("g", "title")


def test_programs_get_a_request_as_json(mill: Any) -> None:
    found = json.loads(mill.get(only(mill), **BEARER).body)
    assert found["schema"] == "flask-knitperf/request/1"
    assert (found["endpoint"], found["ms"], found["slow"], found["rule"]) == (
        "plan", 750, True, "/plan/<kind>"
    )  # fmt: skip


def test_a_request_that_is_not_kept_is_explained(mill: Any) -> None:
    answer = mill.get("/perf/request?id=%3Cscript%3E", HTTP_ACCEPT=BROWSER, **BEARER)
    assert answer.code == 409 and b"is not kept in this window" in answer.body
    assert b"<script>" not in answer.body


def test_where_nothing_is_kept_the_page_says_how_to_change_that(
    make_open: Callable[..., Any],
) -> None:
    mill = make_open(KNITPERF_REQUEST_DETAILS=False)
    mill.get("/")
    said = words(page(mill, "/perf/why?of=index&window=run"))
    assert "None was kept in this window: KNITPERF_REQUEST_DETAILS is off." in said


# -- Server-Timing -----------------------------------------------------------------------------------


def viewer(mill: Any) -> str:
    """Return what a signed-in browser sends with every request to the application."""
    answer = mill.send("POST", "/perf/sign-in", **form(token=TOKEN))
    said = cookies_of(answer)["knitperf_viewer"]
    assert "; Path=/; " in said and "HttpOnly; SameSite=Strict" in said
    return said.partition(";")[0]


def test_who_is_signed_in_sees_where_the_time_of_any_page_went(mill: Any) -> None:
    for _ in range(300):
        mill.get("/")  # usual requests by now
    told = mill.get("/plan/yarn", HTTP_COOKIE=f"a=b; {viewer(mill)}").header("Server-Timing")
    assert told.startswith("total;dur=750.00, ")
    assert told.endswith(
        'p0;desc="section:join";dur=500.00, p1;desc="section:read & check";dur=250.00'
    )
    assert mill.get("/", HTTP_COOKIE=viewer(mill)).header("Server-Timing") == "total;dur=0.00"


@pytest.mark.parametrize("cookie", [
    None, "knitperf_viewer=1.x.y", "knitperf_viewer=", "knitperf_viewer", "x=knitperf_viewer",
])  # fmt: skip
def test_nobody_else_is_told(mill: Any, cookie: str | None) -> None:
    assert mill.get("/plan/yarn", HTTP_COOKIE=cookie).header("Server-Timing") is None


def test_a_session_is_no_viewer_and_a_viewer_opens_no_page(mill: Any) -> None:
    answer = mill.send("POST", "/perf/sign-in", **form(token=TOKEN))
    session = cookies_of(answer)["knitperf"].partition(";")[0].partition("=")[2]
    seen = viewer(mill).partition("=")[2]
    forged = f"knitperf_viewer={session}"
    assert mill.get("/plan/yarn", HTTP_COOKIE=forged).header("Server-Timing") is None
    assert mill.get("/perf/report", HTTP_COOKIE=f"knitperf={seen}").code == 404
    assert mill.get("/perf/report", HTTP_COOKIE=f"knitperf_viewer={seen}").code == 404


def test_a_viewer_of_another_token_sees_nothing(make_open: Callable[..., Any], mill: Any) -> None:
    other = make_open(name="other", KNITPERF_ACCESS_TOKEN="another-long-token!")
    said = cookies_of(other.send("POST", "/perf/sign-in", **form(token="another-long-token!")))
    cookie = said["knitperf_viewer"].partition(";")[0]
    assert other.get("/", HTTP_COOKIE=cookie).header("Server-Timing") is not None
    assert mill.get("/", HTTP_COOKIE=cookie).header("Server-Timing") is None


def test_signing_out_ends_that_too(mill: Any) -> None:
    answer = mill.send("POST", "/perf/sign-in", **form(token=TOKEN))
    cookie = cookies_of(answer)["knitperf"].partition(";")[0]
    shown = Page(mill.get("/perf/", HTTP_COOKIE=cookie, HTTP_ACCEPT=BROWSER).body.decode())
    csrf = next(each["value"] for each in shown.all("input") if each.get("name") == "csrf")
    gone = mill.send("POST", "/perf/sign-out", HTTP_COOKIE=cookie, **form(csrf=csrf))
    assert "knitperf_viewer=; Path=/; Max-Age=0" in cookies_of(gone)["knitperf_viewer"]


def test_in_debug_mode_every_answer_to_this_machine_tells(make_open: Callable[..., Any]) -> None:
    mill = make_open(DEBUG=True, KNITPERF_ACCESS_TOKEN=None)
    told = [mill.get("/", **LOCAL).header("Server-Timing") for _ in range(300)]
    assert all(told)
    assert mill.get("/").header("Server-Timing") is None


def test_a_failure_of_ours_leaves_the_answer_as_it_was(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = viewer(mill)
    monkeypatch.setattr("flask_knitperf.instrumentation.wsgi.server_timing", lambda _: 1 / 0)
    answer = mill.get("/plan/yarn", HTTP_COOKIE=cookie)
    assert (answer.code, answer.body, answer.header("Server-Timing")) == (200, b"yarn", None)
    assert mill.session.recorder.failures["Server-Timing"] == 1


def test_names_cannot_break_out_of_the_header(mill: Any, time: Any) -> None:
    with mill.app.test_request_context("/"):
        pass
    span = type(
        "Span", (), {
            "owner": mill.session.recorder, "began": time.ns - 5_000_000, "cpu_began": None,
            "thread": 0, "settle": lambda _: None,
            "parts": {f'section:a"b\r\nX: y\\ – {n}': [2, n, 0] for n in range(20)},
        },
    )()  # fmt: skip
    told = server_timing(span)
    assert told.startswith('total;dur=5.00, p0;desc="section:a?b??X: y? ? 19, 2 times";dur=0.00, ')
    assert told.count("desc") == 15 and "\n" not in told
