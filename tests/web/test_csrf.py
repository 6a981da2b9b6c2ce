"""Commands and the CSRF token that a browser must send with them."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request

from flask_knitperf.web.guard import Guard

from .clients import BEARER, TOKEN, admitted_form, cookies_of, csrf_of, first_page, form, session_of


def admitted(make_app: Callable[..., Any]) -> Any:
    """Return an application that admits everybody, with one request."""
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: True)
    mill.get("/")
    return mill


@pytest.mark.parametrize(
    "fields", [{}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "ü"}, {"token": TOKEN}]
)
def test_a_command_needs_the_csrf_token(
    make_app: Callable[..., Any], fields: dict[str, str]
) -> None:
    mill = admitted(make_app)
    response = mill.send("POST", "/perf/command/clear", **form(**fields))
    assert (response.code, mill.row("index")["count"]) == (403, 1)


@pytest.mark.parametrize("fields", [{}, {"csrf": ""}])
@pytest.mark.parametrize("path", ["/perf/command/clear", "/perf/sign-out"])
def test_a_client_without_a_token_changes_nothing(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], path: str
) -> None:
    monkeypatch.setattr(Guard, "_is_light", lambda *_: True)  # such as polls, which have no form
    mill = admitted(make_app)
    response = mill.send("POST", path, **form(**fields))
    assert (response.code, mill.row("index")["count"]) == (403, 1)


def test_a_command_with_the_csrf_token_is_executed(make_app: Callable[..., Any]) -> None:
    mill = admitted(make_app)
    response = mill.send("POST", "/perf/command/clear", **admitted_form(mill))
    assert (response.code, mill.rows()) == (200, {})


@pytest.mark.parametrize(
    ("site", "code"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
)
def test_a_command_that_another_site_sends_is_refused(
    make_app: Callable[..., Any], site: str, code: int
) -> None:
    mill = admitted(make_app)
    fields = admitted_form(mill)
    assert mill.send("POST", "/perf/command/clear", HTTP_SEC_FETCH_SITE=site, **fields).code == code


def test_a_csrf_token_in_the_query_does_not_count(signed_in: tuple[Any, str]) -> None:
    mill, cookie = signed_in
    csrf = csrf_of(first_page(mill, cookie))
    response = mill.send("POST", f"/perf/command/clear?csrf={csrf}", HTTP_COOKIE=cookie)
    assert response.code == 403


def test_the_csrf_token_of_one_browser_that_is_admitted_is_invalid_in_another(
    make_app: Callable[..., Any],
) -> None:
    mill = admitted(make_app)
    one, two = admitted_form(mill), admitted_form(mill)
    for cookie in (two["HTTP_COOKIE"], None, "knitperf_form=1.x..y"):
        fields = {**one, "wsgi.input": BytesIO(one["wsgi.input"].getvalue()), "HTTP_COOKIE": cookie}
        assert mill.send("POST", "/perf/command/clear", **fields).code == 403


def test_a_browser_that_is_admitted_gets_one_token_for_all_its_forms(
    make_app: Callable[..., Any],
) -> None:
    mill = admitted(make_app)
    cookie, html = admitted_form(mill)["HTTP_COOKIE"], {"HTTP_ACCEPT": "text/html"}
    pages = [mill.get(p, HTTP_COOKIE=cookie, **html) for p in ("/perf/", "/perf/memory")]
    assert len({csrf_of(page.body) for page in pages}) == 1
    assert [page.header("Set-Cookie") for page in pages] == [None, None]


def test_the_cookie_of_a_form_opens_nothing_and_is_set_by_pages_only(
    make_app: Callable[..., Any], closed: Any
) -> None:
    mill = admitted(make_app)
    header = cookies_of(mill.get("/perf/", HTTP_ACCEPT="text/html"))["knitperf_form"]
    assert header.endswith("; HttpOnly; SameSite=Strict") and "Path" not in header
    assert mill.get("/perf/report").header("Set-Cookie") is None
    value = header.partition(";")[0].partition("=")[2]
    mill.app.config.clear()
    for name in ("knitperf", "knitperf_viewer"):
        assert closed.get("/perf/report", HTTP_COOKIE=f"{name}={value}").code == 404


def test_the_csrf_token_of_one_session_is_invalid_in_another(closed: Any) -> None:
    one, two = (
        session_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN))) for _ in range(2)
    )
    fields = form(csrf=csrf_of(first_page(closed, one)))
    assert closed.send("POST", "/perf/command/clear", HTTP_COOKIE=two, **fields).code == 403


def test_a_command_by_bearer_needs_no_csrf_token(closed: Any) -> None:
    assert closed.send("POST", "/perf/command/collect", **BEARER).code == 200


def test_a_command_from_a_page_leads_back_to_it(signed_in: tuple[Any, str]) -> None:
    mill, cookie = signed_in
    fields = form(csrf=csrf_of(first_page(mill, cookie)))
    headers = {"HTTP_COOKIE": cookie, "HTTP_ACCEPT": "text/html"}
    response = mill.send("POST", "/perf/command/collect", **headers, **fields)
    assert (response.code, response.header("Location")) == (303, "/perf/memory?done=collect")
    page = mill.get("/perf/memory", QUERY_STRING="done=collect", **headers)
    assert b"Each worker collects its garbage after its next response." in page.body
    page = mill.get("/perf/memory", QUERY_STRING="done=<b>nothing", **headers)
    assert b'role="status"' not in page.body and b"<b>nothing" not in page.body


def test_an_unknown_command_is_a_409_that_names_it(closed: Any) -> None:
    response = closed.send("POST", "/perf/command/explode", **BEARER)
    assert response.code == 409 and b"there is no command 'explode'" in response.body


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_command_is_sent_by_post_only(closed: Any, method: str) -> None:
    closed.get("/")
    assert closed.send(method, "/perf/command/clear", **BEARER).code == 405
    assert closed.row("index")["count"] == 1


@pytest.mark.parametrize(
    "path", ["/perf/", "/perf/report", "/perf/memory", "/perf/style.css", "/perf/sign-in?code=x",
             "/perf/sign-out", "/perf/command/clear", "/perf/command/collect"],
)  # fmt: skip
def test_a_get_changes_no_file_of_the_state(
    make_closed: Callable[..., Any], tmp_path: Path, path: str
) -> None:
    mill = make_closed(TESTING=False, KNITPERF_FOLD_INTERVAL_S=300)
    mill.get("/")
    mill.session.recorder._housekeeper.stop()
    before = {file: file.stat().st_size for file in (tmp_path / "state").rglob("*")}
    mill.get(path, **BEARER)
    assert {file: file.stat().st_size for file in (tmp_path / "state").rglob("*")} == before


class Protect:
    """A stand-in for Flask-WTF's CSRFProtect: refuses each POST without its own token."""

    def __init__(self, app: Flask) -> None:
        self.exempted: set[str] = set()
        app.extensions["csrf"] = self
        app.before_request(self.check)

    def exempt(self, blueprint: Any) -> None:
        self.exempted.add(blueprint.name)

    def check(self) -> tuple[str, int] | None:
        if request.method == "POST" and request.blueprint not in self.exempted:
            return "The CSRF token is missing.", 400
        return None


def test_an_applications_csrf_protection_that_comes_later_leaves_our_posts_alone(
    closed: Any,
) -> None:
    Protect(closed.app)
    assert closed.send("POST", "/perf/command/collect", **BEARER).code == 200


def test_an_applications_csrf_protection_still_protects_the_application(closed: Any) -> None:
    Protect(closed.app)
    closed.app.post("/order")(lambda: "ordered")
    assert closed.send("POST", "/order", **BEARER).code == 400
