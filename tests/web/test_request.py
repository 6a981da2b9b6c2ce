"""The page of one request, the lists that link to it, and the Server-Timing header."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.collectors.requests.server_timing import server_timing
from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

from .clients import BEARER, LOCAL, TOKEN, cookies_of, csrf_of, debug_code, first_page, form
from .reader import BROWSER, Page, page

HOT = StackFrame("mill/explode.py", 41, "explode", True)


@pytest.fixture
def mill(make_open: Callable[..., Any], time: Any) -> Any:
    """An application with one request of a view that has parts."""
    mill = make_open()
    mill.session.recorder.clock = time.clock()

    @mill.app.get("/plan/<kind>")
    def plan(kind: str) -> str:
        mill.session.recorder.span().ensure_notes().sampled = Sampled(
            {(HOT,): [300_000_000, 0, 6, 0]}
        )
        with mill.perf.section("read & check"):
            time.pass_(0.25)
            with mill.perf.section("join"):
                time.pass_(0.5)
        return kind

    mill.get("/plan/yarn")
    return mill


def only(mill: Any) -> str:
    """Return the address of the one request's page."""
    document = json.loads(mill.get("/perf/why?of=plan&window=run", **BEARER).body)
    return f"/perf/request?window=run&id={document['requests']['latest'][0]['id']}"


def words(shown: Page) -> str:
    """Return the text of a page's content."""
    return " ".join(shown.inside("main"))


def test_the_page_of_an_endpoint_lists_its_requests_with_a_link(mill: Any) -> None:
    shown = page(mill, "/perf/why?of=plan&window=run")
    text = words(shown)
    assert "Slowest (1)" in text and "Latest (1)" in text
    assert "750 ms slow 200 section:join, 500 ms – first of its worker, sampled" in text
    links = [a["href"] for a in shown.all("a") if "/perf/request" in (a.get("href") or "")]
    assert len(links) == 2 and mill.get(links[0], HTTP_ACCEPT=BROWSER, **BEARER).code == 200


def test_a_request_is_opened_up(mill: Any) -> None:
    text = words(page(mill, only(mill)))
    assert "Plan: 750 ms slow" in text and "GET /plan/<kind>" in text
    assert "CPU time 0 ms" in text and "Other waiting 750 ms" in text
    assert "section:read & check 0 ms 750 ms –" in text
    assert "› section:join 250 ms 500 ms –" in text
    assert "section:join 500 ms 67 % 1" in text
    assert "Stacks of this request" in text and "All requests of Plan" in text


def test_its_timeline_is_a_picture_without_script_or_style(mill: Any) -> None:
    shown = page(mill, only(mill))
    assert not shown.all("script") and not [r for r in shown.all("rect") if "style" in r]
    bars = [(r["x"], r["width"]) for r in shown.all("rect") if r.get("class") == "section"]
    assert bars == [("0.0", "1200.0"), ("400.0", "800.0")]
    assert "section:join: 500 ms, starting at 250 ms" in shown.inside("g", "title")


def test_programs_get_a_request_as_json(mill: Any) -> None:
    document = json.loads(mill.get(only(mill), **BEARER).body)
    assert document["schema"] == "flask-knitperf/request/1"
    assert (document["endpoint"], document["ms"], document["slow"], document["rule"]) == (
        "plan", 750, True, "/plan/<kind>"
    )  # fmt: skip


def test_a_request_that_is_not_kept_is_explained(mill: Any) -> None:
    response = mill.get("/perf/request?id=%3Cscript%3E", HTTP_ACCEPT=BROWSER, **BEARER)
    assert response.code == 409 and b"is not kept in this window" in response.body
    assert b"<script>" not in response.body


def test_without_kept_requests_the_page_names_the_setting(
    make_open: Callable[..., Any],
) -> None:
    mill = make_open(KNITPERF_REQUEST_DETAILS=False)
    mill.get("/")
    text = words(page(mill, "/perf/why?of=index&window=run"))
    assert "No requests kept in this window: KNITPERF_REQUEST_DETAILS is off." in text


# -- Server-Timing -----------------------------------------------------------------------------------


def viewer(mill: Any) -> str:
    """Return the cookie that a signed-in browser sends with every request to the application."""
    response = mill.send("POST", "/perf/sign-in", **form(token=TOKEN))
    header = cookies_of(response)["knitperf_viewer"]
    assert "; Path=/; " in header and "HttpOnly; SameSite=Strict" in header
    return header.partition(";")[0]


def test_a_signed_in_browser_sees_where_the_time_of_any_page_went(mill: Any) -> None:
    for _ in range(300):
        mill.get("/")  # on the fast path by now
    header = mill.get("/plan/yarn", HTTP_COOKIE=f"a=b; {viewer(mill)}").header("Server-Timing")
    assert header.startswith("total;dur=750.00, ")
    assert header.endswith(
        'p0;desc="section:join";dur=500.00, p1;desc="section:read & check";dur=250.00'
    )
    assert mill.get("/", HTTP_COOKIE=viewer(mill)).header("Server-Timing") == "total;dur=0.00"


@pytest.mark.parametrize("cookie", [
    None, "knitperf_viewer=1.x.y", "knitperf_viewer=", "knitperf_viewer", "x=knitperf_viewer",
])  # fmt: skip
def test_no_other_client_sees_the_timing(mill: Any, cookie: str | None) -> None:
    assert mill.get("/plan/yarn", HTTP_COOKIE=cookie).header("Server-Timing") is None


def test_a_session_is_not_a_viewer_and_a_viewer_opens_no_page(mill: Any) -> None:
    response = mill.send("POST", "/perf/sign-in", **form(token=TOKEN))
    session = cookies_of(response)["knitperf"].partition(";")[0].partition("=")[2]
    seen = viewer(mill).partition("=")[2]
    forged = f"knitperf_viewer={session}"
    assert mill.get("/plan/yarn", HTTP_COOKIE=forged).header("Server-Timing") is None
    assert mill.get("/perf/report", HTTP_COOKIE=f"knitperf={seen}").code == 404
    assert mill.get("/perf/report", HTTP_COOKIE=f"knitperf_viewer={seen}").code == 404


def test_a_viewer_of_another_token_sees_nothing(make_open: Callable[..., Any], mill: Any) -> None:
    other = make_open(name="other", KNITPERF_ACCESS_TOKEN="another-long-token!")
    response = other.send("POST", "/perf/sign-in", **form(token="another-long-token!"))
    cookie = cookies_of(response)["knitperf_viewer"].partition(";")[0]
    assert other.get("/", HTTP_COOKIE=cookie).header("Server-Timing") is not None
    assert mill.get("/", HTTP_COOKIE=cookie).header("Server-Timing") is None


def test_signing_out_deletes_the_viewer_cookie_too(mill: Any) -> None:
    response = mill.send("POST", "/perf/sign-in", **form(token=TOKEN))
    cookie = cookies_of(response)["knitperf"].partition(";")[0]
    shown = Page(mill.get("/perf/", HTTP_COOKIE=cookie, HTTP_ACCEPT=BROWSER).body.decode())
    csrf = next(field["value"] for field in shown.all("input") if field.get("name") == "csrf")
    gone = mill.send("POST", "/perf/sign-out", HTTP_COOKIE=cookie, **form(csrf=csrf))
    assert "knitperf_viewer=; Path=/; Max-Age=0" in cookies_of(gone)["knitperf_viewer"]


def test_every_response_to_a_browser_that_signed_in_has_its_timing_in_debug_mode_too(
    make_open: Callable[..., Any],
) -> None:
    mill = make_open(DEBUG=True, KNITPERF_ACCESS_TOKEN=None)
    code = debug_code(mill)
    cookies = cookies_of(mill.send("POST", "/perf/sign-in", **LOCAL, **form(token=code)))
    cookie = cookies["knitperf_viewer"].partition(";")[0]
    headers = [mill.get("/", HTTP_COOKIE=cookie).header("Server-Timing") for _ in range(300)]
    assert all(headers)
    assert mill.get("/", **LOCAL).header("Server-Timing") is None


def test_a_response_with_its_timing_is_not_cached_for_others(mill: Any) -> None:
    assert mill.get("/", HTTP_COOKIE=viewer(mill)).header("Vary") == "Cookie"
    assert mill.get("/").header("Vary") is None


def test_a_viewer_that_signed_out_sees_nothing(mill: Any) -> None:
    cookies = cookies_of(mill.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    both = "; ".join(cookie.partition(";")[0] for cookie in cookies.values())
    csrf = csrf_of(first_page(mill, both))
    mill.send("POST", "/perf/sign-out", HTTP_COOKIE=both, **form(csrf=csrf))
    assert mill.get("/", HTTP_COOKIE=both).header("Server-Timing") is None


def test_a_failure_of_ours_leaves_the_response_unchanged(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = viewer(mill)
    monkeypatch.setattr("flask_knitperf.instrumentation.wsgi.server_timing", lambda _: 1 / 0)
    response = mill.get("/plan/yarn", HTTP_COOKIE=cookie)
    assert (response.code, response.body, response.header("Server-Timing")) == (200, b"yarn", None)
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
    header = server_timing(span)
    assert header.startswith(
        'total;dur=5.00, p0;desc="section:a?b??X: y? ? 19, 2 times";dur=0.00, '
    )
    assert header.count("desc") == 15 and "\n" not in header
